// SPDX-License-Identifier: MIT
/*
 * Blocks that others free, and who gathers them
 *
 * A pool of two blocks that the owner owns, both of them objects: one that only B holds, another that B or the owner
 * holds. B drops what it holds; the owner drops its own, makes objects and drops them, and gathers when it finds no
 * block; the daemon collects when the pool is free; whoever returns the last block of a full pool takes the pool. Any of
 * owner, B and daemon may die at any step. No block is given out while it is an object, none is lost or freed twice, and
 * what was given back is not touched any more.
 *
 *   owner:    own.c   own_new(), take_block(); own_drop_last(), free_block() of an object that nobody else knows;
 *                     own_refill(), session_attend(), with pool.c pool_gather()
 *   return:   pool.c  memory_give(), block_return(), block_give(), pool_disown()
 *   collect:  own.c   own_collect(), collect_pools(), with gate.c gate_close(), gate_open()
 *   reuse:    pool.c  pool_take() with another class
 *   reclaim:  recover.c  leave_blocks(), with pool.c pool_count_blocks(); drop_hold()
 *
 * A header's word is link * 8 + state.
 */
#define OWNER       0
#define B           1
#define COLLECTOR   2
#define DAEMON      3 /* as REUSER: nobody kills it */
#define REUSER      4
#define N_PROCESSES 5

#define WORD    0 /* two: object_header.word of each block */
#define HOLD    2 /* two: does B's hold table have it? */
#define N_RET   4 /* pool_entry.n_returned; not 0: it is on the owner's returned_pools */
#define POOL    5 /* pool_entry.identity */
#define N_USED  6
#define FREEB   7 /* freeblock1 */
#define USED    8 /* is it on the owner's usedpools? */
#define INSIDE  9 /* the owner's in_call: is it inside? */
#define ATT     10
#define N_WORDS 11
#define N_LOG   12

#include "memory.pml"

#define FREE     0
#define LIVE     1
#define RETURNED 4
#define OTHERS   255

#define IS_OWNERS 1
#define IS_FREE   2
#define IS_OTHERS 3
#define IS_NOBODYS 4

#define state(w) ((w) % 8)
#define link(w)  ((w) / 8)

bool alive[2]; /* is the block an object? Of the model; as bits in `pending`, what a change will have freed */
bool reuse_done;

inline end_of(x)
{
	assert(alive[x]);
	alive[x] = false
}

inline commit()
{
	d_step {
		forget_log();
		if
		:: pending & 1 -> end_of(0)
		:: else
		fi;
		if
		:: pending & 2 -> end_of(1)
		:: else
		fi;
		assert(mem[POOL] != IS_FREE || (!alive[0] && !alive[1]));
		pending = 0
	}
}

/* Within a change. */
inline give(x)
{
	assert(state(mem[WORD + x]) == LIVE && mem[POOL] != IS_OTHERS && mem[POOL] != IS_FREE);
	pending = pending | (1 << x);
	if
	:: mem[POOL] == IS_OWNERS ->
		set(WORD + x, RETURNED);
		set(N_RET, mem[N_RET] + 1);
		if
		:: mem[N_RET] == 2 ->
			assert(!mem[USED]);
			set(N_USED, 0);
			set(N_RET, 0);
			set(POOL, IS_FREE)
		:: else
		fi
	:: else ->
		set(WORD + x, mem[FREEB] * 8 + FREE);
		set(FREEB, x + 1);
		set(N_USED, mem[N_USED] - 1);
		if
		:: mem[N_USED] == 0 -> set(POOL, IS_FREE)
		:: else
		fi
	fi
}

/* As set(), or, with the fault, as the owner would do it in the gate. */
inline gather_set(where, what)
{
#ifdef PLANT_GATHER_UNLOCKED
	mem[where] = what
#else
	set(where, what)
#endif
}

