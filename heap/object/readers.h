/* SPDX-License-Identifier: MIT */
#pragma once

/* Uncounted holds, as the owner of the lock sees them: does anybody hold this object? See readers.c. */

#include "heap/object/header_lock.h"
#include "heap/shared/log.h"

/* Before the session's first uncounted hold: from now on its table is asked for them. A full barrier if it was not. */
static inline void readers_enlist(const struct session *session)
{
	uint64_t *word = &session->control->readers[session->index / 64], bit = UINT64_C(1) << (session->index & 63);

	/* relaxed: only this session sets the bit; seq_cst: with the fence in readers_keep() */
	if (__builtin_expect(!(__atomic_load_n(word, __ATOMIC_RELAXED) & bit), 0))
		__atomic_fetch_or(word, bit, __ATOMIC_SEQ_CST);
}

/* The session has given up all that it held. */
static inline void readers_retire(const struct session *session)
{
	uint64_t *word = &session->control->readers[session->index / 64], bit = UINT64_C(1) << (session->index & 63);

	/* release: after its holds */
	if (__atomic_load_n(word, __ATOMIC_RELAXED) & bit)
		__atomic_fetch_and(word, ~bit, __ATOMIC_RELEASE);
}

/* With the lock held: how often do sessions hold the object uncounted? */
uint64_t readers_count(const struct heap *heap, uint64_t ref);

/*
 * Within a change, with the header locked: nobody has a counted right to the object, nor does the pool's owner hold it.
 * True: somebody holds it uncounted, and it now has one right that stands for all uncounted holds. False: it ends.
 */
bool readers_keep(struct session *session, struct object_header *header, uint64_t ref);

/* With the lock held, of an object that may be biased: sessions may hold it uncounted for the rest of its life. */
static inline void readers_invite(struct object_header *header)
{
	uint16_t nobody = 0;

	/* release: after the header lock has noted what the biased session did */
	__atomic_compare_exchange_n(
		&header->biased1, &nobody, (uint16_t)BIAS_READERS, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}
