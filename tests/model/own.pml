// SPDX-License-Identifier: MIT
/*
 * own.c: a session drops its own object without the lock, while strangers come to the object
 *
 * There is one block, of a pool that the owner owns. The owner makes an object in it, passes its ref on, drops it, and
 * makes the next one, N_GENERATIONS in all. N_STRANGERS strangers hold what was passed on, and drop it. The owner and
 * one stranger may die at any step, and are reclaimed. In the end each object that was made was freed once, at a
 * moment when nobody held it.
 *
 *   owner:            own.c  own_new(), enter(), take_block();  own.h  own_drop(), own_drop_last(), own_free_block();
 *                     own.c  own_settle();  own_trim.c  session_serve_requests(), own_refill();  pool.c  pool_collect()
 *   stranger:         count.c  object_incref(), object_decref();  right.c  right_retain(), retain_unshared()
 *   free_remotely():  block.c  block_remote_free();  block_give() where the pool has no owner
 *   reuse:            pool.c  pool_take() of another class: the header becomes payload of another object
 *   reclaim:          recover.c  abandon_blocks(), drop_hold()
 *
 * A header's word is generation * 16 + state * 2 + own. Order that it depends on: the owner stores the word without
 * its right, then loads the rights and the requests; the stranger stores the rights and the request, then loads the
 * word. With a barrier between store and load on either side, at least one of the two sees the other's store.
 *
 * PLANT_NO_LIGHT_BARRIER lets the owner load first, as a compiler may. PLANT_NO_MEMBARRIER leaves the barrier out on
 * the stranger's side. PLANT_RIGHTS_ALONE makes the owner judge by the rights alone, and not by the requests.
 */
#ifndef N_GENERATIONS
#define N_GENERATIONS 2
#define N_STRANGERS   1
#endif

#define OWNER       0
#define BUFFERED    OWNER
#define B           1
#define C           2
#define N_PROCESSES 5 /* two of them nobody kills */

#define WORD     0 /* object_header.word */
#define RIGHTS   1 /* object_header.rights */
#define REQUESTS 2 /* session_entry.requests of the owner: REQUEST_STRANGER */
#define POOL     3 /* pool_entry.identity: who owns the pool */
#define FREEB    4 /* pool_entry.freeblock1 */
#define PASSED   5 /* the generation that the owner's program passed on */
#define HOLD_B   6 /* the strangers' hold tables: the generation that is held */
#define HOLD_C   7
#define N_WORDS  8

#include "memory.pml"

#define FREE        0
#define LIVE        1
#define REMOTE_FREE 4
#define SHARED      8
#define OTHERS      255 /* the word is no header any more */

#define IS_OWNERS 1
#define IS_FREE   2
#define IS_OTHERS 3

#define word(g, state, own)  ((g) * 16 + (state) * 2 + (own))
#define generation(w)        ((w) / 16)
#define state(w)             (((w) / 2) % 8)
#define own(w)               ((w) % 2)
#define count(r)             ((r) % 8)
#define hold_of(me)          (HOLD_B + (me) - 1)

/* Of the model, not of the heap */
byte has[N_PROCESSES]; /* the generation that the process holds and may use */
byte made;             /* the newest generation */
byte n_freed[3];
bool only_block; /* the pool has no other block: a remote free of this one frees the pool */

inline count_freed(g)
{
	assert(n_freed[g] == 0);
	assert(has[OWNER] != g && has[B] != g && has[C] != g);
	n_freed[g]++
}

inline commit()
{
	d_step {
		clear_log();
		if
		:: pending -> count_freed(pending)
		:: else
		fi;
		pending = 0
	}
}

/* Within a change: nobody has a right to the object any more. */
inline free_remotely()
{
	assert(state(mem[WORD]) == LIVE);
	pending = generation(mem[WORD]);
	if
	:: mem[POOL] == IS_OWNERS ->
		set(WORD, word(generation(mem[WORD]), REMOTE_FREE, 0));
		set(RIGHTS, SHARED);
		if
		:: only_block -> set(POOL, IS_FREE)
		:: else
		fi
	:: else ->
		set(WORD, word(generation(mem[WORD]), FREE, 0));
		set(RIGHTS, 0)
	fi
}

