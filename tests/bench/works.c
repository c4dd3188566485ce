// SPDX-License-Identifier: MIT
/*
 * What the contenders of one work have in common
 *
 * Two at once: first either process does the loop alone, then both do it, on a CPU each. What is said is twice the time
 * that one needs alone (the mean of the two, as CPUs may differ) over the time until both were done.
 */
#include "works.h"
#include "partner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t random_next(uint64_t *state)
{
	/* xorshift64* */
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dU;
}

uint32_t *work_sizes(size_t n)
{
	uint32_t *sizes = malloc(n * sizeof(*sizes));
	uint64_t random = 1;

	for (size_t i = 0; sizes && i < n; i++)
		sizes[i] = (uint32_t)(1 + random_next(&random) % MIXED_MAX);
	return sizes;
}

uint32_t *work_order(size_t n)
{
	uint32_t *order = malloc(n * sizeof(*order));
	uint64_t random = 2;

	for (size_t i = 0; order && i < n; i++) {
		size_t j = random_next(&random) % (i + 1);

		order[i] = order[j];
		order[j] = (uint32_t)i;
	}
	return order;
}

uint64_t work_sum(const void *data, size_t size)
{
	uint64_t sum = 0, word;

	for (size_t i = 0; i + sizeof(word) <= size; i += sizeof(word)) {
		memcpy(&word, (const char *)data + i, sizeof(word));
		sum += word;
	}
	return sum;
}

void work_name(char ret[WORK_NAME_BYTES], size_t i)
{
	snprintf(ret, WORK_NAME_BYTES, "object-%zu", i);
}

/* ---- two at once ------------------------------------------------------------------------------------------------ */

struct two {
	const struct two_way *way;
	void *userdata;
	void *state;
	struct partner partner;
};

static int two_begin(struct two *two)
{
	return two->way->begin ? two->way->begin(two->userdata, &two->state) : 0;
}

static int two_end(struct two *two)
{
	return two->way->end && two->state ? two->way->end(two->state) : 0;
}

/* The second process: as often as it is told, until the first one ends. */
static int two_serve(void *userdata, int fd)
{
	struct two *two = userdata;
	uint64_t n, begin;
	int r = two_begin(two), ended;

	if (r >= 0)
		r = two->way->loop(two->state, 1000);
	if (r >= 0)
		r = partner_say(fd, 0);
	while (r >= 0 && (r = partner_wait(fd, &n)) >= 0) {
		begin = clock_now();
		r = two->way->loop(two->state, n);
		if (r >= 0)
			r = partner_say(fd, clock_now() - begin);
	}
	ended = two_end(two);
	return r == -ECONNRESET ? ended : r;
}

int two_setup(struct two **ret, const struct two_way *way, void *userdata)
{
	struct two *two = calloc(1, sizeof(*two));
	uint64_t word;
	int r;

	if (!two)
		return -ENOMEM;
	two->way = way;
	two->userdata = userdata;
	r = partner_start(&two->partner, two_serve, two);
	if (r >= 0)
		r = partner_hear(two->partner.fd, &word);
	if (r >= 0)
		r = two_begin(two);
	if (r < 0) {
		two_teardown(two);
		return r;
	}
	*ret = two;
	return 0;
}

int two_measure(void *state, uint64_t n, double ret[FIGURES_MAX])
{
	struct two *two = state;
	uint64_t begin, mine, its, both, word;
	int r = partner_say(two->partner.fd, n);

	if (r >= 0)
		r = partner_hear(two->partner.fd, &its);
	begin = clock_now();
	if (r >= 0)
		r = two->way->loop(two->state, n);
	mine = clock_now() - begin;

	begin = clock_now();
	if (r >= 0)
		r = partner_say(two->partner.fd, n);
	if (r >= 0)
		r = two->way->loop(two->state, n);
	if (r >= 0)
		r = partner_hear(two->partner.fd, &word);
	both = clock_now() - begin;
	if (r < 0)
		return r;
	ret[0] = (double)(mine + its) / (double)both;
	return 1;
}

int two_teardown(void *state)
{
	struct two *two = state;
	int r = partner_stop(&two->partner), ended = two_end(two);

	free(two);
	return r < 0 ? r : ended;
}
