// SPDX-License-Identifier: MIT
/*
 * Works on objects: making, holding, dropping
 *
 * pair-48: make an object of 48 bytes and give it up again. One process; the memory is warm after the first time. There
 * is another object of that size all the while, as in any program.
 *
 * pair-48-alone: the same where there is no other: its pool is taken into use and given back with every object.
 *
 * hold-drop: make sure of an object that another process made and holds, and let go of it. Each hold is this session's
 * first of the object, and each drop its last, so a count that all processes share goes up and down. N_SHARED objects
 * take turns.
 */
#include "partner.h"
#include "works.h"
#include <pyheap.h>

#include <errno.h>
#include <stdlib.h>

/* ---- pair-48 and pair-48-alone ---------------------------------------------------------------------------------- */

static int alone_setup(void **ret)
{
	pyheap *heap;
	int r = pyheap_open(&heap, NULL);

	if (r >= 0)
		*ret = heap;
	return r;
}

static int pair_setup(void **ret)
{
	pyheap *heap;
	pyheap_ref other;
	int r = pyheap_open(&heap, NULL);

	if (r < 0)
		return r;
	/* Held until the session is closed. */
	r = pyheap_new(heap, PYHEAP_BYTES, PAIR_SIZE, &other);
	if (r < 0) {
		pyheap_close(heap);
		return r;
	}
	*ret = heap;
	return 0;
}

static int pair_run(void *state, uint64_t n)
{
	pyheap *heap = state;
	pyheap_ref ref;
	int r;

	for (uint64_t i = 0; i < n; i++) {
		r = pyheap_new(heap, PYHEAP_BYTES, PAIR_SIZE, &ref);
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
	pyheap_close(state);
	return 0;
}

/* ---- hold-drop -------------------------------------------------------------------------------------------------- */

struct hold_state {
	pyheap *heap;
	struct partner partner;
	pyheap_ref refs[N_SHARED]; /* the partner's objects */
	uint64_t next;
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
	for (size_t i = 0; hold->heap && hold->next && i < N_SHARED; i++) {
		if (pyheap_refcount(hold->heap, hold->refs[i]) != 1)
			r = -EBADMSG;
	}
	pyheap_close(hold->heap);
	stopped = partner_stop(&hold->partner);
	free(hold);
	return r < 0 ? r : stopped;
}

static int hold_setup(void **ret)
{
	struct hold_state *hold = calloc(1, sizeof(*hold));
	int r;

	if (!hold)
		return -ENOMEM;
	r = partner_start(&hold->partner, hold_serve, NULL);
	if (r >= 0)
		r = pyheap_open(&hold->heap, NULL);
	for (size_t i = 0; r >= 0 && i < N_SHARED; i++)
		r = partner_hear(hold->partner.fd, &hold->refs[i]);
	if (r < 0) {
		hold_teardown(hold);
		return r;
	}
	*ret = hold;
	return 0;
}

static int hold_run(void *state, uint64_t n)
{
	struct hold_state *hold = state;
	int r;

	for (uint64_t i = 0; i < n; i++) {
		pyheap_ref ref = hold->refs[hold->next++ % N_SHARED];

		r = pyheap_incref(hold->heap, ref);
		if (r < 0)
			return r;
		r = pyheap_decref(hold->heap, ref);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct work works[] = {
	{.key = WORK_PAIR_48,
		.title = "new + last decref, 48 B",
		.ours = {.how = "pyheap_new, pyheap_decref",
			.setup = pair_setup,
			.run = pair_run,
			.teardown = pair_teardown}},
	{.key = WORK_PAIR_48_ALONE,
		.title = "new + last decref, 48 B, the only object of its class",
		.ours = {.how = "pyheap_new, pyheap_decref",
			.setup = alone_setup,
			.run = pair_run,
			.teardown = pair_teardown}},
	{.key = WORK_HOLD_DROP,
		.title = "hold + drop of another process's object",
		.ours = {.how = "pyheap_incref, pyheap_decref",
			.setup = hold_setup,
			.run = hold_run,
			.teardown = hold_teardown}},
};

const struct family family_objects = {.works = works, .n_works = sizeof(works) / sizeof(*works)};