/* Within a change. */
inline drop_right()
{
	assert(count(mem[RIGHTS]) > 0);
	set(RIGHTS, mem[RIGHTS] - 1);
	if
	:: own(mem[WORD]) == 0 && count(mem[RIGHTS]) == 0 -> free_remotely()
	:: else
	fi
}

/* Within a change. */
inline collect()
{
	if
	:: mem[POOL] == IS_OWNERS && state(mem[WORD]) == REMOTE_FREE ->
		set(WORD, word(generation(mem[WORD]), FREE, 0));
		set(RIGHTS, 0);
		set(FREEB, 1)
	:: else
	fi
}

inline serve_requests()
{
	lock_take(OWNER);
	mem[REQUESTS] = 0;
	collect();
	commit();
	lock_give()
}

proctype owner()
{
	byte g = 1, r, a, i;

	{
		do
		:: g <= N_GENERATIONS ->
			/* make */
			do
			:: true ->
				load(REQUESTS, a);
				if
				:: a -> serve_requests()
				:: else ->
					d_step { load(RIGHTS, r); load(FREEB, a) }
					if
					:: mem[POOL] != IS_OWNERS -> goto out
					:: mem[POOL] == IS_OWNERS && !a -> lock_take(OWNER); collect(); commit(); lock_give()
					:: mem[POOL] == IS_OWNERS && a && r -> lock_take(OWNER); commit(); lock_give()
					:: mem[POOL] == IS_OWNERS && a && !r -> break
					fi
				fi
			od;
			atomic { buffered(WORD, word(g, LIVE, 1)); made = g; has[OWNER] = g }
			buffered(FREEB, 0);
			buffered(PASSED, g);
			/* drop */
			load(RIGHTS, r);
			if
			:: r -> goto drop_locked
			:: else
			fi;
			load(REQUESTS, a);
			if
			:: a -> serve_requests(); goto drop_locked
			:: else
			fi;
			has[OWNER] = 0;
#ifdef PLANT_NO_LIGHT_BARRIER
			load(RIGHTS, r);
			load(REQUESTS, a);
			buffered(WORD, word(g, LIVE, 0));
#else
			buffered(WORD, word(g, LIVE, 0));
			load(RIGHTS, r);
			load(REQUESTS, a);
#endif
#ifdef PLANT_RIGHTS_ALONE
			a = 0;
#endif
			if
			:: r || a ->
				lock_take(OWNER);
				if
				:: mem[POOL] == IS_OWNERS && mem[WORD] == word(g, LIVE, 0) && !count(mem[RIGHTS]) -> free_remotely()
				:: else
				fi;
				commit();
				lock_give()
			:: else ->
				atomic { buffered(WORD, word(g, FREE, 0)); count_freed(g) }
				buffered(FREEB, 1)
			fi;
			goto dropped;
drop_locked:
			lock_take(OWNER);
			has[OWNER] = 0;
			set(WORD, mem[WORD] - 1);
			if
			:: !count(mem[RIGHTS]) -> free_remotely()
			:: else
			fi;
			commit();
			lock_give();
dropped:
			g++
		:: else -> break
		od;
out:
		atomic { g = 0; r = 0; a = 0; i = 0; done[OWNER] = true }
	} unless { atomic { death?eval(OWNER) -> die(OWNER); g = 0; r = 0; a = 0; i = 0 } }
}

