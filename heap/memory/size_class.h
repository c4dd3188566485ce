/* SPDX-License-Identifier: MIT */
#pragma once

/* Size classes: how the page of a pool is divided into headers and blocks. See size_class.c. */

#include "heap/shared/layout.h"

/* How a pool of a class is divided. */
struct class_shape {
	uint16_t size;     /* bytes of a block */
	uint16_t n_blocks; /* blocks of a pool */
	uint16_t first;    /* offset of the first block in its pool, behind the headers */
	uint16_t reserved;
};
/* Of all numbers that pool_entry.size_class can be: what is no class has no blocks, so that a stray write there leads
 * nowhere. */
extern const struct class_shape class_shapes[UINT8_MAX + 1] __attribute__((visibility("hidden")));

/*
 * [a pool's class plus one][offset in the pool, in units of 8 bytes]: the number of the block that begins there, from 1
 * on; 0: none does. Row 0 is of no class, and says none everywhere.
 */
extern const uint8_t block_numbers[1 + N_CLASSES][POOL_SIZE / BLOCK_ALIGNMENT] __attribute__((visibility("hidden")));

/* Of a size of 1..512 bytes; 0 counts as 1. */
static inline uint32_t class_of_size(size_t size)
{
	return size ? (uint32_t)((size - 1) >> 3) : 0;
}
/* Bytes. */
static inline uint32_t class_block_size(uint32_t size_class)
{
	return (size_class + 1) << 3;
}
/* The number of blocks in a pool. */
static inline uint32_t class_pool_blocks(uint32_t size_class)
{
	return POOL_SIZE / (class_block_size(size_class) + (uint32_t)sizeof(struct object_header));
}

/* Offset of block i in its pool, bytes: all headers come first, then the blocks. */
static inline uint32_t block_offset(uint32_t size_class, uint32_t i)
{
	return class_pool_blocks(size_class) * (uint32_t)sizeof(struct object_header) +
	       i * class_block_size(size_class);
}

/* The number of the block that begins at a position, from 1 on; 0: none does. */
static inline uint32_t block_at_position(uint32_t size_class, uint64_t position)
{
	return block_numbers[1 + size_class][position & (POOL_SIZE / BLOCK_ALIGNMENT - 1)];
}
