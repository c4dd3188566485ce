/* SPDX-License-Identifier: MIT */
#pragma once

/* Pools and their blocks, and runs of pools and arenas: memory for one object of any size. See pool.c. */

#include "heap/memory/arena.h"

/* How a pool of a class is divided. */
struct class_shape {
	uint16_t size;     /* of a block, bytes */
	uint16_t n_blocks; /* in a pool */
	uint16_t first;    /* where the first block lies in its pool */
	uint16_t reserved;
};
extern const struct class_shape class_shapes[N_CLASSES] __attribute__((visibility("hidden")));

/* By the class of a pool, plus one, and by where in it something lies, in units of 8 bytes: which block begins there,
 * counted from 1; 0: none does. Where there is no class (0) none does anywhere. */
extern const uint8_t block_numbers[1 + N_CLASSES][POOL_SIZE / BLOCK_ALIGNMENT] __attribute__((visibility("hidden")));

/*
 * Within a change: allocate room for `size` bytes aligned to `alignment` in `space`; its header gets type and `state`,
 * its second word `rights`. A run of SPACE_OBJECTS becomes the session's own. *ret is the ref. HEAP_WANTS_ARENAS,
 * -ENOMEM (larger than the heap), -EUCLEAN; -EINVAL a block of SPACE_OBJECTS: those are made in own.c.
 */
int memory_take(struct session *session, enum space_kind space, size_t size, size_t alignment, uint32_t type,
	uint32_t state, uint64_t rights, uint64_t *ret);

/*
 * Within a change: free it. A block of a pool that a session owns becomes STATE_REMOTE_FREE, anything else STATE_FREE.
 * Position, not ref.
 */
int memory_give(struct session *session, uint64_t position);

/* The class of a block for an object of that size; CLASS_NONE: it needs a run, of *ret_n_pools pools. */
uint32_t memory_class(size_t size, size_t alignment, uint64_t *ret_n_pools);

/* ---- within a change: pools that come to a session and go from it; see own.c ---------------------------------------
 */

/* A pool of SPACE_OBJECTS with room in it, which is owned by session from now on and on its usedpools.
 * HEAP_WANTS_ARENAS. */
int pool_own(struct session *session, uint32_t size_class);

/* A free run of n_pools, owned by session from now on: its header is STATE_FREE. HEAP_WANTS_ARENAS. */
int run_own(struct session *session, uint32_t n_pools, uint32_t *ret);

/* Free blocks of a pool that is owned, from its headers: gather what was returned. True: it has become wholly free. */
bool pool_collect(struct heap *heap, struct pool_entry *pool);

/*
 * A block was turned to STATE_REMOTE_FREE without the lock: see to it that its pool's owner will find it, if it is
 * still so. *ret is the pool, if it is on its owner's list now; else NULL, and nothing is left to be told.
 */
int pool_notify_remote_free(struct session *session, uint64_t ref, struct pool_entry **ret);
/* Before its headers are looked at for what was returned: who returns a block after that tells it. */
void pool_clear_notified(struct pool_entry *pool);

/* Take a pool from its owner: it belongs to nobody, and if it is wholly free it goes back to its arena. Its numbers and
 * free list must be right. The owner's usedpools are not touched. */
int pool_disown(struct session *session, struct pool_entry *pool);

/* The same of a run that is STATE_FREE: it goes back to its arena. One that is not free goes on without an owner. */
int run_disown(struct session *session, struct pool_entry *pool);

/* Numbers and free list anew from the header words, logged. */
void pool_count_blocks(struct heap *heap, struct pool_entry *pool);

/* ---- small ones ---------------------------------------------------------------------------------------------------
 */

static inline struct pool_entry *pool_at(const struct heap *heap, uint32_t index)
{
	return arena_is_there(heap, index >> (heap->arena_shift - POOL_SHIFT)) ? &heap->pools[index] : NULL;
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

/* Which block of a pool of that class begins at that position, counted from 1; 0: none. */
static inline uint32_t block_at_position(uint32_t size_class, uint64_t position)
{
	return block_numbers[1 + size_class][position & (POOL_SIZE / BLOCK_ALIGNMENT - 1)];
}

/* Relaxed: its pool's owner changes it without the lock. */
static inline uint64_t header_word(const struct object_header *header)
{
	return __atomic_load_n(&header->word, __ATOMIC_RELAXED);
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

/* Store to a member of an owner's: by itself within a call as it is (relaxed), else, `logged`, as heap_set() does. */
#define pool_set(heap, logged, p, v)                                                                                   \
	do {                                                                                                           \
		if (!(logged) || log_word((heap), (p)))                                                                \
			__atomic_store_n((p), (__typeof__(*(p)))(v), __ATOMIC_RELAXED);                                \
	} while (0)

/* To the front of usedpools[its class], whose head is given; and out of it. */
static inline void usedpools_push(struct heap *heap, bool logged, uint32_t *head1, struct pool_entry *pool)
{
	struct pool_entry *next = *head1 ? pool_at(heap, *head1 - 1) : NULL;

	if (pool->links != *head1)
		pool_set(heap, logged, &pool->links, *head1); /* next1, and no prev1 */
	if (next)
		pool_set(heap, logged, &next->prev1, pool_index(heap, pool) + 1);
	pool_set(heap, logged, head1, pool_index(heap, pool) + 1);
}

static inline void usedpools_remove(struct heap *heap, bool logged, uint32_t *head1, struct pool_entry *pool)
{
	struct pool_entry *next = pool->next1 ? pool_at(heap, pool->next1 - 1) : NULL;
	struct pool_entry *prev = pool->prev1 ? pool_at(heap, pool->prev1 - 1) : NULL;

	if (prev)
		pool_set(heap, logged, &prev->next1, pool->next1);
	else
		pool_set(heap, logged, head1, pool->next1);
	if (next)
		pool_set(heap, logged, &next->prev1, pool->prev1);
	if (pool->links)
		pool_set(heap, logged, &pool->links, 0);
}
