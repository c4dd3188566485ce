// SPDX-License-Identifier: MIT
/*
 * Intents: what a session that works without the lock is about to do to a queue, or to count (count.c)
 *
 * The intent is complete before the session goes inside (gate.c), and is over before it comes out, so it does not
 * change for whoever has kept all others out. While it is there one right is the intent's to say of: queue.c has the
 * order of the steps, and what follows from it when the session dies between two of them.
 *
 * Whether the compare-and-swap in its middle took place is said by the place, which notes who changed it last, until
 * that is changed in the same way again. Who is about to do so, and finds another session's intent of the lap before
 * still there, says so in the other's entry first (`done`), by the number of the intent. That number moves before
 * anything of the next intent is written, and its kind is written last, so what is read in between with the same word
 * before and after is of one intent. (To count, the number moves with the kind: see intent_begin_count().)
 */

#include "heap/change/intent.h"

/* Is the intent of a session, which has changed the place at that position, still there? *ret is its number. */
static bool is_unfinished(
	struct heap *heap, uint32_t index, intent_is *is_such, uint64_t queue, uint64_t position, uint64_t *ret)
{
	const struct intent *intent = &heap->sessions[index].intent;
	uint64_t word;

	if (index >= heap->n_sessions)
		return false;
	/* acquire, and the fence: if the word is the same afterwards all is of one intent */
	word = __atomic_load_n(&intent->word, __ATOMIC_ACQUIRE);
	if (!is_such(intent_kind(word)) || __atomic_load_n(&intent->queue, __ATOMIC_RELAXED) != queue ||
		__atomic_load_n(&intent->position, __ATOMIC_RELAXED) != position)
		return false;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	*ret = intent_number(word);
	return __atomic_load_n(&intent->word, __ATOMIC_RELAXED) == word;
}

void intent_note_done(struct heap *heap, uint32_t index, intent_is *is_such, uint64_t queue, uint64_t position)
{
	uint64_t number;

	if (is_unfinished(heap, index, is_such, queue, position, &number) && heap->sessions[index].done != number)
		heap_set(heap, &heap->sessions[index].done, number);
}

int intent_note_done_of_other(
	struct session *session, uint32_t index, intent_is *is_such, uint64_t queue, uint64_t position)
{
	uint64_t number;
	int r;

	if (!is_unfinished(session->heap, index, is_such, queue, position, &number))
		return 0;
	r = change_begin(session);
	if (r < 0)
		return r;
	intent_note_done(session->heap, index, is_such, queue, position);
	return change_end(session, 0);
}
