/* SPDX-License-Identifier: MIT */
/*
 * The heap compared with itself
 *
 * One walk under the lock. The truth is in the header words, the pools' kinds and the arenas' states; what is derived
 * from it (bitmaps, numbers, lists, their order, counters) is computed anew and compared, each difference a fault with
 * a name. The rights to objects are compared in check_rights.c. Nothing that is found is followed without its bounds
 * checked.
 *
 * All sessions are kept out of their own pools meanwhile (critical_block_all()). What is its own of one that is in the
 * middle of a call all the same, stopped or dead there or closing, is not compared: it may be between two stores. Of
 * the dead the headers are: each was changed by one store, nobody changes them any more, and by them they are
 * reclaimed.
 */

#include "heap/memory/arena.h"
#include "heap/memory/rebuild.h"
#include "heap/repair/check_walk.h"
#include "heap/shared/critical.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void check_fault(struct check *check, const char *format, ...)
{
	struct faults *faults = check->faults;
	char *line = NULL;
	va_list args;

	check->n_faults++;
	if (!faults)
		return;
	va_start(args, format);
	if (faults->n_lines == FAULTS_MAX || vasprintf(&line, format, args) < 0)
		faults->n_unnotified++;
	else
		faults->lines[faults->n_lines++] = line;
	va_end(args);
}

/* With the lock given back: the callback may block, or use the heap. */
static void tell(struct faults *faults, check_report report, void *userdata)
{
	char line[64];

	for (uint32_t i = 0; i < faults->n_lines; i++) {
		if (report)
			report(userdata, faults->lines[i]);
		free(faults->lines[i]);
	}
	if (!report || !faults->n_unnotified)
		return;
	snprintf(line, sizeof(line), "and %llu more", (unsigned long long)faults->n_unnotified);
	report(userdata, line);
}

static uint32_t n_known(const struct heap *heap)
{
	uint32_t n = arenas_known(heap);

	return n < heap->n_arenas ? n : heap->n_arenas;
}

/* ---- owners ------------------------------------------------------------------------------------------------------ */

/* The session that owns the pool, or NULL: none, or one that cannot be, and said so. */
static struct session_entry *owner_of(struct check *check, uint32_t p)
{
	struct heap *heap = check->heap;
	uint32_t owner1 = heap->pools[p].owner1;

	if (!owner1)
		return NULL;
	if (owner1 <= heap->n_sessions && session_state(&heap->sessions[owner1 - 1]) != SESSION_FREE &&
		heap->arenas[p / heap->pools_per_arena].space != SPACE_RECORDS)
		return &heap->sessions[owner1 - 1];
	check_fault(check, "pool %u: is owned by session %u, which cannot be", p, owner1 - 1);
	return NULL;
}

static bool owner_is_active(const struct check *check, const struct session_entry *owner)
{
	return owner && critical_was_active(check->heap, (uint32_t)(owner - check->heap->sessions));
}

/* Does nobody change the headers in its pools? Where it died inside its numbers and lists still may be half changed. */
static bool headers_are_still(const struct check *check, const struct session_entry *owner)
{
	return !owner_is_active(check, owner) || session_state(owner) == SESSION_DEAD;
}

static void check_owned(struct check *check, uint32_t p, const struct session_entry *owner)
{
	if (owner && !(check->pool_marks[p] & MARK_OWNED_LIST))
		check_fault(check, "pool %u: is not on the list owned_pools of its owner, session %u", p,
			(uint32_t)(owner - check->heap->sessions));
}

/* One of the lists that lead through members of pools: both ways linked, and each pool on it for a reason. */
struct pool_list {
	char name[32];
	uint32_t session;
	uint32_t identity, identity_mask; /* what all of them must have in common */
	uint32_t head1;
	uint8_t mark;
	size_t next_offset, prev_offset; /* of the links in struct pool_entry */
};

static uint32_t link_of(const struct pool_entry *pool, size_t offset)
{
	return *(const uint32_t *)(const void *)((const uint8_t *)pool + offset);
}

