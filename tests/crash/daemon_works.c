// SPDX-License-Identifier: MIT
/*
 * Events that make the daemon work: what a client does before, what it does to cause the work, and what it verifies
 * after the daemon was killed and another one was started
 */
#include "daemon_works.h"

#include "client/session.h"
#include "world.h"

#include <errno.h>
#include <unistd.h>

enum { HELD, LIST, QUEUE }; /* in stage->refs */

#define PATTERN 90U

/* ---- the client ---- */

static void open_setup(struct actor *a)
{
	MUST(a, pyheap_open(&a->heap, a->stage->socket));
	a->mine[0] = pattern_new(a, 300, PATTERN);
}

static void open_verify(struct actor *a)
{
	pattern_check(a, a->mine[0], 300, PATTERN);
}

/* The daemon to which it said Hello may have been killed: it tries again. */
static void admit_act(struct actor *a)
{
	uint64_t give_up = watchdog_ns();
	int r;

	for (;;) {
		r = pyheap_open(&a->heap, a->stage->socket);
		if (r == 0 || clock_ns() > give_up)
			break;
		if (r != -ECONNRESET && r != -ECONNREFUSED && r != -ENOENT && r != -ETIMEDOUT)
			break;
		sleep_ms(5);
	}
	MUST(a, r);
	a->mine[0] = pattern_new(a, 300, PATTERN);
}

/* The call waits for the next daemon, or answers that the daemon is gone and is made again. */
static pyheap_ref new_at_last(struct actor *a, size_t size)
{
	uint64_t give_up = watchdog_ns();
	pyheap_ref ref = 0;
	int r;

	for (;;) {
		r = pyheap_new(a->heap, PYHEAP_BYTES, size, &ref);
		if ((r != -ECONNRESET && r != -ETIMEDOUT) || clock_ns() > give_up)
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

/* The tick comes by itself: nothing to be done. */
static void tick_act(struct actor *a)
{
	(void)a;
}

/* The client holds one object of each kind. */
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
	pattern_new(a, 40000, PATTERN);
	pattern_new(a, 150000, PATTERN);
	for (int i = 0; i < 60; i++)
		pattern_new(a, 32, PATTERN);
}

/* ---- its own pools ---- */

/* Another session drops the objects in the queue, which are remote frees, closes, and is reclaimed. */
static void free_given_remotely(struct actor *a)
{
	struct actor other = {.stage = a->stage, .is_victim = true};
	const struct session_entry *entry;
	uint64_t give_up = watchdog_ns();

	MUST(&other, pyheap_open(&other.heap, a->stage->socket));
	EXPECT(&other, queue_empty(&other, a->stage->refs[QUEUE]) > 0);
	entry = other.heap->session.entry;
	pyheap_close(other.heap);
	while (__atomic_load_n(&entry->state, __ATOMIC_ACQUIRE) != SESSION_FREE && clock_ns() < give_up)
		usleep(500);
}

static void give(struct actor *a, size_t i)
{
	MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], a->mine[i], 0));
	a->mine[i] = 0;
}

/* One free pool or run is kept for each size. */
static void keep_free(struct actor *a)
{
	for (size_t size = 80; size <= 8192; size = size * 9 + 40)
		MUST(a, pyheap_decref(a->heap, pattern_new(a, size, PATTERN)));
	MUST(a, pyheap_decref(a->heap, pattern_new(a, 5000, PATTERN)));
	MUST(a, pyheap_decref(a->heap, pattern_new(a, 40000, PATTERN)));
	MUST(a, pyheap_decref(a->heap, pattern_new(a, 50000, PATTERN)));
}

/* More free pools than one change trims. */
static void keep_many_free(struct actor *a)
{
	keep_free(a);
	for (size_t size = 8; size <= 512; size += 8)
		MUST(a, pyheap_decref(a->heap, pattern_new(a, size, PATTERN)));
}

/* The session keeps two free pools, one of which was freed remotely, and two spare runs. */
static void trim_setup(struct actor *a)
{
	open_setup(a);
	for (size_t i = 1; i < 4; i++)
		a->mine[i] = pattern_new(a, 504, PATTERN);
	for (size_t i = 1; i < 4; i++)
		give(a, i);
	free_given_remotely(a);
	keep_free(a);
}

static void trim_many_setup(struct actor *a)
{
	trim_setup(a);
	keep_many_free(a);
}

