/* SPDX-License-Identifier: MIT */
/*
 * Claims: headers under the lock, which others change without it
 *
 * One session may change an object's count without the lock, the one that its header is biased to (count.c), by a
 * compare-and-swap of the whole header. So whoever has the lock and is about to store to a header claims it first: by a
 * compare-and-swap that sets RIGHTS_LOCKED, after which nobody else changes the count. Then he looks for whom it was
 * biased: where that one has an intent for this object, and the count is another than the intent says it was, that is
 * noted in its entry (done_counting), as the trace of it is wiped out next. That is not in the log, since it stays true
 * whatever becomes of the change; and it is looked for after the claim, so that it cannot become true any more.
 *
 * The claim itself is in the log (lock.c), and is let go of when that was emptied.
 */

#include "heap/object/header_lock.h"

#include <errno.h>

/* Whose intent is to count this object, it is about to, or has done so: as it was counted before. Else INTENT_UNKNOWN.
 */
static uint64_t counted_before(const struct session_entry *entry, uint64_t ref, uint64_t *ret_number)
{
	const struct intent *intent = &entry->intent;
	/* acquire, and the fence: if the word is the same afterwards all is of one intent */
	uint64_t word = __atomic_load_n(&intent->word, __ATOMIC_ACQUIRE), position;

	if (!intent_is_count(intent_kind(word)) || __atomic_load_n(&intent->ref, __ATOMIC_RELAXED) != ref)
		return INTENT_UNKNOWN;
	position = __atomic_load_n(&intent->position, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	*ret_number = intent_number(word);
	return __atomic_load_n(&intent->word, __ATOMIC_RELAXED) == word ? position : INTENT_UNKNOWN;
}

/* Of a header that is claimed: from now on it is nobody's to count but under the lock. */
static void take_bias(struct heap *heap, struct object_header *header, uint64_t ref)
{
	uint32_t biased1 = __atomic_load_n(&header->biased1, __ATOMIC_RELAXED);
	uint64_t before, number;

	if (!biased1)
		return;
	if (biased1 <= heap->n_sessions) {
		struct session_entry *entry = &heap->sessions[biased1 - 1];

		before = counted_before(entry, ref, &number);
		if (before != INTENT_UNKNOWN &&
			(uint32_t)before !=
				(__atomic_load_n(&header->rights_counted, __ATOMIC_RELAXED) & ~RIGHTS_LOCKED))
			__atomic_store_n(&entry->done_counting, number, __ATOMIC_RELAXED);
	}
	/* release: it is noted before it is wiped out */
	__atomic_store_n(&header->biased1, 0, __ATOMIC_RELEASE);
}

int header_lock(struct session *session, struct object_header *header, uint64_t ref)
{
	struct heap *heap = session->heap;
	struct header_value seen = header_read(header);

	if (!log_header_lock(heap, &header->rights_counted, (uint32_t)seen.rights))
		return -EUCLEAN;
	for (;;) {
		if (!header_is(seen.word, ref_generation(ref), STATE_LIVE)) {
			log_header_lock_failed(heap);
			return -ESTALE;
		}
		if (seen.rights & RIGHTS_LOCKED) /* earlier in this change */
			break;
		if (header_change(header, &seen, seen.word, seen.rights | RIGHTS_LOCKED))
			break;
		seen = header_read(header);
		log_header_lock_again(heap, (uint32_t)seen.rights);
	}
	take_bias(heap, header, ref);
	return 0;
}
