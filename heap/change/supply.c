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
 * arena that is THERE. Sessions cut and join free runs, so the truth knows runs only while they are mapped or unmapped.
 *
 * Died after ...                  the next daemon ...
 *   reserving, while mapping      finds MAPPING: punches, HOLE (supply_adopt_all())
 *   granting, session dead too    finds GRANTED to a session that is FREE: punches, HOLE (supply_adopt_all())
 *   picking, unmapping, punching  finds RETURNING: unmaps it once more; the head turns HOLE last
 *                                 (supply_next_returning()). It has had the lock before, since the picking may not be
 *                                 committed, and an owner of the lock may be about to roll it back
 */

#include "heap/change/supply.h"
#include "heap/change/full.h"
#include "heap/change/lock.h"
#include "heap/memory/arena.h"
#include "heap/memory/returnable.h"
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
	for (uint32_t i = head; i < head + n; i++) {
		truth[i].session1 = index + 1;
		truth[i].admission = index < heap->n_sessions ? heap->truth->sessions[index].admission : 0;
	}
	truth_arena_set_run(&truth[head], TRUTH_MAPPING, n);
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
 * Forget the classes and lists of n arenas' pools, whose memory is fresh. Member by member, since the generation must
 * be there at every moment: after a death here no old ref may become good again. Relaxed: a session with an old ref may
 * be reading the pool's entry, and a process that counts pools may have read the arena's state of before.
 */
static void pools_reset(struct heap *heap, uint32_t first, uint32_t n)
{
	struct pool_entry *pool = &heap->pools[(uint64_t)first * heap->pools_per_arena];

	for (uint32_t i = 0; i < n * heap->pools_per_arena; i++, pool++) {
		__atomic_store_n(&pool->kind, (uint8_t)POOL_FREE, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->size_class, (uint8_t)CLASS_NONE, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->n_used, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->n_carved, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->freeblock1, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->next1, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->prev1, 0, __ATOMIC_RELAXED);
	}
}

/* Neighbours by one call each. */
static int map_arenas(struct heap *heap, uint32_t first, uint32_t n)
{
	uint64_t pools_size = heap->pools_per_arena * sizeof(struct pool_entry);
	int r;

	r = control_allocate(heap, &heap->pools[(uint64_t)first * heap->pools_per_arena], n * pools_size);
	if (!r)
		r = file_allocate(
			heap->heap_fd, (uint64_t)first << heap->arena_shift, (uint64_t)n << heap->arena_shift);
	if (r < 0)
		return r;
	r = heap_map_arenas(heap, first, n);
	if (r < 0)
		return r;
	pools_reset(heap, first, n);
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
	uint32_t n = heap_run_length(heap, head), n_now;
	int r;

	n_now = n > *n_done ? n - *n_done : 0;
	n_now = n_now < n_step ? n_now : n_step;
	r = n_now ? map_arenas(heap, head + *n_done, n_now) : 0;
	if (r < 0)
		return r;
	*n_done += n_now;
	if (*n_done < n)
		return 0;
	r = extend_pool_entries_step(heap, head + n);
	if (r <= 0)
		return r;
	/* First: what the next daemon finds THERE and MAPPING nobody knows of. */
	for (uint32_t i = head + n - 1; i > head; i--)
		truth_arena_set_run(&heap->truth->arenas[i], TRUTH_THERE, 1);
	truth_arena_set_run(&heap->truth->arenas[head], TRUTH_THERE, 1); /* commit: of all of them */
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
		truth_arena_set_run(&truth[head], TRUTH_UNMAPPING, last - head);
	}
	truth_arena_set_state(&truth[last], TRUTH_HOLE);
}

/*
 * How many arenas from `head` on are THERE and of its run. Its length is what clients have made of it: no arena counts
 * that has no memory, or that is a head itself.
 */
static uint32_t count_there(const struct heap *heap, uint32_t head)
{
	uint32_t n = heap_run_length(heap, head), k;

	for (k = 1; k < n; k++)
		if (truth_arena_state(heap->truth, head + k) != TRUTH_THERE ||
			arena_state(&heap->arenas[head + k]) != ARENA_BODY)
			break;
	return k;
}

/* From here on the truth says of which arenas the run is made. */
static void begin_unmapping(struct heap *heap, uint32_t head)
{
	struct truth_arena *truth = heap->truth->arenas;
	uint32_t state = truth[head].state, n;

	if (state == TRUTH_UNMAPPING)
		return;
	n = state == TRUTH_MAPPING ? heap_run_length(heap, head) : count_there(heap, head);
	/* relaxed: as in supply_reserve() */
	__atomic_store_n(&heap->arenas[head].n_arenas, n, __ATOMIC_RELAXED);
	truth_arena_set_run(&truth[head], TRUTH_UNMAPPING, n);
	for (uint32_t i = head + 1; i < head + n; i++)
		truth_arena_set_state(&truth[i], TRUTH_BODY);
}

