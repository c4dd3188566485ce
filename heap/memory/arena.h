/* SPDX-License-Identifier: MIT */
#pragma once

/* Arenas of pools: usable_arenas and freepools. All within a change. See arena.c. */

#include "heap/memory/arena_list.h"
#include "heap/shared/session.h"

/*
 * Take n adjacent free pools, at least 1, from one of the fullest arenas that have them, or one of the emptiest. *ret
 * is the first of them. HEAP_WANTS_ARENAS: one arena. -EUCLEAN.
 */
int arena_take_pools(struct session *session, enum space_kind space, uint32_t n, uint32_t *ret);

/* Give n adjacent pools back, whose entries are POOL_FREE already. -EUCLEAN. */
int arena_give_pools(struct session *session, uint32_t first, uint32_t n);

/* Make an arena that is on no list one of free pools. */
void arena_open(struct heap *heap, struct arena_entry *arena, enum space_kind space);

/* The arena of pools that has been wholly free for longest; NULL: none is. */
struct arena_entry *arena_oldest_free(struct heap *heap);

/* Is it an arena of pools, and wholly free? */
bool arena_is_free(const struct heap *heap, const struct arena_entry *arena);

/* Take a wholly free arena off its list: it has no state yet. */
void arena_take_free(struct heap *heap, struct arena_entry *arena);

/* Count n arenas that come into use. */
void arena_count(struct heap *heap, uint32_t n);

/* The rank of an arena with that many free pools. */
static inline uint32_t arena_rank(const struct heap *heap, uint32_t n_free_pools)
{
	if (!n_free_pools)
		return 0;
	if (n_free_pools >= heap->pools_per_arena)
		return RANK_FREE;
	return 1 + (n_free_pools << 3 >> (heap->arena_shift - POOL_SHIFT));
}
