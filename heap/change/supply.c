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

/* Make the entries of arenas below n readable: their pages are allocated before n_arenas_known counts them. */
static int extend_arena_entries(struct heap *heap, uint32_t n)
{
	struct control *c = heap->control;
	uint32_t seen = c->n_arenas_known;
	uint32_t words = heap->pool_words;
	int r;

	if (n <= seen)
		return 0;
	r = heap_allocate(heap->control_fd, c->arenas_off + (uint64_t)seen * sizeof(struct arena_entry),
		(uint64_t)(n - seen) * sizeof(struct arena_entry));
	if (!r)
		r = heap_allocate(heap->control_fd, c->freepools_off + (uint64_t)seen * words * 8,
			(uint64_t)(n - seen) * words * 8);
	if (!r)
		__atomic_store_n(&c->n_arenas_known, n, __ATOMIC_RELEASE); /* release: after the pages */
	return r;
}

static uint32_t find_holes(const struct heap *heap, uint32_t n)
{
	uint32_t seen = heap->control->n_arenas_known;
	uint32_t run = 0;

	for (uint32_t i = heap->first_hole; i < heap->n_arenas; i++) {
		if (i >= seen || arena_state(&heap->arenas[i]) == ARENA_HOLE)
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

	r = heap_allocate(heap->control_fd, heap->control->pools_off + i * pools_size, pools_size);
	if (!r)
		r = heap_allocate(heap->heap_fd, off, heap->arena_size);
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
	struct control *c = heap->control;
	uint64_t size = heap->pools_per_arena * sizeof(struct pool_entry);
	uint32_t n_step = (uint32_t)(ENTRIES_PER_STEP / size), seen = c->n_arenas_mapped;
	int r;

	if (n <= seen)
		return 1;
	if (n_step > n - seen)
		n_step = n - seen;
	r = heap_allocate(heap->control_fd, c->pools_off + seen * size, n_step * size);
	if (r < 0)
		return r;
	__atomic_store_n(&c->n_arenas_mapped, seen + n_step, __ATOMIC_RELEASE); /* release: after the pages */
	return seen + n_step == n;
}

int supply_map_step(struct heap *heap, uint32_t head, uint32_t n_step, uint32_t *n_done)
{
	uint32_t n = heap->arenas[head].n_arenas;
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
	state_store(&heap->arenas[head], ARENA_GRANTED);
	return 1;
}

/*
 * From the last arena to the head, whose n_arenas shrinks meanwhile: a HOLE may be reserved anew before the head is
 * one, and a daemon that finds the head RETURNING must not take that arena for one of the run.
 */
int supply_unmap_step(struct heap *heap, uint32_t head, uint32_t n_step, uint32_t *n_done)
{
	struct arena_entry *arena = &heap->arenas[head];

	for (; n_step > 0; n_step--) {
		uint32_t last = arena->n_arenas ? head + arena->n_arenas - 1 : head;
		int r;

		r = heap_return_arenas(heap, last, 1);
		if (r < 0)
			return r;
		++*n_done;
		if (last < heap->first_hole)
			heap->first_hole = last;
		if (last == head)
			arena->session1 = 0;
		state_store(&heap->arenas[last], ARENA_HOLE);
		/* release: after the state. After a death in between, the next daemon unmaps that HOLE once more,
		 * before any other use */
		if (last != head)
			__atomic_store_n(&arena->n_arenas, arena->n_arenas - 1, __ATOMIC_RELEASE);
		else
			return 1;
	}
	return 0;
}

bool supply_has_lookup(struct heap *heap, uint32_t head)
{
	uint32_t n = heap->arenas[head].n_arenas;

	return critical_has_lookup(heap, head, n ? n : 1);
}

static bool is_left_over(const struct heap *heap, const struct arena_entry *arena)
{
	uint32_t session = arena->session1 - 1; /* none wraps to the largest */

	switch (arena->state) {
	case ARENA_MAPPING:
		return true;
	case ARENA_GRANTED:
		return session >= heap->n_sessions || heap->sessions[session].state == SESSION_FREE;
	default:
		return false;
	}
}

static int unmap_whole_run(struct heap *heap, uint32_t head)
{
	uint32_t n_done = 0;
	int r;

	if (heap->arenas[head].n_arenas > heap->n_arenas - head)
		return -EUCLEAN;
	state_store(&heap->arenas[head], ARENA_RETURNING);
	r = supply_unmap_step(heap, head, UINT32_MAX, &n_done);
	return r < 0 ? r : 0;
}

int supply_adopt_all(struct heap *heap)
{
	int r;

	for (uint32_t i = 0; i < heap->control->n_arenas_known; i++) {
		if (!is_left_over(heap, &heap->arenas[i]))
			continue;
		r = unmap_whole_run(heap, i);
		if (r < 0)
			return r;
	}
	return 0;
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
	while (*cursor < heap->control->n_arenas_known)
		if (arena_state(&heap->arenas[(*cursor)++]) == ARENA_RETURNING) {
			*ret = *cursor - 1;
			return 1;
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
	for (uint32_t i = 0; i < heap->control->n_arenas_known; i++) {
		if (arena_state(&heap->arenas[i]) != ARENA_GRANTED || heap->arenas[i].session1 != index + 1)
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
	if (arena_state(arena) != ARENA_GRANTED || arena->session1 != session->index + 1)
		return -EPERM;
	if (session->wants_run || arena->n_arenas != 1)
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
	heap_set(heap, &arena->state, ARENA_RETURNING);
	heap_add(heap, &c->n_arenas_current, -(int64_t)arena->n_arenas);
	heap_add(heap, &c->n_arenas_reclaimed, arena->n_arenas);
	r = change_end(daemon, 0);
	return r < 0 ? r : 1;
}
