/* SPDX-License-Identifier: MIT */
#pragma once

/* The lock for owners of other pid namespaces than the heap's. See foreign_lock.c. */

#include "heap/change/lock_word.h"
#include "heap/shared/heap.h"

/* What the word has while a session of another pid namespace owns the lock. Above every thread id of Linux (2^22). */
static inline uint32_t foreign_lock_tid(uint32_t session_index)
{
	return UINT32_C(1) << 29 | ((session_index + 1) & ((UINT32_C(1) << 29) - 1));
}

/* Take the lock as `tid`. Returns what pthread_mutex_lock() would: 0, EOWNERDEAD; EBUSY if `try` and it is taken. */
int foreign_lock_take(uint32_t *futex, uint32_t tid, bool try);

/* Say in the word that somebody waits, and sleep until the lock is given back, or for a while. Nothing if it is free.
 */
void foreign_lock_sleep(uint32_t *futex);

void foreign_lock_wake_one(uint32_t *futex);

static inline void foreign_lock_give(uint32_t *futex)
{
	/* release: after the change */
	if (__builtin_expect(__atomic_exchange_n(futex, 0, __ATOMIC_RELEASE) & FUTEX_WAITERS, 0))
		foreign_lock_wake_one(futex);
}

/*
 * Daemon: the process of that session (or the daemon before, SESSION_DAEMON) has ended for certain. If it had the lock
 * and is of another pid namespace, the next taker learns now that the owner is dead. Idempotent.
 */
void foreign_lock_owner_died(struct heap *heap, uint32_t session_index);
