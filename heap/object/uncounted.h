/* SPDX-License-Identifier: MIT */
#pragma once

/* Uncounted holds, as the session has them: hold and drop without the lock. See uncounted.c and readers.c. */

#include "heap/change/intent.h"
#include "heap/object/hold.h"
#include "heap/object/lookup.h"
#include "heap/object/readers.h"
#include "heap/shared/critical.h"

/* What uncounted_hold() found: the header, and what it was at that moment. */
struct held_uncounted {
	struct object_header *header;
	bool is_locked; /* a change of it was under way */
	bool is_queue;
};

/* What is returned beside 0 and negative errnos: the object cannot be held so now. Nothing was changed. */
#define UNCOUNTED_NOT 4

/*
 * Enter a critical section in which the session reads memory of others, and holds at most one object. False: not now,
 * the lock has to be taken; no section was entered.
 */
static inline bool uncounted_begin(struct session *session);
static inline void uncounted_end(struct session *session);

/*
 * In the section: from now on it reads at two positions, and nowhere else. False: not there, as the arena is not in
 * use. `other` must be one of the two positions before, or one that needs no care (0).
 */
static inline bool uncounted_read_at(struct session *session, uint64_t position, uint64_t other);

/*
 * In the section: hold what a place, which the session reads at position `other`, named a moment ago. `hold` is the
 * free entry for it, which hold_reserve() has made sure of. The caller then reads the place once more, and keeps the
 * hold, or ends the section by uncounted_take_back(). UNCOUNTED_NOT: it is not alive, or biased to another session.
 */
int uncounted_hold(
	struct session *session, uint64_t ref, uint64_t other, struct hold *hold, struct held_uncounted *ret);
void uncounted_take_back(struct session *session, uint64_t ref, struct hold *hold, const struct object_header *header);

/* Drop what the session holds once, by this uncounted hold. UNCOUNTED_NOT: drop it under the lock. */
int uncounted_drop(struct session *session, uint64_t ref, struct hold *hold);

/* Within a change: finish what a dead session had begun. */
int uncounted_finish(struct session *session);

static inline void uncounted_intend(struct session_entry *entry, enum intent_kind kind, uint64_t ref, uint64_t other)
{
	/* relaxed: of another intent, that is over, it says nothing */
	__atomic_store_n(&entry->intent.queue, other, __ATOMIC_RELAXED);
	intent_begin_count(entry, kind, ref, INTENT_UNKNOWN);
}

static inline bool uncounted_begin(struct session *session)
{
	if (__builtin_expect(session->has_lock, 0))
		return false;
	readers_enlist(session);
	uncounted_intend(session->entry, INTENT_READ, 0, 0);
	if (__builtin_expect(critical_enter_reading(session), 1))
		return true;
	intent_end(session);
	return false;
}

static inline void uncounted_end(struct session *session)
{
	intent_end(session);
	critical_leave(session, 0);
}

static inline void uncounted_note_positions(struct session *session, uint64_t ref, uint64_t other)
{
	/* The other one first: who reads both, the ref first, misses no arena that is read on. */
	__atomic_store_n(&session->entry->intent.queue, other, __ATOMIC_RELAXED);
	__atomic_store_n(&session->entry->intent.ref, ref, __ATOMIC_RELEASE);
	critical_light_barrier(session);
}

static inline bool uncounted_read_at(struct session *session, uint64_t position, uint64_t other)
{
	const struct heap *heap = session->heap;
	uint64_t off = ref_position(position) << 3;

	uncounted_note_positions(session, ref_position(position), ref_position(other));
	/* relaxed: as in object_locate_block() */
	return off >> POOL_SHIFT < __atomic_load_n(&heap->n_pools_known, __ATOMIC_RELAXED) &&
	       arena_state(&heap->arenas[off >> heap->arena_shift]) == ARENA_POOLS;
}
