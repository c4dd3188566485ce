// SPDX-License-Identifier: MIT
/*
 * count.c: first holds and last drops of another session's object without the lock
 *
 * The count of rights to an object is in its header, and is changed by one compare-and-swap of both header words.
 * Which sessions have them is in the sessions' hold tables. Count and table are changed one after the other, so before
 * them the session writes down what it is about to do, its intent, with the count as it read it.
 *
 * For each session that dies, recovery must know whether its compare-and-swap has happened. A header is biased to one
 * session at a time, or to none. Only that session, or the first one to come, changes the count without the lock. So
 * its change has happened if the count is not what the intent says it was.
 *
 * The owner of the lock locks the header first, so that it alone changes the header. Then it records in the biased
 * session's `done` that the session's change has happened, if so, and only then removes the bias. The record is not in
 * the log, since it stays true. The header lock is in the log, with the count, and is taken after its entry is
 * written. It ends when the log is empty, whether the change was committed or rolled back.
 *
 * The session that gives up the last right turns the block into a remotely freed one in the same step. Then it
 * notifies the pool's owner, unless the pool is notified already.
 *
 * Sessions may die at any step, also while they roll back the change of another process. So may the daemon that
 * reclaims them; after it comes a next one. Whenever no change is under way the count of rights is right, and only a
 * live object has any. In the end the block is free, or its pool is on its owner's list.
 *
 *   attempt, notify:    count.c  count_hold(), count_drop(), notify(), notify_in_change()
 *   lock_header:        header_lock.c;  log.c  log_take_back(), log_empty()
 *   finish_intent:      count_recover.c  count_finish()
 *   drop_own, collect:  own.c  settle();  pool.c  pool_collect()
 *
 * There is one block. Each session holds what is in it and drops it, in N_TRIES attempts before it goes by the lock.
 * The owner drops its own right at any time, collects, and makes one object after another of the block.
 *
 *   N_SESSIONS     number of sessions
 *   N_EACH         how many times the first session holds and drops; the others do it once
 *   N_GENERATIONS  number of objects
 *   MIXED          a session may go by the lock at once
 *   HELD           the first session holds the object already, and the owner has no right to it
 *   LISTED_FIRST   the pool is notified already, of another block
 *   BUFFERED       the session, or the owner (POOL_OWNER), whose stores other processes see late
 *   TORN           the two words of a header are read one after the other
 *   FINE           the words of an intent are, too, and an entry of the log and its store are two steps
 *   OWNER_DIES     the owner is one of the sessions that may die
 *   N_DEATHS       so many sessions may die, and after the first of them a daemon, unless NO_DAEMON_DIES
 *
 * PLANT_NO_BIAS goes without the lock also where the header is biased to a session that seems to have no intent: that
 * session may have one by then, and have changed the header to what it was. PLANT_COUNT_ALONE judges by the count,
 * whichever session the header is biased to. PLANT_UNRECORDED removes the bias without recording anything.
 * PLANT_READ_FIRST reads the intent before the header is locked. PLANT_RECORDED_IN_LOG rolls the record back.
 * PLANT_NO_HEADER_LOCK changes a header that is not locked. PLANT_UNLOCK_EARLY ends the header lock before the commit.
 * PLANT_UNLOCK_IN_ROLL_BACK ends it during the roll-back, which may have to be done again. PLANT_BIAS_LEFT leaves the
 * bias where a process died that had locked the header. PLANT_NOTIFIED_READ_FIRST reads whether the pool is notified
 * before the block is freed. PLANT_NOTIFIED_LATE marks the pool as notified after the lock was given up.
 * PLANT_COLLECT_FIRST collects before it clears that mark. PLANT_UNNOTIFIED does not notify of a block that a dead
 * session freed if its hold table is in order.
 */
