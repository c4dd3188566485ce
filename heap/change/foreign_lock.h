/* SPDX-License-Identifier: MIT */
#pragma once

/* The lock for owners that the kernel cannot find, of other pid namespaces than the heap's. See foreign_lock.c. */

#include "heap/change/lock_word.h"
#include "heap/shared/heap.h"

#define THREAD_ID_MAX (UINT32_C(1) << 22) /* of Linux, inclusive */

/* What the word has while such a session owns the lock. Above every thread id of Linux. */
static inline uint32_t foreign_lock_tid(uint32_t session_index)
{
	return UINT32_C(1) << 29 | ((session_index + 1) & ((UINT32_C(1) << 29) - 1));
}

/* Of which session is the name, if it is such a number? SESSION_DAEMON: the daemon's. */
static inline uint32_t foreign_lock_session(uint32_t name)
{
	uint32_t index1 = name & ((UINT32_C(1) << 29) - 1);

	return index1 == (SESSION_DAEMON + 1) % (UINT32_C(1) << 29) ? SESSION_DAEMON : index1 - 1;
}

/*
 * Daemon: the process of that session (or the daemon before, SESSION_DAEMON) has ended for certain. If it had the lock
 * and is of another pid namespace, the next taker learns now that the owner is dead. Idempotent.
 */
void foreign_lock_owner_died(struct heap *heap, uint32_t session_index);
