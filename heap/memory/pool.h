/* SPDX-License-Identifier: MIT */
#pragma once

/* Pools: pages of blocks of one class, and who owns them. Functions are called within a change. See pool.c. */

#include "heap/memory/size_class.h"
#include "heap/shared/list.h"
#include "heap/shared/session.h"

/* Make a pool of SPACE_OBJECTS with room the session's own, and the first of its usedpools. HEAP_WANTS_ARENAS. */
int pool_own(struct session *session, uint32_t size_class);

/* Collect the remote frees of a pool that has an owner. True: the pool is wholly free now. */
bool pool_collect(struct heap *heap, struct pool_entry *pool);

/* Before the headers are read for remote frees: a session that frees a block remotely after that notifies again. */
void pool_clear_notified(struct pool_entry *pool);

/*
 * Take a pool from its owner; nobody owns it then, and a wholly free pool goes back to its arena. Its counts and free
 * list must be right. The usedpools of the owner are left alone.
 */
int pool_disown(struct session *session, struct pool_entry *pool);

/* Make counts and free list anew from the header words, through the log. */
void pool_count_blocks(struct heap *heap, struct pool_entry *pool);

/* A fresh pool of that class and owner, without a block in use, on no list. HEAP_WANTS_ARENAS. */
int pool_take(
	struct session *session, enum space_kind space, uint32_t size_class, uint32_t owner1, struct pool_entry **ret);

/* Give a pool that is on no list, and that its owner has no more, back to its arena. */
int pool_free(struct session *session, struct pool_entry *pool);

/* Count and return the generation of the pool's next object. */
uint32_t pool_next_generation(struct heap *heap, struct pool_entry *pool);

/* Put a pool or run on the session's owned_pools, and remove it from its owner's. */
void pool_link_owned(struct session *session, struct pool_entry *pool);
void pool_unlink_owned(struct heap *heap, struct pool_entry *pool);

/* Put a pool on its owner's remote_pools. */
void pool_link_remote(struct heap *heap, struct pool_entry *pool);

/* NULL: its arena is not there. */
static inline struct pool_entry *pool_at(const struct heap *heap, uint32_t index)
{
	return arena_is_there(heap, index >> (heap->arena_shift - POOL_SHIFT)) ? &heap->pools[index] : NULL;
}

/* Is all of it in arenas that are there, so that reading it is safe? */
static inline bool pools_are_there(const struct heap *heap, uint64_t off, uint64_t size)
{
	if (!size || off >= heap->heap_size || size > heap->heap_size - off)
		return false;
	for (uint64_t i = off >> heap->arena_shift; i <= (off + size - 1) >> heap->arena_shift; i++)
		if (!arena_is_there(heap, (uint32_t)i))
			return false;
	return true;
}

/* The first pool of the span that a POOL_BODY is of; wherever a stray write leads, it is in the same arena. */
static inline struct pool_entry *pool_of_body(const struct heap *heap, struct pool_entry *pool)
{
	uint32_t i = __atomic_load_n(&pool->span_index, __ATOMIC_RELAXED); /* once */
	uint32_t in_arena = (uint32_t)(pool - heap->pools) & (heap->pools_per_arena - 1);

	return pool - (i < in_arena ? i : in_arena);
}

/* The pool, or the first one of the span or run, in which a position lies; NULL: there is none. */
static inline struct pool_entry *pool_at_position(const struct heap *heap, uint64_t position)
{
	uint64_t off = position << 3;
	struct pool_entry *pool = off < heap->heap_size ? pool_at(heap, (uint32_t)(off >> POOL_SHIFT)) : NULL;

	return pool && read_once(pool->kind) == POOL_BODY ? pool_of_body(heap, pool) : pool;
}

static inline uint32_t pool_index(const struct heap *heap, const struct pool_entry *pool)
{
	return (uint32_t)(pool - heap->pools);
}

static inline struct object_header *pool_headers(const struct heap *heap, const struct pool_entry *pool)
{
	return (struct object_header *)(void *)(heap->base + ((uint64_t)pool_index(heap, pool) << POOL_SHIFT));
}

static inline uint64_t block_position(const struct heap *heap, const struct pool_entry *pool, uint32_t i)
{
	const struct class_shape *shape = &class_shapes[read_once(pool->size_class)];

	return (((uint64_t)pool_index(heap, pool) << POOL_SHIFT) + shape->first + (uint64_t)i * shape->size) >> 3;
}

/* The number of the block of a class and pool that begins at a position, from 1 on; 0: none does. */
static inline uint32_t pool_block1(
	const struct heap *heap, const struct pool_entry *pool, uint32_t size_class, uint64_t position)
{
	if (class_is_small(size_class))
		return block_at_position(size_class, position);
	return size_class < N_CLASSES
		       ? block_in_span(size_class, (position << 3) - ((uint64_t)pool_index(heap, pool) << POOL_SHIFT))
		       : 0;
}

