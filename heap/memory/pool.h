/* SPDX-License-Identifier: MIT */
#pragma once

/* Pools: pages of blocks of one class, and who owns them. See pool.c. */

#include "heap/memory/size_class.h"
#include "heap/shared/list.h"
#include "heap/shared/session.h"

/* A pool of SPACE_OBJECTS with room in it, which is owned by session from now on and on its usedpools.
 * HEAP_WANTS_ARENAS. */
int pool_own(struct session *session, uint32_t size_class);

/* Free blocks of a pool that is owned, from its headers: gather what was returned. True: it has become wholly free. */
bool pool_collect(struct heap *heap, struct pool_entry *pool);

/* Before its headers are looked at for what was returned: who returns a block after that tells it. */
void pool_clear_notified(struct pool_entry *pool);

/* Take a pool from its owner: it belongs to nobody, and if it is wholly free it goes back to its arena. Its numbers and
 * free list must be right. The owner's usedpools are not touched. */
int pool_disown(struct session *session, struct pool_entry *pool);

/* Numbers and free list anew from the header words, logged. */
void pool_count_blocks(struct heap *heap, struct pool_entry *pool);

/* Within a change: a pool of that class and owner, with no block in use and on no list. HEAP_WANTS_ARENAS. */
int pool_take(
	struct session *session, enum space_kind space, uint32_t size_class, uint32_t owner1, struct pool_entry **ret);

/* Within a change: a pool that is on no list, and whose owner has it no more, goes back to its arena. */
int pool_free(struct session *session, struct pool_entry *pool);

/* Within a change: the generation of the next object of this pool. */
uint32_t pool_next_generation(struct heap *heap, struct pool_entry *pool);

/* Within a change: onto the session's owned_pools, and off its owner's. */
void pool_link_owned(struct session *session, struct pool_entry *pool);
void pool_unlink_owned(struct heap *heap, struct pool_entry *pool);

/* Within a change: onto its owner's remote_pools. */
void pool_link_remote(struct heap *heap, struct pool_entry *pool);

static inline struct pool_entry *pool_at(const struct heap *heap, uint32_t index)
{
	return arena_is_there(heap, index >> (heap->arena_shift - POOL_SHIFT)) ? &heap->pools[index] : NULL;
}

/* The pool that a position of the heap segment lies in; NULL: there is none. */
static inline struct pool_entry *pool_at_position(const struct heap *heap, uint64_t position)
{
	uint64_t off = position << 3;

	return off < heap->heap_size ? pool_at(heap, (uint32_t)(off >> POOL_SHIFT)) : NULL;
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
	const struct class_shape *shape = &class_shapes[pool->size_class];

	return (((uint64_t)pool_index(heap, pool) << POOL_SHIFT) + shape->first + (uint64_t)i * shape->size) >> 3;
}

/* How many of its blocks wait to be gathered. */
static inline uint32_t pool_count_remote(const struct heap *heap, const struct pool_entry *pool)
{
	const struct object_header *headers = pool_headers(heap, pool);
	/* relaxed: of a moment, where the lock is not held */
	uint32_t size_class = __atomic_load_n(&pool->size_class, __ATOMIC_RELAXED) & (N_CLASSES - 1), n = 0;

	for (uint32_t i = 0; i < class_shapes[size_class].n_blocks; i++)
		n += header_state(header_word(&headers[i])) == STATE_REMOTE_FREE;
	return n;
}

/*
 * Do all its blocks, after one that just was returned? Most often one of its neighbours says no. Who returned the last
 * of them finds them so, for after that each has a full barrier.
 */
static inline bool pool_is_all_remote(const struct pool_entry *pool, const struct object_header *header)
{
	const struct object_header *headers = (void *)((uintptr_t)header & ~(uintptr_t)(POOL_SIZE - 1));
	/* relaxed: should it be another by now, it is asked again with the lock held */
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

/* Has it a block that can be taken, of those that its owner knows? */
static inline bool pool_has_room(const struct pool_entry *pool)
{
	return pool->freeblock1 || pool->n_carved < class_shapes[pool->size_class].n_blocks;
}

static inline uint32_t pool_identity(enum pool_kind kind, uint32_t size_class, uint32_t owner1)
{
	return (uint32_t)kind | size_class << 8 | owner1 << 16;
}

static inline enum space_kind pool_space(const struct heap *heap, const struct pool_entry *pool)
{
	return heap->arenas[pool_index(heap, pool) >> (heap->arena_shift - POOL_SHIFT)].space & 1 ? SPACE_RECORDS
												  : SPACE_OBJECTS;
}

/* NULL where nobody owns it. */
static inline struct session_entry *pool_owner(struct heap *heap, const struct pool_entry *pool)
{
	return pool->owner1 && pool->owner1 <= heap->n_sessions ? &heap->sessions[pool->owner1 - 1] : NULL;
}

/* Which lists a pool is on: its links there, and those of the pool of that index, plus one. */
#define POOL_NODE(heap, i1, member)                                                                                    \
	({                                                                                                             \
		uint32_t i1_ = (i1);                                                                                   \
		struct pool_entry *at_ = i1_ ? pool_at((heap), i1_ - 1) : NULL;                                        \
		(struct list_node){at_ ? &at_->member : NULL, i1_};                                                    \
	})

/* To the front of usedpools[its class], whose head is given; and out of it. */
static inline void pool_link_used(struct heap *heap, bool logged, uint32_t *head1, struct pool_entry *pool)
{
	list_push(heap, logged, head1, (struct list_node){&pool->links, pool_index(heap, pool) + 1},
		POOL_NODE(heap, *head1, links));
}

static inline void pool_unlink_used(struct heap *heap, bool logged, uint32_t *head1, struct pool_entry *pool)
{
	struct list_node prev = POOL_NODE(heap, pool->prev1, links), next = POOL_NODE(heap, pool->next1, links);

	list_remove(heap, logged, head1, &pool->links, &prev, &next);
}
