/* SPDX-License-Identifier: MIT */
#pragma once

/* Arenas by their index, and as entries of lists. Within a change. */

#include "heap/shared/list.h"

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
