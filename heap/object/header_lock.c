// SPDX-License-Identifier: MIT
/*
 * Header lock: freezes a header that others change without the global lock
 *
 * One session may change an object's count without the global lock: the one that its header is biased to (count.c). It
 * does so by a compare-and-swap of the whole header. The owner of the global lock and is about to store to a header
 * therefore locks the header first: a compare-and-swap sets RIGHTS_LOCKED, and after it nobody else changes the count.
 *
 * Locking takes the bias away, and with it the trace by which recovery tells whether the biased session's last change
 * took place. So if that session has an intent for this object, and the count differs from what the intent says it was,
 * the change took place, and the session's entry says so (done_counting). This note is not in the log: it stays true
 * even if the change that locks the header is rolled back. It is made after the header is locked, so that it cannot
 * become true later.
 *
 * The lock of a header is an entry of the log (heap/shared/log.h), and ends when the log is emptied. Model:
 * tests/model/count.pml.
 */

#include "heap/object/header_lock.h"
#include "heap/shared/log.h"

#include <errno.h>

/*
 * What rights_counted was before that session's intent to count this object, whether the change has taken place or not.
 * INTENT_UNKNOWN: the session has no such intent.
 */
static uint64_t counted_before(const struct session_entry *entry, uint64_t ref, uint64_t *ret_number)
{
	const struct intent *intent = &entry->intent;
	/* acquire, and the fence: if the word is still the same afterwards, all of it belongs to one intent */
	uint64_t word = __atomic_load_n(&intent->word, __ATOMIC_ACQUIRE), position;

	if (!intent_is_count(intent_kind(word)) || __atomic_load_n(&intent->ref, __ATOMIC_RELAXED) != ref)
		return INTENT_UNKNOWN;
	position = __atomic_load_n(&intent->position, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	*ret_number = intent_number(word);
	return __atomic_load_n(&intent->word, __ATOMIC_RELAXED) == word ? position : INTENT_UNKNOWN;
}

/* The header is locked: from now on it is counted under the global lock only. */
static void take_bias(struct heap *heap, struct object_header *header, uint64_t ref)
{
	uint16_t biased1 = __atomic_load_n(&header->biased1, __ATOMIC_RELAXED);
	uint64_t before, number;

	if (!biased1 || biased1 >= BIAS_UNCOUNTED)
		return;
	if (biased1 <= heap->n_sessions) {
		struct session_entry *entry = &heap->sessions[biased1 - 1];

		before = counted_before(entry, ref, &number);
		if (before != INTENT_UNKNOWN &&
			(uint32_t)before !=
				(__atomic_load_n(&header->rights_counted, __ATOMIC_RELAXED) & ~RIGHTS_LOCKED))
			__atomic_store_n(&entry->done_counting, number, __ATOMIC_RELAXED);
	}
	/*
	 * release: the note comes before its evidence is wiped out. If the biased session has just made it
	 * BIAS_READERS (uncounted.c), it stays so.
	 */
	__atomic_compare_exchange_n(&header->biased1, &biased1, 0, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
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
		if (seen.rights & RIGHTS_LOCKED) /* locked earlier in this change */
			break;
		if (header_change(header, &seen, seen.word, seen.rights | RIGHTS_LOCKED))
			break;
		seen = header_read(header);
		log_header_lock_again(heap, (uint32_t)seen.rights);
	}
	take_bias(heap, header, ref);
	return 0;
}
