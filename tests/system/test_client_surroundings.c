// SPDX-License-Identifier: MIT
/*
 * Sessions in a process that has its own ways: it closes descriptors, changes its folder, cancels threads, locks its
 * memory, is limited, dumps core, or meets a socket that somebody else serves
 */
#include "fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#define ARENA ((size_t)256 << 10)

static void kill_daemon(void)
{
	ck_assert(WIFSIGNALED(fixture_stop(&fx, SIGKILL)));
}

static void listen_on(int fd, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	ck_assert_uint_lt(strlen(path), sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	ck_ok(bind(fd, (struct sockaddr *)&address, sizeof(address)));
	ck_ok(listen(fd, 0)); /* room for one */
}

/* ---- descriptors ------------------------------------------------------------------------------------------------ */

/* The program has a file where the session's socket was: nobody but the program touches that. */
START_TEST(test_closed_and_used_for_a_file)
{
	pyheap *heap = fixture_open(&fx);
	int fd = pyheap_fd(heap), file;
	char path[96], bytes[16];
	struct stat st;
	pyheap_ref ref;

	ck_ok(pyheap_put(heap, "kept", 5, &ref));
	ck_ok(close(fd));
	snprintf(path, sizeof(path), "%s/file", fixture_folder);
	file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ck_assert_int_eq(file, fd);
	ck_ok(fixture_need_daemon(heap));
	ck_ok(pyheap_dispatch(heap));
	ck_assert_int_ne(pyheap_fd(heap), file);
	ck_assert_int_eq(write(file, "mine", 4), 4);
	kill_daemon();
	fixture_start_again(&fx);
	ck_ok(fixture_need_daemon(heap));
	ck_assert_int_eq(pyheap_refcount(heap, ref), 1);
	ck_assert_int_eq(close(pyheap_fd(heap)), 0);
	ck_assert_int_eq(dup2(file, pyheap_fd(heap)), pyheap_fd(heap));
	pyheap_close(heap);
	ck_ok(fstat(file, &st));
	ck_assert(S_ISREG(st.st_mode) && st.st_size == 4);
	ck_assert_int_eq(pread(file, bytes, sizeof(bytes), 0), 4);
	ck_assert_mem_eq(bytes, "mine", 4);
	close(file);
}
END_TEST

/* The program has a connection of its own there: its peer receives nothing that the program did not send. */
START_TEST(test_closed_and_used_for_a_socket)
{
	pyheap *heap = fixture_open(&fx);
	int fd = pyheap_fd(heap), pair[2];
	char byte;

	ck_ok(close(fd));
	ck_ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	ck_assert_int_eq(pair[0], fd);
	ck_assert_int_eq(write(pair[1], "x", 1), 1); /* nor does the library take what is the program's */
	ck_ok(fixture_need_daemon(heap));
	ck_ok(pyheap_dispatch(heap));
	ck_ok(fixture_need_daemon(heap));
	pyheap_close(heap);
	ck_assert_int_eq(recv(pair[0], &byte, 1, MSG_DONTWAIT), 1);
	errno = 0;
	ck_assert_int_eq(recv(pair[1], &byte, 1, MSG_DONTWAIT), -1);
	ck_assert_int_eq(errno, EAGAIN);
	close(pair[0]);
	close(pair[1]);
}
END_TEST

/* Nothing has the number: the session gets it again. */
START_TEST(test_closed)
{
	pyheap *heap = fixture_open(&fx);
	int fd = pyheap_fd(heap);

	ck_ok(close(fd));
	ck_ok(fixture_need_daemon(heap));
	ck_assert_int_eq(pyheap_fd(heap), fd);
	ck_ok(close(fd));
	ck_ok(pyheap_dispatch(heap));
	ck_assert_int_eq(pyheap_fd(heap), fd);
	ck_ok(close(fd));
	pyheap_close(heap);
	heap = fixture_open(&fx);
	ck_assert_int_eq(pyheap_fd(heap), fd);
	pyheap_close(heap);
}
END_TEST

/* ---- a daemon that comes back ------------------------------------------------------------------------------------ */

static void limit_files(rlim_t n)
{
	struct rlimit limit;

	ck_ok(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = n;
	ck_ok(setrlimit(RLIMIT_NOFILE, &limit));
}

/* Call it until the daemon has answered: on a busy machine it may not, in the time that the session gives it. */
static int answered(int (*call)(pyheap *), pyheap *heap)
{
	int r;

	do
		r = call(heap);
	while (r == -ECONNRESET);
	return r;
}

/* Without descriptors a session cannot be resumed. It is when there are some again. */
START_TEST(test_no_descriptors)
{
	pyheap *heap = fixture_open(&fx), *other = NULL;
	rlim_t n = (rlim_t)pyheap_fd(heap) + 1;

	ck_ok(pyheap_set_timeout(heap, 50));
	kill_daemon();
	fixture_start_again(&fx);
	for (rlim_t i = 0; i < 3; i++) {
		limit_files(n + i);
		ck_err(answered(pyheap_dispatch, heap), EMFILE);
		ck_err(answered(fixture_need_daemon, heap), EMFILE);
		ck_err(pyheap_open(&other, fx.socket), EMFILE);
	}
	limit_files(256);
	ck_ok(pyheap_dispatch(heap));
	ck_ok(fixture_need_daemon(heap));
	pyheap_close(heap);
}
END_TEST

static void become_nobody(void)
{
	ck_ok(setegid(65534));
	ck_ok(seteuid(65534));
}

static void become_root(void)
{
	ck_ok(seteuid(0));
	ck_ok(setegid(0));
}

static int chmod_as_root(const char *path, mode_t mode)
{
	int r;

	become_root();
	r = chmod(path, mode);
	become_nobody();
	return r;
}

/* A socket that may not be opened, as its rights are not set yet, ends no session. The error has its own name. */
START_TEST(test_socket_without_rights_yet)
{
	pyheap *heap;

	if (geteuid() != 0)
		return;
	ck_ok(chmod(fixture_folder, 0755));
	heap = fixture_open(&fx);
	ck_ok(close(pyheap_fd(heap)));
	ck_ok(pyheap_set_timeout(heap, 50));
	ck_ok(chmod(fx.socket, 0));
	become_nobody();
	ck_err(fixture_need_daemon(heap), EACCES);
	ck_ok(chmod_as_root(fx.socket, 0777));
	ck_err(answered(pyheap_dispatch, heap), EACCES); /* this time the daemon says so */
	become_root();
	ck_ok(fixture_need_daemon(heap));
	pyheap_close(heap);
}
END_TEST

/* A session that was opened by a relative path finds the next daemon from another folder. */
START_TEST(test_relative_path)
{
	pyheap *heap;

	ck_ok(chdir(fixture_folder));
	ck_ok(pyheap_open(&heap, strrchr(fx.socket, '/') + 1));
	ck_ok(chdir("/"));
	kill_daemon();
	fixture_start_again(&fx);
	ck_ok(fixture_need_daemon(heap));
	pyheap_close(heap);
}
END_TEST

/* Sessions that are closed without a connection leave their places to others, while their process lives. */
START_TEST(test_closed_without_connection)
{
	pyheap *heaps[32], *watcher;
	pyheap_stats stats;

	for (int i = 0; i < 32; i++)
		heaps[i] = fixture_open(&fx);
	kill_daemon();
	fixture_start_again(&fx);
	for (int i = 0; i < 32; i++)
		pyheap_close(heaps[i]);
	watcher = fixture_open(&fx);
	do
		ck_ok(pyheap_stats(watcher, &stats));
	while (stats.n_sessions > 1 && usleep(5000) == 0);
	pyheap_close(watcher);
}
END_TEST

/* ---- a program that renews itself ---------------------------------------------------------------------------------
 */

#define N_RENEWALS 5
#define RENEWED    "PYHEAP_TEST_RENEWED" /* how often it is to be renewed yet */

/* One life of it, beside the parent's session: 100 objects of 40 bytes. Its child keeps the descriptor it inherits. */
static void live(void *userdata)
{
	const char *left = userdata ? userdata : getenv(RENEWED);
	char next[2] = {(char)(*left - 1), '\0'};
	pyheap *heap;
	pyheap_stats stats;
	pyheap_ref ref;

	if (pyheap_open(&heap, userdata ? fx.socket : NULL) < 0)
		_exit(2);
	for (int i = 0; i < 100; i++)
		if (pyheap_put(heap, "held by this life", 18, &ref) < 0)
			_exit(3);
	do
		if (pyheap_stats(heap, &stats) < 0)
			_exit(4);
	while ((stats.n_sessions > 2 || stats.bytes_allocated_blocks > 6000) && usleep(5000) == 0);
	if (*left == '0')
		_exit(0);
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	if (*left == '3')
		pyheap_lock(heap); /* what it owned is given up, too */
	setenv(RENEWED, next, 1);
	if (userdata)
		setenv("PYHEAP_SOCKET", fx.socket, 1);
	execl("/proc/self/exe", "renewed", (char *)NULL);
	_exit(1);
}

/* Each life ends what the one before had, which nobody can use any more. */
START_TEST(test_renewed)
{
	static char n[] = {'0' + N_RENEWALS, '\0'};
	pyheap *heap = fixture_open(&fx);
	pyheap_ref ref;

	ck_ok(pyheap_put(heap, "another one's", 14, &ref));
	ck_assert_int_eq(fixture_wait(fixture_fork(live, n)), 0);
	ck_assert_int_eq(pyheap_refcount(heap, ref), 1);
	pyheap_close(heap);
}
END_TEST

/* ---- time -------------------------------------------------------------------------------------------------------- */

static void on_alarm(int signal_number)
{
	(void)signal_number;
}

/* A timer's signal every millisecond does not make a call wait for ever: each ends, or the watchdog does. */
START_TEST(test_deadline_under_signals)
{
	struct sigaction action = {.sa_handler = on_alarm};
	struct itimerval timer = {{0, 1000}, {0, 1000}}, none = {{0, 0}, {0, 0}};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fillers[8];
	pyheap *heap = fixture_open(&fx), *other = NULL;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/full", fixture_folder);
	listen_on(listener, address.sun_path);
	for (int i = 0; i < 8; i++) { /* the backlog */
		fillers[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)!connect(fillers[i], (struct sockaddr *)&address, sizeof(address));
	}
	ck_ok(sigaction(SIGALRM, &action, NULL));
	ck_ok(setitimer(ITIMER_REAL, &timer, NULL));
	ck_err(pyheap_open(&other, address.sun_path), ETIMEDOUT); /* in connect() */
	ck_ok(pyheap_set_timeout(heap, 300));
	ck_ok(kill(fx.pid, SIGSTOP));
	ck_err(fixture_need_daemon(heap), ETIMEDOUT); /* in recvmsg() */
	ck_ok(kill(fx.pid, SIGCONT));
	ck_ok(pyheap_set_timeout(heap, -1));
	ck_ok(fixture_need_daemon(heap));
	ck_ok(setitimer(ITIMER_REAL, &none, NULL));
	for (int i = 0; i < 8; i++)
		close(fillers[i]);
	close(listener);
	pyheap_close(heap);
}
END_TEST

/* ---- threads that are cancelled ---------------------------------------------------------------------------------- */

#define N_CANCELLED 2000

static void *open_and_close(void *userdata)
{
	(void)userdata;
	for (;;) {
		pyheap *heap;

		if (pyheap_open(&heap, fx.socket) == 0) {
			pyheap_dispatch(heap);
			pyheap_close(heap);
		}
		pthread_testcancel();
	}
	return NULL;
}

static int n_files(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Each thread is cancelled somewhere in opening or closing. Nothing stays locked, open or in the table. */
START_TEST(test_cancelled)
{
	pyheap *heap = fixture_open(&fx);
	int n_before = n_files();
	pyheap_stats stats;

	for (int i = 0; i < N_CANCELLED; i++) {
		pthread_t thread;

		ck_ok(pthread_create(&thread, NULL, open_and_close, NULL));
		usleep((useconds_t)(random() % 300));
		ck_ok(pthread_cancel(thread));
		if (i % 4 == 0) {
			pid_t pid = fork();

			if (pid == 0)
				_exit(0);
			ck_assert_int_gt(pid, 0);
			ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		}
		ck_ok(pthread_join(thread, NULL));
	}
	ck_assert_int_eq(n_files(), n_before);
	do
		ck_ok(pyheap_stats(heap, &stats));
	while (stats.n_sessions > 1 && usleep(5000) == 0);
	ck_ok(fixture_need_daemon(heap));
	pyheap_close(heap);
}
END_TEST

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* A figure of the mapping of the heap's segment, in smaps; `flag`: 1 if it has that flag of VmFlags. -1: not mapped. */
static long mapping_figure(const char *figure, const char *flag)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	char line[512], segment[96];
	bool is_it = false;
	long n = -1;

	snprintf(segment, sizeof(segment), "/pyheap.%s.heap", fx.name);
	while (n < 0 && fgets(line, sizeof(line), file)) {
		if (strstr(line, "/") || strstr(line, " 00:00 0"))
			is_it = strstr(line, segment) != NULL;
		else if (is_it && strncmp(line, figure, strlen(figure)) == 0)
			n = flag ? strstr(line, flag) != NULL : atol(line + strlen(figure));
	}
	fclose(file);
	return n;
}

START_TEST(test_locked_memory)
{
	char path[96];
	struct stat st;
	pyheap *heap = NULL;

	if (mlockall(MCL_FUTURE) < 0 ||
		(pyheap_open(&heap, fx.socket) < 0 && strstr(pyheap_open_error(), "RLIMIT_MEMLOCK")))
		return; /* this user may not lock as much */
	pyheap_close(heap);
	heap = fixture_open(&fx);
	ck_assert_int_eq(mapping_figure("Locked:", NULL), 0);
	ck_assert_int_lt(mapping_figure("Rss:", NULL), 1024);
	snprintf(path, sizeof(path), "/dev/shm/pyheap.%s.heap", fx.name);
	ck_ok(stat(path, &st));
	ck_assert_int_lt(st.st_blocks * 512, 8 << 20); /* of 64 MiB */
	ck_ok(fixture_need_daemon(heap));
	pyheap_close(heap);
}
END_TEST

#ifndef HAS_SANITIZER
static void open_limited(__rlimit_resource_t resource, rlim_t n, const char *word)
{
	struct rlimit limit = {n, n};
	pyheap *heap = NULL;

	ck_assert_str_eq(pyheap_open_error(), "");
	ck_ok(setrlimit(resource, &limit));
	ck_err(pyheap_open(&heap, fx.socket), ENOMEM);
	ck_assert_ptr_null(heap);
	ck_assert_msg(
		strstr(pyheap_open_error(), word) && strstr(pyheap_open_error(), "64 MiB"), "%s", pyheap_open_error());
}

static void open_without_space(void *userdata)
{
	(void)userdata;
	open_limited(RLIMIT_AS, 48 << 20, "RLIMIT_AS");
}

static void open_without_locking(void *userdata)
{
	(void)userdata;
	ck_ok(mlockall(MCL_FUTURE));
	ck_ok(setresgid(65534, 65534, 65534));
	ck_ok(setresuid(65534, 65534, 65534)); /* root has no limit */
	open_limited(RLIMIT_MEMLOCK, 8 << 20, "RLIMIT_MEMLOCK");
}

START_TEST(test_limits_by_name)
{
	ck_assert_int_eq(fixture_wait(fixture_fork(open_without_space, NULL)), 0);
}
END_TEST

START_TEST(test_limit_of_locked_memory)
{
	static const char *const args[] = {"--size", "64M", "--group", "65534", NULL};

	if (geteuid() != 0)
		return;
	ck_ok(chmod(fixture_folder, 0755));
	fixture_start(&fx, args);
	ck_ok(chmod(fx.socket, 0777));
	ck_assert_int_eq(fixture_wait(fixture_fork(open_without_locking, NULL)), 0);
	ck_ok(fixture_stop(&fx, SIGTERM));
}
END_TEST
#endif

START_TEST(test_left_out_of_dumps)
{
	pyheap *heap = fixture_open(&fx);

	ck_assert_int_eq(mapping_figure("VmFlags:", " dd"), 1);
	pyheap_close(heap);
	ck_ok(setenv("PYHEAP_DUMP", "1", 1));
	heap = fixture_open(&fx);
	ck_assert_int_eq(mapping_figure("VmFlags:", " dd"), 0);
	pyheap_close(heap);
}
END_TEST

START_TEST(test_kept_mapped)
{
	pyheap *heap;
	pyheap_ref ref;
	const char *data;

	ck_ok(setenv("PYHEAP_KEEP_MAPPED", "1", 1));
	heap = fixture_open(&fx);
	ck_ok(pyheap_put(heap, "once", 5, &ref));
	data = pyheap_data(heap, ref);
	pyheap_close(heap);
	ck_assert_int_ge(*(const volatile char *)data, 0); /* whatever it is: it is there */
	heap = fixture_open(&fx);
	ck_ok(pyheap_put(heap, "twice", 6, &ref));
	ck_assert(labs((const char *)pyheap_data(heap, ref) - data) < 64 << 20); /* the mapping of before */
	pyheap_close(heap);
	ck_ok(unsetenv("PYHEAP_KEEP_MAPPED"));
	heap = fixture_open(&fx);
	pyheap_close(heap);
	ck_assert_int_eq(mapping_figure("Rss:", NULL), -1);
}
END_TEST

/* ---- who serves the socket --------------------------------------------------------------------------------------- */

/* Accept every connection, and say nothing. */
static void squat(void *userdata)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_ok(setresuid(65534, 65534, 65534));
	listen_on(fd, userdata);
	for (;;)
		close(accept(fd, NULL, NULL));
}

/* Open a session on a socket that another user serves, in a folder of that owner and mode. */
static int open_squatted(const char *name, uid_t owner, mode_t mode)
{
	char folder[64], path[96];
	pyheap *heap = NULL;
	pid_t pid;
	int r;

	ck_ok(chmod(fixture_folder, 0755));
	snprintf(folder, sizeof(folder), "%s/%s", fixture_folder, name);
	snprintf(path, sizeof(path), "%s/socket", folder);
	ck_ok(mkdir(folder, 0755));
	ck_ok(chown(folder, owner, owner));
	ck_ok(chmod(folder, mode));
	pid = fixture_fork(squat, path);
	do /* until it listens there is no socket, or nobody behind it */
		r = pyheap_open(&heap, path);
	while (r == -ENOENT || r == -ECONNREFUSED);
	ck_assert_ptr_null(heap);
	fixture_kill(pid);
	return r;
}

/*
 * Another user listens in a folder that everybody may write to. Where that user is trusted, or owns the folder, the
 * session goes on to wait for a Welcome.
 */
START_TEST(test_squatted)
{
	if (geteuid() != 0)
		return;
	ck_err(open_squatted("public", 0, 01777), EPERM);
	ck_assert_msg(strstr(pyheap_open_error(), "PYHEAP_TRUST_SERVER=65534"), "%s", pyheap_open_error());
	ck_err(open_squatted("owned", 65534, 0755), ECONNRESET);
	ck_ok(setenv("PYHEAP_TRUST_SERVER", "65533", 1));
	ck_err(open_squatted("other", 0, 01777), EPERM);
	ck_ok(setenv("PYHEAP_TRUST_SERVER", "65534", 1));
	ck_err(open_squatted("trusted", 0, 01777), ECONNRESET);
	ck_ok(setenv("PYHEAP_TRUST_SERVER", "any", 1));
	ck_err(open_squatted("any", 0, 01777), ECONNRESET);
}
END_TEST

int main(void)
{
	if (getenv(RENEWED))
		live(NULL);

	Suite *suite = suite_create("client_surroundings");
	TCase *alone = tcase_create("alone"), *tcase = tcase_create("with a daemon");

	tcase_set_timeout(alone, 300);
	tcase_add_test(alone, test_squatted);
#ifndef HAS_SANITIZER
	tcase_add_test(alone, test_limit_of_locked_memory);
#endif
	suite_add_tcase(suite, alone);
	tcase_set_timeout(tcase, 300);
	tcase_add_checked_fixture(tcase, fixture_setup, fixture_teardown);
	tcase_add_test(tcase, test_closed_and_used_for_a_file);
	tcase_add_test(tcase, test_closed_and_used_for_a_socket);
	tcase_add_test(tcase, test_closed);
	tcase_add_test(tcase, test_no_descriptors);
	tcase_add_test(tcase, test_socket_without_rights_yet);
	tcase_add_test(tcase, test_relative_path);
	tcase_add_test(tcase, test_closed_without_connection);
	tcase_add_test(tcase, test_renewed);
	tcase_add_test(tcase, test_deadline_under_signals);
	tcase_add_test(tcase, test_cancelled);
	tcase_add_test(tcase, test_locked_memory);
#ifndef HAS_SANITIZER
	tcase_add_test(tcase, test_limits_by_name);
#endif
	tcase_add_test(tcase, test_left_out_of_dumps);
	tcase_add_test(tcase, test_kept_mapped);
	suite_add_tcase(suite, tcase);
	return fixture_main(suite);
}
