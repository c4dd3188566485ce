// SPDX-License-Identifier: MIT
/*
 * Scenarios: a session reads places without the lock, and drops what it holds uncounted
 *
 * The survivor has made a list that both hold, and puts a fresh object into it before each victim: nobody has read that
 * yet. Whether somebody has read an object before, and whether the place still has it, decides how a call goes.
 */
#include "scenario.h"

enum { QUEUE, LIST }; /* in stage->refs */

#define SIZE       208U
#define LARGE_SIZE 9000U
#define FULL_TABLE 60U /* more holds than fit into the table of a session's entry */

static void prepare(struct actor *a)
{
	MUST(a, pyheap_queue_new(a->heap, 2 * FULL_TABLE, &a->stage->refs[QUEUE]));
	MUST(a, pyheap_list_new(a->heap, 4, &a->stage->refs[LIST]));
}

static void put_fresh(struct actor *a, size_t i, size_t size, uint32_t seed)
{
	pyheap_ref ref = pattern_new(a, size, seed);

	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], i, ref));
	MUST(a, pyheap_decref(a->heap, ref));
}

/* Slot 0: a block; 1: a run; 2: a list with a child; 3: nothing. */
static void ready(struct actor *a)
{
	pyheap_ref inner = 0, child = pattern_new(a, SIZE, 73);

	put_fresh(a, 0, SIZE, 71);
	put_fresh(a, 1, LARGE_SIZE, 72);
	MUST(a, pyheap_list_new(a->heap, 1, &inner));
	MUST(a, pyheap_list_set(a->heap, inner, 0, child));
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 2, inner));
	MUST(a, pyheap_decref(a->heap, child));
	MUST(a, pyheap_decref(a->heap, inner));
}

static void verify_slot(struct actor *a, size_t i, size_t size, uint32_t seed)
{
	pyheap_ref ref = 0;

	MUST(a, pyheap_list_get(a->heap, a->stage->refs[LIST], i, &ref));
	if (!ref)
		return;
	pattern_check(a, ref, size, seed);
	MUST(a, pyheap_decref(a->heap, ref));
}

static void verify(struct actor *a)
{
	verify_slot(a, 0, SIZE, 71);
	verify_slot(a, 1, LARGE_SIZE, 72);
	for (size_t i = 0; i < 4; i++)
		MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], i, 0));
}

static int get(struct actor *a, size_t i)
{
	return pyheap_list_get(a->heap, a->stage->refs[LIST], i, &a->mine[0]);
}

static int get_call(struct actor *a)
{
	return get(a, 0);
}

static int get_run_call(struct actor *a)
{
	return get(a, 1);
}

static int get_none_call(struct actor *a)
{
	int r = get(a, 3);

	if (r == 0)
		EXPECT(a, a->mine[0] == 0);
	return r;
}

static int drop_call(struct actor *a)
{
	return pyheap_decref(a->heap, a->mine[0]);
}

/* The victim holds the list. */
static void setup(struct actor *a)
{
	MUST(a, pyheap_incref(a->heap, a->stage->refs[LIST]));
}

/* The object has been read before. */
static void again_setup(struct actor *a)
{
	setup(a);
	MUST(a, get_call(a));
	MUST(a, drop_call(a));
}

static void held_setup(struct actor *a)
{
	setup(a);
	MUST(a, get_call(a));
}

static void held_run_setup(struct actor *a)
{
	setup(a);
	MUST(a, get_run_call(a));
}

static void held_list_setup(struct actor *a)
{
	setup(a);
	MUST(a, get(a, 2));
}

static void counted_setup(struct actor *a)
{
	held_setup(a);
	MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], a->mine[0], 0));
	MUST(a, pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &a->mine[0], 0));
}

/* So many holds that the hold table is a run of its own. */
static void many_setup(struct actor *a)
{
	for (size_t i = 1; i <= FULL_TABLE; i++) {
		MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], pattern_new(a, 16, 74), 0));
		MUST(a, pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &a->mine[i], 0));
	}
	setup(a);
}

