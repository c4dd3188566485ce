// SPDX-License-Identifier: MIT
/*
 * Rights to objects, counted in their headers under the lock
 *
 * Two counts say who has a right to an object. The header's word counts how often the session that owns its pool holds
 * it: that is the owner's own affair (own.c). The header's rights count everybody else: a session that holds it by its
 * hold table once, however often it holds it; each slot, cell of a queue and name once. The object is alive while
 * either is not 0.
 *
 * The rights are the sum of two parts, so that nobody overwrites what another counts. rights_counted is changed here,
 * with the header locked (header_lock.c), or without the lock by the session that the header is biased to (count.c).
 * rights_given is changed by the owner alone, which adds what it gives away to queues (queue.c).
 *
 * The count of an object and whatever holds it (table entry, slot, name) change in one change. An object without
 * rights and without slots is freed in the change that drops the last right. One with slots goes on the deferred free
 * list of the session that dropped it (dying.c): it turns DYING, and its rights become the link of the list.
 *
 * A process that reads both counts reads the word first, then the rights: the owner stores what it gives away before it
 * stores that it holds the object no more (release), so one of the two is seen. Model: tests/model/own.pml.
 */

#include "heap/object/right.h"
#include "heap/memory/memory.h"
#include "heap/object/header_lock.h"
#include "heap/object/hold.h"
#include "heap/object/readers.h"
#include "heap/shared/critical.h"

#include <errno.h>

#define RIGHT_RARE __attribute__((noinline))

/*
 * The owner frees an object that nobody else knows without the lock. So either the owner must see this right, or this
 * change must see that the owner let go. See own.c.
 */
static RIGHT_RARE int retain_unshared(struct session *session, struct object what)
{
	struct heap *heap = session->heap;
	uint32_t owner1 = read_once(what.pool->owner1);
	uint64_t word;
	int r;

	if (!owner1 || owner1 == session->owner1 || owner1 > heap->n_sessions)
		return 0;
	critical_request(heap, owner1 - 1, REQUEST_STRANGER);
	r = critical_barrier(heap);
	if (r < 0)
		return r;
	word = __atomic_load_n(&what.header->word, __ATOMIC_ACQUIRE);
	if (header_generation(word) != header_generation(what.word) || header_state(word) != STATE_LIVE)
		return -ESTALE;
	/*
	 * relaxed: after the word. The right that was just taken is one; more than one means that the owner gave some
	 * away before it let go.
	 */
	return header_own(word) || rights_count(__atomic_load_n(&what.header->rights, __ATOMIC_RELAXED)) > 1 ? 0
													     : -ESTALE;
}

/* The header is locked: this store needs no entry of the log. */
static inline void counted_store(const struct object *what, uint32_t counted)
{
	__atomic_store_n(&what->header->rights_counted, counted, __ATOMIC_RELAXED);
}

/*
 * The header is locked and the session's own. The rights that it gave away without the lock are added to those counted,
 * before rights_given overflows.
 */
static RIGHT_RARE void count_given(struct session *session, struct object_header *header)
{
	uint32_t counted = read_once(header->rights_counted) + read_once(header->rights_given) * RIGHTS_ONE;

	readers_invite(header); /* or the whole word could not be stored: a reader may do so now */
	heap_set(session->heap, &header->rights, rights_with_bias(counted | RIGHTS_SHARED, BIAS_READERS));
}

OBJECT_INLINE int retain(struct session *session, const struct object *what)
{
	uint64_t rights;
	int r;

	r = header_lock(session, what->header, object_ref(what));
	if (r < 0)
		return r;
	rights = header_rights(what->header);
	if (rights_count(rights) == RIGHTS_MAX)
		return -EOVERFLOW;
	if (rights_biased1(rights) == BIAS_UNCOUNTED) { /* the one right becomes the new one */
		heap_set(session->heap, &what->header->rights, rights_with_bias(rights, BIAS_READERS));
		return 0;
	}
	if (rights >> 48 > RIGHTS_GIVEN_MAX / 2 && read_once(what->pool->owner1) == session->owner1)
		count_given(session, what->header);
	counted_store(what, rights_more((uint32_t)header_rights(what->header)));
	return rights_are_shared(rights) ? 0 : retain_unshared(session, *what);
}

int right_retain(struct session *session, const struct object *what)
{
	return retain(session, what);
}

