// SPDX-License-Identifier: MIT
/*
 * Works on memory: bringing it, and giving it back
 *
 * touch: objects of 64 KiB in memory that nobody has used before are made, then one byte of each of their pages is
 * written. Figures, nanoseconds a page: the writing; making and writing. They are dropped again, and the next round
 * begins when the memory is back with the system.
 *
 * sleeper: another process makes objects of 512 bytes, hands them over through a queue, and then sleeps and calls
 * nothing any more. This one holds them until all have come, and drops them all. Figures: the milliseconds from the
 * last drop until the heap's arenas take as much of /dev/shm as before, but for SLACK_ARENAS; how many MiB more it
 * takes then. One that is not back after WAIT_MS counts as that.
 */
#include "ours.h"
#include "partner.h"

#include <errno.h>
#include <stdlib.h>

#define TOUCH_SIZE   (64U << 10)
#define SLEEPER_SIZE 512U
#define MIB          (1U << 20)
#define WAIT_MS      5000
#define SLACK_ARENAS 4 /* the spare one, and those in which the one that sleeps has a place to go on */

/* ---- touch ------------------------------------------------------------------------------------------------------ */

struct touch_state {
	pyheap *heap;
	size_t n;
	pyheap_ref *refs;
	int64_t begin_bytes;
	int64_t arena_bytes;
};

static int touch_teardown(void *state)
{
	struct touch_state *touch = state;

	pyheap_close(touch->heap);
	free(touch->refs);
	free(touch);
	return 0;
}

static int touch_setup(void **ret, uint64_t argument)
{
	struct touch_state *touch = calloc(1, sizeof(*touch));
	pyheap_stats stats;
	int r;

	if (!touch)
		return -ENOMEM;
	touch->n = argument * MIB / TOUCH_SIZE;
	touch->refs = calloc(touch->n, sizeof(*touch->refs));
	r = touch->refs ? ours_open(&touch->heap, PAIR_SIZE) : -ENOMEM;
	if (r >= 0)
		r = pyheap_stats(touch->heap, &stats);
	if (r < 0) {
		touch_teardown(touch);
		return r;
	}
	touch->begin_bytes = ours_arena_bytes();
	touch->arena_bytes = (int64_t)stats.arena_size;
	*ret = touch;
	return 0;
}

static int touch_write(struct touch_state *touch)
{
	for (size_t i = 0; i < touch->n; i++) {
		volatile uint8_t *data = pyheap_data(touch->heap, touch->refs[i]);

		if (!data)
			return -errno;
		for (size_t at = 0; at < TOUCH_SIZE; at += PAGE_SIZE_4K)
			data[at] = 1;
	}
	return 0;
}

static int touch_measure(void *state, uint64_t n, double ret[FIGURES_MAX])
{
	struct touch_state *touch = state;
	double n_pages = (double)touch->n * TOUCH_SIZE / PAGE_SIZE_4K;
	uint64_t begin = clock_now(), made, done, waited;
	int r = 0;

	(void)n;
	for (size_t i = 0; r >= 0 && i < touch->n; i++)
		r = pyheap_new(touch->heap, PYHEAP_BYTES, TOUCH_SIZE, &touch->refs[i]);
	made = clock_now();
	if (r >= 0)
		r = touch_write(touch);
	done = clock_now();
	ret[0] = (double)(done - made) / n_pages;
	ret[1] = (double)(done - begin) / n_pages;
	for (size_t i = 0; r >= 0 && i < touch->n; i++)
		r = pyheap_decref(touch->heap, touch->refs[i]);
	if (r >= 0)
		r = ours_wait_arenas(touch->begin_bytes + SLACK_ARENAS * touch->arena_bytes, WAIT_MS, &waited);
	return r < 0 ? r : 2;
}

/* ---- sleeper ---------------------------------------------------------------------------------------------------- */

struct sleeper_state {
	pyheap *heap;
	pyheap_ref queue;
	size_t n;
	pyheap_ref *refs;
	int64_t arena_bytes;
};

static int sleeper_teardown(void *state)
{
	struct sleeper_state *sleeper = state;

	pyheap_close(sleeper->heap);
	free(sleeper->refs);
	free(sleeper);
	return 0;
}

static int sleeper_setup(void **ret, uint64_t argument)
{
	struct sleeper_state *sleeper = calloc(1, sizeof(*sleeper));
	pyheap_stats stats;
	int r;

	if (!sleeper)
		return -ENOMEM;
	sleeper->n = argument * MIB / SLEEPER_SIZE;
	sleeper->refs = calloc(sleeper->n, sizeof(*sleeper->refs));
	r = sleeper->refs ? ours_open(&sleeper->heap, PAIR_SIZE) : -ENOMEM;
	if (r >= 0)
		r = pyheap_queue_new(sleeper->heap, QUEUE_SIZE, &sleeper->queue);
	if (r >= 0)
		r = pyheap_stats(sleeper->heap, &stats);
	if (r < 0) {
		sleeper_teardown(sleeper);
		return r;
	}
	sleeper->arena_bytes = (int64_t)stats.arena_size;
	*ret = sleeper;
	return 0;
}

/* The producer, which falls asleep. */
static int sleeper_serve(void *userdata, int fd)
{
	const struct sleeper_state *sleeper = userdata;
	pyheap_ref ref;
	uint64_t word;
	pyheap *heap;
	int r = ours_open(&heap, 0);

	if (r < 0)
		return r;
	for (size_t i = 0; r >= 0 && i < sleeper->n; i++) {
		r = pyheap_new(heap, PYHEAP_BYTES, SLEEPER_SIZE, &ref);
		if (r >= 0)
			r = ours_push(heap, sleeper->queue, ref);
	}
	if (r >= 0)
		r = partner_wait(fd, &word);
	pyheap_close(heap);
	return r == -ECONNRESET ? 0 : r;
}

static int sleeper_measure(void *state, uint64_t n, double ret[FIGURES_MAX])
{
	struct sleeper_state *sleeper = state;
	int64_t begin_bytes = ours_arena_bytes(), left;
	struct partner partner = {0};
	uint64_t waited = 0;
	int r = partner_start(&partner, sleeper_serve, sleeper), stopped;

	(void)n;
	for (size_t i = 0; r >= 0 && i < sleeper->n; i++)
		r = ours_pop(sleeper->heap, sleeper->queue, &sleeper->refs[i]);
	for (size_t i = 0; r >= 0 && i < sleeper->n; i++)
		r = pyheap_decref(sleeper->heap, sleeper->refs[i]);
	if (r >= 0)
		r = ours_wait_arenas(begin_bytes + SLACK_ARENAS * sleeper->arena_bytes, WAIT_MS, &waited);
	left = ours_arena_bytes();
	stopped = partner_stop(&partner);
	if (r < 0 && r != -ETIMEDOUT)
		return r;
	if (stopped < 0)
		return stopped;
	ret[0] = (double)waited / 1e6;
	ret[1] = (double)(left > begin_bytes ? left - begin_bytes : 0) / MIB;
	return 2;
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct work works[] = {
	{.key = WORK_TOUCH, .setup = touch_setup, .measure = touch_measure, .teardown = touch_teardown},
	{.key = WORK_SLEEPER, .setup = sleeper_setup, .measure = sleeper_measure, .teardown = sleeper_teardown},
};

const struct family family_memory = {.works = works, .n_works = sizeof(works) / sizeof(*works)};