inline gather_block(x)
{
	if
	:: state(mem[WORD + x]) == RETURNED ->
		gather_set(WORD + x, mem[FREEB] * 8 + FREE);
		gather_set(FREEB, x + 1);
		gather_set(N_USED, mem[N_USED] - 1)
	:: else
	fi
}

inline gather()
{
	if
	:: mem[POOL] == IS_OWNERS && mem[N_RET] ->
		gather_block(0);
		gather_block(1);
		gather_set(N_RET, 0);
		gather_set(USED, 1)
	:: else
	fi
}

inline gather_in_change()
{
#ifdef PLANT_GATHER_UNLOCKED
	n_buffered == 0; /* not even late */
	mem[ATT] = 0;
	gather()
#else
	lock_take(OWNER);
	mem[ATT] = 0;
	gather();
	commit();
	lock_give()
#endif
}

/* In the gate. */
inline enter()
{
	do
	:: true ->
		buffered(INSIDE, 1);
		load(ATT, a);
		if
		:: a -> buffered(INSIDE, 0); gather_in_change()
		:: else -> break
		fi
	od
}

/* In the gate: nobody else knows it. */
inline free_block(x)
{
	d_step { load(FREEB, a); load(N_USED, n) }
	atomic { buffered(WORD + x, a * 8 + FREE); end_of(x) }
	buffered(FREEB, x + 1);
	buffered(N_USED, n - 1);
	if
	:: n == 2 && a == 0 -> buffered(USED, 1)
	:: else
	fi
}

/* In the gate, with room. */
inline take_block()
{
	d_step { load(FREEB, x); assert(x); x--; load(WORD + x, a); load(N_USED, n); assert(state(a) == FREE) }
	atomic { buffered(WORD + x, LIVE); assert(!alive[x]); alive[x] = true }
	buffered(FREEB, link(a));
	buffered(N_USED, n + 1);
	if
	:: link(a) == 0 -> buffered(USED, 0)
	:: else
	fi
}

proctype owner(bool has_one)
{
	byte a, n, x, i, turn;

	{
		if
		:: has_one -> enter(); free_block(1); buffered(INSIDE, 0)
		:: else
		fi;
		do
		:: turn < 2 ->
			enter();
			load(USED, a);
			if
			:: a ->
				take_block();
				buffered(INSIDE, 0);
				enter();
				free_block(x);
				buffered(INSIDE, 0);
				turn++
			:: else ->
				buffered(INSIDE, 0);
				if
				:: mem[POOL] == IS_OWNERS -> gather_in_change()
				:: else -> break /* another pool, which is another story */
				fi;
				turn++
			fi
		:: else -> break
		od;
		atomic { a = 0; n = 0; x = 0; i = 0; turn = 0; done[OWNER] = true }
	} unless { atomic { doomed == OWNER -> die(OWNER); a = 0; n = 0; x = 0; i = 0; turn = 0 } }
}

inline drop_hold(x)
{
	set(HOLD + x, 0);
	give(x)
}

proctype foreigner()
{
	byte i;

	{
		lock_take(B);
		drop_hold(0);
		commit();
		lock_give();
		if
		:: mem[HOLD + 1] ->
			lock_take(B);
			drop_hold(1);
			commit();
			lock_give()
		:: else
		fi;
		atomic { i = 0; done[B] = true }
	} unless { atomic { doomed == B -> die(B); i = 0 } }
}

proctype collector()
{
	byte i;

	{
		lock_take(COLLECTOR);
		mem[ATT] = 1;
		membarrier();
		if
		:: mem[INSIDE] == 0 ->
			if
			:: mem[POOL] == IS_OWNERS && mem[USED] && mem[N_USED] == mem[N_RET] ->
				set(N_USED, 0);
				set(USED, 0);
				set(N_RET, 0);
				set(POOL, IS_FREE)
			:: else
			fi;
			commit()
		:: else
		fi;
		mem[ATT] = 0;
		lock_give();
		atomic { i = 0; done[COLLECTOR] = true }
	} unless { atomic { doomed == COLLECTOR -> die(COLLECTOR); i = 0 } }
}

