// SPDX-License-Identifier: MIT
/*
 * Scenarios: a session works in its own pools without the lock, also after others have freed blocks there
 *
 * While the victim stands before its call, the survivor pops from a queue what the victim has pushed there, and drops
 * it: so blocks of the victim's pools are freed remotely and wait to be collected.
 */
#include "heap/change/lock.h"
#include "scenario.h"

#include "client/session.h"
#include "heap/memory/size_class.h"
#include "heap/shared/critical.h"

#include <string.h>

enum { KNOWN, QUEUE, LIST }; /* in stage->refs */

#define POOL      4096U
#define RUN       (10 * POOL) /* an object of whole pools */
#define MEDIUM    3000U       /* 11 blocks in a span of 9 pools */
#define BLOCK     512U
#define FULL      7U  /* blocks of that size in a pool */
#define HOLDS_OWN 127 /* most holds that a header can count */

static void prepare(struct actor *a)
{
	a->stage->refs[KNOWN] = pattern_new(a, 48, 40);
	MUST(a, pyheap_queue_new(a->heap, 16, &a->stage->refs[QUEUE]));
	MUST(a, pyheap_list_new(a->heap, 3, &a->stage->refs[LIST]));
}

static void remake(struct actor *a, size_t size)
{
	pyheap_ref ref = pattern_new(a, size, 42);

	pattern_check(a, ref, size, 42);
	MUST(a, pyheap_decref(a->heap, ref));
}

/* After each death there is room, and the shared objects are undamaged. */
static void verify(struct actor *a)
{
	queue_empty(a, a->stage->refs[QUEUE]);
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, 0));
	pattern_check(a, a->stage->refs[KNOWN], 48, 40);
	MUST(a, pyheap_incref(a->heap, a->stage->refs[KNOWN]));
	MUST(a, pyheap_decref(a->heap, a->stage->refs[KNOWN]));
	remake(a, 48);
	remake(a, BLOCK);
	remake(a, RUN);
	remake(a, MEDIUM);
}

static void make(struct actor *a, size_t n, size_t size)
{
	for (size_t i = 0; i < n; i++)
		a->mine[i] = pattern_new(a, size, 41);
}

static void give(struct actor *a, size_t i)
{
	MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], a->mine[i], 0));
}

/* Survivor, beside the victim: drops what the victim has given it. */
static void drop_given(struct actor *a)
{
	EXPECT(a, queue_empty(a, a->stage->refs[QUEUE]) > 0);
}

static int drop_call(struct actor *a)
{
	return pyheap_decref(a->heap, a->mine[0]);
}

static int hold_call(struct actor *a)
{
	return pyheap_incref(a->heap, a->mine[0]);
}

static int new_call(struct actor *a)
{
	return pyheap_new(a->heap, PYHEAP_BYTES, 48, &a->mine[0]);
}

/* The three calls above by the functions in the library, for programs that do not compile them inline. */
static int whole_drop_call(struct actor *a)
{
	return pyheap_whole_decref(a->heap, a->mine[0]);
}

static int whole_hold_call(struct actor *a)
{
	return pyheap_whole_incref(a->heap, a->mine[0]);
}

static int whole_new_call(struct actor *a)
{
	return pyheap_whole_new(a->heap, PYHEAP_BYTES, 48, &a->mine[0]);
}

static int new_block_call(struct actor *a)
{
	return pyheap_new(a->heap, PYHEAP_BYTES, BLOCK, &a->mine[0]);
}

/* ---- blocks ---- */

/* The pool has room, and two objects. */
static void block_setup(struct actor *a)
{
	make(a, 2, 48);
	a->stage->passed = a->mine[0];
}

/* As block_setup(), and the object is held twice. */
static void twice_setup(struct actor *a)
{
	block_setup(a);
	MUST(a, pyheap_incref(a->heap, a->mine[0]));
}

/* As block_setup(), and a block was freed: the next object takes the shortest path. */
static void freed_block_setup(struct actor *a)
{
	make(a, 3, 48);
	MUST(a, pyheap_decref(a->heap, a->mine[0]));
	a->stage->passed = a->mine[0];
}

