/* SPDX-License-Identifier: MIT */
#pragma once

/* Runs of pools and of arenas: room for one object larger than a block. Within a change. See run.c. */

#include "heap/shared/session.h"

/* Take a run for an object of that size. Arguments and errors as of memory_take(). */
int run_take(struct session *session, enum space_kind space, size_t size, uint32_t type, uint32_t state,
	uint64_t rights, uint64_t *ret);

/* Free the run that begins with this pool. */
int run_give(struct session *session, struct pool_entry *pool);

/* Make a run of n_pools the session's own, with a header of STATE_FREE. *ret is its first pool. HEAP_WANTS_ARENAS. */
int run_own(struct session *session, uint32_t n_pools, uint32_t *ret);

/* Take a run from its owner. If it is STATE_FREE it goes back to its arena, else nobody owns it. */
int run_disown(struct session *session, struct pool_entry *pool);

/* Keep a run of arenas that was granted to the session for its next large object. */
void run_keep_granted(struct session *session, struct arena_entry *arena);