#ifndef N_SESSIONS
#define N_SESSIONS 2
#endif
#ifndef N_EACH
#define N_EACH 1
#endif
#ifndef N_TRIES
#define N_TRIES 1
#endif
#ifndef N_GENERATIONS
#define N_GENERATIONS 1
#endif
#ifndef N_DEATHS
#define N_DEATHS 1
#endif
#ifndef BUFFERED
#define BUFFERED 254
#endif

#define POOL_OWNER  3
#define DAEMON      4 /* after it comes DAEMON + 1, which nobody kills */
#define N_PROCESSES 6

#define WORD   0
#define RIGHTS 1
#define BIASED 2 /* the session that it is biased to, plus one */
/* Of the pool */
#define LISTED   3 /* it is on its owner's list */
#define NOTIFIED 4
/* Of each session */
#define INTENT  5  /* number and kind of its intent */
#define REF     8  /* a generation */
#define BEFORE  11 /* the rights as it read them, or UNKNOWN */
#define DONE    14 /* number of an intent that has happened */
#define HOLD    17 /* its hold table: the generation that it holds */
#define N_WORDS 20

#define HEADER_LOCK 20 /* an entry of the log that is of no word */

#define FREE                   0
#define LIVE                   1
#define REMOTE_FREE            2
#define word_of(g, state, own) ((g) * 16 + (state) * 4 + (own))
#define generation(w)          ((w) / 16)
#define state(w)               (((w) / 4) % 4)
#define own(w)                 ((w) % 4)
#define is_live(w, g)          (state(w) == LIVE && generation(w) == (g))

#define LOCKED            8
#define count(r)          ((r) % 8)
#define is_locked(r)      ((r) / 8)
#define is_alive(w, r, g) (is_live(w, g) && (own(w) || count(r)))

#define NONE      0
#define HOLDS     1
#define DROPS     2
#define UNKNOWN   255
#define kind(i)   ((i) % 4)
#define number(i) ((i) / 4)

#define GOT   1
#define AGAIN 2
#define SLOW  3

/*
 * Nobody else changes a locked header, so its roll-back may be done again. Where the header is not locked, the lock
 * was never taken.
 */
#define HAS_OWN_ENTRIES

inline undo_entry(where, old)
{
	if
	:: where == HEADER_LOCK && is_locked(mem[RIGHTS]) ->
#ifdef PLANT_UNLOCK_IN_ROLL_BACK
		mem[RIGHTS] = old
#else
		mem[RIGHTS] = count(old) + LOCKED
#endif
	:: where == HEADER_LOCK && !is_locked(mem[RIGHTS])
	:: where == RIGHTS -> mem[RIGHTS] = old; mem[BIASED] = 0
	:: where != HEADER_LOCK && where != RIGHTS -> mem[where] = old
	fi
}

inline undone()
{
	mem[RIGHTS] = count(mem[RIGHTS])
}

/* COARSE { } is one step unless FINE, UNPLANTED { } is one unless PLANT_READ_FIRST: see memory.pml. */
#ifdef FINE
#define COARSE
#else
#define COARSE atomic
#endif
#ifdef PLANT_READ_FIRST
#define UNPLANTED
#else
#define UNPLANTED atomic
#endif

#include "memory.pml"

/* Of the model, not of the heap */
bool has_swapped[3]; /* the compare-and-swap of its intent has happened */
bool is_ready;
bool rights_are_counted = true; /* whenever no change is under way */
byte n_deaths;

/* Does session s have a right, and to which generation? */
#define by_hold(s)                                                                                                     \
	(mem[HOLD + (s)] && !(kind(mem[INTENT + (s)]) == DROPS && has_swapped[s] && mem[REF + (s)] == mem[HOLD + (s)]))
#define by_intent(s)   (kind(mem[INTENT + (s)]) == HOLDS && has_swapped[s] && !mem[HOLD + (s)])
#define has_right(s)   (by_hold(s) || by_intent(s))
#define has_rightly(s)                                                                                                 \
	((!by_hold(s) || is_live(mem[WORD], mem[HOLD + (s)])) && (!by_intent(s) || is_live(mem[WORD], mem[REF + (s)])))
