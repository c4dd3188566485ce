// SPDX-License-Identifier: MIT
/*
 * Reading places without the lock: slots of lists and structs, names
 *
 * To read a place is to read its word, hold what it names (uncounted.c), and read the word again. It then named the
 * object while the hold could be seen, so the object was alive by the place's right, and the hold keeps it. Nobody
 * waits for anybody: not for the owner of the lock, whether it works, sleeps, is stopped or dead.
 *
 * What is read may be a store of a change that is under way, and that may still be rolled back, if its process dies.
 * The change that gives an object to a place locks the object's header first, and unlocks it when the change is over,
 * one way or the other. So where the header, read after the place, is not locked, and no change was rolled back
 * meanwhile (log_n_roll_backs()), the place really had the object. Where it is locked, and where the place has nothing,
 * the log is asked what the place had before (log_committed()); that object is alive, and as it was, until the change
 * has taken place (displaced.c).
 *
 * If the session dies: uncounted.c.
 */

#include "heap/object/read.h"
#include "heap/object/own.h"

#include <errno.h>

#define READ_LIKELY(x)   __builtin_expect(!!(x), 1)
#define READ_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define TRIES_MAX        16

/* Does the record have the place still? */
static inline bool is_there(const struct place *place)
{
	/* acquire: before what the caller reads next; and the fence: after what it has read */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return !place->record || __atomic_load_n(&place->record->word, __ATOMIC_ACQUIRE) == place->record_word;
}

static inline uint64_t read_word(const struct heap *heap, const struct place *place, bool by_log)
{
	/* acquire: what was stored into the object before the place had it */
	return READ_LIKELY(!by_log) ? __atomic_load_n(place->where, __ATOMIC_ACQUIRE)
				    : log_committed(heap, place->where);
}

/* What the session holds already it holds once more, and nothing has to be read again. READ_NOT: not so. */
static inline int hold_again(struct session *session, uint64_t ref, struct hold *hold, bool *ret_is_locked)
{
	struct object object;
	struct own_object own;

	if (hold_is_there(hold)) {
		if (hold->count == UINT32_MAX || object_find_fast(session->heap, ref, &object) < 0)
			return READ_NOT;
		*ret_is_locked = header_rights(object.header) & RIGHTS_LOCKED;
		/* relaxed: as in count.c */
		__atomic_store_n(&hold->count, hold->count + 1, __ATOMIC_RELAXED);
		return 0;
	}
	if (!own_is_mine(session, ref) || !own_find(session, ref, &own) || !header_own(own.word) ||
		header_own(own.word) == OWN_HOLDS_MAX)
		return READ_NOT;
	*ret_is_locked = header_rights(own.header) & RIGHTS_LOCKED;
	/* relaxed: as in own_hold() */
	__atomic_store_n(&own.header->word, own.word + 1, __ATOMIC_RELAXED);
	return 0;
}

/* hold_again() was in vain, as the place has something else. */
static void hold_less(struct session *session, uint64_t ref, struct hold *hold)
{
	struct own_object own;

	/* relaxed, both: as in hold_again() */
	if (hold_is_there(hold))
		__atomic_store_n(&hold->count, hold->count - 1, __ATOMIC_RELAXED);
	else if (own_find(session, ref, &own))
		__atomic_store_n(&own.header->word, own.word - 1, __ATOMIC_RELAXED);
}

/* Ends the section. */
static inline int ended(struct session *session, int r)
{
	uncounted_end(session);
	return r;
}

/* One attempt, which ends the section. */
static inline int attempt(struct session *session, const struct place *place, bool by_log, uint64_t *ret)
{
	struct heap *heap = session->heap;
	uint64_t roll_backs = log_n_roll_backs(heap), ref = read_word(heap, place, by_log);
	struct held_uncounted held = {.header = NULL};
	struct hold *hold;
	int r;

	if (!is_there(place) || (!ref && !by_log))
		return ended(session, READ_CHANGED);
	if (!ref) {
		*ret = 0;
		return ended(session, 0);
	}
	hold = hold_probe(session, ref);
	r = hold_again(session, ref, hold, &held.is_locked);
	if (r == READ_NOT && !hold_is_there(hold))
		r = uncounted_hold(session, ref, place->record_position, hold, &held);
	if (r == READ_NOT) {
		bool is_same = read_word(heap, place, by_log) == ref && is_there(place);

		return ended(session, is_same ? READ_NOT : READ_CHANGED);
	}
	if (!READ_LIKELY(read_word(heap, place, by_log || held.is_locked) == ref && is_there(place) &&
			 log_n_roll_backs(heap) == roll_backs) ||
		(place->record && held.is_locked && !by_log)) {
		if (held.header) {
			uncounted_take_back(session, ref, hold, held.header);
			return READ_CHANGED;
		}
		hold_less(session, ref, hold);
		return ended(session, READ_CHANGED);
	}
	if (held.header)
		session_cache_held(session, ref, !held.is_queue, held.header);
	*ret = ref;
	return ended(session, 0);
}

int read_place(struct session *session, const struct place *place, bool by_log, uint64_t *ret)
{
	int r = attempt(session, place, by_log, ret);

	/* A record may have to be found anew; a place that is held is only read again. */
	for (int n = 0; READ_UNLIKELY(r == READ_CHANGED && !place->record && n < TRIES_MAX); n++) {
		if (!uncounted_begin(session))
			return READ_NOT;
		r = attempt(session, place, n > 0 || by_log, ret);
	}
	return r == READ_CHANGED && !place->record ? READ_NOT : r;
}
