/* SPDX-License-Identifier: MIT */
/*
 * Pools and blocks, runs of pools, runs of arenas: memory for one object
 *
 * A pool is a page of blocks of one class: used (some blocks allocated, on its class's usedpools list), full (on no
 * list) or empty (given back to its arena, may take any class next). When a block of a full pool is freed, the pool
 * goes to the front of its class's list.
 *
 * A block is untouched (from n_carved on: never given out since the pool took its class), free (on the pool's freeblock
 * list, the one freed last in front, linked through the headers' info words) or not free, and then its header word says
 * so. Payloads are never used for links: what a client writes after it dropped an object breaks no list.
 *
 * When a pool takes a class its headers are zeroed, so that the header words of a pool tell the whole truth about its
 * blocks. A pool that comes back to the class that it had last is used as it was left (CPython does the same). Taking
 * back a change must not bring back a class whose headers are zeroed already; so the old class is forgotten by a plain
 * store first, which no roll-back restores: the pool is free, and a free pool may forget its class at any time.
 *
 * More than BLOCK_SIZE_MAX bytes is a run of whole pools of one arena, an arena and more a run of whole arenas; the
 * entry of the first pool has header and size, so that payloads start on a page.
 */

#include "heap/pool.h"

#include <errno.h>
#include <string.h>

#define LINK_SHIFT 26U
#define SIZE_SHIFT 16U

/* ---- headers ----------------------------------------------------------------------------------------------------- */

/* The generation of the next object of this pool: 1..GENERATION_MAX, then 1 again. */
static uint32_t next_generation(struct heap *heap, struct pool_entry *pool)
{
	uint32_t generation = pool->generation >= GENERATION_MAX ? 1 : pool->generation + 1;

	heap_set(heap, &pool->generation, generation);
	return generation;
}

static void header_fill(struct heap *heap, struct object_header *header, uint64_t word, uint64_t info)
{
	heap_set(heap, &header->word, word);
	heap_set(heap, &header->info, info);
}

static void header_free(struct heap *heap, struct object_header *header, uint64_t link)
{
	uint32_t generation = (uint32_t)(header->word >> REF_POSITION_BITS);

	header_fill(heap, header, header_word(generation, STATE_FREE, 0), link << LINK_SHIFT);
}

/* ---- pools ------------------------------------------------------------------------------------------------------- */

static struct pool_entry *pool_at(struct heap *heap, uint32_t index)
{
	return arena_is_there(heap, index / heap->pools_per_arena) ? &heap->pools[index] : NULL;
}

static uint32_t pool_index(const struct heap *heap, const struct pool_entry *pool)
{
	return (uint32_t)(pool - heap->pools);
}

static struct object_header *pool_headers(struct heap *heap, const struct pool_entry *pool)
{
	return (struct object_header *)(void *)(heap->base + ((uint64_t)pool_index(heap, pool) << POOL_SHIFT));
}

static enum space_kind pool_space(const struct heap *heap, const struct pool_entry *pool)
{
	return heap->arenas[pool_index(heap, pool) / heap->pools_per_arena].space & 1 ? SPACE_RECORDS : SPACE_OBJECTS;
}

static void usedpools_link(struct heap *heap, struct space *space, struct pool_entry *pool)
{
	uint32_t *head1 = &space->usedpools1[pool->size_class];
	struct pool_entry *next = *head1 ? pool_at(heap, *head1 - 1) : NULL;

	heap_set(heap, &pool->prev1, 0);
	heap_set(heap, &pool->next1, *head1);
	if (next)
		heap_set(heap, &next->prev1, pool_index(heap, pool) + 1);
	heap_set(heap, head1, pool_index(heap, pool) + 1);
}

static void usedpools_unlink(struct heap *heap, struct space *space, struct pool_entry *pool)
{
	struct pool_entry *next = pool->next1 ? pool_at(heap, pool->next1 - 1) : NULL;
	struct pool_entry *prev = pool->prev1 ? pool_at(heap, pool->prev1 - 1) : NULL;

	if (prev)
		heap_set(heap, &prev->next1, pool->next1);
	else
		heap_set(heap, &space->usedpools1[pool->size_class], pool->next1);
	if (next)
		heap_set(heap, &next->prev1, pool->prev1);
	heap_set(heap, &pool->next1, 0);
	heap_set(heap, &pool->prev1, 0);
}

static void count_pools(struct heap *heap, enum space_kind space, uint32_t size_class, int n)
{
	struct counters *c = &heap->control->counters;

	if (space == SPACE_OBJECTS)
		heap_add(heap, &c->classes[size_class].n_pools, n);
	else
		heap_add(heap, &c->n_record_pools, n);
}

static void count_blocks(struct heap *heap, enum space_kind space, uint32_t size_class, int n)
{
	if (space == SPACE_OBJECTS)
		heap_add(heap, &heap->control->counters.classes[size_class].n_used, n);
}

