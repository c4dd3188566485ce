// SPDX-License-Identifier: MIT
/*
 * Uncounted holds: taken and dropped without the lock
 *
 * What makes them good is in readers.c. Here is what the session does, all of it in one critical section, so that a
 * check or repair finds the table at rest, and with an intent:
 *
 *   READ    says where the session reads; its ref becomes the object's before its header is read. Then the hold is
 *           stored, and the place is read again; the hold stays, or is taken out
 *   UNREAD  the hold is taken out, and biased1 is read
 *
 * The intent keeps the arenas that it names mapped (critical_has_lookup()), as that of count.c does. A walk goes from
 * one record to the next by changing the intent's two positions one after the other. It keeps the section only a few
 * requests out: the session neither makes nor frees objects in it, so it need not collect or look for strangers first.
 *
 * Died after ...                          recovery (uncounted_finish()) does ...
 *   the intent READ                       nothing
 *   the hold's store, READ, good or not   takes it out: nobody was told of it; then as below
 *   taking it out, READ or UNREAD         ends the object, if this was its last hold and nobody else has a right
 *   the intent UNREAD                     leaves the hold in the table, from which it is dropped with the others
 * n_holds is made what it must be.
 *
 * A hold may be moved up by the lock's owner alone, so only one that stands last in its part of the table is taken out
 * here; others are dropped under the lock. So is one that seems to be the last at all.
 */

#include "heap/object/uncounted.h"
#include "heap/object/dying.h"
#include "heap/object/right.h"

#include <errno.h>

#define UNCOUNTED_LIKELY(x) __builtin_expect(!!(x), 1)
#define UNCOUNTED_RARE      __attribute__((noinline))

/* Can sessions hold it uncounted, as the header was seen, or can this session make it so? */
static inline bool can_be_held(const struct session *session, uint64_t ref, const struct header_value *seen)
{
	uint32_t biased1 = rights_biased1(seen->rights);

	return header_is(seen->word, ref_generation(ref), STATE_LIVE) && header_type(seen->word) - TYPE_HOLDS > 1 &&
	       rights_are_shared(seen->rights) && (!biased1 || biased1 == session->owner1 || biased1 >= BIAS_UNCOUNTED);
}

/*
 * Sessions may hold it uncounted from now on. This is right also while the header is locked: the session that locked it
 * stores to biased1 by compare-and-swap only. The session's own bias is evidence of no change of its own: none is under
 * way.
 */
static UNCOUNTED_RARE bool invite(struct object_header *header, struct header_value seen)
{
	return header_change(header, &seen, seen.word, rights_with_bias(seen.rights, BIAS_READERS));
}

int uncounted_hold(struct session *session, uint64_t ref, uint64_t other, struct hold *hold, struct held_uncounted *ret)
{
	struct header_value seen;
	struct lookup found;

	if (!hold || !ref_generation(ref))
		return UNCOUNTED_NOT;
	uncounted_note_positions(session, ref, other);
	found = lookup_find(session->heap, ref);
	if (!found.header)
		return UNCOUNTED_NOT;
	seen = header_read(found.header);
	if (!UNCOUNTED_LIKELY(lookup_is_still(session, ref, &found) && can_be_held(session, ref, &seen)))
		return UNCOUNTED_NOT;
	if (!UNCOUNTED_LIKELY(rights_are_for_readers(seen.rights)) && !invite(found.header, seen))
		return UNCOUNTED_NOT;
	*ret = (struct held_uncounted){
		.header = found.header,
		.is_locked = seen.rights & RIGHTS_LOCKED,
		.is_queue = header_type(seen.word) == TYPE_QUEUE,
	};
	hold_put_uncounted(session->entry, hold, ref);
	return 0;
}

/* In the section, after a hold was taken out: does one right stand for all others of its kind, of whom none may be
 * left? */
static inline bool may_be_last(uint64_t ref, const struct object_header *header)
{
	struct header_value seen = header_read(header);

	return header_is(seen.word, ref_generation(ref), STATE_LIVE) && rights_biased1(seen.rights) == BIAS_UNCOUNTED;
}

