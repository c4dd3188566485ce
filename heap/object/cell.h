/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The cells of a queue: found, filled and emptied, each by one compare-and-swap. See queue.c, and struct cell.
 */

#include "heap/object/header_lock.h"

#include <errno.h>

#ifndef __GCC_HAVE_SYNC_COMPARE_AND_SWAP_16
#error "A cell of a queue needs a compare-and-swap of 16 bytes (x86-64: -mcx16)"
#endif

#define CELL_LIKELY(x)   __builtin_expect(!!(x), 1)
#define CELL_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* A queue and how many cells it has for certain, whatever a stray write may have made of its own number. */
struct queue_view {
	struct queue *queue;
	uint64_t n;
};

/* A cell as it was when it was looked at, by who wants to fill or empty it. */
struct cell_value {
	struct cell *cell;
	uint64_t ref, stamp;
	uint64_t position; /* that he looked for there */
};

static inline uint32_t stamp_filled_by(uint64_t stamp)
{
	return (uint32_t)(stamp >> CELL_FILLED_BY & CELL_SESSION);
}

static inline uint32_t stamp_emptied_by(uint64_t stamp)
{
	return (uint32_t)(stamp >> CELL_EMPTIED_BY & CELL_SESSION);
}

/* How many positions the cell is ahead of what was looked for in it: 0, or laps of the ring. */
static inline int64_t look(const struct queue_view *found, uint64_t position, struct cell_value *ret)
{
	uint64_t i = position % found->n, before;

	ret->cell = &found->queue->cells[i];
	ret->position = position;
	/* acquire: what was done before the cell was changed. Looked at twice, so that ref and stamp are of one
	 * moment. */
	before = __atomic_load_n(&ret->cell->stamp, __ATOMIC_ACQUIRE);
	do {
		ret->stamp = before;
		ret->ref = __atomic_load_n(&ret->cell->ref, __ATOMIC_ACQUIRE);
		before = __atomic_load_n(&ret->cell->stamp, __ATOMIC_ACQUIRE);
	} while (CELL_UNLIKELY(before != ret->stamp));
	return (int64_t)((ret->stamp + i - position) << (64 - CELL_LAP_BITS)) >> (64 - CELL_LAP_BITS);
}

/* The cell is so far ahead: the position that was looked for is over, and so are all up to the one returned. */
static inline uint64_t cell_next_position(const struct queue_view *found, uint64_t position, int64_t ahead)
{
	return ahead ? position + (uint64_t)ahead - found->n + 1 : position + 1;
}

/* Who looks for a cell passes each once, and what others do meanwhile; more is a circle that a stray write made. */
static inline bool cell_is_circle(const struct queue_view *found, uint64_t n_examined)
{
	return n_examined > 4 * found->n + 1024;
}

/* The cell to push to. -EAGAIN all are filled; -EUCLEAN they contradict each other. */
static inline int cell_find_free(const struct queue_view *found, struct cell_value *ret)
{
	uint64_t position = __atomic_load_n(&found->queue->tail, __ATOMIC_RELAXED); /* relaxed: a hint */

	for (uint64_t n_examined = 0; !cell_is_circle(found, n_examined); n_examined++) {
		int64_t ahead = look(found, position, ret);

		if (CELL_LIKELY(!ahead && !ret->ref))
			return 0;
		if (ahead < 0)
			return ahead == -(int64_t)found->n && ret->ref ? -EAGAIN : -EUCLEAN;
		if (ahead % (int64_t)found->n)
			return -EUCLEAN;
		position = cell_next_position(found, position, ahead);
	}
	return -EUCLEAN;
}

/* The cell to pop from. -EAGAIN all are empty. */
static inline int cell_find_filled(const struct queue_view *found, struct cell_value *ret)
{
	uint64_t position = __atomic_load_n(&found->queue->head, __ATOMIC_RELAXED); /* relaxed: a hint */

	for (uint64_t n_examined = 0; !cell_is_circle(found, n_examined); n_examined++) {
		int64_t ahead = look(found, position, ret);

		if (CELL_LIKELY(!ahead))
			return ret->ref ? 0 : -EAGAIN;
		if (ahead < 0 || ahead % (int64_t)found->n)
			return -EUCLEAN;
		position = cell_next_position(found, position, ahead);
	}
	return -EUCLEAN;
}

/* Change a cell as a whole, if it is still as it was seen. A full barrier. */
static inline bool cell_change(const struct cell_value *seen, uint64_t ref, uint64_t stamp)
{
	two_words old = (two_words)seen->stamp << 64 | seen->ref, new = (two_words)stamp << 64 | ref;

	return two_words_change((two_words *)(void *)seen->cell, old, new);
}

static inline bool fill(const struct session *session, const struct cell_value *seen, uint64_t ref)
{
	return cell_change(seen, ref,
		(seen->stamp & ~(CELL_SESSION << CELL_FILLED_BY)) | (uint64_t)session->index << CELL_FILLED_BY);
}

static inline bool empty(const struct session *session, const struct queue_view *found, const struct cell_value *seen)
{
	uint64_t lap = (seen->stamp + found->n) & CELL_LAP_MASK;

	return cell_change(seen, 0,
		lap | (seen->stamp & CELL_SESSION << CELL_FILLED_BY) | (uint64_t)session->index << CELL_EMPTIED_BY);
}
