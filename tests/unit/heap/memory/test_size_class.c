// SPDX-License-Identifier: MIT
/*
 * Size classes: those of CPython 3.7, row by row; their blocks, and how these are aligned
 */
#include "tests/unit/heap/fixture.h"

#include <stdio.h>
#include <sys/mman.h>

static const struct {
	size_t first, last;
	uint32_t size, size_class;
} seed_rows[] = {
	{1, 8, 8, 0},
	{9, 16, 16, 1},
	{17, 24, 24, 2},
	{25, 32, 32, 3},
	{33, 40, 40, 4},
	{41, 48, 48, 5},
	{49, 56, 56, 6},
	{57, 64, 64, 7},
	{65, 72, 72, 8},
	{497, 504, 504, 62},
	{505, 512, 512, 63},
};

START_TEST(class_seed_rows)
{
	for (size_t size = seed_rows[_i].first; size <= seed_rows[_i].last; size++) {
		uint64_t ref = fixture_bytes(S0, size);

		ck_assert_uint_eq(class_of_size(size), seed_rows[_i].size_class);
		ck_assert_uint_eq(ref_pool(ref)->kind, POOL_BLOCKS);
		ck_assert_uint_eq(ref_pool(ref)->size_class, seed_rows[_i].size_class);
	}
	ck_assert_uint_eq(class_block_size(seed_rows[_i].size_class), seed_rows[_i].size);
}
END_TEST

/* Every size from 1 to 512: the class is computed here by steps of 8 bytes alone. */
START_TEST(class_all_sizes)
{
	size_t size = 1;

	for (uint32_t c = 0; c < N_SMALL_CLASSES; c++) {
		for (int i = 0; i < 8; i++, size++) {
			uint64_t ref = fixture_bytes(S0, size);
			struct object object;

			ck_assert_uint_eq(ref_pool(ref)->size_class, c);
			ck_assert_int_eq(object_lookup(S0, ref, &object), 0);
			ck_assert_uint_eq(object.size, size);
			ck_assert_ptr_eq(object.data, ref_data(ref));
		}
	}
	ck_assert_uint_eq(size, 513);
	ck_assert_uint_eq(ref_pool(fixture_bytes(S0, 513))->kind, POOL_RUN);
	ck_assert_uint_eq(ref_pool(fixture_bytes(S0, 0))->size_class, 0);
}
END_TEST

/* Blocks and their headers fill the page as far as they can, and no block reaches into another. */
START_TEST(class_geometry)
{
	uint32_t size_class = (uint32_t)_i, size = class_block_size(size_class), n = class_pool_blocks(size_class);
	uint64_t refs[POOL_SIZE / 24];

	ck_assert_uint_eq(block_offset(size_class, 0), 16 * n);
	ck_assert_uint_le(block_offset(size_class, n), POOL_SIZE);
	ck_assert_uint_gt(block_offset(size_class, n) + size + 16, POOL_SIZE);
	for (uint32_t i = 0; i < n; i++) {
		refs[i] = fixture_bytes(S0, size);
		memset(ref_data(refs[i]), (int)i, size);
		ck_assert_uint_eq(ref_pool_index(refs[i]), ref_pool_index(refs[0]));
		ck_assert_uint_eq(ref_offset(refs[i]) % POOL_SIZE, block_offset(size_class, i));
	}
	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t k = 0; k < size; k++)
			ck_assert_uint_eq(ref_data(refs[i])[k], (uint8_t)i);
		fixture_drop(S0, refs[i]);
	}
}
END_TEST

START_TEST(alignment_of_size)
{
	for (size_t size = 0; size <= 2 * POOL_SIZE; size += size < 520 ? 1 : 509) {
		for (int i = 0; i < 5; i++) {
			uint64_t off = ref_offset(fixture_bytes(S0, size));

			ck_assert_uint_eq(off % 8, 0);
			if (size % 16 == 0 && size > 0)
				ck_assert_uint_eq(off % 16, 0);
			if (size > BLOCK_SIZE_MAX)
				ck_assert_uint_eq(off % POOL_SIZE, 0);
		}
	}
}
END_TEST

/* What a type asks for, from 1 to a page, whatever its size. */
START_TEST(alignment_of_type)
{
	static const size_t sizes[] = {1, 8, 24, 40, 100, 256, 512, 513, 5000};

	for (size_t alignment = 1; alignment <= POOL_SIZE; alignment *= 2) {
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
			char name[32];
			uint32_t type;

			snprintf(name, sizeof(name), "t%zu-%zu", alignment, sizes[s]);
			MUST(S0, type_register(S0, &(struct type_spec){name, sizes[s], alignment, 0, NULL}, &type));
			for (int i = 0; i < 3; i++)
				ck_assert_uint_eq(ref_offset(fixture_new(S0, type, 0)) % alignment, 0);
		}
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("size-class");
	TCase *t = tcase_create("size_class");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, class_seed_rows, 0, (int)(sizeof(seed_rows) / sizeof(seed_rows[0])));
	tcase_add_test(t, class_all_sizes);
	tcase_add_loop_test(t, class_geometry, 0, N_SMALL_CLASSES);
	tcase_add_test(t, alignment_of_size);
	tcase_add_test(t, alignment_of_type);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
