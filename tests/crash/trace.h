/* SPDX-License-Identifier: MIT */
#pragma once

/* The instructions that a call executes, in order, and the way to the k-th of them: see trace.c. */

#include "tracee.h"

struct trace {
	uint64_t *ips;         /* [k]: address of the instruction that is executed after k others */
	uint32_t *landmarks;   /* [k]: the i <= k to which a breakpoint leads */
	uint32_t *occurrences; /* [i]: how many of ips[0..i] are ips[i] */
	size_t n, n_allocated;
};

int trace_add(struct trace *trace, uint64_t ip);

/* After the last trace_add(). */
int trace_finish(struct trace *trace);

void trace_free(struct trace *trace);

/*
 * Bring a tracee from where the trace begins to its k-th instruction. Where the tracee blocks, `wait` is called and the
 * tracee waited for once more; where `wait` answers false, the result is TRACEE_BLOCKED. A call that takes another way
 * than the traced one ends at another instruction: trace_is_at() tells.
 */
enum tracee_event trace_go_to(
	const struct trace *trace, struct tracee *tracee, size_t k, bool (*wait)(void *userdata), void *userdata);

/* Is the tracee about to execute the k-th instruction of the trace? */
bool trace_is_at(const struct trace *trace, const struct tracee *tracee, size_t k);
