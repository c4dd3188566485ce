/* SPDX-License-Identifier: MIT */
#pragma once

/* A header is changed as a whole, and locked by the process that changes it under the global lock. See header_lock.c.
 */

#include "heap/shared/session.h"
#include "heap/shared/two_words.h"

/* A header as it was at one moment. header_change() succeeds only while it is still so. */
struct header_value {
	uint64_t word, rights;
};

static inline struct header_value header_read(const struct object_header *header)
{
	struct header_value seen;

	/* acquire: what was done before the header was changed */
	seen.word = __atomic_load_n(&header->word, __ATOMIC_ACQUIRE);
	seen.rights = __atomic_load_n(&header->rights, __ATOMIC_ACQUIRE);
	return seen;
}

/* relaxed: the owner may be giving rights away, or others counting, at this moment. right.c has the order. */
static inline uint64_t header_rights(const struct object_header *header)
{
	return __atomic_load_n(&header->rights, __ATOMIC_RELAXED);
}

/* Replaces the header if it still is what *seen says. A full barrier. */
static inline bool header_change(
	struct object_header *header, const struct header_value *seen, uint64_t word, uint64_t rights)
{
	two_words old = (two_words)seen->rights << 64 | seen->word, new = (two_words)rights << 64 | word;

	return two_words_change((two_words *)(void *)header, old, new);
}

/*
 * Within a change: lock the header of a LIVE object that others may know, before rights_counted or the word is stored
 * to. Until the change is over nobody else stores to them, except the owner of the pool, which may hold the object more
 * or less often and give rights away. rights_counted needs no entry of the log after that. -ESTALE: the object is gone.
 * -EUCLEAN: the log is full.
 */
int header_lock(struct session *session, struct object_header *header, uint64_t ref);