proctype stranger(byte me)
{
	byte g, r, w, i;

	{
		mem[PASSED] > 0 || done[OWNER];
		g = mem[PASSED];
		if
		:: !g -> goto out
		:: else
		fi;
		/* hold */
		lock_take(me);
		d_step { w = mem[WORD]; r = mem[RIGHTS] }
		if
		:: mem[POOL] == IS_OTHERS || generation(w) != g || state(w) != LIVE || (!own(w) && !count(r)) ->
			lock_give();
			goto out
		:: else
		fi;
		set(hold_of(me), g);
		set(RIGHTS, (r + 1) | SHARED);
		if
		:: !(r & SHARED) && mem[POOL] == IS_OWNERS ->
			mem[REQUESTS] = 1;
			membarrier();
			w = mem[WORD];
			if
			:: generation(w) != g || state(w) != LIVE || !own(w) -> /* -ESTALE */
				roll_back();
				lock_give();
				goto out
			:: else
			fi
		:: else
		fi;
		atomic { commit(); has[me] = g }
		lock_give();
		/* use */
		assert(generation(mem[WORD]) == g && state(mem[WORD]) == LIVE);
		/* drop */
		has[me] = 0;
		lock_take(me);
		assert(generation(mem[WORD]) == g && state(mem[WORD]) == LIVE);
		set(hold_of(me), 0);
		drop_right();
		commit();
		lock_give();
out:
		atomic { g = 0; r = 0; w = 0; i = 0; done[me] = true }
	} unless { atomic { death?eval(me) -> die(me); g = 0; r = 0; w = 0; i = 0 } }
}

/* A free pool gets another class. Nobody kills this process. */
#define REUSER 3
bool reuse_done;

proctype reuse()
{
	byte i;

	mem[POOL] == IS_FREE && lock_owner == NOBODY || done[OWNER] && done[B] && done[C];
	if
	:: mem[POOL] == IS_FREE ->
		lock_take(REUSER);
		if
		:: mem[POOL] == IS_FREE && state(mem[WORD]) != LIVE ->
			d_step { mem[POOL] = IS_OTHERS; mem[WORD] = OTHERS; mem[RIGHTS] = 0 }
		:: else
		fi;
		lock_give()
	:: else
	fi;
	reuse_done = true
}

#define DAEMON 4

proctype reclaim()
{
	byte i, me;

	do
	:: dead[OWNER] && !done[OWNER] ->
		lock_take(DAEMON);
		has[OWNER] = 0;
		if
		:: mem[POOL] == IS_OWNERS ->
			if
			:: state(mem[WORD]) == LIVE && own(mem[WORD]) -> set(WORD, mem[WORD] - 1)
			:: else
			fi;
			if
			:: state(mem[WORD]) == LIVE && !count(mem[RIGHTS]) ->
				pending = generation(mem[WORD]);
				set(WORD, word(generation(mem[WORD]), FREE, 0));
				set(RIGHTS, 0)
			:: state(mem[WORD]) == REMOTE_FREE ->
				set(WORD, word(generation(mem[WORD]), FREE, 0));
				set(RIGHTS, 0)
			:: else
			fi;
			set(POOL, IS_FREE)
		:: else
		fi;
		commit();
		lock_give();
		done[OWNER] = true
	:: dead[B] && !done[B] || dead[C] && !done[C] ->
		me = (dead[B] && !done[B] -> B : C);
		lock_take(DAEMON);
		has[me] = 0;
		if
		:: mem[hold_of(me)] ->
			set(hold_of(me), 0);
			drop_right()
		:: else
		fi;
		commit();
		lock_give();
		done[me] = true
	:: done[OWNER] && done[B] && done[C] -> break
	od
}

proctype killer()
{
	do
	:: kill(OWNER)
	:: kill(B) /* and not C, which does what B does */
	:: break
	od
}

init
{
	byte g;

	atomic {
		mem[POOL] = IS_OWNERS;
		mem[FREEB] = 1;
		if
		:: only_block = true
		:: only_block = false
		fi;
		run owner();
		run stranger(B);
		if
		:: N_STRANGERS == 2 -> run stranger(C)
		:: else -> done[C] = true
		fi;
		run reuse();
		run reclaim();
		run killer()
	}
	done[OWNER] && done[B] && done[C] && reuse_done && n_buffered == 0;
	for (g : 1 .. N_GENERATIONS) {
		assert(n_freed[g] == (g <= made))
	}
	assert(!mem[HOLD_B] && !mem[HOLD_C] && !n_log);
	assert(mem[POOL] != IS_OTHERS || mem[WORD] == OTHERS);
	assert(mem[POOL] == IS_OTHERS || state(mem[WORD]) == REMOTE_FREE || (mem[WORD] % 16 == 0 && !mem[RIGHTS]));
	assert(mem[POOL] != IS_OWNERS || (state(mem[WORD]) == FREE) == mem[FREEB]);
	finished = true
}
