// SPDX-License-Identifier: MIT
/*
 * The listening socket: bound where nobody listens, taken over from systemd, and gone in the end
 */
#include "tests/unit/daemon/box.h"

#include "daemon/listener.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct listener listener;

static void set_up(void)
{
	box_catch_log();
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
}

static int open_at(const char *path)
{
	return listener_open(&listener, &(struct listener_options){.path = path});
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* A socket that listens at path, of no daemon. */
static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0)
		return -1;
	return fd;
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	return st.st_mode & 0777;
}

static bool is_there(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

START_TEST(bound_and_gone)
{
	const char *path = box_path("s"), *lock = box_path("s.lock");
	int fd, accepted;

	ck_assert_int_eq(open_at(path), 0);
	ck_assert_uint_eq(mode_of(path), 0600);
	ck_assert_int_eq(listener_accept(&listener), -EAGAIN);
	fd = connect_to(path);
	ck_assert_int_ge(fd, 0);
	accepted = listener_accept(&listener);
	ck_assert_int_ge(accepted, 0);
	ck_assert_int_eq(fcntl(accepted, F_GETFD), FD_CLOEXEC);
	ck_assert(fcntl(accepted, F_GETFL) & O_NONBLOCK);
	ck_assert_int_eq(listener_accept(&listener), -EAGAIN);
	close(fd);
	close(accepted);
	ck_assert(is_there(lock));
	listener_close(&listener);
	ck_assert(!is_there(path) && !is_there(lock));
	listener_close(&listener); /* nothing */
}
END_TEST

START_TEST(one_daemon_a_path)
{
	const char *path = box_path("s");
	struct listener other;

	ck_assert_int_eq(open_at(path), 0);
	ck_assert_int_eq(listener_open(&other, &(struct listener_options){.path = path}), -EADDRINUSE);
	ck_assert(box_logged("another pyheapd serves"));
	ck_assert_int_ge(connect_to(path), 0); /* the first one has lost nothing */
	listener_close(&listener);
}
END_TEST

START_TEST(what_a_dead_daemon_left)
{
	const char *path = box_path("s"), *lock = box_path("s.lock");
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(open_at(path) < 0); /* and takes nothing away */
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert(is_there(path) && is_there(lock));
	ck_assert_int_eq(open_at(path), 0);
	ck_assert(box_logged("replacing"));
	ck_assert_int_ge(connect_to(path), 0);
	listener_close(&listener);
}
END_TEST

START_TEST(what_is_another_ones)
{
	const char *path = box_path("other");
	int fd = listen_at(path);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(open_at(path), -EADDRINUSE);
	ck_assert(box_logged("another program listens"));
	while (connect_to(path) >= 0) /* until its backlog is full */
		;
	ck_assert_int_eq(open_at(path), -EADDRINUSE);
	close(fd);

	path = box_path("file");
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	ck_assert_int_eq(open_at(path), -EEXIST);
	ck_assert(box_logged("is no socket"));
	ck_assert(is_there(path));
}
END_TEST

START_TEST(bad_paths)
{
	char path[200];

	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	ck_assert_int_eq(open_at(path), -ENAMETOOLONG);
	ck_assert(box_logged("give a shorter"));
	ck_assert_int_eq(open_at(box_path("none/s")), -ENOENT);
	ck_assert(box_logged("is missing"));
	ck_assert_int_eq(listener.fd, -1);
	ck_assert_int_eq(listener.guard_fd, -1);
}
END_TEST

START_TEST(default_folder_is_made)
{
	const char *path = box_path("run/s");
	const struct listener_options options = {.path = path, .make_folder = true};

	ck_assert_int_eq(listener_open(&listener, &options), 0);
	ck_assert_uint_eq(mode_of(box_path("run")), 0755);
	listener_close(&listener);
	ck_assert_int_eq(listener_open(&listener, &options), 0); /* it is there now */
	listener_close(&listener);
}
END_TEST

START_TEST(given_to_a_group)
{
	const char *path = box_path("s");
	struct listener_options options = {.path = path, .has_group = true, .group = getegid()};

	ck_assert_int_eq(listener_open(&listener, &options), 0);
	ck_assert_uint_eq(mode_of(path), 0660);
	listener_close(&listener);
	if (geteuid() == 0)
		return; /* who may give it to any group */
	options.group = 4000000000U;
	ck_assert_int_eq(listener_open(&listener, &options), -EPERM);
	ck_assert(!is_there(path));
}
END_TEST

/* In a child, since systemd's descriptors have fixed numbers: what listener_open() says about `n` that are passed. */
static int open_passed(int fd, int n)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		char pid[16];

		snprintf(pid, sizeof(pid), "%d", (int)getpid());
		setenv("LISTEN_PID", pid, 1);
		setenv("LISTEN_FDS", n == 1 ? "1" : "2", 1);
		if (dup2(fd, 3) < 0 || (n > 1 && dup2(fd, 4) < 0))
			_exit(255);
		status = -open_at("/nowhere/s");
		if (status == 0 && (listener.fd != 3 || listener.guard_fd >= 0 || listener.path[0]))
			status = 254;
		if (status == 0 && !(fcntl(3, F_GETFL) & O_NONBLOCK))
			status = 253;
		listener_close(&listener);
		_exit(status);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

START_TEST(passed_by_systemd)
{
	const char *path = box_path("passed");
	int fd = listen_at(path);
	int other = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(open_passed(fd, 1), 0);
	ck_assert(is_there(path)); /* it is systemd's */
	ck_assert_int_eq(open_passed(fd, 2), -E2BIG);
	ck_assert(box_logged("serves one"));
	ck_assert_int_eq(open_passed(other, 1), -ENOTSOCK);
	ck_assert(box_logged("no listening Unix stream socket"));
	close(fd);
	close(other);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon listener");
	TCase *t = tcase_create("listener");

	tcase_add_checked_fixture(t, set_up, NULL);
	tcase_add_test(t, bound_and_gone);
	tcase_add_test(t, one_daemon_a_path);
	tcase_add_test(t, what_a_dead_daemon_left);
	tcase_add_test(t, what_is_another_ones);
	tcase_add_test(t, bad_paths);
	tcase_add_test(t, default_folder_is_made);
	tcase_add_test(t, given_to_a_group);
	tcase_add_test(t, passed_by_systemd);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return box_main(suite);
}
