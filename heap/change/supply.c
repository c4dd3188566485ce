// SPDX-License-Identifier: MIT
/*
 * Supply: how arenas come from the system and go back to it
 *
 * Only the daemon maps and unmaps arenas, and for neither needs the lock: HOLE -> MAPPING -> GRANTED and RETURNING ->
 * HOLE are its own steps. A session takes what it was granted into use under the lock. Under the lock the daemon takes
 * off the lists what is wholly free (supply_pick_returning()), and only then unmaps it and punches its hole.
 *
 * Memory is allocated (posix_fallocate) before anybody learns of it, for the arena and for its entries: a full /dev/shm
 * is an error of the daemon, and never a SIGBUS in a client.
 *
 * Which arenas are mapped, in which runs and for whom, the daemon knows by its truth (shared/truth.c), which is written
 * beside each of these steps; the arena table tells clients, and is read here only for what sessions have made of an
 * arena that is THERE.
 *
 * Died after ...                  the next daemon ...
 *   reserving, while mapping      finds MAPPING: punches, HOLE (supply_adopt_all())
 *   granting, session dead too    finds GRANTED to a session that is FREE: punches, HOLE (supply_adopt_all())
 *   picking, unmapping, punching  finds RETURNING: unmaps it once more; the head turns HOLE last
 *                                 (supply_next_returning()). It has had the lock before, since the picking may not be
 *                                 committed, and an owner of the lock may be about to roll it back
 */

#include "heap/change/supply.h"
#include "heap/change/lock.h"
#include "heap/memory/arena.h"
#include "heap/memory/run.h"
#include "heap/shared/critical.h"

#include <errno.h>

#define ENTRIES_PER_STEP (UINT64_C(4) << 20) /* bytes of pool entries that are allocated in one step */

/* By the daemon alone. Release: a process that reads the state finds the memory and the entries behind it. */
static void state_store(struct arena_entry *arena, enum arena_state state)
{
	__atomic_store_n(&arena->state, (uint32_t)state, __ATOMIC_RELEASE);
}

/* Allocate the memory of a part of the control segment; where that is, this process knows by itself. */
static int control_allocate(const struct heap *heap, const void *from, uint64_t size)
{
	uint64_t off = (uint64_t)((const uint8_t *)from - (const uint8_t *)heap->control);

	return file_allocate(heap->control_fd, off, size);
}

/* Make the entries of arenas below n readable: their pages are allocated before n_arenas_known counts them. */
static int extend_arena_entries(struct heap *heap, uint32_t n)
{
	uint32_t seen = arenas_known(heap);
	uint32_t words = heap->pool_words;
	int r;

	if (n <= seen)
		return 0;
	r = control_allocate(heap, &heap->arenas[seen], (uint64_t)(n - seen) * sizeof(struct arena_entry));
	if (!r)
		r = control_allocate(heap, &heap->freepools[(uint64_t)seen * words], (uint64_t)(n - seen) * words * 8);
	if (!r)
		r = truth_extend(heap->truth, n);
	if (!r)
		__atomic_store_n(&heap->control->n_arenas_known, n, __ATOMIC_RELEASE); /* release: after the pages */
	return r;
}

static uint32_t find_holes(const struct heap *heap, uint32_t n)
{
	uint32_t run = 0;

	for (uint32_t i = heap->first_hole; i < heap->n_arenas; i++) {
		if (truth_arena_state(heap->truth, i) == TRUTH_HOLE)
			run++;
		else
			run = 0;
		if (run == n)
			return i + 1 - n;
	}
	return UINT32_MAX;
}

int supply_reserve(struct heap *heap, uint32_t index, uint32_t n, uint32_t *ret)
{
	struct truth_arena *truth = heap->truth->arenas;
	uint32_t head;
	int r;

	if (!n || n > heap->n_arenas)
		return -ENOMEM;
	head = find_holes(heap, n);
	if (head == UINT32_MAX)
		return -ENOMEM;
	r = extend_arena_entries(heap, head + n);
	if (r < 0)
		return r;
	/* relaxed: a process that counts the run reads either length */
	__atomic_store_n(&truth[head].n_arenas, n, __ATOMIC_RELAXED);
	truth[head].session1 = index + 1;
	truth[head].admission = index < heap->n_sessions ? heap->truth->sessions[index].admission : 0;
	truth_arena_set_state(&truth[head], TRUTH_MAPPING);
	for (uint32_t i = head + 1; i < head + n; i++)
		truth_arena_set_state(&truth[i], TRUTH_BODY);
	/* relaxed: a process that counts arenas without the lock may read the values of before */
	__atomic_store_n(&heap->arenas[head].n_arenas, n, __ATOMIC_RELAXED);
	__atomic_store_n(&heap->arenas[head].session1, index + 1, __ATOMIC_RELAXED);
	state_store(&heap->arenas[head], ARENA_MAPPING);
	for (uint32_t i = head + 1; i < head + n; i++)
		state_store(&heap->arenas[i], ARENA_BODY);
	if (head == heap->first_hole)
		heap->first_hole = head + n;
	*ret = head;
	return 0;
}