/* Give a free pool a class: see at the head for the order. */
static void pool_set_class(struct heap *heap, struct pool_entry *pool, uint32_t size_class)
{
	/* Not logged; relaxed atomic, and before the log first speaks of this word. */
	__atomic_store_n(&pool->size_class, (uint8_t)CLASS_NONE, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE); /* the class forgotten before its headers are gone */
	memset(pool_headers(heap, pool), 0, class_pool_blocks(size_class) * sizeof(struct object_header));
	heap_set(heap, &pool->size_class, size_class);
	heap_set(heap, &pool->n_carved, 0);
	heap_set(heap, &pool->freeblock1, 0);
}

static int pool_take(struct session *session, enum space_kind space, uint32_t size_class, struct pool_entry **ret)
{
	struct heap *heap = session->heap;
	struct pool_entry *pool;
	uint32_t index;
	int r;

	r = arena_take_pools(session, space, 1, &index);
	if (r)
		return r;
	pool = pool_at(heap, index);
	if (!pool || pool->kind != POOL_FREE)
		return -EUCLEAN;
	if (pool->size_class != size_class)
		pool_set_class(heap, pool, size_class);
	heap_set(heap, &pool->kind, POOL_BLOCKS);
	heap_set(heap, &pool->n_used, 0);
	usedpools_link(heap, &heap->control->spaces[space], pool);
	count_pools(heap, space, size_class, 1);
	*ret = pool;
	return 0;
}

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

static uint64_t block_position(const struct heap *heap, const struct pool_entry *pool, uint32_t i)
{
	return (((uint64_t)pool_index(heap, pool) << POOL_SHIFT) + block_offset(pool->size_class, i)) >> 3;
}

/* Take a block out of a pool that has room: what was freed last, else the next untouched one. */
static int pool_take_block(struct heap *heap, struct pool_entry *pool, uint32_t *ret)
{
	struct object_header *headers = pool_headers(heap, pool);
	uint32_t n_blocks = class_pool_blocks(pool->size_class);
	uint32_t i;

	if (pool->freeblock1) {
		i = pool->freeblock1 - 1U;
		if (i >= pool->n_carved || i >= n_blocks || header_state(headers[i].word) != STATE_FREE)
			return -EUCLEAN;
		heap_set(heap, &pool->freeblock1, header_link(headers[i].info));
	} else {
		i = pool->n_carved;
		if (i >= n_blocks)
			return -EUCLEAN;
		heap_set(heap, &pool->n_carved, i + 1);
	}
	heap_set(heap, &pool->n_used, pool->n_used + 1);
	*ret = i;
	return 0;
}

static int block_take(struct session *session, enum space_kind space, size_t size, uint32_t size_class, uint32_t type,
	uint32_t state, uint64_t count, uint64_t *ret)
{
	struct heap *heap = session->heap;
	struct space *s = &heap->control->spaces[space];
	struct pool_entry *pool = NULL;
	uint32_t generation, i;
	int r;

	if (s->usedpools1[size_class]) {
		pool = pool_at(heap, s->usedpools1[size_class] - 1);
		if (!pool || pool->kind != POOL_BLOCKS || pool->size_class != size_class)
			return -EUCLEAN;
	} else {
		r = pool_take(session, space, size_class, &pool);
		if (r)
			return r;
	}
	r = pool_take_block(heap, pool, &i);
	if (r < 0)
		return r;
	generation = next_generation(heap, pool);
	header_fill(heap, &pool_headers(heap, pool)[i], header_word(generation, state, count),
		(uint64_t)size << SIZE_SHIFT | type);
	if (!pool->freeblock1 && pool->n_carved == class_pool_blocks(size_class))
		usedpools_unlink(heap, s, pool);
	count_blocks(heap, space, size_class, 1);
	*ret = ref_make(block_position(heap, pool, i), generation);
	return 0;
}

static int block_give(struct session *session, struct pool_entry *pool, uint32_t i)
{
	struct heap *heap = session->heap;
	enum space_kind space = pool_space(heap, pool);
	struct space *s = &heap->control->spaces[space];
	bool was_full = !pool->freeblock1 && pool->n_carved == class_pool_blocks(pool->size_class);

	if (!pool->n_used)
		return -EUCLEAN;
	header_free(heap, &pool_headers(heap, pool)[i], pool->freeblock1);
	heap_set(heap, &pool->freeblock1, i + 1);
	heap_set(heap, &pool->n_used, pool->n_used - 1);
	count_blocks(heap, space, pool->size_class, -1);
	if (was_full)
		usedpools_link(heap, s, pool);
	if (pool->n_used)
		return 0;

	usedpools_unlink(heap, s, pool);
	count_pools(heap, space, pool->size_class, -1);
	heap_set(heap, &pool->kind, POOL_FREE);
	return arena_give_pools(session, pool_index(heap, pool), 1);
}

/* ---- runs -------------------------------------------------------------------------------------------------------- */

