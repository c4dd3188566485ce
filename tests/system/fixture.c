// SPDX-License-Identifier: MIT
/*
 * Real daemons and real processes for the tests, and nothing of them left behind
 *
 * Whatever a test program starts ends with it, however it ends. A child of the fixture dies with the process that
 * started it (PR_SET_PDEATHSIG). A daemon gets SIGTERM then, and removes its heap; it has a process group of its own,
 * since Check kills the group of a test that is over. The program's main process runs no test and adopts orphans
 * (PR_SET_CHILD_SUBREAPER): it waits for them, and then removes all segments whose names begin with this program's
 * prefix. Signals that end the program do the same.
 */
#include "fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>

#define WATCHDOG_S 300

struct fixture_daemon fx;
pyheap *fixture_heap;
char fixture_folder[32];

static pid_t main_pid;
static char prefix[24]; /* of all heap names of this program */

/* Cleaning up. */

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static void remove_segments(void)
{
	char beginning[48], path[PATH_MAX];
	DIR *folder = opendir("/dev/shm");
	struct dirent *entry;

	snprintf(beginning, sizeof(beginning), "pyheap.%s", prefix);
	while (folder && (entry = readdir(folder))) {
		if (strncmp(entry->d_name, beginning, strlen(beginning)) != 0)
			continue;
		snprintf(path, sizeof(path), "/dev/shm/%s", entry->d_name);
		unlink(path);
	}
	if (folder)
		closedir(folder);
}

/* Send a signal to each child of this process, those that it inherited included. */
static void signal_children(int signal_number)
{
	char path[64];
	FILE *file;
	int pid;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)gettid());
	file = fopen(path, "re");
	while (file && fscanf(file, "%d", &pid) == 1)
		kill(pid, signal_number);
	if (file)
		fclose(file);
}

/* True once there are no children any more. */
static bool reap(int seconds)
{
	for (int i = 0; i < seconds * 100; i++) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid < 0 && errno == ECHILD)
			return true;
		if (pid == 0)
			usleep(10000);
	}
	return false;
}