/*
 * From the last arena to the head, whose n_arenas shrinks meanwhile: a HOLE may be reserved anew before the head is
 * one, and a daemon that finds the head UNMAPPING must not take that arena for one of the run.
 */
int supply_unmap_step(struct heap *heap, uint32_t head, uint32_t n_step, uint32_t *n_done)
{
	uint32_t n, n_now;
	int r;

	full_ends(heap);
	begin_unmapping(heap, head);
	n = heap_run_length(heap, head);
	n_now = n < n_step ? n : n_step;
	r = heap_return_arenas(heap, head + n - n_now, n_now);
	if (r < 0)
		return r;
	*n_done += n_now;
	for (uint32_t last = head + n - 1; n_now > 0; last--, n_now--)
		arena_forget(heap, head, last);
	full_ends(heap); /* a session that was told before, and reads the number now, asks */
	return truth_arena_state(heap->truth, head) == TRUTH_HOLE;
}

bool supply_has_lookup(struct heap *heap, uint32_t head)
{
	return critical_find_lookup1(heap, head, heap_run_length(heap, head));
}

/* Arena `at` of a run that is RETURNING becomes the head of the rest of it. The rest's state comes before the run's
 * length: after a death in between the rest is RETURNING, and no part of the run. */
static void cut(struct heap *heap, uint32_t head, uint32_t at)
{
	uint32_t n = heap_run_length(heap, head);

	if (at <= head || at >= head + n)
		return;
	/* relaxed, both: as in supply_reserve() */
	__atomic_store_n(&heap->arenas[at].n_arenas, n - (at - head), __ATOMIC_RELAXED);
	state_store(&heap->arenas[at], ARENA_RETURNING);
	__atomic_store_n(&heap->arenas[head].n_arenas, at - head, __ATOMIC_RELAXED);
}

uint32_t supply_cut_lookup(struct heap *heap, uint32_t head, uint32_t ret[3])
{
	uint32_t n = heap_run_length(heap, head), read1 = critical_find_lookup1(heap, head, n), n_parts = 1;

	ret[0] = head;
	if (!read1 || truth_arena_state(heap->truth, head) != TRUTH_THERE)
		return 1;
	cut(heap, head, read1 - 1);
	cut(heap, read1 - 1, read1);
	if (read1 - 1 > head)
		ret[n_parts++] = read1 - 1;
	if (read1 < head + n)
		ret[n_parts++] = read1;
	return n_parts;
}

static bool is_there(const struct heap *heap, uint32_t i)
{
	return truth_arena_state(heap->truth, i) == TRUTH_THERE;
}