static void count_run(struct heap *heap, enum space_kind space, uint32_t n_pools, int sign)
{
	struct counters *c = &heap->control->counters;
	uint32_t n_arenas = (n_pools + heap->pools_per_arena - 1) / heap->pools_per_arena;
	bool large = n_pools >= heap->pools_per_arena;

	if (space == SPACE_RECORDS) {
		if (large)
			heap_add(heap, &c->n_record_arenas, sign * (int64_t)n_arenas);
		else
			heap_add(heap, &c->n_record_pools, sign * (int64_t)n_pools);
	} else if (large) {
		heap_add(heap, &c->n_large_arenas, sign * (int64_t)n_arenas);
		heap_add(heap, &c->n_large_objects, sign);
	} else {
		heap_add(heap, &c->n_medium_pools, sign * (int64_t)n_pools);
		heap_add(heap, &c->n_medium_objects, sign);
	}
}

/* Find room for a run of so many pools; n_pools becomes what it really takes. */
static int run_place(struct session *session, enum space_kind space, uint64_t *n_pools, uint32_t *ret)
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
	r = arena_take_run(session, (uint32_t)n_arenas, space, &head);
	if (r)
		return r;
	*n_pools = n_arenas * heap->pools_per_arena;
	*ret = head * heap->pools_per_arena;
	return 0;
}

/* The payload will overwrite the headers of what the pools were before: their classes are forgotten. */
static void forget_classes(struct heap *heap, uint32_t first, uint64_t n_pools)
{
	if (n_pools > heap->pools_per_arena)
		n_pools = 1; /* arenas of a run have none but at its first pool */
	for (uint32_t i = first; i < first + n_pools; i++)
		if (heap->pools[i].size_class != CLASS_NONE)
			heap_set(heap, &heap->pools[i].size_class, CLASS_NONE);
}

static int run_take(struct session *session, enum space_kind space, size_t size, uint32_t type, uint32_t state,
	uint64_t count, uint64_t *ret)
{
	struct heap *heap = session->heap;
	uint64_t n_pools = size ? (size - 1) / POOL_SIZE + 1 : 1;
	struct pool_entry *pool;
	uint32_t first, generation;
	int r;

	r = run_place(session, space, &n_pools, &first);
	if (r)
		return r;
	pool = pool_at(heap, first);
	if (!pool || pool->kind != POOL_FREE)
		return -EUCLEAN;
	forget_classes(heap, first, n_pools);
	heap_set(heap, &pool->kind, POOL_RUN);
	heap_set(heap, &pool->run_size, size);
	heap_set(heap, &pool->run_n_pools, n_pools);
	heap_set(heap, &pool->run_n_dropped, 0);
	generation = next_generation(heap, pool);
	header_fill(heap, &pool->header, header_word(generation, state, count), type);
	count_run(heap, space, (uint32_t)n_pools, 1);
	*ret = ref_make((uint64_t)first << (POOL_SHIFT - 3), generation);
	return 0;
}

static int run_give(struct session *session, struct pool_entry *pool)
{
	struct heap *heap = session->heap;
	uint32_t index = pool_index(heap, pool);
	uint32_t n_pools = pool->run_n_pools;

	count_run(heap, pool_space(heap, pool), n_pools, -1);
	header_free(heap, &pool->header, 0);
	heap_set(heap, &pool->kind, POOL_FREE);
	if (n_pools < heap->pools_per_arena)
		return arena_give_pools(session, index, n_pools);
	return arena_give_run(session, index / heap->pools_per_arena);
}

/* ---- any size ---------------------------------------------------------------------------------------------------- */

int memory_take(struct session *session, enum space_kind space, size_t size, size_t alignment, uint32_t type,
	uint32_t state, uint64_t count, uint64_t *ret)
{
	size_t room = size;

	if (size > session->heap->heap_size)
		return -ENOMEM;
	if (alignment == 16) /* blocks of a class that is a multiple of 16 all lie so */
		room = size ? (size + 15) & ~(size_t)15 : 16;
	if (room > BLOCK_SIZE_MAX || alignment > 16)
		return run_take(session, space, size, type, state, count, ret);
	return block_take(session, space, size, class_of_size(room), type, state, count, ret);
}

int memory_give(struct session *session, uint64_t position)
{
	struct heap *heap = session->heap;
	uint64_t off = position << 3;
	struct pool_entry *pool = off < heap->heap_size ? pool_at(heap, (uint32_t)(off >> POOL_SHIFT)) : NULL;
	uint32_t in_page = (uint32_t)(off & (POOL_SIZE - 1));
	uint32_t first;

	if (!pool)
		return -EUCLEAN;
	if (pool->kind == POOL_RUN)
		return run_give(session, pool);
	if (pool->kind != POOL_BLOCKS || pool->size_class >= N_CLASSES)
		return -EUCLEAN;
	first = block_offset(pool->size_class, 0);
	if (in_page < first)
		return -EUCLEAN;
	return block_give(session, pool, (in_page - first) / class_block_size(pool->size_class));
}
