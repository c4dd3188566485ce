/* SPDX-License-Identifier: MIT */
#pragma once

/* The view on whose behalf functions run. */

#include "heap/shared/cache.h"
#include "heap/shared/heap.h"

#define SESSION_FREED_MAX 16U

/* Process-local: how far the other side of a queue had come when it was last looked at. */
struct other_side {
	const struct queue *queue;
	uint64_t position;
	uint32_t n_in_a_row; /* attempts that succeeded since one was in vain */
};

/*
 * Process-local view of a session: on whose behalf the functions of this folder work. One thread at a time. The first
 * two members, and the first of struct cache, are read by programs: see the inline calls in pyheap.h.
 */
struct session {
	struct cache *cache;   /* what it used lately; never NULL: see cached.h */
	const uint64_t *ended; /* control's */
	struct heap *heap;
	struct session_entry *entry;
	struct control *control; /* as the three below: heap's, at hand for the most frequent calls */
	struct pool_entry *pools;
	uint8_t *base;
	const uint8_t *class_hints;
	uint32_t index;
	uint32_t n_wanted_arenas; /* set with HEAP_WANTS_ARENAS */
	bool wants_run;           /* set with it: as one run for a large object, not as an arena of pools */
	uint32_t wants_space;     /* set with it: enum space_kind that the pools are for */
	uint32_t granted_run1;    /* a run that arena_accept() noted, for the next large object */
	uint32_t n_collections;   /* changes of the call under way that gathered what was returned: see own.c */
	uint32_t drop_cursor;     /* session_drop_step(): hold table entries before it are done */
	bool is_home;             /* this process is of the heap's pid namespace: see lock.c */
	bool has_lock;            /* between session_lock() and session_unlock() */
	uint32_t lock_tid;        /* with it: what the mutex says: the thread that took it, or the session: lock.c */
	uint64_t lock_number;     /* with it: n_acquisitions since then */
	bool is_fenced;           /* heap's */
	uint64_t lock_taken_ns;   /* since when it has the lock, where that is timed; else 0 */
	uint32_t owner1;          /* index + 1: what its own pools have as owner1 */
	uint32_t blocks_identity; /* identity of its own pools of blocks, but for their class */
	uint32_t hinted_identity; /* the same, for their class plus one, which is what a hint says, to be added */
	uint64_t process; /* not 0: its calls take the lock quickly; no other process's is the same: see lock.c */
	bool is_fast;     /* it has the lock, and took it quickly */
	struct other_side popping, pushing; /* of the queues that it last popped from and pushed to; hints */
	uint32_t n_freed; /* pools of its own that became free and were not given back yet: see own.c */
	uint32_t freed[SESSION_FREED_MAX]; /* which: they may be in use again, or gone */
};

/* Make a view of session `index`: below heap->n_sessions, or SESSION_DAEMON, which has no entry. */
void session_init(struct session *session, struct heap *heap, uint32_t index);

/* From now on the session keeps it in `memory`, which is zeroed, and outlives it. */
static inline void session_begin_cache(struct session *session, struct cache *memory)
{
	memory->is_mine = 1;
	memory->n_pools = session->is_fenced ? 0 : session->heap->heap_size >> POOL_SHIFT;
	session->cache = memory;
}

/* It holds that now, by its hold table; has_data: and it may look at it. */
static inline void session_cache_held(
	const struct session *session, uint64_t ref, bool has_data, struct object_header *header)
{
	struct cached_object *object = cache_object(session->cache, ref);

	if (session->cache->is_mine && object->ref != ref)
		*object = (struct cached_object){
			.ref = ref,
			.data = has_data ? session->base + (ref_position(ref) << 3) : NULL,
			.held_header = header,
		};
}

/* What a function returns that needs memory which only the daemon can map: n adjacent arenas. */
static inline int session_wants(struct session *session, uint32_t n, bool as_run, enum space_kind space)
{
	session->n_wanted_arenas = n;
	session->wants_run = as_run;
	session->wants_space = space;
	return HEAP_WANTS_ARENAS;
}
