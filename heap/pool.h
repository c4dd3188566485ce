/* SPDX-License-Identifier: MIT */
#pragma once

/* Pools and their blocks, and runs of pools and arenas: memory for one object of any size. See pool.c. */

#include "heap/arena.h"

static inline uint32_t class_of_size(size_t size) /* 1..512; 0 counts as 1 */
{
	return size ? (uint32_t)((size - 1) >> 3) : 0;
}
static inline uint32_t class_block_size(uint32_t size_class)
{
	return (size_class + 1) << 3;
}
static inline uint32_t class_pool_blocks(uint32_t size_class) /* blocks in a pool */
{
	return POOL_SIZE / (class_block_size(size_class) + (uint32_t)sizeof(struct object_header));
}

/* Where the payload of block i lies in its pool, bytes: headers first, then blocks. */
static inline uint32_t block_offset(uint32_t size_class, uint32_t i)
{
	return class_pool_blocks(size_class) * (uint32_t)sizeof(struct object_header) +
	       i * class_block_size(size_class);
}

/*
 * Within a change: allocate room for `size` bytes aligned to `alignment` in `space`; its header gets type and `state`
 * and the count `count`. *ret is the ref. HEAP_WANTS_ARENAS, -ENOMEM (larger than the heap), -EUCLEAN.
 */
int memory_take(struct session *session, enum space_kind space, size_t size, size_t alignment, uint32_t type,
	uint32_t state, uint64_t count, uint64_t *ret);

/* Within a change: free it; its header becomes STATE_FREE. Position, not ref. */
int memory_give(struct session *session, uint64_t position);
