/* SPDX-License-Identifier: MIT */
#pragma once

/* Owners of the lock that are of other pid namespaces. */

#include "heap/change/lock_word.h"
#include "heap/shared/heap.h"

/*
 * Daemon: the process of that session (or the daemon before, SESSION_DAEMON) has ended for certain. Should it have had
 * the lock, and be of a pid namespace whose dead the kernel does not tell of, the next taker is told now. Idempotent.
 */
void foreign_lock_owner_died(struct heap *heap, uint32_t session_index);

int foreign_lock_take(uint32_t *futex, uint32_t tid, bool try);

void foreign_lock_wake_one(uint32_t *futex);

/* Far above the largest thread id that Linux can be told to use (2^22). */
static inline uint32_t foreign_lock_tid(uint32_t session_index)
{
	return UINT32_C(1) << 29 | ((session_index + 1) & ((UINT32_C(1) << 29) - 1));
}

static inline void foreign_lock_give(uint32_t *futex)
{
	/* release: the change before it */
	if (__builtin_expect(__atomic_exchange_n(futex, 0, __ATOMIC_RELEASE) & FUTEX_WAITERS, 0))
		foreign_lock_wake_one(futex);
}
