// SPDX-License-Identifier: MIT
/*
 * A contender of the benchmark
 *
 * Each is a program of its own, so that no allocator meets another one's malloc, and memory that one of them has spoilt
 * is nobody else's. It is spoken to by lines:
 *
 *   PROGRAM KEY [ARGUMENT]   gets ready and says "ready"
 *   a line "N" to it         does the work N times and says its figures, nanoseconds unless the work says otherwise
 *   end of file              takes all away and ends: 0 where all was well
 *   PROGRAM --version        says the version of what is measured
 *   PROGRAM --loop N KEY [ARGUMENT]   gets ready, does the work N times and ends: to be run under another tool
 *
 * What goes wrong is one line on stderr, and exit code 1. It runs on the first CPU it was given, and ends with the one
 * who started it.
 */
#include "contender.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

/* ---- clock and CPUs --------------------------------------------------------------------------------------------- */

uint64_t clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* The CPUs that were allowed when it was first asked: pinning narrows what the kernel answers later. */
static const cpu_set_t *cpu_allowed(size_t *ret_count)
{
	static cpu_set_t allowed;
	static size_t count;

	if (!count) {
		if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
			CPU_SET(0, &allowed);
		count = (size_t)CPU_COUNT(&allowed);
	}
	*ret_count = count;
	return &allowed;
}

size_t cpu_count(void)
{
	size_t count;

	cpu_allowed(&count);
	return count;
}

int cpu_pin(size_t i)
{
	size_t count;
	const cpu_set_t *allowed = cpu_allowed(&count);
	size_t left = i % count;
	cpu_set_t one;

	CPU_ZERO(&one);
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, allowed) || left--)
			continue;
		CPU_SET(cpu, &one);
		break;
	}
	return sched_setaffinity(0, sizeof(one), &one) < 0 ? -errno : 0;
}

int spin_again(struct spin *spin)
{
	/* Where both sides share a CPU the other one can only go on when this one lets it. */
	if (cpu_count() < 2)
		sched_yield();
	if (++spin->n % 4096 != 0)
		return 0;
	if (!spin->deadline)
		spin->deadline = clock_now() + (uint64_t)WATCH_DOG_MS * 1000000U;
	return clock_now() > spin->deadline ? -ETIMEDOUT : 0;
}

/* ---- the program ------------------------------------------------------------------------------------------------ */

static int fail(const char *key, const char *step, int r)
{
	fprintf(stderr, "%s: %s: %s\n", key, step, strerror(-r));
	return 1;
}

static const struct work *work_find(const struct family *const *families, size_t n_families, const char *key)
{
	for (size_t i = 0; i < n_families; i++) {
		for (size_t j = 0; j < families[i]->n_works; j++) {
			if (!strcmp(families[i]->works[j].key, key))
				return &families[i]->works[j];
		}
	}
	return NULL;
}

static int work_do(const struct work *work, void *state, uint64_t n, double ret[FIGURES_MAX])
{
	uint64_t begin;
	int r;

	if (work->measure)
		return work->measure(state, n, ret);
	begin = clock_now();
	r = work->loop(state, n);
	ret[0] = (double)(clock_now() - begin) / (double)n;
	return r < 0 ? r : 1;
}

/* Until the end of file. */
static int work_obey(const struct work *work, void *state)
{
	double figures[FIGURES_MAX];
	uint64_t n;
	int r;

	printf("ready\n");
	fflush(stdout);
	while (scanf("%" SCNu64, &n) == 1) {
		r = work_do(work, state, n, figures);
		if (r < 0)
			return r;
		for (int i = 0; i < r; i++)
			printf(i + 1 < r ? "%.6g " : "%.6g\n", figures[i]);
		fflush(stdout);
	}
	return 0;
}

/* n_loops: 0 to do as is told. */
static int work_run(const struct work *work, uint64_t argument, uint64_t n_loops)
{
	double figures[FIGURES_MAX];
	void *state = NULL;
	int r = cpu_pin(0), exit_code = 0;

	if (r >= 0 && work->setup)
		r = work->setup(&state, argument);
	if (r < 0)
		return fail(work->key, "getting ready", r);
	r = n_loops ? work_do(work, state, n_loops, figures) : work_obey(work, state);
	if (r < 0)
		exit_code = fail(work->key, "measuring", r);
	r = work->teardown ? work->teardown(state) : 0;
	if (r < 0)
		exit_code = fail(work->key, "looking back", r);
	return exit_code;
}

int contender_main(int argc, char **argv, const char *version, const struct family *const *families, size_t n_families)
{
	const struct work *work;
	uint64_t n_loops = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (argc == 2 && !strcmp(argv[1], "--version")) {
		printf("%s\n", version);
		return 0;
	}
	if (argc > 2 && !strcmp(argv[1], "--loop")) {
		n_loops = strtoull(argv[2], NULL, 10);
		argc -= 2;
		argv += 2;
	}
	work = argc == 2 || argc == 3 ? work_find(families, n_families, argv[1]) : NULL;
	if (!work) {
		fprintf(stderr, "usage: PROGRAM [--loop N] KEY [ARGUMENT], or PROGRAM --version\n");
		return 2;
	}
	return work_run(work, argc == 3 ? strtoull(argv[2], NULL, 10) : 0, n_loops);
}
