// SPDX-License-Identifier: MIT
/*
 * read.c, uncounted.c, readers.c: a place read without the lock, and what it has held uncounted
 *
 * A place has an object, which nobody else has a right to. The writer takes the object out of the place, makes another
 * one, in the same block if that is free by then, and puts it there, if N_PUTS is 1. Readers read the place, hold what
 * it has, use it, and drop it. The writer, each reader and the daemon that reclaims them may die at any step. An object
 * is never freed while a reader has found its hold good; what a reader finds, the place really had during the read,
 * counting committed changes only; and in the end, when the place is emptied, all objects were freed.
 *
 *   reader:   read.c  attempt();  uncounted.c  uncounted_hold(), uncounted_drop(), uncounted_take_back()
 *   writer:   slot.c  set_in_change();  displaced.c;  right.c  drop_right(), end_copy();  readers.c  readers_keep()
 *   reclaim:  displaced.c  displaced_finish();  uncounted.c  uncounted_finish();  recover.c  drop_hold()
 *
 * An object is named by its generation, 1 or 2. BIAS is 0, READERS or UNCOUNTED. A compare-and-swap of the header
 * compares GEN and BIAS. The log is scanned in one step. With BUFFERED=0 the writer's store to the place is late, with
 * 1 the first reader's stores are. With GIVEN the writer first stores the whole word of rights, as right.c
 * count_given() does.
 *
 * Planted faults: PLANT_NO_LOOK (the place is not read again), PLANT_NO_FENCE (no barrier before that),
 * PLANT_NO_SECOND_LOOK (the tables are asked once), PLANT_DIRTY (a locked header does not matter),
 * PLANT_ROLL_BACK_UNSEEN (nor does a roll-back), PLANT_FORGOTTEN (recovery looks at the holds alone), PLANT_NO_INVITE
 * (the word of rights is stored while a reader may change BIAS in it), PLANT_ONE_CHANGE (the old right ends in the
 * change that changes the place).
 */
#ifndef N_READERS
#define N_READERS 1
#endif
#ifndef N_DEATHS
#define N_DEATHS 1
#endif
#ifndef N_PUTS
#define N_PUTS 1
#endif
#ifndef N_TRIES
#define N_TRIES 2
#endif
#ifndef BUFFERED
#define BUFFERED 255 /* nobody */
#endif

#define WRITER      0
#define READER      1 /* and READER + 1 */
#define DAEMON      (READER + N_READERS)
#define N_PROCESSES (DAEMON + 2)

#define READERS   1
#define UNCOUNTED 2

#define PLACE     0 /* the generation of its object, 0: nothing */
#define GEN       1 /* of the object in the block, 0: it is free */
#define RIGHTS    2 /* counted rights */
#define BIAS      3
#define LOCKED    4 /* the header is */
#define DISPLACED 5
#define MAKES     6 /* the writer holds the object that it makes, before the place has it */
#define ROLLS     7 /* n_roll_backs, modulo 4 */
#define GEN2      8 /* of another block, which is used if the first is not free */
#define RIGHTS2   9
#define BIAS2     10
#define HOLD      11 /* per reader: what its table has */
#define INTENT    (HOLD + N_READERS)
#define N_WORDS   (INTENT + N_READERS)

#define N_LOG 10
#define HAS_OWN_ENTRIES

/* The oldest entry is the last to be undone; n_roll_backs moves before the log is empty. */
inline undo_entry(where, old)
{
	mem[where] = old;
	if
	:: i == n_log -> mem[ROLLS] = (mem[ROLLS] + 1) % 4
	:: else
	fi
}

inline undone()
{
	mem[LOCKED] = 0
}

#include "memory.pml"

byte committed = 1;        /* what the place has, counting committed changes */
byte seen[N_READERS];      /* per reader: a bit for each value that it had since the read began */
byte good[N_READERS];      /* per reader: the generation that it has found its hold good of */
byte n_deaths;

#define IS_HELD(g) (mem[HOLD] == (g) || mem[HOLD + N_READERS - 1] == (g))
#define IS_GOOD(g) (good[0] == (g) || good[N_READERS - 1] == (g))
#define IS_ALIVE(g) (mem[GEN] == (g) || mem[GEN2] == (g))

/* Commit, then unlock the header. A death between the two leaves the unlocking to the next owner. */
inline commit()
{
	d_step {
		clear_log();
		committed = mem[PLACE];
		seen[0] = seen[0] | (1 << committed);
		seen[N_READERS - 1] = seen[N_READERS - 1] | (1 << committed)
	}
	mem[LOCKED] = 0
}

inline take_lock(me)
{
	lock_take(me);
	mem[LOCKED] = 0
}

inline fence(me)
{
	me != BUFFERED || n_buffered == 0
}

/* The words of the header of generation g, which is alive. */
#define W_GEN(g)    (mem[GEN] == (g) -> GEN : GEN2)
#define W_RIGHTS(g) (mem[GEN] == (g) -> RIGHTS : RIGHTS2)
#define W_BIAS(g)   (mem[GEN] == (g) -> BIAS : BIAS2)

