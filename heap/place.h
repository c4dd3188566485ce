/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The places of a queue: found, filled and emptied, each by one compare-and-swap. See queue.c, and struct place.
 */

#include "heap/claim.h"

#include <errno.h>

#ifndef __GCC_HAVE_SYNC_COMPARE_AND_SWAP_16
#error "A place of a queue needs a compare-and-swap of 16 bytes (x86-64: -mcx16)"
#endif

#define PLACE_LIKELY(x)   __builtin_expect(!!(x), 1)
#define PLACE_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* A queue and how many places it has for certain, whatever a stray write may have made of its own number. */
struct found {
	struct queue *queue;
	uint64_t n;
};

/* A place as it was when it was looked at, by who wants to fill or empty it. */
struct seen {
	struct place *place;
	uint64_t ref, stamp;
	uint64_t position; /* that he looked for there */
};

static inline uint32_t stamp_filled_by(uint64_t stamp)
{
	return (uint32_t)(stamp >> PLACE_FILLED_BY & PLACE_SESSION);
}

static inline uint32_t stamp_emptied_by(uint64_t stamp)
{
	return (uint32_t)(stamp >> PLACE_EMPTIED_BY & PLACE_SESSION);
}

/* How many positions the place is ahead of what was looked for in it: 0, or laps of the ring. */
static inline int64_t look(const struct found *found, uint64_t position, struct seen *ret)
{
	uint64_t i = position % found->n, before;

	ret->place = &found->queue->places[i];
	ret->position = position;
	/* acquire: what was done before the place was changed. Looked at twice, so that ref and stamp are of one
	 * moment. */
	before = __atomic_load_n(&ret->place->stamp, __ATOMIC_ACQUIRE);
	do {
		ret->stamp = before;
		ret->ref = __atomic_load_n(&ret->place->ref, __ATOMIC_ACQUIRE);
		before = __atomic_load_n(&ret->place->stamp, __ATOMIC_ACQUIRE);
	} while (PLACE_UNLIKELY(before != ret->stamp));
	return (int64_t)((ret->stamp + i - position) << (64 - PLACE_LAP_BITS)) >> (64 - PLACE_LAP_BITS);
}

/* The place is so far ahead: the position that was looked for is over, and so are all up to the one returned. */
static inline uint64_t next_position(const struct found *found, uint64_t position, int64_t ahead)
{
	return ahead ? position + (uint64_t)ahead - found->n + 1 : position + 1;
}

/* Who looks for a place passes each once, and what others do meanwhile; more is a circle that a stray write made. */
static inline bool is_circle(const struct found *found, uint64_t n_looks)
{
	return n_looks > 4 * found->n + 1024;
}

/* The place to push to. -EAGAIN all are filled; -EUCLEAN they contradict each other. */
static inline int find_free(const struct found *found, struct seen *ret)
{
	uint64_t position = __atomic_load_n(&found->queue->tail, __ATOMIC_RELAXED); /* relaxed: a hint */

	for (uint64_t n_looks = 0; !is_circle(found, n_looks); n_looks++) {
		int64_t ahead = look(found, position, ret);

		if (PLACE_LIKELY(!ahead && !ret->ref))
			return 0;
		if (ahead < 0)
			return ahead == -(int64_t)found->n && ret->ref ? -EAGAIN : -EUCLEAN;
		if (ahead % (int64_t)found->n)
			return -EUCLEAN;
		position = next_position(found, position, ahead);
	}
	return -EUCLEAN;
}

/* The place to pop from. -EAGAIN all are empty. */
static inline int find_filled(const struct found *found, struct seen *ret)
{
	uint64_t position = __atomic_load_n(&found->queue->head, __ATOMIC_RELAXED); /* relaxed: a hint */

	for (uint64_t n_looks = 0; !is_circle(found, n_looks); n_looks++) {
		int64_t ahead = look(found, position, ret);

		if (PLACE_LIKELY(!ahead))
			return ret->ref ? 0 : -EAGAIN;
		if (ahead < 0 || ahead % (int64_t)found->n)
			return -EUCLEAN;
		position = next_position(found, position, ahead);
	}
	return -EUCLEAN;
}

/* Change a place as a whole, if it is still as it was seen. A full barrier. */
static inline bool place_change(const struct seen *seen, uint64_t ref, uint64_t stamp)
{
	two_words old = (two_words)seen->stamp << 64 | seen->ref, new = (two_words)stamp << 64 | ref;

	return words_change((two_words *)(void *)seen->place, old, new);
}

static inline bool fill(const struct session *session, const struct seen *seen, uint64_t ref)
{
	return place_change(seen, ref,
		(seen->stamp & ~(PLACE_SESSION << PLACE_FILLED_BY)) | (uint64_t)session->index << PLACE_FILLED_BY);
}

static inline bool empty(const struct session *session, const struct found *found, const struct seen *seen)
{
	uint64_t lap = (seen->stamp + found->n) & PLACE_LAP_MASK;

	return place_change(seen, 0,
		lap | (seen->stamp & PLACE_SESSION << PLACE_FILLED_BY) | (uint64_t)session->index << PLACE_EMPTIED_BY);
}
