// SPDX-License-Identifier: MIT
/*
 * The global lock as a robust futex word: heap/change/lock.c, lock_word.c, and what the kernel does
 *
 * N takers each take the lock, change what it guards in two stores with an undo log of one entry, and give it back.
 * N_DEATHS of them may be killed, each before any of its steps. The kernel then does what it does for a dead thread
 * that names the lock as list_op_pending: if the word has the thread's id it sets FUTEX_OWNER_DIED and wakes one
 * sleeper; if the word is 0 it wakes one sleeper.
 *
 * Shown: there is one owner at a time; the next owner finds a finished change, or rolls it back; nobody sleeps for ever.
 * WAITERS_ONLY leaves out what the lock guards, so that four takers can be looked at.
 *
 * Planted: PLANT_NO_ROLL_BACK, the next owner goes on with half a change. PLANT_NO_WAKE, giving back wakes nobody.
 * PLANT_NO_TIMEOUT, a sleeper does not look again by itself: a woken taker that dies finds the word taken by another
 * one, which came between and knows of no waiters; the kernel wakes nobody then, and nor does that owner.
 */
#ifdef PLANT_NO_WAKE
#define PLANT_NO_TIMEOUT
#endif
#ifndef N
#define N 3
#endif
#ifndef N_DEATHS
#define N_DEATHS 1
#endif

#define NOBODY 0
byte tid;              /* of the word: 0, or a taker's number from 1 */
bool waiters, died;    /* the other two bits of the word */
bool asleep[N + 1], awake[N + 1];
bool listed[N + 1];    /* the word is in the thread's robust list, or pending in it */
byte n_dead, n_owners;
byte a, b, logged;     /* what the lock guards: a and b are equal; logged: the log has b's old value, plus one */

inline wake_one()
{
	if
	:: asleep[1] -> asleep[1] = false; awake[1] = true
	:: asleep[2] -> asleep[2] = false; awake[2] = true
#if N >= 3
	:: asleep[3] -> asleep[3] = false; awake[3] = true
#endif
#if N >= 4
	:: asleep[4] -> asleep[4] = false; awake[4] = true
#endif
	:: else
	fi
}

/* What the kernel does for a thread that ends: one step, as the thread runs no more. */
inline die(me)
{
	d_step {
		n_dead++;
		asleep[me] = false;
		if
		:: listed[me] && tid == me -> tid = NOBODY; died = true; n_owners--
		:: else
		fi
	}
	if
	:: listed[me] && tid == NOBODY -> atomic { wake_one() }
	:: else
	fi;
	goto gone
}
#define MAY_DIE(me) if :: n_dead < N_DEATHS -> die(me) :: true fi

proctype taker(byte me)
{
	bool found_died, others, seen_waiters;
	byte seen;

	listed[me] = true;
again:
	MAY_DIE(me);
	atomic {
		if
		:: tid == NOBODY ->
			found_died = died;
			tid = me; died = false; waiters = waiters || others;
			n_owners++;
			assert(n_owners == 1);
			goto taken
		:: else -> seen = tid; seen_waiters = waiters
		fi
	}
	MAY_DIE(me);
	atomic { /* the compare-and-swap that sets WAITERS */
		if
		:: tid == seen && waiters == seen_waiters -> waiters = true
		:: else -> goto again
		fi
	}
	MAY_DIE(me);
	atomic { /* FUTEX_WAIT, which looks at the word once more */
		if
		:: tid == seen && waiters -> asleep[me] = true
		:: else -> others = true; goto again
		fi
	}
	if
	:: atomic { awake[me] -> awake[me] = false }
#ifndef PLANT_NO_TIMEOUT
	:: atomic { asleep[me] -> asleep[me] = false }
#endif
	:: n_dead < N_DEATHS -> die(me)
	fi;
	others = true;
	goto again;
taken:
#ifndef WAITERS_ONLY
	if
	:: found_died ->
		MAY_DIE(me);
#ifndef PLANT_NO_ROLL_BACK
		if
		:: logged -> b = logged - 1; a = b
		:: else
		fi;
		MAY_DIE(me);
		logged = 0
#endif
	:: else
	fi;
	assert(logged || a == b);
	MAY_DIE(me);
	logged = b + 1;
	MAY_DIE(me);
	a = 1 - a;
	MAY_DIE(me);
	b = 1 - b;
	MAY_DIE(me);
	logged = 0; /* commit */
	assert(a == b);
#endif
	MAY_DIE(me);
	atomic { /* the exchange with 0 */
		assert(tid == me);
		tid = NOBODY; n_owners--;
		seen_waiters = waiters; waiters = false
	}
#ifdef PLANT_NO_WAKE
	goto gone;
#endif
	MAY_DIE(me);
	if
	:: seen_waiters -> atomic { wake_one() }
	:: else
	fi;
gone:
	listed[me] = false
}

init {
	atomic {
		byte i;
		for (i : 1 .. N) { run taker(i) }
	}
	/* Nobody can go on: all have ended, or they sleep and nobody will wake them. */
	timeout -> assert(!asleep[1] && !asleep[2]);
#if N >= 3
	assert(!asleep[3]);
#endif
#if N >= 4
	assert(!asleep[4])
#endif
}
