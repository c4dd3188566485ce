// SPDX-License-Identifier: MIT
/* Scenarios: slots of lists and structs, and types */
#include "scenario.h"

#include <errno.h>
#include <stdio.h>

enum { LIST, PAIR }; /* in stage->refs */

#define OLD  50U /* patterns */
#define NEW  51U
#define SIZE 80U

/* ---- lists ---- */

static pyheap_ref list_old(struct actor *a)
{
	return pattern_new(a, SIZE, OLD);
}

/* Slot 0: an object that only the list holds. Slot 1: empty. Slot 2: a list with a child. */
static void list_fill(struct actor *a)
{
	pyheap_ref ref = list_old(a), inner = 0;

	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, ref));
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 1, 0));
	MUST(a, pyheap_list_new(a->heap, 2, &inner));
	MUST(a, pyheap_list_set(a->heap, inner, 1, ref));
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 2, inner));
	MUST(a, pyheap_decref(a->heap, inner));
	MUST(a, pyheap_decref(a->heap, ref));
}

static void list_prepare(struct actor *a)
{
	MUST(a, pyheap_list_new(a->heap, 3, &a->stage->refs[LIST]));
	list_fill(a);
}

static void new_setup(struct actor *a)
{
	a->mine[0] = pattern_new(a, SIZE, NEW);
	a->stage->passed = a->mine[0];
}

/* A hold of the object in slot i, or 0. */
static pyheap_ref list_at(struct actor *a, size_t i)
{
	pyheap_ref ref = 0;

	MUST(a, pyheap_list_get(a->heap, a->stage->refs[LIST], i, &ref));
	return ref;
}

/* Slot i had `old` (0: nothing) and was to get `new`: it must have one of them, undamaged. */
static void list_slot_verify(struct actor *a, size_t i, uint32_t old, uint32_t new)
{
	pyheap_ref ref = list_at(a, i);
	bool is_new = new ? ref == a->stage->passed : ref == 0;

	if (a->stage->is_finished)
		EXPECT(a, is_new);
	if (!is_new)
		EXPECT(a, (ref == 0) == (old == 0));
	if (!ref)
		return;
	pattern_check(a, ref, SIZE, is_new ? new : old);
	MUST(a, pyheap_decref(a->heap, ref));
}

static int set_new_call(struct actor *a)
{
	return pyheap_list_set(a->heap, a->stage->refs[LIST], 1, a->mine[0]);
}

static void set_new_verify(struct actor *a)
{
	list_slot_verify(a, 1, 0, NEW);
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 1, 0));
}

static int set_over_call(struct actor *a)
{
	return pyheap_list_set(a->heap, a->stage->refs[LIST], 0, a->mine[0]);
}

static void set_over_verify(struct actor *a)
{
	list_slot_verify(a, 0, OLD, NEW);
	list_fill(a);
}

static int set_none_call(struct actor *a)
{
	return pyheap_list_set(a->heap, a->stage->refs[LIST], 0, 0);
}

static void set_none_verify(struct actor *a)
{
	list_slot_verify(a, 0, OLD, 0);
	list_fill(a);
}

static int set_tree_call(struct actor *a)
{
	return pyheap_list_set(a->heap, a->stage->refs[LIST], 2, a->mine[0]);
}

static void set_tree_verify(struct actor *a)
{
	pyheap_ref inner = list_at(a, 2), ref = 0;

	if (inner != a->stage->passed) {
		EXPECT(a, !a->stage->is_finished);
		MUST(a, pyheap_list_get(a->heap, inner, 1, &ref));
		pattern_check(a, ref, SIZE, OLD);
		MUST(a, pyheap_decref(a->heap, ref));
	}
	MUST(a, pyheap_decref(a->heap, inner));
	list_fill(a);
}

static int get_call(struct actor *a)
{
	return pyheap_list_get(a->heap, a->stage->refs[LIST], 0, &a->mine[0]);
}

static void get_verify(struct actor *a)
{
	pyheap_ref ref = list_at(a, 0);

	pattern_check(a, ref, SIZE, OLD);
	MUST(a, pyheap_decref(a->heap, ref));
}

/* ---- structs ---- */

static const size_t pair_slots[] = {8, 24};
static const pyheap_type_spec pair_spec = {.name = "pair", .size = 32, .n_slots = 2, .slots = pair_slots};