static void check_pool_list(struct check *check, const struct pool_list *list)
{
	struct heap *heap = check->heap;
	uint32_t prev1 = 0;

	for (uint32_t p1 = list->head1; p1;) {
		const struct arena_entry *arena = arena_at1(heap, (p1 - 1) / heap->pools_per_arena + 1);
		const struct pool_entry *pool = arena ? &heap->pools[p1 - 1] : NULL;

		if (!pool || (arena_state(arena) != ARENA_POOLS && arena_state(arena) != ARENA_RUN) ||
			pool->kind == POOL_FREE || (pool->identity & list->identity_mask) != list->identity ||
			link_of(pool, list->prev_offset) != prev1 || check->pool_marks[p1 - 1] & list->mark) {
			check_fault(check, "session %u: its list %s is broken at pool %u", list->session, list->name,
				p1 - 1);
			return;
		}
		check->pool_marks[p1 - 1] |= list->mark;
		prev1 = p1;
		p1 = link_of(pool, list->next_offset);
	}
}

/* ---- pools of blocks --------------------------------------------------------------------------------------------- */

static void check_free_list(
	struct check *check, uint32_t p, const struct pool_entry *pool, const struct object_header *headers)
{
	uint32_t n_free = pool->n_carved - pool->n_used, n = 0;

	for (uint32_t i1 = pool->freeblock1; i1; n++) {
		if (i1 > pool->n_carved || n > n_free || header_state(header_word(&headers[i1 - 1])) != STATE_FREE) {
			check_fault(check, "pool %u: its freeblock list is broken at its entry %u", p, n);
			return;
		}
		i1 = header_link(header_word(&headers[i1 - 1]));
	}
	if (n != n_free)
		check_fault(check, "pool %u: its freeblock list has %u blocks, %u are free", p, n, n_free);
}

/* What the headers say. */
struct block_count {
	uint32_t n_used, n_remote;
};

static void check_header(
	struct check *check, uint32_t p, uint32_t i, uint64_t word, uint64_t rights, const struct session_entry *owner)
{
	uint32_t state = header_state(word);

	if (state == STATE_FREE && rights)
		check_fault(check, "pool %u: block %u is free and somebody has a right to it", p, i);
	if (state == STATE_REMOTE_FREE && !owner && !check_pool_is_in_flight(check, p))
		check_fault(check, "pool %u: block %u waits to be gathered and the pool has no owner", p, i);
	if (state == STATE_REMOTE_FREE && rights != RIGHTS_SHARED)
		check_fault(check, "pool %u: block %u waits to be gathered and its second word is not of that", p, i);
	if (state != STATE_FREE && header_size(word) > class_shapes[check->heap->pools[p].size_class].size)
		check_fault(check, "pool %u: block %u is too short for the %u bytes of its object", p, i,
			header_size(word));
	if (state > STATE_REMOTE_FREE)
		check_fault(check, "pool %u: block %u is in the unknown state %u", p, i, state);
	if (owner && state == STATE_LIVE && header_own(word))
		check->n_own_holds[owner - check->heap->sessions]++;
}

static struct block_count check_headers(struct check *check, uint32_t p, const struct session_entry *owner)
{
	const struct pool_entry *pool = &check->heap->pools[p];
	const struct object_header *headers = pool_headers(check->heap, pool);
	struct block_count count = {0};
	bool is_touched = owner_is_active(check, owner); /* said once: where nextoffset is wrong it may be many */

	for (uint32_t i = 0; i < class_shapes[pool->size_class].n_blocks; i++) {
		uint64_t word = header_word(&headers[i]);
		uint32_t state = header_state(word);

		count.n_used += state != STATE_FREE;
		count.n_remote += state == STATE_REMOTE_FREE;
		if (headers_are_still(check, owner))
			check_header(check, p, i, word, headers[i].rights, owner);
		if (word && i >= pool->n_carved && !is_touched) {
			check_fault(check, "pool %u: block %u is %s and nextoffset says it is untouched", p, i,
				state != STATE_FREE ? "in use" : "as one that was freed");
			is_touched = true;
		}
	}
	return count;
}

