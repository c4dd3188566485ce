/* SPDX-License-Identifier: MIT */
/* Owners of the lock that are of other pid namespaces */

#include "heap/change/foreign_lock.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

int foreign_lock_take(uint32_t *futex, uint32_t tid, bool try)
{
	uint32_t waiters = 0;

	for (;;) {
		uint32_t word = __atomic_load_n(futex, __ATOMIC_RELAXED);

		/* It was a thread of this very session, which is over: its word says nothing of threads. */
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
		if (!(word & FUTEX_WAITERS) && !__atomic_compare_exchange_n(futex, &word, word | FUTEX_WAITERS, false,
						       __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			continue;
		syscall(SYS_futex, futex, FUTEX_WAIT, word | FUTEX_WAITERS, NULL, NULL, 0);
		waiters = FUTEX_WAITERS; /* others may sleep still: whoever unlocks must look after them */
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

	/* release: as the kernel's own mark, after all that the dead one did */
	while ((word & FUTEX_TID_MASK) == foreign_lock_tid(session_index) &&
		!__atomic_compare_exchange_n(futex, &word, (word & FUTEX_WAITERS) | FUTEX_OWNER_DIED, false,
			__ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
	/*
	 * Whatever was found: it may have died owing a wake-up, after it unlocked, or having just been woken. The
	 * kernel makes up for that where it knows the owner; a needless one makes its receiver look, and sleep again.
	 */
	syscall(SYS_futex, futex, FUTEX_WAKE, 1, NULL, NULL, 0);
}
