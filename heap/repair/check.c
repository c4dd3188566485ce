// SPDX-License-Identifier: MIT
/*
 * The heap compared with itself
 *
 * One walk under the lock. The truth is in the words of the headers, the kinds of the pools and the states of the
 * arenas. Whatever follows from it (bitmaps, counts, lists and their order, counters) is computed anew and compared,
 * and each difference is a fault with a text of its own: lists in check_list.c, pools and runs in check_pool.c, arenas
 * and counters here, the rights to objects in check_rights.c. The walk follows nothing without checking its bounds.
 *
 * All sessions are kept out of their own pools meanwhile (critical_block_all()). A session may still be active: stopped
 * or dead in a critical section, or closing. What it alone changes is not compared then, because it may be between two
 * stores. The headers of a dead session are compared all the same: each was changed by one store, nobody changes them
 * any more, and the session is reclaimed by them.
 */

#include "heap/repair/check.h"
#include "heap/change/lock.h"
#include "heap/repair/check_count.h"
#include "heap/repair/check_list.h"
#include "heap/repair/check_pool.h"
#include "heap/repair/check_rights.h"
#include "heap/shared/critical.h"

#include <errno.h>
#include <stdlib.h>

/* Arenas */

/* How many pools are taken by what starts at pool p. 0: it is free. */
static uint32_t pools_taken(struct check *check, uint32_t p, uint32_t n_left)
{
	const struct pool_entry *pool = &check->heap->pools[p];

	switch (pool->kind) {
	case POOL_FREE:
		return 0;
	case POOL_BLOCKS:
		check_block_pool(check, p);
		return check_span(check, p, n_left);
	case POOL_BODY:
		check_fault(check, "pool %u: is of a span that does not begin before it", p);
		return 1;
	case POOL_RUN:
		if (!pool->run_n_pools || pool->run_n_pools > n_left) {
			check_fault(
				check, "pool %u: a run of %u pools does not fit in its arena", p, pool->run_n_pools);
			return 1;
		}
		check_run(check, p);
		return pool->run_n_pools;
	default:
		check_fault(check, "pool %u: is of the unknown kind %u", p, pool->kind);
		return 0;
	}
}

static void check_arena_of_pools(struct check *check, uint32_t a)
{
	struct heap *heap = check->heap;
	const struct arena_entry *arena = &heap->arenas[a];
	const uint64_t *freepools = &heap->freepools[a * heap->pool_words];
	uint32_t first = a * heap->pools_per_arena, n_free = 0;
	uint32_t n_left_of_run = 0;

	for (uint32_t i = 0; i < heap->pools_per_arena; i++) {
		bool says_free = freepools[i / 64] >> (i & 63) & 1;

		if (!n_left_of_run)
			n_left_of_run = pools_taken(check, first + i, heap->pools_per_arena - i);
		if (says_free != !n_left_of_run)
			check_fault(check, "arena %u: freepools says pool %u is %s, it is %s", a, i,
				says_free ? "free" : "taken", n_left_of_run ? "taken" : "free");
		if (n_left_of_run)
			n_left_of_run--;
		else
			n_free++;
	}
	if (arena->n_free_pools != n_free)
		check_fault(check, "arena %u: nfreepools is %u, %u are free", a, arena->n_free_pools, n_free);
	check->found.n_arenas_current++;
	if (n_free == heap->pools_per_arena)
		check->n_free_arenas[arena->space & 1]++;
}

static void check_arena_run(struct check *check, uint32_t a)
{
	struct heap *heap = check->heap;
	const struct arena_entry *arena = &heap->arenas[a];
	const struct pool_entry *pool = &heap->pools[a * heap->pools_per_arena];

	check->found.n_arenas_current += arena->n_arenas;
	if (arena_state(arena) == ARENA_RETURNABLE)
		return;
	check_run(check, a * heap->pools_per_arena);
	if (pool->kind != POOL_RUN || header_state(header_word(&pool->header)) == STATE_FREE ||
		pool->run_n_pools != arena->n_arenas * heap->pools_per_arena)
		check_fault(
			check, "arena %u: is a run of %u arenas without an object of that length", a, arena->n_arenas);
}

/*
 * Arena a is a BODY where the head of a run should be. The daemon may have made it one since the walk read the arenas
 * before it. Returns the end of that run, or `a` if there is none.
 */
static uint32_t end_of_new_run(const struct heap *heap, uint32_t a)
{
	uint32_t head = a, n;

	while (head > 0 && arena_state(&heap->arenas[head]) == ARENA_BODY)
		head--;
	n = __atomic_load_n(&heap->arenas[head].n_arenas, __ATOMIC_ACQUIRE);
	switch (arena_state(&heap->arenas[head])) {
	case ARENA_MAPPING:
	case ARENA_GRANTED:
	case ARENA_RETURNING:
		return n > a - head && n <= check_n_arenas(heap) - head ? head + n : a;
	default:
		return a;
	}
}