static void many_held_setup(struct actor *a)
{
	many_setup(a);
	MUST(a, get_call(a));
}

/* An object of the victim's own pool, which it holds by the header's word, or no more. */
static void own_setup(struct actor *a)
{
	setup(a);
	a->mine[0] = pattern_new(a, SIZE, 71);
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, a->mine[0]));
}

static void own_let_go_setup(struct actor *a)
{
	own_setup(a);
	MUST(a, drop_call(a));
}

/* While the victim stands before its call: the places are emptied, so only it has a right. */
static void clear_beside(struct actor *a)
{
	for (size_t i = 0; i < 3; i++)
		MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], i, 0));
}

/* The survivor holds it, too. */
static void hold_beside(struct actor *a)
{
	MUST(a, get_call(a));
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, 0));
}

static void hold_verify(struct actor *a)
{
	if (a->mine[0]) {
		pattern_check(a, a->mine[0], SIZE, 71);
		MUST(a, drop_call(a));
	}
	a->mine[0] = 0;
	verify(a);
}

/* The victim displaces what the survivor holds, or nobody. */
static int displace_call(struct actor *a)
{
	return pyheap_list_set(a->heap, a->stage->refs[LIST], 0, a->mine[1]);
}

static void displace_setup(struct actor *a)
{
	again_setup(a);
	a->mine[1] = pattern_new(a, SIZE, 71);
}

static void held_beside(struct actor *a)
{
	MUST(a, get_call(a));
}

/* A right that stands for uncounted holds becomes a place's. */
static int place_call(struct actor *a)
{
	return pyheap_list_set(a->heap, a->stage->refs[LIST], 3, a->mine[0]);
}

static int push_call(struct actor *a)
{
	return pyheap_queue_push(a->heap, a->stage->refs[QUEUE], a->mine[0], 0);
}

static void push_verify(struct actor *a)
{
	queue_empty(a, a->stage->refs[QUEUE]);
	verify(a);
}

#define READ(name_, setup_, call_, ...)                                                                                \
	{                                                                                                              \
		.name = (name_), .prepare = prepare, .setup = (setup_), .call = (call_), .ready = ready, __VA_ARGS__   \
	}

const struct scenario scenarios_read[] = {
	READ("read", setup, get_call, .verify = verify),
	READ("read_run", setup, get_run_call, .verify = verify),
	READ("read_none", setup, get_none_call, .verify = verify),
	READ("read_again", again_setup, get_call, .verify = verify),
	READ("read_held", held_setup, get_call, .verify = verify),
	READ("read_counted", counted_setup, get_call, .verify = verify),
	READ("read_many", many_setup, get_call, .verify = verify),
	READ("read_own", own_setup, get_call, .verify = verify),
	READ("read_own_let_go", own_let_go_setup, get_call, .verify = verify),
	READ("unread", held_setup, drop_call, .verify = verify),
	READ("unread_run", held_run_setup, drop_call, .verify = verify),
	READ("unread_many", many_held_setup, drop_call, .verify = verify),
	READ("unread_last", held_setup, drop_call, .verify = verify, .beside = clear_beside),
	READ("unread_last_list", held_list_setup, drop_call, .verify = verify, .beside = clear_beside),
	READ("unread_while_held", held_setup, drop_call, .verify = hold_verify, .beside = hold_beside),
	READ("displace_read", displace_setup, displace_call, .verify = verify),
	READ("displace_held", displace_setup, displace_call, .verify = hold_verify, .beside = held_beside),
	READ("place_uncounted", held_setup, place_call, .verify = verify, .beside = clear_beside),
	READ("push_uncounted", held_setup, push_call, .verify = push_verify),
	READ("push_uncounted_last", held_setup, push_call, .verify = push_verify, .beside = clear_beside),
	{.name = NULL},
};
