// SPDX-License-Identifier: MIT
/*
 * The futex word of the global lock
 *
 * It is a robust futex, as the kernel defines them: the owner's thread id, FUTEX_WAITERS while others sleep, and
 * FUTEX_OWNER_DIED, which the kernel sets when the owner ends (thread_list.c). Owners that the kernel cannot know have
 * other names there (foreign_lock.c). Nothing else of the lock says who has it.
 *
 * Anybody who maps the heap can write anything there. So each function reads the word once a turn and goes by what it
 * read; every wait ends after SLEEP_NSEC, to look again; and who finds its own name there, and knows that it has not
 * taken the lock, takes it as from a dead owner.
 *
 * Breaking. A name that nobody has stays until the daemon breaks it. To find out about the owner takes time, in which
 * the owner may give the lock back, and another thread may get the owner's id and take it. So the daemon first sets
 * FUTEX_OWNER_DIED beside the name. That changes nothing for an owner, who gives the lock back, or for the kernel, when
 * the owner dies; both remove the mark with the name, and a new owner begins without it. So as long as the mark is
 * there, the owner is the one that the daemon asked about. There is one daemon: model lock.pml, no_mark.
 */

#include "heap/change/lock_word.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * A sleeper looks again after this time though nobody wakes it. A waiter that was woken may die before it takes the
 * lock. If another thread has come between and taken it, that one knows of no waiters, and the kernel wakes nobody
 * (model lock_no_timeout).
 */
#define SLEEP_NSEC   100000000
#define TRIES_OF_TRY 100U /* of one who does not wait, while others change the word under its hands */

static void sleep_briefly(uint32_t *futex)
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

int lock_word_take(uint32_t *futex, uint32_t me, uint32_t me_too, bool try)
{
	uint32_t waiters = 0;

	for (uint32_t i = 0; !try || i < TRIES_OF_TRY; i++) {
		uint32_t word = __atomic_load_n(futex, __ATOMIC_RELAXED), owner = word & FUTEX_TID_MASK;
		bool is_dead = owner || word & FUTEX_OWNER_DIED;

		if (!owner || owner == me || owner == me_too) {
			/* acquire: with the release of the owner before. A mark of lock_word_suspect() goes. */
			if (__atomic_compare_exchange_n(futex, &word, me | (word & FUTEX_WAITERS) | waiters, false,
				    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
				return is_dead ? EOWNERDEAD : 0;
			continue;
		}
		if (try)
			return EBUSY;
		sleep_briefly(futex);
		waiters = FUTEX_WAITERS; /* others may sleep still, so this owner must wake one when it unlocks */
	}
	return EBUSY;
}

void lock_word_wake_one(uint32_t *futex)
{
	syscall(SYS_futex, futex, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* While the word names that owner, and has all bits of `mark`: replace all but FUTEX_WAITERS. False: it did not. */
static bool replace(uint32_t *futex, uint32_t owner, uint32_t mark, uint32_t by)
{
	uint32_t word = __atomic_load_n(futex, __ATOMIC_RELAXED);

	while ((word & FUTEX_TID_MASK) == owner && (word & mark) == mark)
		/* release: after all that a dead owner did, as the kernel's own mark is, or this thread */
		if (__atomic_compare_exchange_n(
			    futex, &word, (word & FUTEX_WAITERS) | by, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
			return true;
	return false;
}

void lock_word_rename(uint32_t *futex, uint32_t owner, uint32_t name)
{
	if (!replace(futex, owner, 0, name) || name)
		return;
	/* The bit stays with nobody's name: it says no more than that somebody may wait. */
	lock_word_wake_one(futex);
}

void lock_word_owner_died(uint32_t *futex, uint32_t owner)
{
	(void)replace(futex, owner, 0, FUTEX_OWNER_DIED);
	/*
	 * Wake one in any case: the dead process may have owed a wake-up, having unlocked, or having just been woken.
	 * The kernel makes up for that where it knows the owner. A waiter that is woken in vain sleeps again.
	 */
	lock_word_wake_one(futex);
}

bool lock_word_suspect(uint32_t *futex, uint32_t owner)
{
	return replace(futex, owner, 0, owner | FUTEX_OWNER_DIED);
}

bool lock_word_break(uint32_t *futex, uint32_t owner)
{
	bool is_broken = replace(futex, owner, FUTEX_OWNER_DIED, FUTEX_OWNER_DIED);

	if (is_broken)
		lock_word_wake_one(futex);
	return is_broken;
}
