// SPDX-License-Identifier: MIT
/*
 * Holding another session's object for the first time, and dropping it for the last time, without the lock
 *
 * How many have a right to an object is in its header, which is changed by one compare-and-swap of both its words; who
 * they are is in their hold tables. The two are changed one after the other, so before them the session writes down
 * what it is about to do, its intent, with the count as it saw it.
 *
 * Of each session that dies it must be said whether its compare-and-swap has taken place. The header is biased to one
 * session at a time, or to nobody: that one alone, or the first to come, changes the count without the lock, so his has
 * taken place if the count is another than it was. Whoever has the lock claims the header first, so that he alone
 * changes it, and then says in the biased one's `done` that his has taken place, if so, before the bias goes. That is
 * not in the log: it stays true. The claim is in the log, with the count, but is not made before that is written; it
 * ends when the log is empty, be the change committed or taken back.
 *
 * Who takes the last right makes the block a returned one in the same step, and then tells the pool's owner, unless it
 * is told already.
 *
 * Sessions may die at any step, also in the middle of taking back the change of another, and so may the daemon that
 * reclaims them; there is a next one. Whenever no change is under way exactly the rights that are counted are there,
 * and only in an object that is alive; in the end the block is free, or its pool is on its owner's list.
 *
 *   attempt, tell:  count.c  count_hold(), count_drop(), tell()
 *   claim:          claim.c;  lock.c  log_take_back(), log_empty()
 *   settle_intent:  count.c  count_finish()
 *   let_go, gather: own.c  settle();  pool.c  pool_gather()
 *
 * There is one block. Each session holds whatever is in it and drops it, the first N_EACH times, in N_TRIES attempts
 * before it goes by the lock; MIXED: or by the lock at once. HELD: the first session holds it already, and the owner
 * does not. The owner lets go at any time, gathers, and makes N_GENERATIONS objects of the block, one after the other;
 * LISTED_FIRST: it was told of another block of the pool. BUFFERED is a session, or the owner (MAKER), whose stores
 * others see late. TORN: who looks at a header reads it word by word. FINE: intents, too. N_DEATHS sessions (the owner
 * is one where OWNER_DIES is defined) die, and a daemon after the first of them unless NO_DAEMON_DIES.
 *
 * PLANT_NO_BIAS goes without the lock also where the header is biased to a session that seems to have no intent: it may
 * have one by then, and have changed the header to what it was. PLANT_COUNT_ALONE judges by the count, whoever the
 * header is biased to; PLANT_UNSAID takes the bias without saying anything, PLANT_SAID_FIRST looks at the intent before
 * the claim; PLANT_SAID_IN_LOG takes back what was said; PLANT_UNCLAIMED changes what is not claimed, PLANT_UNCLAIM_EARLY
 * ends the claim before the commit, PLANT_UNCLAIM_BACK while the change is being taken back, which may have to be done
 * again; PLANT_BIAS_LEFT leaves the bias where one who died had claimed the header. PLANT_TOLD_FIRST looks whether the
 * owner is told before the block is returned, PLANT_TOLD_LATE says so after the lock, PLANT_GATHER_FIRST gathers before
 * it takes that back; PLANT_UNTOLD does not tell of what the dead returned when their hold table is in order.
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

#define MAKER       3 /* the pool's owner */
#define DAEMON      4 /* there is a next one, DAEMON + 1, which nobody kills */
#define N_PROCESSES 6
#define OWNER       BUFFERED

#define WORD   0
#define RIGHTS 1
#define BIASED 2 /* to a session, plus one */
/* Of the pool */
#define LISTED 3 /* it is on its owner's list */
#define TOLD   4
/* Of each session */
#define INTENT  5  /* its number and kind */
#define REF     8  /* a generation */
#define BEFORE  11 /* the rights as they were, or UNKNOWN */
#define DONE    14 /* number of one that has taken place */
#define HOLD    17 /* its hold table: a generation */
#define N_WORDS 20
#define CLAIM   20 /* in the log: not a word */

#define FREE     0
#define LIVE     1
#define RETURNED 2
#define word_of(g, state, own) ((g) * 16 + (state) * 4 + (own))
#define generation(w)          ((w) / 16)
#define state(w)               (((w) / 4) % 4)
#define own(w)                 ((w) % 4)
#define is_live(w, g)          (state(w) == LIVE && generation(w) == (g))

