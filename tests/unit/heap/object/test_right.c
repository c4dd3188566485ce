// SPDX-License-Identifier: MIT
/*
 * Rights to an object: what the reference count is, who may drop, how far it counts
 */
#include "tests/unit/heap/fixture.h"

/*
 * The example of the introductions to CPython:
 *	numbers = [1, 2]
 *	more_numbers = numbers
 *	matrix = [numbers, numbers, numbers]
 */
struct example {
	uint64_t numbers, one, two, matrix;
};

/* numbers = [1, 2] */
static struct example example_numbers(void)
{
	struct example e = {0};

	e.one = fixture_bytes(S0, 8);
	e.two = fixture_bytes(S0, 8);
	e.numbers = fixture_list(S0, 2);
	MUST(S0, list_set(S0, e.numbers, 0, e.one));
	MUST(S0, list_set(S0, e.numbers, 1, e.two));
	fixture_drop(S0, e.one);
	fixture_drop(S0, e.two);
	return e;
}

/* In which order the three names go: 0 numbers, 1 more_numbers, 2 matrix. */
static const int drop_orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

START_TEST(example_dropped_in_every_order)
{
	struct example e = example_numbers();
	int64_t count = 5;

	fixture_expect_count(1, e.one);
	fixture_expect_count(1, e.numbers);
	MUST(S1, object_incref(S1, e.numbers)); /* more_numbers is another session's */
	fixture_expect_count(2, e.numbers);
	MUST(S0, object_incref(S0, e.numbers)); /* the argument of a call */
	fixture_expect_count(3, e.numbers);
	fixture_drop(S0, e.numbers);
	e.matrix = fixture_list(S0, 3);
	for (uint64_t i = 0; i < 3; i++)
		MUST(S0, list_set(S0, e.matrix, i, e.numbers));
	fixture_expect_count(1, e.matrix);
	fixture_expect_count(1, e.one);
	for (int i = 0; i < 3; i++) {
		int what = drop_orders[_i][i];

		fixture_expect_count(count, e.numbers);
		fixture_drop(what == 1 ? S1 : S0, what == 2 ? e.matrix : e.numbers);
		count -= what == 2 ? 3 : 1;
	}
	ck_assert_int_eq(count, 0);
	fixture_expect_gone(e.numbers);
	fixture_expect_gone(e.one);
	fixture_expect_gone(e.two);
	fixture_expect_gone(e.matrix);
	fixture_expect_empty();
}
END_TEST

START_TEST(counts_over_sessions)
{
	uint64_t ref = fixture_bytes(S0, 100), list = fixture_list(S1, 1), queue, got;

	for (int i = 0; i < 9; i++)
		MUST(S0, object_incref(S0, ref));
	fixture_expect_count(10, ref);
	MUST(S1, object_incref(S1, ref));
	MUST(S1, object_incref(S1, ref));
	fixture_expect_count(12, ref);
	MUST(S1, list_set(S1, list, 0, ref));
	fixture_expect_count(13, ref);
	MUST(S1, name_set(S1, "r", ref));
	fixture_expect_count(14, ref);
	MUST(S1, queue_new(S1, 1, &queue));
	MUST(S1, queue_push(S1, queue, ref, 0)); /* one of the session's holds becomes the queue's */
	fixture_expect_count(14, ref);
	MUST(S2, queue_pop(S2, queue, &got, 0));
	ck_assert_uint_eq(got, ref);
	fixture_expect_count(14, ref);
	for (int i = 0; i < 10; i++)
		fixture_drop(S0, ref);
	ck_assert_int_eq(object_decref(S0, ref), -EPERM);
	fixture_expect_count(4, ref);
	fixture_drop(S1, ref);
	MUST(S1, name_del(S1, "r"));
	MUST(S1, list_set(S1, list, 0, 0));
	fixture_expect_count(1, ref);
	fixture_drop(S2, ref);
	fixture_expect_gone(ref);
	fixture_drop(S1, list);
	fixture_drop(S1, queue);
	fixture_expect_empty();
}
END_TEST

START_TEST(decref_more_often_than_held)
{
	uint64_t ref = fixture_bytes(S0, 10);

	EXPECT(S1, -EPERM, object_decref(S1, ref));
	fixture_expect_count(1, ref);
	MUST(S1, object_incref(S1, ref));
	fixture_drop(S0, ref);
	EXPECT(S0, -EPERM, object_decref(S0, ref));
	fixture_expect_count(1, ref);
	fixture_drop(S1, ref);
	EXPECT(S1, -ESTALE, object_decref(S1, ref));
	EXPECT(S0, -ESTALE, object_decref(S0, ref));
	fixture_expect_empty();
}
END_TEST

START_TEST(held_too_often)
{
	uint64_t ref = fixture_bytes(S0, 10);

	MUST(S1, object_incref(S1, ref));
	hold_find(S1, ref)->count = UINT32_MAX - 1;
	MUST(S1, object_incref(S1, ref));
	EXPECT(S1, -EOVERFLOW, object_incref(S1, ref));
	ck_assert_int_eq(object_refcount(S0, ref), (int64_t)UINT32_MAX + 1);
	MUST(S0, object_incref(S0, ref));
	ck_assert_int_eq(object_refcount(S0, ref), (int64_t)UINT32_MAX + 2);
}
END_TEST

/* Its owner counts in the header as far as that goes, then in its table. */
START_TEST(held_too_often_by_its_owner)
{
	uint64_t ref = fixture_bytes(S0, 10);
	const int64_t n = OWN_HOLDS_MAX;

	for (int64_t i = 1; i < n + 1; i++)
		MUST(S0, object_incref(S0, ref));
	hold_find(S0, ref)->count = UINT32_MAX - 1;
	MUST(S0, object_incref(S0, ref));
	EXPECT(S0, -EOVERFLOW, object_incref(S0, ref));
	ck_assert_int_eq(object_refcount(S0, ref), n + UINT32_MAX);
	MUST(S1, object_incref(S1, ref));
	ck_assert_int_eq(object_refcount(S0, ref), n + UINT32_MAX + 1);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("right");
	TCase *t = tcase_create("right");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, example_dropped_in_every_order, 0, 6);
	tcase_add_test(t, counts_over_sessions);
	tcase_add_test(t, decref_more_often_than_held);
	tcase_add_test(t, held_too_often);
	tcase_add_test(t, held_too_often_by_its_owner);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