/* What only its owner changes, or whoever has the lock where there is none. */
static void check_own_side(struct check *check, uint32_t p, const struct block_count *count)
{
	const struct pool_entry *pool = &check->heap->pools[p];
	bool has_room = pool_has_room(pool);

	if (pool->n_carved > class_shapes[pool->size_class].n_blocks) {
		check_fault(check, "pool %u: class %u with %u blocks carved cannot be", p, pool->size_class,
			pool->n_carved);
		return;
	}
	if (count->n_used != pool->n_used)
		check_fault(check, "pool %u: says that %u blocks are in use, %u are", p, pool->n_used, count->n_used);
	else
		check_free_list(check, p, pool, pool_headers(check->heap, pool));
	if (!count->n_used && !pool->owner1)
		check_fault(check, "pool %u: has no block in use and is not free", p);
	if (has_room != !!(check->pool_marks[p] & MARK_USED_LIST))
		check_fault(check, "pool %u: has %s room and is %s usedpools[%u]", p, has_room ? "some" : "no",
			has_room ? "not on" : "on", pool->size_class);
}

static void check_block_pool(struct check *check, uint32_t p)
{
	struct heap *heap = check->heap;
	const struct pool_entry *pool = &heap->pools[p];
	const struct session_entry *owner = owner_of(check, p);
	struct block_count count;

	if (pool->size_class >= N_CLASSES) {
		check_fault(check, "pool %u: class %u cannot be", p, pool->size_class);
		return;
	}
	count = check_headers(check, p, owner);
	check_owned(check, p, owner);
	if (!owner_is_active(check, owner))
		check_own_side(check, p, &count);
	if (!owner)
		return;
	if (pool->is_on_remote_list != !!(check->pool_marks[p] & MARK_REMOTE_LIST))
		check_fault(check, "pool %u: says that it is %s remote_pools, which it is%s", p,
			pool->is_on_remote_list ? "on" : "not on", pool->is_on_remote_list ? " not" : "");
	if (!!count.n_remote != !!(check->pool_marks[p] & MARK_REMOTE_LIST) && !check_pool_is_in_flight(check, p))
		check_fault(check, "pool %u: has %u returned blocks and is %s remote_pools", p, count.n_remote,
			count.n_remote ? "not on" : "on");
}

static void check_usedpools(struct check *check, uint32_t space, uint32_t size_class)
{
	struct heap *heap = check->heap;
	uint32_t prev1 = 0;

	for (uint32_t p1 = heap->control->spaces[space].usedpools1[size_class]; p1;) {
		const struct arena_entry *arena = arena_at1(heap, (p1 - 1) / heap->pools_per_arena + 1);
		const struct pool_entry *pool = arena ? &heap->pools[p1 - 1] : NULL;

		if (!pool || arena_state(arena) != ARENA_POOLS || arena->space != space ||
			pool->identity != pool_identity(POOL_BLOCKS, size_class, 0) || pool->prev1 != prev1 ||
			check->pool_marks[p1 - 1] & MARK_USED_LIST) {
			check_fault(check, "usedpools[%u] of space %u is broken at pool %u", size_class, space, p1 - 1);
			return;
		}
		check->pool_marks[p1 - 1] |= MARK_USED_LIST;
		prev1 = p1;
		p1 = pool->next1;
	}
}

/* ---- runs of pools ----------------------------------------------------------------------------------------------- */

static void check_run(struct check *check, uint32_t p)
{
	const struct pool_entry *pool = &check->heap->pools[p];
	const struct session_entry *owner = owner_of(check, p);
	uint64_t word = header_word(&pool->header);
	uint32_t state = header_state(word);

	check_owned(check, p, owner);
	if (!headers_are_still(check, owner))
		return;
	if (state == STATE_FREE && !(check->pool_marks[p] & MARK_SPARE) && !owner_is_active(check, owner))
		check_fault(check, "pool %u: starts a run whose header says that it is free", p);
	if (state == STATE_FREE && pool->header.rights)
		check_fault(check, "pool %u: starts a free run and somebody has a right to it", p);
	if (state != STATE_FREE && pool->run_size > (uint64_t)pool->run_n_pools << POOL_SHIFT)
		check_fault(check, "pool %u: a run of %u pools is too short for the %llu bytes of its object", p,
			pool->run_n_pools, (unsigned long long)pool->run_size);
	if (owner && state == STATE_LIVE && header_own(word))
		check->n_own_holds[owner - check->heap->sessions]++;
}

