// SPDX-License-Identifier: MIT
/*
 * Lock files: one process at a time has one, and nothing outlives it
 */
#include "tests/unit/daemon/box.h"

#include "daemon/guard.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_CHILDREN 4
#define N_TIMES    500

START_TEST(one_at_a_time)
{
	const char *path = box_path("one");
	struct stat st;
	int fd = guard_take(path, O_RDWR | O_CREAT);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(guard_take(path, O_RDWR), -EADDRINUSE);
	close(fd);
	fd = guard_take(path, O_RDWR);
	ck_assert_int_ge(fd, 0);
	close(fd);
}
END_TEST

START_TEST(given_up_by_death)
{
	const char *path = box_path("death");
	pid_t child = fork();
	int fd, status;

	if (child == 0)
		_exit(guard_take(path, O_RDWR | O_CREAT) < 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	fd = guard_take(path, O_RDWR);
	ck_assert_int_ge(fd, 0);
	close(fd);
}
END_TEST

START_TEST(what_cannot_be_opened)
{
	const char *path = box_path("link");

	ck_assert_int_eq(guard_take(box_path("none"), O_RDWR), -ENOENT);
	ck_assert_int_eq(guard_take(box_path("none/none"), O_RDWR | O_CREAT), -ENOENT);
	ck_assert_int_eq(symlink("one", path), 0);
	ck_assert_int_eq(guard_take(path, O_RDWR | O_CREAT), -ELOOP);
}
END_TEST

/* A file that was taken away is nobody's: the next one has a file of its own under that path. */
START_TEST(taken_away)
{
	const char *path = box_path("away");
	int first = guard_take(path, O_RDWR | O_CREAT), second;

	ck_assert_int_eq(unlink(path), 0);
	second = guard_take(path, O_RDWR | O_CREAT);
	ck_assert_int_ge(second, 0);
	ck_assert_int_eq(guard_take(path, O_RDWR), -EADDRINUSE);
	close(first);
	ck_assert_int_eq(guard_take(path, O_RDWR), -EADDRINUSE);
	close(second);
}
END_TEST

/* Has it, uses what only one may use, and takes the file away while it has it. */
static int contend(const char *path, uint32_t *n_inside)
{
	for (int i = 0; i < N_TIMES; i++) {
		int fd;

		do
			fd = guard_take(path, O_RDWR | O_CREAT);
		while (fd == -EADDRINUSE && sched_yield() == 0);
		if (fd < 0 || __atomic_add_fetch(n_inside, 1, __ATOMIC_SEQ_CST) != 1)
			return 1;
		__atomic_sub_fetch(n_inside, 1, __ATOMIC_SEQ_CST);
		unlink(path);
		close(fd);
	}
	return 0;
}

START_TEST(many_take_it_away)
{
	const char *path = box_path("many");
	uint32_t *n_inside = mmap(NULL, sizeof(*n_inside), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t children[N_CHILDREN];

	ck_assert_ptr_ne(n_inside, MAP_FAILED);
	for (int i = 0; i < N_CHILDREN; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			_exit(contend(path, n_inside));
		}
	}
	for (int i = 0; i < N_CHILDREN; i++) {
		int status = -1;

		ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
		ck_assert_int_eq(status, 0);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon guard");
	TCase *t = tcase_create("guard");

	tcase_add_test(t, one_at_a_time);
	tcase_add_test(t, given_up_by_death);
	tcase_add_test(t, what_cannot_be_opened);
	tcase_add_test(t, taken_away);
	tcase_add_test(t, many_take_it_away);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return box_main(suite);
}