static void dying_push(struct session *session, const struct object *what)
{
	struct heap *heap = session->heap;

	heap_set(heap, &what->header->word, header_with_state(header_word(what->header), STATE_DYING));
	heap_set(heap, &what->header->rights, rights_of_dying(read_once(session->entry->dying1)));
	heap_set(heap, &session->entry->dying1, what->position + 1);
}

int right_end(struct session *session, const struct object *what)
{
	struct type_info type;

	/* Most objects are bytes, which have no slots. */
	if (what->type == TYPE_BYTES || type_find(session->heap, what->type, &type) < 0 || !object_n_slots(what, &type))
		return memory_give(session, what->position);
	dying_push(session, what);
	return 0;
}

/* Nobody is counted any more. By value, so that callers can keep *what in registers. */
static RIGHT_RARE int end_copy(struct session *session, struct object what)
{
	return readers_keep(session, what.header, object_ref(&what)) ? 0 : right_end(session, &what);
}

/*
 * After a count has fallen. The owner of the pool may act at this moment. If it lets go of the object, it finds the
 * other count 0 afterwards. If it gives a right away, its hold or that right is seen here, because the word is read
 * before the rights.
 */
OBJECT_INLINE int end_if_last(struct session *session, const struct object *what)
{
	/* acquire: with the release in own_let_go() and in queue.c, take_from(); see also block_remote_free() */
	uint64_t word = __atomic_load_n(&what->header->word, __ATOMIC_ACQUIRE);

	if (header_own(word) || rights_count(header_rights(what->header)))
		return 0;
	return end_copy(session, *what);
}

OBJECT_INLINE int drop_right(struct session *session, const struct object *what)
{
	int r = header_lock(session, what->header, object_ref(what));

	if (r < 0)
		return r == -ESTALE ? -EUCLEAN : r; /* there was a right to it: damaged */
	if (!rights_count(header_rights(what->header)))
		return -EUCLEAN;
	counted_store(what, rights_less((uint32_t)header_rights(what->header)));
	return end_if_last(session, what);
}

int right_drop(struct session *session, const struct object *what)
{
	return drop_right(session, what);
}

int right_uncounted_gone(struct session *session, const struct object *what)
{
	uint64_t ref = object_ref(what);
	int r;

	if (rights_biased1(header_rights(what->header)) != BIAS_UNCOUNTED || readers_count(session->heap, ref))
		return 0;
	r = header_lock(session, what->header, ref);
	return r < 0 ? r : right_end(session, what);
}

/* Of an object in a pool of its own that the session holds by the header's word. */
static void own_hold_less(struct session *session, uint64_t ref, struct object_header *header)
{
	struct heap *heap = session->heap;
	uint64_t word = header_word(header);

	heap_set(heap, &header->word, word - 1);
	if (header_own(word) != 1)
		return;
	heap_add(heap, &session->entry->n_own_holds, -1);
	cache_forget(session->cache, ref);
}

int right_hold(struct session *session, uint64_t ref, const struct object *what)
{
	bool first;
	int r;

	if (object_is_held_by_word(session, what) && header_own(header_word(what->header)) < OWN_HOLDS_MAX) {
		r = header_lock(session, what->header, ref); /* the word is logged, and others change it too */
		if (!r)
			heap_set(session->heap, &what->header->word, header_word(what->header) + 1);
		return r;
	}
	r = hold_put(session, hold_probe(session, ref), ref, &first);
	return !r && first ? retain(session, what) : r;
}

int right_pass_on(struct session *session, uint64_t ref, const struct object *what, struct hold *hold)
{
	int r;

	if (hold && hold->is_uncounted) {
		r = retain(session, what);
		if (!r)
			hold_remove(session, hold);
		return r;
	}
	if (hold && hold_remove(session, hold)) /* the table's right itself is passed on */
		return 0;
	r = retain(session, what);
	if (!r && !hold)
		own_hold_less(session, ref, what->header);
	return r;
}

int right_drop_held(struct session *session, uint64_t ref, struct hold *hold)
{
	struct object object;
	int r;

	r = object_find_fast(session->heap, ref, &object);
	if (r < 0)
		return r;
	if (hold && hold->is_uncounted)
		return hold_remove(session, hold) ? right_uncounted_gone(session, &object) : 0;
	if (hold)
		return hold_remove(session, hold) ? drop_right(session, &object) : 0;
	if (!object_is_held_by_word(session, &object))
		return -EPERM;
	r = header_lock(session, object.header, ref);
	if (r < 0)
		return r;
	own_hold_less(session, ref, object.header);
	return end_if_last(session, &object);
}