/* ---- sessions' lists of pools ------------------------------------------------------------------------------------ */

static void check_spare_runs(struct check *check, uint32_t index)
{
	struct heap *heap = check->heap;
	const struct session_entry *entry = &heap->sessions[index];

	for (uint32_t i = 0; i < SPARE_RUN_MAX; i++) {
		uint32_t p1 = entry->spare_runs1[i];
		const struct pool_entry *pool =
			p1 && arena_at1(heap, (p1 - 1) / heap->pools_per_arena + 1) ? &heap->pools[p1 - 1] : NULL;

		if (!p1)
			continue;
		if (!pool || pool->identity != pool_identity(POOL_RUN, CLASS_NONE, index + 1) ||
			pool->run_n_pools != i + 1 || header_state(header_word(&pool->header)) != STATE_FREE)
			check_fault(check, "session %u: keeps a run of %u pools at pool %u, where none is free", index,
				i + 1, p1 - 1);
		else
			check->pool_marks[p1 - 1] |= MARK_SPARE;
	}
}

static void check_usedpools_of(struct check *check, uint32_t index)
{
	struct pool_list list = {.session = index,
		.identity_mask = UINT32_MAX,
		.mark = MARK_USED_LIST,
		.next_offset = offsetof(struct pool_entry, next1),
		.prev_offset = offsetof(struct pool_entry, prev1)};

	for (uint32_t i = 0; i < N_CLASSES; i++) {
		snprintf(list.name, sizeof(list.name), "usedpools[%u]", i);
		list.identity = pool_identity(POOL_BLOCKS, i, index + 1);
		list.head1 = check->heap->sessions[index].usedpools1[i];
		check_pool_list(check, &list);
	}
}

static void check_session_lists(struct check *check, uint32_t index)
{
	const struct session_entry *entry = &check->heap->sessions[index];
	const struct pool_list owned = {.name = "owned_pools",
		.session = index,
		.identity = pool_identity(0, 0, index + 1),
		.identity_mask = pool_identity(0, 0, UINT16_MAX),
		.head1 = entry->owned_pools1,
		.mark = MARK_OWNED_LIST,
		.next_offset = offsetof(struct pool_entry, owned_next1),
		.prev_offset = offsetof(struct pool_entry, owned_prev1)};
	const struct pool_list returned = {.name = "remote_pools",
		.session = index,
		.identity = pool_identity(POOL_BLOCKS, 0, index + 1),
		.identity_mask = pool_identity(UINT8_MAX, 0, UINT16_MAX),
		.head1 = entry->remote_pools1,
		.mark = MARK_REMOTE_LIST,
		.next_offset = offsetof(struct pool_entry, remote_next1),
		.prev_offset = offsetof(struct pool_entry, remote_prev1)};

	check_pool_list(check, &owned);
	check_pool_list(check, &returned);
	if (critical_was_active(check->heap, index))
		return;
	check_usedpools_of(check, index);
	check_spare_runs(check, index);
}

static void check_own_holds(struct check *check, uint32_t index)
{
	/* relaxed: one that is about to come in, and is sent away, stores it as it was */
	uint64_t n_said = __atomic_load_n(&check->heap->sessions[index].n_own_holds, __ATOMIC_RELAXED);

	if (!critical_was_active(check->heap, index) && n_said != check->n_own_holds[index])
		check_fault(check, "session %u: says that it holds %llu objects of its own, it holds %llu", index,
			(unsigned long long)n_said, (unsigned long long)check->n_own_holds[index]);
}

