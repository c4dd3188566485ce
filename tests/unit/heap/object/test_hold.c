// SPDX-License-Identifier: MIT
/*
 * Hold tables: one session's many holds, growing, shrinking, rehashing
 *
 * A session holds by the header what it made itself, so all objects here that it holds by its table were made by
 * another session.
 */
#include "tests/unit/heap/fixture.h"

static uint32_t table_length(const struct session *session)
{
	uint32_t n;

	ck_assert_ptr_nonnull(hold_table(fx.heap, session->entry, &n));
	return n;
}

/* Objects without a check of the whole heap after each. */
static void make(struct session *session, uint64_t *refs, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		ck_assert_int_eq(CALL(session, object_new(session, TYPE_BYTES, 8, &refs[i])), 0);
}

/* An object that S1 made and S0 alone holds. */
static void make_and_take(uint64_t *refs, uint32_t n)
{
	make(S1, refs, n);
	for (uint32_t i = 0; i < n; i++) {
		ck_assert_int_eq(CALL(S0, object_incref(S0, refs[i])), 0);
		ck_assert_int_eq(object_decref(S1, refs[i]), 0);
	}
}

START_TEST(found_and_counted)
{
	uint64_t ref;

	make_and_take(&ref, 1);
	ck_assert_ptr_null(hold_find(S1, ref));
	ck_assert_ptr_null(hold_find(S0, 0));
	ck_assert_ptr_null(hold_find(S0, 1));
	ck_assert_ptr_null(hold_find(S0, ref + 1));
	ck_assert_uint_eq(hold_find(S0, ref)->ref, ref);
	for (uint32_t i = 1; i < 10; i++) {
		ck_assert_uint_eq(hold_find(S0, ref)->count, i);
		ck_assert_uint_eq(S0->entry->n_holds, 1);
		MUST(S0, object_incref(S0, ref));
	}
	/* The object itself counts the session once. */
	ck_assert_uint_eq(ref_rights(ref), 1);
	MUST(S2, object_incref(S2, ref));
	ck_assert_uint_eq(ref_rights(ref), 2);
	ck_assert_uint_eq(ref_own(ref), 0);
	for (uint32_t i = 10; i > 0; i--) {
		ck_assert_uint_eq(hold_find(S0, ref)->count, i);
		fixture_drop(S0, ref);
	}
	ck_assert_ptr_null(hold_find(S0, ref));
	ck_assert_uint_eq(S0->entry->n_holds, 0);
}
END_TEST

