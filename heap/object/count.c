// SPDX-License-Identifier: MIT
/*
 * Counting rights without the lock: first holds and last drops
 *
 * The header of an object counts the rights of everybody except the owner of its pool (right.c). The first hold and the
 * last drop of a session change that count by one compare-and-swap of the whole header, word and rights. So the change
 * takes place only while the object is alive, and of several sessions that drop the object exactly one is the last.
 * That one turns an object without slots from LIVE to REMOTE_FREE in the same step. All other ends of an object are
 * changes under the lock.
 *
 * The session's intent is in its entry before the compare-and-swap, and ends when its hold table agrees with the
 * count. If the session dies in between, recovery (count_recover.c) must know whether the compare-and-swap took place.
 * For that each header is biased to one session, the only one that may change its count without the lock. The first to
 * count takes the bias with its change; any other session goes to the lock, which takes the bias away. While a session
 * has the bias nobody else changes the count, so its change has taken place if rights_counted differs from what the
 * intent says it was.
 *
 * The owner of the lock locks a header before it stores to it (header_lock.c), and notes whose change has taken place
 * before it wipes out the evidence.
 *
 * One compare-and-swap that says who did it, and as which of its operations, is how CXL-SHM (SOSP 2023) and the
 * detectable compare-and-swap of cxlalloc do it. The bias is that of biased locks: the evidence then concerns one
 * session only, and the process that drops an object last need not know who else was about to read it.
 *
 * A lookup without the lock and without a hold reads memory that may be unmapped at that moment. So the intent says
 * first which arena is read and the session is active; then the state of the arena is read. A process that unmaps an
 * arena changes its state first, then waits for all sessions whose intent says that they read in it
 * (critical_has_lookup()). The pool may take another class at this moment. So its identity is read again after the
 * header; then only a payload whose 16 bytes are the very header that was seen could be taken for it.
 *
 * The owner of a pool collects the remotely freed blocks of the pools on its list remote_pools (own_trim.c). That list
 * changes under the lock, but only the first that frees a block of a pool after a collection must put the pool on it.
 * It sets is_notified, and who finds that set after it has freed a block is done. The owner clears is_notified before
 * it reads the headers.
 *
 * Model: tests/model/count.pml.
 */

#include "heap/object/count.h"
#include "heap/change/intent.h"
#include "heap/memory/block.h"
#include "heap/object/dying.h"
#include "heap/object/header_lock.h"
#include "heap/object/lookup.h"
#include "heap/object/own.h"
#include "heap/object/right.h"
#include "heap/object/uncounted.h"
#include "heap/shared/critical.h"

#include <errno.h>

#define COUNT_LIKELY(x)   __builtin_expect(!!(x), 1)
#define COUNT_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define COUNT_RARE        __attribute__((noinline))
#define COUNT_INLINE      static inline __attribute__((always_inline))

/*
 * What an attempt returns beside 0 and negative errnos. Nothing was changed: try again, because somebody else came
 * first; or do it under the lock.
 */
#define COUNT_AGAIN 3
#define COUNT_NOT   4

static_assert(COUNT_NOT == UNCOUNTED_NOT, "one question after either");

#define TRIES_MAX 8

/* Attempts */

/* May the session count the object without the lock, as the header was seen? */
static inline bool may_count(const struct session *session, const struct header_value *seen)
{
	uint32_t biased1 = rights_biased1(seen->rights);

	return rights_are_shared(seen->rights) && !(seen->rights & RIGHTS_LOCKED) &&
	       (!biased1 || biased1 == session->owner1);
}

static inline uint64_t with_counted(const struct session *session, const struct header_value *seen, uint32_t counted)
{
	return (seen->rights & (uint64_t)RIGHTS_GIVEN_MAX << 48) | (uint64_t)session->owner1 << 32 | counted;
}

/* An attempt is over. */
static inline void end_attempt(struct session_entry *entry)
{
	intent_end_of(entry);
	critical_leave_fast(entry, 0);
}

/*
 * After the intent: enter the critical section. COUNT_AGAIN: not entered, after serving requests. COUNT_NOT: not
 * entered.
 */
static inline int enter(struct session *session)
{
	if (COUNT_LIKELY(critical_enter(session))) {
		if (COUNT_LIKELY(!critical_queues_are_paused(session)))
			return 0;
		end_attempt(session->entry);
		return COUNT_NOT;
	}
	intent_end(session);
	return session_serve_requests(session) < 0 ? COUNT_NOT : COUNT_AGAIN;
}

