// SPDX-License-Identifier: MIT
/*
 * UTF-8: every border between good and malformed, every length
 */
#include "tests/unit/heap/fixture.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
	const char *s;
	int r;
} utf8_cases[] = {
	{"a", 1},
	{"", -EINVAL},
	{"\x7f", 1},
	{"\xc2\x80", 2},         /* U+0080 */
	{"\xdf\xbf", 2},         /* U+07FF */
	{"\xe0\xa0\x80", 3},     /* U+0800 */
	{"\xed\x9f\xbf", 3},     /* U+D7FF */
	{"\xee\x80\x80", 3},     /* U+E000 */
	{"\xef\xbf\xbf", 3},     /* U+FFFF */
	{"\xf0\x90\x80\x80", 4}, /* U+10000 */
	{"\xf4\x8f\xbf\xbf", 4}, /* U+10FFFF */
	{"z\xc3\xbc"
	 "rich",
		7},
	{"\x80", -EINVAL}, /* a continuation alone */
	{"\xbf", -EINVAL},
	{"\xc0\x80", -EINVAL}, /* NUL, overlong */
	{"\xc1\xbf", -EINVAL}, /* overlong */
	{"\xe0\x80\x80", -EINVAL},
	{"\xe0\x9f\xbf", -EINVAL},
	{"\xf0\x80\x80\x80", -EINVAL},
	{"\xf0\x8f\xbf\xbf", -EINVAL},
	{"\xed\xa0\x80", -EINVAL}, /* surrogates */
	{"\xed\xbf\xbf", -EINVAL},
	{"\xf4\x90\x80\x80", -EINVAL}, /* above U+10FFFF */
	{"\xf5\x80\x80\x80", -EINVAL},
	{"\xfe", -EINVAL},
	{"\xff", -EINVAL},
	{"\xc2", -EINVAL}, /* cut short */
	{"\xe0\xa0", -EINVAL},
	{"\xf0\x90\x80", -EINVAL},
	{"a\xc2", -EINVAL},
	{"\xc2"
	 "a",
		-EINVAL}, /* no continuation */
	{"\xe0\xa0"
	 "a",
		-EINVAL},
	{"\xe0"
	 "aa",
		-EINVAL},
	{"\xf0\x90\x80"
	 "a",
		-EINVAL},
	{"good \xf0\x9f\x98\x80 and then \xff", -EINVAL},
};

START_TEST(utf8)
{
	/* In an allocation of its very length, so that a reader beyond the end is seen. */
	char *copy = strdup(utf8_cases[_i].s);

	ck_assert_ptr_nonnull(copy);
	ck_assert_int_eq(utf8_check(copy, 255), utf8_cases[_i].r);
	free(copy);
}
END_TEST

START_TEST(utf8_lengths)
{
	char s[300];

	memset(s, 'x', sizeof(s));
	for (size_t n = 1; n < sizeof(s); n++) {
		s[n] = '\0';
		ck_assert_int_eq(utf8_check(s, 255), n <= 255 ? (int)n : -ENAMETOOLONG);
		s[n] = 'x';
	}
	/* A character that the limit would cut is too long, not malformed. */
	strcpy(s + 254, "\xc3\xbc");
	ck_assert_int_eq(utf8_check(s, 255), -ENAMETOOLONG);
	ck_assert_int_eq(utf8_check(s, 256), 256);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("utf8");
	TCase *t = tcase_create("utf8");

	tcase_add_loop_test(t, utf8, 0, (int)(sizeof(utf8_cases) / sizeof(utf8_cases[0])));
	tcase_add_test(t, utf8_lengths);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
