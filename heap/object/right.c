/* SPDX-License-Identifier: MIT */
#include "heap/object/right.h"
#include "heap/object/header_lock.h"
#include "heap/object/hold.h"
#include "heap/shared/critical.h"

#include <errno.h>

#define RIGHT_RARE __attribute__((noinline))

/*
 * A right to what its owner may have told nobody of: it frees such an object without the lock, so it has to be made
 * sure that it sees this right, or that this change sees that it let go. See own.c.
 */
static RIGHT_RARE int retain_unshared(struct session *session, struct object what)
{
	struct heap *heap = session->heap;
	uint32_t owner1 = what.pool->owner1;
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
	/* relaxed: after the word; what the owner gave away before it let go. The right that was just taken is one. */
	return header_own(word) || rights_count(__atomic_load_n(&what.header->rights, __ATOMIC_RELAXED)) > 1 ? 0
													     : -ESTALE;
}

/* Claimed: the log need not be told. */
static inline void counted_store(const struct object *what, uint32_t counted)
{
	__atomic_store_n(&what->header->rights_counted, counted, __ATOMIC_RELAXED);
}

/* Claimed, and the session's own: what it gave away without the lock is counted with the rest before it is too much. */
static RIGHT_RARE void count_given(struct session *session, struct object_header *header)
{
	uint32_t counted = header->rights_counted + header->rights_given * RIGHTS_ONE;

	heap_set(session->heap, &header->rights, counted | RIGHTS_SHARED);
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
	if (rights >> 48 > RIGHTS_GIVEN_MAX / 2 && what->pool->owner1 == session->owner1)
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
	heap_set(heap, &what->header->rights, rights_of_dying(session->entry->dying1));
	heap_set(heap, &session->entry->dying1, what->position + 1);
}

int right_end(struct session *session, const struct object *what)
{
	struct type_info type;

	/* Most are bytes, which have no slots. */
	if (what->type == TYPE_BYTES || type_find(session->heap, what->type, &type) < 0 || !object_n_slots(what, &type))
		return memory_give(session, what->position);
	dying_push(session, what);
	return 0;
}

/* By value, as a caller that keeps *what in registers can go on doing so. */
static RIGHT_RARE int end_copy(struct session *session, struct object what)
{
	return right_end(session, &what);
}

/*
 * After a count has fallen. The owner may be letting go at this moment: then it sees that the other count is 0; or
 * giving it away: then its hold or the right that it has given is seen here, as the word is looked at first.
 */
OBJECT_INLINE int end_if_last(struct session *session, const struct object *what)
{
	/* acquire: with the release in own_let_go(), see block_remote_free(), and in queue.c */
	uint64_t word = __atomic_load_n(&what->header->word, __ATOMIC_ACQUIRE);

	if (header_own(word) || rights_count(header_rights(what->header)))
		return 0;
	return end_copy(session, *what);
}

OBJECT_INLINE int drop_right(struct session *session, const struct object *what)
{
	int r = header_lock(session, what->header, object_ref(what));

	if (r < 0)
		return r == -ESTALE ? -EUCLEAN : r; /* there was a right to it */
	if (!rights_count(header_rights(what->header)))
		return -EUCLEAN;
	counted_store(what, rights_less((uint32_t)header_rights(what->header)));
	return end_if_last(session, what);
}

int right_drop(struct session *session, const struct object *what)
{
	return drop_right(session, what);
}

/* Of the session's own object that it holds by the header's word. */
static void own_hold_less(struct session *session, uint64_t ref, struct object_header *header)
{
	struct heap *heap = session->heap;
	uint64_t word = header_word(header);

	heap_set(heap, &header->word, word - 1);
	if (header_own(word) != 1)
		return;
	heap_add(heap, &session->entry->n_own_holds, -1);
	cache_forget(session, ref);
}

int right_hold(struct session *session, uint64_t ref, const struct object *what)
{
	bool first;
	int r;

	if (object_is_held_by_word(session, what) && header_own(header_word(what->header)) < OWN_HOLDS_MAX) {
		r = header_lock(session, what->header, ref); /* the word is logged, and others change it, too */
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

	if (hold && hold_remove(session, hold)) /* the right that it had by its table is the one that is passed on */
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
