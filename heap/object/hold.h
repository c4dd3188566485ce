/* SPDX-License-Identifier: MIT */
#pragma once

/* The hold table of a session: who holds an object is said here and nowhere else. See hold.c. */

#include "heap/memory/pool.h"
#include "heap/shared/cache.h"

#include <errno.h>

/* Before a change: see to it that one more hold fits. HEAP_WANTS_ARENAS, -ENOMEM. */
static inline int hold_reserve(struct session *session);

/* Is it certain that hold_reserve() will find nothing to do? */
static inline bool hold_has_room(const struct session *session);

/* The entry of ref, or NULL. No lock is needed by the session's own thread. */
static inline struct hold *hold_find(const struct session *session, uint64_t ref);

/*
 * Where ref stands in the session's table or, without a ref, where it would: for hold_put(), and good for as long as no
 * other hold comes or goes. NULL: there is no place, the table is damaged.
 */
static inline struct hold *hold_probe(const struct session *session, uint64_t ref);

/* Is it an entry, of whatever hold_probe() was asked for? */
static inline bool hold_is_there(const struct hold *place);

/* The entry of ref in any session's table; with the lock held. */
struct hold *hold_lookup(const struct heap *heap, const struct session_entry *entry, uint64_t ref);

/*
 * Within a change: hold ref once more, at its place, where hold_reserve() has made room; *ret_first says whether it is
 * the first time (the object's count must follow). -EOVERFLOW; -EUCLEAN there is no place.
 */
static inline int hold_put(struct session *session, struct hold *place, uint64_t ref, bool *ret_first);

/* The same, where its place is not known yet. */
int hold_add(struct session *session, uint64_t ref, bool *ret_first);

/* Within a change: once less; true when it was the last time. */
static inline bool hold_remove(struct session *session, struct hold *hold);

/* The table of any session, for walks: entries and their number; NULL where it is damaged. */
struct hold *hold_table(const struct heap *heap, const struct session_entry *entry, uint32_t *ret_n);

/* After a change that removed holds: make a table that is mostly empty smaller, where that is easily done. */
static inline void hold_shrink(struct session *session);

/* One change: give the tables back that lie in runs, of a session that holds nothing any more. -EBUSY where `try`. */
int hold_table_free(struct session *session, bool try);

/* ---- inline: most tables are the inline one, and most holds stand where their search begins ---------------------- */

#define HOLD_LIKELY(x) __builtin_expect(!!(x), 1)

int hold_reserve_more(struct session *session);
struct hold *hold_probe_run(const struct session *session, uint64_t ref);
void hold_take_out(struct session *session, struct hold *hold);
void hold_shrink_run(struct session *session);

/* Fibonacci hashing: the top bits of the product depend on all of the ref. n is a power of two, more than 1. */
static inline uint32_t hold_slot(uint64_t ref, uint32_t n)
{
	uint32_t shift = 33U + (uint32_t)__builtin_clz(n); /* 64 less log2(n) */

	return (uint32_t)((ref * UINT64_C(0x9e3779b97f4a7c15)) >> shift);
}

static inline bool hold_has_room(const struct session *session)
{
	const struct session_entry *entry = session->entry;

	return !entry->holds_position1 && (entry->n_holds + 1) * 4 <= HOLDS_INLINE * UINT64_C(3);
}

static inline int hold_reserve(struct session *session)
{
	return HOLD_LIKELY(hold_has_room(session)) ? 0 : hold_reserve_more(session);
}

static inline bool hold_is_there(const struct hold *place)
{
	return place && place->ref != HOLD_EMPTY;
}

static inline struct hold *hold_probe(const struct session *session, uint64_t ref)
{
	struct hold *first = &session->entry->holds_inline[hold_slot(ref, HOLDS_INLINE)];

	if (HOLD_LIKELY(!session->entry->holds_position1 && (first->ref == ref || first->ref == HOLD_EMPTY)))
		return first;
	return hold_probe_run(session, ref);
}

static inline struct hold *hold_find(const struct session *session, uint64_t ref)
{
	struct hold *place = hold_probe(session, ref);

	return hold_is_there(place) ? place : NULL;
}

static inline int hold_put(struct session *session, struct hold *place, uint64_t ref, bool *ret_first)
{
	struct heap *heap = session->heap;
	struct session_entry *entry = session->entry;

	*ret_first = false;
	if (!place)
		return -EUCLEAN;
	if (place->ref != HOLD_EMPTY) {
		if (place->count == UINT32_MAX)
			return -EOVERFLOW;
		heap_set(heap, &place->count, place->count + 1);
		return 0;
	}
	*ret_first = true;
	if (place->count != 1) /* most often the last hold there had it as well */
		heap_set(heap, &place->count, 1);
	heap_set(heap, &place->ref, ref);
	heap_set(heap, &entry->n_holds, entry->n_holds + 1);
	return 0;
}

bool hold_stands_last_in_run(const struct session *session, const struct hold *hold);

/* Is it certain that nothing behind it would have to move up? */
static inline bool hold_stands_last(const struct session *session, const struct hold *hold)
{
	const struct session_entry *entry = session->entry;

	if (!HOLD_LIKELY(!entry->holds_position1))
		return hold_stands_last_in_run(session, hold);
	return entry->holds_inline[(hold - entry->holds_inline + 1) & (HOLDS_INLINE - 1)].ref == HOLD_EMPTY;
}

/*
 * Without the lock, by an intent (queue.c, count.c) that says whose the right is meanwhile: take a hold out that is
 * held once and stands last, and put one in where it would stand. relaxed, and release: others read the table with the
 * lock held
 */
static inline void hold_take_fast(const struct session *session, struct session_entry *entry, struct hold *hold)
{
	cache_forget(session->cache, hold->ref);
	__atomic_store_n(&hold->ref, HOLD_EMPTY, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->n_holds, entry->n_holds - 1, __ATOMIC_RELAXED);
}

static inline void hold_put_fast(struct session_entry *entry, struct hold *place, uint64_t ref)
{
	if (place->count != 1)
		__atomic_store_n(&place->count, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&place->ref, ref, __ATOMIC_RELEASE);
	__atomic_store_n(&entry->n_holds, entry->n_holds + 1, __ATOMIC_RELAXED);
}

static inline bool hold_remove(struct session *session, struct hold *hold)
{
	struct heap *heap = session->heap;
	struct session_entry *entry = session->entry;

	if (hold->count > 1) {
		heap_set(heap, &hold->count, hold->count - 1);
		return false;
	}
	cache_forget(session->cache, hold->ref);
	if (HOLD_LIKELY(hold_stands_last(session, hold)))
		heap_set(heap, &hold->ref, HOLD_EMPTY);
	else
		hold_take_out(session, hold);
	heap_set(heap, &entry->n_holds, entry->n_holds - 1);
	return true;
}

static inline void hold_shrink(struct session *session)
{
	if (!HOLD_LIKELY(!session->entry->holds_position1))
		hold_shrink_run(session);
}
