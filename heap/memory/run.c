// SPDX-License-Identifier: MIT
/*
 * Runs of pools and of arenas
 *
 * An object larger than a block takes a run: whole pools of one arena or, from an arena on, whole arenas. The entry of
 * its first pool has header and size, so that the payload starts on a page. Runs of objects are owned by the session
 * that made them, and are on its owned_pools.
 *
 * A run of arenas is made for one object alone: of a run that the daemon granted, or of free ones that earlier objects
 * have left (returnable.c). A run that was granted, but whose object was not made in the end, is kept in
 * session->granted_run1; if another run is granted before it is used, it becomes RETURNABLE.
 */

#include "heap/memory/run.h"
#include "heap/memory/arena.h"
#include "heap/memory/pool.h"
#include "heap/memory/returnable.h"

#include <errno.h>

/* The run that was granted to this session and is not used yet, or NULL. */
static struct arena_entry *granted_run(struct session *session)
{
	struct arena_entry *arena = arena_at1(session->heap, session->granted_run1);

	return arena && arena_state(arena) == ARENA_GRANTED && read_once(arena->session1) == session->index + 1 ? arena
														: NULL;
}

/* The run was granted for an object that was not made: it becomes RETURNABLE. */
static void release_granted_run(struct session *session)
{
	struct arena_entry *arena = granted_run(session);
	uint32_t n;

	if (!arena)
		return;
	n = heap_run_length(session->heap, arena_index(session->heap, arena));
	arena_count(session->heap, n);
	returnable_add(session->heap, arena, n);
}

void run_keep_granted(struct session *session, struct arena_entry *arena)
{
	release_granted_run(session);
	session->granted_run1 = arena_index(session->heap, arena) + 1;
}

static struct arena_entry *take_granted_run(struct session *session, uint32_t n)
{
	struct arena_entry *arena = granted_run(session);

	if (!arena || heap_run_length(session->heap, arena_index(session->heap, arena)) != n)
		return NULL;
	arena_count(session->heap, n);
	return arena;
}

static int take_arenas(struct session *session, uint32_t n, enum space_kind space, uint32_t *ret_head)
{
	struct heap *heap = session->heap;
	struct arena_entry *arena = take_granted_run(session, n);

	if (!arena)
		arena = returnable_take(heap, n);
	if (!arena)
		return session_wants(session, n, true, space);
	heap_set(heap, &arena->state, ARENA_RUN);
	heap_set(heap, &arena->space, space);
	*ret_head = arena_index(heap, arena);
	return 0;
}

static int give_arenas(struct session *session, uint32_t head)
{
	struct arena_entry *arena = arena_at1(session->heap, head + 1);

	if (!arena || arena_state(arena) != ARENA_RUN)
		return -EUCLEAN;
	returnable_add(session->heap, arena, heap_run_length(session->heap, head));
	return 0;
}

/* Find room for a run of *n_pools, which becomes the number that it really takes. *ret is the first pool. */
static int run_locate(struct session *session, enum space_kind space, uint64_t *n_pools, uint32_t *ret)
{
	struct heap *heap = session->heap;
	uint64_t n_arenas;
	uint32_t head;
	int r;

	if (*n_pools < heap->pools_per_arena)
		return arena_take_pools(session, space, (uint32_t)*n_pools, ret);
	n_arenas = (*n_pools + heap->pools_per_arena - 1) / heap->pools_per_arena;
	if (n_arenas > heap->n_arenas)
		return -ENOMEM;
	r = take_arenas(session, (uint32_t)n_arenas, space, &head);
	if (r)
		return r;
	*n_pools = n_arenas * heap->pools_per_arena;
	*ret = head * heap->pools_per_arena;
	return 0;
}

/* The payload will overwrite the headers that the pools have: so they forget their classes. */
static void forget_classes(struct heap *heap, uint32_t first, uint64_t n_pools)
{
	if (n_pools > heap->pools_per_arena)
		n_pools = 1; /* of a run of arenas the first pool alone has a class */
	for (uint32_t i = first; i < first + n_pools; i++)
		if (read_once(heap->pools[i].size_class) != CLASS_NONE)
			heap_set(heap, &heap->pools[i].size_class, CLASS_NONE);
}

/* A run whose header is not set yet. */
static int run_begin(struct session *session, enum space_kind space, uint64_t n_pools, struct pool_entry **ret)
{
	struct heap *heap = session->heap;
	struct pool_entry *pool;
	uint32_t first;
	int r;

	r = run_locate(session, space, &n_pools, &first);
	if (r)
		return r;
	pool = pool_at(heap, first);
	if (!pool || read_once(pool->kind) != POOL_FREE)
		return -EUCLEAN;
	forget_classes(heap, first, n_pools);
	heap_set(heap, &pool->identity,
		pool_identity(POOL_RUN, CLASS_NONE, space == SPACE_OBJECTS ? session->owner1 : 0));
	heap_set(heap, &pool->run_n_pools, n_pools);
	heap_set(heap, &pool->run_n_dropped, 0);
	if (read_once(pool->owned_links.both))
		heap_set(heap, &pool->owned_links.both, 0);
	if (space == SPACE_OBJECTS)
		pool_link_owned(session, pool);
	*ret = pool;
	return 0;
}

int run_take(struct session *session, enum space_kind space, size_t size, uint32_t type, uint32_t state,
	uint64_t rights, uint64_t *ret)
{
	struct heap *heap = session->heap;
	struct pool_entry *pool;
	uint32_t generation;
	int r;

	r = run_begin(session, space, size ? (size - 1) / POOL_SIZE + 1 : 1, &pool);
	if (r)
		return r;
	heap_set(heap, &pool->run_size, size);
	generation = pool_next_generation(heap, pool);
	heap_set_header(heap, &pool->header, header_live(generation, type, 0, state), rights);
	*ret = ref_make((uint64_t)pool_index(heap, pool) << (POOL_SHIFT - 3), generation);
	return 0;
}

int run_own(struct session *session, uint32_t n_pools, uint32_t *ret)
{
	struct heap *heap = session->heap;
	struct pool_entry *pool;
	int r;

	r = run_begin(session, SPACE_OBJECTS, n_pools, &pool);
	if (r)
		return r;
	heap_set(heap, &pool->run_size, 0);
	heap_set_header(heap, &pool->header, header_free(header_word(&pool->header), 0), 0);
	*ret = pool_index(heap, pool);
	return 0;
}

int run_disown(struct session *session, struct pool_entry *pool)
{
	struct heap *heap = session->heap;
	uint32_t n_pools = read_once(pool->run_n_pools);

	if (read_once(pool->owner1)) {
		pool_unlink_owned(heap, pool);
		heap_set(heap, &pool->owner1, 0);
	}
	if (header_state(header_word(&pool->header)) != STATE_FREE)
		return 0;
	heap_set(heap, &pool->kind, POOL_FREE);
	if (n_pools < heap->pools_per_arena)
		return arena_give_pools(session, pool_index(heap, pool), n_pools);
	return give_arenas(session, pool_index(heap, pool) >> (heap->arena_shift - POOL_SHIFT));
}

int run_give(struct session *session, struct pool_entry *pool)
{
	heap_set_header(session->heap, &pool->header, header_free(header_word(&pool->header), 0), 0);
	return run_disown(session, pool);
}
