// SPDX-License-Identifier: MIT
/*
 * Scenarios: a session holds and drops another session's object without the lock
 *
 * The survivor has made the object. The session to which the object's count is biased before the call decides how the
 * call goes: no session, the victim, or the survivor; in the last case the victim must take the lock.
 */
#include "scenario.h"

enum { QUEUE, LIST, SHARED, LARGE, BIASED, MEDIUM }; /* in stage->refs */

#define SIZE        208U
#define LARGE_SIZE  40000U /* a run */
#define MEDIUM_SIZE 3000U
#define FULL_TABLE  60U /* more holds than fit into the table of a session's entry */

/* A right that comes and goes under the lock: afterwards others may know the object, and its count is biased to no
 * session. */
static void share(struct actor *a, pyheap_ref ref)
{
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, ref));
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, 0));
}

static void prepare(struct actor *a)
{
	MUST(a, pyheap_queue_new(a->heap, 2 * FULL_TABLE, &a->stage->refs[QUEUE]));
	MUST(a, pyheap_list_new(a->heap, 2, &a->stage->refs[LIST]));
	a->stage->refs[SHARED] = pattern_new(a, SIZE, 71);
	a->stage->refs[LARGE] = pattern_new(a, LARGE_SIZE, 72);
	a->stage->refs[MEDIUM] = pattern_new(a, MEDIUM_SIZE, 73);
}

static void ready(struct actor *a)
{
	share(a, a->stage->refs[SHARED]);
	share(a, a->stage->refs[LARGE]);
	share(a, a->stage->refs[MEDIUM]);
}

static void verify(struct actor *a)
{
	pattern_check(a, a->stage->refs[SHARED], SIZE, 71);
	pattern_check(a, a->stage->refs[LARGE], LARGE_SIZE, 72);
	pattern_check(a, a->stage->refs[MEDIUM], MEDIUM_SIZE, 73);
}

static int hold_call(struct actor *a)
{
	return pyheap_incref(a->heap, a->stage->refs[SHARED]);
}

static int hold_large_call(struct actor *a)
{
	return pyheap_incref(a->heap, a->stage->refs[LARGE]);
}

static int hold_medium_call(struct actor *a)
{
	return pyheap_incref(a->heap, a->stage->refs[MEDIUM]);
}

static void held_medium_setup(struct actor *a)
{
	MUST(a, hold_medium_call(a));
}

static int drop_medium_call(struct actor *a)
{
	return pyheap_decref(a->heap, a->stage->refs[MEDIUM]);
}

static int drop_call(struct actor *a)
{
	return pyheap_decref(a->heap, a->stage->refs[SHARED]);
}

static int drop_large_call(struct actor *a)
{
	return pyheap_decref(a->heap, a->stage->refs[LARGE]);
}

/* The hold also biases the count to the victim. */
static void held_setup(struct actor *a)
{
	MUST(a, hold_call(a));
}

static void large_setup(struct actor *a)
{
	MUST(a, hold_large_call(a));
}

/* The count is biased to the victim, which has no hold. */
static void come_and_go_setup(struct actor *a)
{
	MUST(a, hold_call(a));
	MUST(a, drop_call(a));
}

/* So many holds that the hold table is a run of its own. */
static void many_setup(struct actor *a)
{
	for (size_t i = 0; i < FULL_TABLE; i++) {
		MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], pattern_new(a, 16, 73), 0));
		MUST(a, pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &a->mine[i], 0));
	}
}

static void many_held_setup(struct actor *a)
{
	many_setup(a);
	held_setup(a);
}

/* ---- biased to the survivor ---- */

/* The session that made the object is closed; a slot holds the object, and the survivor has held and dropped it. */
static void biased_ready(struct actor *a)
{
	struct actor other = {.stage = a->stage};
	pyheap_ref ref;

	MUST(a, pyheap_open(&other.heap, a->stage->socket));
	if (!other.heap)
		return;
	ref = pattern_new(&other, SIZE, 74);
	MUST(a, pyheap_list_set(other.heap, a->stage->refs[LIST], 1, ref));
	pyheap_close(other.heap);
	MUST(a, pyheap_incref(a->heap, ref));
	MUST(a, pyheap_decref(a->heap, ref));
	a->stage->refs[BIASED] = ref;
}

