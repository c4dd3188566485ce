// SPDX-License-Identifier: MIT
/*
 * Objects over the public interface: sizes, lists, types and slots, names, holds; right and wrong arguments to each
 */
#include "fixture.h"

#include <stdio.h>

#define HEAP_SIZE  ((size_t)64 << 20)
#define ARENA_SIZE ((size_t)256 << 10)

static uint64_t n_objects(void)
{
	pyheap_stats stats;
	uint64_t n;

	ck_ok(pyheap_stats(fixture_heap, &stats));
	n = stats.n_medium_objects + stats.n_large_objects;
	for (int i = 0; i < PYHEAP_CLASSES; i++)
		n += stats.classes[i].n_used;
	return n;
}

/* Sizes. */

START_TEST(test_sizes)
{
	static const size_t sizes[] = {0, 1, 7, 8, 9, 16, 42, 504, 505, 512, 513, 4095, 4096, 4097, 32704, 32705, 40000,
		ARENA_SIZE - 1, ARENA_SIZE, ARENA_SIZE + 1, 5 * ARENA_SIZE, HEAP_SIZE / 2};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		pyheap_type type;
		pyheap_ref ref;
		uint8_t *data;

		ck_ok(pyheap_new(fixture_heap, PYHEAP_BYTES, sizes[i], &ref));
		data = pyheap_data(fixture_heap, ref);
		ck_assert_ptr_nonnull(data);
		ck_assert_uint_eq((uintptr_t)data % 8, 0);
		if (sizes[i] % 16 == 0)
			ck_assert_uint_eq((uintptr_t)data % 16, 0);
		if (sizes[i] > 512)
			ck_assert_uint_eq((uintptr_t)data % 64, 0);
		if (sizes[i] > 32768)
			ck_assert_uint_eq((uintptr_t)data % 4096, 0);
		ck_assert_int_eq(pyheap_size(fixture_heap, ref), (ssize_t)sizes[i]);
		ck_ok(pyheap_typeof(fixture_heap, ref, &type));
		ck_assert_uint_eq(type, PYHEAP_BYTES);
		ck_assert_int_eq(pyheap_refcount(fixture_heap, ref), 1);
		memset(data, 0xa5, sizes[i]);
		ck_assert_int_eq(pyheap_check(fixture_heap, NULL, NULL), 0);
		ck_ok(pyheap_decref(fixture_heap, ref));
	}
	ck_assert_uint_eq(n_objects(), 0);
}
END_TEST

START_TEST(test_sizes_that_cannot_be)
{
	static const size_t sizes[] = {HEAP_SIZE, HEAP_SIZE + 1, SIZE_MAX / 2, SIZE_MAX - 4096, SIZE_MAX - 7, SIZE_MAX};
	pyheap_ref ref = 7;

	ck_ok(pyheap_put(fixture_heap, "x", 1, &ref)); /* so that the whole heap is not free any more */
	ck_ok(pyheap_name_set(fixture_heap, "x", ref));
	ref = 7;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		ck_err(pyheap_new(fixture_heap, PYHEAP_BYTES, sizes[i], &ref), ENOMEM);
		ck_err(pyheap_list_new(fixture_heap, sizes[i] / 8, &ref), ENOMEM);
	}
	ck_err(pyheap_list_new(fixture_heap, SIZE_MAX, &ref), ENOMEM);
	ck_err(pyheap_queue_new(fixture_heap, SIZE_MAX, &ref), ENOMEM);
	ck_err(pyheap_queue_new(fixture_heap, SIZE_MAX / 8, &ref), ENOMEM);
	ck_err(pyheap_queue_new(fixture_heap, 0, &ref), EINVAL);
	ck_err(pyheap_new(fixture_heap, PYHEAP_LIST, 12, &ref), EINVAL);
	ck_assert_uint_eq(ref, 7);
	ck_assert_uint_eq(n_objects(), 1);
}
END_TEST