#define CLAIMED             8
#define count(r)            ((r) % 8)
#define is_claimed(r)       ((r) / 8)
#define is_alive(w, r, g)   (is_live(w, g) && (own(w) || count(r)))

#define NONE      0
#define HOLDS     1
#define DROPS     2
#define UNKNOWN   255
#define kind(i)   ((i) % 4)
#define number(i) ((i) / 4)

#define GOT   1
#define AGAIN 2
#define SLOW  3

/* Nobody changes what is claimed, so it may be done again. Where it is not claimed, that was not done. */
#define OWN_ENTRIES

inline take_back(where, old)
{
	if
	:: where == CLAIM && is_claimed(mem[RIGHTS]) ->
#ifdef PLANT_UNCLAIM_BACK
		mem[RIGHTS] = old
#else
		mem[RIGHTS] = count(old) + CLAIMED
#endif
	:: where == CLAIM && !is_claimed(mem[RIGHTS])
	:: where == RIGHTS -> mem[RIGHTS] = old; mem[BIASED] = 0
	:: where != CLAIM && where != RIGHTS -> mem[where] = old
	fi
}

inline taken_back()
{
	mem[RIGHTS] = count(mem[RIGHTS])
}

#include "memory.pml"

bool has_swapped[3]; /* the compare-and-swap of the intent; of the model, as those below */
bool is_ready;
bool rights_are_counted = true; /* whenever no change is under way */
byte n_deaths;

/* Does it have a right, and to what? */
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

inline let_go_of_claim()
{
	if
	:: atomic { is_mine -> mem[RIGHTS] = count(mem[RIGHTS]); is_mine = false }
	:: !is_mine
	fi
}

inline commit()
{
#ifdef PLANT_UNCLAIM_EARLY
	let_go_of_claim();
#endif
	atomic { forget_log() }
	let_go_of_claim()
}

/* What a session does without the lock. */
inline store(where, what)
{
	atomic {
		if
		:: me == OWNER -> buffered(where, what)
		:: else -> mem[where] = what
		fi
	}
}

inline fetch(where, ret)
{
	atomic {
		if
		:: me == OWNER -> load(where, ret)
		:: else -> ret = mem[where]
		fi
	}
}

/* It is a barrier. */
inline swap(new_word, new_rights, new_biased)
{
	atomic {
		me != OWNER || n_buffered == 0;
		swapped = mem[WORD] == word && mem[RIGHTS] == rights && mem[BIASED] == biased;
		if
		:: swapped -> mem[WORD] = new_word; mem[RIGHTS] = new_rights; mem[BIASED] = new_biased
		:: else
		fi
	}
}

inline look_at_header()
{
	atomic {
#ifndef TORN
		fetch(WORD, word);
#endif
		fetch(RIGHTS, rights);
		fetch(BIASED, biased)
	}
}

/* All of one, or none: it has ended meanwhile. */
inline look_at_intent(s)
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

#define has_taken_place(g, c) (kind(intent) && x == (g) && before != UNKNOWN && before != (c))

inline forget_look()
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

/* ---- with the lock ----------------------------------------------------------------------------------------------- */

inline say_done(s)
{
#ifdef PLANT_UNSAID
	skip
#elif defined(PLANT_SAID_IN_LOG)
	set(DONE + s, number(intent))
#else
	mem[DONE + s] = number(intent)
#endif
}

/* Of what is claimed. */
inline take_bias(g)
{
	if
#ifdef FINE
	:: biased ->
		look_at_intent(biased - 1);
		if
		:: has_taken_place(g, count(rights)) -> say_done(biased - 1)
		:: else
		fi;
#else
	:: atomic {
			biased ->
#ifndef PLANT_SAID_FIRST
			look_at_intent(biased - 1);
#endif
			if
			:: has_taken_place(g, count(rights)) -> say_done(biased - 1)
			:: else
			fi
		}
#endif
		atomic { mem[BIASED] = 0; biased = 0; intent = 0; x = 0; before = 0 }
	:: !biased
	fi
}

/*
 * Within a change. Where the object is there it is_mine; it may have been claimed before, by one who died. What the log
 * says of it is as it was seen before the entry counts: what is claimed already will not be another.
 */
