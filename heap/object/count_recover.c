// SPDX-License-Identifier: MIT
/*
 * Counting rights: finishing what a dead session had begun
 *
 * The intent of the dead session says what it was about to do, and `done_counting`, or else the header that is biased
 * to it, whether the compare-and-swap has taken place (count.c). The hold table must then agree with the count:
 *
 *   intent  has taken place                        has not
 *   HOLD    in the table, or else the right ends   nothing to do
 *   DROP    not in the table: taken out of it      in the table: dropped with the other holds
 *
 * n_holds is made what it must be. If a drop has taken place it may have freed a block, so the owner of the pool is
 * notified, perhaps once more. Model: tests/model/count.pml.
 */

#include "heap/object/count_recover.h"
#include "heap/change/intent.h"
#include "heap/memory/block.h"
#include "heap/object/hold.h"
#include "heap/object/right.h"

/* Has the change of the dead session's intent, which is of that word and position, taken place? */
static bool has_happened(const struct session *session, const struct object *object, uint64_t word, uint64_t position)
{
	const struct object_header *header = object->header;

	return read_once(session->entry->done_counting) == intent_number(word) ||
	       (position != INTENT_UNKNOWN && read_once(header->biased1) == session->owner1 &&
		       (uint32_t)position != (read_once(header->rights_counted) & ~RIGHTS_LOCKED));
}

int count_finish(struct session *session)
{
	struct heap *heap = session->heap;
	struct session_entry *entry = session->entry;
	uint64_t ref = read_once(entry->intent.ref), before = read_once(entry->intent_before);
	uint64_t word = read_once(entry->intent.word), position = read_once(entry->intent.position);
	bool is_hold = intent_kind(word) == INTENT_HOLD, happened;
	struct hold *hold = hold_lookup(heap, entry, ref);
	struct pool_entry *pool;
	struct object object;
	int r = 0;

	/* a right that was not dropped would have kept it alive */
	if (object_match(heap, ref, &object) < 0)
		happened = !is_hold;
	else
		happened = has_happened(session, &object, word, position);
	if (position != INTENT_UNKNOWN)
		heap_set(heap, &entry->n_holds, before + (is_hold && hold) - (!is_hold && !hold));
	if (is_hold && happened && !hold)
		r = right_drop(session, &object);
	if (!is_hold && happened && hold)
		hold_remove(session, hold);
	if (r < 0)
		return r;
	intent_turn(session, INTENT_NONE);
	if (is_hold || !happened)
		return 0;
	return block_notify_remote_free(session, ref, &pool);
}
