// SPDX-License-Identifier: MIT
/*
 * Intents: what a session is about to do, without the lock, to a queue or to a count (count.c)
 *
 * An intent is complete before the session enters its critical section (critical.c), and is over before it leaves it;
 * so it does not change for a process that keeps all sessions out. While it is there, one right is the intent's to
 * account for: queue.c has the order of the steps, and what follows when the session dies between two of them.
 *
 * Has the compare-and-swap in its middle taken place? The cell tells, which notes the session that changed it last,
 * until it is changed once more in the same way. A session that is about to do so, and finds that the intent of the
 * noted session is still there, of the lap before, first says so in that session's entry (`done`), by the number of the
 * intent. The number moves before anything of the next intent is written, and the kind is written last; so what a
 * reader reads while the word is the same before and after is of one intent. (Of intents to hold and to drop, number
 * and kind move together: see intent_begin_count().) Proved by tests/model/queue.pml and count.pml.
 */

#include "heap/change/intent.h"

/* Is an intent of the session, of this kind and for that position of the queue, still there? *ret is its number. */
static bool is_unfinished(
	struct heap *heap, uint32_t index, intent_is *is_such, uint64_t queue, uint64_t position, uint64_t *ret)
{
	const struct intent *intent = &heap->sessions[index].intent;
	uint64_t word;

	if (index >= heap->n_sessions)
		return false;
	/* acquire, and the fence below: if the word is the same afterwards, all was of one intent */
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
