// SPDX-License-Identifier: MIT
/*
 * Runs of free arenas
 *
 * What a large object leaves is a run of free arenas. It is RETURNABLE: it waits on returnable_arenas for the next
 * object, for pools that find no other arena, or for the daemon, which unmaps it (supply.c).
 *
 * The run that was freed last is first, and is used again first: its memory is there, and most likely in the
 * processor's caches. What has not been used for longest is last, and goes first. When a run is cut, what is left has
 * its age, and its place on the list.
 *
 * A run is found for an object that is shorter, which is cut off, and for one that is longer if the arenas behind the
 * run are free, too. Runs are joined when they are needed and not before: a run that is freed again and again must not
 * make its neighbours young.
 */

#include "heap/memory/returnable.h"

#define WALK_MAX 64U /* runs examined before fresh memory is wanted */
#define JOIN_MAX 64U /* runs that are joined to one */

static struct list_node node_of(struct heap *heap, struct arena_entry *arena)
{
	return (struct list_node){&arena->links, arena_index(heap, arena) + 1};
}

uint32_t returnable_length(struct heap *heap, uint32_t index)
{
	if (index >= arenas_known(heap) || index >= heap->n_arenas ||
		arena_state(&heap->arenas[index]) != ARENA_RETURNABLE)
		return 0;
	return heap_run_length(heap, index);
}

void returnable_add(struct heap *heap, struct arena_entry *head, uint32_t n)
{
	struct control *control = heap->control;
	uint32_t *head1 = &control->returnable_arenas1;

	uint32_t first1 = read_once(*head1);

	heap_set(heap, &head->state, ARENA_RETURNABLE);
	heap_set(heap, &head->n_arenas, n);
	heap_set(heap, &head->free_since, heap_clock(heap));
	if (!first1)
		heap_set(heap, &control->returnable_last1, arena_index(heap, head) + 1);
	list_push(heap, true, head1, node_of(heap, head), arena_node(heap, first1));
	heap_add(heap, &control->n_returnable, n);
}

/* Remove a run from the list. */
static void remove_run(struct heap *heap, struct arena_entry *head, uint32_t n)
{
	struct control *control = heap->control;

	if (read_once(control->returnable_last1) == arena_index(heap, head) + 1)
		heap_set(heap, &control->returnable_last1, read_once(head->prev1));
	arena_unlink(heap, &control->returnable_arenas1, head);
	heap_add(heap, &control->n_returnable, -(int64_t)n);
}

/* Put what is left of a run behind its first n arenas in its place on the list. The run itself is removed next. */
static void keep_rest(struct heap *heap, struct arena_entry *head, uint32_t n, uint32_t length)
{
	struct control *control = heap->control;
	struct arena_entry *rest = head + n;

	heap_set(heap, &rest->state, ARENA_RETURNABLE);
	heap_set(heap, &rest->n_arenas, length - n);
	heap_set(heap, &rest->free_since, read_once(head->free_since));
	if (read_once(control->returnable_last1) == arena_index(heap, head) + 1)
		heap_set(heap, &control->returnable_last1, arena_index(heap, rest) + 1);
	list_insert(heap, true, &control->returnable_arenas1, node_of(heap, rest), node_of(heap, head),
		arena_node(heap, read_once(head->next1)));
	heap_add(heap, &control->n_returnable, length - n);
}

/* How many free arenas begin at `head`, counted up to n. 0: the list leads to what is no free run. */
static uint32_t count_adjacent(struct heap *heap, uint32_t head, uint32_t n)
{
	uint32_t n_found = 0, length = 1;

	for (uint32_t i = 0; i < JOIN_MAX && n_found < n && length; i++) {
		length = returnable_length(heap, head + n_found);
		n_found += length;
	}
	return n_found;
}

/* Take n arenas, which are free, as one run. */
static void join(struct heap *heap, struct arena_entry *head, uint32_t n)
{
	for (uint32_t i = 0; i < n;) {
		struct arena_entry *part = head + i;
		uint32_t length = returnable_length(heap, arena_index(heap, part));

		if (!length)
			return; /* a stray write, since they were counted */
		if (length > n - i)
			keep_rest(heap, part, n - i, length);
		remove_run(heap, part, length);
		if (i)
			heap_set(heap, &part->state, ARENA_BODY);
		i += length;
	}
	heap_set(heap, &head->n_arenas, n);
}

struct arena_entry *returnable_take(struct heap *heap, uint32_t n)
{
	struct arena_entry *head = arena_at1(heap, read_once(heap->control->returnable_arenas1));

	for (uint32_t i = 0; head && i < WALK_MAX; i++, head = arena_at1(heap, read_once(head->next1))) {
		if (count_adjacent(heap, arena_index(heap, head), n) < n)
			continue;
		join(heap, head, n);
		return head;
	}
	return NULL;
}

struct arena_entry *returnable_take_last(struct heap *heap, struct arena_entry *head, uint32_t n)
{
	uint32_t length = heap_run_length(heap, arena_index(heap, head));
	struct arena_entry *taken;

	if (n >= length) {
		remove_run(heap, head, length);
		return head;
	}
	taken = head + (length - n);
	heap_set(heap, &head->n_arenas, length - n);
	heap_set(heap, &taken->n_arenas, n);
	heap_add(heap, &heap->control->n_returnable, -(int64_t)n);
	return taken;
}

struct arena_entry *returnable_oldest(struct heap *heap)
{
	struct arena_entry *arena = arena_at1(heap, read_once(heap->control->returnable_last1));

	return arena && arena_state(arena) == ARENA_RETURNABLE ? arena : NULL;
}
