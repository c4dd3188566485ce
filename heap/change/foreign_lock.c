// SPDX-License-Identifier: MIT
/*
 * The lock for owners of other pid namespaces
 *
 * The kernel finds out that a robust mutex has a dead owner by comparing the thread id in the mutex with the id of each
 * dying thread, which is a number of the thread's own pid namespace: the first process of every container is 1. So only
 * processes of the heap's *home* namespace, that of the daemon which made it, lock by thread id. Every other process
 * puts a number into the mutex that no thread has, made of its session, and that the kernel passes over. When such a
 * process has ended, the daemon, which knows it by a pidfd, marks the mutex as the kernel would have done
 * (foreign_lock_owner_died()). While there is no daemon, all wait for one.
 *
 * The futex protocol is that of robust mutexes, so owners of both kinds wait for each other and wake each other.
 */

#include "heap/change/foreign_lock.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * A sleeper looks again after this time though nobody wakes it. A waiter that was woken may die before it takes the
 * lock. If another thread has come between and taken it, that one knows of no waiters, and the kernel wakes nobody
 * (model lock_no_timeout).
 */
#define SLEEP_NSEC 100000000

void foreign_lock_sleep(uint32_t *futex)
{
	const struct timespec at_most = {.tv_nsec = SLEEP_NSEC};
	uint32_t word = __atomic_load_n(futex, __ATOMIC_RELAXED);

	if (!(word & FUTEX_TID_MASK))
		return;
	if (!(word & FUTEX_WAITERS) && !__atomic_compare_exchange_n(futex, &word, word | FUTEX_WAITERS, false,
					       __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return;
	syscall(SYS_futex, futex, FUTEX_WAIT, word | FUTEX_WAITERS, &at_most, NULL, 0);
}

int foreign_lock_take(uint32_t *futex, uint32_t tid, bool try)
{
	uint32_t waiters = 0;

	for (;;) {
		uint32_t word = __atomic_load_n(futex, __ATOMIC_RELAXED);

		/* A thread of this very session had it and has ended: the word names sessions, not threads. */
		if ((word & FUTEX_TID_MASK) == tid)
			return EOWNERDEAD;
		if (!(word & FUTEX_TID_MASK)) {
			/* acquire: with the release of the owner before */
			if (__atomic_compare_exchange_n(futex, &word, tid | (word & FUTEX_WAITERS) | waiters, false,
				    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
				return word & FUTEX_OWNER_DIED ? EOWNERDEAD : 0;
			continue;
		}
		if (try)
			return EBUSY;
		foreign_lock_sleep(futex);
		waiters = FUTEX_WAITERS; /* others may sleep still, so this owner must wake one when it unlocks */
	}
}

void foreign_lock_wake_one(uint32_t *futex)
{
	syscall(SYS_futex, futex, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void foreign_lock_owner_died(struct heap *heap, uint32_t session_index)
{
	uint32_t *futex = lock_word(&heap->control->lock);
	uint32_t word = __atomic_load_n(futex, __ATOMIC_RELAXED);

	/* release: after all that the dead owner did, as the kernel's own mark is */
	while ((word & FUTEX_TID_MASK) == foreign_lock_tid(session_index) &&
		!__atomic_compare_exchange_n(futex, &word, (word & FUTEX_WAITERS) | FUTEX_OWNER_DIED, false,
			__ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
	/*
	 * Wake one in any case: the dead process may have owed a wake-up, having unlocked, or having just been woken.
	 * The kernel makes up for that where it knows the owner. A waiter that is woken in vain sleeps again.
	 */
	foreign_lock_wake_one(futex);
}