static int hold_biased_call(struct actor *a)
{
	return pyheap_incref(a->heap, a->stage->refs[BIASED]);
}

/* The victim holds the object; the survivor holds and drops it while the victim stands before its call. */
static void biased_setup(struct actor *a)
{
	MUST(a, hold_biased_call(a));
}

static void biased_beside(struct actor *a)
{
	MUST(a, pyheap_incref(a->heap, a->stage->refs[BIASED]));
	MUST(a, pyheap_decref(a->heap, a->stage->refs[BIASED]));
}

static int drop_biased_call(struct actor *a)
{
	return pyheap_decref(a->heap, a->stage->refs[BIASED]);
}

static void biased_verify(struct actor *a)
{
	if (!a->stage->refs[BIASED])
		return;
	MUST(a, pyheap_incref(a->heap, a->stage->refs[BIASED]));
	pattern_check(a, a->stage->refs[BIASED], SIZE, 74);
	MUST(a, pyheap_decref(a->heap, a->stage->refs[BIASED]));
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 1, 0));
	a->stage->refs[BIASED] = 0;
}

/* ---- the last right ---- */

/* The survivor makes four objects in one pool, and gives three of them to the victim. */
static void last_ready(struct actor *a)
{
	a->mine[0] = pattern_new(a, SIZE, 75);
	for (int i = 0; i < 3; i++)
		MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], pattern_new(a, SIZE, 76), 0));
}

/* One of the three is dropped before the call: the survivor is notified of the remote free. */
static void last_setup(struct actor *a)
{
	for (int i = 0; i < 3; i++)
		MUST(a, pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &a->mine[i], 0));
	MUST(a, pyheap_decref(a->heap, a->mine[2]));
}

static int drop_last_call(struct actor *a)
{
	return pyheap_decref(a->heap, a->mine[0]);
}

/* The two remotely freed blocks are collected and used again. */
static void last_verify(struct actor *a)
{
	pyheap_ref refs[4];

	if (a->mine[0]) {
		pattern_check(a, a->mine[0], SIZE, 75);
		MUST(a, pyheap_decref(a->heap, a->mine[0]));
	}
	a->mine[0] = 0;
	for (int i = 0; i < 4; i++)
		refs[i] = pattern_new(a, SIZE, (uint32_t)(80 + i));
	for (int i = 0; i < 4; i++) {
		pattern_check(a, refs[i], SIZE, (uint32_t)(80 + i));
		MUST(a, pyheap_decref(a->heap, refs[i]));
	}
}

const struct scenario scenarios_count[] = {
	{"count_hold", prepare, NULL, hold_call, .verify = verify, .ready = ready},
	{"count_hold_again", prepare, come_and_go_setup, hold_call, .verify = verify, .ready = ready},
	{"count_hold_run", prepare, NULL, hold_large_call, .verify = verify, .ready = ready},
	{"count_hold_medium", prepare, NULL, hold_medium_call, .verify = verify, .ready = ready},
	{"count_hold_many", prepare, many_setup, hold_call, .verify = verify, .ready = ready},
	{"count_hold_biased", prepare, NULL, hold_biased_call, .verify = biased_verify, .ready = biased_ready},
	{"count_drop", prepare, held_setup, drop_call, .verify = verify, .ready = ready},
	{"count_drop_run", prepare, large_setup, drop_large_call, .verify = verify, .ready = ready},
	{"count_drop_medium", prepare, held_medium_setup, drop_medium_call, .verify = verify, .ready = ready},
	{"count_drop_many", prepare, many_held_setup, drop_call, .verify = verify, .ready = ready},
	{"count_drop_biased", prepare, biased_setup, drop_biased_call, .verify = biased_verify, .ready = biased_ready,
		.beside = biased_beside},
	{"count_drop_last", prepare, last_setup, drop_last_call, .verify = last_verify, .ready = last_ready},
	{.name = NULL},
};