/*
 * Forget the classes and lists of an arena's pools, whose memory is fresh. Member by member, since the generation must
 * be there at every moment: after a death here no old ref may become good again. Relaxed: a session with an old ref may
 * be reading the pool's entry, and a process that counts pools may have read the arena's state of before.
 */
static void pools_reset(struct heap *heap, uint32_t arena)
{
	struct pool_entry *pool = &heap->pools[arena * heap->pools_per_arena];

	for (uint32_t i = 0; i < heap->pools_per_arena; i++, pool++) {
		__atomic_store_n(&pool->kind, (uint8_t)POOL_FREE, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->size_class, (uint8_t)CLASS_NONE, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->n_used, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->n_carved, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->freeblock1, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->next1, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->prev1, 0, __ATOMIC_RELAXED);
	}
}

static int arena_map(struct heap *heap, uint32_t i)
{
	uint64_t off = (uint64_t)i << heap->arena_shift;
	uint64_t pools_size = heap->pools_per_arena * sizeof(struct pool_entry);
	int r;

	r = control_allocate(heap, &heap->pools[(uint64_t)i * heap->pools_per_arena], pools_size);
	if (!r)
		r = file_allocate(heap->heap_fd, off, heap->arena_size);
	if (r < 0)
		return r;
	r = heap_map_arenas(heap, i, 1);
	if (r < 0)
		return r;
	pools_reset(heap, i);
	return 0;
}

/*
 * Make the pool entries of arenas below n readable, as extend_arena_entries() does. Many may be missing, of arenas
 * below that are being mapped or could not be; so this does a part of them at a time. 1 all are there.
 */
static int extend_pool_entries_step(struct heap *heap, uint32_t n)
{
	uint64_t size = heap->pools_per_arena * sizeof(struct pool_entry);
	uint32_t n_step = (uint32_t)(ENTRIES_PER_STEP / size), seen = heap->truth->head->n_arenas_mapped;
	int r;

	if (n <= seen)
		return 1;
	if (n_step > n - seen)
		n_step = n - seen;
	r = control_allocate(heap, &heap->pools[(uint64_t)seen * heap->pools_per_arena], n_step * size);
	if (r < 0)
		return r;
	/* release, both: after the pages */
	__atomic_store_n(&heap->truth->head->n_arenas_mapped, seen + n_step, __ATOMIC_RELEASE);
	__atomic_store_n(&heap->control->n_arenas_mapped, seen + n_step, __ATOMIC_RELEASE);
	return seen + n_step == n;
}

int supply_map_step(struct heap *heap, uint32_t head, uint32_t n_step, uint32_t *n_done)
{
	uint32_t n = heap_run_length(heap, head);
	int r;

	for (; *n_done < n && n_step > 0; ++*n_done, n_step--) {
		r = arena_map(heap, head + *n_done);
		if (r < 0)
			return r;
	}
	if (*n_done < n)
		return 0;
	r = extend_pool_entries_step(heap, head + n);
	if (r <= 0)
		return r;
	/* First: what the next daemon finds THERE and MAPPING nobody knows of. */
	truth_arena_set_state(&heap->truth->arenas[head], TRUTH_THERE);
	state_store(&heap->arenas[head], ARENA_GRANTED);
	return 1;
}

/* Arena `last` of the run is no more: for clients, then in the truth, where the length commits it. */
static void arena_forget(struct heap *heap, uint32_t head, uint32_t last)
{
	struct truth_arena *truth = heap->truth->arenas;

	if (last < heap->first_hole)
		heap->first_hole = last;
	if (last == head)
		heap->arenas[head].session1 = 0;
	state_store(&heap->arenas[last], ARENA_HOLE);
	if (last != head) {
		__atomic_store_n(&heap->arenas[head].n_arenas, last - head, __ATOMIC_RELEASE); /* after the state */
		/* relaxed: a process that counts the run reads either length */
		__atomic_store_n(&truth[head].n_arenas, last - head, __ATOMIC_RELAXED);
	}
	truth_arena_set_state(&truth[last], TRUTH_HOLE);
}

/*
 * From the last arena to the head, whose n_arenas shrinks meanwhile: a HOLE may be reserved anew before the head is
 * one, and a daemon that finds the head UNMAPPING must not take that arena for one of the run.
 */
int supply_unmap_step(struct heap *heap, uint32_t head, uint32_t n_step, uint32_t *n_done)
{
	truth_arena_set_state(&heap->truth->arenas[head], TRUTH_UNMAPPING);
	for (; n_step > 0; n_step--) {
		uint32_t last = head + heap_run_length(heap, head) - 1;
		int r;

		r = heap_return_arenas(heap, last, 1);
		if (r < 0)
			return r;
		++*n_done;
		arena_forget(heap, head, last);
		if (last == head)
			return 1;
	}
	return 0;
}

