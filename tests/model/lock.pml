// SPDX-License-Identifier: MIT
/*
 * The global lock as a robust futex word: heap/change/lock.c, lock_word.c, thread_list.c, and what the kernel does
 *
 * N takers each take the lock, change what it guards in two stores with an undo log of one entry, keep it in their list
 * or do not, and give it back. N_DEATHS of them may be killed, each before any of its steps. The kernel then does what
 * it does for a dead thread that names the lock as list_op_pending or has it in its list: if the word has the thread's
 * id it sets FUTEX_OWNER_DIED and wakes one sleeper; if the word is 0 it wakes one sleeper, for list_op_pending. The
 * numbers of N_REUSES threads that ended are used again by new takers.
 *
 * With BREAKS the daemon looks that often for an owner that does not exist, and breaks its lock. With FORGED the word
 * begins with any taker's number, which does not have the lock, or with a number that nobody has.
 *
 * Shown: there is one owner at a time; the next owner finds a finished change, or rolls it back; nobody sleeps for ever;
 * the kernel knows each owner that dies; the lock of a living owner is never broken. WAITERS_ONLY leaves out what the
 * lock guards, so that four takers can be looked at.
 *
 * Planted: PLANT_NO_ROLL_BACK, the next owner goes on with half a change. PLANT_NO_WAKE, giving back wakes nobody.
 * PLANT_NO_TIMEOUT, a sleeper does not look again by itself: a woken taker that dies finds the word taken by another
 * one, which came between and knows of no waiters; the kernel wakes nobody then, and nor does that owner.
 * PLANT_LISTED_LATE, list_op_pending is cleared before the lock is in the list. PLANT_UNLISTED_EARLY, the lock is taken
 * out of the list before it is named in list_op_pending. PLANT_NO_MARK, the daemon breaks a lock without a mark.
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
#ifndef N_REUSES
#define N_REUSES 0
#endif
#ifndef BREAKS
#define BREAKS 0
#endif

#define NOBODY  0
#define UNKNOWN (N + 1) /* a number that no thread has */
byte tid;              /* of the word: 0, or a taker's number from 1 */
bool waiters, died;    /* the other two bits of the word */
bool asleep[N + 1], awake[N + 1];
bool pending[N + 1];   /* the word is the thread's list_op_pending */
bool linked[N + 1];    /* it is in the thread's list */
bool exists[N + 2];
bool owns[N + 2];      /* has taken the lock, and not given it back */
byte n_dead, n_owners, n_reused;
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

inline disown(who)
{
	if
	:: owns[who] -> owns[who] = false; n_owners--
	:: else
	fi
}

/* What the kernel does for a thread that ends: one step, as the thread runs no more. */
inline die(me)
{
	d_step {
		n_dead++;
		asleep[me] = false;
		assert(!owns[me] || pending[me] || linked[me]);
		if
		:: (pending[me] || linked[me]) && tid == me -> tid = NOBODY; died = true
		:: else
		fi;
		disown(me)
	}
	if
	:: pending[me] && tid == NOBODY -> atomic { wake_one() }
	:: else
	fi;
	goto gone
}
#define MAY_DIE(me) if :: n_dead < N_DEATHS -> die(me) :: true fi

proctype taker(byte me)
{
	bool found_died, others, seen_waiters, seen_died;
	byte seen;

begin:
	pending[me] = true;
again:
	MAY_DIE(me);
	atomic {
		if
		:: tid == NOBODY || tid == me ->
			found_died = died || tid == me;
			tid = me; died = false; waiters = waiters || others;
			owns[me] = true; n_owners++;
			assert(n_owners == 1);
			goto taken
		:: else -> seen = tid; seen_waiters = waiters; seen_died = died
		fi
	}
	MAY_DIE(me);
	atomic { /* the compare-and-swap that sets WAITERS */
		if
		:: tid == seen && waiters == seen_waiters && died == seen_died -> waiters = true
		:: else -> goto again
		fi
	}
	MAY_DIE(me);
	atomic { /* FUTEX_WAIT, which looks at the word once more */
		if
		:: tid == seen && waiters && died == seen_died -> asleep[me] = true
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
	if
	:: true -> /* kept between calls */
		MAY_DIE(me);
#ifdef PLANT_LISTED_LATE
		pending[me] = false;
		MAY_DIE(me);
		linked[me] = true;
#else
		linked[me] = true;
		MAY_DIE(me);
		pending[me] = false;
#endif
		MAY_DIE(me);
#ifdef PLANT_UNLISTED_EARLY
		linked[me] = false;
		MAY_DIE(me);
		pending[me] = true
#else
		pending[me] = true;
		MAY_DIE(me);
		linked[me] = false
#endif
	:: true
	fi;
#endif
	MAY_DIE(me);
	atomic { /* the exchange with 0 */
		assert(tid == me);
		tid = NOBODY; died = false; disown(me);
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
	atomic { pending[me] = false; linked[me] = false; exists[me] = false }
	atomic {
		if
		:: n_reused < N_REUSES -> /* another thread, which knows nothing of that one */
			n_reused++;
			exists[me] = true;
			found_died = false; others = false; seen_waiters = false; seen_died = false; seen = 0;
			awake[me] = false;
			goto begin
		:: true
		fi
	}
}

/* daemon/lock_watch.c: an owner that does not exist, and lock_word_suspect(), lock_word_break() */
proctype breaker()
{
	byte rounds, name;

	do
	:: rounds < BREAKS && tid != NOBODY ->
		rounds++;
		name = tid;
#ifndef PLANT_NO_MARK
		atomic {
			if
			:: tid == name && name != NOBODY -> died = true
			:: else -> goto next
			fi
		}
#endif
		if
		:: name == NOBODY || exists[name] -> goto next
		:: else
		fi;
		atomic {
			if
#ifdef PLANT_NO_MARK
			:: tid == name ->
#else
			:: tid == name && died ->
#endif
				assert(!owns[name]);
				tid = NOBODY; died = true
			:: else -> goto next
			fi
		}
		atomic { wake_one() }
next:
		name = 0
	od
}

init {
	atomic {
		byte i;
		for (i : 1 .. N) { exists[i] = true; run taker(i) }
#ifdef FORGED
		if
		:: tid = UNKNOWN
		:: tid = 1
		:: tid = N
		fi;
		if
		:: died = true
		:: true
		fi;
		if
		:: waiters = true
		:: true
		fi;
#endif
#if BREAKS
		run breaker();
#endif
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