static void check_run_bodies(struct check *check, uint32_t a, uint32_t n)
{
	for (uint32_t i = a + 1; i < a + n; i++) {
		uint32_t state = arena_state(&check->heap->arenas[i]);
		uint32_t head_state = arena_state(&check->heap->arenas[a]);

		/* the daemon turns them into holes, and back, one by one */
		if (state != ARENA_BODY && head_state != ARENA_RETURNING && head_state != ARENA_MAPPING &&
			head_state != ARENA_HOLE)
			check_fault(check, "arena %u: is in the middle of a run and its state is %u", i, state);
	}
}

/* Check what begins at arena a. Returns where the next begins. */
static uint32_t check_arena(struct check *check, uint32_t a)
{
	struct heap *heap = check->heap;
	uint32_t state = arena_state(&heap->arenas[a]), n = 1, end;

	if (state == ARENA_HOLE)
		return a + 1;
	if (state != ARENA_POOLS)
		n = __atomic_load_n(&heap->arenas[a].n_arenas, __ATOMIC_ACQUIRE);
	if (state < ARENA_BODY && n && n <= check_n_arenas(heap) - a) {
		check_run_bodies(check, a, n);
		if ((state == ARENA_POOLS || state == ARENA_RUN) && heap->arenas[a].space >= N_SPACES)
			check_fault(check, "arena %u: is of the unknown space %u", a, heap->arenas[a].space);
		if (state == ARENA_POOLS)
			check_arena_of_pools(check, a);
		else if (state == ARENA_RUN || state == ARENA_RETURNABLE)
			check_arena_run(check, a);
		return a + n;
	}
	end = state == ARENA_BODY ? end_of_new_run(heap, a) : a;
	if (end == a && arena_state(&heap->arenas[a]) == state)
		check_fault(check, "arena %u: state %u with %u arenas cannot be here", a, state, n);
	return end == a ? a + 1 : end;
}

static void check_arenas(struct check *check)
{
	for (uint32_t a = 0; a < check_n_arenas(check->heap);)
		a = check_arena(check, a);
}

/* Counters */

static void check_counter(struct check *check, const char *name, uint64_t says, uint64_t is)
{
	if (says != is)
		check_fault(check, "counter %s is %llu, should be %llu", name, (unsigned long long)says,
			(unsigned long long)is);
}

static void check_counters(struct check *check)
{
	const struct counters *says = &check->heap->control->counters;
	const struct counters *is = &check->found;

	check_counter(check, "n_arenas_current", says->n_arenas_current, is->n_arenas_current);
	check_counter(check, "n_arenas_allocated - n_arenas_reclaimed",
		says->n_arenas_allocated - says->n_arenas_reclaimed, is->n_arenas_current);
	check_counter(check, "n_names", says->n_names, is->n_names);
	if (says->n_arenas_highwater < says->n_arenas_current)
		check_fault(check, "counter n_arenas_highwater is below n_arenas_current");
	for (uint32_t i = 0; i < N_SPACES; i++)
		check_counter(check, i ? "n_free_arenas of records" : "n_free_arenas of objects",
			check->heap->control->spaces[i].n_free_arenas, check->n_free_arenas[i]);
}

/* The walk */

static void check_all(struct check *check)
{
	check_lists(check);
	check_arenas(check);
	for (uint32_t i = 0; i < check->heap->n_sessions; i++)
		if (session_state(&check->heap->sessions[i]) != SESSION_FREE)
			check_own_holds(check, i);
	check_rights(check);
	check_counters(check);
	if (check->heap->control->lock.n_entries)
		check_fault(check, "the log is not empty and nobody is in a change");
}

int64_t check_walk(struct heap *heap, struct session *mender, struct faults *faults)
{
	uint64_t n_pools = (uint64_t)heap->n_arenas * heap->pools_per_arena;
	struct check check = {.heap = heap, .faults = faults, .mender = mender};

	check.pool_marks = calloc(n_pools, 1);
	check.rights = calloc(n_pools, sizeof(*check.rights));
	check.n_own_holds = calloc(heap->n_sessions, sizeof(*check.n_own_holds));
	check.in_flight = calloc(heap->n_sessions, sizeof(*check.in_flight));
	check.out_of_memory = !check.pool_marks || !check.rights || !check.n_own_holds || !check.in_flight;
	if (!check.out_of_memory)
		check_note_in_flight(&check);
	if (!check.out_of_memory && mender)
		check_rights(&check);
	else if (!check.out_of_memory)
		check_all(&check);
	for (uint64_t i = 0; check.rights && i < n_pools; i++)
		free(check.rights[i]);
	free(check.rights);
	free(check.pool_marks);
	free(check.n_own_holds);
	free(check.in_flight);
	return check.out_of_memory ? -ENOMEM : check.n_faults;
}

int64_t heap_check(struct session *session, check_report report, void *userdata)
{
	struct faults faults = {.n_lines = 0};
	int64_t n;
	int r;

	r = change_begin(session);
	if (r < 0)
		return r;
	n = critical_block_all(session->heap);
	if (!n)
		n = check_walk(session->heap, NULL, &faults);
	critical_unblock_all(session->heap);
	change_end(session, 0);
	check_report_faults(&faults, report, userdata);
	return n;
}
