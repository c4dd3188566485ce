// SPDX-License-Identifier: MIT
/*
 * What the tests of the daemon's parts share
 *
 * The tests run in a child; its parent does nothing but wait and clear up, so that a folder in /tmp and files in
 * /dev/shm are gone however the tests end. The child dies with its parent.
 */
#include "tests/unit/daemon/box.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];
static char heap_name[32];
static pid_t child;
static int log_fd = -1;
static off_t n_log_read;

const char *box_path(const char *name)
{
	static char paths[4][256];
	static unsigned int n;
	char *path = paths[n++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
	return path;
}

const char *box_heap_name(void)
{
	return heap_name;
}

void box_catch_log(void)
{
	log_fd = memfd_create("log", MFD_CLOEXEC);
	ck_assert_int_ge(log_fd, 0);
	ck_assert_int_ge(dup2(log_fd, STDERR_FILENO), 0);
}

bool box_logged(const char *text)
{
	static char lines[1 << 20];
	ssize_t n = pread(log_fd, lines, sizeof(lines) - 1, n_log_read);

	ck_assert_int_ge(n, 0);
	ck_assert_int_lt(n, (ssize_t)sizeof(lines) - 1);
	lines[n] = '\0';
	n_log_read += n;
	return strstr(lines, text) != NULL;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static void clear(void)
{
	static const char *const files[] = {"ctl", "heap", "daemon"};
	char path[64];

	nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "/dev/shm/pyheap.%s.%s", heap_name, files[i]);
		unlink(path);
	}
}

static void pass_on(int signal_number)
{
	kill(child, signal_number);
}

static int run(Suite *(*suite)(void))
{
	SRunner *runner = srunner_create(suite());
	int n_failed;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	srunner_run_all(runner, CK_NORMAL);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int box_main(Suite *(*suite)(void))
{
	const struct sigaction action = {.sa_handler = pass_on};
	int status = 0;

	snprintf(folder, sizeof(folder), "/tmp/pyheap-unit-XXXXXX");
	if (!mkdtemp(folder))
		return EXIT_FAILURE;
	snprintf(heap_name, sizeof(heap_name), "unit-%d", (int)getpid());
	child = fork();
	if (child == 0)
		exit(run(suite));
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	clear();
	return child > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}
