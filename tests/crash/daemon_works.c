// SPDX-License-Identifier: MIT
/*
 * What makes the daemon work: a client, before, at it, and after the daemon was killed and another one came
 */
#include "daemon_works.h"

#include "client/session.h"
#include "world.h"

#include <errno.h>
#include <unistd.h>

enum { HELD, LIST, QUEUE }; /* in stage->refs */

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
	MUST(a, pyheap_incref(a->heap, a->stage->refs[HELD]));
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

/* ---- its own pools ----------------------------------------------------------------------------------------------- */

/* Another session returns what the client has put into the queue, closes, and is cleared up. */
static void return_given(struct actor *a)
{
	struct actor other = {.stage = a->stage, .is_victim = true};
	const struct session_entry *entry;
	int n_examined = 0;

	MUST(&other, pyheap_open(&other.heap, a->stage->socket));
	EXPECT(&other, queue_empty(&other, a->stage->refs[QUEUE]) > 0);
	entry = other.heap->session.entry;
	pyheap_close(other.heap);
	while (__atomic_load_n(&entry->state, __ATOMIC_ACQUIRE) != SESSION_FREE &&
		n_examined++ < 20000) /* a watch-dog */
		usleep(500);
}

static void give(struct actor *a, size_t i)
{
	MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], a->mine[i], 0));
	a->mine[i] = 0;
}

/* It keeps two pools, one of them by what was returned to it, and a run of each of two lengths. */
static void collect_setup(struct actor *a)
{
	open_setup(a);
	for (size_t i = 1; i < 4; i++)
		a->mine[i] = pattern_new(a, 504, PATTERN);
	for (size_t i = 1; i < 4; i++)
		give(a, i);
	return_given(a);
	for (size_t size = 80; size <= 8192; size = size * 9 + 40)
		MUST(a, pyheap_decref(a->heap, pattern_new(a, size, PATTERN)));
	MUST(a, pyheap_decref(a->heap, pattern_new(a, 5000, PATTERN)));
}

/* More pools than are taken back in one change. */
static void collect_many_setup(struct actor *a)
{
	collect_setup(a);
	for (size_t size = 8; size <= 512; size += 8)
		MUST(a, pyheap_decref(a->heap, pattern_new(a, size, PATTERN)));
}

static void collect_verify(struct actor *a)
{
	open_verify(a);
	for (size_t i = 1; i < 12; i++) {
		a->mine[i] = pattern_new(a, i & 1 ? 504 : 80, PATTERN);
		pattern_check(a, a->mine[i], i & 1 ? 504 : 80, PATTERN);
	}
	for (size_t i = 1; i < 12; i++)
		MUST(a, pyheap_decref(a->heap, a->mine[i]));
}

/* Blocks of a full pool were returned. */
static void gather_setup(struct actor *a)
{
	open_setup(a);
	for (size_t i = 1; i < 8; i++)
		a->mine[i] = pattern_new(a, 512, PATTERN);
	for (size_t i = 1; i < 4; i++)
		give(a, i);
	return_given(a);
}

/* Busy with other things, until it has been asked to gather them, or it takes too long as nobody is there to ask. */
static void gather_act(struct actor *a)
{
	const struct session_entry *entry = a->heap->session.entry;
	uint64_t give_up = clock_ns() + UINT64_C(500000000);

	while (entry->remote_pools1 && clock_ns() < give_up)
		MUST(a, pyheap_decref(a->heap, pattern_new(a, 300, PATTERN)));
}

static void gather_verify(struct actor *a)
{
	open_verify(a);
	for (size_t i = 4; i < 8; i++)
		pattern_check(a, a->mine[i], 512, PATTERN);
	for (size_t i = 1; i < 4; i++)
		a->mine[i] = pattern_new(a, 512, PATTERN);
}

/*
 * One of everything that a session can leave in its own pools: what only it holds, what others hold, too, or alone,
 * what was returned, what is free; and runs.
 */
static void leave_setup(struct actor *a)
{
	pyheap_ref list = 0;

	collect_setup(a);
	for (size_t i = 1; i < 20; i++)
		a->mine[i] = pattern_new(a, 512, PATTERN);
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 2, a->mine[1]));
	MUST(a, pyheap_incref(a->heap, a->mine[1]));
	give(a, 2);
	give(a, 8);
	return_given(a);
	give(a, 3);
	give(a, 9);
	MUST(a, pyheap_list_new(a->heap, 3, &list));
	MUST(a, pyheap_list_set(a->heap, list, 0, a->mine[4]));
	MUST(a, pyheap_list_set(a->heap, list, 1, a->mine[10]));
	MUST(a, pyheap_decref(a->heap, a->mine[10]));
	MUST(a, pyheap_decref(a->heap, a->mine[5]));
	a->mine[20] = pattern_new(a, 9000, PATTERN);
	give(a, 20);
	a->mine[20] = pattern_new(a, 9000, PATTERN);
}

static void goodbye_act(struct actor *a)
{
	a->heap = pyheap_close(a->heap);
}

const struct work daemon_works[] = {
	{"admit", "client_new", NULL, admit_act, .verify = open_verify},
	{"grant", "grant_request", grant_setup, grant_act, .verify = grant_verify},
	{"grant_run", "grant_request", open_setup, grant_run_act, .verify = grant_verify},
	{"return", "supply_pick_returning", return_setup, return_act, .verify = open_verify},
	{"tick", "on_tick", open_setup, tick_act, open_verify, .goes_on = true},
	{"collect", "own_trim", collect_setup, tick_act, collect_verify, .is_of_client = true, .goes_on = true},
	{"collect_many", "own_trim", collect_many_setup, tick_act, collect_verify, .is_of_client = true,
		.goes_on = true},
	{"gather", "idle_tick", gather_setup, gather_act, gather_verify, .is_one_call = true, .goes_on = true},
	{"goodbye", "member_dead", leave_setup, goodbye_act, NULL, .goes_on = true},
	{"leave", "session_drop_step", leave_setup, NULL, .verify = NULL},
	{"reclaim", "member_dead", reclaim_setup, NULL, .verify = NULL},
	{"adopt", "adopt_heap", reclaim_setup, NULL, NULL, .adopts = true},
	{"adopt_pools", "adopt_heap", leave_setup, NULL, NULL, .adopts = true},
	{.name = NULL},
};

/* ---- the survivor, and one that dies in the middle of a change -------------------------------------------------- */

static void prepare(struct actor *a)
{
	a->stage->refs[HELD] = pattern_new(a, 48, 91);
	MUST(a, pyheap_list_new(a->heap, 3, &a->stage->refs[LIST]));
	MUST(a, pyheap_queue_new(a->heap, 16, &a->stage->refs[QUEUE]));
}

static void verify(struct actor *a)
{
	pattern_check(a, a->stage->refs[HELD], 48, 91);
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, a->stage->refs[HELD]));
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, 0));
	/* What the client, or whoever it was, has left there: its pools may be half cleared up. */
	queue_empty(a, a->stage->refs[QUEUE]);
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 2, 0));
}

static int change_call(struct actor *a)
{
	return pyheap_list_set(a->heap, a->stage->refs[LIST], 1, a->stage->refs[HELD]);
}

const struct scenario daemon_scenario = {"daemon", prepare, NULL, change_call, .verify = verify};
