// SPDX-License-Identifier: MIT
/*
 * Size classes: tables that say where blocks lie
 *
 * 64 classes, 8 bytes apart, as CPython has them. Which block a ref names is asked by the most frequent calls, and
 * finding it would take a division by the block's size; so a table answers. Both tables are made by the compiler, from
 * the sizes alone.
 */

#include "heap/memory/size_class.h"

#define SHAPE_BLOCKS(c) (POOL_SIZE / (((c) + 1) * BLOCK_ALIGNMENT + sizeof(struct object_header)))
#define SHAPE(c)                                                                                                       \
	{                                                                                                              \
		.size = ((c) + 1) * BLOCK_ALIGNMENT, .n_blocks = SHAPE_BLOCKS(c),                                      \
		.first = SHAPE_BLOCKS(c) * sizeof(struct object_header),                                               \
	}
#define SHAPES_8(c)                                                                                                    \
	SHAPE(c), SHAPE((c) + 1), SHAPE((c) + 2), SHAPE((c) + 3), SHAPE((c) + 4), SHAPE((c) + 5), SHAPE((c) + 6),      \
		SHAPE((c) + 7)

const struct class_shape class_shapes[UINT8_MAX + 1] = {
	SHAPES_8(0), SHAPES_8(8), SHAPES_8(16), SHAPES_8(24), SHAPES_8(32), SHAPES_8(40), SHAPES_8(48), SHAPES_8(56)};

/* Of offset x, in units of 8 bytes. A header takes 2 units, a block of class c takes c + 1. */
#define NUMBER_FIRST(c) (SHAPE_BLOCKS(c) * sizeof(struct object_header) / BLOCK_ALIGNMENT)
#define NUMBER(c, x)                                                                                                   \
	((x) >= NUMBER_FIRST(c) && ((x)-NUMBER_FIRST(c)) % ((c) + 1) == 0 &&                                           \
				((x)-NUMBER_FIRST(c)) / ((c) + 1) < SHAPE_BLOCKS(c)                                    \
			? (uint8_t)(1 + ((x)-NUMBER_FIRST(c)) / ((c) + 1))                                             \
			: 0)
#define NUMBERS_8(c, x)                                                                                                \
	NUMBER(c, x), NUMBER(c, (x) + 1), NUMBER(c, (x) + 2), NUMBER(c, (x) + 3), NUMBER(c, (x) + 4),                  \
		NUMBER(c, (x) + 5), NUMBER(c, (x) + 6), NUMBER(c, (x) + 7)
#define NUMBERS_64(c, x)                                                                                               \
	NUMBERS_8(c, x), NUMBERS_8(c, (x) + 8), NUMBERS_8(c, (x) + 16), NUMBERS_8(c, (x) + 24),                        \
		NUMBERS_8(c, (x) + 32), NUMBERS_8(c, (x) + 40), NUMBERS_8(c, (x) + 48), NUMBERS_8(c, (x) + 56)
#define NUMBERS(c)                                                                                                     \
	{                                                                                                              \
		NUMBERS_64(c, 0), NUMBERS_64(c, 64), NUMBERS_64(c, 128), NUMBERS_64(c, 192), NUMBERS_64(c, 256),       \
			NUMBERS_64(c, 320), NUMBERS_64(c, 384), NUMBERS_64(c, 448)                                     \
	}
#define CLASSES_8(c)                                                                                                   \
	NUMBERS(c), NUMBERS((c) + 1), NUMBERS((c) + 2), NUMBERS((c) + 3), NUMBERS((c) + 4), NUMBERS((c) + 5),          \
		NUMBERS((c) + 6), NUMBERS((c) + 7)

const uint8_t block_numbers[1 + N_CLASSES][POOL_SIZE / BLOCK_ALIGNMENT] = {{0}, CLASSES_8(0), CLASSES_8(8),
	CLASSES_8(16), CLASSES_8(24), CLASSES_8(32), CLASSES_8(40), CLASSES_8(48), CLASSES_8(56)};
static_assert(SHAPE_BLOCKS(0) <= UINT8_MAX, "block_numbers");
