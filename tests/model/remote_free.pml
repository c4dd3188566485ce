// SPDX-License-Identifier: MIT
/*
 * pool.c: blocks that strangers free, and how they come back to the owner of the pool or to the heap
 *
 * There is a pool of two blocks that the owner owns, with an object in each: B holds the first, and B or the owner the
 * second. B drops what it holds. The owner drops its own object, makes objects and drops them, and collects remote
 * frees when it finds no free block. The daemon trims the owner's pool when no block is used. The process that frees
 * the last block of a full pool frees the pool. Owner, B and daemon may each die at any step. No block is handed out
 * while it is an object, no block is lost or freed twice, and no pool that was freed is touched again by who owned it.
 *
 *   owner:            own.c  own_new(), take_block();  own.h  own_drop_last(), own_free_block() of an object that no other
 *                     process knows;  own_trim.c  own_refill(), session_serve_requests();  pool.c  pool_collect()
 *   free_remotely():  memory.c  memory_give();  block.c  block_remote_free(), block_give();  pool.c  pool_disown()
 *   trimmer:          own_trim.c  own_trim(), trim_pools();  critical.c  critical_block(), critical_unblock()
 *   reuse:            pool.c  pool_take() of another class
 *   reclaim:          recover.c  abandon_blocks(), drop_hold();  pool.c  pool_count_blocks()
 *
 * A header's word is link * 8 + state.
 *
 * PLANT_COLLECT_UNLOCKED collects in a critical section, without the lock and its log. PLANT_NO_MEMBARRIER lets the
 * trimmer believe what it reads before the owner's stores are seen.
 */
#define OWNER       0
#define BUFFERED    OWNER
#define B           1
#define TRIMMER   2
#define DAEMON      3 /* nobody kills it, nor the next one */
#define REUSER      4
#define N_PROCESSES 5

#define WORD     0 /* object_header.word of each block, so two words */
#define HOLD     2 /* does B's hold table have the block's object? Two words */
#define N_REMOTE 4 /* pool_entry.n_remote; the pool is on the owner's remote_pools where it is not 0 */
#define POOL     5 /* pool_entry.identity */
#define N_USED   6
#define FREEB    7 /* pool_entry.freeblock1 */
#define USED     8 /* is the pool on the owner's usedpools? */
#define ACTIVE   9 /* the owner's activity: is it in a critical section? */
#define REQUESTS 10
#define N_WORDS  11
#define N_LOG    12

#include "memory.pml"

#define FREE        0
#define LIVE        1
#define REMOTE_FREE 4
#define OTHERS      255

#define IS_OWNERS    1
#define IS_FREE      2
#define IS_OTHERS    3
#define IS_ABANDONED 4

#define state(w) ((w) % 8)
#define link(w)  ((w) / 8)

/* Of the model: is the block an object? The bits of `pending` say which blocks a change will have freed. */
bool alive[2];
bool reuse_done;

inline end_of(x)
{
	assert(alive[x]);
	alive[x] = false
}

