// SPDX-License-Identifier: MIT
/*
 * The gate: one session that works without the lock, and two who keep it out
 *
 * The session makes N_CALLS calls; in each it stores two words of its own that must be the same for whoever looks at
 * them with the session kept out. One closer is the daemon that takes things back (own_collect()), the other one who
 * checks the heap. Any of the three may die at any step. The session must come to its end: a closer that died leaves its
 * word of attention, and that must keep nobody out for ever.
 *
 *   session:  gate.h  gate_enter(), gate_light_barrier(), gate_leave();  own.c  enter(), session_attend()
 *   closer:   gate.c  gate_close(), gate_open();  own.c  own_collect()
 *   checker:  gate.c  gate_close_all(), gate_is_inside(), gate_open_all();  check.c  heap_check()
 */
#define OWNER       0
#define CLOSER      1
#define CHECKER     2
#define N_PROCESSES 3
#ifndef N_CALLS
#define N_CALLS 2
#endif

#define INSIDE  0 /* session_entry.in_call: is it inside? */
#define ATT     1 /* session_entry.attention: ATTENTION_CLOSED */
#define LEFT    2 /* two words of the session's own */
#define RIGHT   3
#define N_WORDS 4

#include "memory.pml"

bool looking[N_PROCESSES]; /* it takes the session to be out */
bool inside;               /* the session takes nobody to be looking */

inline commit()
{
	atomic { forget_log() }
}

inline enter_is_free(ret)
{
#ifdef PLANT_LOOK_FIRST /* the compiler, or the processor, loads before the store is seen */
	load(ATT, ret);
	buffered(INSIDE, 1)
#else
	buffered(INSIDE, 1);
	load(ATT, ret)
#endif
}

proctype session()
{
	byte n, a, i;

	{
		do
		:: n < N_CALLS ->
			enter_is_free(a);
			if
			:: a ->
				buffered(INSIDE, 0);
				lock_take(OWNER); /* session_attend() */
				mem[ATT] = 0;
				commit();
				lock_give()
			:: else ->
				atomic { inside = true; assert((!looking[CLOSER] || dead[CLOSER]) && (!looking[CHECKER] || dead[CHECKER])) }
				buffered(LEFT, n + 1);
				buffered(RIGHT, n + 1);
				inside = false;
				buffered(INSIDE, 0);
				n++
			fi
		:: else -> break
		od;
		atomic { n = 0; a = 0; i = 0; done[OWNER] = true }
	} unless { atomic { doomed == OWNER -> die(OWNER); n = 0; a = 0; i = 0 } }
}

proctype closer()
{
	byte i;

	{
		lock_take(CLOSER);
		mem[ATT] = 1;
		membarrier();
		if
		:: mem[INSIDE] == 0 ->
			looking[CLOSER] = true;
			assert(!inside);
			assert(mem[LEFT] == mem[RIGHT]);
			set(LEFT, 9); /* what it changes is the session's own */
			set(RIGHT, 9);
			commit();
			looking[CLOSER] = false
		:: else
		fi;
		mem[ATT] = 0;
		lock_give();
		done[CLOSER] = true
	} unless { atomic { doomed == CLOSER -> die(CLOSER); i = 0 } }
}

proctype checker()
{
	byte i;

	{
		lock_take(CHECKER);
		mem[ATT] = 1;
		membarrier();
		if
		:: mem[INSIDE] == 0 -> /* waits a while, for this */
			looking[CHECKER] = true;
			assert(!inside);
			assert(mem[LEFT] == mem[RIGHT]);
			looking[CHECKER] = false
		:: true /* and then leaves what is inside alone */
		fi;
		mem[ATT] = 0;
		lock_give();
		done[CHECKER] = true
	} unless { atomic { doomed == CHECKER -> die(CHECKER); i = 0 } }
}

proctype killer()
{
	do
	:: kill(OWNER)
	:: kill(CLOSER)
	:: kill(CHECKER)
	:: break
	od
}

init
{
	atomic {
		run session();
		run closer();
		run checker();
		run killer()
	}
	/* Nobody who lives is left out for ever: else the watcher sees that nothing moves. */
	done[OWNER] || dead[OWNER];
	done[CLOSER] || dead[CLOSER];
	done[CHECKER] || dead[CHECKER];
	finished = true
}