static void trim_verify(struct actor *a)
{
	open_verify(a);
	for (size_t i = 1; i < 12; i++) {
		a->mine[i] = pattern_new(a, i & 1 ? 504 : 80, PATTERN);
		pattern_check(a, a->mine[i], i & 1 ? 504 : 80, PATTERN);
	}
	for (size_t i = 1; i < 12; i++)
		MUST(a, pyheap_decref(a->heap, a->mine[i]));
}

/* Blocks of a full pool were freed remotely. */
static void ask_collect_setup(struct actor *a)
{
	open_setup(a);
	for (size_t i = 1; i < 8; i++)
		a->mine[i] = pattern_new(a, 512, PATTERN);
	for (size_t i = 1; i < 4; i++)
		give(a, i);
	free_given_remotely(a);
}

/* The session stays busy with other objects until the daemon has requested it to collect, or has been killed. */
static void ask_collect_act(struct actor *a)
{
	const struct session_entry *entry = a->heap->session.entry;
	uint64_t give_up = watchdog_ns();

	while (entry->remote_pools1 && clock_ns() < give_up &&
		!__atomic_load_n(&a->stage->is_without_daemon, __ATOMIC_RELAXED))
		MUST(a, pyheap_decref(a->heap, pattern_new(a, 300, PATTERN)));
}

static void ask_collect_verify(struct actor *a)
{
	open_verify(a);
	for (size_t i = 4; i < 8; i++)
		pattern_check(a, a->mine[i], 512, PATTERN);
	for (size_t i = 1; i < 4; i++)
		a->mine[i] = pattern_new(a, 512, PATTERN);
}

/*
 * The client leaves one of each in its own pools: objects that only it holds, that others hold as well or alone,
 * remotely freed blocks, free blocks; and runs.
 */
static void leave_setup(struct actor *a)
{
	pyheap_ref list = 0;

	trim_setup(a);
	for (size_t i = 1; i < 20; i++)
		a->mine[i] = pattern_new(a, 512, PATTERN);
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 2, a->mine[1]));
	MUST(a, pyheap_incref(a->heap, a->mine[1]));
	give(a, 2);
	give(a, 8);
	free_given_remotely(a);
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

/*
 * An idle session is trimmed once. On a busy machine that may be before the daemon is traced; so the client of "trim"
 * and "trim_many" keeps memory free once more as its act, after which it is trimmed again.
 */
const struct work daemon_works[] = {
	{"admit", "connection_new", NULL, admit_act, .verify = open_verify},
	{"grant", "dsession_ask_grant", grant_setup, grant_act, .verify = grant_verify},
	{"grant_run", "dsession_ask_grant", open_setup, grant_run_act, .verify = grant_verify},
	{"return", "supply_pick_old", return_setup, return_act, .verify = open_verify, .acts_before = true},
	{"tick", "on_tick", open_setup, tick_act, open_verify, .goes_on = true},
	{"trim", "own_trim", trim_setup, keep_free, trim_verify, .is_of_client = true, .goes_on = true},
	{"trim_many", "own_trim", trim_many_setup, keep_many_free, trim_verify, .is_of_client = true, .goes_on = true},
	{"ask_collect", "dsessions_tick", ask_collect_setup, ask_collect_act, ask_collect_verify, .is_one_call = true,
		.goes_on = true},
	{"goodbye", "session_mark_dead", leave_setup, goodbye_act, NULL, .goes_on = true},
	{"leave", "session_drop_step", leave_setup, NULL, .verify = NULL},
	{"reclaim", "session_mark_dead", reclaim_setup, NULL, .verify = NULL},
	{"adopt", "adopt_heap", reclaim_setup, NULL, NULL, .adopts = true},
	{"adopt_pools", "adopt_heap", leave_setup, NULL, NULL, .adopts = true},
	{"adopt_files", "store_open", leave_setup, NULL, NULL, .adopts = true},
	{.name = NULL},
};

/* ---- the survivor, and a client that dies in the middle of a change ---- */

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
	/* Objects that the client has left there: its pools may be half reclaimed. */
	queue_empty(a, a->stage->refs[QUEUE]);
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 2, 0));
}

static int change_call(struct actor *a)
{
	return pyheap_list_set(a->heap, a->stage->refs[LIST], 1, a->stage->refs[HELD]);
}

const struct scenario daemon_scenario = {"daemon", prepare, NULL, change_call, .verify = verify};