/* As block_setup(), and the session's cache has forgotten the object and the pool: see heap/shared/cache.h. */
static void forgotten_setup(struct actor *a)
{
	block_setup(a);
	cache_forget(a->heap->session.cache, a->mine[0]);
	cache_forget_pool(a->heap->session.cache, class_of_size(48));
}

static void last_block_setup(struct actor *a)
{
	make(a, FULL - 1, BLOCK);
}

static int new_list_call(struct actor *a)
{
	return pyheap_list_new(a->heap, BLOCK / 8, &a->mine[0]);
}

/* The next list of this size takes the block of a list whose slots all held KNOWN; their refs are still there. */
static void stale_list_setup(struct actor *a)
{
	for (size_t i = 0; i < FULL; i++)
		MUST(a, pyheap_list_new(a->heap, BLOCK / 8, &a->mine[i]));
	for (size_t i = 0; i < 2; i++) {
		for (size_t slot = 0; slot < BLOCK / 8; slot++)
			MUST(a, pyheap_list_set(a->heap, a->mine[i], slot, a->stage->refs[KNOWN]));
	}
	MUST(a, pyheap_decref(a->heap, a->mine[0]));
	MUST(a, pyheap_decref(a->heap, a->mine[1]));
	MUST(a, pyheap_list_new(a->heap, BLOCK / 8, &a->mine[1])); /* collects both blocks */
}

static void stale_list_verify(struct actor *a)
{
	EXPECT(a, pyheap_refcount(a->heap, a->stage->refs[KNOWN]) == 1);
	verify(a);
}

/* Two pools have room: the one that becomes free is given back. */
static void pool_goes_setup(struct actor *a)
{
	make(a, FULL + 1, BLOCK);
	MUST(a, pyheap_decref(a->heap, a->mine[1]));
	a->mine[0] = a->mine[FULL];
}

/* ---- runs ---- */

static int new_run_call(struct actor *a)
{
	return pyheap_new(a->heap, PYHEAP_BYTES, RUN, &a->mine[0]);
}

static void spare_setup(struct actor *a)
{
	make(a, 1, RUN);
	MUST(a, pyheap_decref(a->heap, a->mine[0]));
}

/* The session already keeps another spare run of that size. */
static void second_run_setup(struct actor *a)
{
	make(a, 2, RUN);
	MUST(a, pyheap_decref(a->heap, a->mine[1]));
}

/* ---- medium objects ---- */

static int new_medium_call(struct actor *a)
{
	return pyheap_new(a->heap, PYHEAP_BYTES, MEDIUM, &a->mine[0]);
}

static int list_medium_call(struct actor *a)
{
	return pyheap_list_new(a->heap, MEDIUM / 8, &a->mine[0]);
}

/* The span has another object, and a block that was freed. */
static void medium_setup(struct actor *a)
{
	make(a, 4, MEDIUM);
	MUST(a, pyheap_decref(a->heap, a->mine[3]));
	a->mine[3] = 0;
}

/* The session's own span has no room: the call takes another one. */
static void full_span_setup(struct actor *a)
{
	for (size_t i = 1; i < 12; i++)
		a->mine[i] = pattern_new(a, MEDIUM, 41);
}

/* ---- holds ---- */

static void most_holds_setup(struct actor *a)
{
	make(a, 1, 48);
	for (int i = 1; i < HOLDS_OWN; i++)
		MUST(a, pyheap_incref(a->heap, a->mine[0]));
}

/* The header counts one hold, the hold table another. */
static void both_holds_setup(struct actor *a)
{
	most_holds_setup(a);
	MUST(a, pyheap_incref(a->heap, a->mine[0]));
	for (int i = 1; i < HOLDS_OWN; i++)
		MUST(a, pyheap_decref(a->heap, a->mine[0]));
}

/* A slot held the object for a time. */
static void known_setup(struct actor *a)
{
	make(a, 2, 48);
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, a->mine[0]));
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, 0));
}