static void clear_up(void)
{
	if (getpid() != main_pid)
		return;
	signal_children(SIGTERM);
	if (!reap(WATCHDOG_S)) {
		signal_children(SIGKILL);
		reap(WATCHDOG_S);
	}
	remove_segments();
	nftw(fixture_folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void on_signal(int signal_number)
{
	clear_up();
	_exit(128 + signal_number);
}

int fixture_main(Suite *suite)
{
	struct sigaction action = {.sa_handler = on_signal};
	SRunner *runner;
	int n_failed;

	main_pid = getpid();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	snprintf(prefix, sizeof(prefix), "t%d-", (int)main_pid);
	strcpy(fixture_folder, "/tmp/pyheap-test-XXXXXX");
	if (!mkdtemp(fixture_folder)) {
		perror("mkdtemp");
		return EXIT_FAILURE;
	}
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);

	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_FORK);
	srunner_run_all(runner, CK_ENV);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	clear_up();
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Daemons. */

static void exec_daemon(const struct fixture_daemon *daemon, pid_t parent)
{
	const char *program = getenv("PYHEAPD");
	const char *argv[FIXTURE_ARGS_MAX + 8] = {
		"pyheapd", "--name", daemon->name, "--socket", daemon->socket, "--log-level", "debug"};
	int n = 7, log;

	for (int i = 0; daemon->args[i]; i++)
		argv[n++] = daemon->args[i];
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	log = open(daemon->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (!program || log < 0 || dup2(log, STDERR_FILENO) < 0 || getppid() != parent)
		_exit(125);
	execv(program, (char **)argv);
	_exit(126);
}

static bool daemon_admits(struct fixture_daemon *daemon)
{
	pyheap *heap;
	int r, status;

	if (waitpid(daemon->pid, &status, WNOHANG) == daemon->pid) {
		daemon->pid = 0;
		ck_abort_msg("pyheapd ended with status 0x%x instead of serving; PYHEAPD=%s, log %s", status,
			getenv("PYHEAPD"), daemon->log);
	}
	r = pyheap_open(&heap, daemon->socket);
	if (r == 0)
		pyheap_close(heap);
	return r == 0;
}

void fixture_start_again(struct fixture_daemon *daemon)
{
	pid_t parent = getpid();

	ck_assert_int_eq(daemon->pid, 0);
	daemon->pid = fork();
	ck_assert_int_ge(daemon->pid, 0);
	if (daemon->pid == 0)
		exec_daemon(daemon, parent);
	fixture_until(daemon_admits(daemon));
}

void fixture_start(struct fixture_daemon *daemon, const char *const *args)
{
	static int n_daemons;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* the test's process dies with the program */
	memset(daemon, 0, sizeof(*daemon));
	snprintf(daemon->name, sizeof(daemon->name), "%s%d-%d", prefix, (int)getpid(), n_daemons++);
	snprintf(daemon->socket, sizeof(daemon->socket), "%s/%s.sock", fixture_folder, daemon->name);
	snprintf(daemon->log, sizeof(daemon->log), "%s/%s.log", fixture_folder, daemon->name);
	for (int i = 0; args[i]; i++) {
		ck_assert_int_lt(i, FIXTURE_ARGS_MAX - 1);
		daemon->args[i] = args[i];
	}
	fixture_start_again(daemon);
}

int fixture_stop(struct fixture_daemon *daemon, int signal_number)
{
	int status;

	ck_assert_int_gt(daemon->pid, 0);
	ck_ok(kill(daemon->pid, signal_number));
	status = fixture_wait(daemon->pid);
	daemon->pid = 0;
	return status;
}

void fixture_setup(void)
{
	static const char *const args[] = {"--size", "64M", NULL};

	fixture_start(&fx, args);
}

static void print_fault(void *userdata, const char *fault)
{
	(void)userdata;
	fprintf(stderr, "fault: %s\n", fault);
}

void fixture_teardown(void)
{
	pyheap *heap;

	if (fx.pid == 0)
		return;
	heap = fixture_open(&fx);
	ck_assert_int_eq(pyheap_check(heap, print_fault, NULL), 0);
	pyheap_close(heap);
	ck_assert_int_eq(fixture_stop(&fx, SIGTERM), 0);
}

void fixture_setup_session(void)
{
	fixture_setup();
	fixture_heap = fixture_open(&fx);
}

void fixture_teardown_session(void)
{
	pyheap_close(fixture_heap);
	fixture_teardown();
}

pyheap *fixture_open(const struct fixture_daemon *daemon)
{
	pyheap *heap = NULL;
	int r = pyheap_open(&heap, daemon->socket);

	ck_assert_msg(r == 0, "pyheap_open: %s", pyheap_strerror(r));
	return heap;
}

/* Processes. */

pid_t fixture_fork(void (*run)(void *userdata), void *userdata)
{
	pid_t parent = getpid();
	pid_t pid = fork();

	/* Not in the child: Check's macros take a mutex, which another thread may have had when the child was made. */
	if (pid != 0) {
		ck_assert_int_gt(pid, 0);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(125);
	run(userdata);
	_exit(0);
}

int fixture_wait(pid_t pid)
{
	int status = 0;
	pid_t r;

	fixture_until((r = waitpid(pid, &status, WNOHANG)) != 0);
	ck_assert_int_eq(r, pid);
	return status;
}

void fixture_kill(pid_t pid)
{
	ck_ok(kill(pid, SIGKILL));
	fixture_wait(pid);
}

uint64_t fixture_heap_bytes(void)
{
	struct stat st;
	char path[128];

	snprintf(path, sizeof(path), "/dev/shm/pyheap.%s.heap", fx.name);
	return stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0; /* there is none any more */
}

int fixture_need_daemon(pyheap *heap)
{
	pyheap_ref refs[256];
	size_t n = 0, size = (size_t)3 * (256 << 10);
	int r;

	do {
		uint64_t before = fixture_heap_bytes();

		r = pyheap_new(heap, PYHEAP_BYTES, size, &refs[n]);
		if (r < 0)
			break;
		memset(pyheap_data(heap, refs[n]), 0x5a, size);
		if (fixture_heap_bytes() > before)
			r = 1;
		n++;
	} while (r == 0 && n < 256);
	if (r == -ENOMEM && n > 0) /* so says the daemon */
		r = 0;
	while (n > 0)
		ck_ok(pyheap_decref(heap, refs[--n]));
	return r < 0 ? r : 0;
}

int fixture_log_count(const char *text)
{
	static char log[1 << 20];
	int fd = open(fx.log, O_RDONLY | O_CLOEXEC), n_found = 0;
	ssize_t n;

	ck_assert_int_ge(fd, 0);
	n = read(fd, log, sizeof(log) - 1);
	close(fd);
	ck_assert_int_ge(n, 0);
	log[n] = '\0';
	for (const char *p = log; (p = strstr(p, text)); p++)
		n_found++;
	return n_found;
}
