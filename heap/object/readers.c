// SPDX-License-Identifier: MIT
/*
 * Uncounted holds
 *
 * What several processes get from a slot or a name over and over would have its header move between their processors at
 * each hold and each drop. So an object that was read from a place can be held *uncounted*: the hold is in the
 * session's table and nowhere else, and neither holding nor dropping it stores to the object. The process that takes
 * away the last counted right asks the tables instead. These are the hazard pointers of Michael (2004), with the hold
 * table as the list of hazards.
 *
 * The states of biased1, beyond those of count.c:
 *
 *   BIAS_READERS    sessions may hold it uncounted. rights counts all others, who are counted under the lock alone
 *   BIAS_UNCOUNTED  the same, and rights is 1: it stands for all uncounted holds, and nobody else has a right
 *
 *   any session, a compare-and-swap of the header:   0, or its own bias --> BIAS_READERS
 *   the owner of the lock:                           BIAS_READERS <--> BIAS_UNCOUNTED
 *
 * Neither goes back to a bias: no session may count by a compare-and-swap what others may hold uncounted.
 *
 * A reader (uncounted.c) stores the hold, executes a full barrier, and reads the place again. If that still has the
 * object, the hold is good: the place's right had not ended when the hold could be seen. The process that takes the
 * object out of its last place, or drops its last counted right, does so, executes a full barrier, and looks into the
 * tables: of "the reader finds the place changed" and "the process finds the hold", at least one happens. A reader that
 * finds it changed takes the hold out again, as it drops any other. To drop, it takes the hold out, executes a full
 * barrier, and reads biased1. If that is BIAS_UNCOUNTED it takes the lock, and looks into the tables: if no hold is
 * left, it ends the object. The process that stores BIAS_UNCOUNTED looks into the tables once more after a full
 * barrier. So here, too, the last one to drop finds BIAS_UNCOUNTED, or its hold is found gone.
 *
 * Only sessions that ever held uncounted are asked. A session sets its bit of control->readers before its first hold.
 *
 * If a session dies, its table is still asked until it is reclaimed. Each uncounted hold is then taken out as by its
 * session (recover.c); one that was not good yet, of an object that is gone, names nothing. Model:
 * tests/model/read.pml.
 */

#include "heap/object/readers.h"
#include "heap/object/hold.h"

static uint64_t count_of(const struct heap *heap, uint32_t index, uint64_t ref)
{
	const struct hold *hold = hold_lookup(heap, &heap->sessions[index], ref);
	uint64_t how = hold ? __atomic_load_n(&hold->how, __ATOMIC_RELAXED) : 0;

	return how >> 32 ? (uint32_t)how : 0;
}

uint64_t readers_count(const struct heap *heap, uint64_t ref)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < (heap->n_sessions + 63) / 64; i++) {
		/* acquire: with the end of the session that had the entry before */
		uint64_t bits = __atomic_load_n(&heap->control->readers[i], __ATOMIC_ACQUIRE);

		for (; bits; bits &= bits - 1) {
			uint32_t index = i * 64 + (uint32_t)__builtin_ctzll(bits);

			if (index < heap->n_sessions)
				n += count_of(heap, index, ref);
		}
	}
	return n;
}

bool readers_keep(struct session *session, struct object_header *header, uint64_t ref)
{
	struct heap *heap = session->heap;
	uint64_t rights;

	/* the counts and places that were changed, before biased1 and the tables are read */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	rights = header_rights(header);
	if (!rights_are_for_readers(rights) || !readers_count(heap, ref))
		return false;
	heap_set(heap, &header->rights, rights_with_bias(RIGHTS_ONE | RIGHTS_SHARED | RIGHTS_LOCKED, BIAS_UNCOUNTED));
	/* biased1, before the tables are read again */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return readers_count(heap, ref) != 0;
}