static int gone_in_change(struct session *session, uint64_t ref)
{
	struct object object;
	int r = 0;

	if (!object_find(session->heap, ref, &object))
		r = right_uncounted_gone(session, &object);
	if (r >= 0)
		intent_turn(session, INTENT_NONE);
	return r;
}

/* Ends the section, and then the object, unless others hold it. The intent stays until then. */
static UNCOUNTED_RARE int last_gone(struct session *session, uint64_t ref)
{
	int r;

	critical_leave(session, 0);
	r = change_begin(session);
	if (r < 0)
		return r;
	return dying_free(session, change_end(session, gone_in_change(session, ref)));
}

void uncounted_take_back(struct session *session, uint64_t ref, struct hold *hold, const struct object_header *header)
{
	hold_take_uncounted(session, session->entry, hold);
	if (!may_be_last(ref, header))
		uncounted_end(session);
	else if (last_gone(session, ref) < 0)
		intent_end(session);
}

/*
 * The lock could not be had, because this thread or another one has it for another session. The hold is put back, if
 * nobody has ended the object meanwhile.
 */
static UNCOUNTED_RARE int put_back(
	struct session *session, uint64_t ref, struct hold *hold, const struct object_header *header, int r)
{
	struct session_entry *entry = session->entry;

	hold_put_uncounted(entry, hold, ref);
	if (header_is(header_read(header).word, ref_generation(ref), STATE_LIVE)) {
		intent_end(session);
		return r;
	}
	hold_take_uncounted(session, entry, hold);
	intent_end(session);
	return 0;
}

/* The header of what the session holds; NULL: the heap is damaged. */
static inline struct object_header *held_header(const struct session *session, uint64_t ref)
{
	const struct cached_object *cached = cache_object(session->cache, ref);
	struct object object;

	if (UNCOUNTED_LIKELY(cached->ref == ref && !cached->header && cached->held_header))
		return cached->held_header;
	return object_find_fast(session->heap, ref, &object) == 0 ? object.header : NULL;
}

int uncounted_drop(struct session *session, uint64_t ref, struct hold *hold)
{
	struct session_entry *entry = session->entry;
	struct object_header *header;
	int r;

	if (session->has_lock || !hold_stands_last(session, hold))
		return UNCOUNTED_NOT;
	header = held_header(session, ref);
	/* relaxed: a hint, read again after the hold has gone */
	if (!header || rights_biased1(header_rights(header)) == BIAS_UNCOUNTED)
		return UNCOUNTED_NOT;
	uncounted_intend(entry, INTENT_UNREAD, ref, 0);
	if (!UNCOUNTED_LIKELY(critical_enter_reading(session))) {
		intent_end(session);
		return UNCOUNTED_NOT;
	}
	hold_take_uncounted(session, entry, hold);
	if (UNCOUNTED_LIKELY(!may_be_last(ref, header))) {
		uncounted_end(session);
		return 0;
	}
	r = last_gone(session, ref);
	if (r == -EPERM || r == -EDEADLK)
		return put_back(session, ref, hold, header, r);
	if (r < 0)
		intent_end(session);
	return r;
}

int uncounted_finish(struct session *session)
{
	struct heap *heap = session->heap;
	struct session_entry *entry = session->entry;
	uint64_t ref = read_once(entry->intent.ref), before = read_once(entry->intent_before);
	bool is_read = intent_kind(read_once(entry->intent.word)) == INTENT_READ;
	struct hold *hold = hold_lookup(heap, entry, ref);
	struct object object;
	int r = 0;

	heap_set(heap, &entry->n_holds, before + (is_read && hold) - (!is_read && !hold));
	if (is_read && hold)
		hold_remove(session, hold);
	if ((is_read || !hold) && ref_generation(ref) && !object_find(heap, ref, &object))
		r = right_uncounted_gone(session, &object);
	if (r < 0)
		return r;
	intent_turn(session, INTENT_NONE);
	return 0;
}