/* The heap is full to the last block: -ENOMEM, and everything else works. Dropped memory can be used by others. */
START_TEST(test_full)
{
	pyheap_ref list, ref, got;
	size_t n = 0;
	int r;

	ck_ok(pyheap_list_new(fixture_heap, 1000, &list));
	ck_ok(pyheap_name_set(fixture_heap, "last", list)); /* the name's own memory, while there is some */
	while ((r = pyheap_new(fixture_heap, PYHEAP_BYTES, ARENA_SIZE, &ref)) == 0) {
		ck_ok(pyheap_list_set(fixture_heap, list, n++, ref));
		ck_ok(pyheap_decref(fixture_heap, ref));
	}
	ck_err(r, ENOMEM);
	ck_assert_uint_ge(n, HEAP_SIZE / ARENA_SIZE - 8);
	while ((r = pyheap_new(fixture_heap, PYHEAP_BYTES, 512, &ref)) == 0)
		ck_ok(pyheap_name_set(fixture_heap, "last", ref));
	ck_err(r, ENOMEM);
	ck_assert_int_eq(pyheap_check(fixture_heap, NULL, NULL), 0);
	ck_ok(pyheap_name_get(fixture_heap, "last", &got));
	ck_ok(pyheap_incref(fixture_heap, list));
	ck_ok(pyheap_decref(fixture_heap, list));
	ck_ok(pyheap_list_set(fixture_heap, list, 0, 0));
	ck_ok(pyheap_new(fixture_heap, PYHEAP_BYTES, ARENA_SIZE, &ref));
}
END_TEST

START_TEST(test_put)
{
	char *large = malloc(3 << 20);
	pyheap_ref ref;

	ck_ok(pyheap_put(fixture_heap, "hello", 6, &ref));
	ck_assert_str_eq(pyheap_data(fixture_heap, ref), "hello");
	ck_ok(pyheap_put(fixture_heap, NULL, 0, &ref));
	ck_assert_ptr_nonnull(pyheap_data(fixture_heap, ref));
	ck_assert_int_eq(pyheap_size(fixture_heap, ref), 0);
	for (size_t i = 0; i < 3 << 20; i++)
		large[i] = (char)(i * 7 + i / 251);
	ck_ok(pyheap_put(fixture_heap, large, 3 << 20, &ref));
	ck_assert_mem_eq(pyheap_data(fixture_heap, ref), large, 3 << 20);
	free(large);
}
END_TEST

/* Holds. */

START_TEST(test_holds)
{
	pyheap *other = fixture_open(&fx);
	pyheap_ref ref;

	ck_ok(pyheap_put(fixture_heap, "x", 1, &ref));
	ck_ok(pyheap_incref(fixture_heap, ref));
	ck_ok(pyheap_incref(fixture_heap, ref));
	ck_assert_int_eq(pyheap_refcount(fixture_heap, ref), 3);
	ck_err(pyheap_decref(other, ref), EPERM);
	ck_ok(pyheap_incref(other, ref));
	ck_assert_int_eq(pyheap_refcount(other, ref), 4);
	for (int i = 0; i < 3; i++)
		ck_ok(pyheap_decref(fixture_heap, ref));
	ck_err(pyheap_decref(fixture_heap, ref), EPERM);
	ck_assert_int_eq(pyheap_refcount(fixture_heap, ref), 1);
	ck_ok(pyheap_decref(other, ref));
	ck_err(pyheap_decref(other, ref), ESTALE);
	ck_err(pyheap_incref(fixture_heap, ref), ESTALE);

	ck_ok(pyheap_put(fixture_heap, "x", 1, &ref));
	ck_ok(pyheap_incref(other, ref));
	pyheap_close(other); /* drops it */
	ck_assert_int_eq(pyheap_refcount(fixture_heap, ref), 1);
	ck_ok(pyheap_decref(fixture_heap, ref));
	ck_assert_uint_eq(n_objects(), 0);
}
END_TEST

/* More holds than the table of a session has room for at first, and closing drops them all. */
START_TEST(test_many_holds)
{
	pyheap *other = fixture_open(&fx);
	pyheap_client_info info;
	uint64_t cursor = 0, n_holds = 0;
	pyheap_ref ref;

	for (int i = 0; i < 50000; i++) {
		ck_ok(pyheap_new(other, PYHEAP_BYTES, 24, &ref));
		if (i % 3 == 0)
			ck_ok(pyheap_incref(other, ref));
	}
	while (pyheap_client_next(other, &cursor, &info) == 1)
		if (info.self)
			n_holds = info.n_holds;
	ck_assert_uint_eq(n_holds, 50000);
	ck_assert_uint_eq(n_objects(), 50000);
	pyheap_close(other);
	ck_assert_uint_eq(n_objects(), 0);
}
END_TEST

/* Lists. */