inline claim(g)
{
#ifdef TORN
	fetch(WORD, word);
#endif
	look_at_header();
	d_step { log_where[n_log] = CLAIM; log_old[n_log] = rights; n_log++ }
	do
	:: atomic {
#ifdef PLANT_UNCLAIMED
			is_live(word, g) -> is_mine = true; rights = rights + CLAIMED; break
#else
			is_live(word, g) && is_claimed(rights) ->
			is_mine = true;
#ifdef PLANT_BIAS_LEFT
			biased = 0;
#endif
			break
#endif
		}
	:: atomic { !is_live(word, g) -> biased = 0; rights = 0; break }
	:: else ->
#ifdef PLANT_SAID_FIRST
		if
		:: biased -> look_at_intent(biased - 1)
		:: else
		fi;
#endif
		atomic {
			swap(word, rights + CLAIMED, biased);
			if
			:: swapped -> rights = rights + CLAIMED; is_mine = true; break
			:: else
			fi
		}
#ifdef TORN
		fetch(WORD, word);
#endif
		look_at_header();
		log_old[n_log - 1] = rights
	od;
	atomic { word = 0; swapped = false }
	take_bias(g)
}

/* Within a change, of what is claimed: has it gone? The owner may let go meanwhile. */
inline end_if_last()
{
	if
	:: atomic { !own(mem[WORD]) && !count(mem[RIGHTS]) -> set(WORD, mem[WORD] - LIVE * 4 + RETURNED * 4) }
		set(RIGHTS, 0);
		set(LISTED, 1)
	:: own(mem[WORD]) || count(mem[RIGHTS])
	fi
}

/* The log knows the count. */
inline store_count(n)
{
#ifdef PLANT_UNCLAIMED
	mem[RIGHTS] = n
#else
	mem[RIGHTS] = n + CLAIMED
#endif
}

inline drop_right()
{
	assert(is_mine && count(rights) > 0 && state(mem[WORD]) == LIVE);
	store_count(count(rights) - 1);
	end_if_last()
}

inline hold_by_lock()
{
	lock_take(me);
	if
	:: is_alive(mem[WORD], mem[RIGHTS], g) ->
		claim(g);
		if
		:: is_mine ->
			store_count(count(rights) + 1);
			set(HOLD + me, g);
			is_held = true
		:: else
		fi
	:: else
	fi;
	commit();
	atomic { forget_look(); lock_give() }
}

inline drop_by_lock(s)
{
	atomic { g = mem[HOLD + s]; set(HOLD + s, 0) }
	claim(g);
	drop_right();
	commit();
	atomic { forget_look(); g = 0 }
}

/* ---- without the lock -------------------------------------------------------------------------------------------- */

/* What it is comes last. */
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

/* It is all the same what else it has then; so that fewer states differ. */
inline end_intent()
{
	atomic {
		fetch(INTENT + me, x);
		store(INTENT + me, number(x) * 4 + NONE);
		x = 0;
#ifndef FINE
		if
		:: me != OWNER -> mem[REF + me] = 0; mem[BEFORE + me] = 0; has_swapped[me] = false
		:: else
		fi
#endif
	}
}

/* Of a block that was returned. */
inline tell()
{
#ifndef PLANT_TOLD_FIRST
	fetch(TOLD, is_told);
#endif
	if
	:: !is_told ->
		lock_take(me);
		if
		:: !mem[LISTED] && mem[WORD] == word_of(g, RETURNED, 0) -> set(LISTED, 1)
		:: else
		fi;
		commit();
#ifdef PLANT_TOLD_LATE
		is_told = mem[LISTED];
		lock_give();
		if
		:: is_told -> store(TOLD, 1)
		:: else
		fi
#else
		if
		:: mem[LISTED] -> mem[TOLD] = 1
		:: else
		fi;
		lock_give()
#endif
	:: is_told
	fi;
	is_told = false
}

inline attempt()
{
	write_kind(kind);
#ifdef TORN
	fetch(WORD, word);
#endif
	atomic {
		look_at_header();
		if
		:: !is_alive(word, rights, g) || is_claimed(rights) -> outcome = SLOW; goto over
#ifndef PLANT_NO_BIAS
		:: is_alive(word, rights, g) && !is_claimed(rights) && biased && biased != me + 1 -> outcome = SLOW; goto over
#endif
		:: else
		fi
	}
#ifdef PLANT_NO_BIAS
	if
	:: atomic {
			biased && biased != me + 1 ->
			look_at_intent(biased - 1);
			if
			:: kind(intent) && x == g -> outcome = SLOW; goto over
			:: else -> intent = 0; x = 0; before = 0
			fi
		}
	:: else
	fi;
#endif
	atomic { store(BEFORE + me, rights); is_last = kind == DROPS && !own(word) && count(rights) == 1 }
#ifdef PLANT_TOLD_FIRST
	fetch(TOLD, is_told);
#endif
	atomic {
		if
		:: is_last -> swap(word_of(g, RETURNED, 0), 0, 0)
		:: !is_last && kind == DROPS -> swap(word, count(rights) - 1, me + 1)
		:: kind == HOLDS -> swap(word, count(rights) + 1, me + 1)
		fi;
		has_swapped[me] = swapped;
		outcome = (swapped -> GOT : AGAIN);
		forget_look();
		if
		:: outcome == AGAIN -> goto over
		:: else
		fi
	}
	atomic { store(HOLD + me, (kind == HOLDS) * g); is_held = kind == HOLDS }
	if
	:: is_last -> tell()
	:: !is_last
	fi;
over:
	atomic { end_intent(); forget_look(); is_last = false; is_told = false }
}

