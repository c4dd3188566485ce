// SPDX-License-Identifier: MIT
/*
 * The last right to an object goes: what its slots held is dropped, however deep, in bounded steps
 */
#include "tests/unit/heap/fixture.h"

#include <inttypes.h>
#include <stdio.h>

/* A list of a list of a list ...: freed without a deep stack, in bounded steps. */
static uint64_t chain_new(uint64_t depth)
{
	uint64_t outer = 0, inner = 0;

	for (uint64_t i = 0; i < depth; i++) {
		ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_LIST, 8, &outer)), 0);
		if (inner) {
			ck_assert_int_eq(list_set(S0, outer, 0, inner), 0);
			ck_assert_int_eq(object_decref(S0, inner), 0);
		}
		inner = outer;
	}
	return outer;
}

START_TEST(chain_freed)
{
	uint64_t chain = chain_new(fixture_ops(1000000));

	fixture_drop(S0, chain);
	fixture_expect_empty();
}
END_TEST

/* The owner drops its hold, and holds the object again: by its table, as other sessions do. */
static void hold_by_table(struct session *session, uint64_t ref)
{
	uint64_t list = fixture_list(S0, 1), got;

	MUST(S0, list_set(S0, list, 0, ref));
	fixture_drop(S0, ref);
	MUST(session, list_get(session, list, 0, &got));
	fixture_drop(S0, list);
	ck_assert_uint_eq(hold_find(session, ref)->count, 1);
}

/* Step by step: after each step the heap is whole. 0: the owner frees the chain, 1: another session does. */
START_TEST(chain_freed_in_bounded_steps)
{
	struct session *last = _i ? S1 : S0;
	uint64_t depth = 3000, n_steps = 0, chain = chain_new(depth);
	struct object object;
	int r;

	hold_by_table(last, chain);
	ck_assert_int_eq(change_begin(last), 0);
	ck_assert_int_eq(object_find(fx.heap, chain, &object), 0);
	ck_assert(hold_remove(last, hold_find(last, chain)));
	ck_assert_int_eq(change_end(last, right_drop(last, &object)), 0);
	fixture_expect_gone(chain);
	do {
		r = dying_step(last, true);
		ck_assert_int_ge(r, 0);
		if (n_steps++ % 64 == 0)
			fixture_check();
	} while (r == 1);
	ck_assert_uint_ge(n_steps, 30);
	fixture_expect_empty();
}
END_TEST

START_TEST(wide_list_freed)
{
	const uint64_t n = 100000;
	uint64_t list = 0, shared = fixture_bytes(S0, 8), ref;

	ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_LIST, 8 * n, &list)), 0);
	for (uint64_t i = 0; i < n; i++) {
		if (i % 3) {
			ck_assert_int_eq(list_set(S0, list, i, shared), 0);
			continue;
		}
		ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_BYTES, 16, &ref)), 0);
		ck_assert_int_eq(list_set(S0, list, i, ref), 0);
		ck_assert_int_eq(object_decref(S0, ref), 0);
	}
	fixture_expect_count(1 + (int64_t)n - (int64_t)(n + 2) / 3, shared);
	ck_assert_int_eq(CALL(S0, list_set(S0, list, n, shared)), -ERANGE);
	fixture_drop(S0, list);
	fixture_expect_count(1, shared);
	fixture_drop(S0, shared);
	fixture_expect_empty();
}
END_TEST

/* A child of many parents goes with the last of them. */
START_TEST(shared_child)
{
	uint64_t child = fixture_list(S0, 1), leaf = fixture_bytes(S0, 30), parents[20];

	MUST(S0, list_set(S0, child, 0, leaf));
	fixture_drop(S0, leaf);
	for (int i = 0; i < 20; i++) {
		parents[i] = fixture_list(S0, 4);
		MUST(S0, list_set(S0, parents[i], 1, child));
		MUST(S0, list_set(S0, parents[i], 3, child));
	}
	fixture_drop(S0, child);
	for (int i = 0; i < 20; i++) {
		fixture_expect_count(40 - 2 * i, child);
		fixture_drop(S0, parents[i]);
	}
	fixture_expect_gone(child);
	fixture_expect_gone(leaf);
	fixture_expect_empty();
}
END_TEST

/* Counting finds no cycles: what refers to itself stays until that slot is emptied. */
START_TEST(cycle_stays)
{
	uint64_t list = fixture_list(S0, 1);

	MUST(S0, list_set(S0, list, 0, list));
	fixture_expect_count(2, list);
	fixture_drop(S0, list);
	fixture_expect_count(1, list);
	MUST(S0, list_set(S0, list, 0, 0)); /* and takes the list with it, whose slot it is */
	fixture_expect_gone(list);
	fixture_expect_empty();
}
END_TEST

START_TEST(struct_with_slots)
{
	const size_t slots[] = {8, 24};
	uint64_t a = fixture_bytes(S0, 5), b = fixture_list(S0, 2), object, got;
	uint32_t type;

	MUST(S0, type_register(S0, &(struct type_spec){"pair", 40, 0, 2, slots}, &type));
	object = fixture_new(S0, type, 0);
	MUST(S0, slot_get(S0, object, 8, &got));
	ck_assert_uint_eq(got, 0);
	memset(ref_data(object), 0xab, 8);
	memset(ref_data(object) + 16, 0xab, 8); /* bytes beside the slots are the user's own */
	memset(ref_data(object) + 32, 0xab, 8);
	MUST(S0, slot_set(S0, object, 8, a));
	MUST(S0, slot_set(S0, object, 24, b));
	MUST(S0, list_set(S0, b, 0, a));
	fixture_expect_count(3, a);
	fixture_expect_count(2, b);
	fixture_drop(S0, a);
	fixture_drop(S0, b);
	fixture_drop(S0, object);
	fixture_expect_gone(a);
	fixture_expect_gone(b);
	fixture_expect_empty();
}
END_TEST

START_TEST(deallocated_by_type)
{
	/* The ref of `child` in every word of two objects: only that in slots is dropped. */
	uint64_t child = fixture_bytes(S0, 8), plain = fixture_bytes(S0, 64), list = fixture_list(S0, 8);

	for (size_t i = 0; i < 8; i++) {
		memcpy(ref_data(plain) + 8 * i, &child, 8);
		MUST(S0, list_set(S0, list, i, child));
	}
	fixture_expect_count(9, child);
	fixture_drop(S0, plain);
	fixture_expect_count(9, child);
	fixture_drop(S0, list);
	fixture_expect_count(1, child);
}
END_TEST

static void open_large(void)
{
	fixture_open_geometry(&(struct heap_geometry){
		.heap_size = UINT64_C(96) << 20, .arena_size = ARENA_SIZE_DEFAULT, .n_sessions = FIXTURE_SESSIONS});
}

static Suite *suite(void)
{
	Suite *s = suite_create("dying");
	TCase *t = tcase_create("dying"), *u = tcase_create("open_large");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, chain_freed_in_bounded_steps, 0, 2);
	tcase_add_test(t, wide_list_freed);
	tcase_add_test(t, shared_child);
	tcase_add_test(t, cycle_stays);
	tcase_add_test(t, struct_with_slots);
	tcase_add_test(t, deallocated_by_type);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(u, open_large, fixture_close);
	tcase_add_test(u, chain_freed);
	suite_add_tcase(s, u);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