/* The example of the introductions to CPython: references, and the counts that follow. */
START_TEST(test_numbers_and_matrix)
{
	pyheap_ref numbers, more_numbers, matrix, row;

	ck_ok(pyheap_list_new(fixture_heap, 3, &numbers));
	ck_assert_int_eq(pyheap_refcount(fixture_heap, numbers), 1);
	more_numbers = numbers;
	ck_ok(pyheap_incref(fixture_heap, more_numbers));
	ck_assert_int_eq(pyheap_refcount(fixture_heap, numbers), 2);
	ck_ok(pyheap_list_new(fixture_heap, 3, &matrix));
	for (size_t i = 0; i < 3; i++)
		ck_ok(pyheap_list_set(fixture_heap, matrix, i, numbers));
	ck_assert_int_eq(pyheap_refcount(fixture_heap, numbers), 5);
	ck_ok(pyheap_list_get(fixture_heap, matrix, 1, &row));
	ck_assert_uint_eq(row, numbers);
	ck_assert_int_eq(pyheap_refcount(fixture_heap, numbers), 6);
	ck_ok(pyheap_decref(fixture_heap, row));
	ck_ok(pyheap_list_set(fixture_heap, matrix, 0, 0));
	ck_assert_int_eq(pyheap_refcount(fixture_heap, numbers), 4);
	ck_ok(pyheap_decref(fixture_heap, matrix));
	ck_assert_int_eq(pyheap_refcount(fixture_heap, numbers), 2);
	ck_ok(pyheap_decref(fixture_heap, more_numbers));
	ck_ok(pyheap_decref(fixture_heap, numbers));
	ck_err(pyheap_refcount(fixture_heap, numbers), ESTALE);
	ck_assert_uint_eq(n_objects(), 0);
}
END_TEST

START_TEST(test_list_bounds)
{
	pyheap_ref list, bytes, got = 7;

	ck_ok(pyheap_list_new(fixture_heap, 4, &list));
	ck_ok(pyheap_put(fixture_heap, "x", 1, &bytes));
	ck_assert_int_eq(pyheap_size(fixture_heap, list), 32);
	ck_err(pyheap_list_set(fixture_heap, list, 4, bytes), ERANGE);
	ck_err(pyheap_list_get(fixture_heap, list, 4, &got), ERANGE);
	ck_err(pyheap_list_set(fixture_heap, list, SIZE_MAX, bytes), ERANGE);
	ck_err(pyheap_list_get(fixture_heap, list, SIZE_MAX, &got), ERANGE);
	ck_err(pyheap_list_get(fixture_heap, list, SIZE_MAX / 8 + 1, &got), ERANGE);
	ck_err(pyheap_list_get(fixture_heap, bytes, 0, &got), EINVAL);
	ck_err(pyheap_list_set(fixture_heap, bytes, 0, bytes), EINVAL);
	ck_err(pyheap_queue_pop(fixture_heap, list, &got, 0), EINVAL);
	ck_err(pyheap_queue_push(fixture_heap, list, bytes, 0), EINVAL);
	ck_assert_uint_eq(got, 7);
	ck_ok(pyheap_list_get(fixture_heap, list, 3, &got));
	ck_assert_uint_eq(got, 0);
	ck_ok(pyheap_list_new(fixture_heap, 0, &list));
	ck_err(pyheap_list_get(fixture_heap, list, 0, &got), ERANGE);
	ck_assert_int_eq(pyheap_refcount(fixture_heap, bytes), 1);
}
END_TEST

/* A list in a list in a list: dropped without a deep stack. */
START_TEST(test_deep_list)
{
	pyheap_ref inner, outer;

	ck_ok(pyheap_list_new(fixture_heap, 1, &inner));
	for (int i = 0; i < 200000; i++) {
		ck_ok(pyheap_list_new(fixture_heap, 1, &outer));
		ck_ok(pyheap_list_set(fixture_heap, outer, 0, inner));
		ck_ok(pyheap_decref(fixture_heap, inner));
		inner = outer;
	}
	ck_assert_uint_eq(n_objects(), 200001);
	ck_ok(pyheap_decref(fixture_heap, inner));
	ck_assert_uint_eq(n_objects(), 0);
}
END_TEST

/* Types. */

static const size_t slots[] = {0, 16};
static const pyheap_type_spec spec = {.name = "pair", .size = 24, .alignment = 64, .n_slots = 2, .slots = slots};

