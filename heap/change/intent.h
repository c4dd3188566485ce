/* SPDX-License-Identifier: MIT */
#pragma once

/* What a session says before it changes a queue, and others after its death, or before they wipe out its traces: see
 * intent.c. */

#include "heap/change/lock.h"

typedef bool intent_is(uint32_t kind);

/* Within a change: who changed the place at that position, and is not through with it, has done so. */
void intent_note_done(struct heap *heap, uint32_t index, intent_is *is_such, uint64_t queue, uint64_t position);
/* The same without the lock, which is taken where there is something to note. */
int intent_note_done_of_other(
	struct session *session, uint32_t index, intent_is *is_such, uint64_t queue, uint64_t position);

static inline void intent_store(const struct session *session, uint64_t number, enum intent_kind kind)
{
	/* release: after all that was done before it */
	__atomic_store_n(&session->entry->intent.word, intent_word(number, kind), __ATOMIC_RELEASE);
}

/* `meanwhile` is what it is until it is this one: none, or that it has the right to ref itself. */
static inline void intent_begin(const struct session *session, enum intent_kind meanwhile, enum intent_kind kind,
	uint64_t queue, uint64_t position, uint64_t ref)
{
	struct intent *intent = &session->entry->intent;
	uint64_t number = intent_number(intent->word) + 1;

	intent_store(session, number, meanwhile);
	/* with the relaxed stores: who finds anything of this one finds its number, see is_unfinished() */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	__atomic_store_n(&intent->ref, ref, __ATOMIC_RELAXED);
	__atomic_store_n(&intent->queue, queue, __ATOMIC_RELAXED);
	__atomic_store_n(&intent->position, position, __ATOMIC_RELAXED);
	__atomic_store_n(&session->entry->intent_before, INTENT_UNKNOWN, __ATOMIC_RELAXED); /* not an older one's */
	intent_store(session, number, kind);
	/* before what is done next: for who clears up after a death the compiler alone has to keep the order */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/*
 * To hold or to drop (count.c): rights_counted as it is, where that is known, and how many holds the session has. The
 * one before is over, so the number moves with the kind: who finds anything of this one finds that one over.
 */
static inline void intent_begin_count(
	struct session_entry *entry, enum intent_kind kind, uint64_t ref, uint64_t counted)
{
	uint64_t number = intent_number(entry->intent.word) + 1;

	/* with the relaxed stores: the end of the one before comes first */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	__atomic_store_n(&entry->intent.ref, ref, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->intent.position, counted, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->intent_before, entry->n_holds, __ATOMIC_RELAXED);
	/* release: as intent_store() */
	__atomic_store_n(&entry->intent.word, intent_word(number, kind), __ATOMIC_RELEASE);
	/* as in intent_begin() */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Inside: it is known now. */
static inline void intent_note_count(struct session_entry *entry, uint32_t counted)
{
	/* relaxed: a compare-and-swap comes next */
	__atomic_store_n(&entry->intent.position, counted, __ATOMIC_RELAXED);
	/* as in intent_begin() */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Inside, before anything is taken: what recovery needs to know of how it was. */
static inline void intent_note(const struct session *session, uint64_t before)
{
	__atomic_store_n(&session->entry->intent_before, before, __ATOMIC_RELAXED);
	/* as in intent_begin() */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void intent_end_of(struct session_entry *entry)
{
	/* release: as intent_store() */
	__atomic_store_n(
		&entry->intent.word, intent_word(intent_number(entry->intent.word), INTENT_NONE), __ATOMIC_RELEASE);
}

static inline void intent_end(const struct session *session)
{
	intent_end_of(session->entry);
}

/* Within a change: it is of another kind, or none. */
static inline void intent_turn(const struct session *session, enum intent_kind kind)
{
	uint64_t *word = &session->entry->intent.word;

	heap_set(session->heap, word, intent_word(intent_number(*word), kind));
}

/*
 * With the lock held: the session's own intent has taken place, and that stays said while the rest is done in a change
 * that may yet be taken back. Others, who go by the intent without the lock, would see it gone meanwhile, and not help.
 */
static inline void intent_record_done(const struct session *session)
{
	heap_set(session->heap, &session->entry->done, intent_number(session->entry->intent.word));
	change_commit(session->heap);
}
