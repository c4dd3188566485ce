/* SPDX-License-Identifier: MIT */
#pragma once

/* Runs of pools and of arenas: room for one object beyond a block. See run.c. */

#include "heap/shared/session.h"

/* Within a change: a run for an object of that size. HEAP_WANTS_ARENAS, -ENOMEM. */
int run_take(struct session *session, enum space_kind space, size_t size, uint32_t type, uint32_t state,
	uint64_t rights, uint64_t *ret);

/* Within a change: free it. */
int run_give(struct session *session, struct pool_entry *pool);

/* A free run of n_pools, owned by session from now on: its header is STATE_FREE. HEAP_WANTS_ARENAS. */
int run_own(struct session *session, uint32_t n_pools, uint32_t *ret);

/* The same of a run that is STATE_FREE: it goes back to its arena. One that is not free goes on without an owner. */
int run_disown(struct session *session, struct pool_entry *pool);

/* Within a change: keep a run of arenas that was granted for the session's next large object. */
void run_keep_granted(struct session *session, struct arena_entry *arena);

/* Within a change: a run of arenas that can go to the system, off its list; NULL: there is none. */
struct arena_entry *run_take_returnable(struct heap *heap);