/* How many of its blocks are remotely freed and not collected yet. */
static inline uint32_t pool_count_remote(const struct heap *heap, const struct pool_entry *pool)
{
	const struct object_header *headers = pool_headers(heap, pool);
	/* relaxed: true of a moment only, where the lock is not held */
	uint32_t size_class = __atomic_load_n(&pool->size_class, __ATOMIC_RELAXED) & (N_CLASSES - 1), n = 0;

	for (uint32_t i = 0; i < class_shapes[size_class].n_blocks; i++)
		n += header_state(header_word(&headers[i])) == STATE_REMOTE_FREE;
	return n;
}

/*
 * Are all blocks of the pool remotely freed, that of `header` just now? Most often a neighbour of it is not, and is
 * read first. Each session that frees a block remotely executes a full barrier and then asks this; so the one that
 * frees the last block finds that all are.
 */
static inline bool pool_is_all_remote(const struct pool_entry *pool, const struct object_header *header)
{
	const struct object_header *headers = (void *)((uintptr_t)header & ~(uintptr_t)(POOL_SIZE - 1));
	/* relaxed: a pool that has taken another class by now is asked again with the lock held */
	uint32_t size_class = __atomic_load_n(&pool->size_class, __ATOMIC_RELAXED) & (N_CLASSES - 1);
	uint32_t n = class_shapes[size_class].n_blocks, i = (uint32_t)(header - headers);

	if (i + 1 < n && header_state(header_word(&headers[i + 1])) != STATE_REMOTE_FREE)
		return false;
	if (i > 0 && header_state(header_word(&headers[i - 1])) != STATE_REMOTE_FREE)
		return false;
	for (i = 0; i < n; i++)
		if (header_state(header_word(&headers[i])) != STATE_REMOTE_FREE)
			return false;
	return true;
}

/* Has it a block that can be taken, without collecting? */
static inline bool pool_has_room(const struct pool_entry *pool)
{
	return read_once(pool->freeblock1) ||
	       read_once(pool->n_carved) < class_shapes[read_once(pool->size_class)].n_blocks;
}

static inline uint32_t pool_identity(enum pool_kind kind, uint32_t size_class, uint32_t owner1)
{
	return (uint32_t)kind | size_class << 8 | owner1 << 16;
}

static inline enum space_kind pool_space(const struct heap *heap, const struct pool_entry *pool)
{
	const struct arena_entry *arena = &heap->arenas[pool_index(heap, pool) >> (heap->arena_shift - POOL_SHIFT)];

	return read_once(arena->space) & 1 ? SPACE_RECORDS : SPACE_OBJECTS;
}

/* Its class, by which tables of N_CLASSES are indexed; some class where a stray write has put what is none. */
static inline uint32_t pool_class_of(const struct pool_entry *pool)
{
	return __atomic_load_n(&pool->size_class, __ATOMIC_RELAXED) & (N_CLASSES - 1);
}

/* NULL: nobody owns it. Read once: a stray write may change it at any time. */
static inline struct session_entry *pool_owner(struct heap *heap, const struct pool_entry *pool)
{
	uint32_t owner1 = __atomic_load_n(&pool->owner1, __ATOMIC_RELAXED);

	return owner1 && owner1 <= heap->n_sessions ? &heap->sessions[owner1 - 1] : NULL;
}

/* The pool of index i1 - 1 as an entry of the list whose links are in `member`; none for 0. */
#define POOL_NODE(heap, i1, member)                                                                                    \
	({                                                                                                             \
		uint32_t i1_ = (i1);                                                                                   \
		struct pool_entry *at_ = i1_ ? pool_at((heap), i1_ - 1) : NULL;                                        \
		(struct list_node){at_ ? &at_->member : NULL, i1_};                                                    \
	})

/* Put a pool at the front of usedpools[its class], which begins at *head1, and remove it from there. */
static inline void pool_link_used(struct heap *heap, bool logged, uint32_t *head1, struct pool_entry *pool)
{
	list_push(heap, logged, head1, (struct list_node){&pool->links, pool_index(heap, pool) + 1},
		POOL_NODE(heap, read_once(*head1), links));
}

static inline void pool_unlink_used(struct heap *heap, bool logged, uint32_t *head1, struct pool_entry *pool)
{
	struct list_node prev = POOL_NODE(heap, read_once(pool->prev1), links);
	struct list_node next = POOL_NODE(heap, read_once(pool->next1), links);

	list_remove(heap, logged, head1, &pool->links, prev, next);
}
