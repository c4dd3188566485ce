// SPDX-License-Identifier: MIT
/*
 * Arenas filled to order, and a check of their order
 *
 * An object of one to sixteen pages stands for as many pools. Objects are spread over the sessions, each of which owns
 * what it makes.
 */
#include "tests/unit/heap/fixture_arena.h"

struct session *session_of(uint32_t i)
{
	return &fx.sessions[i % FIXTURE_SESSIONS];
}

void free_now(struct session *session, uint64_t ref)
{
	fixture_drop(session, ref);
	fixture_trim_sessions();
}

static uint32_t count_free_pools(uint32_t arena)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < fx.heap->pools_per_arena; i++)
		n += (uint32_t)(fx.heap->freepools[arena * fx.heap->pool_words + i / 64] >> (i % 64)) & 1;
	return n;
}

/* How free the arena is: 0 not at all, 1 to 8 by eighths, 9 wholly; computed anew, without arena_rank(). */
static uint32_t rank_of(const struct arena_entry *arena)
{
	return arena->n_free_pools == POOLS ? 9 : arena->n_free_pools ? 1 + arena->n_free_pools * 8 / POOLS : 0;
}

void check_order(enum space_kind kind)
{
	const struct space *space = &fx.heap->control->spaces[kind];
	uint32_t last[N_RANKS] = {0}, prev1 = 0, n_linked = 0, n_usable = 0;

	for (uint32_t i1 = space->usable_arenas1; i1; i1 = fx.heap->arenas[i1 - 1].next1) {
		const struct arena_entry *arena = &fx.heap->arenas[i1 - 1];

		ck_assert_uint_eq(arena->state, ARENA_POOLS);
		ck_assert_uint_eq(arena->space, kind);
		ck_assert_uint_eq(arena->prev1, prev1);
		ck_assert_uint_eq(arena->n_free_pools, count_free_pools(i1 - 1));
		ck_assert_uint_gt(arena->n_free_pools, 0);
		if (prev1)
			ck_assert_uint_ge(rank_of(arena), rank_of(&fx.heap->arenas[prev1 - 1]));
		last[rank_of(arena)] = i1;
		prev1 = i1;
		ck_assert_uint_le(++n_linked, fx.heap->n_arenas);
	}
	for (uint32_t rank = 0; rank < N_RANKS; rank++)
		ck_assert_uint_eq(space->rank2lasta1[rank], last[rank]);
	for (uint32_t i = 0; i < fx.heap->control->n_arenas_known; i++)
		n_usable += fx.heap->arenas[i].state == ARENA_POOLS && fx.heap->arenas[i].space == kind &&
			    count_free_pools(i);
	ck_assert_uint_eq(n_usable, n_linked);
}

void fill_arenas(uint64_t *refs, uint32_t n)
{
	for (uint32_t i = 0; i < n * POOLS; i++) {
		ck_assert_int_eq(CALL(session_of(i), object_new(session_of(i), fixture_pages_type(session_of(i)),
							     POOL_SIZE, &refs[i])),
			0);
		ck_assert_uint_eq(ref_arena_index(refs[i]), ref_arena_index(refs[i / POOLS * POOLS]));
	}
	fixture_check();
}

uint32_t map_run(uint32_t session, uint32_t n)
{
	uint32_t head, n_done = 0;

	ck_assert_int_eq(supply_reserve(fx.heap, session, n, &head), 0);
	ck_assert_uint_eq(fx.heap->arenas[head].state, ARENA_MAPPING);
	for (uint32_t i = 0; i + 1 < n; i++) {
		ck_assert_int_eq(supply_map_step(fx.heap, head, 1, &n_done), 0);
		ck_assert_uint_eq(n_done, i + 1);
		ck_assert_uint_eq(fx.heap->arenas[head].state, ARENA_MAPPING);
	}
	ck_assert_int_eq(supply_map_step(fx.heap, head, 1, &n_done), 1);
	ck_assert_uint_eq(fx.heap->arenas[head].state, ARENA_GRANTED);
	return head;
}