#define IS_SOUND                                                                                                       \
	(count(mem[RIGHTS]) == has_right(0) + has_right(1) + has_right(2) && has_rightly(0) && has_rightly(1) &&           \
		has_rightly(2))

active proctype monitor()
{
	atomic { is_ready && n_log == 0 && n_buffered == 0 && !IS_SOUND -> rights_are_counted = false };
	assert(rights_are_counted)
}

inline unlock_header()
{
	if
	:: is_mine -> mem[RIGHTS] = count(mem[RIGHTS]); is_mine = false
	:: else
	fi
}

/* unlock_header() is the next step of a change that has locked a header. */
inline commit()
{
#ifdef PLANT_UNLOCK_EARLY
	atomic { unlock_header() }
#endif
	atomic { clear_log() }
}

/* A store of a session without the lock. */
inline store(where, what)
{
	atomic {
		if
		:: me == BUFFERED -> buffered(where, what)
		:: else -> mem[where] = what
		fi
	}
}

inline fetch(where, ret)
{
	atomic {
		if
		:: me == BUFFERED -> load(where, ret)
		:: else -> ret = mem[where]
		fi
	}
}

/* The compare-and-swap of the header, from what was read. It is a barrier. */
inline swap(new_word, new_rights, new_biased)
{
	atomic {
		me != BUFFERED || n_buffered == 0;
		swapped = mem[WORD] == word && mem[RIGHTS] == rights && mem[BIASED] == biased;
		if
		:: swapped -> mem[WORD] = new_word; mem[RIGHTS] = new_rights; mem[BIASED] = new_biased
		:: else
		fi
	}
}

inline read_header()
{
	atomic {
#ifndef TORN
		fetch(WORD, word);
#endif
		fetch(RIGHTS, rights);
		fetch(BIASED, biased)
	}
}

/* Reads one whole intent, or none if that has ended meanwhile. */
inline read_intent(s)
{
#ifdef FINE
	intent = mem[INTENT + s];
	x = mem[REF + s];
	before = mem[BEFORE + s];
	intent = (mem[INTENT + s] == intent -> intent : NONE)
#else
	d_step { intent = mem[INTENT + s]; x = mem[REF + s]; before = mem[BEFORE + s] }
#endif
}

#define has_counted(g, c) (kind(intent) && x == (g) && before != UNKNOWN && before != (c))

inline clear_locals()
{
	word = 0;
	rights = 0;
	biased = 0;
	intent = 0;
	x = 0;
	before = 0;
	i = 0;
	swapped = false;
	is_mine = false
}

inline next_turn()
{
	turn = turn + 1 + (kind == HOLDS && !is_held);
	kind = 0;
	g = 0;
	tries = 0;
	outcome = 0
}

/* Under the lock */

inline record_done(s)
{
#ifdef PLANT_UNRECORDED
	skip
#elif defined(PLANT_RECORDED_IN_LOG)
	set(DONE + s, number(intent))
#else
	mem[DONE + s] = number(intent)
#endif
}

/* The header is locked. */
inline remove_bias(g)
{
	if
#ifdef FINE
	:: biased ->
		read_intent(biased - 1);
		if
		:: has_counted(g, count(rights)) -> record_done(biased - 1)
		:: else
		fi;
#else
	:: atomic {
			biased ->
#ifndef PLANT_READ_FIRST
			read_intent(biased - 1);
#endif
			if
			:: has_counted(g, count(rights)) -> record_done(biased - 1)
			:: else
			fi
		}
#endif
		atomic { mem[BIASED] = 0; biased = 0; intent = 0; x = 0; before = 0 }
	:: !biased
	fi
}

/*
 * Within a change. is_mine: the object is alive, and its header is locked; a process that died may have locked it
 * before. The log's entry has the rights as they were read before the entry counts. A header that is locked already
 * will not change any more.
 */