/* A slot holds the object, too. */
static void shared_setup(struct actor *a)
{
	make(a, 2, 48);
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, a->mine[0]));
	a->stage->passed = a->mine[0];
}

static void shared_verify(struct actor *a)
{
	pyheap_ref ref = 0;

	MUST(a, pyheap_list_get(a->heap, a->stage->refs[LIST], 0, &ref));
	if (a->stage->passed) {
		EXPECT(a, ref == a->stage->passed);
		pattern_check(a, ref, 48, 41);
		MUST(a, pyheap_decref(a->heap, ref));
	}
	a->stage->passed = 0;
	verify(a);
}

/* ---- remote frees ---- */

static void full_given_setup(struct actor *a)
{
	make(a, FULL, BLOCK);
	for (size_t i = 1; i < 4; i++)
		give(a, i);
}

/* The object that it drops is the last one in its pool. */
static void all_but_one_given_setup(struct actor *a)
{
	make(a, FULL, BLOCK);
	for (size_t i = 1; i < FULL; i++)
		give(a, i);
}

/* Two pools of a class have room, and all blocks of one were freed remotely. Another class has no pool. */
static void pool_given_setup(struct actor *a)
{
	make(a, FULL + 2, BLOCK);
	MUST(a, pyheap_decref(a->heap, a->mine[0]));
	give(a, FULL);
	give(a, FULL + 1);
}

/* Remotely freed blocks in more pools than one change collects. */
static void many_given_setup(struct actor *a)
{
	make(a, 10 * FULL, BLOCK);
	for (size_t i = 0; i < 10; i++)
		give(a, i * FULL);
}

/* The survivor still holds them when the victim dies. It drops them before the dead session is reclaimed, meanwhile or
 * after. */
static void take_given(struct actor *a)
{
	for (size_t i = 0; i < 4; i++)
		MUST(a, pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &a->mine[i], 0));
}

static void dies_setup(struct actor *a)
{
	make(a, FULL, BLOCK);
	for (size_t i = 1; i < 4; i++)
		give(a, i);
	a->mine[FULL] = pattern_new(a, RUN, 41);
	give(a, FULL);
}

static void dies_verify(struct actor *a)
{
	for (size_t i = 0; i < 4; i++) {
		if (a->mine[i]) {
			pattern_check(a, a->mine[i], i < 3 ? BLOCK : RUN, 41);
			MUST(a, pyheap_decref(a->heap, a->mine[i]));
		}
		a->mine[i] = 0;
	}
	verify(a);
}

/* ---- requests ---- */

/* Survivor, beside the victim: holds and drops an object that only the victim knew. */
static void come_and_go(struct actor *a)
{
	MUST(a, pyheap_incref(a->heap, a->stage->passed));
	MUST(a, pyheap_decref(a->heap, a->stage->passed));
}

static void requested_setup(struct actor *a)
{
	make(a, 3, 48);
	a->stage->passed = a->mine[2];
}

/* The request that the daemon makes of a busy session. */
static void request_collect(struct actor *a)
{
	struct session *session = &a->heap->session;
	const struct session_entry *sessions = session->heap->sessions;

	drop_given(a);
	MUST(a, pyheap_lock(a->heap));
	for (uint32_t i = 0; i < session->heap->n_sessions; i++)
		if (sessions[i].state == SESSION_ACTIVE && sessions[i].remote_pools1 && i != session->index)
			critical_request(session->heap, i, REQUEST_COLLECT);
	MUST(a, pyheap_unlock(a->heap));
}

/*
 * pyheap_check() without its walk, which changes nothing and would take long under the lock: it blocks the critical
 * sections of all sessions and unblocks them. When the victim is killed in between, the next change unblocks them.
 */
static int block_call(struct actor *a)
{
	struct session *session = &a->heap->session;
	int r;

	r = change_begin(session);
	if (r < 0)
		return r;
	r = critical_block_all(session->heap);
	critical_unblock_all(session->heap);
	return change_end(session, r);
}

