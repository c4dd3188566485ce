/* SPDX-License-Identifier: MIT */
#pragma once

/* Arenas that a session was granted in advance: see advance.c. */

#include "daemon/user.h"
#include "heap/shared/heap.h"

struct advance_run {
	uint32_t head;
	uint32_t n_arenas;
};

/* Of one session. */
struct advance {
	struct user *user; /* in whose account they are; NULL: nothing is counted */
	uint32_t index;    /* of the session */
	struct advance_run *runs;
	uint32_t n_runs;
	uint32_t n_allocated;
	uint32_t next;       /* the run that is examined next */
	uint64_t n_promised; /* arenas that are being granted; they count already */
};

void advance_init(struct advance *advance, struct user *user, uint32_t index);

/*
 * So many arenas are being granted, in so many runs; both 0: none any more. What was promised before and not granted
 * does not count any more. -ENOMEM.
 */
int advance_promise(struct advance *advance, uint32_t n_runs, uint64_t n_arenas);

/* A run was granted, which was promised. */
void advance_add(struct advance *advance, const struct heap *heap, uint32_t head);

/* Forget up to n_runs of those that the session has taken into use. */
void advance_look(struct advance *advance, const struct heap *heap, uint32_t n_runs);

/* Forget them all: they were taken back, or nobody asks any more. */
void advance_clear(struct advance *advance);