inline lock_header(g)
{
#ifdef TORN
	fetch(WORD, word);
#endif
	atomic { read_header(); log_where[n_log] = HEADER_LOCK; log_old[n_log] = rights; n_log++ }
	do
	:: atomic { !is_live(word, g) -> word = 0; biased = 0; rights = 0; break }
#ifdef PLANT_NO_HEADER_LOCK
	:: atomic { is_live(word, g) -> is_mine = true; rights = rights + LOCKED; word = 0; break }
#else
	:: atomic {
			is_live(word, g) && is_locked(rights) ->
			is_mine = true;
			word = 0;
#ifdef PLANT_BIAS_LEFT
			biased = 0;
#endif
			break
		}
#endif
	:: UNPLANTED {
			is_live(word, g) && !is_locked(rights) ->
#ifdef PLANT_READ_FIRST
			if
			:: biased -> read_intent(biased - 1)
			:: else
			fi;
#endif
			atomic {
				swap(word, rights + LOCKED, biased);
				if
				:: swapped -> rights = rights + LOCKED; is_mine = true; swapped = false; word = 0; break
				:: else
				fi
			}
		}
#ifdef TORN
		fetch(WORD, word);
#endif
		atomic { read_header(); log_old[n_log - 1] = rights }
	od;
	remove_bias(g)
}

/* Within a change, of a locked header: was it the last right? The owner may drop its own meanwhile. */
inline free_if_last()
{
	if
	:: atomic { !own(mem[WORD]) && !count(mem[RIGHTS]) -> set(WORD, mem[WORD] - LIVE * 4 + REMOTE_FREE * 4) }
		set(RIGHTS, 0);
		set(LISTED, 1)
	:: own(mem[WORD]) || count(mem[RIGHTS])
	fi
}

/* The log has the count already. */
inline store_count(n)
{
#ifdef PLANT_NO_HEADER_LOCK
	mem[RIGHTS] = n
#else
	mem[RIGHTS] = n + LOCKED
#endif
}

inline drop_right()
{
	atomic { assert(is_mine && count(rights) > 0 && state(mem[WORD]) == LIVE); store_count(count(rights) - 1) }
	free_if_last()
}

inline hold_by_lock()
{
	lock_take(me);
	if
	:: is_alive(mem[WORD], mem[RIGHTS], g) ->
		lock_header(g);
		if
		:: atomic { is_mine -> store_count(count(rights) + 1) }
			COARSE { set(HOLD + me, g); is_held = true }
		:: else
		fi
	:: else
	fi;
	commit();
	atomic { unlock_header(); clear_locals(); lock_give(); next_turn() }
}

inline drop_by_lock(s)
{
	atomic { g = mem[HOLD + s]; set(HOLD + s, 0) }
	lock_header(g);
	drop_right();
	commit();
	atomic { unlock_header(); clear_locals(); g = 0 }
}

/* Without the lock */

/* The kind comes last: with it the intent begins. */
inline write_intent(g)
{
	atomic { fetch(INTENT + me, x); store(INTENT + me, (number(x) + 1) * 4 + NONE); x = 0; has_swapped[me] = false }
	store(REF + me, g);
	store(BEFORE + me, UNKNOWN)
}

inline write_kind(kind)
{
	atomic { fetch(INTENT + me, x); store(INTENT + me, x + kind); x = 0 }
}

/* The other words of an intent that has ended mean nothing. They are zeroed to have fewer states. */
inline end_intent()
{
	atomic {
		fetch(INTENT + me, x);
		store(INTENT + me, number(x) * 4 + NONE);
		x = 0;
#ifndef FINE
		if
		:: me != BUFFERED -> mem[REF + me] = 0; mem[BEFORE + me] = 0; has_swapped[me] = false
		:: else
		fi
#endif
	}
}

