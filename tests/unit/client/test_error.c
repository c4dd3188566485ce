// SPDX-License-Identifier: MIT
/*
 * client/error.c: every errno that the header names has a sentence, and the version is the header's
 */
#include "client/session.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

START_TEST(test_strerror_covers_the_header)
{
	const char *general = pyheap_strerror(-4095);
	FILE *file = fopen(PYHEAP_HEADER, "r");
	char line[256], name[32];
	int n_found = 0;

	ck_assert_ptr_nonnull(file);
	while (fgets(line, sizeof(line), file)) {
		for (char *p = line; (p = strstr(p, "-E")); p++) {
			int error = 0;

			if (sscanf(p, "-%31[A-Z]", name) != 1)
				continue;
			for (int e = 1; e < 200; e++)
				if (strerrorname_np(e) && strcmp(strerrorname_np(e), name) == 0)
					error = e;
			ck_assert_msg(error > 0, "%s is no errno", name);
			ck_assert_msg(strcmp(pyheap_strerror(-error), general) != 0, "%s has no sentence", name);
			ck_assert_str_eq(pyheap_strerror(error), pyheap_strerror(-error));
			n_found++;
		}
	}
	fclose(file);
	ck_assert_int_gt(n_found, 40);
	ck_assert_str_ne(pyheap_strerror(0), general);
	ck_assert_ptr_nonnull(pyheap_strerror(INT32_MIN));
}
END_TEST

/* Made to follow a colon; and where an errno has two meanings, both are named. */
START_TEST(test_sentences)
{
	for (int error = 0; error < 200; error++) {
		const char *text = pyheap_strerror(-error);
		size_t n = strlen(text);

		ck_assert_msg(n > 5 && text[n - 1] != '.' && (text[0] < 'A' || text[0] > 'Z'), "%s", text);
	}
	ck_assert_ptr_nonnull(strstr(pyheap_strerror(-ENOENT), "no object has that name"));
	ck_assert_ptr_nonnull(strstr(pyheap_strerror(-ENOENT), "there is no such socket"));
}
END_TEST

START_TEST(test_version)
{
	char version[32];

	snprintf(
		version, sizeof(version), "%d.%d.%d", PYHEAP_VERSION_MAJOR, PYHEAP_VERSION_MINOR, PYHEAP_VERSION_PATCH);
	ck_assert_str_eq(pyheap_version(), version);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_error");
	TCase *tcase = tcase_create("all");
	SRunner *runner;
	int n_failed;

	tcase_add_test(tcase, test_strerror_covers_the_header);
	tcase_add_test(tcase, test_sentences);
	tcase_add_test(tcase, test_version);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
