// SPDX-License-Identifier: MIT
/*
 * Works on one object: making, holding, dropping
 *
 * pair: make an object and give it up again. The memory is warm after the first time. There is another object of that
 * size all the while, as in any program.
 *
 * two-at-once: the same of two processes with a session each.
 *
 * hold-drop: make sure of an object that another process made and holds, and let go of it. Each hold is this session's
 * first of the object, and each drop its last. N_SHARED objects take turns.
 *
 * held: one hold more of what the session holds already, and back. data: where an object lies that the session holds.
 * N_SHARED objects of its own take turns.
 */
#include "ours.h"
#include "partner.h"

#include <errno.h>
#include <stdlib.h>

/* ---- pair ------------------------------------------------------------------------------------------------------- */

struct pair_state {
	pyheap *heap;
	size_t size;
};

static int pair_setup(void **ret, uint64_t argument)
{
	struct pair_state *pair = calloc(1, sizeof(*pair));
	int r;

	if (!pair)
		return -ENOMEM;
	pair->size = argument;
	r = ours_open(&pair->heap, pair->size);
	if (r < 0) {
		free(pair);
		return r;
	}
	*ret = pair;
	return 0;
}

static int pair_loop(void *state, uint64_t n)
{
	const struct pair_state *pair = state;
	pyheap *heap = pair->heap;
	size_t size = pair->size;
	pyheap_ref ref;
	int r;

	for (uint64_t i = 0; i < n; i++) {
		r = pyheap_new(heap, PYHEAP_BYTES, size, &ref);
		if (r < 0)
			return r;
		r = pyheap_decref(heap, ref);
		if (r < 0)
			return r;
	}
	return 0;
}

static int pair_teardown(void *state)
{
	struct pair_state *pair = state;

	pyheap_close(pair->heap);
	free(pair);
	return 0;
}

/* ---- two-at-once ------------------------------------------------------------------------------------------------ */

static int session_begin(void *userdata, void **ret)
{
	pyheap *heap;
	int r = ours_open(&heap, PAIR_SIZE);

	(void)userdata;
	if (r >= 0)
		*ret = heap;
	return r;
}

static int session_end(void *state)
{
	pyheap_close(state);
	return 0;
}

static int two_at_once_setup(void **ret, uint64_t argument)
{
	static const struct two_way way = {.begin = session_begin, .loop = ours_pairs, .end = session_end};
	struct two *two;
	int r = two_setup(&two, &way, NULL);

	(void)argument;
	if (r >= 0)
		*ret = two;
	return r;
}

/* ---- hold-drop -------------------------------------------------------------------------------------------------- */

struct hold_state {
	pyheap *heap;
	struct partner partner;
	pyheap_ref refs[N_SHARED];
	uint64_t n_heard; /* of them, from the partner */
};

/* The partner: make the objects, tell their refs, hold them until the end. */
static int hold_serve(void *userdata, int fd)
{
	pyheap *heap;
	pyheap_ref ref;
	uint64_t word;
	int r = pyheap_open(&heap, NULL);

	(void)userdata;
	if (r < 0)
		return r;
	for (size_t i = 0; r >= 0 && i < N_SHARED; i++) {
		r = pyheap_new(heap, PYHEAP_BYTES, PAIR_SIZE, &ref);
		if (r >= 0)
			r = partner_say(fd, ref);
	}
	if (r >= 0)
		r = partner_wait(fd, &word);
	pyheap_close(heap);
	return r == -ECONNRESET ? 0 : r;
}

static int hold_teardown(void *state)
{
	struct hold_state *hold = state;
	int r = 0, stopped;

	/* Only the partner's own hold may be left. */
	for (size_t i = 0; i < hold->n_heard; i++) {
		if (pyheap_refcount(hold->heap, hold->refs[i]) != 1)
			r = -EBADMSG;
	}
	pyheap_close(hold->heap);
	stopped = partner_stop(&hold->partner);
	free(hold);
	return r < 0 ? r : stopped;
}

static int hold_setup(void **ret, uint64_t argument)
{
	struct hold_state *hold = calloc(1, sizeof(*hold));
	int r;

	(void)argument;
	if (!hold)
		return -ENOMEM;
	r = partner_start(&hold->partner, hold_serve, NULL);
	if (r >= 0)
		r = pyheap_open(&hold->heap, NULL);
	for (; r >= 0 && hold->n_heard < N_SHARED; hold->n_heard++)
		r = partner_hear(hold->partner.fd, &hold->refs[hold->n_heard]);
	if (r < 0) {
		hold->n_heard = 0;
		hold_teardown(hold);
		return r;
	}
	*ret = hold;
	return 0;
}

static int hold_loop(void *state, uint64_t n)
{
	struct hold_state *hold = state;
	pyheap *heap = hold->heap;
	int r;

	for (uint64_t i = 0; i < n; i++) {
		pyheap_ref ref = hold->refs[i % N_SHARED];

		r = pyheap_incref(heap, ref);
		if (r < 0)
			return r;
		r = pyheap_decref(heap, ref);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- held, data ------------------------------------------------------------------------------------------------- */

static int held_setup(void **ret, uint64_t argument)
{
	struct hold_state *hold = calloc(1, sizeof(*hold));
	int r;

	(void)argument;
	if (!hold)
		return -ENOMEM;
	r = pyheap_open(&hold->heap, NULL);
	for (size_t i = 0; r >= 0 && i < N_SHARED; i++)
		r = pyheap_new(hold->heap, PYHEAP_BYTES, PAIR_SIZE, &hold->refs[i]);
	if (r < 0) {
		pyheap_close(hold->heap);
		free(hold);
		return r;
	}
	*ret = hold;
	return 0;
}

static int held_teardown(void *state)
{
	struct hold_state *hold = state;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < N_SHARED; i++)
		r = pyheap_refcount(hold->heap, hold->refs[i]) == 1 ? pyheap_decref(hold->heap, hold->refs[i])
								    : -EBADMSG;
	pyheap_close(hold->heap);
	free(hold);
	return r;
}

static int data_loop(void *state, uint64_t n)
{
	const struct hold_state *hold = state;
	pyheap *heap = hold->heap;

	for (uint64_t i = 0; i < n; i++) {
		const void *data = pyheap_data(heap, hold->refs[i % N_SHARED]);

		if (!data)
			return -errno;
		keep(data);
	}
	return 0;
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct work works[] = {
	{.key = WORK_PAIR, .setup = pair_setup, .loop = pair_loop, .teardown = pair_teardown},
	{.key = WORK_TWO_AT_ONCE, .setup = two_at_once_setup, .measure = two_measure, .teardown = two_teardown},
	{.key = WORK_HOLD_DROP, .setup = hold_setup, .loop = hold_loop, .teardown = hold_teardown},
	{.key = WORK_HELD, .setup = held_setup, .loop = hold_loop, .teardown = held_teardown},
	{.key = WORK_DATA, .setup = held_setup, .loop = data_loop, .teardown = held_teardown},
};

const struct family family_objects = {.works = works, .n_works = sizeof(works) / sizeof(*works)};
