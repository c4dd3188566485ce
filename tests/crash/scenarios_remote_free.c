// SPDX-License-Identifier: MIT
/*
 * Scenarios: remote frees into pools that another session owns, and pools that a session adopts
 *
 * The survivor, or a session that it opens and closes again, has made the objects that the victim drops.
 */
#include "scenario.h"

enum { QUEUE }; /* in stage->refs */

#define POOL 4096U
#define RUN  (10 * POOL) /* an object of whole pools */

/* Medium objects: a span of 9 pools has 11 of them. */
#define MEDIUM    3000U
#define FULL_SPAN 11U
#define BLOCK     512U
#define FULL      7U /* blocks of that size in a pool */

static void prepare(struct actor *a)
{
	MUST(a, pyheap_queue_new(a->heap, 16, &a->stage->refs[QUEUE]));
}

static void push_new(struct actor *a, size_t n, size_t size)
{
	for (size_t i = 0; i < n; i++)
		MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], pattern_new(a, size, 45), 0));
}

/* The victim pops all objects and drops all but the first. */
static void take_setup(struct actor *a, size_t n, size_t size)
{
	for (size_t i = 0; i < n; i++) {
		MUST(a, pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &a->mine[i], 0));
		if (size)
			pattern_check(a, a->mine[i], size, 45);
		if (i)
			MUST(a, pyheap_decref(a->heap, a->mine[i]));
	}
}

static int drop_call(struct actor *a)
{
	return pyheap_decref(a->heap, a->mine[0]);
}

static void verify_room(struct actor *a, size_t size)
{
	pyheap_ref ref = pattern_new(a, size, 46);

	pattern_check(a, ref, size, 46);
	MUST(a, pyheap_decref(a->heap, ref));
}

/* ---- to a living owner ---- */

/* The pool has another object, and room. */
static void block_ready(struct actor *a)
{
	a->mine[0] = pattern_new(a, 208, 47);
	push_new(a, 1, 208);
}

static void block_setup(struct actor *a)
{
	take_setup(a, 1, 208);
}

static void block_verify(struct actor *a)
{
	if (a->mine[0]) {
		pattern_check(a, a->mine[0], 208, 47);
		MUST(a, pyheap_decref(a->heap, a->mine[0]));
	}
	a->mine[0] = 0;
	verify_room(a, 208);
}

static void pool_ready(struct actor *a)
{
	push_new(a, FULL, BLOCK);
}

static void pool_setup(struct actor *a)
{
	take_setup(a, FULL, BLOCK);
}

static void pool_verify(struct actor *a)
{
	verify_room(a, BLOCK);
}

static void run_ready(struct actor *a)
{
	push_new(a, 1, RUN);
}

static void run_setup(struct actor *a)
{
	take_setup(a, 1, RUN);
}

static void run_verify(struct actor *a)
{
	verify_room(a, RUN);
}

/* The span has other objects, and room. */
static void medium_ready(struct actor *a)
{
	a->mine[0] = pattern_new(a, MEDIUM, 47);
	push_new(a, 6, MEDIUM);
}

static void medium_setup(struct actor *a)
{
	take_setup(a, 6, MEDIUM);
}

static void medium_verify(struct actor *a)
{
	if (a->mine[0]) {
		pattern_check(a, a->mine[0], MEDIUM, 47);
		MUST(a, pyheap_decref(a->heap, a->mine[0]));
	}
	a->mine[0] = 0;
	verify_room(a, MEDIUM);
}

/* With its last object the span goes. */
static void span_ready(struct actor *a)
{
	push_new(a, FULL_SPAN, MEDIUM);
}

static void span_setup(struct actor *a)
{
	take_setup(a, FULL_SPAN, MEDIUM);
}

/* A list whose children also lie in pools of the survivor. */
static void list_ready(struct actor *a)
{
	pyheap_ref list = 0;

	MUST(a, pyheap_list_new(a->heap, 3, &list));
	for (size_t i = 0; i < 3; i++) {
		pyheap_ref child = pattern_new(a, 208, 45);

		MUST(a, pyheap_list_set(a->heap, list, i, child));
		MUST(a, pyheap_decref(a->heap, child));
	}
	MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], list, 0));
}

static void list_setup(struct actor *a)
{
	take_setup(a, 1, 0);
}

/* ---- of pools that nobody owns ---- */

/*
 * A session makes n objects, gives n_given others to the victim and one of the n to the survivor, and closes: no
 * session owns its pool then.
 */
static void abandon_sized(struct actor *a, size_t n, size_t n_given, size_t size)
{
	struct actor other = {.stage = a->stage};

	MUST(a, pyheap_open(&other.heap, a->stage->socket));
	if (!other.heap)
		return;
	for (size_t i = 0; i < n; i++)
		other.mine[i] = pattern_new(&other, size, 47);
	a->mine[0] = n_given < n ? other.mine[n - 1] : 0;
	if (a->mine[0])
		MUST(a, pyheap_incref(a->heap, a->mine[0]));
	push_new(&other, n_given, size);
	pyheap_close(other.heap);
}

static void abandon_pool(struct actor *a, size_t n, size_t n_given)
{
	abandon_sized(a, n, n_given, 208);
}

static void abandoned_span_ready(struct actor *a)
{
	abandon_sized(a, 5, 0, MEDIUM);
}

static int adopt_span_call(struct actor *a)
{
	return pyheap_new(a->heap, PYHEAP_BYTES, MEDIUM, &a->mine[0]);
}

static void adopt_ready(struct actor *a)
{
	abandon_pool(a, 3, 0);
}

static int adopt_call(struct actor *a)
{
	return pyheap_new(a->heap, PYHEAP_BYTES, 208, &a->mine[0]);
}

static void unowned_ready(struct actor *a)
{
	abandon_pool(a, 3, 1);
}

static void unowned_last_ready(struct actor *a)
{
	abandon_pool(a, 0, 1);
}

const struct scenario scenarios_remote_free[] = {
	{"remote_free_block", prepare, block_setup, drop_call, .verify = block_verify, .ready = block_ready},
	{"remote_free_pool", prepare, pool_setup, drop_call, .verify = pool_verify, .ready = pool_ready},
	{"remote_free_run", prepare, run_setup, drop_call, .verify = run_verify, .ready = run_ready},
	{"remote_free_medium", prepare, medium_setup, drop_call, .verify = medium_verify, .ready = medium_ready},
	{"remote_free_span", prepare, span_setup, drop_call, .verify = medium_verify, .ready = span_ready},
	{"remote_free_list", prepare, list_setup, drop_call, .verify = block_verify, .ready = list_ready},
	{"remote_free_unowned", prepare, block_setup, drop_call, .verify = block_verify, .ready = unowned_ready},
	{"remote_free_unowned_last", prepare, block_setup, drop_call, .verify = block_verify,
		.ready = unowned_last_ready},
	{"adopt_pool", prepare, NULL, adopt_call, .verify = block_verify, .ready = adopt_ready},
	{"adopt_span", prepare, NULL, adopt_span_call, .verify = medium_verify, .ready = abandoned_span_ready},
	{.name = NULL},
};
