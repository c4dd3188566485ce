/* SPDX-License-Identifier: MIT */
#pragma once

/* Waiting for a queue, and waking. See queue_wait.c. */

#include "heap/object/cell.h"
#include "heap/object/wait_signals.h"

#define QUEUE_WAITING UINT32_C(1) /* bit 0 of a futex of a queue: somebody may sleep there. The rest is a number */

/* A call waits at the futex while it has `value`. */
struct queue_wait {
	uint32_t *futex;
	uint32_t value;
	int64_t deadline; /* nanoseconds of CLOCK_MONOTONIC; INT64_MAX: none */
	bool has_slept;
	struct wait_signals signals;
};

/* A call that may wait at that queue, for that long, or (negative) for ever; and its end. */
void queue_wait_begin(struct session *session, uint64_t queue, struct queue_wait *wait, int timeout_ms);
void queue_wait_end(struct session *session, const struct queue_wait *wait);

/* Before the last look at the cells: the session will wait, for a cell to be emptied (is_push_call) or filled. */
void queue_announce(struct queue *queue, bool is_push_call, struct queue_wait *ret);

/* Sleep until woken, or to the end of a slice. 0: look at the cells again. -ETIMEDOUT, -EINTR, -EPIPE. */
int queue_wait_for(struct heap *heap, struct queue_wait *wait);

/* Wake one of the sessions that sleep at a futex. Within an intent to push or pop, which has taken place. */
void queue_wake(uint32_t *futex);

/* As queue_wake(), without an intent: of a session that was woken itself, and leaves without an object. */
void queue_wake_next(uint32_t *futex);

/* Of a dead waker: wake all of them. */
void queue_wake_all(uint32_t *futex);

/*
 * After a cell was changed: wake a session that waits for that. The cell before the look at the futex: a session that
 * sets the bit later sees the cell changed.
 */
static inline void queue_signal(uint32_t *futex)
{
	/* after the compare-and-swap, which is a full barrier; with queue_announce() */
	if (CELL_UNLIKELY(__atomic_load_n(futex, __ATOMIC_SEQ_CST) & QUEUE_WAITING))
		queue_wake(futex);
}

static inline void queue_pushed(const struct cell_ring *ring, const struct cell_value *seen)
{
	__atomic_store_n(&ring->queue->tail, seen->position + 1, __ATOMIC_RELAXED); /* relaxed: a hint */
	queue_signal(&ring->queue->pop_wait);
}

static inline void queue_popped(const struct cell_ring *ring, const struct cell_value *seen)
{
	__atomic_store_n(&ring->queue->head, seen->position + 1, __ATOMIC_RELAXED); /* relaxed: a hint */
	queue_signal(&ring->queue->push_wait);
}
