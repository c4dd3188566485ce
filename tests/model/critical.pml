// SPDX-License-Identifier: MIT
/*
 * critical.c: a session in its critical sections, which take no lock, and two processes that keep it out
 *
 * The session makes N_CALLS calls. In the critical section of each it stores two words of its own, which are equal for
 * any process that reads them while the session is kept out. The blocker is the daemon that trims the session's pools
 * (own_trim()), the checker is a process that checks the heap. Each of the three may die at any step. The session must
 * end: the request of a blocker that died must not keep it out for ever.
 *
 *   session:  critical.h  critical_enter(), critical_light_barrier(), critical_leave();  own.c  enter(),
 *             session_serve_requests()
 *   blocker:  critical.c  critical_block(), critical_unblock();  own_trim.c  own_trim()
 *   checker:  critical.c  critical_block_all(), critical_is_active(), critical_unblock_all();  check.c  heap_check()
 *
 * Order that it depends on: the session stores that it is active, then loads the requests; the blocker stores its
 * request, then loads whether the session is active. With a barrier between store and load on either side, at least
 * one of the two sees the other's store. The session's barrier is one for the compiler only; membarrier() makes it
 * whole.
 *
 * PLANT_LOAD_FIRST lets the session load the requests before its store, as a compiler or a processor may.
 * PLANT_NO_MEMBARRIER leaves the barrier out on the other side.
 */
#define SESSION     0
#define BLOCKER     1
#define BUFFERED    SESSION
#define CHECKER     2
#define N_PROCESSES 3
#ifndef N_CALLS
#define N_CALLS 2
#endif

#define ACTIVE   0 /* session_entry.activity: is it in a critical section? */
#define REQUESTS 1 /* session_entry.requests: REQUEST_BLOCK */
#define LEFT     2 /* two words that the session owns */
#define RIGHT    3
#define N_WORDS  4

#include "memory.pml"

/* Of the model, not of the heap */
bool blocks[N_PROCESSES]; /* it relies on the session to be out */
bool is_active;           /* the session relies on nobody to block it */

inline commit()
{
	atomic { clear_log() }
}

inline enter(ret)
{
#ifdef PLANT_LOAD_FIRST
	load(REQUESTS, ret);
	buffered(ACTIVE, 1)
#else
	buffered(ACTIVE, 1);
	load(REQUESTS, ret)
#endif
}

proctype session()
{
	byte n, a, i;

	{
		do
		:: n < N_CALLS ->
			enter(a);
			if
			:: a ->
				buffered(ACTIVE, 0);
				lock_take(SESSION); /* session_serve_requests() */
				mem[REQUESTS] = 0;
				commit();
				lock_give()
			:: else ->
				atomic { is_active = true; assert((!blocks[BLOCKER] || dead[BLOCKER]) && (!blocks[CHECKER] || dead[CHECKER])) }
				buffered(LEFT, n + 1);
				buffered(RIGHT, n + 1);
				is_active = false;
				buffered(ACTIVE, 0);
				n++
			fi
		:: else -> break
		od;
		atomic { n = 0; a = 0; i = 0; done[SESSION] = true }
	} unless { atomic { death?eval(SESSION) -> die(SESSION); n = 0; a = 0; i = 0 } }
}

proctype blocker()
{
	byte i;

	{
		lock_take(BLOCKER);
		mem[REQUESTS] = 1;
		membarrier();
		if
		:: mem[ACTIVE] == 0 ->
			blocks[BLOCKER] = true;
			assert(!is_active);
			assert(mem[LEFT] == mem[RIGHT]);
			set(LEFT, 9); /* it changes what the session owns */
			set(RIGHT, 9);
			commit();
			blocks[BLOCKER] = false
		:: else
		fi;
		mem[REQUESTS] = 0;
		lock_give();
		done[BLOCKER] = true
	} unless { atomic { death?eval(BLOCKER) -> die(BLOCKER); i = 0 } }
}

proctype checker()
{
	byte i;

	{
		lock_take(CHECKER);
		mem[REQUESTS] = 1;
		membarrier();
		if
		:: mem[ACTIVE] == 0 -> /* what it waits for, for some time */
			blocks[CHECKER] = true;
			assert(!is_active);
			assert(mem[LEFT] == mem[RIGHT]);
			blocks[CHECKER] = false
		:: true /* it has waited long enough: it leaves the session's words alone */
		fi;
		mem[REQUESTS] = 0;
		lock_give();
		done[CHECKER] = true
	} unless { atomic { death?eval(CHECKER) -> die(CHECKER); i = 0 } }
}

proctype killer()
{
	do
	:: kill(SESSION)
	:: kill(BLOCKER)
	:: kill(CHECKER)
	:: break
	od
}

init
{
	atomic {
		run session();
		run blocker();
		run checker();
		run killer()
	}
	/* No living process waits for ever: the watcher would see that nothing moves. */
	done[SESSION] || dead[SESSION];
	done[BLOCKER] || dead[BLOCKER];
	done[CHECKER] || dead[CHECKER];
	finished = true
}