/* ---- arenas ------------------------------------------------------------------------------------------------------ */

/* How many pools what starts at pool p of its arena takes, 0: none. */
static uint32_t pools_taken(struct check *check, uint32_t p, uint32_t n_left)
{
	const struct pool_entry *pool = &check->heap->pools[p];

	switch (pool->kind) {
	case POOL_FREE:
		return 0;
	case POOL_BLOCKS:
		check_block_pool(check, p);
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
 * A BODY where a head should stand: has the daemon made it one since the walk came by, of a run that begins before it?
 * Then that run's end, else a.
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
		return n > a - head && n <= n_known(heap) - head ? head + n : a;
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

/* What begins at arena a; returns where the next begins. */
static uint32_t check_arena(struct check *check, uint32_t a)
{
	struct heap *heap = check->heap;
	uint32_t state = arena_state(&heap->arenas[a]), n = 1, end;

	if (state == ARENA_HOLE)
		return a + 1;
	if (state != ARENA_POOLS)
		n = __atomic_load_n(&heap->arenas[a].n_arenas, __ATOMIC_ACQUIRE);
	if (state < ARENA_BODY && n && n <= n_known(heap) - a) {
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
		check_fault(check, "arena %u: state %u with %u arenas cannot stand here", a, state, n);
	return end == a ? a + 1 : end;
}

static void check_arenas(struct check *check)
{
	for (uint32_t a = 0; a < n_known(check->heap);)
		a = check_arena(check, a);
}

/* usable_arenas: linked both ways, ascending, each arena with a free pool once; rank2lasta as the list says. */
static void check_usable_arenas(struct check *check, uint32_t space_kind)
{
	struct heap *heap = check->heap;
	struct space *space = &heap->control->spaces[space_kind];
	uint32_t last1[N_RANKS] = {0};
	uint32_t prev1 = 0, rank = 0, rank_before = 0, n_listed = 0, n_usable = 0;

	for (uint32_t a1 = space->usable_arenas1; a1; n_listed++) {
		const struct arena_entry *arena = arena_at1(heap, a1);

		if (!arena || arena_state(arena) != ARENA_POOLS || arena->space != space_kind ||
			arena->prev1 != prev1 || !arena->n_free_pools || arena->n_free_pools > heap->pools_per_arena ||
			n_listed >= heap->n_arenas) {
			check_fault(check, "usable_arenas of space %u is broken at arena %u", space_kind, a1 - 1);
			return;
		}
		rank = arena_rank(heap, arena->n_free_pools);
		if (rank < rank_before)
			check_fault(check,
				"usable_arenas of space %u: arena %u with %u free pools, rank %u, stands behind one of "
				"rank %u",
				space_kind, a1 - 1, arena->n_free_pools, rank, rank_before);
		rank_before = rank;
		last1[rank] = a1;
		prev1 = a1;
		a1 = arena->next1;
	}
	for (uint32_t a = 0; a < n_known(heap); a++)
		n_usable += arena_state(&heap->arenas[a]) == ARENA_POOLS && heap->arenas[a].space == space_kind &&
			    heap->arenas[a].n_free_pools;
	if (n_usable != n_listed)
		check_fault(check, "usable_arenas of space %u lists %u arenas, %u have free pools", space_kind,
			n_listed, n_usable);
	for (rank = 0; rank < N_RANKS; rank++)
		if (space->rank2lasta1[rank] != last1[rank])
			check_fault(check, "rank2lasta[%u] of space %u is %u, should be %u", rank, space_kind,
				space->rank2lasta1[rank], last1[rank]);
}

static void check_returnable_arenas(struct check *check)
{
	struct heap *heap = check->heap;
	uint32_t prev1 = 0, n_listed = 0, n = 0;

	for (uint32_t a1 = heap->control->returnable_arenas1; a1; n_listed++) {
		const struct arena_entry *arena = arena_at1(heap, a1);

		if (!arena || arena_state(arena) != ARENA_RETURNABLE || arena->prev1 != prev1 ||
			n_listed >= heap->n_arenas) {
			check_fault(check, "returnable_arenas is broken at arena %u", a1 - 1);
			return;
		}
		prev1 = a1;
		a1 = arena->next1;
	}
	for (uint32_t a = 0; a < n_known(heap); a++)
		n += arena_state(&heap->arenas[a]) == ARENA_RETURNABLE;
	if (n != n_listed)
		check_fault(check, "returnable_arenas lists %u runs, %u are returnable", n_listed, n);
}

/* ---- counters ---------------------------------------------------------------------------------------------------- */

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

/* ---- all of it --------------------------------------------------------------------------------------------------- */

static void visit_position(struct check *check, uint64_t position, check_visit visit)
{
	struct object object;
	uint32_t state;

	if (object_locate(check->heap, position, &object) < 0)
		return;
	state = header_state(object.word);
	if (state == STATE_LIVE || state == STATE_DYING || state == STATE_MAKING)
		visit(check, &object);
}

/* A visit that mends may free the block, and with the last one the pool. */
static void visit_pool(struct check *check, uint32_t p, check_visit visit)
{
	const struct pool_entry *pool = &check->heap->pools[p];
	uint32_t size_class = pool->size_class;

	if (pool->kind == POOL_RUN)
		visit_position(check, (uint64_t)p << (POOL_SHIFT - 3), visit);
	if (size_class >= N_CLASSES)
		return;
	for (uint32_t i = 0; i < class_shapes[size_class].n_blocks; i++)
		if (pool->kind == POOL_BLOCKS && pool->size_class == size_class)
			visit_position(check, block_position(check->heap, pool, i), visit);
}

void check_each_object(struct check *check, check_visit visit)
{
	struct heap *heap = check->heap;

	for (uint32_t a = 0; a < n_known(heap); a++) {
		uint32_t p = a * heap->pools_per_arena;

		if (arena_state(&heap->arenas[a]) == ARENA_RUN)
			visit_pool(check, p, visit);
		if (arena_state(&heap->arenas[a]) != ARENA_POOLS)
			continue;
		for (uint32_t i = 0; i < heap->pools_per_arena; i++)
			visit_pool(check, p + i, visit);
	}
}

static void check_lists(struct check *check)
{
	for (uint32_t space = 0; space < N_SPACES; space++) {
		for (uint32_t i = 0; i < N_CLASSES; i++)
			check_usedpools(check, space, i);
		check_usable_arenas(check, space);
	}
	check_returnable_arenas(check);
	for (uint32_t i = 0; i < check->heap->n_sessions; i++)
		if (session_state(&check->heap->sessions[i]) != SESSION_FREE)
			check_session_lists(check, i);
}

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

/* One walk with the lock held. The number of faults, or -ENOMEM. */
static int64_t walk(struct heap *heap, struct session *mender, struct faults *faults)
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
		n = walk(session->heap, NULL, &faults);
	critical_unblock_all(session->heap);
	change_end(session, 0);
	tell(&faults, report, userdata);
	return n;
}

/* What the mending itself leaves to be found is a fault that nothing derived explains: it is told, and stays. */
static int64_t mend(struct session *session, struct faults *faults)
{
	int64_t n;

	rebuild_all(session->heap);
	n = walk(session->heap, session, NULL);
	if (n >= 0)
		n = walk(session->heap, NULL, faults);
	return n > 0 ? -EUCLEAN : n;
}

int64_t heap_repair(struct session *session, check_report report, void *userdata)
{
	struct faults faults = {.n_lines = 0};
	int64_t n, r;

	r = change_begin(session);
	if (r < 0)
		return r;
	n = critical_block_all(session->heap);
	if (!n)
		n = walk(session->heap, NULL, &faults);
	if (n > 0) {
		r = mend(session, &faults);
		cache_forget_all(session->cache);
	}
	critical_unblock_all(session->heap);
	change_end(session, 0);
	deferred_free(session, 0);
	tell(&faults, report, userdata);
	return r < 0 ? r : n;
}
