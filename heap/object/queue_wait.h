/* SPDX-License-Identifier: MIT */
#pragma once

/* Waiting for a queue. See queue_wait.c. */

#include "heap/object/cell.h"

/* What a call has to wait for: *seq to be something else than `value`. */
struct queue_wait {
	uint32_t *seq;
	uint32_t value;
};

void queue_wake(uint32_t *seq);
void queue_announce(struct queue *queue, bool is_push_call, struct queue_wait *ret);
int queue_wait_for(struct heap *heap, const struct queue_wait *wait, int64_t deadline);
int64_t queue_now_nsec(void);

/* After a cell was changed: whoever waits for that is woken. The flag first, so that who sets it later sees the cell.
 */
static inline void queue_signal(uint32_t *seq, uint32_t *waiting)
{
	/* after the compare-and-swap, a full barrier; see queue_announce() */
	if (CELL_UNLIKELY(__atomic_load_n(waiting, __ATOMIC_SEQ_CST)) &&
		__atomic_exchange_n(waiting, 0, __ATOMIC_SEQ_CST))
		queue_wake(seq);
}

static inline void queue_pushed(const struct cell_ring *ring, const struct cell_value *seen)
{
	__atomic_store_n(&ring->queue->tail, seen->position + 1, __ATOMIC_RELAXED); /* relaxed: a hint */
	queue_signal(&ring->queue->push_seq, &ring->queue->pop_waiting);
}

static inline void queue_popped(const struct cell_ring *ring, const struct cell_value *seen)
{
	__atomic_store_n(&ring->queue->head, seen->position + 1, __ATOMIC_RELAXED); /* the same */
	queue_signal(&ring->queue->pop_seq, &ring->queue->push_waiting);
}
