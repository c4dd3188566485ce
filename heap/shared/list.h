/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Doubly linked lists of entries in an array
 *
 * An entry names its neighbours by index plus one (union list_links); a list is the index of its first entry, plus one.
 * usedpools, owned_pools, remote_pools, usable_arenas and returnable_arenas are such lists.
 *
 * The caller turns indices into entries, since each array has its own bounds, and an index that a stray write has
 * damaged must not lead outside of them. A neighbour that the caller does not find is left alone.
 *
 * `logged`: the stores go through the undo log, as all under the lock do. Without it a session changes lists of its own
 * in a critical section, or a rebuild makes them anew.
 */

#include "heap/shared/log.h"

/* An entry of a list, or none: links is NULL. */
struct list_node {
	union list_links *links;
	uint32_t index1;
};

/* Insert node between two neighbours, each of which may be none. One store sets both links of node, if need be. */
static inline void list_insert(struct heap *heap, bool logged, uint32_t *head1, struct list_node node,
	struct list_node prev, struct list_node next)
{
	uint64_t both = next.index1 | (uint64_t)prev.index1 << 32;

	if (read_once(node.links->both) != both)
		heap_store(heap, logged, &node.links->both, both);
	if (next.links)
		heap_store(heap, logged, &next.links->prev1, node.index1);
	if (prev.links)
		heap_store(heap, logged, &prev.links->next1, node.index1);
	else
		heap_store(heap, logged, head1, node.index1);
}

/* Insert node at the front; `first` is the entry of *head1. */
static inline void list_push(
	struct heap *heap, bool logged, uint32_t *head1, struct list_node node, struct list_node first)
{
	list_insert(heap, logged, head1, node, (struct list_node){0}, first);
}

/* Remove the entry of `links` from between its neighbours. head1 NULL: the list has no head any more. */
static inline void list_remove(struct heap *heap, bool logged, uint32_t *head1, union list_links *links,
	struct list_node prev, struct list_node next)
{
	union list_links was = {.both = read_once(links->both)};

	if (prev.links)
		heap_store(heap, logged, &prev.links->next1, was.next1);
	else if (head1)
		heap_store(heap, logged, head1, was.next1);
	if (next.links)
		heap_store(heap, logged, &next.links->prev1, was.prev1);
	if (was.both)
		heap_store(heap, logged, &links->both, 0);
}
