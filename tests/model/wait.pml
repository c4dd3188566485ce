// SPDX-License-Identifier: MIT
/*
 * queue_wait.c: sessions that sleep at a queue's futex until others push
 *
 * N_POPPERS sessions pop one object each and wait for it, N_PUSHERS push one object each. The queue itself is a number
 * of objects here: queue.pml has its cells. A session may die at any step, N_DEATHS of them, and then a daemon that
 * reclaims it, unless NO_DAEMON_DIES. The first popper may leave without an object after it was woken, as if it had no
 * memory for it. In the end each popper has an object, has left, is dead, or sleeps while the queue is empty. No slices
 * are in the model: nobody may depend on them but for processes that are stopped.
 *
 *   pusher:   queue.c  push_fast(), from the compare-and-swap on;  queue_wait.h  queue_signal();  queue_wait.c  queue_wake()
 *   popper:   queue.c  attempt_until();  queue_wait.c  queue_announce(), queue_wait_for(), queue_wake_next()
 *   reclaim:  recover.c  session_drop_step();  queue_recover.c  finish_change(), queue_pass_on()
 *
 * The kernel compares the futex and puts the sleeper among the sleepers in one step, and takes any of them for a wake-up.
 *
 * PLANT_CLEAR_ALONE wakes nobody after the bit was cleared. PLANT_CLEAR_ALWAYS clears it after each wake-up.
 * PLANT_NEXT_CLEARS lets a process clear it whose death nobody answers by waking all. PLANT_NO_NUMBER leaves the number as it was. PLANT_LOOK_FIRST looks at
 * the futex before the object is pushed. PLANT_ANNOUNCE_LATE sets the bit after the last look. PLANT_NO_PASS_ON lets the
 * popper leave without waking another. PLANT_FORGOTTEN does not wake another one when a dead popper is reclaimed,
 * PLANT_UNWOKEN none when a dead pusher is.
 */
#ifndef N_POPPERS
#define N_POPPERS 2
#endif
#ifndef N_PUSHERS
#define N_PUSHERS 2
#endif
#ifndef N_DEATHS
#define N_DEATHS 1
#endif

#define N_SESSIONS  (N_POPPERS + N_PUSHERS)
#define DAEMON      N_SESSIONS /* after it comes DAEMON + 1, which nobody kills */
#define N_PROCESSES (N_SESSIONS + 2)
#define BUFFERED    254
#define N_WORDS     1 /* not used: these words are changed by atomic operations alone */

#include "memory.pml"

#define WAITING  1
#define is_popper(s) ((s) < N_POPPERS)

byte futex;
bool asleep[N_PROCESSES]; /* the kernel's */
byte n_objects;
bool waits_at[N_PROCESSES];
bool intent[N_PROCESSES]; /* the push has taken place, and the intent is not over */
byte n_deaths;            /* of the model, not of the heap */

/* FUTEX_WAKE of one. */
inline wake_one(ret)
{
	atomic {
		ret = false;
		if
		:: asleep[0] -> asleep[0] = false; ret = true
#if N_POPPERS > 1
		:: asleep[1] -> asleep[1] = false; ret = true
#endif
#if N_POPPERS > 2
		:: asleep[2] -> asleep[2] = false; ret = true
#endif
		:: else
		fi
	}
}

inline wake_all()
{
	d_step {
		asleep[0] = false;
#if N_POPPERS > 1
		asleep[1] = false;
#endif
#if N_POPPERS > 2
		asleep[2] = false;
#endif
	}
}

inline move_number()
{
#ifndef PLANT_NO_NUMBER
	futex = futex + 2
#else
	skip
#endif
}

/* woken and value are the caller's; false and 0 before and after. */
inline queue_wake()
{
	atomic { move_number(); value = futex }
	wake_one(woken);
	if
#ifdef PLANT_CLEAR_ALWAYS
	:: value & WAITING -> futex = futex & 254
#else
	:: !woken && (value & WAITING) ->
		futex = futex & 254;
#ifndef PLANT_CLEAR_ALONE
		wake_all()
#endif
#endif
	:: else
	fi;
	atomic { woken = false; value = 0 }
}

inline queue_signal()
{
	if
	:: futex & WAITING -> queue_wake()
	:: else
	fi
}