START_TEST(test_types)
{
	pyheap *other = fixture_open(&fx);
	pyheap_type_spec changed = spec;
	pyheap_type type, again;
	pyheap_ref pair, bytes, got;
	char name[PYHEAP_TYPE_NAME_MAX + 1];

	ck_ok(pyheap_type_register(fixture_heap, &spec, &type));
	ck_ok(pyheap_type_register(other, &spec, &again));
	ck_assert_uint_eq(type, again);
	changed.size = 32;
	ck_err(pyheap_type_register(other, &changed, &again), EEXIST);
	pyheap_close(other);
	ck_ok(pyheap_type_name(fixture_heap, type, name));
	ck_assert_str_eq(name, "pair");
	ck_ok(pyheap_type_name(fixture_heap, PYHEAP_BYTES, name));
	ck_assert_str_eq(name, "bytes");
	ck_err(pyheap_type_name(fixture_heap, 0, name), EINVAL);
	ck_err(pyheap_type_name(fixture_heap, type + 1, name), EINVAL);
	ck_err(pyheap_type_name(fixture_heap, UINT32_MAX, name), EINVAL);

	ck_ok(pyheap_new(fixture_heap, type, 0, &pair));
	ck_assert_int_eq(pyheap_size(fixture_heap, pair), 24);
	ck_assert_uint_eq((uintptr_t)pyheap_data(fixture_heap, pair) % 64, 0);
	ck_ok(pyheap_put(fixture_heap, "x", 1, &bytes));
	ck_ok(pyheap_slot_get(fixture_heap, pair, 16, &got));
	ck_assert_uint_eq(got, 0);
	ck_ok(pyheap_slot_set(fixture_heap, pair, 16, bytes));
	ck_assert_int_eq(pyheap_refcount(fixture_heap, bytes), 2);
	ck_ok(pyheap_slot_get(fixture_heap, pair, 16, &got));
	ck_assert_uint_eq(got, bytes);
	ck_ok(pyheap_decref(fixture_heap, got));
	for (size_t offset = 1; offset < 40; offset++)
		if (offset != 16)
			ck_err(pyheap_slot_set(fixture_heap, pair, offset, bytes), EINVAL);
	ck_err(pyheap_slot_get(fixture_heap, pair, SIZE_MAX, &got), EINVAL);
	ck_err(pyheap_slot_set(fixture_heap, bytes, 0, pair), EINVAL);
	ck_err(pyheap_list_set(fixture_heap, pair, 0, bytes), EINVAL);
	ck_ok(pyheap_decref(fixture_heap, pair));
	ck_assert_int_eq(pyheap_refcount(fixture_heap, bytes), 1);

	ck_ok(pyheap_new(fixture_heap, type, 100, &pair)); /* a flexible array follows */
	ck_assert_int_eq(pyheap_size(fixture_heap, pair), 100);
	ck_err(pyheap_new(fixture_heap, type, 23, &got), EINVAL);
	ck_err(pyheap_new(fixture_heap, type + 1, 8, &got), EINVAL);
	ck_err(pyheap_new(fixture_heap, 0, 8, &got), EINVAL);
	ck_err(pyheap_new(fixture_heap, PYHEAP_QUEUE, 64, &got), EINVAL);
	for (pyheap_type own = 4; own < 16; own++) /* the heap's own records are for nobody */
		ck_err(pyheap_new(fixture_heap, own, 64, &got), EINVAL);
}
END_TEST

START_TEST(test_specs_that_are_wrong)
{
	static const size_t unaligned[] = {4}, outside[] = {24}, twice[] = {8, 8}, descending[] = {16, 8};
	char long_name[PYHEAP_TYPE_NAME_MAX + 2];
	const struct {
		const char *name;
		size_t size, alignment, n_slots;
		const size_t *slots;
		int code;
	} rows[] = {
		{NULL, 24, 0, 0, NULL, EINVAL},
		{"", 24, 0, 0, NULL, EINVAL},
		{"\xff", 24, 0, 0, NULL, EINVAL},
		{long_name, 24, 0, 0, NULL, ENAMETOOLONG},
		{"bytes", 24, 0, 0, NULL, EEXIST},
		{"a", 0, 0, 0, NULL, EINVAL},
		{"a", 24, 3, 0, NULL, EINVAL},
		{"a", 24, 8192, 0, NULL, EINVAL},
		{"a", 24, 0, 1, NULL, EINVAL},
		{"a", 24, 0, 1, unaligned, EINVAL},
		{"a", 24, 0, 1, outside, EINVAL},
		{"a", 24, 0, 2, twice, EINVAL},
		{"a", 24, 0, 2, descending, EINVAL},
		{"a", 1 << 20, 0, PYHEAP_TYPE_SLOTS_MAX + 1, NULL, EINVAL},
	};
	pyheap_type type = 7;
	pyheap_stats stats;

	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		pyheap_type_spec wrong = {
			rows[i].name, rows[i].size, rows[i].alignment, rows[i].n_slots, rows[i].slots};
		int r = pyheap_type_register(fixture_heap, &wrong, &type);

		ck_assert_msg(r == -rows[i].code, "row %zu: %d", i, r);
	}
	ck_assert_uint_eq(type, 7);
	ck_ok(pyheap_stats(fixture_heap, &stats));
	ck_assert_uint_eq(stats.n_types, 0);
}
END_TEST

