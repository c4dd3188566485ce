// SPDX-License-Identifier: MIT
/*
 * A session's own pools: collecting what others freed, and giving back what is free
 *
 * Blocks that others free (STATE_REMOTE_FREE) come back to the owner of their pool through the list remote_pools: a
 * pool is put on it under the lock by the first that frees a block after the last collection (count.c). They are
 * collected when a class has no free block left, when the daemon requests it (REQUEST_COLLECT), or by the daemon while
 * the session is idle (own_trim()). A list may have any number of pools, so a call collects from a few and requests the
 * rest for the next call. Only if there is no other memory it collects from all (own_collect_all()).
 *
 * One wholly free pool of each class stays with the session. Further ones go back to their arenas: SESSION_FREED_MAX in
 * one change, or with the next change of the session's own pools, or when the session is idle. A run of up to
 * SPARE_RUN_MAX pools stays when it becomes free, one of each length.
 *
 * The daemon trims a session while it keeps it out (critical_block()), and commits before it lets the session in again.
 * If the daemon dies, the next taker of the lock rolls its change back.
 */

#include "heap/object/own_trim.h"
#include "heap/change/lock.h"
#include "heap/memory/memory.h"
#include "heap/memory/rebuild.h"
#include "heap/memory/run.h"
#include "heap/shared/critical.h"

#include <errno.h>
#include <stdlib.h>

#define POOLS_COLLECTED 8U    /* pools that one change collects from */
#define TRIM_POOLS_MAX  32U   /* pools that one change gives back */
#define POOLS_EXAMINED  1024U /* pools that one change examines */

/* The class of a pool of blocks that this session owns; CLASS_NONE: it is none, or NULL. */
static uint32_t own_class(const struct pool_entry *pool, uint32_t owner1)
{
	uint32_t identity = pool ? read_once(pool->identity) : 0, size_class = identity >> 8 & 0xff;

	return size_class < N_CLASSES && identity == pool_identity(POOL_BLOCKS, size_class, owner1) ? size_class
												    : CLASS_NONE;
}

/*
 * Within a change: the pools that became free, and still are, go back, unless one is the only pool with room of its
 * class.
 */
static int give_freed(struct session *session)
{
	struct heap *heap = session->heap;
	uint32_t n = session->n_freed;
	int r = 0;

	session->n_freed = 0;
	for (uint32_t i = 0; i < n && !r; i++) {
		struct pool_entry *pool = pool_at(heap, session->freed[i]);
		uint32_t size_class = own_class(pool, session->owner1);

		if (size_class == CLASS_NONE || read_once(pool->n_used) || !read_once(pool->links.both))
			continue;
		pool_unlink_used(heap, true, &session->entry->usedpools1[size_class], pool);
		r = pool_disown(session, pool);
	}
	return r;
}

/* A pool has become free, and is not the only one with room of its class. If it cannot go back, it stays. */
void own_note_freed(struct session *session, const struct pool_entry *pool)
{
	session->freed[session->n_freed++] = pool_index(session->heap, pool);
	if (session->n_freed < SESSION_FREED_MAX)
		return;
	if (change_begin(session) < 0)
		session->n_freed = 0;
	else
		(void)change_end(session, give_freed(session));
}

/* How many pools the next change of this call may collect from. */
static uint32_t collecting_share(struct session *session)
{
	return session->n_collections++ < OWN_COLLECTIONS_MAX ? POOLS_COLLECTED : 0;
}

/* Collect the remotely freed blocks of n_max pools at most. */
static int collect(struct session *session, uint32_t n_max)
{
	struct heap *heap = session->heap;
	struct session_entry *entry = session->entry;
	int r = 0;

	for (uint32_t n = 0; n < n_max && !r; n++) {
		uint32_t first1 = read_once(entry->remote_pools1);
		struct pool_entry *pool = first1 ? pool_at(heap, first1 - 1) : NULL;
		uint32_t size_class = own_class(pool, session->owner1), *used1;
		bool was_full, is_free;

		if (size_class == CLASS_NONE)
			return first1 ? -EUCLEAN : 0;
		used1 = &entry->usedpools1[size_class];
		was_full = !pool_has_room(pool);
		is_free = pool_collect(heap, pool);
		if (read_once(entry->remote_pools1) == first1)
			return -EUCLEAN; /* it is still the first: its links are damaged */
		if (was_full)
			pool_link_used(heap, true, used1, pool);
		if (!is_free || !read_once(pool->links.both))
			continue;
		pool_unlink_used(heap, true, used1, pool);
		r = pool_disown(session, pool);
	}
	return r;
}

static int refill_run(struct session *session, uint32_t n_pools)
{
	uint32_t *spare1 = &session->entry->spare_runs1[n_pools - 1];
	uint32_t index;
	int r;

	if (read_once(*spare1))
		return 0;
	r = run_own(session, n_pools, &index);
	if (!r)
		heap_set(session->heap, spare1, index + 1);
	return r;
}

