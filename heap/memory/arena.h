/* SPDX-License-Identifier: MIT */
#pragma once

/* Arenas of pools: usable_arenas and freepools. All within a change. See arena.c. */

#include "heap/shared/list.h"
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

/* Take a wholly free arena off its list, if there are more than n_spare; NULL: there are not. */
struct arena_entry *arena_take_free(struct heap *heap, uint32_t n_spare);

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

static inline uint32_t arena_index(const struct heap *heap, const struct arena_entry *arena)
{
	return (uint32_t)(arena - heap->arenas);
}

/* The arena of an index plus one; NULL: there is none. */
static inline struct arena_entry *arena_at1(struct heap *heap, uint32_t index1)
{
	return index1 && index1 <= arenas_known(heap) && index1 <= heap->n_arenas ? &heap->arenas[index1 - 1] : NULL;
}

/* arena_at1() as an entry of a list. */
static inline struct list_node arena_node(struct heap *heap, uint32_t index1)
{
	struct arena_entry *arena = arena_at1(heap, index1);

	return (struct list_node){arena ? &arena->links : NULL, index1};
}

/* Remove an arena from the list that begins at *head1. */
static inline void arena_unlink(struct heap *heap, uint32_t *head1, struct arena_entry *arena)
{
	struct list_node prev = arena_node(heap, read_once(arena->prev1));
	struct list_node next = arena_node(heap, read_once(arena->next1));

	list_remove(heap, true, head1, &arena->links, prev, next);
}
