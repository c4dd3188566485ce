/* SPDX-License-Identifier: MIT */
#pragma once

/* The hold table of a session: the one truth about who holds an object. See hold.c. */

#include "heap/shared/log.h"
#include "heap/shared/session.h"

#include <errno.h>

/* Before a change: make room for one more hold. HEAP_WANTS_ARENAS, -ENOMEM. */
static inline int hold_reserve(struct session *session);

/* Would hold_reserve() find nothing to do? False also where that is not certain. */
static inline bool hold_has_room(const struct session *session);

/* The entry of ref, or NULL. The session's own thread needs no lock. */
static inline struct hold *hold_find(const struct session *session, uint64_t ref);

/*
 * The entry of ref or, where there is none, the free entry that ref would take, for hold_put(). It stays so until a
 * hold comes or goes. NULL: the table is damaged.
 */
static inline struct hold *hold_probe(const struct session *session, uint64_t ref);

/* Did hold_probe() find what it was asked for? */
static inline bool hold_is_there(const struct hold *hold);

/* With the lock held: the entry of ref in any session's table, or NULL. */
struct hold *hold_lookup(const struct heap *heap, const struct session_entry *entry, uint64_t ref);

/*
 * Within a change: hold ref once more, in the entry that hold_probe() found, after hold_reserve(). *ret_first: it is
 * the first hold, so the object's count must rise. -EOVERFLOW. -EUCLEAN: `hold` is NULL.
 */
static inline int hold_put(struct session *session, struct hold *hold, uint64_t ref, bool *ret_first);

/* hold_put(), after hold_probe(). */
int hold_add(struct session *session, uint64_t ref, bool *ret_first);

/* Within a change: hold it once less. True: that was the last hold. */
static inline bool hold_remove(struct session *session, struct hold *hold);

/* The entries of any session's table, and their number; NULL: the table is damaged. */
struct hold *hold_table(const struct heap *heap, const struct session_entry *entry, uint32_t *ret_n);

/* After a change that removed holds: make a table that is mostly empty smaller, if that can be done now. */
static inline void hold_shrink(struct session *session);

/*
 * One change, of a session that holds nothing any more: free the tables that lie in runs. -EBUSY: `try` is set and the
 * lock is taken.
 */
int hold_table_free(struct session *session, bool try);

/* Inline: most tables are the inline one, and most holds are where their search begins */

#define HOLD_LIKELY(x) __builtin_expect(!!(x), 1)

int hold_reserve_more(struct session *session);
struct hold *hold_probe_run(const struct session *session, uint64_t ref);
void hold_take_out(struct session *session, struct hold *hold);
void hold_shrink_run(struct session *session);

/* Fibonacci hashing: the top bits of the product depend on all bits of the ref. n is a power of two, more than 1. */
static inline uint32_t hold_slot(uint64_t ref, uint32_t n)
{
	uint32_t shift = 33U + (uint32_t)__builtin_clz(n); /* 64 - log2(n) */

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

static inline bool hold_is_there(const struct hold *hold)
{
	return hold && hold->ref != HOLD_EMPTY;
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
	struct hold *hold = hold_probe(session, ref);

	return hold_is_there(hold) ? hold : NULL;
}

static inline int hold_put(struct session *session, struct hold *hold, uint64_t ref, bool *ret_first)
{
	struct heap *heap = session->heap;
	struct session_entry *entry = session->entry;

	*ret_first = false;
	if (!hold)
		return -EUCLEAN;
	if (hold->ref != HOLD_EMPTY) {
		if (hold->count == UINT32_MAX)
			return -EOVERFLOW;
		heap_set(heap, &hold->count, hold->count + 1);
		return 0;
	}
	*ret_first = true;
	if (hold->how != HOLD_ONCE) /* most often the entry's last hold left that there */
		heap_set(heap, &hold->how, HOLD_ONCE);
	heap_set(heap, &hold->ref, ref);
	heap_set(heap, &entry->n_holds, entry->n_holds + 1);
	return 0;
}

bool hold_stands_last_in_run(const struct session *session, const struct hold *hold);

/* Can it be taken out without moving up what is behind it? False also where that is not certain. */
static inline bool hold_stands_last(const struct session *session, const struct hold *hold)
{
	const struct session_entry *entry = session->entry;

	if (!HOLD_LIKELY(!read_once(entry->holds_position1)))
		return hold_stands_last_in_run(session, hold);
	return read_once(entry->holds_inline[(hold - entry->holds_inline + 1) & (HOLDS_INLINE - 1)].ref) == HOLD_EMPTY;
}

/*
 * Without the lock: take out a hold that is held once and is last, and put one in. An intent (queue.c, count.c)
 * says who has the right meanwhile. relaxed, and release: others read the table with the lock held
 */
static inline void hold_take_fast(const struct session *session, struct session_entry *entry, struct hold *hold)
{
	cache_forget(session->cache, hold->ref);
	__atomic_store_n(&hold->ref, HOLD_EMPTY, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->n_holds, entry->n_holds - 1, __ATOMIC_RELAXED);
}

static inline void hold_put_fast(struct session_entry *entry, struct hold *hold, uint64_t ref)
{
	if (hold->how != HOLD_ONCE)
		__atomic_store_n(&hold->how, HOLD_ONCE, __ATOMIC_RELAXED);
	__atomic_store_n(&hold->ref, ref, __ATOMIC_RELEASE);
	__atomic_store_n(&entry->n_holds, entry->n_holds + 1, __ATOMIC_RELAXED);
}

/*
 * The same of a hold that the header does not count. A full barrier comes after the ref's store: before the place, or
 * the header, is read again. See readers.c.
 */
static inline void hold_put_uncounted(struct session_entry *entry, struct hold *hold, uint64_t ref)
{
	if (hold->how != HOLD_ONCE_UNCOUNTED)
		__atomic_store_n(&hold->how, HOLD_ONCE_UNCOUNTED, __ATOMIC_RELAXED);
	__atomic_store_n(&hold->ref, ref, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&entry->n_holds, entry->n_holds + 1, __ATOMIC_RELAXED);
}

static inline void hold_take_uncounted(const struct session *session, struct session_entry *entry, struct hold *hold)
{
	cache_forget(session->cache, hold->ref);
	__atomic_store_n(&hold->ref, HOLD_EMPTY, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&entry->n_holds, entry->n_holds - 1, __ATOMIC_RELAXED);
}

static inline bool hold_remove(struct session *session, struct hold *hold)
{
	struct heap *heap = session->heap;
	struct session_entry *entry = session->entry;

	uint32_t count = read_once(hold->count);

	if (count > 1) {
		heap_set(heap, &hold->count, count - 1);
		return false;
	}
	cache_forget(session->cache, read_once(hold->ref));
	if (HOLD_LIKELY(hold_stands_last(session, hold)))
		heap_set(heap, &hold->ref, HOLD_EMPTY);
	else
		hold_take_out(session, hold);
	heap_add(heap, &entry->n_holds, -1);
	return true;
}

static inline void hold_shrink(struct session *session)
{
	if (!HOLD_LIKELY(!session->entry->holds_position1))
		hold_shrink_run(session);
}
