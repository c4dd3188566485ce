/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Doubly linked lists of entries in an array
 *
 * An entry of a list has its neighbours by index plus one (union list_links), and whoever has the list has the index of
 * the first, plus one. What is at an index is for the caller to say, since a damaged index must not lead outside of the
 * array; a neighbour that it does not find is left alone.
 *
 * `logged` says whether the stores go through the undo log: under the lock they do; a session changes lists of its own
 * without, within a critical section.
 */

#include "heap/shared/log.h"

/* An entry, or none: links is NULL. */
struct list_node {
	union list_links *links;
	uint32_t index1;
};

/* Between two neighbours, either of which may be none. The stores to links are one, and left out where they are so. */
static inline void list_insert(struct heap *heap, bool logged, uint32_t *head1, struct list_node node,
	struct list_node prev, struct list_node next)
{
	uint64_t both = next.index1 | (uint64_t)prev.index1 << 32;

	if (node.links->both != both)
		heap_store(heap, logged, &node.links->both, both);
	if (next.links)
		heap_store(heap, logged, &next.links->prev1, node.index1);
	if (prev.links)
		heap_store(heap, logged, &prev.links->next1, node.index1);
	else
		heap_store(heap, logged, head1, node.index1);
}

/* To the front; `first` is the one that *head1 has. */
static inline void list_push(
	struct heap *heap, bool logged, uint32_t *head1, struct list_node node, struct list_node first)
{
	list_insert(heap, logged, head1, node, (struct list_node){0}, first);
}

/* head1 NULL: the list's first entry is nowhere. */
static inline void list_remove(struct heap *heap, bool logged, uint32_t *head1, union list_links *links,
	const struct list_node *prev, const struct list_node *next)
{
	if (prev->links)
		heap_store(heap, logged, &prev->links->next1, links->next1);
	else if (head1)
		heap_store(heap, logged, head1, links->next1);
	if (next->links)
		heap_store(heap, logged, &next->links->prev1, links->prev1);
	if (links->both)
		heap_store(heap, logged, &links->both, 0);
}
