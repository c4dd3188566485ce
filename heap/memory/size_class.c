// SPDX-License-Identifier: MIT
/*
 * Size classes: tables that say where blocks lie
 *
 * 64 small classes, 8 bytes apart, as CPython has them, in pools of 4 KiB. Which block a ref names is asked by the most
 * frequent calls, and finding it would take a division by the block's size; so a table answers.
 *
 * Medium classes lie in spans of pools, so that no block of them wastes the rest of a page. A class is at most an
 * eighth larger than the one before it, and its span is so long that payload is 85 % of a heap which is filled with
 * objects of any one size: what is lost is the rest of the block, the headers, the rest of the span that no block fits
 * into, and that of an arena of 64 pools that no span fits into. Blocks are aligned to 64 bytes.
 *
 * All tables are made by the compiler.
 */

#include "heap/memory/size_class.h"

/* Number, size of the class before it, size, pools of a span, blocks of a span. */
/* clang-format off */
#define MEDIUM_CLASSES(X)                                                                                      \
	X(0, 512, 576, 8, 55) X(1, 576, 640, 8, 49) X(2, 640, 704, 2, 11)                                      \
	X(3, 704, 768, 1, 5) X(4, 768, 832, 3, 14) X(5, 832, 896, 3, 13)                                       \
	X(6, 896, 960, 1, 4) X(7, 960, 1024, 4, 15) X(8, 1024, 1152, 2, 7)                                     \
	X(9, 1152, 1280, 7, 22) X(10, 1280, 1408, 4, 11) X(11, 1408, 1536, 2, 5)                               \
	X(12, 1536, 1728, 3, 7) X(13, 1728, 1920, 9, 19) X(14, 1920, 2112, 7, 13)                              \
	X(15, 2112, 2368, 7, 12) X(16, 2368, 2624, 2, 3) X(17, 2624, 2944, 8, 11)                              \
	X(18, 2944, 3264, 9, 11) X(19, 3264, 3648, 9, 10) X(20, 3648, 4032, 1, 1)                              \
	X(21, 4032, 4480, 8, 7) X(22, 4480, 4992, 16, 13) X(23, 4992, 5440, 4, 3)                              \
	X(24, 5440, 6080, 3, 2) X(25, 6080, 6528, 8, 5) X(26, 6528, 7296, 9, 5)                                \
	X(27, 7296, 8128, 2, 1) X(28, 8128, 9088, 9, 4) X(29, 9088, 9792, 12, 5)                               \
	X(30, 9792, 10880, 8, 3) X(31, 10880, 12224, 3, 1) X(32, 12224, 13056, 16, 5)                          \
	X(33, 13056, 14272, 7, 2) X(34, 14272, 15296, 15, 4) X(35, 15296, 16320, 4, 1)                         \
	X(36, 16320, 18368, 9, 2) X(37, 18368, 20096, 64, 13) X(38, 20096, 21824, 16, 3)                       \
	X(39, 21824, 23808, 64, 11) X(40, 23808, 26176, 32, 5) X(41, 26176, 29056, 64, 9)                      \
	X(42, 29056, 32704, 8, 1)
/* clang-format on */

#define MEDIUM_FIRST(n) (((n) * sizeof(struct object_header) + MEDIUM_ALIGNMENT - 1) & ~(size_t)(MEDIUM_ALIGNMENT - 1))
#define MEDIUM_SHAPE(i, before, s, p, n)                                                                               \
	[N_SMALL_CLASSES + (i)] = {.size = (s), .n_blocks = (n), .first = MEDIUM_FIRST(n), .n_pools = (p)},
#define MEDIUM_RECIPROCAL(i, before, s, p, n) [i] = ((1U << 22) - 1) / ((s) / MEDIUM_ALIGNMENT) + 1,
/* The headers in the first pool, all blocks in the span, and products instead of divisions are exact. */
#define MEDIUM_ASSERT(i, before, s, p, n)                                                                              \
	static_assert((s) % MEDIUM_ALIGNMENT == 0 && MEDIUM_FIRST(n) <= POOL_SIZE &&                                   \
			      MEDIUM_FIRST(n) + (n) * (s) <= (p)*POOL_SIZE &&                                          \
			      (uint64_t)((p)*POOL_SIZE / MEDIUM_ALIGNMENT) * ((s) / MEDIUM_ALIGNMENT) < 1U << 22,      \
		"a medium class");
MEDIUM_CLASSES(MEDIUM_ASSERT)

#define MEDIUM_SIZES(i, before, s, p, n)                                                                               \
	[(before) / MEDIUM_ALIGNMENT...(s) / MEDIUM_ALIGNMENT - 1] = N_SMALL_CLASSES + (i),
const uint8_t medium_classes[MEDIUM_SIZE_MAX / MEDIUM_ALIGNMENT] = {MEDIUM_CLASSES(MEDIUM_SIZES)};
const uint32_t class_reciprocals[N_CLASSES - N_SMALL_CLASSES] = {MEDIUM_CLASSES(MEDIUM_RECIPROCAL)};

#define SHAPE_BLOCKS(c) (POOL_SIZE / (((c) + 1) * BLOCK_ALIGNMENT + sizeof(struct object_header)))
#define SHAPE(c)                                                                                                       \
	{                                                                                                              \
		.size = ((c) + 1) * BLOCK_ALIGNMENT, .n_blocks = SHAPE_BLOCKS(c),                                      \
		.first = SHAPE_BLOCKS(c) * sizeof(struct object_header), .n_pools = 1,                                 \
	}
#define SHAPES_8(c)                                                                                                    \
	SHAPE(c), SHAPE((c) + 1), SHAPE((c) + 2), SHAPE((c) + 3), SHAPE((c) + 4), SHAPE((c) + 5), SHAPE((c) + 6),      \
		SHAPE((c) + 7)

const struct class_shape class_shapes[UINT8_MAX + 1] = {SHAPES_8(0), SHAPES_8(8), SHAPES_8(16), SHAPES_8(24),
	SHAPES_8(32), SHAPES_8(40), SHAPES_8(48), SHAPES_8(56), MEDIUM_CLASSES(MEDIUM_SHAPE)};

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

const uint8_t block_numbers[1 + N_SMALL_CLASSES][POOL_SIZE / BLOCK_ALIGNMENT] = {{0}, CLASSES_8(0), CLASSES_8(8),
	CLASSES_8(16), CLASSES_8(24), CLASSES_8(32), CLASSES_8(40), CLASSES_8(48), CLASSES_8(56)};
static_assert(SHAPE_BLOCKS(0) <= UINT8_MAX, "block_numbers");