/* Around the size at which the table leaves the session's entry, with a check after each step. */
START_TEST(grows_out_of_its_entry)
{
	uint64_t refs[2 * HOLDS_INLINE];

	for (uint32_t i = 0; i < 2 * HOLDS_INLINE; i++) {
		make_and_take(&refs[i], 1);
		fixture_check();
		ck_assert_uint_eq(S0->entry->n_holds, i + 1);
		ck_assert_uint_gt(table_length(S0), i + 1);
		for (uint32_t k = 0; k <= i; k++)
			ck_assert_uint_eq(hold_find(S0, refs[k])->count, 1);
	}
	ck_assert_uint_ne(S0->entry->holds_position1, 0);
	ck_assert_uint_eq(S0->entry->new_holds_position1, 0);
	for (uint32_t i = 0; i < 2 * HOLDS_INLINE; i++)
		fixture_drop(S0, refs[i]);
	fixture_trim(0);
	ck_assert_uint_eq(S0->entry->holds_position1, 0); /* and came back */
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

START_TEST(a_hundred_thousand)
{
	uint32_t n = (uint32_t)fixture_ops(100000);
	uint64_t *refs = calloc(n, sizeof(*refs));

	ck_assert_ptr_nonnull(refs);
	make_and_take(refs, n);
	fixture_check();
	ck_assert_uint_eq(S0->entry->n_holds, n);
	for (uint32_t i = 0; i < n; i++) {
		const struct hold *hold = hold_find(S0, refs[i]);

		ck_assert(hold && hold->count == 1);
	}
	/* Every second hold is dropped: the others are found, and the table does not grow. */
	for (uint32_t i = 0; i < n; i += 2)
		ck_assert_int_eq(object_decref(S0, refs[i]), 0);
	fixture_check();
	for (uint32_t i = 0; i < n; i++)
		ck_assert_int_eq(!!hold_find(S0, refs[i]), i % 2);
	for (uint32_t i = 1; i < n; i += 2)
		ck_assert_int_eq(object_decref(S0, refs[i]), 0);
	fixture_check();
	ck_assert_uint_eq(S0->entry->n_holds, 0);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
	free(refs);
}
END_TEST

/* Thousands of holds come and go, a few at a time: the table stays small. */
START_TEST(churn_stays_small)
{
	uint64_t kept[20], ref;

	make_and_take(kept, 20);
	for (uint64_t i = 0; i < fixture_ops(50000); i++) {
		make_and_take(&ref, 1);
		ck_assert_int_eq(object_decref(S0, ref), 0);
		ck_assert_uint_le(table_length(S0), 256);
		if (i % 100 == 0)
			fixture_check();
	}
	for (uint32_t i = 0; i < 20; i++)
		ck_assert_uint_eq(hold_find(S0, kept[i])->count, 1);
}
END_TEST

/* Random holds and drops, compared with an array, as the table grows and shrinks. */
START_TEST(random_holds)
{
	enum { N = 600 };
	static uint64_t refs[N];
	static uint32_t counts[N];
	uint32_t target = 300;

	fixture_seed();
	make(S1, refs, N);
	for (uint64_t op = 0, n = fixture_ops(60000); op < n; op++) {
		uint32_t i = fixture_below(N);

		if (op % 5000 == 0)
			target = fixture_below(N); /* how many of them are held, about */
		if (i < target) {
			ck_assert_int_eq(CALL(S0, object_incref(S0, refs[i])), 0);
			counts[i]++;
		} else {
			ck_assert_int_eq(object_decref(S0, refs[i]), counts[i] ? 0 : -EPERM);
			counts[i] -= !!counts[i];
		}
		ck_assert_uint_eq(hold_find(S0, refs[i]) ? hold_find(S0, refs[i])->count : 0, counts[i]);
		if (op % 200 == 0)
			fixture_check();
	}
	for (uint32_t i = 0; i < N; i++)
		for (; counts[i]; counts[i]--)
			ck_assert_int_eq(object_decref(S0, refs[i]), 0);
	fixture_check();
	ck_assert_uint_eq(S0->entry->n_holds, 0);
}
END_TEST

/* A table cannot grow: -ENOMEM, and all holds stay. What the session makes itself needs no table. */
START_TEST(no_room_to_grow)
{
	uint64_t refs[HOLDS_INLINE], large = 0, theirs, got = 5, list, own;
	uint32_t n = 0;
	int r = 0;

	theirs = fixture_bytes(S1, 8);
	list = fixture_list(S1, 1);
	MUST(S1, list_set(S1, list, 0, theirs));
	make(S1, refs, HOLDS_INLINE);
	ck_assert_int_eq(CALL(S1, object_new(S1, TYPE_BYTES, FIXTURE_HEAP_SIZE - ARENA_SIZE_DEFAULT, &large)), 0);
	for (; n < HOLDS_INLINE && r >= 0; n += r >= 0)
		r = CALL(S0, object_incref(S0, refs[n]));
	ck_assert_int_eq(r, -ENOMEM);
	ck_assert_uint_ge(n, HOLDS_INLINE / 2);
	EXPECT(S0, -ENOMEM, object_incref(S0, theirs));
	EXPECT(S0, -ENOMEM, list_get(S0, list, 0, &got));
	ck_assert_uint_eq(got, 5);
	for (uint32_t i = 0; i < n; i++)
		ck_assert_uint_eq(hold_find(S0, refs[i])->count, 1);
	own = fixture_bytes(S0, 8);
	MUST(S0, object_incref(S0, own));
	/* Dropping needs none, and then there is room again. */
	for (uint32_t i = 0; i < n / 2; i++)
		fixture_drop(S0, refs[i]);
	MUST(S0, object_incref(S0, theirs));
	MUST(S0, list_get(S0, list, 0, &got));
	ck_assert_uint_eq(got, theirs);
}
END_TEST

/* A damaged position of the table is noticed and not followed. */
START_TEST(damaged_table_position)
{
	uint64_t ref;
	uint32_t n;

	make_and_take(&ref, 1);
	S0->entry->holds_shift = 63;
	S0->entry->holds_position1 = 1;
	ck_assert_ptr_null(hold_table(fx.heap, S0->entry, &n));
	S0->entry->holds_shift = 0;
	ck_assert_ptr_null(hold_table(fx.heap, S0->entry, &n));
	ck_assert_ptr_null(hold_find(S0, ref));
	S0->entry->holds_shift = 10;
	S0->entry->holds_position1 = FIXTURE_HEAP_SIZE / 8 - 5;
	ck_assert_ptr_null(hold_table(fx.heap, S0->entry, &n));
	S0->entry->holds_position1 = UINT64_MAX;
	ck_assert_ptr_null(hold_table(fx.heap, S0->entry, &n));
	ck_assert_ptr_null(hold_find(S0, ref));
	ck_assert_int_eq(object_decref(S0, ref), -EPERM);
	S0->entry->holds_position1 = 0;
	S0->entry->holds_shift = 0;
	fixture_check();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("hold");
	TCase *t = tcase_create("hold");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, found_and_counted);
	tcase_add_test(t, grows_out_of_its_entry);
	tcase_add_test(t, a_hundred_thousand);
	tcase_add_test(t, churn_stays_small);
	tcase_add_test(t, random_holds);
	tcase_add_test(t, no_room_to_grow);
	tcase_add_test(t, damaged_table_position);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