/* ---- closing ---- */

static void close_setup(struct actor *a)
{
	dies_setup(a);
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, a->mine[0]));
	MUST(a, pyheap_incref(a->heap, a->stage->refs[KNOWN]));
	spare_setup(a);
	a->mine[0] = pattern_new(a, 200, 41);
}

static int close_call(struct actor *a)
{
	a->heap = pyheap_close(a->heap);
	return a->heap ? -1 : 0;
}

/* Some of the given objects are dropped before the victim closes, the others after. */
static void drop_some(struct actor *a)
{
	take_given(a);
	MUST(a, pyheap_decref(a->heap, a->mine[0]));
	a->mine[0] = 0;
}

const struct scenario scenarios_own[] = {
	{"own_new", prepare, block_setup, new_call, .verify = verify},
	{"own_new_whole", prepare, freed_block_setup, whole_new_call, .verify = verify},
	{"own_new_freed", prepare, freed_block_setup, new_call, .verify = verify},
	{"own_new_long", prepare, forgotten_setup, new_call, .verify = verify},
	{"own_new_last", prepare, last_block_setup, new_block_call, .verify = verify},
	{"own_new_list", prepare, stale_list_setup, new_list_call, .verify = stale_list_verify},
	{"own_new_run", prepare, spare_setup, new_run_call, .verify = verify},
	{"own_new_medium", prepare, medium_setup, new_medium_call, .verify = verify},
	{"own_new_list_medium", prepare, medium_setup, list_medium_call, .verify = verify},
	{"own_new_span", prepare, full_span_setup, new_medium_call, .verify = verify},
	{"own_drop_medium", prepare, medium_setup, drop_call, .verify = verify},
	{"own_drop", prepare, block_setup, drop_call, .verify = verify},
	{"own_drop_whole", prepare, block_setup, whole_drop_call, .verify = verify},
	{"own_drop_one", prepare, twice_setup, drop_call, .verify = verify},
	{"own_drop_one_whole", prepare, twice_setup, whole_drop_call, .verify = verify},
	{"own_drop_long", prepare, forgotten_setup, drop_call, .verify = verify},
	{"own_drop_pool", prepare, pool_goes_setup, drop_call, .verify = verify},
	{"own_drop_run", prepare, second_run_setup, drop_call, .verify = verify},
	{"own_hold", prepare, block_setup, hold_call, .verify = verify},
	{"own_hold_whole", prepare, block_setup, whole_hold_call, .verify = verify},
	{"own_hold_long", prepare, forgotten_setup, hold_call, .verify = verify},
	{"own_hold_128", prepare, most_holds_setup, hold_call, .verify = verify},
	{"own_drop_128", prepare, both_holds_setup, drop_call, .verify = verify},
	{"own_drop_known", prepare, known_setup, drop_call, .verify = verify},
	{"own_drop_shared", prepare, shared_setup, drop_call, .verify = shared_verify},
	{"own_collect", prepare, full_given_setup, new_block_call, .verify = verify, .beside = drop_given},
	{"own_collect_pool", prepare, pool_given_setup, new_call, .verify = verify, .beside = drop_given},
	{"own_collect_many", prepare, many_given_setup, new_block_call, .verify = verify, .beside = drop_given},
	{"own_drop_among", prepare, all_but_one_given_setup, drop_call, .verify = verify, .beside = drop_given},
	{"own_dies", prepare, dies_setup, new_block_call, .verify = dies_verify, .beside = take_given},
	{"own_serve_new", prepare, requested_setup, new_call, .verify = verify, .beside = come_and_go},
	{"own_serve_drop", prepare, requested_setup, drop_call, .verify = verify, .beside = come_and_go},
	{"own_serve_collect", prepare, full_given_setup, new_call, .verify = verify, .beside = request_collect},
	{"own_block", prepare, block_setup, block_call, .verify = verify},
	{"own_close", prepare, close_setup, close_call, .verify = dies_verify, .beside = drop_some},
	{.name = NULL},
};
