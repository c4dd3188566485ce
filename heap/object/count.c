/* SPDX-License-Identifier: MIT */
/*
 * Counting rights: first holds and last drops without the lock
 *
 * How many others than the owner of its pool have a right to an object is counted in its header. Who holds another's
 * object for the first time, or drops it, changes that count by one compare-and-swap of the whole header, word and
 * rights: so it takes place only while the object is alive, and of those who drop it exactly one is the last. He turns
 * it from LIVE to RETURNED in the same step, where it has no slots; all else that ends goes under the lock.
 *
 * The session's intent stands in its entry before, and goes when its hold table says the same as the count. If the
 * session dies on the way, whoever clears it up (count_finish()) has to know whether the compare-and-swap took place.
 * So each header says who it is biased to: the only session that may change its count without the lock. The first to
 * come takes the bias with his change; another one goes to the lock, and takes it away. While it has the bias no other
 * changes the count, so it has taken place if rights_counted is another than the intent says it was.
 *
 * Whoever has the lock claims a header before he stores to it (claim.c), and says whose change has taken place before
 * he wipes out the trace of it.
 *
 * "One CAS that says who did it and as which of its operations" is how CXL-SHM (SOSP 2023) and cxlalloc's detectable
 * compare-and-swap do it; the bias is that of biased locks: it makes the trace the business of one session, and who
 * dropped an object for the last time need not know who else was about to look at it.
 *
 * Looking at an object without the lock and without a hold means that its memory may be returned at this moment. The
 * intent says what is looked at, the session is inside the gate, and an arena's state is looked at afterwards; who
 * returns an arena changes its state, and then waits for those whose intent says that they look into it
 * (critical_has_lookup()). A pool may take another class at this moment, so what it is is looked at once more after the
 * header; after that some payload would have to be, in 16 bytes, the very header that was seen, to be taken for it.
 *
 * Blocks that were returned are gathered by the owner of their pool, if it is on his list. That list is changed under
 * the lock; but only the first who returns a block since the last gathering has to: then the pool is_notified, and who
 * finds that after he returned a block is done. The owner clears it before he looks at the headers.
 */

#include "heap/object/count.h"
#include "heap/change/intent.h"
#include "heap/memory/block.h"
#include "heap/object/header_lock.h"
#include "heap/shared/critical.h"

#include <errno.h>

#define COUNT_LIKELY(x)   __builtin_expect(!!(x), 1)
#define COUNT_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define COUNT_RARE        __attribute__((noinline))
#define COUNT_INLINE      static inline __attribute__((always_inline))

/* What an attempt returns: another one came first; it goes under the lock, nothing was changed. */
#define COUNT_AGAIN 3
#define COUNT_NOT   4

#define TRIES_MAX 8

/* ---- without it -------------------------------------------------------------------------------------------------- */

/* Is it the session's to count, as it was seen? */
static inline bool may_count(const struct session *session, const struct header_value *seen)
{
	uint32_t biased1 = (uint32_t)(seen->rights >> 32 & UINT16_MAX);

	return rights_are_shared(seen->rights) && !(seen->rights & RIGHTS_LOCKED) &&
	       (!biased1 || biased1 == session->owner1);
}

static inline uint64_t with_counted(const struct session *session, const struct header_value *seen, uint32_t counted)
{
	return (seen->rights & (uint64_t)RIGHTS_GIVEN_MAX << 48) | (uint64_t)session->owner1 << 32 | counted;
}

/* Inside, or on the way out: an attempt is over. */
static inline void end(struct session_entry *entry)
{
	intent_end_of(entry);
	critical_leave_fast(entry, 0);
}

/* The intent is there: go inside. 0; COUNT_AGAIN after somebody was waited for, or COUNT_NOT: there is none any more.
 */
static inline int enter(struct session *session)
{
	if (COUNT_LIKELY(critical_enter(session))) {
		if (COUNT_LIKELY(!critical_queues_are_paused(session)))
			return 0;
		end(session->entry);
		return COUNT_NOT;
	}
	intent_end(session);
	return session_serve_requests(session) < 0 ? COUNT_NOT : COUNT_AGAIN;
}

/* ---- looking ------------------------------------------------------------------------------------------------------
 */

/* The intent is to hold nothing that there is: it says where the session looks, and no more. The daemon alone returns
 * arenas, and needs none. */
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

/* ---- hold -------------------------------------------------------------------------------------------------------- */

/* A header, and what its pool was when it was found. */
struct located {
	struct object_header *header;
	uint32_t identity;
};

/*
 * What is no block, as they are most often: a run, whose header is in the entry of its first pool. NULL: it is neither,
 * or of an arena that this process has not seen yet; who asks with the lock held is told.
 */
