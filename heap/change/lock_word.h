/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The futex word of the global lock: the owner's thread id, FUTEX_WAITERS, FUTEX_OWNER_DIED
 *
 * A robust mutex begins with it, and kernel and glibc agree on what it says; so lock.c, foreign_lock.c and reports can
 * read and change it beside glibc.
 */

#include "heap/shared/layout.h"

#include <linux/futex.h>

static inline uint32_t *lock_word(const struct global_lock *lock)
{
	return (uint32_t *)(uintptr_t)&lock->mutex.__data.__lock;
}

/* The owner's thread id; 0: nobody has the lock. Relaxed: a hint, or the caller's own. */
static inline uint32_t lock_word_tid(const struct global_lock *lock)
{
	return __atomic_load_n(lock_word(lock), __ATOMIC_RELAXED) & FUTEX_TID_MASK;
}
