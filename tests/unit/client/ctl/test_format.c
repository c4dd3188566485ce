// SPDX-License-Identifier: MIT
/*
 * client/ctl/format.c: pyheapctl's numbers and names
 */
#include "client/ctl/ctl.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(test_numbers)
{
	static const struct {
		uint64_t n;
		const char *text;
	} rows[] = {
		{0, "0"},
		{7, "7"},
		{999, "999"},
		{1000, "1,000"},
		{12345, "12,345"},
		{123456, "123,456"},
		{1234567, "1,234,567"},
		{1000000000, "1,000,000,000"},
		{UINT64_MAX, "18,446,744,073,709,551,615"},
	};
	char number[NUMBER_MAX];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		ck_assert_str_eq(format_number(rows[i].n, number), rows[i].text);
}
END_TEST

static void collect(void (*print)(FILE *file, const char *s), const char *s, char *ret, size_t size)
{
	FILE *file = fmemopen(ret, size, "w");

	ck_assert_ptr_nonnull(file);
	ret[0] = '\0'; /* where nothing is written, nothing is ended */
	print(file, s);
	ck_assert_int_eq(fclose(file), 0);
}

START_TEST(test_escapes)
{
	static const struct {
		const char *s, *escaped, *json;
		size_t width;
	} rows[] = {
		{"", "", "\"\"", 0},
		{"plain name", "plain name", "\"plain name\"", 10},
		{"a\nb", "a\\x0ab", "\"a\\u000ab\"", 6},
		{"\033[2J", "\\x1b[2J", "\"\\u001b[2J\"", 7},
		{"back\\slash", "back\\\\slash", "\"back\\\\slash\"", 11},
		{"say \"x\"", "say \"x\"", "\"say \\\"x\\\"\"", 7},
		{"\x7f", "\\x7f", "\"\\u007f\"", 4},
		{"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\"", 4},
		/* CSI as one character of C1: a terminal would obey it */
		{"\xc2\x9b", "\\xc2\\x9b", "\"\\u009b\"", 8},
		{"\x9b"
		 "1m",
			"\\x9b1m", "\"\\ufffd1m\"", 6},
		{"cut \xe2\x82", "cut \\xe2\\x82", "\"cut \\ufffd\\ufffd\"", 12},
		{"\xe2\x82\xac \xf0\x9f\x98\x80", "\xe2\x82\xac \xf0\x9f\x98\x80", "\"\xe2\x82\xac \xf0\x9f\x98\x80\"",
			3},
		{"\xc0\xaf", "\\xc0\\xaf", "\"\\ufffd\\ufffd\"", 8},
		{"\xed\xa0\x80", "\\xed\\xa0\\x80", "\"\\ufffd\\ufffd\\ufffd\"", 12},
		{"\xc2\xa0", "\xc2\xa0", "\"\xc2\xa0\"", 1},
	};
	char text[64];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		collect(print_escaped, rows[i].s, text, sizeof(text));
		ck_assert_str_eq(text, rows[i].escaped);
		ck_assert_uint_eq(escaped_width(rows[i].s), rows[i].width);
		collect(print_json, rows[i].s, text, sizeof(text));
		ck_assert_str_eq(text, rows[i].json);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ctl_format");
	TCase *tcase = tcase_create("all");
	SRunner *runner;
	int n_failed;

	tcase_add_test(tcase, test_numbers);
	tcase_add_test(tcase, test_escapes);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
