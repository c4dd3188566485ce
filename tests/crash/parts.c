// SPDX-License-Identifier: MIT
/*
 * One test program as several processes side by side
 *
 * Much of a test's time is spent waiting for the daemon's tick, four times a second. Several worlds, each with its own
 * daemon and heap, wait at once. They share nothing but a counter, which hands out the items, and the sums.
 */
#include "parts.h"

#include "tracee.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_PARTS_MAX 32U

static size_t *next_item; /* shared by all parts */

void *parts_memory(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p != MAP_FAILED)
		return p;
	perror("mmap");
	exit(EXIT_FAILURE);
}

size_t parts_take(void)
{
	/* relaxed: only that each index is handed out once */
	return __atomic_fetch_add(next_item, 1, __ATOMIC_RELAXED);
}

static pid_t start(unsigned int i, int cpu, int (*run)(void *userdata), void *userdata)
{
	pid_t parent = getpid(), pid = fork();
	int n_failed;

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGTERM); /* whose handler removes the part's processes and heap */
	if (getppid() != parent)
		_exit(1);
	tracee_init(cpu < 0 ? -1 : (int)(((long)cpu + i) % sysconf(_SC_NPROCESSORS_ONLN)));
	n_failed = run(userdata);
	fflush(NULL);
	_exit(n_failed > 100 ? 100 : n_failed);
}

int parts_run(unsigned int n, int cpu, int (*run)(void *userdata), void *userdata)
{
	int status, n_failed = 0;
	pid_t pids[N_PARTS_MAX];

	next_item = parts_memory(sizeof(*next_item));
	fflush(NULL);
	if (n > N_PARTS_MAX)
		n = N_PARTS_MAX;
	for (unsigned int i = 0; i < n; i++)
		pids[i] = start(i, cpu, run, userdata);
	for (unsigned int i = 0; i < n; i++) {
		while (pids[i] > 0 && waitpid(pids[i], &status, 0) < 0 && errno == EINTR)
			;
		if (pids[i] < 0 || !WIFEXITED(status))
			fprintf(stderr, "a part of the test %s\n", pids[i] < 0 ? "could not be started" : "was killed");
		n_failed += pids[i] < 0 || !WIFEXITED(status) ? 1 : WEXITSTATUS(status);
	}
	return n_failed;
}