static int refill_blocks(struct session *session, uint32_t size_class)
{
	int r;

	r = collect(session, collecting_share(session));
	if (!r)
		r = give_freed(session);
	if (r < 0)
		return r;
	change_commit(
		session->heap); /* a pool that was given back must not be taken again in the change that gave it back */
	return read_once(session->entry->usedpools1[size_class]) ? 0 : pool_own(session, size_class);
}

/* relaxed: others free blocks at any time; what is missed now is collected later */
static bool has_remote(const struct session *session)
{
	return __atomic_load_n(&session->entry->remote_pools1, __ATOMIC_RELAXED);
}

/* One change: serve the session's requests, and collect from n_max pools at most. */
static int serve(struct session *session, uint32_t n_max)
{
	struct heap *heap = session->heap;
	int r;

	r = change_begin(session);
	if (r < 0)
		return r;
	/* relaxed: nothing else is read because of it */
	if (__atomic_load_n(&session->control->ended, __ATOMIC_RELAXED))
		return change_end(session, -EPIPE);
	/* relaxed: set with the lock held */
	if (__atomic_load_n(&session->entry->requests, __ATOMIC_RELAXED) & REQUEST_REBUILD)
		r = rebuild_own(session);
	if (r < 0)
		return change_end(session, r);
	change_commit(heap); /* before the requests are cleared */
	critical_requests_served(session);
	r = collect(session, n_max);
	if (!r)
		r = give_freed(session);
	if (!r && has_remote(session))
		critical_request(heap, session->index, REQUEST_COLLECT); /* the rest goes in further changes */
	return change_end(session, r);
}

int own_serve_share(struct session *session)
{
	return serve(session, collecting_share(session));
}

int session_serve_requests(struct session *session)
{
	return serve(session, POOLS_COLLECTED);
}

int own_collect_all(struct session *session)
{
	int r, n = 0;

	for (; has_remote(session); n = 1) {
		r = session_serve_requests(session);
		if (r < 0)
			return r;
	}
	return n;
}

int own_refill(struct session *session, size_t size, size_t alignment)
{
	uint64_t n_pools = 0;
	uint32_t size_class = memory_class(session->heap, SPACE_OBJECTS, size, alignment, &n_pools);
	int r;

	if (size_class == CLASS_NONE && (n_pools > SPARE_RUN_MAX || n_pools >= session->heap->pools_per_arena))
		return OWN_NOT;
	for (;;) {
		r = change_begin(session);
		if (r < 0)
			return r;
		r = size_class == CLASS_NONE ? refill_run(session, (uint32_t)n_pools)
					     : refill_blocks(session, size_class);
		r = change_end(session, r);
		/* Collecting comes before memory that the daemon would have to map, and may not have. */
		if (r != HEAP_WANTS_ARENAS || session->n_collections >= OWN_COLLECTIONS_MAX || !has_remote(session))
			return r;
		r = serve(session, collecting_share(session));
		if (r < 0)
			return r;
	}
}

/* The daemon */

/*
 * Collect from remote_pools, and give back the pools that are wholly free then. How many pools were handled, n_max at
 * most. A pool that keeps blocks counts for several, since collecting it fills more of the log.
 */
static int trim_remote(struct session *daemon, uint32_t index, uint32_t n_max)
{
	struct heap *heap = daemon->heap;
	struct session_entry *entry = &heap->sessions[index];
	uint32_t n = 0, first1;
	int r;

	while ((first1 = read_once(entry->remote_pools1)) != 0 && n < n_max) {
		struct pool_entry *pool = pool_at(heap, first1 - 1);
		uint32_t size_class = own_class(pool, index + 1), *used1;
		bool was_full;

		if (size_class == CLASS_NONE)
			return -EUCLEAN;
		used1 = &entry->usedpools1[size_class];
		was_full = !pool_has_room(pool);
		pool_clear_notified(pool);
		if (read_once(pool->n_used) != pool_count_remote(heap, pool)) {
			pool_collect(heap, pool);
			if (read_once(entry->remote_pools1) == first1)
				return -EUCLEAN; /* as in collect() */
			if (was_full)
				pool_link_used(heap, true, used1, pool);
			n += TRIM_POOLS_MAX / POOLS_COLLECTED;
			continue;
		}
		if (!was_full)
			pool_unlink_used(heap, true, used1, pool);
		heap_set(heap, &pool->size_class, CLASS_NONE); /* its headers are no free list */
		heap_set(heap, &pool->n_used, 0);
		r = pool_disown(daemon, pool);
		if (r < 0)
			return r;
		n++;
	}
	return (int)(n < n_max ? n : n_max);
}

