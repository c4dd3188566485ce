// SPDX-License-Identifier: MIT
/* Scenarios: names, sessions, and the lock */
#include "scenario.h"

#include <errno.h>

enum { HELD, LIST }; /* in stage->refs */

#define OLD  70U /* patterns */
#define NEW  71U
#define SIZE 90U

/* ---- names ---- */

static void give_old_name(struct actor *a)
{
	pyheap_ref ref = pattern_new(a, SIZE, OLD);

	MUST(a, pyheap_name_set(a->heap, "shared", ref));
	MUST(a, pyheap_decref(a->heap, ref));
}

static void new_setup(struct actor *a)
{
	a->mine[0] = pattern_new(a, SIZE, NEW);
	a->stage->passed = a->mine[0];
}

static int set_new_call(struct actor *a)
{
	return pyheap_name_set(a->heap, "a name that nobody has yet", a->mine[0]);
}

static void set_new_verify(struct actor *a)
{
	pyheap_ref ref = 0;
	int r = pyheap_name_get(a->heap, "a name that nobody has yet", &ref);

	if (r == -ENOENT) {
		EXPECT(a, !a->stage->is_finished);
		return;
	}
	MUST(a, r);
	EXPECT(a, ref == a->stage->passed);
	pattern_check(a, ref, SIZE, NEW);
	MUST(a, pyheap_decref(a->heap, ref));
	MUST(a, pyheap_name_del(a->heap, "a name that nobody has yet"));
}

static int set_over_call(struct actor *a)
{
	return pyheap_name_set(a->heap, "shared", a->mine[0]);
}

static int get_call(struct actor *a)
{
	return pyheap_name_get(a->heap, "shared", &a->mine[0]);
}

/* The name holds the old object or the victim's. */
static void name_verify(struct actor *a)
{
	pyheap_ref ref = 0;
	bool is_new;

	MUST(a, pyheap_name_get(a->heap, "shared", &ref));
	is_new = ref == a->stage->passed;
	if (a->stage->is_finished && a->stage->passed)
		EXPECT(a, is_new);
	pattern_check(a, ref, SIZE, is_new ? NEW : OLD);
	MUST(a, pyheap_decref(a->heap, ref));
	give_old_name(a);
}

static int del_call(struct actor *a)
{
	return pyheap_name_del(a->heap, "shared");
}

static void del_verify(struct actor *a)
{
	pyheap_ref ref = 0;
	int r = pyheap_name_get(a->heap, "shared", &ref);

	if (r == 0) {
		EXPECT(a, !a->stage->is_finished);
		pattern_check(a, ref, SIZE, OLD);
		MUST(a, pyheap_decref(a->heap, ref));
	} else {
		EXPECT(a, r == -ENOENT);
	}
	give_old_name(a);
}

/* ---- sessions ---- */

static void held_prepare(struct actor *a)
{
	a->stage->refs[HELD] = pattern_new(a, SIZE, OLD);
	MUST(a, pyheap_list_new(a->heap, 3, &a->stage->refs[LIST]));
}

static void held_verify(struct actor *a)
{
	pattern_check(a, a->stage->refs[HELD], SIZE, OLD);
	MUST(a, pyheap_incref(a->heap, a->stage->refs[HELD]));
	MUST(a, pyheap_decref(a->heap, a->stage->refs[HELD]));
}

static int open_call(struct actor *a)
{
	return pyheap_open(&a->heap, a->stage->socket);
}

static void close_setup(struct actor *a)
{
	pyheap_ref child = pattern_new(a, SIZE, NEW);

	MUST(a, pyheap_incref(a->heap, a->stage->refs[HELD]));
	MUST(a, pyheap_incref(a->heap, a->stage->refs[HELD]));
	MUST(a, pyheap_list_new(a->heap, 2, &a->mine[0]));
	MUST(a, pyheap_list_set(a->heap, a->mine[0], 0, child));
	MUST(a, pyheap_decref(a->heap, child));
	a->mine[1] = pattern_new(a, 5000, NEW);
}

static void close_locked_setup(struct actor *a)
{
	close_setup(a);
	MUST(a, pyheap_lock(a->heap));
}

static int close_call(struct actor *a)
{
	a->heap = pyheap_close(a->heap);
	return a->heap ? -EINVAL : 0;
}

/* ---- the lock ---- */

static int lock_call(struct actor *a)
{
	return pyheap_lock(a->heap);
}

static void unlock_setup(struct actor *a)
{
	MUST(a, pyheap_lock(a->heap));
}

static int unlock_call(struct actor *a)
{
	return pyheap_unlock(a->heap);
}

/* Several calls under one lock: after a death those that had returned must stay done. */
static int change_call(struct actor *a)
{
	int r = pyheap_lock(a->heap);

	if (r == 0)
		r = pyheap_list_set(a->heap, a->stage->refs[LIST], 0, a->mine[0]);
	if (r == 0)
		r = pyheap_list_set(a->heap, a->stage->refs[LIST], 1, a->mine[0]);
	if (r == 0)
		r = pyheap_decref(a->heap, a->mine[0]);
	return r == 0 ? pyheap_unlock(a->heap) : r;
}

static void change_verify(struct actor *a)
{
	pyheap_ref first = 0, second = 0;

	MUST(a, pyheap_list_get(a->heap, a->stage->refs[LIST], 0, &first));
	MUST(a, pyheap_list_get(a->heap, a->stage->refs[LIST], 1, &second));
	EXPECT(a, first == 0 || first == a->stage->passed);
	EXPECT(a, second == 0 || second == first);
	if (a->stage->is_finished)
		EXPECT(a, second == a->stage->passed);
	if (first) {
		pattern_check(a, first, SIZE, NEW);
		MUST(a, pyheap_decref(a->heap, first));
	}
	if (second)
		MUST(a, pyheap_decref(a->heap, second));
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, 0));
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 1, 0));
	held_verify(a);
}

const struct scenario scenarios_session[] = {
	{"name_set", give_old_name, new_setup, set_new_call, .verify = set_new_verify},
	{"name_set_over", give_old_name, new_setup, set_over_call, .verify = name_verify},
	{"name_get", give_old_name, NULL, get_call, .verify = name_verify},
	{"name_del", give_old_name, NULL, del_call, .verify = del_verify},
	{"open", held_prepare, NULL, open_call, .verify = held_verify, .opens = true},
	{"close", held_prepare, close_setup, close_call, .verify = held_verify},
	{"close_locked", held_prepare, close_locked_setup, close_call, .verify = held_verify},
	{"lock", held_prepare, NULL, lock_call, .verify = held_verify},
	{"unlock", held_prepare, unlock_setup, unlock_call, .verify = held_verify},
	{"locked_change", held_prepare, new_setup, change_call, .verify = change_verify},
	{.name = NULL},
};
