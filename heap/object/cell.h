/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The cells of a queue: find one, fill it, empty it, each change by one compare-and-swap. See queue.c, and struct cell.
 */

#include "heap/shared/session.h"
#include "heap/shared/two_words.h"

#include <errno.h>

#ifndef __GCC_HAVE_SYNC_COMPARE_AND_SWAP_16
#error "A cell of a queue needs a compare-and-swap of 16 bytes (x86-64: -mcx16)"
#endif

#define CELL_LIKELY(x)   __builtin_expect(!!(x), 1)
#define CELL_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* A queue, and the number of its cells as its object's size proves it, whatever a stray write did to queue->n. */
struct cell_ring {
	struct queue *queue;
	uint64_t n;
};

/* A cell as it was at one moment, and the position that was looked for in it. */
struct cell_value {
	struct cell *cell;
	uint64_t ref, stamp;
	uint64_t position; /* that was looked for */
};

static inline uint32_t stamp_filled_by(uint64_t stamp)
{
	return (uint32_t)(stamp >> CELL_FILLED_BY & CELL_SESSION);
}

static inline uint32_t stamp_emptied_by(uint64_t stamp)
{
	return (uint32_t)(stamp >> CELL_EMPTIED_BY & CELL_SESSION);
}

/* Read the cell of a position. Returns how many positions the cell is ahead of that: 0, or a number of laps. */
static inline int64_t cell_read(const struct cell_ring *ring, uint64_t position, struct cell_value *ret)
{
	uint64_t i = position % ring->n, before;

	ret->cell = &ring->queue->cells[i];
	ret->position = position;
	/*
	 * acquire: what was done before the cell was changed. The stamp is read again after ref, so that both are of
	 * one moment.
	 */
	before = __atomic_load_n(&ret->cell->stamp, __ATOMIC_ACQUIRE);
	do {
		ret->stamp = before;
		ret->ref = __atomic_load_n(&ret->cell->ref, __ATOMIC_ACQUIRE);
		before = __atomic_load_n(&ret->cell->stamp, __ATOMIC_ACQUIRE);
	} while (CELL_UNLIKELY(before != ret->stamp));
	return (int64_t)((ret->stamp + i - position) << (64 - CELL_LAP_BITS)) >> (64 - CELL_LAP_BITS);
}

/* The next position to try, after cell_read() returned `ahead`: the positions before it are over. */
static inline uint64_t cell_next_position(const struct cell_ring *ring, uint64_t position, int64_t ahead)
{
	return ahead ? position + (uint64_t)ahead - ring->n + 1 : position + 1;
}

/*
 * A search passes each cell once, and some more while others push and pop. Even more means that the cells contradict
 * each other.
 */
static inline bool cell_is_circle(const struct cell_ring *ring, uint64_t n_examined)
{
	return n_examined > 4 * ring->n + 1024;
}

/* The cell to push to. -EAGAIN: all are filled. -EUCLEAN: they contradict each other. */
static inline int cell_find_free(const struct cell_ring *ring, struct cell_value *ret)
{
	uint64_t position = __atomic_load_n(&ring->queue->tail, __ATOMIC_RELAXED); /* relaxed: a hint */

	for (uint64_t n_examined = 0; !cell_is_circle(ring, n_examined); n_examined++) {
		int64_t ahead = cell_read(ring, position, ret);

		if (CELL_LIKELY(!ahead && !ret->ref))
			return 0;
		if (ahead < 0)
			return ahead == -(int64_t)ring->n && ret->ref ? -EAGAIN : -EUCLEAN;
		if (ahead % (int64_t)ring->n)
			return -EUCLEAN;
		position = cell_next_position(ring, position, ahead);
	}
	return -EUCLEAN;
}

/* The cell to pop from. -EAGAIN: all are empty. -EUCLEAN: they contradict each other. */
static inline int cell_find_filled(const struct cell_ring *ring, struct cell_value *ret)
{
	uint64_t position = __atomic_load_n(&ring->queue->head, __ATOMIC_RELAXED); /* relaxed: a hint */

	for (uint64_t n_examined = 0; !cell_is_circle(ring, n_examined); n_examined++) {
		int64_t ahead = cell_read(ring, position, ret);

		if (CELL_LIKELY(!ahead))
			return ret->ref ? 0 : -EAGAIN;
		if (ahead < 0 || ahead % (int64_t)ring->n)
			return -EUCLEAN;
		position = cell_next_position(ring, position, ahead);
	}
	return -EUCLEAN;
}

/* Replace the whole cell, if it still is what *seen says. A full barrier. */
static inline bool cell_change(const struct cell_value *seen, uint64_t ref, uint64_t stamp)
{
	two_words old = (two_words)seen->stamp << 64 | seen->ref, new = (two_words)stamp << 64 | ref;

	return two_words_change((two_words *)(void *)seen->cell, old, new);
}

static inline bool cell_fill(const struct session *session, const struct cell_value *seen, uint64_t ref)
{
	return cell_change(seen, ref,
		(seen->stamp & ~(CELL_SESSION << CELL_FILLED_BY)) | (uint64_t)session->index << CELL_FILLED_BY);
}

static inline bool cell_empty(
	const struct session *session, const struct cell_ring *ring, const struct cell_value *seen)
{
	uint64_t lap = (seen->stamp + ring->n) & CELL_LAP_MASK;

	return cell_change(seen, 0,
		lap | (seen->stamp & CELL_SESSION << CELL_FILLED_BY) | (uint64_t)session->index << CELL_EMPTIED_BY);
}