/* Within a change: nobody has a right. The word goes first: from then on no compare-and-swap succeeds. */
inline end(g)
{
	atomic {
		assert(!IS_GOOD(g));
		w = W_GEN(g);
		b = W_BIAS(g)
	}
	set(w, 0);
	d_step { set(b, 0); set(b - 1, 0) }
	w = 0; b = 0
}

/* Within a change: a right that was counted ends. */
inline drop_right(g, me)
{
	atomic { mem[LOCKED] = 1; w = W_RIGHTS(g); assert(mem[w] > 0); set(w, mem[w] - 1) }
	if
	:: atomic { mem[w] > 0 || mem[MAKES] == g -> w = 0 }
	:: else ->
		w = 0;
		fence(me);
		if
		:: mem[W_BIAS(g)] == READERS && IS_HELD(g) ->
			atomic { b = W_BIAS(g); set(b, UNCOUNTED); set(b - 1, 1); b = 0 }
#ifndef PLANT_NO_SECOND_LOOK
			if
			:: IS_HELD(g)
			:: else -> end(g)
			fi
#endif
		:: else -> end(g)
		fi
	fi
}

/* Within a change: a reader that held g does so no more. */
inline gone(g)
{
	if
	:: IS_ALIVE(g) && mem[W_BIAS(g)] == UNCOUNTED && !IS_HELD(g) -> mem[LOCKED] = 1; end(g)
	:: else
	fi
}

inline finish_displaced(me)
{
	if
	:: mem[DISPLACED] ->
		g = mem[DISPLACED];
		if
		:: IS_ALIVE(g) -> drop_right(g, me)
		:: else -> assert(false) /* its right was lost */
		fi;
		set(DISPLACED, 0);
		commit();
		g = 0
	:: else
	fi
}

/* The place's store, which may be late. */
inline set_place(what)
{
#if BUFFERED == 0
	d_step { log_where[n_log] = PLACE; log_old[n_log] = mem[PLACE]; n_log++ }
	buffered(PLACE, what)
#else
	set(PLACE, what)
#endif
}

proctype writer()
{
	byte i, w, b, g;

	{
#ifdef GIVEN
		take_lock(WRITER);
		mem[LOCKED] = 1;
#ifndef PLANT_NO_INVITE
		mem[BIAS] = READERS;
		set(BIAS, READERS);
#else
		set(BIAS, 0);
#endif
		commit();
		lock_give();
#endif
		take_lock(WRITER);
		set_place(0);
#ifdef PLANT_ONE_CHANGE
		drop_right(1, WRITER);
		fence(WRITER);
		commit();
#else
		set(DISPLACED, 1);
		fence(WRITER); /* the commit is a release */
		commit();
		finish_displaced(WRITER);
#endif
		lock_give();
#if N_PUTS
		/* Another object: its first hold is its maker's. */
		take_lock(WRITER);
		if
		:: mem[GEN] == 0 -> d_step { set(MAKES, 2); set(GEN, 2) }
		:: else -> d_step { set(MAKES, 2); set(GEN2, 2) }
		fi;
		commit();
		lock_give();
		take_lock(WRITER);
		atomic { mem[LOCKED] = 2; w = W_RIGHTS(2); set(w, mem[w] + 1); w = 0 }
		set_place(2);
		fence(WRITER);
		commit();
		lock_give();
#endif
		done[WRITER] = true
	} unless { atomic { death?eval(WRITER) -> die(WRITER); i = 0; w = 0; b = 0; g = 0 } }
}

inline store_hold(r, what)
{
#if BUFFERED == 1
	if
	:: r == 0 -> buffered(HOLD, what)
	:: else -> mem[HOLD + r] = what
	fi
#else
	mem[HOLD + r] = what
#endif
}

/* The place as it is, or as the log says that it was: log.c log_committed(). */
inline read_place(ret)
{
	do
	:: atomic { ret = mem[PLACE]; w = mem[ROLLS] }
		if
		:: by_log ->
			atomic {
				do
				:: i < n_log && log_where[i] == PLACE -> ret = log_old[i]; w = mem[ROLLS]; break
				:: i < n_log && log_where[i] != PLACE -> i++
				:: i == n_log -> break
				od;
				i = 0
			}
		:: else
		fi;
#ifdef PLANT_ROLL_BACK_UNSEEN
		atomic { w = 0; break }
#else
		if
		:: atomic { w == mem[ROLLS] || !by_log -> w = 0; break }
		:: else
		fi
#endif
	od
}

inline take_out(r)
{
	store_hold(r, 0);
	fence(READER + r);
	if
	:: IS_ALIVE(v) && mem[W_BIAS(v)] == UNCOUNTED ->
		take_lock(READER + r);
		gone(v);
		commit();
		lock_give()
	:: else
	fi;
	mem[INTENT + r] = 0
}

