// SPDX-License-Identifier: MIT
/*
 * Lists compared with what must be on them
 *
 * Each list is linked both ways, and everything on it is there for a reason: its kind, class, owner, state. The walk
 * marks each pool that it finds on a list; check_pool.c then compares these marks with what the pool is. usable_arenas
 * is also ascending, and rank2lasta must point into it.
 */

#include "heap/repair/check_list.h"
#include "heap/memory/arena.h"
#include "heap/shared/critical.h"

#include <stdio.h>

/* A list whose links are members of struct pool_entry. */
struct pool_list {
	char name[32];
	uint32_t session;
	uint32_t identity, identity_mask; /* what identity & identity_mask must be of each pool on it */
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
		const struct arena_entry *arena = check_arena_at1(heap, (p1 - 1) / heap->pools_per_arena + 1);
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

static void check_usedpools(struct check *check, uint32_t space, uint32_t size_class)
{
	struct heap *heap = check->heap;
	uint32_t prev1 = 0;

	for (uint32_t p1 = heap->control->spaces[space].usedpools1[size_class]; p1;) {
		const struct arena_entry *arena = check_arena_at1(heap, (p1 - 1) / heap->pools_per_arena + 1);
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

/* Sessions' lists of pools */

static void check_spare_runs(struct check *check, uint32_t index)
{
	struct heap *heap = check->heap;
	const struct session_entry *entry = &heap->sessions[index];

	for (uint32_t i = 0; i < SPARE_RUN_MAX; i++) {
		uint32_t p1 = entry->spare_runs1[i];
		const struct pool_entry *pool =
			p1 && check_arena_at1(heap, (p1 - 1) / heap->pools_per_arena + 1) ? &heap->pools[p1 - 1] : NULL;

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
	const struct pool_list remote = {.name = "remote_pools",
		.session = index,
		.identity = pool_identity(POOL_BLOCKS, 0, index + 1),
		.identity_mask = pool_identity(UINT8_MAX, 0, UINT16_MAX),
		.head1 = entry->remote_pools1,
		.mark = MARK_REMOTE_LIST,
		.next_offset = offsetof(struct pool_entry, remote_next1),
		.prev_offset = offsetof(struct pool_entry, remote_prev1)};

	check_pool_list(check, &owned);
	check_pool_list(check, &remote);
	if (critical_was_active(check->heap, index))
		return;
	check_usedpools_of(check, index);
	check_spare_runs(check, index);
}

/* usable_arenas is ascending and has each arena with a free pool once; rank2lasta follows from it. */
static void check_usable_arenas(struct check *check, uint32_t space_kind)
{
	struct heap *heap = check->heap;
	struct space *space = &heap->control->spaces[space_kind];
	uint32_t last1[N_RANKS] = {0};
	uint32_t prev1 = 0, rank = 0, rank_before = 0, n_listed = 0, n_usable = 0;

	for (uint32_t a1 = space->usable_arenas1; a1; n_listed++) {
		const struct arena_entry *arena = check_arena_at1(heap, a1);

		if (!arena || arena_state(arena) != ARENA_POOLS || arena->space != space_kind ||
			arena->prev1 != prev1 || !arena->n_free_pools || arena->n_free_pools > heap->pools_per_arena ||
			n_listed >= heap->n_arenas) {
			check_fault(check, "usable_arenas of space %u is broken at arena %u", space_kind, a1 - 1);
			return;
		}
		rank = arena_rank(heap, arena->n_free_pools);
		if (rank < rank_before)
			check_fault(check,
				"usable_arenas of space %u: arena %u with %u free pools, rank %u, is behind one of "
				"rank %u",
				space_kind, a1 - 1, arena->n_free_pools, rank, rank_before);
		rank_before = rank;
		last1[rank] = a1;
		prev1 = a1;
		a1 = arena->next1;
	}
	for (uint32_t a = 0; a < check_n_arenas(heap); a++)
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
	uint32_t prev1 = 0, n_listed = 0, n = 0, n_arenas = 0;

	for (uint32_t a1 = heap->control->returnable_arenas1; a1; n_listed++) {
		const struct arena_entry *arena = check_arena_at1(heap, a1);

		if (!arena || arena_state(arena) != ARENA_RETURNABLE || arena->prev1 != prev1 ||
			n_listed >= heap->n_arenas) {
			check_fault(check, "returnable_arenas is broken at arena %u", a1 - 1);
			return;
		}
		n_arenas += heap_run_length(heap, a1 - 1);
		prev1 = a1;
		a1 = arena->next1;
	}
	for (uint32_t a = 0; a < check_n_arenas(heap); a++)
		n += arena_state(&heap->arenas[a]) == ARENA_RETURNABLE;
	if (n != n_listed)
		check_fault(check, "returnable_arenas lists %u runs, %u are returnable", n_listed, n);
	if (heap->control->returnable_last1 != prev1)
		check_fault(check, "returnable_last is %u, should be %u", heap->control->returnable_last1, prev1);
	if (heap->control->n_returnable != n_arenas)
		check_fault(check, "n_returnable is %u, %u arenas are listed", heap->control->n_returnable, n_arenas);
}

void check_lists(struct check *check)
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
