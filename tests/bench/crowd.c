// SPDX-License-Identifier: MIT
/*
 * Works among many
 *
 * among-objects: make an object of 48 bytes and drop it, while the session holds very many such objects.
 *
 * among-sessions: the same while other sessions are open, each with an object of that size. They are one other
 * process's, which sleeps.
 *
 * come-and-go: open a session and close it, while others are open. What is measured is the daemon's processor time.
 *
 * full: a call that fails as the heap is full.
 */
#include "ours.h"
#include "partner.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

struct crowd_state {
	pyheap *heap;
	struct partner partner;
	size_t n_others; /* sessions */
};

static int crowd_loop(void *state, uint64_t n)
{
	const struct crowd_state *crowd = state;

	return ours_pairs(crowd->heap, n);
}

static int crowd_teardown(void *state)
{
	struct crowd_state *crowd = state;
	int r;

	pyheap_close(crowd->heap);
	r = partner_stop(&crowd->partner);
	free(crowd);
	return r;
}

static int objects_setup(void **ret, uint64_t argument)
{
	struct crowd_state *crowd = calloc(1, sizeof(*crowd));
	pyheap_ref ref;
	int r;

	if (!crowd)
		return -ENOMEM;
	/* As in the pair alone with one object more: 10,000,000 would fill their pools, and a pair that takes a free
	 * pool's first block each time takes 1.2 ns longer, among however many. */
	r = ours_open(&crowd->heap, PAIR_SIZE);
	for (uint64_t i = 0; r >= 0 && i < argument; i++)
		r = pyheap_new(crowd->heap, PYHEAP_BYTES, PAIR_SIZE, &ref);
	if (r < 0) {
		crowd_teardown(crowd);
		return r;
	}
	*ret = crowd;
	return 0;
}

/* The partner: open the sessions, say so, close them in the end. */
static int sessions_serve(void *userdata, int fd)
{
	const struct crowd_state *crowd = userdata;
	pyheap **heaps = calloc(crowd->n_others + 1, sizeof(*heaps));
	struct rlimit files;
	uint64_t word;
	int r = heaps ? 0 : -ENOMEM;

	/* A descriptor or two each. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	for (size_t i = 0; r >= 0 && i < crowd->n_others; i++)
		r = ours_open(&heaps[i], PAIR_SIZE);
	if (r >= 0)
		r = partner_say(fd, 0);
	if (r >= 0)
		r = partner_wait(fd, &word);
	for (size_t i = 0; heaps && i < crowd->n_others; i++)
		pyheap_close(heaps[i]);
	free(heaps);
	return r == -ECONNRESET ? 0 : r;
}

static int sessions_setup(void **ret, uint64_t argument)
{
	struct crowd_state *crowd = calloc(1, sizeof(*crowd));
	uint64_t word;
	int r;

	if (!crowd)
		return -ENOMEM;
	crowd->n_others = argument;
	r = partner_start(&crowd->partner, sessions_serve, crowd);
	if (r >= 0)
		r = partner_hear(crowd->partner.fd, &word);
	if (r >= 0)
		r = ours_open(&crowd->heap, PAIR_SIZE);
	if (r < 0) {
		crowd_teardown(crowd);
		return r;
	}
	*ret = crowd;
	return 0;
}

/* ---- come-and-go ------------------------------------------------------------------------------------------------- */

/* The processor time of the process that has the other end of the session's socket. */
static int daemon_time(pyheap *heap, uint64_t *ret_ns)
{
	struct ucred ucred;
	socklen_t size = sizeof(ucred);
	struct timespec ts;
	clockid_t clock;

	if (getsockopt(pyheap_fd(heap), SOL_SOCKET, SO_PEERCRED, &ucred, &size) < 0)
		return -errno;
	if (clock_getcpuclockid(ucred.pid, &clock) != 0 || clock_gettime(clock, &ts) < 0)
		return -ESRCH;
	*ret_ns = (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
	return 0;
}

static int come_and_go_measure(void *state, uint64_t n, double ret[FIGURES_MAX])
{
	const struct crowd_state *crowd = state;
	uint64_t before, after;
	pyheap *heap;
	int r = daemon_time(crowd->heap, &before);

	for (uint64_t i = 0; r >= 0 && i < n; i++) {
		r = pyheap_open(&heap, NULL);
		if (r >= 0)
			pyheap_close(heap);
	}
	if (r >= 0)
		r = daemon_time(crowd->heap, &after);
	if (r < 0)
		return r;
	ret[0] = (double)(after - before) / (double)n;
	return 1;
}

/* ---- full -------------------------------------------------------------------------------------------------------- */

static int full_setup(void **ret, uint64_t argument)
{
	struct crowd_state *crowd = calloc(1, sizeof(*crowd));
	pyheap_ref ref;
	int r;

	(void)argument;
	if (!crowd)
		return -ENOMEM;
	r = pyheap_open(&crowd->heap, NULL);
	while (r >= 0)
		r = pyheap_new(crowd->heap, PYHEAP_BYTES, PAIR_SIZE, &ref);
	if (r != -ENOMEM) {
		crowd_teardown(crowd);
		return r;
	}
	*ret = crowd;
	return 0;
}

static int full_loop(void *state, uint64_t n)
{
	const struct crowd_state *crowd = state;
	pyheap_ref ref;

	for (uint64_t i = 0; i < n; i++)
		if (pyheap_new(crowd->heap, PYHEAP_BYTES, PAIR_SIZE, &ref) != -ENOMEM)
			return -EBADMSG;
	return 0;
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct work works[] = {
	{.key = WORK_AMONG_OBJECTS, .setup = objects_setup, .loop = crowd_loop, .teardown = crowd_teardown},
	{.key = WORK_AMONG_SESSIONS, .setup = sessions_setup, .loop = crowd_loop, .teardown = crowd_teardown},
	{.key = WORK_COME_AND_GO, .setup = sessions_setup, .measure = come_and_go_measure, .teardown = crowd_teardown},
	{.key = WORK_FULL, .setup = full_setup, .loop = full_loop, .teardown = crowd_teardown},
};

const struct family family_crowd = {.works = works, .n_works = sizeof(works) / sizeof(*works)};