/* Lookups */

/*
 * The intent is to hold generation 0, which never exists: it only says where the session reads. The daemon needs none,
 * because it alone unmaps arenas.
 */
bool count_begin_lookup(struct session *session, uint32_t arena, uint32_t *before)
{
	if (!session->entry)
		return true;
	intent_begin_count(session->entry, INTENT_HOLD,
		ref_make((uint64_t)arena << (session->heap->arena_shift - 3), 0), INTENT_UNKNOWN);
	*before = critical_enter_lookup(session);
	return arena_state(&session->heap->arenas[arena]) == ARENA_POOLS;
}

void count_end_lookup(struct session *session, uint32_t before)
{
	if (!session->entry)
		return;
	intent_end(session);
	critical_leave_lookup(session, before);
}

/* Hold */

/* Within the critical section: is the object alive, and may the session count it, as the header was seen? */
static inline bool can_be_held(const struct session *session, uint64_t ref, const struct header_value *seen)
{
	uint64_t n = rights_count(seen->rights);

	return header_is(seen->word, ref_generation(ref), STATE_LIVE) && header_type(seen->word) - TYPE_HOLDS > 1 &&
	       may_count(session, seen) && (header_own(seen->word) || n) && n != RIGHTS_MAX;
}

static inline int hold_in_section(struct session *session, struct session_entry *entry, uint64_t ref, struct hold *hold)
{
	struct lookup found = lookup_find(session->heap, ref);
	struct header_value seen;

	if (COUNT_UNLIKELY(!found.header))
		return COUNT_NOT;
	seen = header_read(found.header);
	if (COUNT_UNLIKELY(!lookup_is_still(session, ref, &found) || !can_be_held(session, ref, &seen)))
		return COUNT_NOT;
	intent_note_count(entry, (uint32_t)seen.rights);
	if (COUNT_UNLIKELY(!header_change(
		    found.header, &seen, seen.word, with_counted(session, &seen, rights_more((uint32_t)seen.rights)))))
		return COUNT_AGAIN;
	hold_put_fast(entry, hold, ref);
	session_cache_held(session, ref, header_type(seen.word) != TYPE_QUEUE, found.header);
	return 0;
}

/* An object that the session does not hold yet. `hold` is the free entry that it gets in the hold table. */
COUNT_INLINE int count_hold(struct session *session, uint64_t ref, struct hold *hold)
{
	if (COUNT_UNLIKELY(session->has_lock || !hold || hold->ref != HOLD_EMPTY || !ref_generation(ref)))
		return COUNT_NOT;
	for (int n = 0; n < TRIES_MAX; n++) {
		struct session_entry *entry = session->entry;
		int r;

		intent_begin_count(entry, INTENT_HOLD, ref, INTENT_UNKNOWN);
		r = enter(session);
		if (COUNT_LIKELY(!r)) {
			r = hold_in_section(session, entry, ref, hold);
			end_attempt(entry);
		}
		if (COUNT_LIKELY(r != COUNT_AGAIN))
			return r;
	}
	return COUNT_NOT;
}

/* Drop */

/* An object that is to be dropped, as it was seen. */
struct dropped {
	struct object_header *header;
	struct pool_entry *pool; /* of its position; where it is the last drop, the first of a span */
	struct header_value seen;
	bool is_last; /* nobody else has a right to it */
};

/*
 * Can the last drop turn it REMOTE_FREE? Only bytes in a block of a pool that has an owner. The pool becomes the first
 * of a span.
 */
static inline bool can_be_freed(const struct session *session, struct dropped *what)
{
	/* relaxed: if the owner has gone by then, notify() finds that out */
	uint32_t identity = __atomic_load_n(&what->pool->identity, __ATOMIC_RELAXED);

	if (COUNT_UNLIKELY((identity & 0xff) == POOL_BODY))
		what->pool = pool_of_body(session->heap, what->pool);
	return header_type(what->seen.word) == TYPE_BYTES && what->header != &what->pool->header && identity >> 16;
}

