// SPDX-License-Identifier: MIT
/*
 * Scenarios: a session holds an object that its owner has shared with nobody yet
 *
 * The victim knows only the ref. The survivor makes a fresh object for each victim: once another session has had a
 * right to it, the object counts as shared.
 */
#include "scenario.h"

#include <errno.h>

enum { SECRET, LIST }; /* in stage->refs */

#define SIZE  80U
#define LARGE 40000U /* a run */

static void prepare(struct actor *a)
{
	MUST(a, pyheap_list_new(a->heap, 2, &a->stage->refs[LIST]));
}

static void ready(struct actor *a)
{
	a->stage->refs[SECRET] = pattern_new(a, SIZE, 55);
}

static void run_ready(struct actor *a)
{
	a->stage->refs[SECRET] = pattern_new(a, LARGE, 55);
}

static void stale_ready(struct actor *a)
{
	ready(a);
	MUST(a, pyheap_decref(a->heap, a->stage->refs[SECRET]));
}

static int hold_call(struct actor *a)
{
	return pyheap_incref(a->heap, a->stage->refs[SECRET]);
}

static int slot_call(struct actor *a)
{
	return pyheap_list_set(a->heap, a->stage->refs[LIST], 0, a->stage->refs[SECRET]);
}

static int name_call(struct actor *a)
{
	return pyheap_name_set(a->heap, "secret", a->stage->refs[SECRET]);
}

static void let_go(struct actor *a, size_t size)
{
	pyheap_ref secret = a->stage->refs[SECRET];

	if (!secret)
		return;
	pattern_check(a, secret, size, 55);
	MUST(a, pyheap_decref(a->heap, secret));
	a->stage->refs[SECRET] = 0;
}

static void verify(struct actor *a)
{
	pyheap_ref other = pattern_new(a, SIZE, 56);

	let_go(a, SIZE);
	pattern_check(a, other, SIZE, 56);
	MUST(a, pyheap_decref(a->heap, other));
}

static void run_verify(struct actor *a)
{
	let_go(a, LARGE);
}

/* The slot holds the object, or it does not. */
static void slot_verify(struct actor *a)
{
	pyheap_ref ref = 0;

	MUST(a, pyheap_list_get(a->heap, a->stage->refs[LIST], 0, &ref));
	EXPECT(a, !ref || ref == a->stage->refs[SECRET]);
	if (a->stage->is_finished)
		EXPECT(a, ref == a->stage->refs[SECRET]);
	if (ref)
		MUST(a, pyheap_decref(a->heap, ref));
	verify(a);
	MUST(a, pyheap_list_set(a->heap, a->stage->refs[LIST], 0, 0));
}

static void name_verify(struct actor *a)
{
	pyheap_ref ref = 0;
	int r = pyheap_name_get(a->heap, "secret", &ref);

	EXPECT(a, r == -ENOENT || (r == 0 && ref == a->stage->refs[SECRET]));
	if (a->stage->is_finished && a->stage->refs[SECRET])
		EXPECT(a, r == 0);
	if (r == 0) {
		MUST(a, pyheap_decref(a->heap, ref));
		MUST(a, pyheap_name_del(a->heap, "secret"));
	}
	verify(a);
}

static void stale_verify(struct actor *a)
{
	a->stage->refs[SECRET] = 0;
	verify(a);
}

const struct scenario scenarios_unshared[] = {
	{"unshared_hold", prepare, NULL, hold_call, .verify = verify, .ready = ready},
	{"unshared_hold_run", prepare, NULL, hold_call, .verify = run_verify, .ready = run_ready},
	{"unshared_slot", prepare, NULL, slot_call, .verify = slot_verify, .ready = ready},
	{"unshared_name", prepare, NULL, name_call, .verify = name_verify, .ready = ready},
	{"unshared_late", prepare, NULL, hold_call, .result = -ESTALE, .verify = stale_verify, .ready = stale_ready},
	{.name = NULL},
};
