// SPDX-License-Identifier: MIT
/* Scenarios: a session makes and holds objects */
#include "scenario.h"

#include <string.h>

#define POOL 4096U

/* After the death there is room for another object of that size. */
static void make_another(struct actor *a, size_t size)
{
	pyheap_ref ref = pattern_new(a, size, 29);

	pattern_check(a, ref, size, 29);
	MUST(a, pyheap_decref(a->heap, ref));
}

/* ---- new ---- */

static void small_prepare(struct actor *a)
{
	a->stage->refs[0] = pattern_new(a, 48, 20); /* its pool has room */
}

static int small_call(struct actor *a)
{
	return pyheap_new(a->heap, PYHEAP_BYTES, 48, &a->mine[0]);
}

static void small_verify(struct actor *a)
{
	make_another(a, 48);
	pattern_check(a, a->stage->refs[0], 48, 20);
}

static int pool_call(struct actor *a)
{
	return pyheap_new(a->heap, PYHEAP_BYTES, 200, &a->mine[0]);
}

static void pool_verify(struct actor *a)
{
	make_another(a, 200);
}

static int arena_call(struct actor *a)
{
	return pyheap_new(a->heap, PYHEAP_BYTES, 304, &a->mine[0]);
}

static void arena_verify(struct actor *a)
{
	make_another(a, 304);
}

static int medium_call(struct actor *a)
{
	return pyheap_new(a->heap, PYHEAP_BYTES, 3 * POOL, &a->mine[0]);
}

static void medium_verify(struct actor *a)
{
	make_another(a, 3 * POOL);
}

static int run_call(struct actor *a)
{
	return pyheap_new(a->heap, PYHEAP_BYTES, 10 * POOL, &a->mine[0]);
}

static void run_verify(struct actor *a)
{
	make_another(a, 10 * POOL);
}

static int large_call(struct actor *a)
{
	return pyheap_new(a->heap, PYHEAP_BYTES, 150000, &a->mine[0]);
}

static void large_verify(struct actor *a)
{
	make_another(a, 150000);
}

/* The arenas of a freed large object wait to be used again, unless the daemon has just unmapped them. */
static void large_again_setup(struct actor *a)
{
	MUST(a, pyheap_new(a->heap, PYHEAP_BYTES, 150000, &a->mine[0]));
	MUST(a, pyheap_decref(a->heap, a->mine[0]));
}

/* A longer free run, of which the object gets a part. */
static void large_cut_setup(struct actor *a)
{
	MUST(a, pyheap_new(a->heap, PYHEAP_BYTES, 300000, &a->mine[0]));
	MUST(a, pyheap_decref(a->heap, a->mine[0]));
}

/* Free runs side by side, which are too short one by one. */
static void large_joined_setup(struct actor *a)
{
	MUST(a, pyheap_new(a->heap, PYHEAP_BYTES, 70000, &a->mine[0]));
	MUST(a, pyheap_new(a->heap, PYHEAP_BYTES, 70000, &a->mine[1]));
	MUST(a, pyheap_decref(a->heap, a->mine[1]));
	MUST(a, pyheap_decref(a->heap, a->mine[0]));
}

/* The next pool is of a free run. */
static void arena_of_run_setup(struct actor *a)
{
	take_free_pools(a);
	large_cut_setup(a);
}

static int list_small_call(struct actor *a)
{
	return pyheap_list_new(a->heap, 5, &a->mine[0]);
}

static int list_run_call(struct actor *a)
{
	return pyheap_list_new(a->heap, 100, &a->mine[0]);
}

static void list_verify(struct actor *a)
{
	pyheap_ref list, child = 1;

	MUST(a, pyheap_list_new(a->heap, 100, &list));
	for (size_t i = 0; i < 100; i++) {
		MUST(a, pyheap_list_get(a->heap, list, i, &child));
		EXPECT(a, child == 0);
	}
	MUST(a, pyheap_decref(a->heap, list));
}

static int put_call(struct actor *a)
{
	static const char data[100] = "put";

	return pyheap_put(a->heap, data, sizeof(data), &a->mine[0]);
}

/* ---- holding ---- */

static int incref_call(struct actor *a)
{
	return pyheap_incref(a->heap, a->stage->refs[0]);
}

static void hold_verify(struct actor *a)
{
	pattern_check(a, a->stage->refs[0], 48, 20);
	MUST(a, pyheap_incref(a->heap, a->stage->refs[0]));
	MUST(a, pyheap_decref(a->heap, a->stage->refs[0]));
}

static void incref_setup(struct actor *a)
{
	MUST(a, pyheap_incref(a->heap, a->stage->refs[0]));
}

/* One hold more, and the hold table in the session's entry is too small. */
static void grow_setup(struct actor *a)
{
	for (size_t i = 0; i < 48; i++)
		MUST(a, pyheap_new(a->heap, PYHEAP_BYTES, 48, &a->mine[i]));
}

const struct scenario scenarios_object[] = {
	{"new_small", small_prepare, NULL, small_call, .verify = small_verify},
	{"new_pool", NULL, NULL, pool_call, .verify = pool_verify},
	{"new_arena", take_free_pools, take_free_pools, arena_call, .verify = arena_verify},
	{"new_medium", NULL, NULL, medium_call, .verify = medium_verify},
	{"new_run", NULL, NULL, run_call, .verify = run_verify},
	{"new_large", NULL, NULL, large_call, .verify = large_verify, .wants_arenas = true},
	{"new_large_again", NULL, large_again_setup, large_call, .verify = large_verify},
	{"new_large_cut", NULL, large_cut_setup, large_call, .verify = large_verify},
	{"new_large_joined", NULL, large_joined_setup, large_call, .verify = large_verify},
	{"new_arena_of_run", take_free_pools, arena_of_run_setup, arena_call, .verify = arena_verify},
	{"list_new", NULL, NULL, list_small_call, .verify = list_verify},
	{"list_new_run", NULL, NULL, list_run_call, .verify = list_verify},
	{"put", small_prepare, NULL, put_call, .verify = small_verify},
	{"incref", small_prepare, NULL, incref_call, .verify = hold_verify},
	{"incref_again", small_prepare, incref_setup, incref_call, .verify = hold_verify},
	{"incref_grow", small_prepare, grow_setup, incref_call, .verify = hold_verify},
	{.name = NULL},
};
