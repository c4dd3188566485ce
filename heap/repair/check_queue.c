// SPDX-License-Identifier: MIT
/*
 * Queues compared with their cells
 *
 * The n cells of a queue have n positions that follow each other; the first of these are filled, the others empty; and
 * neither head nor tail, which are hints, is ahead of them. A queue that may be changing is left alone
 * (check_note_in_flight()).
 *
 * Mending keeps the objects and their order: what is behind gaps moves up, and the positions begin anew with a lap
 * that no cell had before.
 */

#include "heap/repair/check_queue.h"
#include "heap/change/lock.h"
#include "heap/repair/check_count.h"

/* How many positions after *head is the one that cell i has or waits for? Negative: it is before *head. */
static int64_t cell_after_head(const struct queue *queue, uint64_t n, uint64_t i)
{
	uint64_t position = queue->head + (i + n - queue->head % n) % n;
	int64_t ahead =
		(int64_t)((queue->cells[i].stamp + i - position) << (64 - CELL_LAP_BITS)) >> (64 - CELL_LAP_BITS);

	return (int64_t)(position - queue->head) + ahead;
}

/* Are the cells, head and tail as described at the top? */
static bool is_queue_whole(const struct queue *queue, uint64_t n)
{
	int64_t first = INT64_MAX, count = 0;

	if (queue->n == 0)
		return queue->head == 0 && queue->tail == 0; /* being made */
	if (queue->n != n)
		return false;
	for (uint64_t i = 0; i < n; i++) {
		int64_t at = cell_after_head(queue, n, i);

		first = at < first ? at : first;
		count += queue->cells[i].ref != 0;
	}
	if (first < 0 || (int64_t)(queue->tail - queue->head) > first + count)
		return false;
	for (uint64_t i = 0; i < n; i++) {
		int64_t at = cell_after_head(queue, n, i);

		if (at - first >= (int64_t)n || (at - first < count) != (queue->cells[i].ref != 0) ||
			((uint64_t)at + queue->head) % n != i)
			return false;
	}
	return true;
}

/*
 * The cell of the first object: the first filled one behind an empty one; if all are filled, the one with the earliest
 * position.
 */
static uint64_t first_cell(const struct queue *queue, uint64_t n)
{
	uint64_t first = 0;

	for (uint64_t i = 0; i < n; i++) {
		if (queue->cells[i].ref && !queue->cells[(i + n - 1) % n].ref)
			return i;
		if (cell_after_head(queue, n, i) < cell_after_head(queue, n, first))
			first = i;
	}
	return first;
}

/* Nobody is changing the queue. Each object that moves up is a change of its own. */
static void mend_queue(struct check *check, struct queue *queue, uint64_t n)
{
	struct heap *heap = check->heap;
	uint64_t first = first_cell(queue, n), count = 0, lap = 0;

	/* a new lap: the process that read a cell before the mending finds it changed */
	for (uint64_t i = 0; i < n; i++)
		if ((queue->cells[i].stamp & CELL_LAP_MASK) > lap)
			lap = queue->cells[i].stamp & CELL_LAP_MASK;
	lap = (lap / n + 1) * n < CELL_LAP_MASK / 2 ? (lap / n + 1) * n : 0;
	heap_set(heap, &queue->n, n);
	heap_set(heap, &queue->head, lap + first);
	for (uint64_t i = 0; i < n; i++) {
		struct cell *from = &queue->cells[(first + i) % n], *to = &queue->cells[(first + count) % n];

		heap_set(heap, &from->stamp, first + i < n ? lap : lap + n);
		if (from->ref && from != to) {
			heap_set(heap, &to->ref, from->ref);
			heap_set(heap, &from->ref, 0);
		}
		count += to->ref != 0;
		change_commit(heap);
	}
	heap_set(heap, &queue->tail, lap + first + count);
	change_commit(heap);
}

void check_queue(struct check *check, const struct object *object)
{
	struct queue *queue = (struct queue *)(void *)object->data;
	uint64_t n = (object->size - sizeof(*queue)) / sizeof(struct cell);

	if (check_is_queue_in_flight(check, object->position))
		return;
	if (!n) { /* a stray write into its size */
		check_fault(check, "queue %#llx: has no room for a cell", (unsigned long long)object->position);
		return;
	}
	if (is_queue_whole(queue, n))
		return;
	check_fault(check, "queue %#llx: its head and tail are not those of its cells",
		(unsigned long long)object->position);
	if (check->mender)
		mend_queue(check, queue, n);
}
