// SPDX-License-Identifier: MIT
/*
 * client/process.c: memory that a forked child finds empty, and numbers that tell processes apart
 */
#include "client/process.h"

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 10000

static void ck_child_succeeds(pid_t pid)
{
	int status;

	ck_assert_int_ge(pid, 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}

START_TEST(test_map)
{
	static const char zeros[SIZE];
	void *memory;
	pid_t pid;

	ck_assert_int_eq(process_map(&memory, SIZE), 0);
	ck_assert_mem_eq(memory, zeros, SIZE);
	memset(memory, 'x', SIZE);
	pid = fork();
	if (pid == 0)
		_exit(memcmp(memory, zeros, SIZE) == 0 ? 0 : 1);
	ck_child_succeeds(pid);
	ck_assert_int_eq(((char *)memory)[SIZE - 1], 'x');
	ck_assert_int_eq(munmap(memory, SIZE), 0);
	ck_assert_int_lt(process_map(&memory, SIZE_MAX / 2), 0);
}
END_TEST

START_TEST(test_number)
{
	uint64_t number;
	pid_t pid;

	ck_assert_int_eq(process_identify(), 0);
	number = process_number();
	ck_assert_uint_ne(number, 0);
	ck_assert_int_eq(process_identify(), 0);
	ck_assert_uint_eq(process_number(), number);
	pid = fork();
	if (pid == 0) {
		bool was_none = process_number() == 0;

		/* A child's number is another than that of any process before it in its line. */
		_exit(was_none && process_identify() == 0 && process_number() > number ? 0 : 1);
	}
	ck_child_succeeds(pid);
	ck_assert_uint_eq(process_number(), number);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_process");
	TCase *tcase = tcase_create("process");
	SRunner *runner;
	int n_failed;

	tcase_add_test(tcase, test_map);
	tcase_add_test(tcase, test_number);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
