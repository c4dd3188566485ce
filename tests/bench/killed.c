// SPDX-License-Identifier: MIT
/*
 * A process is killed, and what the others notice of it
 *
 * Another process makes very many objects of 48 bytes and is killed. Meanwhile this one makes and drops an object again
 * and again, takes the time of each pair, and looks every now and then at the dead one's objects: one of every
 * SAMPLE_STEP is watched until it is gone. Figures: the milliseconds from the kill until all of them are gone; the
 * 99.9th percentile of the pair meanwhile, as a multiple of that before the kill; the latter, nanoseconds; the longest
 * pair meanwhile, microseconds.
 */
#include "ours.h"
#include "partner.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAMPLE_STEP   1000U
#define LOOK_STEP     64U      /* pairs between two looks */
#define N_QUIET_PAIRS 500000U  /* before the kill */
#define NS_MAX        4000000U /* of one pair; longer ones count as that */

struct times {
	uint64_t n;
	uint64_t longest;
	uint32_t counts[NS_MAX]; /* how many pairs took so many ns */
};

struct killed_state {
	pyheap *heap;
	size_t n;
	size_t n_samples;
	pyheap_ref *samples;
	struct times times;
};

/* ---- times ------------------------------------------------------------------------------------------------------ */

static void times_add(struct times *times, uint64_t ns)
{
	times->n++;
	times->counts[ns < NS_MAX ? ns : NS_MAX - 1]++;
	if (ns > times->longest)
		times->longest = ns;
}

/* The time that 999 of 1000 pairs do not exceed. */
static uint64_t times_tail(const struct times *times)
{
	uint64_t n_known = 0, n_wanted = times->n - times->n / 1000;

	for (uint64_t ns = 0; ns < NS_MAX; ns++) {
		n_known += times->counts[ns];
		if (n_known >= n_wanted)
			return ns;
	}
	return NS_MAX;
}

static int times_pairs(struct times *times, pyheap *heap, uint64_t n)
{
	int r = 0;

	for (uint64_t i = 0; r >= 0 && i < n; i++) {
		uint64_t begin = clock_now();

		r = ours_pairs(heap, 1);
		times_add(times, clock_now() - begin);
	}
	return r;
}

/* ---- the work --------------------------------------------------------------------------------------------------- */

static int killed_teardown(void *state)
{
	struct killed_state *killed = state;

	pyheap_close(killed->heap);
	free(killed->samples);
	free(killed);
	return 0;
}

static int killed_setup(void **ret, uint64_t argument)
{
	struct killed_state *killed = calloc(1, sizeof(*killed));
	int r;

	if (!killed)
		return -ENOMEM;
	killed->n = argument;
	killed->n_samples = (killed->n + SAMPLE_STEP - 1) / SAMPLE_STEP;
	killed->samples = calloc(killed->n_samples, sizeof(*killed->samples));
	r = killed->samples ? ours_open(&killed->heap, PAIR_SIZE) : -ENOMEM;
	if (r < 0) {
		killed_teardown(killed);
		return r;
	}
	*ret = killed;
	return 0;
}

/* The one to be killed. */
static int killed_serve(void *userdata, int fd)
{
	const struct killed_state *killed = userdata;
	pyheap_ref ref;
	uint64_t word;
	pyheap *heap;
	int r = ours_open(&heap, 0);

	for (size_t i = 0; r >= 0 && i < killed->n; i++) {
		r = pyheap_new(heap, PYHEAP_BYTES, PAIR_SIZE, &ref);
		if (r >= 0 && i % SAMPLE_STEP == 0)
			r = partner_say(fd, ref);
	}
	if (r >= 0)
		r = partner_say(fd, 0);
	return r < 0 ? r : partner_wait(fd, &word);
}

/* Until the last sample is gone: how long that took. */
static int killed_watch(struct killed_state *killed, uint64_t *ret_ns)
{
	uint64_t begin = clock_now(), now = begin;
	size_t n_gone = 0;
	int r = 0;

	while (r >= 0 && n_gone < killed->n_samples) {
		if (now - begin > (uint64_t)WATCH_DOG_MS * 1000000U)
			return -ETIMEDOUT;
		r = times_pairs(&killed->times, killed->heap, LOOK_STEP);
		while (n_gone < killed->n_samples && pyheap_refcount(killed->heap, killed->samples[n_gone]) == -ESTALE)
			n_gone++;
		now = clock_now();
	}
	*ret_ns = now - begin;
	return r;
}

static int killed_measure(void *state, uint64_t n, double ret[FIGURES_MAX])
{
	struct killed_state *killed = state;
	struct partner partner;
	uint64_t word, took = 0, quiet;
	int r = partner_start(&partner, killed_serve, killed);

	(void)n;
	if (r < 0)
		return r;
	for (size_t i = 0; r >= 0 && i < killed->n_samples; i++)
		r = partner_hear(partner.fd, &killed->samples[i]);
	if (r >= 0)
		r = partner_hear(partner.fd, &word);

	memset(&killed->times, 0, sizeof(killed->times));
	if (r >= 0)
		r = times_pairs(&killed->times, killed->heap, N_QUIET_PAIRS);
	quiet = times_tail(&killed->times);
	memset(&killed->times, 0, sizeof(killed->times));
	kill(partner.pid, SIGKILL);
	if (r >= 0)
		r = killed_watch(killed, &took);
	close(partner.fd);
	waitpid(partner.pid, NULL, 0);
	if (r < 0)
		return r;

	ret[0] = (double)took / 1e6;
	ret[1] = (double)times_tail(&killed->times) / (double)quiet;
	ret[2] = (double)quiet;
	ret[3] = (double)killed->times.longest / 1e3;
	return 4;
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct work works[] = {
	{.key = WORK_KILLED, .setup = killed_setup, .measure = killed_measure, .teardown = killed_teardown},
};

const struct family family_killed = {.works = works, .n_works = sizeof(works) / sizeof(*works)};