#define all_done (done[OWNER] && done[B] && (done[COLLECTOR] || dead[COLLECTOR]))

proctype reuse()
{
	byte i;

	(mem[POOL] == IS_FREE && lock_owner == NOBODY) || all_done;
	if
	:: mem[POOL] == IS_FREE ->
		lock_take(REUSER);
		if
		:: mem[POOL] == IS_FREE -> d_step { mem[POOL] = IS_OTHERS; mem[WORD] = OTHERS; mem[WORD + 1] = OTHERS }
		:: else
		fi;
		lock_give()
	:: else
	fi;
	reuse_done = true
}

/* Make a block's header what it is when its owner is gone. */
inline leave_block(x)
{
	if
	:: state(mem[WORD + x]) == LIVE && !mem[HOLD + x] -> pending = pending | (1 << x); set(WORD + x, FREE)
	:: state(mem[WORD + x]) == RETURNED -> set(WORD + x, FREE)
	:: else
	fi
}

inline count_block(x)
{
	if
	:: state(mem[WORD + x]) == FREE -> set(WORD + x, mem[FREEB] * 8 + FREE); set(FREEB, x + 1)
	:: else -> set(N_USED, mem[N_USED] + 1)
	fi
}

proctype reclaim()
{
	byte i;

	do
	:: dead[OWNER] && !done[OWNER] ->
		lock_take(DAEMON);
		if
		:: mem[POOL] == IS_OWNERS ->
			leave_block(0);
			leave_block(1);
			set(FREEB, 0);
			set(N_USED, 0);
			count_block(1);
			count_block(0);
			set(N_RET, 0);
			if
			:: mem[N_USED] -> set(POOL, IS_NOBODYS)
			:: else -> set(POOL, IS_FREE)
			fi
		:: else
		fi;
		commit();
		lock_give();
		done[OWNER] = true
	:: dead[B] && !done[B] ->
		lock_take(DAEMON);
		if
		:: mem[HOLD] -> drop_hold(0)
		:: else
		fi;
		commit();
		if
		:: mem[HOLD + 1] -> drop_hold(1)
		:: else
		fi;
		commit();
		lock_give();
		done[B] = true
	:: all_done -> break
	od
}

proctype killer()
{
	do
	:: kill(OWNER)
	:: kill(B)
	:: kill(COLLECTOR)
	:: break
	od
}

#define listed(x) (mem[FREEB] == (x) + 1 || (mem[FREEB] && link(mem[WORD + mem[FREEB] - 1]) == (x) + 1))

init
{
	byte i;

	atomic {
		mem[WORD] = LIVE;
		mem[WORD + 1] = LIVE;
		mem[HOLD] = 1;
		mem[N_USED] = 2;
		mem[POOL] = IS_OWNERS;
		alive[0] = true;
		alive[1] = true;
		if
		:: mem[HOLD + 1] = 1; run owner(false)
		:: run owner(true)
		fi;
		run foreigner();
		run collector();
		run reuse();
		run reclaim();
		run killer()
	}
	all_done && reuse_done && n_buffered == 0;
	lock_take(REUSER); /* should the collector have died with it */
	lock_give();
	assert(!alive[0] && !alive[1] && !n_log);
	if
	:: mem[POOL] == IS_OTHERS -> assert(mem[WORD] == OTHERS && mem[WORD + 1] == OTHERS)
	:: mem[POOL] == IS_OWNERS ->
		assert(mem[N_USED] == mem[N_RET]);
		for (i : 0 .. 1) {
			assert((state(mem[WORD + i]) == FREE) == listed(i));
			assert((state(mem[WORD + i]) == FREE) != (state(mem[WORD + i]) == RETURNED))
		}
		assert(mem[N_RET] == (state(mem[WORD]) == RETURNED) + (state(mem[WORD + 1]) == RETURNED));
		assert(mem[USED] == (mem[FREEB] != 0))
	:: else -> assert(mem[POOL] == IS_FREE)
	fi;
	finished = true
}