/* Names. */

START_TEST(test_names)
{
	char longest[PYHEAP_NAME_MAX + 2], name[PYHEAP_NAME_MAX + 1];
	uint64_t cursor = 0;
	pyheap_ref a, b, got;
	int n = 0;

	ck_ok(pyheap_put(fixture_heap, "a", 2, &a));
	ck_ok(pyheap_put(fixture_heap, "b", 2, &b));
	memset(longest, 'n', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	ck_err(pyheap_name_set(fixture_heap, longest, a), ENAMETOOLONG);
	longest[sizeof(longest) - 2] = '\0';
	ck_ok(pyheap_name_set(fixture_heap, longest, a));
	ck_ok(pyheap_name_get(fixture_heap, longest, &got));
	ck_assert_uint_eq(got, a);
	ck_ok(pyheap_decref(fixture_heap, got));
	ck_err(pyheap_name_set(fixture_heap, "", a), EINVAL);
	ck_err(pyheap_name_set(fixture_heap, "\xc3", a), EINVAL);
	ck_err(pyheap_name_set(fixture_heap, "\xed\xa0\x80", a), EINVAL); /* a surrogate */
	ck_err(pyheap_name_set(fixture_heap, "\xc0\x80", a), EINVAL);     /* overlong */
	ck_ok(pyheap_name_set(fixture_heap, "gr\xc3\xbc\xc3\x9f", a));
	ck_assert_int_eq(pyheap_refcount(fixture_heap, a), 3);

	ck_ok(pyheap_name_set(fixture_heap, longest, b)); /* over the old one */
	ck_assert_int_eq(pyheap_refcount(fixture_heap, a), 2);
	ck_assert_int_eq(pyheap_refcount(fixture_heap, b), 2);
	ck_ok(pyheap_decref(fixture_heap, b));
	ck_assert_str_eq(pyheap_data(fixture_heap, b), "b"); /* its name keeps it */

	while (pyheap_name_next(fixture_heap, &cursor, name, &got) == 1)
		n++;
	ck_assert_int_eq(n, 2);
	ck_err(pyheap_name_get(fixture_heap, "nothing", &got), ENOENT);
	ck_err(pyheap_name_del(fixture_heap, "nothing"), ENOENT);
	ck_ok(pyheap_name_del(fixture_heap, longest));
	ck_err(pyheap_size(fixture_heap, b), ESTALE);
	ck_err(pyheap_name_del(fixture_heap, longest), ENOENT);
}
END_TEST

START_TEST(test_many_names)
{
	char name[PYHEAP_NAME_MAX + 1];
	bool seen[3000] = {false};
	uint64_t cursor = 0;
	pyheap_ref ref;
	int i, n = 0, r;

	for (i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "name %d", i);
		ck_ok(pyheap_put(fixture_heap, &i, sizeof(i), &ref));
		ck_ok(pyheap_name_set(fixture_heap, name, ref));
		ck_ok(pyheap_decref(fixture_heap, ref));
	}
	while ((r = pyheap_name_next(fixture_heap, &cursor, name, &ref)) == 1) {
		ck_assert_int_eq(sscanf(name, "name %d", &i), 1);
		ck_assert_int_eq(*(int *)pyheap_data(fixture_heap, ref), i);
		ck_assert(!seen[i]);
		seen[i] = true;
		n++;
	}
	ck_ok(r);
	ck_assert_int_eq(n, 3000);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_objects");
	TCase *tcase = tcase_create("all");

	tcase_add_checked_fixture(tcase, fixture_setup_session, fixture_teardown_session);
	tcase_add_test(tcase, test_sizes);
	tcase_add_test(tcase, test_sizes_that_cannot_be);
	tcase_add_test(tcase, test_full);
	tcase_add_test(tcase, test_put);
	tcase_add_test(tcase, test_holds);
	tcase_add_test(tcase, test_many_holds);
	tcase_add_test(tcase, test_numbers_and_matrix);
	tcase_add_test(tcase, test_list_bounds);
	tcase_add_test(tcase, test_deep_list);
	tcase_add_test(tcase, test_types);
	tcase_add_test(tcase, test_specs_that_are_wrong);
	tcase_add_test(tcase, test_names);
	tcase_add_test(tcase, test_many_names);
	suite_add_tcase(suite, tcase);
	return fixture_main(suite);
}
