/* SPDX-License-Identifier: MIT */
#pragma once

/* Headers changed as a whole, and claimed by whoever has the lock. See claim.c. */

#include "heap/change/lock.h"

__extension__ typedef unsigned __int128 two_words;

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

/*
 * Under ThreadSanitizer a compare-and-swap of 16 bytes is two plain loads and stores under a lock of its own, between
 * which the owner's stores to a part of the header would get lost. So the instruction is given as such there, and the
 * sanitizer is told what it orders.
 */
#if defined(__SANITIZE_THREAD__) && defined(__x86_64__)
void __tsan_acquire(void *);
void __tsan_release(void *);

static inline bool two_words_change(two_words *p, two_words old, two_words new)
{
	uint64_t low = (uint64_t)old, high = (uint64_t)(old >> 64);
	bool is_changed;

	__tsan_release(p);
	__tsan_release((uint64_t *)p + 1);
	__asm__ volatile("lock cmpxchg16b %1"
			 : "=@ccz"(is_changed), "+m"(*p), "+a"(low), "+d"(high)
			 : "b"((uint64_t) new), "c"((uint64_t)(new >> 64))
			 : "memory");
	__tsan_acquire(p);
	__tsan_acquire((uint64_t *)p + 1);
	return is_changed;
}
#else
static inline bool two_words_change(two_words *p, two_words old, two_words new)
{
	return __sync_bool_compare_and_swap(p, old, new);
}
#endif

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