/* Nobody has the run, and nobody can get it: where a client has written HOLE or MAPPING into its state, too. */
static bool is_left_over(const struct heap *heap, uint32_t i)
{
	uint32_t session = heap->truth->arenas[i].session1 - 1; /* none wraps to the largest */

	if (truth_arena_state(heap->truth, i) == TRUTH_MAPPING)
		return true;
	if (!is_there(heap, i))
		return false;
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
	full_ends(heap); /* what the daemon before has found is over */
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
		if (truth_arena_state(heap->truth, i) == TRUTH_UNMAPPING ||
			(is_there(heap, i) && arena_state(&heap->arenas[i]) == ARENA_RETURNING)) {
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
		if (!is_there(heap, i) || heap->truth->arenas[i].session1 != index + 1 ||
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
	if (session->wants_run || heap_run_length(session->heap, arena_index(session->heap, arena)) != 1)
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

uint32_t supply_n_free(const struct heap *heap)
{
	const struct control *c = heap->control;

	/* relaxed, all: of one moment */
	return __atomic_load_n(&c->n_returnable, __ATOMIC_RELAXED) +
	       __atomic_load_n(&c->spaces[SPACE_OBJECTS].n_free_arenas, __ATOMIC_RELAXED) +
	       __atomic_load_n(&c->spaces[SPACE_RECORDS].n_free_arenas, __ATOMIC_RELAXED);
}

bool supply_is_full(const struct heap *heap, uint32_t n)
{
	if (supply_n_free(heap))
		return false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* what is gone from the lists has moved the number before */
	return full_is_known(heap, n);
}

void supply_set_clock(struct heap *heap, uint32_t clock_ms)
{
	/* relaxed: nothing is read because of it */
	__atomic_store_n(&heap->control->clock_ms, clock_ms, __ATOMIC_RELAXED);
}

/* What can go at this moment. */
struct pick {
	uint32_t n_max;      /* arenas, at least 1 */
	bool any_age;        /* else: what was free before `before` */
	uint32_t before;     /* modulo 2^32 */
	uint32_t head, n;    /* what goes: the daemon's copy */
	uint32_t n_examined; /* neighbours */
};

#define NEIGHBOURS_MAX 64U /* examined for one run that goes */

static bool is_old(const struct pick *pick, const struct arena_entry *arena)
{
	return pick->any_age || (int32_t)(read_once(arena->free_since) - pick->before) <= 0;
}

/* May this arena go, too? */
static bool is_free_and_old(struct heap *heap, const struct pick *pick, uint32_t index)
{
	return pick->n < pick->n_max && index < arenas_known(heap) && arena_is_free(heap, &heap->arenas[index]) &&
	       is_old(pick, &heap->arenas[index]);
}

/* Join what lies beside it and can go, too: neighbours go by one call of the system. */
static void take_neighbours(struct heap *heap, struct pick *pick)
{
	for (; pick->n_examined < NEIGHBOURS_MAX && pick->head > 0 && is_free_and_old(heap, pick, pick->head - 1);
		pick->n_examined++) {
		heap_set(heap, &heap->arenas[pick->head].state, ARENA_BODY);
		arena_take_free(heap, &heap->arenas[--pick->head]);
		pick->n++;
	}
	for (; pick->n_examined < NEIGHBOURS_MAX; pick->n_examined++) {
		uint32_t index = pick->head + pick->n, length = returnable_length(heap, index);
		struct arena_entry *arena = &heap->arenas[index];

		if (length && length <= pick->n_max - pick->n && is_old(pick, arena)) {
			returnable_take_last(heap, arena, length);
			pick->n += length;
		} else if (is_free_and_old(heap, pick, index)) {
			arena_take_free(heap, arena);
			pick->n++;
		} else {
			return;
		}
		heap_set(heap, &arena->state, ARENA_BODY);
	}
}

/* Within a change: choose what goes, and take it off its lists. False: nothing can go. */
static bool take_oldest(struct heap *heap, struct pick *pick)
{
	struct arena_entry *run = returnable_oldest(heap), *arena = arena_oldest_free(heap);

	if (run && is_old(pick, run)) {
		run = returnable_take_last(heap, run, pick->n_max);
		pick->head = arena_index(heap, run);
		pick->n = heap_run_length(heap, pick->head);
	} else if (arena && is_old(pick, arena)) {
		arena_take_free(heap, arena);
		pick->head = arena_index(heap, arena);
		pick->n = 1;
	} else {
		return false;
	}
	take_neighbours(heap, pick);
	return true;
}

/* Has all of it memory? Else a list leads to it wrongly. */
static bool are_there(const struct heap *heap, uint32_t head, uint32_t n)
{
	for (uint32_t i = head; i < head + n; i++)
		if (!is_there(heap, i))
			return false;
	return true;
}

static int pick_in_change(struct heap *heap, struct pick *pick)
{
	struct counters *c = &heap->control->counters;

	if (!take_oldest(heap, pick))
		return 0;
	if (pick->n > heap->n_arenas - pick->head || !are_there(heap, pick->head, pick->n))
		return -EUCLEAN;
	heap_set(heap, &heap->arenas[pick->head].n_arenas, pick->n);
	heap_set(heap, &heap->arenas[pick->head].state, ARENA_RETURNING);
	heap_add(heap, &c->n_arenas_current, -(int64_t)pick->n);
	heap_add(heap, &c->n_arenas_reclaimed, pick->n);
	return 1;
}

static int pick_returning(struct session *daemon, uint32_t n_spare, struct pick *pick, uint32_t *ret)
{
	struct heap *heap = daemon->heap;
	uint32_t n_free;
	int r, end;

	r = change_try_begin(daemon);
	if (r < 0)
		return r;
	n_free = supply_n_free(heap);
	pick->n_max = n_free > n_spare ? n_free - n_spare : 0;
	if (pick->n_max)
		full_ends(heap); /* before the commit: no session finds it gone from the lists, and no room to come */
	r = pick->n_max ? pick_in_change(heap, pick) : 0;
	end = change_end(daemon, r < 0 ? r : 0);
	*ret = pick->head;
	return end < 0 ? end : r;
}

int supply_pick_returning(struct session *daemon, uint32_t n_spare, uint32_t *ret)
{
	struct pick pick = {.any_age = true};

	return pick_returning(daemon, n_spare, &pick, ret);
}

int supply_pick_old(struct session *daemon, uint32_t n_spare, uint32_t before, uint32_t *ret)
{
	struct pick pick = {.before = before};

	return pick_returning(daemon, n_spare, &pick, ret);
}
