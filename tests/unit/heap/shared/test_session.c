// SPDX-License-Identifier: MIT
/*
 * A view of a session
 */
#include "tests/unit/heap/fixture.h"

#include <dirent.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

START_TEST(session_views)
{
	struct session s;

	session_init(&s, fx.heap, 3);
	ck_assert_ptr_eq(s.entry, &fx.heap->sessions[3]);
	ck_assert_uint_eq(s.index, 3);
	ck_assert(!s.has_lock);
	session_init(&s, fx.heap, SESSION_DAEMON);
	ck_assert_ptr_null(s.entry);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("session");
	TCase *t = tcase_create("session");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, session_views);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