static COUNT_RARE struct located find_run(const struct heap *heap, uint64_t ref)
{
	uint64_t off = ref_position(ref) << 3, p = off >> POOL_SHIFT;
	struct located ret = {NULL, 0};
	uint32_t state;

	/* relaxed, both: as in object_locate_block() */
	if (off & (POOL_SIZE - 1) || p >= __atomic_load_n(&heap->n_pools_known, __ATOMIC_RELAXED))
		return ret;
	state = arena_state(&heap->arenas[off >> heap->arena_shift]);
	ret.identity = __atomic_load_n(&heap->pools[p].identity, __ATOMIC_RELAXED);
	if ((state == ARENA_POOLS || state == ARENA_RUN) && (ret.identity & 0xff) == POOL_RUN)
		ret.header = &heap->pools[p].header;
	return ret;
}

static inline struct located find_to_hold(const struct heap *heap, uint64_t ref)
{
	struct object object;

	if (COUNT_LIKELY(object_locate_block(heap, ref_position(ref), &object)))
		return (struct located){object.header, object.identity};
	return find_run(heap, ref);
}

/* relaxed: after the header, whose look acquires */
static inline bool is_still(const struct session *session, uint64_t ref, uint32_t identity)
{
	return __atomic_load_n(&session->pools[ref_position(ref) >> (POOL_SHIFT - 3)].identity, __ATOMIC_RELAXED) ==
	       identity;
}

/* Inside: is it alive, and the session's to count, as it was seen? */
static inline bool can_be_held(const struct session *session, uint64_t ref, const struct header_value *seen)
{
	uint64_t n = rights_count(seen->rights);

	return header_is(seen->word, ref_generation(ref), STATE_LIVE) && header_type(seen->word) - TYPE_HOLDS > 1 &&
	       may_count(session, seen) && (header_own(seen->word) || n) && n != RIGHTS_MAX;
}

static inline int hold_in_section(
	struct session *session, struct session_entry *entry, uint64_t ref, struct hold *place)
{
	struct located found = find_to_hold(session->heap, ref);
	struct header_value seen;

	if (COUNT_UNLIKELY(!found.header))
		return COUNT_NOT;
	seen = header_read(found.header);
	if (COUNT_UNLIKELY(!is_still(session, ref, found.identity) || !can_be_held(session, ref, &seen)))
		return COUNT_NOT;
	intent_note_count(entry, (uint32_t)seen.rights);
	if (COUNT_UNLIKELY(!header_change(
		    found.header, &seen, seen.word, with_counted(session, &seen, rights_more((uint32_t)seen.rights)))))
		return COUNT_AGAIN;
	hold_put_fast(entry, place, ref);
	session_cache_held(session, ref, header_type(seen.word) != TYPE_QUEUE, found.header);
	return 0;
}

/* What the session does not hold yet, at its place in its hold table, which has room. */
COUNT_INLINE int count_hold(struct session *session, uint64_t ref, struct hold *place)
{
	if (COUNT_UNLIKELY(session->has_lock || !place || place->ref != HOLD_EMPTY || !ref_generation(ref)))
		return COUNT_NOT;
	for (int n = 0; n < TRIES_MAX; n++) {
		struct session_entry *entry = session->entry;
		int r;

		intent_begin_count(entry, INTENT_HOLD, ref, INTENT_UNKNOWN);
		r = enter(session);
		if (COUNT_LIKELY(!r)) {
			r = hold_in_section(session, entry, ref, place);
			end(entry);
		}
		if (COUNT_LIKELY(r != COUNT_AGAIN))
			return r;
	}
	return COUNT_NOT;
}

/* ---- drop -------------------------------------------------------------------------------------------------------- */

/* What is dropped, as it was seen. */
struct dropped {
	struct object_header *header;
	struct pool_entry *pool;
	struct header_value seen;
	bool is_last; /* nobody else has a right to it */
};

/* Can the last one to drop it turn it to RETURNED? Bytes in a block of a pool with an owner. */
static inline bool can_be_freed(const struct dropped *what)
{
	/* relaxed: if it has no owner by then, that is found out when it is told */
	return header_type(what->seen.word) == TYPE_BYTES && what->header != &what->pool->header &&
	       __atomic_load_n(&what->pool->identity, __ATOMIC_RELAXED) >> 16;
}

/* What the session holds is there, and stays there until it is dropped. False: it goes under the lock. */
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
	       rights_count(ret->seen.rights) && (!ret->is_last || can_be_freed(ret));
}

/* Inside. */
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
 * After a block was returned: does its pool's owner know? Not if it was the last of a full pool, either, which is taken
 * from its owner. Its entry can always be read; if it is another pool by now, or a run, what is read says nothing, and
 * others have seen to the block.
 */
static inline bool is_notified(const struct dropped *what)
{
	/* acquire: after the compare-and-swap, a full barrier; with pool_clear_notified() */
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
	change_commit(session->heap); /* it is on the list for good before anybody relies on it */
	__atomic_store_n(&pool->is_notified, 1, __ATOMIC_RELEASE);
	return 0;
}