static void pair_fill(struct actor *a)
{
	pyheap_ref ref = pattern_new(a, SIZE, OLD);

	MUST(a, pyheap_slot_set(a->heap, a->stage->refs[PAIR], 24, ref));
	MUST(a, pyheap_decref(a->heap, ref));
}

static void pair_prepare(struct actor *a)
{
	pyheap_type type = 0;

	MUST(a, pyheap_type_register(a->heap, &pair_spec, &type));
	MUST(a, pyheap_new(a->heap, type, 0, &a->stage->refs[PAIR]));
	pair_fill(a);
}

static int slot_set_call(struct actor *a)
{
	return pyheap_slot_set(a->heap, a->stage->refs[PAIR], 24, a->mine[0]);
}

static int slot_get_call(struct actor *a)
{
	return pyheap_slot_get(a->heap, a->stage->refs[PAIR], 24, &a->mine[0]);
}

static void slot_verify(struct actor *a)
{
	pyheap_ref ref = 0;
	bool is_new;

	MUST(a, pyheap_slot_get(a->heap, a->stage->refs[PAIR], 24, &ref));
	is_new = ref == a->stage->passed;
	if (a->stage->is_finished && a->stage->passed)
		EXPECT(a, is_new);
	pattern_check(a, ref, SIZE, is_new ? NEW : OLD);
	MUST(a, pyheap_decref(a->heap, ref));
	pair_fill(a);
}

/* ---- types ---- */

/* Types are never removed, so a victim registers one whose name is not taken yet. */
static void fresh_spec(struct actor *a, char name[32], pyheap_type_spec *ret)
{
	snprintf(name, 32, "fresh%u", a->stage->n_types);
	*ret = (pyheap_type_spec){.name = name, .size = 32, .n_slots = 2, .slots = pair_slots};
}

static void fresh_prepare(struct actor *a)
{
	pyheap_stats stats;

	MUST(a, pyheap_stats(a->heap, &stats));
	a->stage->n_types = (uint32_t)stats.n_types;
}

static int register_call(struct actor *a)
{
	pyheap_type_spec spec;
	pyheap_type type;
	char name[32];

	fresh_spec(a, name, &spec);
	return pyheap_type_register(a->heap, &spec, &type);
}

static void register_verify(struct actor *a)
{
	pyheap_type_spec spec;
	pyheap_type type = 0;
	pyheap_ref ref = 0;
	pyheap_stats stats;
	char name[32];

	MUST(a, pyheap_stats(a->heap, &stats));
	if (stats.n_types == a->stage->n_types) {
		EXPECT(a, !a->stage->is_finished);
		if (a->stage->k % 64) /* now and then the survivor registers it itself */
			return;
	}
	fresh_spec(a, name, &spec);
	MUST(a, pyheap_type_register(a->heap, &spec, &type));
	MUST(a, pyheap_stats(a->heap, &stats));
	EXPECT(a, stats.n_types == a->stage->n_types + 1);
	a->stage->n_types++;
	MUST(a, pyheap_new(a->heap, type, 0, &ref));
	MUST(a, pyheap_slot_set(a->heap, ref, 24, ref)); /* offset 24 is a slot: */
	MUST(a, pyheap_slot_set(a->heap, ref, 24, 0));
	EXPECT(a, pyheap_slot_set(a->heap, ref, 16, 0) == -EINVAL);
	MUST(a, pyheap_decref(a->heap, ref));
}

static int register_same_call(struct actor *a)
{
	pyheap_type type;

	return pyheap_type_register(a->heap, &pair_spec, &type);
}

const struct scenario scenarios_slot[] = {
	{"list_set", list_prepare, new_setup, set_new_call, .verify = set_new_verify},
	{"list_set_over", list_prepare, new_setup, set_over_call, .verify = set_over_verify},
	{"list_set_none", list_prepare, NULL, set_none_call, .verify = set_none_verify},
	{"list_set_tree", list_prepare, new_setup, set_tree_call, .verify = set_tree_verify},
	{"list_get", list_prepare, NULL, get_call, .verify = get_verify},
	{"slot_set_over", pair_prepare, new_setup, slot_set_call, .verify = slot_verify},
	{"slot_get", pair_prepare, NULL, slot_get_call, .verify = slot_verify},
	{"type_register", fresh_prepare, NULL, register_call, .verify = register_verify},
	{"type_register_same", pair_prepare, NULL, register_same_call, .verify = slot_verify},
	{.name = NULL},
};
