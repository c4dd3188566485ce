// SPDX-License-Identifier: MIT
/*
 * client/process.c: memory that a forked child finds empty, and numbers that tell processes apart
 */
#include "client/process.h"

#include "client/why.h"

#include <check.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
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

/* Have the kernel know no MADV_WIPEONFORK, as one that only resembles Linux. */
static bool forbid_wipe_on_fork(void)
{
	struct sock_filter lines[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])), /* its low half */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_WIPEONFORK, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(lines) / sizeof(*lines), lines};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

START_TEST(test_forbidden)
{
	void *memory = NULL;
	pid_t pid = fork();

	if (pid == 0)
		_exit(!forbid_wipe_on_fork() || (process_map(&memory, SIZE) == -EOPNOTSUPP && !memory &&
							strstr(why_last(), "MADV_WIPEONFORK"))
				? 0
				: 1);
	ck_child_succeeds(pid);
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
	tcase_add_test(tcase, test_forbidden);
	tcase_add_test(tcase, test_number);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
