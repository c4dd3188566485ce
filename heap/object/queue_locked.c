// SPDX-License-Identifier: MIT
/*
 * Pushing and popping under the lock
 *
 * For what cannot be done without the lock: a hold table that has to be put in order, an object that the sender holds
 * several times or that the receiver holds already, and while a session has the lock between its calls, so that nobody
 * else may change a queue.
 *
 * These are changes under the lock, but others go on changing cells without it. So they use the same intent and the
 * same compare-and-swap of a cell as queue.c, in several changes: first the sender's right becomes the intent's, then
 * the cell is filled; or the cell is emptied, and then the intent's right becomes the receiver's. If the session dies
 * in between, queue_recover.c finds the right by the intent.
 */

#include "heap/object/queue_locked.h"
#include "heap/change/intent.h"
#include "heap/object/header_lock.h"
#include "heap/object/hold.h"
#include "heap/object/queue_wait.h"
#include "heap/object/right.h"
#include "heap/shared/critical.h"

#define TRIES_MAX 100U /* attempts, against others that need no lock */

/* Within a change: the sender's right becomes the intent's. */
static int take_from_locked(struct session *session, uint64_t ref, const struct object *object, struct hold *hold)
{
	struct heap *heap = session->heap;
	struct intent *intent = &session->entry->intent;
	int r;

	r = right_pass_on(session, ref, object, hold);
	if (r < 0)
		return r;
	heap_set(heap, &intent->ref, ref);
	intent_turn(session, INTENT_RIGHT);
	change_commit(heap);
	return 0;
}

/*
 * Within a change, after no cell could be filled: the intent's right becomes the session's again, in the way it was
 * held.
 */
static void give_back_locked(struct session *session, uint64_t ref, const struct object *object, bool by_word)
{
	struct heap *heap = session->heap;
	bool first = false;

	if (by_word && header_lock(session, object->header, ref) == 0) { /* the word has room: one was taken from it */
		if (!header_own(header_word(object->header)))
			heap_add(heap, &session->entry->n_own_holds, 1);
		heap_set(heap, &object->header->word, header_word(object->header) + 1);
	} else {
		(void)hold_add(session, ref, &first); /* the table has room: it was held a moment ago */
	}
	if (!first)
		(void)right_drop(session, object);
	intent_turn(session, INTENT_NONE);
	change_commit(heap);
}

static int fill_locked(struct session *session, uint64_t queue_ref, const struct cell_ring *ring, uint64_t ref)
{
	struct cell_value seen;
	int r;

	for (uint32_t n_tries = 0;; n_tries++) {
		r = cell_find_free(ring, &seen);
		if (r < 0)
			break;
		intent_note_done(
			session->heap, stamp_filled_by(seen.stamp), intent_is_push, queue_ref, seen.position - ring->n);
		change_commit(session->heap);
		intent_begin(session, INTENT_RIGHT, INTENT_PUSH_RIGHT, queue_ref, seen.position, ref);
		if (cell_fill(session, &seen, ref))
			break;
		if (n_tries == TRIES_MAX && !session->has_lock)
			critical_pause_queues(session); /* now others, who need no lock, wait */
	}
	if (!r) {
		queue_pushed(ring, &seen);
		intent_end(session);
	}
	if (!session->has_lock && session->control->queues_paused_by1)
		critical_resume_queues(session->heap);
	return r;
}

static int push_in_change(struct session *session, uint64_t queue_ref, const struct cell_ring *ring, uint64_t ref)
{
	struct hold *hold = hold_find(session, ref);
	struct object object;
	struct cell_value seen;
	int r;

	r = object_find(session->heap, ref, &object);
	if (r < 0)
		return r;
	if (!hold && !object_is_held_by_word(session, &object))
		return -EPERM;
	r = cell_find_free(ring, &seen);
	if (!r)
		r = take_from_locked(session, ref, &object, hold);
	if (r < 0)
		return r;
	r = fill_locked(session, queue_ref, ring, ref);
	if (r < 0)
		give_back_locked(session, ref, &object, !hold);
	return r;
}

int queue_push_locked(struct session *session, uint64_t queue_ref, const struct cell_ring *ring, uint64_t ref)
{
	int r;

	r = change_begin(session);
	if (r < 0)
		return r;
	r = change_end(session, push_in_change(session, queue_ref, ring, ref));
	hold_shrink(session);
	return r;
}

/* Within a change. */
static int pop_in_change(struct session *session, uint64_t queue_ref, const struct cell_ring *ring, uint64_t *ret)
{
	struct heap *heap = session->heap;
	struct object object;
	struct hold *hold;
	struct cell_value seen;
	bool first = true, is_alive;
	int r;

	r = cell_find_filled(ring, &seen);
	if (r < 0)
		return r;
	hold = hold_probe(session, seen.ref);
	if (!hold)
		return -EUCLEAN;
	if (hold->ref != HOLD_EMPTY && hold->count == UINT32_MAX)
		return -EOVERFLOW;
	intent_note_done(heap, stamp_emptied_by(seen.stamp), intent_is_pop, queue_ref, seen.position - ring->n);
	change_commit(heap);
	intent_begin(session, INTENT_NONE, hold_is_there(hold) ? INTENT_POP_RIGHT : INTENT_POP, queue_ref,
		seen.position, seen.ref);
	intent_note(session, session->entry->n_holds);
	is_alive = object_find(heap, seen.ref, &object) == 0;
	if (!cell_empty(session, ring, &seen)) {
		intent_end(session);
		return QUEUE_AGAIN;
	}
	intent_record_done(session);
	queue_popped(ring, &seen);
	r = is_alive ? hold_put(session, hold, seen.ref, &first) : 0;
	if (!r && !first) /* the session has a right of its own, so the queue's ends */
		r = right_drop(session, &object);
	intent_turn(session, INTENT_NONE);
	if (r < 0 || !is_alive)
		return r < 0 ? r : QUEUE_SPOILT;
	queue_note_received(session, seen.ref, &object);
	*ret = seen.ref;
	return 0;
}

int queue_pop_locked(struct session *session, uint64_t queue_ref, const struct cell_ring *ring, uint64_t *ret)
{
	int r;

	r = change_begin(session);
	return r < 0 ? r : change_end(session, pop_in_change(session, queue_ref, ring, ret));
}
