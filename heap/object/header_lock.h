/* SPDX-License-Identifier: MIT */
#pragma once

/* Headers changed as a whole, and claimed by whoever has the lock. See claim.c. */

#include "heap/change/lock.h"
#include "heap/shared/two_words.h"

/* A header as it was at one moment, if it is still so when it is changed. */
struct header_value {
	uint64_t word, rights;
};

static inline struct header_value header_read(const struct object_header *header)
{
	struct header_value seen;

	/* acquire: what was done before it was changed */
	seen.word = __atomic_load_n(&header->word, __ATOMIC_ACQUIRE);
	seen.rights = __atomic_load_n(&header->rights, __ATOMIC_ACQUIRE);
	return seen;
}

/* A full barrier. */
static inline bool header_change(
	struct object_header *header, const struct header_value *seen, uint64_t word, uint64_t rights)
{
	two_words old = (two_words)seen->rights << 64 | seen->word, new = (two_words)rights << 64 | word;

	return two_words_change((two_words *)(void *)header, old, new);
}

/*
 * Within a change, before rights_counted or the word of a LIVE object that others may know is stored to: nobody else
 * stores to them until the change is over, but for its pool's owner, who may hold it more or less often and give rights
 * away. Its rights_counted needs no entry of the log any more. -ESTALE it is gone; -EUCLEAN the log is full.
 */
int header_lock(struct session *session, struct object_header *header, uint64_t ref);