inline commit()
{
	d_step {
		clear_log();
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
inline free_remotely(x)
{
	assert(state(mem[WORD + x]) == LIVE && mem[POOL] != IS_OTHERS && mem[POOL] != IS_FREE);
	pending = pending | (1 << x);
	if
	:: mem[POOL] == IS_OWNERS ->
		set(WORD + x, REMOTE_FREE);
		set(N_REMOTE, mem[N_REMOTE] + 1);
		if
		:: mem[N_REMOTE] == 2 ->
			assert(!mem[USED]);
			set(N_USED, 0);
			set(N_REMOTE, 0);
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

/* set(), or, with the fault, the plain store of a critical section. */
inline collect_set(where, what)
{
#ifdef PLANT_COLLECT_UNLOCKED
	mem[where] = what
#else
	set(where, what)
#endif
}

inline collect_block(x)
{
	if
	:: state(mem[WORD + x]) == REMOTE_FREE ->
		collect_set(WORD + x, mem[FREEB] * 8 + FREE);
		collect_set(FREEB, x + 1);
		collect_set(N_USED, mem[N_USED] - 1)
	:: else
	fi
}

inline collect()
{
	if
	:: mem[POOL] == IS_OWNERS && mem[N_REMOTE] ->
		collect_block(0);
		collect_block(1);
		collect_set(N_REMOTE, 0);
		collect_set(USED, 1)
	:: else
	fi
}

inline collect_in_change()
{
#ifdef PLANT_COLLECT_UNLOCKED
	n_buffered == 0; /* the fault is there even if no store is late */
	mem[REQUESTS] = 0;
	collect()
#else
	lock_take(OWNER);
	mem[REQUESTS] = 0;
	collect();
	commit();
	lock_give()
#endif
}

/* Begin a critical section. */
inline enter()
{
	do
	:: true ->
		buffered(ACTIVE, 1);
		load(REQUESTS, a);
		if
		:: a -> buffered(ACTIVE, 0); collect_in_change()
		:: else -> break
		fi
	od
}

/* In a critical section, of an object that nobody else knows. */
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

/* In a critical section, of a pool with a free block. */
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
		:: has_one -> enter(); free_block(1); buffered(ACTIVE, 0)
		:: else
		fi;
		do
		:: turn < 2 ->
			enter();
			load(USED, a);
			if
			:: a ->
				take_block();
				buffered(ACTIVE, 0);
				enter();
				free_block(x);
				buffered(ACTIVE, 0);
				turn++
			:: else ->
				buffered(ACTIVE, 0);
				if
				:: mem[POOL] == IS_OWNERS -> collect_in_change()
				:: else -> break /* another pool, which is not modelled */
				fi;
				turn++
			fi
		:: else -> break
		od;
		atomic { a = 0; n = 0; x = 0; i = 0; turn = 0; done[OWNER] = true }
	} unless { atomic { death?eval(OWNER) -> die(OWNER); a = 0; n = 0; x = 0; i = 0; turn = 0 } }
}

inline drop_hold(x)
{
	set(HOLD + x, 0);
	free_remotely(x)
}

proctype stranger()
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
	} unless { atomic { death?eval(B) -> die(B); i = 0 } }
}

proctype trimmer()
{
	byte i;

	{
		lock_take(TRIMMER);
		mem[REQUESTS] = 1;
		membarrier();
		if
		:: mem[ACTIVE] == 0 ->
			if
			:: mem[POOL] == IS_OWNERS && mem[USED] && mem[N_USED] == mem[N_REMOTE] ->
				set(N_USED, 0);
				set(USED, 0);
				set(N_REMOTE, 0);
				set(POOL, IS_FREE)
			:: else
			fi;
			commit()
		:: else
		fi;
		mem[REQUESTS] = 0;
		lock_give();
		atomic { i = 0; done[TRIMMER] = true }
	} unless { atomic { death?eval(TRIMMER) -> die(TRIMMER); i = 0 } }
}

#define all_done (done[OWNER] && done[B] && (done[TRIMMER] || dead[TRIMMER]))

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

/* Make a block's header what it is in a pool without an owner. */
inline abandon_block(x)
{
	if
	:: state(mem[WORD + x]) == LIVE && !mem[HOLD + x] -> pending = pending | (1 << x); set(WORD + x, FREE)
	:: state(mem[WORD + x]) == REMOTE_FREE -> set(WORD + x, FREE)
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
			abandon_block(0);
			abandon_block(1);
			set(FREEB, 0);
			set(N_USED, 0);
			count_block(1);
			count_block(0);
			set(N_REMOTE, 0);
			if
			:: mem[N_USED] -> set(POOL, IS_ABANDONED)
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
	:: kill(TRIMMER)
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
		run stranger();
		run trimmer();
		run reuse();
		run reclaim();
		run killer()
	}
	all_done && reuse_done && n_buffered == 0;
	lock_take(REUSER); /* roll back, should the trimmer have died in its change */
	lock_give();
	assert(!alive[0] && !alive[1] && !n_log);
	if
	:: mem[POOL] == IS_OTHERS -> assert(mem[WORD] == OTHERS && mem[WORD + 1] == OTHERS)
	:: mem[POOL] == IS_OWNERS ->
		assert(mem[N_USED] == mem[N_REMOTE]);
		for (i : 0 .. 1) {
			assert((state(mem[WORD + i]) == FREE) == listed(i));
			assert((state(mem[WORD + i]) == FREE) != (state(mem[WORD + i]) == REMOTE_FREE))
		}
		assert(mem[N_REMOTE] == (state(mem[WORD]) == REMOTE_FREE) + (state(mem[WORD + 1]) == REMOTE_FREE));
		assert(mem[USED] == (mem[FREEB] != 0))
	:: else -> assert(mem[POOL] == IS_FREE)
	fi;
	finished = true
}