inline next_turn()
{
	turn = turn + 1 + (kind == HOLDS && !is_held);
	kind = 0;
	g = 0;
	tries = 0;
	outcome = 0
}

inline forget_attempt()
{
	forget_look();
	turn = 0;
	g = 0;
	kind = 0;
	tries = 0;
	outcome = 0;
	is_held = false;
	is_last = false;
	is_told = false
}

/* What it holds it drops, else it holds what is in the block. */
inline choose()
{
	kind = (is_held -> DROPS : HOLDS);
	if
	:: is_held -> fetch(HOLD + me, g)
	:: else -> g = generation(mem[WORD])
	fi
}

#define n_of(me)  (1 + (N_EACH - 1) * ((me) == 0)) /* so many times */
#define HAS_TURNS (turn < 2 * n_of(me))

proctype session(byte me)
{
	byte turn, g, kind, tries, outcome;
	byte word, rights, biased, intent, x, before, i;
	bool is_held, swapped, is_mine, is_last, is_told;

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
			attempt();
			atomic {
				if
				:: outcome == GOT -> next_turn()
				:: outcome == AGAIN -> tries++; outcome = 0
				:: outcome == SLOW -> tries = N_TRIES; outcome = 0
				fi
			}
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
			:: kind == DROPS -> lock_take(me); drop_by_lock(me); lock_give(); is_held = false
			fi;
			atomic { next_turn() }
		:: atomic { !HAS_TURNS -> break }
		od;
		atomic { me != OWNER || n_buffered == 0; forget_attempt(); done[me] = true }
	} unless { atomic { doomed == me -> die(me); forget_attempt() } }
}

/* ---- the pool's owner -------------------------------------------------------------------------------------------- */

inline let_go()
{
	atomic { fetch(WORD, word); store(WORD, word - 1); g = generation(word); owns = false }
	lock_take(me);
	claim(g);
	if
	:: is_mine -> end_if_last()
	:: else
	fi;
	commit();
	atomic { forget_look(); g = 0; lock_give() }
}

inline gather()
{
#ifdef PLANT_GATHER_FIRST
	word = mem[WORD];
	mem[TOLD] = 0;
#else
	mem[TOLD] = 0;
	word = mem[WORD];
#endif
	set(LISTED, 0);
	if
	:: state(word) == RETURNED -> set(WORD, word_of(generation(word), FREE, 0)); set(RIGHTS, 0)
	:: else
	fi;
	commit();
	word = 0
}

#define SESSIONS_ARE_DONE (done[0] && done[1] && done[2])

proctype maker(byte me)
{
	byte g, word, rights, biased, intent, x, before, i;
	bool owns, swapped, is_mine;

	{
#ifndef HELD
		owns = true;
#endif
		do
		:: owns -> let_go()
		:: mem[LISTED] ->
			lock_take(me);
			gather();
			lock_give()
		:: state(mem[WORD]) == FREE && generation(mem[WORD]) < N_GENERATIONS ->
			word = mem[WORD];
			store(RIGHTS, 0);
			store(WORD, word_of(generation(word) + 1, LIVE, 1));
			atomic { word = 0; owns = true }
		:: SESSIONS_ARE_DONE && !mem[LISTED] && !owns &&
				!(state(mem[WORD]) == FREE && generation(mem[WORD]) < N_GENERATIONS) ->
			break
		od;
		atomic { me != OWNER || n_buffered == 0; forget_look(); g = 0; done[me] = true }
	} unless { atomic { doomed == me -> die(me); forget_look(); g = 0; owns = false } }
}

