// SPDX-License-Identifier: MIT
/*
 * Room for objects until the heap is full
 */
#include "tests/unit/heap/fixture.h"

#include <inttypes.h>
#include <stdio.h>

/* The heap full of small objects: -ENOMEM, everything else works, and all of it comes back. */
START_TEST(heap_full)
{
	uint64_t list = 0, ref = 0, keep = fixture_bytes(S0, 64), n;
	int r = 0;

	/* all of them in one list, so that hold tables play no part */
	ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_LIST, 8 * 300000, &list)), 0);
	for (n = 0; n < 300000; n++) {
		r = CALL(S0, object_new(S0, TYPE_BYTES, 64, &ref));
		if (r < 0)
			break;
		ck_assert_int_eq(list_set(S0, list, n, ref), 0);
		ck_assert_int_eq(object_decref(S0, ref), 0);
	}
	ck_assert_int_eq(r, -ENOMEM);
	ck_assert_uint_gt(n, 150000);
	fixture_check();
	MUST(S0, object_incref(S0, keep));
	EXPECT(S0, -ENOMEM, object_new(S0, TYPE_BYTES, 5000, &ref));
	MUST(S0, list_set(S0, list, n / 2, 0));
	MUST(S0, object_new(S0, TYPE_BYTES, 64, &ref));
	fixture_drop(S0, list);
	fixture_drop(S0, ref);
	fixture_drop(S0, keep);
	fixture_drop(S0, keep);
	fixture_expect_empty();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("memory");
	TCase *t = tcase_create("memory");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, heap_full);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