proctype reader(byte r)
{
	byte i, w, b, g, v, again, rolls, tries;
	bool by_log;

	{
		do
		:: tries < N_TRIES ->
			tries++;
			atomic { seen[r] = 1 << committed; rolls = mem[ROLLS] }
			read_place(v);
			if
			:: v == 0 && !by_log -> by_log = true
			:: v == 0 && by_log -> assert(seen[r] & 1); break
			:: else ->
				mem[INTENT + r] = v;
				if /* the header */
				:: atomic { IS_ALIVE(v) && mem[W_BIAS(v)] == 0 -> mem[W_BIAS(v)] = READERS; g = v }
				:: atomic { IS_ALIVE(v) && mem[W_BIAS(v)] != 0 -> g = v }
				:: else -> mem[INTENT + r] = 0
				fi;
				if
				:: g ->
#ifndef PLANT_DIRTY
					by_log = by_log || mem[LOCKED] == v;
#endif
					g = 0;
					store_hold(r, v);
#ifndef PLANT_NO_FENCE
					fence(READER + r);
#endif
#ifdef PLANT_NO_LOOK
					again = v;
#else
					read_place(again);
#endif
					if
#ifdef PLANT_ROLL_BACK_UNSEEN
					:: again == v ->
#else
					:: again == v && mem[ROLLS] == rolls ->
#endif
						atomic {
							again = 0;
							good[r] = v;
							assert(IS_ALIVE(v));
							assert(seen[r] & (1 << v));
							mem[INTENT + r] = 0
						}
						assert(IS_ALIVE(v)); /* it uses the object */
						atomic { mem[INTENT + r] = v; good[r] = 0 }
						take_out(r);
						break
					:: else -> again = 0; take_out(r)
					fi
				:: else
				fi
			fi
		:: else -> break /* it takes the lock */
		od;
		done[READER + r] = true
	} unless { atomic { death?eval(READER + r) -> die(READER + r);
		good[r] = 0; i = 0; w = 0; b = 0; g = 0; v = 0; again = 0; rolls = 0; tries = 0; by_log = false } }
}

/* The hold and the intent of a dead reader: either may name what it held. */
inline reclaim_reader(r)
{
	g = mem[HOLD + r];
	v = mem[INTENT + r];
	if
	:: g -> set(HOLD + r, 0)
	:: else
	fi;
#ifdef PLANT_FORGOTTEN
	v = 0;
#endif
	if
	:: g -> gone(g)
	:: else
	fi;
	if
	:: v && v != g -> gone(v)
	:: else
	fi;
	if
	:: mem[INTENT + r] -> set(INTENT + r, 0)
	:: else
	fi;
	commit();
	g = 0; v = 0
}

proctype reclaim(byte me)
{
	byte i, w, b, g, v, r;

	{
		me == DAEMON || dead[me - 1];
		do
		:: dead[WRITER] && !done[WRITER] ->
			take_lock(me);
			finish_displaced(me);
			lock_give();
			done[WRITER] = true
		:: dead[READER] && !done[READER] ->
			take_lock(me);
			reclaim_reader(0);
			lock_give();
			done[READER] = true
#if N_READERS > 1
		:: dead[READER + 1] && !done[READER + 1] ->
			take_lock(me);
			reclaim_reader(1);
			lock_give();
			done[READER + 1] = true
#endif
		:: done[WRITER] && done[READER] && done[READER + N_READERS - 1] -> break
		od;
		done[DAEMON] = true;
		done[me] = true
	} unless { atomic { death?eval(me) -> die(me); i = 0; w = 0; b = 0; g = 0; v = 0 } }
}

proctype killer()
{
	do
	:: n_deaths < N_DEATHS ->
		if
		:: kill(WRITER)
		:: kill(READER)
#if N_READERS > 1
		:: kill(READER + 1)
#endif
#ifndef NO_DAEMON_DIES
		:: kill(DAEMON)
#endif
		fi;
		n_deaths++
	:: break
	od
}

init
{
	byte i, w, b, g;

	atomic {
		mem[PLACE] = 1;
		mem[GEN] = 1;
		mem[RIGHTS] = 1;
		run writer();
		run reader(0);
#if N_READERS > 1
		run reader(1);
#endif
		run reclaim(DAEMON);
		run reclaim(DAEMON + 1);
		run killer()
	}
	done[DAEMON] && LOCK_IS_FREE && n_buffered == 0;
	take_lock(DAEMON + 1);
	/* The maker lets go, and the place is emptied. */
	if
	:: mem[MAKES] -> d_step { g = mem[MAKES]; set(MAKES, 0) }
		if
		:: mem[W_RIGHTS(g)] == 0 -> end(g)
		:: else
		fi
	:: else
	fi;
	g = mem[PLACE];
	if
	:: g -> set(PLACE, 0); drop_right(g, DAEMON + 1)
	:: else
	fi;
	commit();
	lock_give();
	assert(!mem[GEN] && !mem[GEN2] && !mem[RIGHTS] && !mem[RIGHTS2] && !mem[BIAS] && !mem[BIAS2] && !mem[DISPLACED]);
	finished = true
}
