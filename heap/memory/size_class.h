/* SPDX-License-Identifier: MIT */
#pragma once

/* Size classes: how a pool, or a span of pools, is divided into headers and blocks. See size_class.c. */

#include "heap/shared/layout.h"

/* How a pool of a class is divided. */
struct class_shape {
	uint16_t size;     /* bytes of a block */
	uint16_t n_blocks; /* blocks of a pool */
	uint16_t first;    /* offset of the first block in its pool, behind the headers */
	uint16_t n_pools;  /* 1, or of a span */
};
/* Of all numbers that pool_entry.size_class can be: what is no class has no blocks, so that a stray write there leads
 * nowhere. */
extern const struct class_shape class_shapes[UINT8_MAX + 1] __attribute__((visibility("hidden")));

/* Of numbers from N_SMALL_CLASSES on: 2^22 divided by the blocks' size in units of MEDIUM_ALIGNMENT, rounded up. */
extern const uint32_t class_reciprocals[N_CLASSES - N_SMALL_CLASSES] __attribute__((visibility("hidden")));

/*
 * [a pool's class plus one][offset in the pool, in units of 8 bytes]: the number of the small block that begins there,
 * from 1 on; 0: none does. Row 0 is of no class, and says none everywhere.
 */
extern const uint8_t block_numbers[1 + N_SMALL_CLASSES][POOL_SIZE / BLOCK_ALIGNMENT]
	__attribute__((visibility("hidden")));

/* Of (size - 1) / MEDIUM_ALIGNMENT, of a size above BLOCK_SIZE_MAX: its class. */
extern const uint8_t medium_classes[MEDIUM_SIZE_MAX / MEDIUM_ALIGNMENT] __attribute__((visibility("hidden")));

/* Of a size of 1..MEDIUM_SIZE_MAX bytes; 0 counts as 1. */
static inline uint32_t class_of_size(size_t size)
{
	if (size > BLOCK_SIZE_MAX)
		return medium_classes[(size - 1) / MEDIUM_ALIGNMENT];
	return size ? (uint32_t)((size - 1) >> 3) : 0;
}
static inline bool class_is_small(uint32_t size_class)
{
	return size_class < N_SMALL_CLASSES;
}
/* The next three are of small classes. Bytes. */
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

/* The number of the small block that begins at a position, from 1 on; 0: none does. */
static inline uint32_t block_at_position(uint32_t size_class, uint64_t position)
{
	return block_numbers[1 + size_class][position & (POOL_SIZE / BLOCK_ALIGNMENT - 1)];
}

/* The number of the medium block that begins at an offset in its span, from 1 on; 0: none does. */
static inline uint32_t block_in_span(uint32_t size_class, uint64_t off)
{
	const struct class_shape *shape = &class_shapes[size_class];
	/* below first: very large */
	uint64_t units = (off - shape->first) / MEDIUM_ALIGNMENT, n = shape->size / MEDIUM_ALIGNMENT, i;

	if (off % MEDIUM_ALIGNMENT || units >= POOLS_PER_ARENA_MAX * POOL_SIZE / MEDIUM_ALIGNMENT)
		return 0;
	/* A product instead of a division: exact for all offsets in a span, see size_class.c. */
	i = units * class_reciprocals[size_class - N_SMALL_CLASSES] >> 22;
	return i < shape->n_blocks && i * n == units ? (uint32_t)i + 1 : 0;
}
