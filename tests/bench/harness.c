// SPDX-License-Identifier: MIT
/*
 * Measuring contenders beside each other
 *
 * The absolute figures of one machine move by 15% and more from minute to minute (clock, neighbours, page placement),
 * so only figures of the same moments are comparable. Hence all contenders of a work are set up first; then, round by
 * round, each has its turn, another one going first each time; the median of its rounds stands for it and the range is
 * shown beside it. How many operations make a round is found per contender before, by doubling, which also warms it up.
 *
 * A contender that fails is kept in the table with its error and takes no further turn; the others go on.
 */
#include "harness.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
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

/* ---- one contender ---------------------------------------------------------------------------------------------- */

/* A contender while its work is measured. */
struct entrant {
	const struct contender *contender;
	struct result *result;
	void *state;
	bool set_up;
};

static int entrant_time(struct entrant *entrant, uint64_t n, uint64_t *ret_ns)
{
	uint64_t begin = clock_now();
	int r = entrant->contender->run(entrant->state, n);

	*ret_ns = clock_now() - begin;
	return r;
}

/* Get ready and find how many operations take round_ns. */
static int entrant_begin(struct entrant *entrant, uint64_t round_ns)
{
	uint64_t n = 1, ns = 0;
	int r = 0;

	if (entrant->contender->setup)
		r = entrant->contender->setup(&entrant->state);
	if (r < 0)
		return r;
	entrant->set_up = true;

	for (;;) {
		r = entrant_time(entrant, n, &ns);
		if (r < 0)
			return r;
		if (ns >= round_ns / 4)
			break;
		n *= 2;
	}
	n = (uint64_t)((double)n * (double)round_ns / (double)ns);
	entrant->result->n = n ? n : 1;
	return 0;
}

static int entrant_turn(struct entrant *entrant)
{
	struct result *result = entrant->result;
	uint64_t ns;
	int r = entrant_time(entrant, result->n, &ns);

	if (r < 0)
		return r;
	result->rounds[result->n_rounds++] = (double)ns / (double)result->n;
	return 0;
}

static int double_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void result_summarize(struct result *result)
{
	size_t n = result->n_rounds;
	double sorted[ROUNDS_MAX];

	memcpy(sorted, result->rounds, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), double_compare);
	result->min = sorted[0];
	result->max = sorted[n - 1];
	result->median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

static void entrant_end(struct entrant *entrant)
{
	int r = 0;

	if (entrant->set_up && entrant->contender->teardown)
		r = entrant->contender->teardown(entrant->state);
	if (!entrant->result->error)
		entrant->result->error = r;
	if (!entrant->result->error)
		result_summarize(entrant->result);
}

/* ---- one work --------------------------------------------------------------------------------------------------- */

static int row_add(struct row *row, struct entrant *entrants, const char *peer, const struct contender *contender,
	const struct harness_options *options)
{
	struct result *result = &row->results[row->n_results];

	if (row->n_results == PEERS_MAX)
		return -E2BIG;
	result->rounds = calloc(options->n_rounds, sizeof(*result->rounds));
	if (!result->rounds)
		return -ENOMEM;
	result->peer = peer;
	result->how = contender->how;
	entrants[row->n_results++] = (struct entrant){.contender = contender, .result = result};
	return 0;
}

static int row_fill(struct row *row, struct entrant *entrants, const struct peer *const *peers, size_t n_peers,
	const struct harness_options *options)
{
	int r = row_add(row, entrants, "pyheap", &row->work->ours, options);

	for (size_t i = 0; !r && i < n_peers; i++) {
		for (size_t j = 0; !r && j < peers[i]->n_entries; j++) {
			const struct peer_entry *entry = &peers[i]->entries[j];

			if (!strcmp(entry->work, row->work->key))
				r = row_add(row, entrants, peers[i]->name, &entry->contender, options);
		}
	}
	return r;
}

int harness_measure(struct row *ret, const struct work *work, const struct peer *const *peers, size_t n_peers,
	const struct harness_options *options)
{
	struct entrant entrants[PEERS_MAX];
	int r;

	*ret = (struct row){.work = work};
	if (options->n_rounds < 1 || options->n_rounds > ROUNDS_MAX || !options->round_ns)
		return -EINVAL;
	r = row_fill(ret, entrants, peers, n_peers, options);
	if (r < 0)
		return r;

	for (size_t i = 0; i < ret->n_results; i++)
		entrants[i].result->error = entrant_begin(&entrants[i], options->round_ns);
	for (size_t round = 0; round < options->n_rounds; round++) {
		for (size_t i = 0; i < ret->n_results; i++) {
			struct entrant *entrant = &entrants[(round + i) % ret->n_results];

			if (!entrant->result->error)
				entrant->result->error = entrant_turn(entrant);
		}
	}
	for (size_t i = 0; i < ret->n_results; i++)
		entrant_end(&entrants[i]);
	return 0;
}

void row_deinit(struct row *row)
{
	for (size_t i = 0; i < row->n_results; i++)
		free(row->results[i].rounds);
	row->n_results = 0;
}
