/* SPDX-License-Identifier: MIT */
#pragma once

/* The futex word of the global lock: taken, given back, awaited. See lock_word.c. */

#include "heap/shared/layout.h"

#include <linux/futex.h>

static inline uint32_t *lock_word(const struct global_lock *lock)
{
	return (uint32_t *)(uintptr_t)&lock->word;
}

/* The owner's name; 0: nobody has the lock. Relaxed: a hint, or the caller's own. */
static inline uint32_t lock_word_tid(const struct global_lock *lock)
{
	return __atomic_load_n(lock_word(lock), __ATOMIC_RELAXED) & FUTEX_TID_MASK;
}

/*
 * Take the lock by the name `me`. 0; EOWNERDEAD from a dead owner, or it had this name already, or the other one that
 * the caller goes by: the caller knows that it did not have the lock. EBUSY if `try` and it is taken.
 */
int lock_word_take(uint32_t *futex, uint32_t me, uint32_t me_too, bool try);

void lock_word_wake_one(uint32_t *futex);

static inline void lock_word_give(uint32_t *futex)
{
	/* release: after the change */
	if (__builtin_expect(__atomic_exchange_n(futex, 0, __ATOMIC_RELEASE) & FUTEX_WAITERS, 0))
		lock_word_wake_one(futex);
}

/* The lock has this owner, if it still has: give it another name; or, 0, take it from the owner, who lives. */
void lock_word_rename(uint32_t *futex, uint32_t owner, uint32_t name);

/* The owner of that name is dead for certain: mark the word as the kernel would have done, if it names that owner. */
void lock_word_owner_died(uint32_t *futex, uint32_t owner);

/*
 * Daemon: break the lock of an owner that does not exist. First the word is marked, if it names that owner; then the
 * daemon finds out about the owner; then, if the mark is still there, the word is marked as a dead owner's. False: it
 * names another one by now, or that owner has given the lock back in between.
 */
bool lock_word_suspect(uint32_t *futex, uint32_t owner);
bool lock_word_break(uint32_t *futex, uint32_t owner);
