// SPDX-License-Identifier: MIT
/*
 * The instructions of a call, one after the other, and how to get to the k-th
 *
 * Stepping to the k-th of n instructions, for every k, would be n * n / 2 steps. A breakpoint on an address stops
 * each time that it is come to, so the i-th instruction is reached in as many stops as its address occurs up to
 * there; from it, k - i steps remain. Which i <= k is the cheapest is found in one pass. In straight code that is one
 * stop, in a loop one for each round.
 *
 * A call need not take the same way each time (a bucket has one more entry, a lock is taken for a moment). Then the
 * tracee ends up some instructions off. That is a place to be killed at like any other; whoever wants to know compares
 * the address with the trace's.
 */
#include "trace.h"

#include <errno.h>
#include <sys/mman.h>

#define N_FIRST 4096U

/*
 * Memory beside malloc's: the tracees are forked from this process, and what it had freed there would be in their way,
 * to be cleared by each of them, instruction by instruction.
 */
static void *memory_new(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void memory_free(void *p, size_t size)
{
	if (p)
		munmap(p, size);
}

int trace_add(struct trace *trace, uint64_t ip)
{
	size_t n = trace->n_allocated;
	void *ips;

	if (trace->n == n) {
		if (n == 0)
			ips = memory_new(N_FIRST * sizeof(*trace->ips));
		else
			ips = mremap(trace->ips, n * sizeof(*trace->ips), 2 * n * sizeof(*trace->ips), MREMAP_MAYMOVE);
		if (!ips || ips == MAP_FAILED)
			return -ENOMEM;
		trace->ips = ips;
		trace->n_allocated = n ? 2 * n : N_FIRST;
	}
	trace->ips[trace->n++] = ip;
	return 0;
}

struct counted {
	uint64_t ip; /* 0: free */
	uint32_t n;
};

/* How often an address has been come to, this time included. Linear probing. */
static uint32_t count(struct counted *table, size_t n, uint64_t ip)
{
	size_t i = (size_t)(ip * UINT64_C(0x9e3779b97f4a7c15) >> 20) % n;

	while (table[i].ip && table[i].ip != ip)
		i = (i + 1) % n;
	table[i].ip = ip;
	return ++table[i].n;
}

int trace_finish(struct trace *trace)
{
	size_t n_table = 2 * trace->n + 1;
	struct counted *table = memory_new(n_table * sizeof(*table));
	uint32_t cost = 0;

	trace->landmarks = memory_new(trace->n * sizeof(*trace->landmarks));
	trace->occurrences = memory_new(trace->n * sizeof(*trace->occurrences));
	if (!table || !trace->landmarks || !trace->occurrences) {
		memory_free(table, n_table * sizeof(*table));
		return -ENOMEM;
	}
	for (size_t k = 0; k < trace->n; k++) {
		trace->occurrences[k] = count(table, n_table, trace->ips[k]);
		if (k == 0 || trace->occurrences[k] <= cost + 1) {
			trace->landmarks[k] = (uint32_t)k;
			cost = trace->occurrences[k];
		} else {
			trace->landmarks[k] = trace->landmarks[k - 1];
			cost++;
		}
	}
	memory_free(table, n_table * sizeof(*table));
	return 0;
}

void trace_free(struct trace *trace)
{
	memory_free(trace->ips, trace->n_allocated * sizeof(*trace->ips));
	memory_free(trace->landmarks, trace->n * sizeof(*trace->landmarks));
	memory_free(trace->occurrences, trace->n * sizeof(*trace->occurrences));
	*trace = (struct trace){0};
}

enum tracee_event trace_go_to(
	const struct trace *trace, struct tracee *tracee, size_t k, bool (*wait)(void *userdata), void *userdata)
{
	size_t i = k < trace->n ? trace->landmarks[k] : 0;
	uint32_t n_left = trace->occurrences[i] - (trace->ips[i] == tracee_ip(tracee)); /* it stands at one already */
	enum tracee_event event = TRACEE_STOPPED;

	while (n_left > 0 || i < k) {
		if (n_left > 0) {
			event = tracee_run_to(tracee, trace->ips[i]);
			n_left--;
		} else {
			event = tracee_step(tracee);
			i++;
		}
		while (event == TRACEE_BLOCKED) {
			if (!wait(userdata))
				return event;
			event = tracee_wait(tracee);
		}
		if (event != TRACEE_STOPPED)
			break;
	}
	return event;
}
