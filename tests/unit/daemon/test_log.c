// SPDX-License-Identifier: MIT
/*
 * The log: levels, lines that nobody can forge, and an allowance that each level has for itself
 */
#include "tests/unit/daemon/box.h"

#include "daemon/log.h"

#include <string.h>

#define MORE_THAN_ALLOWED 20000 /* as many as an hour allows */

static void setup(void)
{
	box_catch_log();
}

START_TEST(levels)
{
	int priority = -1;

	ck_assert_int_eq(log_parse_level("error", &priority), 0);
	ck_assert_int_eq(priority, LOG_ERR);
	ck_assert_int_eq(log_parse_level("debug", &priority), 0);
	ck_assert_int_eq(priority, LOG_DEBUG);
	ck_assert_int_eq(log_parse_level("", &priority), -EINVAL);
	ck_assert_int_eq(log_parse_level("Error", &priority), -EINVAL);
	ck_assert_int_eq(priority, LOG_DEBUG);

	log_debug("not by default");
	ck_assert(!box_logged("not by default"));
	log_set_level(LOG_DEBUG);
	log_debug("asked for");
	ck_assert(box_logged("asked for"));
	log_set_level(LOG_WARNING);
	log_notice("less than that");
	ck_assert(!box_logged("less than that"));
	log_warning("just that");
	ck_assert(box_logged("just that"));
}
END_TEST

/* What a client says stays one line. */
START_TEST(one_line)
{
	char s[3000];

	log_info("%s", "a\nb\x1b[2Jc\x7f");
	ck_assert(box_logged("a?b?[2Jc?\n"));
	memset(s, 'l', sizeof(s) - 1);
	s[sizeof(s) - 1] = '\0';
	log_info("%s", s);
	ck_assert(box_logged("lll\n"));
}
END_TEST

START_TEST(a_flood_leaves_room_for_others)
{
	for (int i = 0; i < MORE_THAN_ALLOWED; i++)
		log_info("line %d", i);
	ck_assert(log_catch_up()); /* some were left out, and that is not said yet */
	log_warning("of another level");
	ck_assert(box_logged("of another level"));
	log_info("after the flood");
	ck_assert(!box_logged("after the flood"));
}
END_TEST

/* A user who asks for debug wants all of it. */
START_TEST(debug_has_no_allowance)
{
	log_set_level(LOG_DEBUG);
	for (int i = 0; i < 1000; i++)
		log_debug("line %d", i);
	log_debug("the last one");
	ck_assert(box_logged("the last one"));
	ck_assert(!log_catch_up());
}
END_TEST

START_TEST(sizes)
{
	ck_assert_str_eq(log_size(UINT64_C(64) << 20), "64 MiB");
	ck_assert_str_eq(log_size(UINT64_C(1) << 30), "1 GiB");
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon log");
	TCase *t = tcase_create("log");

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, levels);
	tcase_add_test(t, one_line);
	tcase_add_test(t, a_flood_leaves_room_for_others);
	tcase_add_test(t, debug_has_no_allowance);
	tcase_add_test(t, sizes);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return box_main(suite);
}
