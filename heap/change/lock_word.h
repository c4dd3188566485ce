/* SPDX-License-Identifier: MIT */
#pragma once

/* The futex word of the lock's mutex. */

#include "heap/shared/layout.h"

#include <linux/futex.h>

/* A robust mutex begins with its futex word: the owner's thread id, FUTEX_WAITERS, FUTEX_OWNER_DIED. */
static inline uint32_t *lock_word(const struct global_lock *lock)
{
	return (uint32_t *)(uintptr_t)&lock->mutex.__data.__lock;
}

/* The thread id in it; 0: nobody has the lock. Relaxed: the kernel wants it there; for hints and reports. */
static inline uint32_t lock_word_tid(const struct global_lock *lock)
{
	return __atomic_load_n(lock_word(lock), __ATOMIC_RELAXED) & FUTEX_TID_MASK;
}