/* Notify the owner of the block's pool. */
inline notify()
{
#ifndef PLANT_NOTIFIED_READ_FIRST
	fetch(NOTIFIED, is_notified);
#endif
	if
	:: !is_notified ->
		lock_take(me);
		if
		:: COARSE { !mem[LISTED] && mem[WORD] == word_of(g, REMOTE_FREE, 0) -> set(LISTED, 1) }
		:: else
		fi;
		commit();
#ifdef PLANT_NOTIFIED_LATE
		is_notified = mem[LISTED];
		lock_give();
		if
		:: is_notified -> store(NOTIFIED, 1)
		:: else
		fi
#else
		atomic {
			if
			:: mem[LISTED] -> mem[NOTIFIED] = 1
			:: else
			fi;
			lock_give()
		}
#endif
	:: is_notified
	fi
}

inline attempt()
{
	write_kind(kind);
#ifdef TORN
	fetch(WORD, word);
#endif
	atomic {
		read_header();
		if
		:: !is_alive(word, rights, g) || is_locked(rights) -> outcome = SLOW; goto over
#ifndef PLANT_NO_BIAS
		:: is_alive(word, rights, g) && !is_locked(rights) && biased && biased != me + 1 -> outcome = SLOW; goto over
#endif
		:: else
		fi
	}
#ifdef PLANT_NO_BIAS
	if
	:: atomic {
			biased && biased != me + 1 ->
			read_intent(biased - 1);
			if
			:: kind(intent) && x == g -> outcome = SLOW; goto over
			:: else -> intent = 0; x = 0; before = 0
			fi
		}
	:: else
	fi;
#endif
	atomic { store(BEFORE + me, rights); is_last = kind == DROPS && !own(word) && count(rights) == 1 }
#ifdef PLANT_NOTIFIED_READ_FIRST
	fetch(NOTIFIED, is_notified);
#endif
	atomic {
		if
		:: is_last -> swap(word_of(g, REMOTE_FREE, 0), 0, 0)
		:: !is_last && kind == DROPS -> swap(word, count(rights) - 1, me + 1)
		:: kind == HOLDS -> swap(word, count(rights) + 1, me + 1)
		fi;
		has_swapped[me] = swapped;
		outcome = (swapped -> GOT : AGAIN);
		clear_locals();
		if
		:: outcome == AGAIN -> goto over
		:: else
		fi
	}
	atomic {
		store(HOLD + me, (kind == HOLDS) * g);
		is_held = kind == HOLDS;
		if
		:: is_last
		:: else -> goto over
		fi
	}
	notify();
over:
	atomic {
		end_intent();
		clear_locals();
		is_last = false;
		is_notified = false;
		if
		:: outcome == GOT -> next_turn()
		:: outcome == AGAIN -> tries++; outcome = 0
		:: outcome == SLOW -> tries = N_TRIES; outcome = 0
		fi
	}
}

inline clear_attempt()
{
	clear_locals();
	turn = 0;
	g = 0;
	kind = 0;
	tries = 0;
	outcome = 0;
	is_held = false;
	is_last = false;
	is_notified = false
}

/* A session that holds something drops it, any other holds what is in the block. */
inline choose()
{
	kind = (is_held -> DROPS : HOLDS);
	if
	:: is_held -> fetch(HOLD + me, g)
	:: else -> g = generation(mem[WORD])
	fi
}

#define n_of(me)  (1 + (N_EACH - 1) * ((me) == 0)) /* how many times it holds and drops */
#define HAS_TURNS (turn < 2 * n_of(me))