bool supply_has_lookup(struct heap *heap, uint32_t head)
{
	return critical_has_lookup(heap, head, heap_run_length(heap, head));
}

static bool is_head(const struct heap *heap, uint32_t i)
{
	uint32_t state = truth_arena_state(heap->truth, i);

	return state != TRUTH_HOLE && state != TRUTH_BODY;
}

/* Nobody has the run, and nobody can get it: where a client has written HOLE or MAPPING into its state, too. */
static bool is_left_over(const struct heap *heap, uint32_t i)
{
	uint32_t session = heap->truth->arenas[i].session1 - 1; /* none wraps to the largest */

	if (!is_head(heap, i))
		return false;
	if (heap->truth->arenas[i].state == TRUTH_MAPPING)
		return true;
	switch (arena_state(&heap->arenas[i])) {
	case ARENA_HOLE:
	case ARENA_MAPPING:
		return true;
	case ARENA_GRANTED:
		return session >= heap->n_sessions || heap->truth->sessions[session].state == SESSION_FREE;
	default:
		return false;
	}
}

/* One that cannot go now stays RETURNING, and is found by supply_next_returning(). */
void supply_adopt_all(struct heap *heap)
{
	for (uint32_t i = 0; i < arenas_known(heap); i++) {
		uint32_t n_done = 0;

		if (!is_left_over(heap, i))
			continue;
		state_store(&heap->arenas[i], ARENA_RETURNING);
		(void)supply_unmap_step(heap, i, UINT32_MAX, &n_done);
	}
}

int supply_next_returning(struct session *daemon, uint32_t *cursor, uint32_t *ret)
{
	struct heap *heap = daemon->heap;
	int r;

	if (!*cursor) {
		r = change_try_begin(daemon);
		if (r < 0)
			return r;
		change_end(daemon, 0); /* no change that may be rolled back has made an arena RETURNING now */
	}
	while (*cursor < arenas_known(heap)) {
		uint32_t i = (*cursor)++;

		/* Unmapping, it was RETURNING, whatever has been written there since. */
		if (is_head(heap, i) && (heap->truth->arenas[i].state == TRUTH_UNMAPPING ||
						arena_state(&heap->arenas[i]) == ARENA_RETURNING)) {
			*ret = i;
			return 1;
		}
	}
	return 0;
}

int supply_pick_granted(struct session *daemon, uint32_t index, bool has_lock, uint32_t *ret)
{
	struct heap *heap = daemon->heap;
	int r;

	r = change_try_begin(daemon);
	if (r == 0)
		change_end(daemon, 0);
	/* A session that asks to be resumed while it has the lock is between two changes. */
	else if (r != -EBUSY || !has_lock)
		return r;
	/* No change of a dead owner is pending any more, so this daemon alone writes the state of what is GRANTED to
	 * the session. */
	for (uint32_t i = 0; i < arenas_known(heap); i++) {
		if (!is_head(heap, i) || heap->truth->arenas[i].session1 != index + 1 ||
			arena_state(&heap->arenas[i]) != ARENA_GRANTED)
			continue;
		state_store(&heap->arenas[i], ARENA_RETURNING);
		*ret = i;
		return 1;
	}
	return 0;
}

static int accept_in_change(struct session *session, struct arena_entry *arena)
{
	if (!arena)
		return -EINVAL;
	if (arena_state(arena) != ARENA_GRANTED || read_once(arena->session1) != session->index + 1)
		return -EPERM;
	if (session->wants_run || read_once(arena->n_arenas) != 1)
		run_keep_granted(session, arena);
	else
		arena_open(session->heap, arena, session->wants_space & 1);
	return 0;
}

int supply_accept(struct session *session, uint32_t head)
{
	int r;

	if (head >= session->heap->n_arenas)
		return -EINVAL;
	r = change_begin(session);
	if (r < 0)
		return r;
	return change_end(session, accept_in_change(session, arena_at1(session->heap, head + 1)));
}

int supply_pick_returning(struct session *daemon, uint32_t n_spare, uint32_t *ret)
{
	struct heap *heap = daemon->heap;
	struct counters *c = &heap->control->counters;
	struct arena_entry *arena;
	int r;

	r = change_try_begin(daemon);
	if (r < 0)
		return r;
	arena = run_take_returnable(heap);
	if (!arena)
		arena = arena_take_free(heap, n_spare);
	if (!arena)
		return change_end(daemon, 0);
	*ret = arena_index(heap, arena);
	if (!is_head(heap, *ret) || heap->truth->arenas[*ret].state != TRUTH_THERE) /* a list leads to it wrongly */
		return change_end(daemon, -EUCLEAN);
	heap_set(heap, &arena->state, ARENA_RETURNING);
	heap_add(heap, &c->n_arenas_current, -(int64_t)heap_run_length(heap, *ret));
	heap_add(heap, &c->n_arenas_reclaimed, heap_run_length(heap, *ret));
	r = change_end(daemon, 0);
	return r < 0 ? r : 1;
}
