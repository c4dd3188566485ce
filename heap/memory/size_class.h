/* SPDX-License-Identifier: MIT */
#pragma once

/* Size classes: how pools are divided into blocks. */

#include "heap/shared/layout.h"

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

/* Which block of a pool of that class begins at that position, counted from 1; 0: none. */
static inline uint32_t block_at_position(uint32_t size_class, uint64_t position)
{
	return block_numbers[1 + size_class][position & (POOL_SIZE / BLOCK_ALIGNMENT - 1)];
}
