// SPDX-License-Identifier: MIT
/* Scenarios: a session drops holds, and objects are freed with the last of them */
#include "scenario.h"

#define POOL     4096U
#define CHILDREN 70U /* more than are dropped in one change */

static int drop_call(struct actor *a)
{
	return pyheap_decref(a->heap, a->mine[0]);
}

static void remake(struct actor *a, size_t size)
{
	pyheap_ref ref = pattern_new(a, size, 39);

	pattern_check(a, ref, size, 39);
	MUST(a, pyheap_decref(a->heap, ref));
}

/* ---- blocks ---- */

static void small_prepare(struct actor *a)
{
	a->stage->refs[0] = pattern_new(a, 48, 30);
}

static void small_setup(struct actor *a)
{
	a->mine[0] = pattern_new(a, 48, 31);
}

static void small_verify(struct actor *a)
{
	pattern_check(a, a->stage->refs[0], 48, 30);
	remake(a, 48);
}

static void pool_setup(struct actor *a)
{
	a->mine[0] = pattern_new(a, 200, 31);
}

static void pool_verify(struct actor *a)
{
	remake(a, 200);
}

static void full_setup(struct actor *a)
{
	for (size_t i = 0; i < 7; i++) /* fills a pool of that class */
		a->mine[i] = pattern_new(a, 512, 31);
}

static void full_verify(struct actor *a)
{
	remake(a, 512);
}

/* The next object is then the only one in its arena. */
static void arena_setup(struct actor *a)
{
	take_free_pools(a);
	a->mine[0] = pattern_new(a, 304, 31);
}

static void arena_verify(struct actor *a)
{
	remake(a, 304);
}

/* ---- runs ---- */

static void medium_setup(struct actor *a)
{
	a->mine[0] = pattern_new(a, 3 * POOL, 31);
}

static void medium_verify(struct actor *a)
{
	remake(a, 3 * POOL);
}

static void run_setup(struct actor *a)
{
	a->mine[0] = pattern_new(a, 20 * POOL, 31);
}

static void run_verify(struct actor *a)
{
	remake(a, 20 * POOL);
}

static void large_setup(struct actor *a)
{
	MUST(a, pyheap_new(a->heap, PYHEAP_BYTES, 150000, &a->mine[0]));
}

static void large_verify(struct actor *a)
{
	remake(a, 150000);
}

/* ---- objects with slots ---- */

static pyheap_ref list_of(struct actor *a, size_t n)
{
	pyheap_ref list = 0, child;

	MUST(a, pyheap_list_new(a->heap, n, &list));
	for (size_t i = 0; i < n; i++) {
		child = pattern_new(a, 16, 31);
		MUST(a, pyheap_list_set(a->heap, list, i, child));
		MUST(a, pyheap_decref(a->heap, child));
	}
	return list;
}

static void list_setup(struct actor *a)
{
	a->mine[0] = list_of(a, 3);
	/* A child that others also hold: it must outlive the list. */
	MUST(a, pyheap_list_set(a->heap, a->mine[0], 1, a->stage->refs[0]));
}

static void list_run_setup(struct actor *a)
{
	a->mine[0] = list_of(a, CHILDREN);
}

static void deep_setup(struct actor *a)
{
	a->mine[0] = list_of(a, 1);
	for (int i = 0; i < 3; i++) {
		pyheap_ref outer = 0;

		MUST(a, pyheap_list_new(a->heap, 2, &outer));
		MUST(a, pyheap_list_set(a->heap, outer, 0, a->mine[0]));
		MUST(a, pyheap_decref(a->heap, a->mine[0]));
		a->mine[0] = outer;
	}
}

static pyheap_type pair_type(struct actor *a)
{
	static const size_t slots[] = {8, 24};
	static const pyheap_type_spec spec = {.name = "pair", .size = 32, .n_slots = 2, .slots = slots};
	pyheap_type type = 0;

	MUST(a, pyheap_type_register(a->heap, &spec, &type));
	return type;
}

static void struct_prepare(struct actor *a)
{
	small_prepare(a);
	pair_type(a);
}

static void struct_setup(struct actor *a)
{
	pyheap_ref child = pattern_new(a, 48, 31);

	MUST(a, pyheap_new(a->heap, pair_type(a), 0, &a->mine[0]));
	MUST(a, pyheap_slot_set(a->heap, a->mine[0], 8, child));
	MUST(a, pyheap_decref(a->heap, child));
	MUST(a, pyheap_slot_set(a->heap, a->mine[0], 24, a->stage->refs[0]));
}

static void queue_setup(struct actor *a)
{
	MUST(a, pyheap_queue_new(a->heap, 3, &a->mine[0]));
	for (int i = 0; i < 2; i++)
		MUST(a, pyheap_queue_push(a->heap, a->mine[0], pattern_new(a, 48, 31), 0));
}

/* ---- holds ---- */

static void other_setup(struct actor *a)
{
	a->mine[0] = a->stage->refs[0];
	MUST(a, pyheap_incref(a->heap, a->mine[0]));
}

/* One hold less, and the hold table moves back into the session's entry. */
static void shrink_setup(struct actor *a)
{
	for (size_t i = 0; i < 49; i++)
		a->mine[i] = pattern_new(a, 48, 31);
	for (size_t i = 48; i >= 16; i--)
		MUST(a, pyheap_decref(a->heap, a->mine[i]));
}

const struct scenario scenarios_free[] = {
	{"decref_small", small_prepare, small_setup, drop_call, .verify = small_verify},
	{"decref_pool_last", NULL, pool_setup, drop_call, .verify = pool_verify},
	{"decref_pool_full", NULL, full_setup, drop_call, .verify = full_verify},
	{"decref_arena_last", take_free_pools, arena_setup, drop_call, .verify = arena_verify},
	{"decref_medium", NULL, medium_setup, drop_call, .verify = medium_verify},
	{"decref_run", NULL, run_setup, drop_call, .verify = run_verify},
	{"decref_large", NULL, large_setup, drop_call, .verify = large_verify},
	{"decref_list", small_prepare, list_setup, drop_call, .verify = small_verify},
	{"decref_list_run", small_prepare, list_run_setup, drop_call, .verify = small_verify},
	{"decref_deep", small_prepare, deep_setup, drop_call, .verify = small_verify},
	{"decref_struct", struct_prepare, struct_setup, drop_call, .verify = small_verify},
	{"decref_queue", small_prepare, queue_setup, drop_call, .verify = small_verify},
	{"decref_other", small_prepare, other_setup, drop_call, .verify = small_verify},
	{"decref_shrink", small_prepare, shrink_setup, drop_call, .verify = small_verify},
	{.name = NULL},
};
