// SPDX-License-Identifier: MIT
/*
 * Slots of lists and of structs
 */
#include "tests/unit/heap/fixture.h"

static void expect_count(int64_t want, uint64_t ref)
{
	ck_assert_int_eq(object_refcount(S1, ref), want);
}

START_TEST(list_starts_empty)
{
	static const size_t lengths[] = {1, 2, 64, 65, 512, 5000, 100000};
	uint64_t list, got;

	/* also where the memory had something else in it before */
	for (size_t k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
		uint64_t dirty = fixture_bytes(S0, 8 * lengths[k]);

		memset(ref_data(dirty), 0xff, 8 * lengths[k]);
		fixture_drop(S0, dirty);
		list = fixture_list(S0, lengths[k]);
		for (size_t i = 0; i < lengths[k]; i += 1 + lengths[k] / 100) {
			got = 1;
			ck_assert_int_eq(CALL(S0, list_get(S0, list, i, &got)), 0);
			ck_assert_uint_eq(got, 0);
		}
		fixture_drop(S0, list);
	}
}
END_TEST

START_TEST(set_get_replace_clear)
{
	uint64_t list = fixture_list(S0, 3), a = fixture_bytes(S0, 1), b = fixture_bytes(S0, 2), got;

	MUST(S0, list_set(S0, list, 1, a));
	expect_count(2, a);
	MUST(S0, list_set(S0, list, 1, a)); /* what is there already */
	expect_count(2, a);
	MUST(S0, list_set(S0, list, 1, b));
	expect_count(1, a);
	expect_count(2, b);
	MUST(S1, list_get(S1, list, 1, &got));
	ck_assert_uint_eq(got, b);
	expect_count(3, b);
	MUST(S0, list_set(S0, list, 1, 0));
	expect_count(2, b);
	MUST(S1, list_get(S1, list, 1, &got));
	ck_assert_uint_eq(got, 0);
	ck_assert_uint_eq(hold_find(S1, b)->count, 1);
}
END_TEST

/* An object whose only right is a slot is put into that slot again. */
START_TEST(only_right_put_back)
{
	uint64_t list = fixture_list(S0, 1), a = fixture_bytes(S0, 1);

	MUST(S0, list_set(S0, list, 0, a));
	fixture_drop(S0, a);
	MUST(S0, list_set(S0, list, 0, a));
	expect_count(1, a);
	MUST(S0, list_set(S0, list, 0, 0));
	EXPECT(S0, -ESTALE, list_set(S0, list, 0, a));
}
END_TEST

/* Replacing drops a whole tree. */
START_TEST(replaced_tree_is_freed)
{
	uint64_t root = fixture_list(S0, 1), tree = fixture_list(S0, 20), leaf, got;

	for (uint64_t i = 0; i < 20; i++) {
		uint64_t branch = fixture_list(S0, 3);

		for (uint64_t k = 0; k < 3; k++) {
			leaf = fixture_bytes(S0, 100);
			MUST(S0, list_set(S0, branch, k, leaf));
			fixture_drop(S0, leaf);
		}
		MUST(S0, list_set(S0, tree, i, branch));
		fixture_drop(S0, branch);
	}
	MUST(S0, list_set(S0, root, 0, tree));
	fixture_drop(S0, tree);
	leaf = fixture_bytes(S0, 9);
	MUST(S0, list_set(S0, root, 0, leaf));
	EXPECT(S0, -ESTALE, list_get(S0, tree, 0, &got));
	ck_assert_uint_eq(fixture_stats().classes[class_of_size(100)].n_used, 0);
}
END_TEST

START_TEST(index_past_the_end)
{
	static const uint64_t bad[] = {
		3, 4, 64, UINT64_C(1) << 29, UINT64_C(1) << 61, (UINT64_C(1) << 61) + 1, UINT64_MAX};
	uint64_t list = fixture_list(S0, 3), none = fixture_list(S0, 0), a = fixture_bytes(S0, 1), got = 7;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		EXPECT(S0, -ERANGE, list_set(S0, list, bad[i], a));
		EXPECT(S0, -ERANGE, list_set(S0, list, bad[i], 0));
		EXPECT(S0, -ERANGE, list_get(S0, list, bad[i], &got));
	}
	EXPECT(S0, -ERANGE, list_get(S0, none, 0, &got));
	ck_assert_uint_eq(got, 7);
	expect_count(1, a);
}
END_TEST

START_TEST(offset_that_is_no_slot)
{
	static const size_t slots[] = {8, 24};
	static const uint64_t bad[] = {0, 1, 7, 9, 12, 16, 23, 25, 32, 40, 1000, (UINT64_C(1) << 32) + 8, UINT64_MAX};
	uint64_t object, a = fixture_bytes(S0, 1), got = 7;
	uint32_t type;

	MUST(S0, type_register(S0, &(struct type_spec){"pair", 40, 0, 2, slots}, &type));
	object = fixture_new(S0, type, 64);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		EXPECT(S0, -EINVAL, slot_set(S0, object, bad[i], a));
		EXPECT(S0, -EINVAL, slot_get(S0, object, bad[i], &got));
	}
	ck_assert_uint_eq(got, 7);
	expect_count(1, a);
	MUST(S0, slot_set(S0, object, 24, a));
	MUST(S0, slot_get(S0, object, 24, &got));
	ck_assert_uint_eq(got, a);
	expect_count(3, a);
}
END_TEST

/* A set that fails changes neither the slot nor any count. */
START_TEST(failed_set_changes_nothing)
{
	uint64_t list = fixture_list(S0, 1), a = fixture_bytes(S0, 1), gone = fixture_bytes(S0, 2), got;

	MUST(S0, list_set(S0, list, 0, a));
	fixture_drop(S0, gone);
	EXPECT(S0, -ESTALE, list_set(S0, list, 0, gone));
	EXPECT(S0, -EINVAL, list_set(S0, list, 0, UINT64_MAX));
	expect_count(2, a);
	MUST(S0, list_get(S0, list, 0, &got));
	ck_assert_uint_eq(got, a);
}
END_TEST

/* A client wrote rubbish over a slot: it is ignored, and harms nothing else. */
START_TEST(stray_write_over_slot)
{
	static const uint64_t rubbish[] = {1, UINT64_MAX, UINT64_C(0x4141414141414141), UINT64_C(1) << 36};
	uint64_t got = 7;

	for (size_t i = 0; i < sizeof(rubbish) / sizeof(rubbish[0]); i++) {
		uint64_t list = fixture_list(S0, 2);
		int r;

		memcpy(ref_data(list), &rubbish[i], 8);
		r = CALL(S0, list_get(S0, list, 0, &got));
		ck_assert(r == -EINVAL || r == -ESTALE);
		ck_assert_uint_eq(got, 7);
		if (i % 2)
			ck_assert_int_eq(list_set(S0, list, 0, 0), 0);
		ck_assert_int_eq(object_decref(S0, list), 0);
		fixture_check();
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("slot");
	TCase *t = tcase_create("slot");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, list_starts_empty);
	tcase_add_test(t, set_get_replace_clear);
	tcase_add_test(t, only_right_put_back);
	tcase_add_test(t, replaced_tree_is_freed);
	tcase_add_test(t, index_past_the_end);
	tcase_add_test(t, offset_that_is_no_slot);
	tcase_add_test(t, failed_set_changes_nothing);
	tcase_add_test(t, stray_write_over_slot);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