proctype session(byte me)
{
	byte turn, g, kind, tries, outcome;
	byte word, rights, biased, intent, x, before, i;
	bool is_held, swapped, is_mine, is_last, is_notified;

	{
#ifdef HELD
		d_step { turn = me == 0; is_held = me == 0 }
#endif
		do
#ifdef FINE
		:: HAS_TURNS && tries < N_TRIES ->
			if
			:: atomic { !tries -> choose() }
			:: tries
			fi;
			write_intent(g);
#else
		:: atomic {
				HAS_TURNS && tries < N_TRIES ->
				if
				:: !tries -> choose()
				:: else
				fi;
				write_intent(g)
			}
#endif
			attempt()
		:: atomic {
#ifdef MIXED
				HAS_TURNS && (!tries || tries == N_TRIES) ->
#else
				HAS_TURNS && tries == N_TRIES ->
#endif
				if
				:: !tries -> choose()
				:: else
				fi
			}
			if
			:: kind == HOLDS -> hold_by_lock()
			:: kind == DROPS ->
				lock_take(me);
				drop_by_lock(me);
				atomic { lock_give(); is_held = false; next_turn() }
			fi
		:: atomic {
				!HAS_TURNS && (me != BUFFERED || n_buffered == 0) ->
				clear_attempt();
				done[me] = true;
				break
			}
		od
	} unless { atomic { death?eval(me) -> die(me); clear_attempt() } }
}

/* The pool's owner */

inline drop_own()
{
	atomic { owns -> fetch(WORD, word); store(WORD, word - 1); g = generation(word); owns = false }
	lock_take(me);
	lock_header(g);
	if
	:: is_mine -> free_if_last()
	:: else
	fi;
	commit();
	atomic { unlock_header(); clear_locals(); g = 0; lock_give() }
}

inline collect()
{
#ifdef PLANT_COLLECT_FIRST
	word = mem[WORD];
	mem[NOTIFIED] = 0;
#else
	mem[NOTIFIED] = 0;
	word = mem[WORD];
#endif
	set(LISTED, 0);
	if
	:: COARSE { state(word) == REMOTE_FREE -> set(WORD, word_of(generation(word), FREE, 0)) }
		set(RIGHTS, 0)
	:: else
	fi;
	commit();
	atomic { word = 0; lock_give() }
}

#define SESSIONS_ARE_DONE (done[0] && done[1] && done[2])

proctype pool_owner(byte me)
{
	byte g, word, rights, biased, intent, x, before, i;
	bool owns, swapped, is_mine;

	{
#ifndef HELD
		owns = true;
#endif
		do
		:: drop_own()
		:: mem[LISTED] ->
			lock_take(me);
			collect()
		:: atomic { state(mem[WORD]) == FREE && generation(mem[WORD]) < N_GENERATIONS -> word = mem[WORD] }
			store(RIGHTS, 0);
			atomic { store(WORD, word_of(generation(word) + 1, LIVE, 1)); word = 0; owns = true }
		:: atomic {
				SESSIONS_ARE_DONE && !mem[LISTED] && !owns && (me != BUFFERED || n_buffered == 0) &&
				!(state(mem[WORD]) == FREE && generation(mem[WORD]) < N_GENERATIONS) ->
				clear_locals();
				g = 0;
				done[me] = true;
				break
			}
		od
	} unless { atomic { death?eval(me) -> die(me); clear_locals(); g = 0; owns = false } }
}

/* Recovery of dead sessions */

/* This is one change. An object that is not alive was dropped: a right that was not dropped would keep it alive. */
inline finish_intent(s)
{
	atomic {
		k = mem[INTENT + s];
		g = mem[REF + s];
		if
		:: is_live(mem[WORD], g) ->
			has_happened = mem[DONE + s] == number(k) ||
#ifndef PLANT_COUNT_ALONE
					   mem[BIASED] == s + 1 &&
#endif
						   mem[BEFORE + s] != UNKNOWN && mem[BEFORE + s] != count(mem[RIGHTS])
		:: else -> has_happened = kind(k) == DROPS && mem[BEFORE + s] != UNKNOWN
		fi
	}
	if
	:: kind(k) ->
		if
		:: kind(k) == HOLDS && has_happened && !mem[HOLD + s] -> lock_header(g); drop_right()
		:: COARSE { kind(k) == DROPS && has_happened && mem[HOLD + s] -> set(HOLD + s, 0) }
		:: else
#ifdef PLANT_UNNOTIFIED
			-> has_happened = false
#endif
		fi;
		set(INTENT + s, number(k) * 4 + NONE);
		if
		:: COARSE {
				kind(k) == DROPS && has_happened && mem[WORD] == word_of(g, REMOTE_FREE, 0) && !mem[LISTED] ->
				set(LISTED, 1)
			}
		:: else
		fi;
		commit()
	:: else
	fi;
	atomic { unlock_header(); clear_locals(); k = 0; g = 0; has_happened = false }
}

