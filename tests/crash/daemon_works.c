// SPDX-License-Identifier: MIT
/*
 * What makes the daemon work: a client, before, at it, and after the daemon was killed and another one came
 */
#include "daemon_works.h"

#include "world.h"

#include <errno.h>

#define PATTERN 90U

/* ---- the client ------------------------------------------------------------------------------------------------- */

static void open_setup(struct actor *a)
{
	MUST(a, pyheap_open(&a->heap, a->stage->socket));
	a->mine[0] = pattern_new(a, 300, PATTERN);
}

static void open_verify(struct actor *a)
{
	pattern_check(a, a->mine[0], 300, PATTERN);
}

/* The daemon it said Hello to may be gone: it comes again. */
static void admit_act(struct actor *a)
{
	int r = 0;

	for (int i = 0; i < 2000; i++) {
		r = pyheap_open(&a->heap, a->stage->socket);
		if (r == 0)
			break;
		if (r != -ECONNRESET && r != -ECONNREFUSED && r != -ENOENT && r != -ETIMEDOUT)
			break;
		sleep_ms(5);
	}
	MUST(a, r);
	a->mine[0] = pattern_new(a, 300, PATTERN);
}

/* Its call waits for the daemon to come back, or says that it is gone and is made again. */
static pyheap_ref new_at_last(struct actor *a, size_t size)
{
	pyheap_ref ref = 0;
	int r = 0;

	for (int i = 0; i < 2000; i++) {
		r = pyheap_new(a->heap, PYHEAP_BYTES, size, &ref);
		if (r != -ECONNRESET && r != -ETIMEDOUT)
			break;
		sleep_ms(5);
	}
	MUST(a, r);
	return ref;
}

static void grant_setup(struct actor *a)
{
	open_setup(a);
	take_free_pools(a);
}

static void grant_act(struct actor *a)
{
	a->mine[1] = new_at_last(a, 208);
}

static void grant_run_act(struct actor *a)
{
	a->mine[1] = new_at_last(a, 150000);
}

static void grant_verify(struct actor *a)
{
	open_verify(a);
	EXPECT(a, pyheap_data(a->heap, a->mine[1]) != NULL);
}

static void return_setup(struct actor *a)
{
	open_setup(a);
	a->mine[1] = pattern_new(a, 150000, PATTERN);
	for (size_t i = 2; i < 7; i++)
		a->mine[i] = pattern_new(a, 60000, PATTERN);
}

static void return_act(struct actor *a)
{
	for (size_t i = 1; i < 7; i++)
		MUST(a, pyheap_decref(a->heap, a->mine[i]));
}

/* The tick comes by itself. */
static void tick_act(struct actor *a)
{
	(void)a;
}

/* One of everything that can be held. */
static void reclaim_setup(struct actor *a)
{
	pyheap_ref queue = 0, list = 0;

	open_setup(a);
	MUST(a, pyheap_incref(a->heap, a->stage->refs[0]));
	MUST(a, pyheap_list_new(a->heap, 70, &list));
	for (size_t i = 0; i < 70; i++) {
		pyheap_ref child = pattern_new(a, 24, PATTERN);

		MUST(a, pyheap_list_set(a->heap, list, i, child));
		MUST(a, pyheap_decref(a->heap, child));
	}
	MUST(a, pyheap_queue_new(a->heap, 4, &queue));
	MUST(a, pyheap_queue_push(a->heap, queue, pattern_new(a, 24, PATTERN), 0));
	pattern_new(a, 9000, PATTERN);
	pattern_new(a, 150000, PATTERN);
	for (int i = 0; i < 60; i++)
		pattern_new(a, 32, PATTERN);
}

const struct work daemon_works[] = {
	{"admit", "client_new", NULL, admit_act, open_verify, false},
	{"grant", "grant_request", grant_setup, grant_act, grant_verify, false},
	{"grant_run", "grant_request", open_setup, grant_run_act, grant_verify, false},
	{"return", "arena_pick_returning", return_setup, return_act, open_verify, false},
	{"tick", "on_tick", open_setup, tick_act, open_verify, false},
	{"reclaim", "member_dead", reclaim_setup, NULL, NULL, false},
	{"adopt", "adopt_heap", reclaim_setup, NULL, NULL, true},
	{.name = NULL},
};

/* ---- the survivor, and one that dies in the middle of a change -------------------------------------------------- */

static void prepare(struct actor *a)
{
	a->stage->refs[0] = pattern_new(a, 48, 91);
	MUST(a, pyheap_list_new(a->heap, 3, &a->stage->refs[1]));
}

static void verify(struct actor *a)
{
	pattern_check(a, a->stage->refs[0], 48, 91);
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[1], 0, a->stage->refs[0]));
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[1], 0, 0));
}

static int change_call(struct actor *a)
{
	return pyheap_list_set(a->heap, a->stage->refs[1], 1, a->stage->refs[0]);
}

const struct scenario daemon_scenario = {"daemon", prepare, NULL, change_call, .verify = verify};
