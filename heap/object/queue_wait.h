/* SPDX-License-Identifier: MIT */
#pragma once

/* Waiting for a queue, and waking. See queue_wait.c. */

#include "heap/object/cell.h"
#include "heap/object/wait_signals.h"

/* A call waits for *seq to be something else than `value`. */
struct queue_wait {
	uint32_t *seq;
	uint32_t value;
	int64_t deadline; /* nanoseconds of CLOCK_MONOTONIC; INT64_MAX: none */
	bool has_slept;
	struct wait_signals signals;
};

/* A call that may wait, for that long, or (negative) for ever; and its end. */
void queue_wait_begin(struct queue_wait *wait, int timeout_ms);
void queue_wait_end(const struct queue_wait *wait);

/* Move the number and wake all sleepers. */
void queue_wake(uint32_t *seq);

/* Before the last look at the cells: the session will wait, for a cell to be emptied (is_push_call) or filled. */
void queue_announce(struct queue *queue, bool is_push_call, struct queue_wait *ret);

/* Sleep until woken, or to the end of a slice. 0: look at the cells again. -ETIMEDOUT, -EINTR, -EPIPE. */
int queue_wait_for(struct heap *heap, struct queue_wait *wait);

/*
 * After a cell was changed: wake the process that waits for that. The cell before the flag: the process that sets the
 * flag later sees the cell changed.
 */
static inline void queue_signal(uint32_t *seq, uint32_t *waiting)
{
	/* after the compare-and-swap, which is a full barrier; with queue_announce() */
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
	__atomic_store_n(&ring->queue->head, seen->position + 1, __ATOMIC_RELAXED); /* relaxed: a hint */
	queue_signal(&ring->queue->pop_seq, &ring->queue->push_waiting);
}