inline reclaim_session(s)
{
	finish_intent(s);
	if
	:: mem[HOLD + s] -> drop_by_lock(s)
	:: else
	fi
}

/* Drops the right that is in the word. The next owner of the pool collects its blocks. */
inline reclaim_owner()
{
	g = generation(mem[WORD]);
	lock_header(g);
	if
	:: is_mine -> set(WORD, word_of(g, LIVE, 0)); free_if_last()
	:: else
	fi;
	commit();
	atomic { unlock_header(); clear_locals(); g = 0 }
}

/* One daemon after another: me is DAEMON, DAEMON + 1. */
proctype reclaim(byte me)
{
	byte s, k, g, word, rights, biased, intent, x, before, i;
	bool swapped, is_mine, has_happened;

	{
		me == DAEMON || dead[me - 1];
		do
		:: atomic { dead[0] && !done[0] -> s = 0 } goto one
		:: atomic { dead[1] && !done[1] -> s = 1 } goto one
		:: atomic { dead[2] && !done[2] -> s = 2 } goto one
		:: atomic { dead[POOL_OWNER] && !done[POOL_OWNER] -> s = POOL_OWNER } goto one
		:: SESSIONS_ARE_DONE && done[POOL_OWNER] -> break
one:
			lock_take(me);
#ifdef OWNER_DIES
			if
			:: s == POOL_OWNER -> reclaim_owner()
			:: else -> reclaim_session(s)
			fi;
#else
			reclaim_session(s);
#endif
			atomic { lock_give(); done[s] = true; s = 0 }
		od;
		atomic { i = 0; done[DAEMON] = true; done[me] = true }
	} unless { atomic { death?eval(me) -> die(me); s = 0; k = 0; g = 0; has_happened = false; clear_locals() } }
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
#ifdef OWNER_DIES
	:: kill_session(POOL_OWNER)
#endif
#ifndef NO_DAEMON_DIES
	:: n_deaths -> kill(DAEMON)
#endif
	:: SESSIONS_ARE_DONE && done[POOL_OWNER] -> break
	od
}

init
{
	byte i;

	atomic {
#ifdef HELD
		mem[WORD] = word_of(1, LIVE, 0);
		mem[RIGHTS] = 1;
		mem[HOLD] = 1;
#else
		mem[WORD] = word_of(1, LIVE, 1);
#endif
#ifdef LISTED_FIRST
		mem[LISTED] = 1;
		mem[NOTIFIED] = 1;
#endif
		for (i : 0 .. 2) {
			if
			:: i < N_SESSIONS -> run session(i)
			:: else -> done[i] = true
			fi
		}
		i = 0;
		run pool_owner(POOL_OWNER);
		run reclaim(DAEMON);
		run reclaim(DAEMON + 1);
		run killer();
		is_ready = true
	}
	SESSIONS_ARE_DONE && done[POOL_OWNER] && (lock_owner == NOBODY || dead[lock_owner]);
	lock_take(DAEMON + 1);
	assert(!mem[HOLD] && !mem[HOLD + 1] && !mem[HOLD + 2]);
	assert(state(mem[WORD]) == FREE || (state(mem[WORD]) == REMOTE_FREE && mem[LISTED]));
	assert(!count(mem[RIGHTS]) && !own(mem[WORD]));
	lock_give();
	finished = true
}
