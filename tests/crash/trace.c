// SPDX-License-Identifier: MIT
/*
 * The instructions that a call executes, in order, and the way to the k-th of them
 *
 * Stepping to the k-th of n instructions, for every k, would take n * n / 2 steps. A breakpoint stops the tracee each
 * time that it comes to an address, so the i-th instruction takes as many stops as its address occurs in the trace up
 * to i. From there k - i steps remain. One pass finds for each k the cheapest i, its landmark. In straight code a
 * landmark takes one stop, in a loop one per round.
 *
 * A call does not always take the way that was traced: a bucket has one more entry, or somebody has the lock for a
 * moment. Then the tracee stops at another instruction, or reaches its end. The caller compares and decides.
 */
#include "trace.h"

#include <errno.h>
#include <sys/mman.h>

#define N_FIRST 4096U

/*
 * Not malloc(): tracees are forked from this process and would inherit its freed blocks, which malloc() there handles
 * by other instructions than fresh memory.
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

/* Counts an address and answers how often it has occurred. The table uses linear probing. */
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
	uint32_t n_left = trace->occurrences[i] - (trace->ips[i] == tracee_ip(tracee)); /* the first stop is here */
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

bool trace_is_at(const struct trace *trace, const struct tracee *tracee, size_t k)
{
	return k < trace->n && tracee_ip(tracee) == trace->ips[k];
}
