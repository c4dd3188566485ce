/* SPDX-License-Identifier: MIT */
#pragma once

/* A session as its own process has it: on whose behalf the functions of heap/ work. See session.c. */

#include "heap/shared/cache.h"
#include "heap/shared/heap.h"

#define SESSION_FREED_MAX 16U

/* Process-local: how far the other side of a queue had come when it was last read. */
struct other_side {
	const struct queue *queue;
	uint64_t position;
	uint32_t n_in_a_row; /* attempts that succeeded since one was in vain */
};

/*
 * Process-local. Used by one thread at a time. Programs read the first two members, and the first of struct cache: see
 * the inline calls of pyheap.h.
 */
struct session {
	struct cache *cache;   /* of recently used objects; never NULL: see cache.h */
	const uint64_t *ended; /* control's */
	struct heap *heap;
	struct session_entry *entry; /* NULL: the daemon's own view */
	struct control *control;     /* as the next three, a copy of heap's, for the most frequent calls */
	struct pool_entry *pools;
	uint8_t *base;
	const uint8_t *class_hints;
	uint32_t index;
	uint32_t n_wanted_arenas; /* set with HEAP_WANTS_ARENAS */
	bool wants_run;           /* with it: one run for a large object, not an arena of pools */
	uint32_t wants_space;     /* with it: enum space_kind of the pools or the object */
	uint32_t granted_run1;    /* head, plus one, of a granted run that is kept for the next large object */
	uint32_t n_collections;   /* changes of the present call that have collected remote frees: see own_trim.c */
	uint32_t drop_cursor;     /* session_drop_step(): entries of the hold table before it are done */
	bool is_home;             /* this process is of the heap's home namespace: see foreign_lock.c */
	bool has_lock;            /* between session_lock() and session_unlock() */
	uint32_t lock_tid;        /* with it: the owner that the word names: thread or session, see lock.c */
	uint64_t lock_number;     /* with it: n_acquisitions when the lock was taken */
	bool is_fenced;           /* a copy of heap's */
	uint64_t lock_taken_ns;   /* when it took the lock, if that is being timed; else 0 */
	uint32_t owner1;          /* index + 1: owner1 of its own pools */
	uint32_t blocks_identity; /* identity of its own pools of blocks, but for the class */
	uint32_t hinted_identity; /* plus a class hint (the class plus one), shifted: that pool's identity */
	uint64_t process; /* not 0: a number of no other process: then what is known of a thread is kept; see lock.c */
	bool is_pending;  /* it has the lock, which its thread has in list_op_pending: see lock.c */
	bool is_listed;   /* with has_lock: the thread of lock_tid has it in its list: see thread_list.c */
	uint32_t list_number;               /* with it: thread_list_number() */
	struct other_side popping, pushing; /* of the queues that it last popped from and pushed to; hints */
	uint32_t n_freed;                   /* own pools that have become free and are not given back yet: see own.c */
	uint32_t freed[SESSION_FREED_MAX];  /* their indices; a pool may be in use again by now, or gone */
};

/* Make a view of session `index`: below heap->n_sessions, or SESSION_DAEMON, which has no entry. */
void session_init(struct session *session, struct heap *heap, uint32_t index);

/* From now on the session's cache is `memory`, which is zeroed and outlives the session. */
static inline void session_begin_cache(struct session *session, struct cache *memory)
{
	memory->is_mine = 1;
	memory->n_pools = session->is_fenced ? 0 : session->heap->heap_size >> POOL_SHIFT;
	session->cache = memory;
}

/* Cache an object that the session's hold table holds now. has_data: its data may be handed out. */
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

/* Note that the call needs a run of n arenas, which only the daemon can map, and answer so. */
static inline int session_wants(struct session *session, uint32_t n, bool as_run, enum space_kind space)
{
	session->n_wanted_arenas = n;
	session->wants_run = as_run;
	session->wants_space = space;
	return HEAP_WANTS_ARENAS;
}