/*
 * A wholly free pool is rare among many pools with room, so one change examines POOLS_EXAMINED of them and the next
 * goes on from there. Meanwhile the list has changed in front of that pool only: pools that were collected go to the
 * front, and are not wholly free. If the session was active, or the pool has gone, the search begins anew. (A pool that
 * is still the session's and has room is on the list of its class.)
 */
static void find_trim_cursor(struct heap *heap, uint32_t index, struct trimming *at)
{
	const struct pool_entry *pool = at->pool1 ? pool_at(heap, at->pool1 - 1) : NULL;

	if (!critical_poll_idle(&heap->sessions[index]))
		*at = (struct trimming){0};
	else if (at->pool1 && (own_class(pool, index + 1) != at->size_class || !pool_has_room(pool)))
		*at = (struct trimming){.size_class = at->size_class};
}

/* Give back the free pools of one class, *n_max at most, examining *n_examine. 1: there are more to examine. */
static int trim_class(struct session *daemon, uint32_t index, struct trimming *at, uint32_t *n_max, uint32_t *n_examine)
{
	struct heap *heap = daemon->heap;
	uint32_t *used1 = &heap->sessions[index].usedpools1[at->size_class];
	int r;

	for (at->pool1 = at->pool1 ? at->pool1 : read_once(*used1); at->pool1 && *n_examine && *n_max; --*n_examine) {
		struct pool_entry *pool = pool_at(heap, at->pool1 - 1);

		if (own_class(pool, index + 1) != at->size_class ||
			at->n_examined++ >= heap->n_arenas * heap->pools_per_arena) /* the list is a circle */
			return -EUCLEAN;
		at->pool1 = read_once(pool->next1);
		if (read_once(pool->n_used))
			continue;
		pool_unlink_used(heap, true, used1, pool);
		r = pool_disown(daemon, pool);
		if (r < 0)
			return r;
		--*n_max;
	}
	return at->pool1 != 0;
}

/* Give back free pools, class by class, n_max at most. 1: there are more to examine. */
static int trim_pools(struct session *daemon, uint32_t index, struct trimming *at, uint32_t n_max)
{
	uint32_t n_examine = POOLS_EXAMINED;
	int r = 0;

	find_trim_cursor(daemon->heap, index, at);
	while (!r && at->size_class < N_CLASSES) {
		r = trim_class(daemon, index, at, &n_max, &n_examine);
		at->size_class += !r;
	}
	return r;
}

static int trim_runs(struct session *daemon, uint32_t index)
{
	struct heap *heap = daemon->heap;
	struct session_entry *entry = &heap->sessions[index];

	for (uint32_t i = 0; i < SPARE_RUN_MAX; i++) {
		uint32_t run1 = read_once(entry->spare_runs1[i]);
		struct pool_entry *pool = run1 ? pool_at(heap, run1 - 1) : NULL;
		int r;

		if (!pool || read_once(pool->identity) != pool_identity(POOL_RUN, CLASS_NONE, index + 1) ||
			header_state(header_word(&pool->header)) != STATE_FREE)
			continue;
		heap_set(heap, &entry->spare_runs1[i], 0);
		r = run_disown(daemon, pool);
		if (r < 0)
			return r;
	}
	return 0;
}

static int trim_in_change(struct session *daemon, uint32_t index, struct trimming *at)
{
	int r, n;

	r = trim_runs(daemon, index);
	if (r < 0)
		return r;
	n = trim_remote(daemon, index, TRIM_POOLS_MAX);
	if (n < 0 || n == (int)TRIM_POOLS_MAX)
		return n < 0 ? n : 1;
	return trim_pools(daemon, index, at, TRIM_POOLS_MAX - (uint32_t)n);
}

/* While the session is kept out. Returns as own_trim(). */
static int trim_blocked(struct session *daemon, uint32_t index)
{
	struct heap *heap = daemon->heap;
	struct trimming at = heap->trimming[index];
	int more = trim_in_change(daemon, index, &at);

	/* after an error, and after the last pool, the next round begins at the front */
	heap->trimming[index] = more > 0 ? at : (struct trimming){0};
	if (more >= 0)
		change_commit(heap); /* before the session is let in again */
	else
		log_roll_back(heap);
	return more;
}

void own_trim_restart(struct heap *heap, uint32_t index)
{
	if (heap->trimming)
		heap->trimming[index] = (struct trimming){0};
}

int own_trim(struct session *daemon, uint32_t index)
{
	struct heap *heap = daemon->heap;
	int r, more;

	if (!heap->trimming)
		heap->trimming = calloc(heap->n_sessions, sizeof(*heap->trimming));
	if (!heap->trimming)
		return -ENOMEM;
	r = change_try_begin(daemon);
	if (r < 0)
		return r;
	if (!critical_block(heap, index))
		return change_end(daemon, 0);
	more = trim_blocked(daemon, index);
	critical_unblock(heap, index);
	r = change_end(daemon, more < 0 ? more : 0);
	return r < 0 ? r : more;
}