/* The intent stays until it is told. Where the lock cannot be had the heap is damaged, and a repair finds the block. */
static COUNT_RARE int tell(struct session *session, uint64_t ref)
{
	critical_leave(session, 0);
	if (change_begin(session) < 0 || change_end(session, notify_in_change(session, ref)) < 0)
		intent_end(session);
	return 0;
}

/* What the session holds once. */
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
				return tell(session, ref);
			end(entry);
		}
		if (COUNT_LIKELY(r != COUNT_AGAIN))
			return r;
	}
	return COUNT_NOT;
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

/*
 * How often a session holds what it holds is its own affair: one relaxed store to its own table, which is the whole
 * change. Nobody's count depends on it, and who reads it (object_refcount()) wants no more than a moment's figure.
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
		r = object_hold(session, ref, &object);
	return change_end(session, r);
}

int object_incref_other(struct session *session, uint64_t ref)
{
	struct hold *place = hold_probe(session, ref); /* nobody else moves it */
	int r;

	if (hold_again(place))
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
		place = hold_probe(session, ref); /* in another table, perhaps */
	}
	r = count_hold(session, ref, place);
	return COUNT_LIKELY(r != COUNT_NOT) ? r : hold_locked(session, ref);
}

int object_incref(struct session *session, uint64_t ref)
{
	int r = own_hold(session, ref);

	return r != OWN_NOT ? r : object_incref_other(session, ref);
}

/* `hold` is its entry in the session's table, which goes first: what is held by the word alone needs no lock. */
static COUNT_RARE int drop_locked(struct session *session, uint64_t ref, struct hold *hold)
{
	int r;

	r = change_begin(session);
	return r < 0 ? r : deferred_free(session, change_end(session, object_drop_held(session, ref, hold)));
}

int object_decref_other(struct session *session, uint64_t ref)
{
	struct hold *hold = hold_find(session, ref); /* nobody else moves it */
	int r;

	/* What it holds by its table, too, others have a right to: nothing that own_drop_any() could free. */
	if (COUNT_UNLIKELY(!hold)) {
		r = own_drop_any(session, ref);
		return r != OWN_NOT ? r : drop_locked(session, ref, NULL);
	}
	if (hold_once_less(hold))
		return 0;
	r = count_drop(session, ref, hold);
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

/* What sessions hold more than once is in their tables only. */
static int64_t count_rights(struct heap *heap, const struct object *object, uint64_t ref)
{
	uint64_t n = rights_count(header_rights(object->header)) +
		     header_own(__atomic_load_n(&object->header->word, __ATOMIC_RELAXED));

	for (uint32_t i = 0; i < heap->n_sessions; i++) {
		const struct session_entry *entry = &heap->sessions[i];
		/* relaxed: the daemon may be giving the entry, in which this is 0, to a new session */
		uint64_t n_holds = __atomic_load_n(&entry->n_holds, __ATOMIC_RELAXED);
		const struct hold *hold = n_holds ? hold_lookup(heap, entry, ref) : NULL;

		if (hold)
			n += __atomic_load_n(&hold->count, __ATOMIC_RELAXED) - 1;
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

/* ---- what the dead had begun ------------------------------------------------------------------------------------- */

/* Has the session's intent taken place? */
static bool has_happened(const struct session *session, const struct object *object)
{
	const struct session_entry *entry = session->entry;

	return entry->done_counting == intent_number(entry->intent.word) ||
	       (entry->intent.position != INTENT_UNKNOWN && object->header->biased1 == session->owner1 &&
		       (uint32_t)entry->intent.position != (object->header->rights_counted & ~RIGHTS_LOCKED));
}

int count_finish(struct session *session)
{
	struct heap *heap = session->heap;
	struct session_entry *entry = session->entry;
	uint64_t ref = entry->intent.ref, before = entry->intent_before;
	bool is_hold = intent_kind(entry->intent.word) == INTENT_HOLD, happened;
	struct hold *hold = hold_lookup(heap, entry, ref);
	struct pool_entry *pool;
	struct object object;
	int r = 0;

	/* A right that was not dropped would keep it alive. */
	if (object_match(heap, ref, &object) < 0)
		happened = !is_hold;
	else
		happened = has_happened(session, &object);
	if (entry->intent.position != INTENT_UNKNOWN)
		heap_set(heap, &entry->n_holds, before + (is_hold && hold) - (!is_hold && !hold));
	if (is_hold && happened && !hold)
		r = object_drop(session, &object);
	if (!is_hold && happened && hold)
		hold_remove(session, hold);
	if (r < 0)
		return r;
	intent_turn(session, INTENT_NONE);
	if (is_hold || !happened)
		return 0;
	return block_notify_remote_free(session, ref, &pool);
}