/* The session holds it, so it stays where it is until it is dropped. False: drop it under the lock. */
static inline bool find_to_drop(const struct session *session, uint64_t ref, struct dropped *ret)
{
	const struct cached_object *cached = cache_object(session->cache, ref);
	struct object object;

	if (COUNT_LIKELY(cached->ref == ref && !cached->header && cached->held_header)) {
		ret->header = cached->held_header;
		ret->pool = &session->pools[ref_position(ref) >> (POOL_SHIFT - 3)];
	} else if (object_find_fast(session->heap, ref, &object) == 0) {
		ret->header = object.header;
		ret->pool = object.pool;
	} else {
		return false;
	}
	ret->seen = header_read(ret->header);
	ret->is_last = !header_own(ret->seen.word) && rights_count(ret->seen.rights) == 1;
	return header_is(ret->seen.word, ref_generation(ref), STATE_LIVE) && may_count(session, &ret->seen) &&
	       rights_count(ret->seen.rights) && (!ret->is_last || can_be_freed(session, ret));
}

/* Within the critical section. */
static inline int drop_in_section(
	struct session *session, struct session_entry *entry, struct hold *hold, const struct dropped *what)
{
	uint64_t word = what->seen.word, *n = &entry->n_blocks_returned;
	uint64_t rights = with_counted(session, &what->seen, rights_less((uint32_t)what->seen.rights));

	if (what->is_last) {
		word = header_with_state(word, STATE_REMOTE_FREE);
		rights = RIGHTS_SHARED;
	}
	if (COUNT_UNLIKELY(!header_change(what->header, &what->seen, word, rights)))
		return COUNT_AGAIN;
	hold_take_fast(session, entry, hold);
	if (what->is_last)
		__atomic_store_n(n, *n + 1, __ATOMIC_RELAXED); /* for reports */
	return 0;
}

/*
 * After a block was freed: does the owner of its pool know of it? No, if it is not notified; and no, if all blocks of
 * the pool are remotely freed, for then the pool is taken from its owner. The entry can always be read; if it is
 * another pool by now, or a run, its content does not matter, for others have seen to the block.
 */
static inline bool is_notified(const struct dropped *what)
{
	/* acquire: after the compare-and-swap, which is a full barrier; with pool_clear_notified() */
	return __atomic_load_n(&what->pool->is_notified, __ATOMIC_ACQUIRE) &&
	       !pool_is_all_remote(what->pool, what->header);
}

static int notify_in_change(struct session *session, uint64_t ref)
{
	struct pool_entry *pool;
	int r = block_notify_remote_free(session, ref, &pool);

	if (r < 0)
		return r;
	intent_turn(session, INTENT_NONE);
	if (!pool)
		return 0;
	change_commit(session->heap); /* the pool is on the list for good before anybody relies on it */
	__atomic_store_n(&pool->is_notified, 1, __ATOMIC_RELEASE);
	return 0;
}

/*
 * The intent stays until the owner is notified. If the lock cannot be had the heap is damaged, and a repair finds the
 * block.
 */
static COUNT_RARE int notify(struct session *session, uint64_t ref)
{
	critical_leave(session, 0);
	if (change_begin(session) < 0 || change_end(session, notify_in_change(session, ref)) < 0)
		intent_end(session);
	return 0;
}

/* An object that the session holds once. */
COUNT_INLINE int count_drop(struct session *session, uint64_t ref, struct hold *hold)
{
	if (COUNT_UNLIKELY(session->has_lock || !hold_stands_last(session, hold)))
		return COUNT_NOT;
	for (int n = 0; n < TRIES_MAX; n++) {
		struct session_entry *entry = session->entry;
		struct dropped what;
		int r;

		if (COUNT_UNLIKELY(!find_to_drop(session, ref, &what)))
			return COUNT_NOT;
		intent_begin_count(entry, INTENT_DROP, ref, (uint32_t)what.seen.rights);
		r = enter(session);
		if (COUNT_LIKELY(!r)) {
			r = drop_in_section(session, entry, hold, &what);
			if (COUNT_UNLIKELY(!r && what.is_last && !is_notified(&what)))
				return notify(session, ref);
			end_attempt(entry);
		}
		if (COUNT_LIKELY(r != COUNT_AGAIN))
			return r;
	}
	return COUNT_NOT;
}

/* Calls */

/*
 * How often a session holds what it holds is one relaxed store to its own table, and that is the whole change. No count
 * depends on it, and object_refcount() only wants the figure of a moment.
 */
