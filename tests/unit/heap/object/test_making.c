// SPDX-License-Identifier: MIT
/*
 * Making an object: every size, what a type asks for, what is refused
 */
#include "tests/unit/heap/fixture.h"

#include <inttypes.h>
#include <stdio.h>

/* A struct that is too large for a block, or too strictly aligned, is a run, and its slots work as those of a block. */
START_TEST(struct_as_run)
{
	static const struct {
		size_t size, alignment;
	} cases[] = {{16, 64}, {512, 4096}, {5000, 8}, {300000, 0}, {600000, 4096}, {32000, 64}, {700, 128}};
	bool is_run = cases[_i].alignment > MEDIUM_ALIGNMENT || cases[_i].size > MEDIUM_SIZE_MAX;
	size_t slots[3] = {0, 8, (cases[_i].size - 8) & ~(size_t)7};
	uint64_t child = fixture_bytes(S0, 5), object;
	uint32_t type, n_slots = cases[_i].size == 16 ? 2 : 3;

	MUST(S0, type_register(
			 S0, &(struct type_spec){"big", cases[_i].size, cases[_i].alignment, n_slots, slots}, &type));
	for (int round = 0; round < 3; round++) {
		object = fixture_new(S0, type, cases[_i].size + 100);
		ck_assert_uint_eq(ref_pool(object)->kind, is_run ? POOL_RUN : POOL_BLOCKS);
		ck_assert_uint_eq(ref_offset(object) % (cases[_i].alignment ? cases[_i].alignment : 16), 0);
		for (uint32_t i = 0; i < n_slots; i++) {
			uint64_t got = 1;

			MUST(S0, slot_get(S0, object, slots[i], &got));
			ck_assert_uint_eq(got, 0);
			MUST(S0, slot_set(S0, object, slots[i], child));
		}
		fixture_expect_count(1 + n_slots, child);
		memset(ref_data(object) + cases[_i].size, 0xff, 100);
		fixture_drop(S0, object);
		fixture_expect_count(1, child);
	}
	fixture_drop(S0, child);
	fixture_expect_empty();
}
END_TEST

START_TEST(sizes)
{
	static const struct {
		size_t size;
		int r;
	} cases[] = {
		{0, 0},
		{1, 0},
		{512, 0},
		{513, 0},
		{POOL_SIZE, 0},
		{POOL_SIZE + 1, 0},
		{ARENA_SIZE_DEFAULT - POOL_SIZE, 0},
		{ARENA_SIZE_DEFAULT - 1, 0},
		{ARENA_SIZE_DEFAULT, 0},
		{ARENA_SIZE_DEFAULT + 1, 0},
		{FIXTURE_HEAP_SIZE - 1, 0},
		{FIXTURE_HEAP_SIZE, 0},
		{FIXTURE_HEAP_SIZE + 1, -ENOMEM},
		{HEAP_SIZE_MAX, -ENOMEM},
		{HEAP_SIZE_MAX + 1, -ENOMEM},
		{(size_t)INT64_MAX, -ENOMEM},
		{SIZE_MAX - 7, -ENOMEM},
		{SIZE_MAX, -ENOMEM},
	};
	struct object object;
	uint64_t ref;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ref = 5;
		EXPECT(S0, cases[i].r, object_new(S0, TYPE_BYTES, cases[i].size, &ref));
		if (cases[i].r) {
			ck_assert_uint_eq(ref, 5);
			continue;
		}
		ck_assert_int_eq(object_lookup(S0, ref, &object), 0);
		ck_assert_uint_eq(object.size, cases[i].size);
		ck_assert_uint_eq(object.type, TYPE_BYTES);
		if (cases[i].size) {
			object.data[0] = 1;
			object.data[cases[i].size - 1] = 1;
		}
		fixture_drop(S0, ref);
		fixture_expect_empty();
	}
}
END_TEST

START_TEST(sizes_of_types)
{
	uint64_t ref = 5;
	uint32_t type;

	EXPECT(S0, -EINVAL, object_new(S0, TYPE_LIST, 9, &ref));
	EXPECT(S0, -ENOMEM, object_new(S0, TYPE_LIST, SIZE_MAX - 7, &ref));
	EXPECT(S0, -EINVAL, object_new(S0, TYPE_QUEUE, 64, &ref));
	EXPECT(S0, -EINVAL, object_new(S0, TYPE_HOLDS, 64, &ref));
	EXPECT(S0, -EINVAL, object_new(S0, TYPE_NAME, 64, &ref));
	EXPECT(S0, -EINVAL, object_new(S0, TYPE_NONE, 64, &ref));
	EXPECT(S0, -EINVAL, object_new(S0, TYPE_FIRST_REGISTERED, 64, &ref));
	EXPECT(S0, -EINVAL, object_new(S0, UINT32_MAX, 64, &ref));
	EXPECT(S0, -EINVAL, queue_new(S0, 0, &ref));
	EXPECT(S0, -ENOMEM, queue_new(S0, SIZE_MAX, &ref));
	EXPECT(S0, -ENOMEM, queue_new(S0, FIXTURE_HEAP_SIZE / 8, &ref));
	MUST(S0, type_register(S0, &(struct type_spec){"forty", 40, 0, 0, NULL}, &type));
	EXPECT(S0, -EINVAL, object_new(S0, type, 39, &ref));
	ck_assert_uint_eq(ref, 5);
	fixture_expect_empty();
	MUST(S0, object_new(S0, type, 1000, &ref)); /* with a flexible array behind it */
	MUST(S0, object_new(S0, TYPE_LIST, 0, &ref));
	EXPECT(S0, -ERANGE, list_set(S0, ref, 0, 0));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("making");
	TCase *t = tcase_create("making");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, struct_as_run, 0, 5);
	tcase_add_test(t, sizes);
	tcase_add_test(t, sizes_of_types);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
