/* SPDX-License-Identifier: MIT */
#pragma once

/* Intents: what a session says before it changes a queue or a count without the lock. See intent.c. */

#include "heap/change/lock.h"

/* A kind of intents: intent_is_push(), intent_is_pop() or intent_is_count(). */
typedef bool intent_is(uint32_t kind);

/*
 * Within a change: if the session `index` still has an intent of this kind for that position of the queue, note that
 * the intent has taken place. The caller has found in the cell that this session changed it last.
 */
void intent_note_done(struct heap *heap, uint32_t index, intent_is *is_such, uint64_t queue, uint64_t position);
/* intent_note_done() without the lock, which it takes if there is something to note. */
int intent_note_done_of_other(
	struct session *session, uint32_t index, intent_is *is_such, uint64_t queue, uint64_t position);

static inline void intent_store(const struct session *session, uint64_t number, enum intent_kind kind)
{
	/* release: after all that the session did before */
	__atomic_store_n(&session->entry->intent.word, intent_word(number, kind), __ATOMIC_RELEASE);
}

/*
 * Begin an intent to change a queue. `meanwhile` is its kind until it is complete: INTENT_NONE, or INTENT_RIGHT if the
 * session has no other record of its right.
 */
static inline void intent_begin(const struct session *session, enum intent_kind meanwhile, enum intent_kind kind,
	uint64_t queue, uint64_t position, uint64_t ref)
{
	struct intent *intent = &session->entry->intent;
	uint64_t number = intent_number(read_once(intent->word)) + 1;

	intent_store(session, number, meanwhile);
	/* with the relaxed stores: a reader that finds one of them finds the new number, see is_unfinished() */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	__atomic_store_n(&intent->ref, ref, __ATOMIC_RELAXED);
	__atomic_store_n(&intent->queue, queue, __ATOMIC_RELAXED);
	__atomic_store_n(&intent->position, position, __ATOMIC_RELAXED);
	__atomic_store_n(
		&session->entry->intent_before, INTENT_UNKNOWN, __ATOMIC_RELAXED); /* not that of an older intent */
	intent_store(session, number, kind);
	/* before what is done next: recovery reads it after a death, so the compiler alone has to keep the order */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/*
 * Begin an intent to hold or to drop (count.c): with rights_counted as it is, if known, and the session's number of
 * holds. The intent before is over, so number and kind move together: a reader that finds anything of this intent finds
 * that one over.
 */
static inline void intent_begin_count(
	struct session_entry *entry, enum intent_kind kind, uint64_t ref, uint64_t counted)
{
	uint64_t number = intent_number(read_once(entry->intent.word)) + 1;

	/* with the relaxed stores: after the end of the intent before */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	__atomic_store_n(&entry->intent.ref, ref, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->intent.position, counted, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->intent_before, read_once(entry->n_holds), __ATOMIC_RELAXED);
	/* release: as intent_store() */
	__atomic_store_n(&entry->intent.word, intent_word(number, kind), __ATOMIC_RELEASE);
	/* as in intent_begin() */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* In the critical section: rights_counted is known now. */
static inline void intent_note_count(struct session_entry *entry, uint32_t counted)
{
	/* relaxed: a compare-and-swap comes next */
	__atomic_store_n(&entry->intent.position, counted, __ATOMIC_RELAXED);
	/* as in intent_begin() */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* In the critical section, before anything is taken: note for recovery how it was before. */
static inline void intent_note(const struct session *session, uint64_t before)
{
	__atomic_store_n(&session->entry->intent_before, before, __ATOMIC_RELAXED);
	/* as in intent_begin() */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void intent_end_of(struct session_entry *entry)
{
	/* release: as intent_store() */
	__atomic_store_n(&entry->intent.word, intent_word(intent_number(read_once(entry->intent.word)), INTENT_NONE),
		__ATOMIC_RELEASE);
}

static inline void intent_end(const struct session *session)
{
	intent_end_of(session->entry);
}

/* Within a change: the intent becomes one of another kind, or none. */
static inline void intent_turn(const struct session *session, enum intent_kind kind)
{
	uint64_t *word = &session->entry->intent.word;

	heap_set(session->heap, word, intent_word(intent_number(read_once(*word)), kind));
}

/*
 * With the lock held: note that the session's own intent has taken place, and commit that by itself. The rest is done
 * in a change that may be rolled back. Other sessions go by the intent without the lock: if they could see it gone
 * while it can still come back, they would not note it as done.
 */
static inline void intent_record_done(const struct session *session)
{
	heap_set(session->heap, &session->entry->done, intent_number(read_once(session->entry->intent.word)));
	change_commit(session->heap);
}