static inline bool hold_again(struct hold *hold)
{
	if (!hold_is_there(hold) || hold->count == UINT32_MAX)
		return false;
	__atomic_store_n(&hold->count, hold->count + 1, __ATOMIC_RELAXED);
	return true;
}

static inline bool hold_once_less(struct hold *hold)
{
	if (hold->count < 2)
		return false;
	__atomic_store_n(&hold->count, hold->count - 1, __ATOMIC_RELAXED);
	return true;
}

static COUNT_RARE int hold_locked(struct session *session, uint64_t ref)
{
	struct object object;
	int r;

	r = change_begin(session);
	if (r < 0)
		return r;
	r = object_find_fast(session->heap, ref, &object);
	if (!r)
		r = right_hold(session, ref, &object);
	return change_end(session, r);
}

int object_incref_other(struct session *session, uint64_t ref)
{
	struct hold *hold = hold_probe(session, ref); /* nobody else moves it */
	int r;

	if (hold_again(hold))
		return 0;
	if (own_is_mine(session, ref)) {
		r = own_hold_any(session, ref);
		if (r != OWN_NOT)
			return r;
	}
	if (COUNT_UNLIKELY(!hold_has_room(session))) {
		r = hold_reserve(session);
		if (r)
			return r;
		hold = hold_probe(session, ref); /* perhaps in another table */
	}
	r = count_hold(session, ref, hold);
	return COUNT_LIKELY(r != COUNT_NOT) ? r : hold_locked(session, ref);
}

int object_incref(struct session *session, uint64_t ref)
{
	int r = own_hold(session, ref);

	return r != OWN_NOT ? r : object_incref_other(session, ref);
}

/* `hold`: its entry in the session's table, which goes first. A hold by the word alone needs no entry. */
static COUNT_RARE int drop_locked(struct session *session, uint64_t ref, struct hold *hold)
{
	int r;

	r = change_begin(session);
	return r < 0 ? r : dying_free(session, change_end(session, right_drop_held(session, ref, hold)));
}

int object_decref_other(struct session *session, uint64_t ref)
{
	struct hold *hold = hold_find(session, ref); /* nobody else moves it */
	int r;

	/* Of an object in its table others have a right: own_drop_any() could not free it. */
	if (COUNT_UNLIKELY(!hold)) {
		r = own_drop_any(session, ref);
		return r != OWN_NOT ? r : drop_locked(session, ref, NULL);
	}
	if (hold_once_less(hold))
		return 0;
	r = hold->is_uncounted ? uncounted_drop(session, ref, hold) : count_drop(session, ref, hold);
	if (COUNT_UNLIKELY(r == COUNT_NOT))
		r = drop_locked(session, ref, hold);
	hold_shrink(session);
	return r;
}

int object_decref(struct session *session, uint64_t ref)
{
	int r;

	return own_drop(session, ref, &r) ? r : object_decref_other(session, ref);
}

/* Only the hold tables say what sessions hold more than once. */
static int64_t count_rights(struct heap *heap, const struct object *object, uint64_t ref)
{
	uint64_t rights = header_rights(object->header);
	uint64_t n = rights_biased1(rights) == BIAS_UNCOUNTED ? 0 : rights_count(rights);

	n += header_own(__atomic_load_n(&object->header->word, __ATOMIC_RELAXED));
	for (uint32_t i = 0; i < heap->n_sessions; i++) {
		const struct session_entry *entry = &heap->sessions[i];
		/* relaxed: 0 in an entry that the daemon may be giving to a new session */
		uint64_t n_holds = __atomic_load_n(&entry->n_holds, __ATOMIC_RELAXED);
		const struct hold *hold = n_holds ? hold_lookup(heap, entry, ref) : NULL;

		if (hold) /* relaxed: as n_holds; of an uncounted one, all */
			n += __atomic_load_n(&hold->count, __ATOMIC_RELAXED) -
			     !__atomic_load_n(&hold->is_uncounted, __ATOMIC_RELAXED);
	}
	return (int64_t)n;
}

int64_t object_refcount(struct session *session, uint64_t ref)
{
	struct object object;
	int64_t n = 0;
	int r;

	r = change_begin(session);
	if (r < 0)
		return r;
	r = object_find(session->heap, ref, &object);
	if (!r)
		n = count_rights(session->heap, &object, ref);
	r = change_end(session, r);
	return r < 0 ? r : n;
}
