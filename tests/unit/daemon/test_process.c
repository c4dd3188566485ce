// SPDX-License-Identifier: MIT
/*
 * Processes by pidfd: which one is at the other end of a socket, whether it still runs, and whether it is found again
 */
#include "tests/unit/daemon/box.h"

#include "daemon/process.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockaddr_un address;
static int listening;

/* A listening socket of the kernel's choice: no file is left of it. */
static void set_up(void)
{
	socklen_t size = sizeof(address);

	address.sun_family = AF_UNIX;
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(listening, 0);
	ck_assert_int_eq(bind(listening, (struct sockaddr *)&address, sizeof(address.sun_family)), 0);
	ck_assert_int_eq(getsockname(listening, (struct sockaddr *)&address, &size), 0);
	ck_assert_int_eq(listen(listening, 8), 0);
}

static int connect_to_it(void)
{
	socklen_t size = (socklen_t)(sizeof(address.sun_family) + 6); /* a NUL and five digits */
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && connect(fd, (struct sockaddr *)&address, size) == 0 ? fd : -1;
}

/* A child that has connected, and waits to be killed or ends. *ret is this end of the connection. */
static pid_t connected_child(bool ends, int *ret)
{
	pid_t child = fork();

	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (connect_to_it() < 0)
			_exit(1);
		while (!ends)
			pause();
		_exit(0);
	}
	*ret = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(*ret, 0);
	return child;
}

/* The kernel has seen its end, and nobody has waited for it. */
static void await_zombie(pid_t child)
{
	siginfo_t info;

	ck_assert_int_eq(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
}

START_TEST(own_process)
{
	struct process process, again;
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	ck_assert_int_eq(process_of_socket(&process, fds[0]), 0);
	ck_assert_int_eq(process.pid, getpid());
	ck_assert_uint_eq(process.uid, geteuid());
	ck_assert_uint_eq(process.gid, getegid());
	ck_assert_int_ge(process.pidfd, 0);
	ck_assert_uint_ne(process.start_time, 0);
	ck_assert(!process_ended(&process));
	ck_assert_int_eq(process_find(&again, process.pid, process.start_time), 0);
	ck_assert_int_ge(again.pidfd, 0);
	process_deinit(&again);
	process_deinit(&process);
	ck_assert_int_eq(process.pidfd, -1);
	process_deinit(&process); /* nothing */
	ck_assert(!process_ended(&process));
	ck_assert_int_eq(process_kill(&process), -ESRCH);
}
END_TEST

/* The process's name stands before the time in /proc/PID/stat, and may look like the end of itself. */
START_TEST(start_time_behind_any_name)
{
	struct process before, after;
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	ck_assert_int_eq(process_of_socket(&before, fds[0]), 0);
	ck_assert_int_eq(prctl(PR_SET_NAME, "a) R 1 (2 3"), 0);
	ck_assert_int_eq(process_of_socket(&after, fds[0]), 0);
	ck_assert_uint_eq(before.start_time, after.start_time);
	process_deinit(&before);
	process_deinit(&after);
}
END_TEST

START_TEST(killed_by_its_pidfd)
{
	struct process process;
	int fd, status;
	pid_t child = connected_child(false, &fd);

	ck_assert_int_eq(process_of_socket(&process, fd), 0);
	ck_assert_int_eq(process.pid, child);
	ck_assert(!process_ended(&process));
	ck_assert_int_eq(process_kill(&process), 0);
	await_zombie(child);
	ck_assert(process_ended(&process)); /* also when its parent has not waited for it */
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	ck_assert(process_ended(&process));
	ck_assert_int_eq(process_kill(&process), -ESRCH);
	process_deinit(&process);
	close(fd);
}
END_TEST

START_TEST(gone_already)
{
	struct process process;
	int fd;
	pid_t child = connected_child(true, &fd);

	await_zombie(child);
	ck_assert_int_eq(process_of_socket(&process, fd), -ESRCH);
	ck_assert_int_eq(process_find(&process, child, 0), -ESRCH);
	ck_assert_int_eq(waitpid(child, NULL, 0), child);
	ck_assert_int_eq(process_of_socket(&process, fd), -ESRCH);
	ck_assert_int_eq(process_find(&process, child, 0), -ESRCH);
	ck_assert_int_eq(process_find(&process, child, 12345), -ESRCH);
	close(fd);
}
END_TEST

/* A process that has another one's pid is not it. */
START_TEST(found_by_pid_and_time)
{
	struct process process;
	int fds[2];
	uint64_t start_time;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	ck_assert_int_eq(process_of_socket(&process, fds[0]), 0);
	start_time = process.start_time;
	process_deinit(&process);
	ck_assert_int_eq(process_find(&process, getpid(), start_time + 1), -ESRCH);
	ck_assert_int_eq(process_find(&process, getpid(), 0), 0); /* not known: nothing is certain */
	ck_assert_int_ge(process.pidfd, 0);
	process_deinit(&process);
	ck_assert_int_eq(process_find(&process, 0, start_time), 0);
	ck_assert_int_eq(process.pidfd, -1);
	ck_assert_int_eq(process.pid, 0);
}
END_TEST

static int tid_pipe[2];

static void *say_tid(void *userdata)
{
	pid_t tid = (pid_t)syscall(SYS_gettid);
	char byte;

	(void)userdata;
	ck_assert_int_eq(write(tid_pipe[1], &tid, sizeof(tid)), sizeof(tid));
	while (read(tid_pipe[1], &byte, 1) < 0)
		;
	return NULL;
}

/* The pid that a dead process had is a thread's now. */
START_TEST(no_thread)
{
	struct process process;
	pthread_t thread;
	pid_t tid;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, tid_pipe), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, say_tid, NULL), 0);
	ck_assert_int_eq(read(tid_pipe[0], &tid, sizeof(tid)), sizeof(tid));
	ck_assert_int_eq(process_find(&process, tid, 1), -ESRCH);
	ck_assert_int_eq(write(tid_pipe[0], "", 1), 1);
	pthread_join(thread, NULL);
}
END_TEST

START_TEST(groups)
{
	struct process process;
	gid_t list[65536];
	int fds[2], n;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	ck_assert_int_eq(process_of_socket(&process, fds[0]), 0);
	ck_assert(process_in_group(&process, fds[0], getegid()));
	n = getgroups(65536, list);
	for (int i = 0; i < n; i++)
		ck_assert(process_in_group(&process, fds[0], list[i]));
	ck_assert(!process_in_group(&process, fds[0], 4000000000U));
	process_deinit(&process);
}
END_TEST

START_TEST(no_socket)
{
	struct process process = {.pidfd = 77};
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	ck_assert_int_eq(process_of_socket(&process, fd), -ENOTSOCK);
	ck_assert_int_eq(process.pidfd, 77); /* nothing was stored */
	close(fd);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon process");
	TCase *t = tcase_create("process");

	tcase_add_checked_fixture(t, set_up, NULL);
	tcase_add_test(t, own_process);
	tcase_add_test(t, start_time_behind_any_name);
	tcase_add_test(t, killed_by_its_pidfd);
	tcase_add_test(t, gone_already);
	tcase_add_test(t, found_by_pid_and_time);
	tcase_add_test(t, no_thread);
	tcase_add_test(t, groups);
	tcase_add_test(t, no_socket);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	if (syscall(SYS_pidfd_open, getpid(), 0U) < 0 && errno == ENOSYS)
		return 77; /* under valgrind, which does not know it */
	return box_main(suite);
}
