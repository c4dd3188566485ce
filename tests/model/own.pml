// SPDX-License-Identifier: MIT
/*
 * Dropping one's own object without the lock, while strangers come to it
 *
 * One block of a pool that the owner owns. The owner makes an object in it, tells its number to everybody, drops it,
 * and so on. Strangers try to hold what they heard of, and drop it. Owner and one stranger may die at any step,
 * and are reclaimed. When all have come to an end each object that was made was freed once, while nobody held it.
 *
 *   owner:    own.c  own_new(): enter(), take_block();  own_drop(), own_drop_last(), settle(), free_block();
 *                    session_attend(), own_refill() with pool.c pool_gather();  object.c drop_in_change()
 *   stranger: object.c  object_incref(): object_find(), object_retain(), retain_unshared();  object_decref()
 *   give:     pool.c  block_return(), of a pool without an owner block_give()
 *   reuse:    pool.c  pool_take() with another class: what was a header is somebody's payload
 *   reclaim:  recover.c  leave_blocks(), drop_hold()
 *
 * A header's word is generation * 16 + state * 2 + own. In PLANT_... the fault is put in that must be found.
 */
#ifndef N_GENERATIONS
#define N_GENERATIONS 2
#define N_STRANGERS   1
#endif

#define OWNER       0
#define B           1
#define C           2
#define N_PROCESSES 5 /* with two that nobody kills */

#define WORD     0 /* object_header.word */
#define RIGHTS   1 /* object_header.rights */
#define ATT      2 /* session_entry.attention of the owner: ATTENTION_STRANGER */
#define POOL     3 /* pool_entry.identity: whose it is */
#define FREEB    4 /* pool_entry.freeblock1 */
#define KNOWN    5 /* what the owner's program told: a generation */
#define HOLD_B   6 /* the strangers' hold tables: a generation */
#define HOLD_C   7
#define N_WORDS  8

#include "memory.pml"

#define FREE     0
#define LIVE     1
#define RETURNED 4
#define SHARED   8
#define OTHERS   255 /* what the word is when it is a header no more */

#define IS_OWNERS 1
#define IS_FREE   2
#define IS_OTHERS 3

#define word(g, state, own)  ((g) * 16 + (state) * 2 + (own))
#define generation(w)        ((w) / 16)
#define state(w)             (((w) / 2) % 8)
#define own(w)               ((w) % 2)
#define count(r)             ((r) % 8)
#define hold_of(me)          (HOLD_B + (me) - 1)

byte has[N_PROCESSES]; /* the object that the process has and may use; of the model, as the two below */
byte made;
byte n_freed[3];
bool only_block; /* the pool has no other, so that it goes when this one is returned */

inline count_freed(g)
{
	assert(n_freed[g] == 0);
	assert(has[OWNER] != g && has[B] != g && has[C] != g);
	n_freed[g]++
}

inline commit()
{
	d_step {
		forget_log();
		if
		:: pending -> count_freed(pending)
		:: else
		fi;
		pending = 0
	}
}

/* Within a change: nobody has a right to it any more. */
inline give()
{
	assert(state(mem[WORD]) == LIVE);
	pending = generation(mem[WORD]);
	if
	:: mem[POOL] == IS_OWNERS ->
		set(WORD, word(generation(mem[WORD]), RETURNED, 0));
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

/* Within a change: one right less. */
inline drop_right()
{
	assert(count(mem[RIGHTS]) > 0);
	set(RIGHTS, mem[RIGHTS] - 1);
	if
	:: own(mem[WORD]) == 0 && count(mem[RIGHTS]) == 0 -> give()
	:: else
	fi
}

/* With the lock held. */
inline gather()
{
	if
	:: mem[POOL] == IS_OWNERS && state(mem[WORD]) == RETURNED ->
		set(WORD, word(generation(mem[WORD]), FREE, 0));
		set(RIGHTS, 0);
		set(FREEB, 1)
	:: else
	fi
}

inline attend()
{
	lock_take(OWNER);
	mem[ATT] = 0;
	gather();
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
				load(ATT, a);
				if
				:: a -> attend()
				:: else ->
					d_step { load(RIGHTS, r); load(FREEB, a) }
					if
					:: mem[POOL] != IS_OWNERS -> goto out
					:: mem[POOL] == IS_OWNERS && !a -> lock_take(OWNER); gather(); commit(); lock_give()
					:: mem[POOL] == IS_OWNERS && a && r -> lock_take(OWNER); commit(); lock_give()
					:: mem[POOL] == IS_OWNERS && a && !r -> break
					fi
				fi
			od;
			atomic { buffered(WORD, word(g, LIVE, 1)); made = g; has[OWNER] = g }
			buffered(FREEB, 0);
			buffered(KNOWN, g);
			/* drop */
			load(RIGHTS, r);
			if
			:: r -> goto drop_locked
			:: else
			fi;
			load(ATT, a);
			if
			:: a -> attend(); goto drop_locked
			:: else
			fi;
			has[OWNER] = 0;
#ifdef PLANT_NO_LIGHT_BARRIER /* nothing keeps the compiler from loading first */
			load(RIGHTS, r);
			load(ATT, a);
			buffered(WORD, word(g, LIVE, 0));
#else
			buffered(WORD, word(g, LIVE, 0));
			load(RIGHTS, r);
			load(ATT, a);
#endif
#ifdef PLANT_RIGHTS_ALONE
			a = 0;
#endif
			if
			:: r || a ->
				lock_take(OWNER);
				if
				:: mem[POOL] == IS_OWNERS && mem[WORD] == word(g, LIVE, 0) && !count(mem[RIGHTS]) -> give()
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
			:: !count(mem[RIGHTS]) -> give()
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
	} unless { atomic { doomed == OWNER -> die(OWNER); g = 0; r = 0; a = 0; i = 0 } }
}

proctype stranger(byte me)
{
	byte g, r, w, i;

	{
		mem[KNOWN] > 0 || done[OWNER];
		g = mem[KNOWN];
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
			mem[ATT] = 1;
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
	} unless { atomic { doomed == me -> die(me); g = 0; r = 0; w = 0; i = 0 } }
}

/* Nobody's pool that is wholly free becomes one of another class. Nobody kills it. */
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
			:: state(mem[WORD]) == RETURNED ->
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
	:: kill(B) /* C is as B */
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
	assert(mem[POOL] == IS_OTHERS || state(mem[WORD]) == RETURNED || (mem[WORD] % 16 == 0 && !mem[RIGHTS]));
	assert(mem[POOL] != IS_OWNERS || (state(mem[WORD]) == FREE) == mem[FREEB]);
	finished = true
}
