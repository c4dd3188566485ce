// SPDX-License-Identifier: MIT
/*
 * Queues: finishing what a dead session had begun
 *
 * The intent of the dead session says what it was about to do, and `done`, or else the cell's stamp, whether the
 * compare-and-swap has taken place (queue.c). From that follows who has the right now:
 *
 *   intent      has taken place                 has not
 *   RIGHT       the intent: drop it             the intent: drop it
 *   PUSH        the queue                       the table or, if it was taken out of it, the intent: drop it
 *   PUSH_RIGHT  the queue                       the intent: drop it
 *   PUSH_OWN    the queue                       the word or the table; a right that was given away is taken back
 *   POP         the table or else the intent    the queue
 *   POP_RIGHT   the intent: drop it             the queue
 *
 * Once it has taken place that is noted (`done`), and the waiters are woken, since the dead session may not have come
 * to that. Where the dead session waited itself, it may have been woken for an object that it has not taken: another
 * session that waits there is woken. n_holds is made what it must be. Model: tests/model/queue.pml.
 */

#include "heap/object/queue_recover.h"
#include "heap/change/intent.h"
#include "heap/object/header_lock.h"
#include "heap/object/hold.h"
#include "heap/object/queue.h"
#include "heap/object/queue_wait.h"
#include "heap/object/readers.h"
#include "heap/object/right.h"

/* Has the compare-and-swap of the dead session's intent, which is of that word, taken place? */
static bool has_happened(const struct session *session, const struct cell_ring *ring, uint64_t word)
{
	int64_t ahead, lap = (int64_t)ring->n;
	struct cell_value seen;

	if (read_once(session->entry->done) == intent_number(word))
		return true;
	ahead = cell_read(ring, read_once(session->entry->intent.position), &seen);
	if (intent_is_pop(intent_kind(word)))
		return stamp_emptied_by(seen.stamp) == session->index && ahead == lap;
	return stamp_filled_by(seen.stamp) == session->index && (seen.ref ? ahead == 0 : ahead == lap);
}

static int drop_right_of(struct session *session, uint64_t ref)
{
	struct object object;

	return object_find(session->heap, ref, &object) < 0 ? 0 : right_drop(session, &object);
}

/* A right was to be given away, and was not. */
static void take_gift_back(struct session *session)
{
	uint64_t ref = read_once(session->entry->intent.ref), before = read_once(session->entry->intent_before), rights;
	struct object object;

	if (before == INTENT_UNKNOWN)
		return;
	if (object_match(session->heap, ref, &object) == 0 && read_once(object.pool->owner1) == session->owner1 &&
		read_once(object.header->rights_given) == (uint16_t)before + 1 &&
		header_lock(session, object.header, ref) == 0) {
		readers_invite(object.header); /* or a reader might do so now, as the whole word is stored */
		rights = read_once(object.header->rights) - (UINT64_C(1) << 48);
		heap_set(session->heap, &object.header->rights, rights | RIGHTS_SHARED);
	}
}

/* Of an intent to push or pop: does the intent have the right, so that it must be dropped? */
static bool finish_change(struct session *session, uint64_t word, bool is_held)
{
	uint32_t kind = intent_kind(word);
	struct object queue;
	struct cell_ring ring;
	bool happened;

	/*
	 * The queue is gone although it was held: the heap was damaged, and nobody knows who has the right. It is lost
	 * rather than dropped twice; a repair finds it.
	 */
	if (queue_find(session->heap, read_once(session->entry->intent.queue), &queue, &ring) < 0)
		return false;
	happened = has_happened(session, &ring, word);
	if (happened) {
		intent_record_done(session);
		queue_wake_all(&ring.queue->push_wait);
		queue_wake_all(&ring.queue->pop_wait);
	}
	if (kind == INTENT_PUSH_OWN) {
		if (!happened && !is_held)
			take_gift_back(session);
		return false;
	}
	return happened == intent_is_pop(kind) && !((kind == INTENT_PUSH || kind == INTENT_POP) && is_held);
}

int queue_finish(struct session *session)
{
	struct session_entry *entry = session->entry;
	uint64_t word = read_once(entry->intent.word), ref = read_once(entry->intent.ref);
	uint64_t before = read_once(entry->intent_before);
	uint32_t kind = intent_kind(word);
	bool is_held = hold_lookup(session->heap, entry, ref) != NULL;
	bool has_right = kind == INTENT_RIGHT;

	if (intent_is_push(kind) || intent_is_pop(kind))
		has_right = finish_change(session, word, is_held);
	if ((kind == INTENT_PUSH || kind == INTENT_POP) &&
		before != INTENT_UNKNOWN) /* n_holds as it was, with what the table got or lost */
		heap_set(session->heap, &entry->n_holds,
			before + (kind == INTENT_POP && is_held) - (kind == INTENT_PUSH && !is_held));
	intent_turn(session, INTENT_NONE);
	return has_right ? drop_right_of(session, ref) : 0;
}

int queue_forget(struct session *session)
{
	intent_turn(session, INTENT_NONE);
	return 0;
}

void queue_pass_on(struct session *dead)
{
	uint64_t ref = read_once(dead->entry->waits_at); /* it is dead, or waits for nothing */
	struct object object;
	struct cell_ring ring;

	if (queue_find(dead->heap, ref, &object, &ring) == 0) {
		queue_wake_next(&ring.queue->pop_wait);
		queue_wake_next(&ring.queue->push_wait);
	}
	/* relaxed, not logged: a daemon that dies before wakes somebody once more */
	__atomic_store_n(&dead->entry->waits_at, 0, __ATOMIC_RELAXED);
}