/* It leaves the bit: nobody would wake all who sleep without it, if this process died before. */
inline queue_wake_next()
{
	if
	:: futex & WAITING ->
#ifdef PLANT_NEXT_CLEARS
		queue_wake()
#else
		move_number();
		wake_one(woken);
		woken = false
#endif
	:: else
	fi
}

proctype pusher(byte me)
{
	byte value;
	bool woken, looked;

	{
#ifdef PLANT_LOOK_FIRST
		looked = futex & WAITING;
#endif
		atomic { n_objects++; intent[me] = true }
#ifdef PLANT_LOOK_FIRST
		if
		:: looked -> queue_wake()
		:: else
		fi;
#else
		queue_signal();
#endif
		atomic { intent[me] = false; looked = false; done[me] = true }
	} unless { atomic { death?eval(me) -> die(me); value = 0; woken = false; looked = false } }
}

inline announce()
{
	atomic { futex = futex | WAITING; seen = futex }
}

proctype popper(byte me)
{
	byte value, seen;
	bool woken, has_slept;

	{
		waits_at[me] = true;
		do
		::
#ifdef PLANT_ANNOUNCE_LATE
			seen = futex;
#else
			announce();
#endif
			if
			:: atomic { n_objects -> n_objects--; break }
			:: me == 0 && has_slept ->
#ifndef PLANT_NO_PASS_ON
				queue_wake_next();
#endif
				break
			:: else
			fi;
#ifdef PLANT_ANNOUNCE_LATE
			announce();
#endif
			if
			:: atomic { futex == seen -> asleep[me] = true }
				atomic { !asleep[me] -> has_slept = true }
			:: else
			fi
		od;
		atomic { waits_at[me] = false; seen = 0; has_slept = false; done[me] = true }
	} unless {
		atomic { death?eval(me) -> die(me); asleep[me] = false; value = 0; seen = 0; woken = false; has_slept = false }
	}
}

#define is_lost(s) (dead[s] && !done[s])

/* One daemon after another: me is DAEMON, DAEMON + 1. */
proctype reclaim(byte me)
{
	byte s, value;
	bool woken;

	{
		me == DAEMON || dead[me - 1];
		do
		:: atomic { is_lost(0) -> s = 0 } goto one
		:: atomic { is_lost(1) -> s = 1 } goto one
		:: atomic { is_lost(2) -> s = 2 } goto one
#if N_SESSIONS > 3
		:: atomic { is_lost(3) -> s = 3 } goto one
#endif
#if N_SESSIONS > 4
		:: atomic { is_lost(4) -> s = 4 } goto one
#endif
		:: finished -> break
one:
			if
			:: waits_at[s] ->
#ifndef PLANT_FORGOTTEN
				queue_wake_next();
#endif
				waits_at[s] = false
			:: intent[s] ->
#ifndef PLANT_UNWOKEN
				move_number();
				wake_all();
#endif
				intent[s] = false
			:: else
			fi;
			atomic { done[s] = true; s = 0 }
		od;
		atomic { done[DAEMON] = true; done[me] = true }
	} unless { atomic { death?eval(me) -> die(me); s = 0; value = 0; woken = false } }
}

/* N_DEATHS sessions, then a daemon. */
inline kill_session(who)
{
	atomic { n_deaths < N_DEATHS && !done[who] && !dead[who] -> n_deaths++; death!who }
}

proctype killer()
{
	do
	:: kill_session(0)
	:: kill_session(1)
	:: kill_session(2)
#if N_SESSIONS > 3
	:: kill_session(3)
#endif
#if N_SESSIONS > 4
	:: kill_session(4)
#endif
#ifndef NO_DAEMON_DIES
	:: n_deaths -> kill(DAEMON)
#endif
	:: finished -> break
	od
}

/* In the end. */
#define is_at_rest(s) (done[s] || (is_popper(s) && asleep[s] && !n_objects))

init
{
	byte i;

	atomic {
		for (i : 0 .. N_SESSIONS - 1) {
			if
			:: is_popper(i) -> run popper(i)
			:: else -> run pusher(i)
			fi
		}
		run reclaim(DAEMON);
		run reclaim(DAEMON + 1);
		run killer();
		i = 0
	}
	atomic {
		is_at_rest(0) && is_at_rest(1) && is_at_rest(2) && (N_SESSIONS < 4 || is_at_rest(3)) &&
			(N_SESSIONS < 5 || is_at_rest(4)) -> finished = true
	}
}
