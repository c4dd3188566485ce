/* SPDX-License-Identifier: MIT */
#pragma once

/* The instructions of a call, one after the other, and how to get to the k-th: see trace.c. */

#include "tracee.h"

struct trace {
	uint64_t *ips;         /* [k]: what comes after k instructions */
	uint32_t *landmarks;   /* [k]: the i <= k to run to, */
	uint32_t *occurrences; /* [i]: which is reached when its address is come to for the so-manieth time */
	size_t n, n_allocated;
};

int trace_add(struct trace *trace, uint64_t ip);

/* After the last trace_add(). */
int trace_finish(struct trace *trace);

void trace_free(struct trace *trace);

/*
 * Bring a tracee that stands where the trace begins to its k-th instruction. `wait` is called where it blocks, to let
 * it go on; where that gives false, so does this, with TRACEE_BLOCKED.
 */
enum tracee_event trace_go_to(
	const struct trace *trace, struct tracee *tracee, size_t k, bool (*wait)(void *userdata), void *userdata);