/* ---- the dead ---------------------------------------------------------------------------------------------------- */

/* One change. A right that was not dropped would keep the object alive. */
inline settle_intent(s)
{
	atomic {
		k = mem[INTENT + s];
		g = mem[REF + s];
		if
		:: is_live(mem[WORD], g) ->
			happened = mem[DONE + s] == number(k) ||
#ifndef PLANT_COUNT_ALONE
					   mem[BIASED] == s + 1 &&
#endif
						   mem[BEFORE + s] != UNKNOWN && mem[BEFORE + s] != count(mem[RIGHTS])
		:: else -> happened = kind(k) == DROPS && mem[BEFORE + s] != UNKNOWN
		fi
	}
	if
	:: kind(k) ->
		if
		:: kind(k) == HOLDS && happened && !mem[HOLD + s] -> claim(g); drop_right()
		:: kind(k) == DROPS && happened && mem[HOLD + s] -> set(HOLD + s, 0)
		:: else
#ifdef PLANT_UNTOLD
			-> happened = false
#endif
		fi;
		set(INTENT + s, number(k) * 4 + NONE);
		if
		:: kind(k) == DROPS && happened && mem[WORD] == word_of(g, RETURNED, 0) && !mem[LISTED] -> set(LISTED, 1)
		:: else
		fi;
		commit()
	:: else
	fi;
	atomic { forget_look(); k = 0; g = 0; happened = false }
}

inline reclaim_session(s)
{
	settle_intent(s);
	if
	:: mem[HOLD + s] -> drop_by_lock(s)
	:: else
	fi
}

/* What it held by the word; the pool is to be gathered by who has it then. */
inline reclaim_maker()
{
	g = generation(mem[WORD]);
	claim(g);
	if
	:: is_mine -> set(WORD, word_of(g, LIVE, 0)); end_if_last()
	:: else
	fi;
	commit();
	atomic { forget_look(); g = 0 }
}

/* One daemon after the other: me is DAEMON, DAEMON + 1. */
proctype reclaim(byte me)
{
	byte s, k, g, word, rights, biased, intent, x, before, i;
	bool swapped, is_mine, happened;

	{
		me == DAEMON || dead[me - 1];
		do
		:: atomic { dead[0] && !done[0] -> s = 0 } goto one
		:: atomic { dead[1] && !done[1] -> s = 1 } goto one
		:: atomic { dead[2] && !done[2] -> s = 2 } goto one
		:: atomic { dead[MAKER] && !done[MAKER] -> s = MAKER } goto one
		:: SESSIONS_ARE_DONE && done[MAKER] -> break
one:
			lock_take(me);
			if
			:: s == MAKER -> reclaim_maker()
			:: else -> reclaim_session(s)
			fi;
			lock_give();
			atomic { done[s] = true; s = 0 }
		od;
		atomic { i = 0; done[DAEMON] = true; done[me] = true }
	} unless { atomic { doomed == me -> die(me); s = 0; k = 0; g = 0; happened = false; forget_look() } }
}

/* So many sessions, and a daemon. */
inline kill_session(who)
{
	atomic { n_deaths < N_DEATHS && doomed == NOBODY && !done[who] && !dead[who] -> doomed = who; n_deaths++ }
}

proctype killer()
{
	do
	:: kill_session(0)
	:: kill_session(1)
	:: kill_session(2)
#ifdef OWNER_DIES
	:: kill_session(MAKER)
#endif
#ifndef NO_DAEMON_DIES
	:: n_deaths -> kill(DAEMON)
#endif
	:: SESSIONS_ARE_DONE && done[MAKER] -> break
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
		mem[TOLD] = 1;
#endif
		for (i : 0 .. 2) {
			if
			:: i < N_SESSIONS -> run session(i)
			:: else -> done[i] = true
			fi
		}
		i = 0;
		run maker(MAKER);
		run reclaim(DAEMON);
		run reclaim(DAEMON + 1);
		run killer();
		is_ready = true
	}
	SESSIONS_ARE_DONE && done[MAKER] && (lock_owner == NOBODY || dead[lock_owner]);
	lock_take(DAEMON + 1);
	assert(!mem[HOLD] && !mem[HOLD + 1] && !mem[HOLD + 2]);
	assert(state(mem[WORD]) == FREE || (state(mem[WORD]) == RETURNED && mem[LISTED]));
	assert(!count(mem[RIGHTS]) && !own(mem[WORD]));
	lock_give();
	finished = true
}
