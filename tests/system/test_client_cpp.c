// SPDX-License-Identifier: MIT
/*
 * The calls as a C++ program makes them (header_use.cc), with a real daemon
 */
#include "fixture.h"

int header_use(pyheap *heap);

START_TEST(test_cpp)
{
	int line = header_use(fixture_heap);

	ck_assert_msg(line == 0, "header_use.cc, line %d", line);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client-cpp");
	TCase *tcase = tcase_create("cpp");

	tcase_add_checked_fixture(tcase, fixture_setup_session, fixture_teardown_session);
	tcase_add_test(tcase, test_cpp);
	suite_add_tcase(suite, tcase);
	return fixture_main(suite);
}
