// SPDX-License-Identifier: MIT
/*
 * queue.c: pushes and pops without the lock
 *
 * A pusher moves its right into a cell of the queue, a popper moves it out again, each by one compare-and-swap of a
 * whole cell: {ref, stamp, pusher, popper}. Before it the session writes down what it is about to do, its intent. At
 * every moment exactly one of five has the right: the sender's hold table, the sender's intent, the cell, the
 * receiver's intent or the receiver's hold table. So the object's count never changes on the way.
 *
 * For each session that dies, recovery must know whether its compare-and-swap has happened. The cell tells it: it
 * names the last pusher and the last popper until the next push or pop there. Before a session replaces such a name it
 * looks whether the named session's intent is still there. If so it records under the lock, in the named session's
 * `done`, that the intent has happened (help).
 *
 * Sessions may die at any step, also while they roll back the change of another process. So may the daemon that
 * reclaims them; after it comes a next one. Whenever no change is under way the count of rights is right. Positions
 * are pushed and popped one after another, each once. In the end, when all have dropped what they had and the queue is
 * gone, each object was freed once.
 *
 *   push, pop: queue.c  push_fast(), pop_fast()
 *   help:      queue.c  help_filler(), help_emptier();  intent.c  intent_note_done_of_other()
 *   drop:      count.c  object_decref()
 *   reclaim:   recover.c  session_reclaim_step();  queue_recover.c  queue_finish();  log.c  log_roll_back()
 *
 * The pushers are the first sessions, then come the poppers. The first pusher pushes N_EACH objects one after another,
 * any other pusher one.
 *
 *   BUFFERED   the session whose stores other processes see late
 *   OWN        the first pusher holds its objects as the owner of their pool
 *   SHARED     with OWN: the second pusher has a right to the first of these objects, and drops it in the end
 *   TWICE      with OWN: the first pusher's objects are one object, which it holds and pushes N_EACH times
 *   AGAIN      all pushers push one object; poppers keep it, so that they pop what they hold already
 *   RELAY      the first popper pushes the first object that it pops back into the queue
 *   TORN       a cell is read in two halves
 *   FINE       the words of an intent, and an entry of the log and its store, are written and read one by one
 *   N_DEATHS   so many sessions may die, and after the first of them a daemon, unless NO_DAEMON_DIES
 *
 * PLANT_REDO judges by whether the ref is in the cell. CXL-SHM (SOSP 2023) was found to do so: when the receiver has
 * taken the ref, the sender's right is released again. PLANT_NO_HELP does not help. PLANT_NO_STAMP compares the ref
 * alone in the compare-and-swap. PLANT_INTENT_LATE writes the intent after the compare-and-swap. PLANT_UNRECORDED ends
 * an intent in recovery without recording that it has happened. PLANT_NUMBER_LATE helps an intent by the number of the
 * next one. PLANT_TORN trusts in halves that were read at different moments. PLANT_OWN_LATE gives up the owner's right
 * only when others may have given up theirs. PLANT_GIVE_BACK takes back what the owner gave when another push came
 * first. PLANT_BEFORE_STALE keeps `before` of the push before until this push has noted its own. PLANT_AGAIN takes the
 * right in the popper's table for the one that was popped.
 */
#ifndef N_CELLS
#define N_CELLS 1
#endif
#ifndef N_PUSHERS
#define N_PUSHERS 2
#endif
#ifndef N_POPPERS
#define N_POPPERS 1
#endif
#ifndef N_EACH
#define N_EACH 1
#endif
#ifndef N_DEATHS
#define N_DEATHS 2
#endif
#ifndef BUFFERED
#define BUFFERED 254
#endif

#define N_SESSIONS  3
#define DAEMON      3 /* after it comes DAEMON + 1, which nobody kills */
#define N_PROCESSES 5

#define is_pusher(me) ((me) < N_PUSHERS)

#ifdef AGAIN
#define N_OBJECTS        1
#define object_of(me, n) 0
#elif defined(TWICE)
#define N_OBJECTS        N_PUSHERS
#define object_of(me, n) (me)
#else
#define N_OBJECTS        (N_EACH + N_PUSHERS - 1)
#define object_of(me, n) ((me) * N_EACH + (n))
#endif
#ifdef OWN
#define owns(me) ((me) == 0)
#else
#define owns(me) false
#endif
#define n_of(me) (1 + (N_EACH - 1) * ((me) == 0)) /* how many objects it pushes */

/* Of each session */
#define KIND   0 /* its intent: KIND to BEFORE */
#define SEQ    3
#define REF    6
#define POS    9
#define BEFORE 12 /* what GIVEN was before, or UNKNOWN */
#define DONE   15 /* SEQ of an intent that has happened */
#define HOLD   18 /* its hold table, a word for each of at most three objects */
/* Of each object */
#define LOCKED 27 /* rights counted under the lock */
#define GIVEN  30 /* rights that the owner gave away without the lock */
#define OWNS   33 /* how many times the owner holds it */
#define FREED  36 /* it was freed */
/* Of the queue; HEAD and TAIL are hints */
#define HEAD    39
#define TAIL    40
#define CELLS   41 /* the ref of each cell, and then: */
#define STAMP   1
#define PUSHER  2
#define POPPER  3
#define N_WORDS (41 + 4 * N_CELLS)

/* UNTORN { } is one step unless TORN, COARSE { } is one step unless FINE: see memory.pml. */
#ifdef TORN
#define UNTORN
#else
#define UNTORN atomic
#endif
#ifdef FINE
#define COARSE
#else
#define COARSE atomic
#endif

#include "memory.pml"

#define NONE      0
#define PUSH      1
#define POP       2
#define PUSH_OWN  3
#define POP_AGAIN 4 /* of an object that it holds: the popped right is one too many */
#define RIGHT     5 /* the intent has the right, whatever the cells say */
#define UNKNOWN   255

#define is_push(k)          ((k) == PUSH || (k) == PUSH_OWN)
#define is_pop(k)           ((k) == POP || (k) == POP_AGAIN)
#define is_of_kind(k, kind) ((k) == (kind) || (k) == (kind) + 2) /* of PUSH or POP, which have two kinds each */
#define hold_of(s, r)       (HOLD + (s) * 3 + (r))
#define cell(p)            (CELLS + ((p) % N_CELLS) * 4)
#define count(r)            ((mem[LOCKED + (r)] + mem[GIVEN + (r)]) % 256)

/* Has the compare-and-swap of the intent happened? */
#define is_done(s) (mem[DONE + (s)] == mem[SEQ + (s)])
#define cell_of(s)   cell(mem[POS + (s)])
#ifdef PLANT_REDO
#define has_pushed(s) (mem[cell_of(s)] == mem[REF + (s)])
#else
#define has_pushed(s)                                                                                                  \
	(is_done(s) || (mem[cell_of(s) + PUSHER] == (s) &&                                                                 \
						 ((mem[cell_of(s) + STAMP] == mem[POS + (s)] && mem[cell_of(s)]) ||                            \
							 (mem[cell_of(s) + STAMP] == mem[POS + (s)] + N_CELLS && !mem[cell_of(s)]))))
#endif
/*
 * has_pushed() where a cell is read in two halves: is_filled was read before. The next stamp after that of a filled
 * cell is that of an empty one, so with it the ref need not be asked.
 */
#define has_pushed_torn(s)                                                                                             \
	(is_done(s) ||                                                                                                     \
		(mem[cell_of(s) + PUSHER] == (s) && ((mem[cell_of(s) + STAMP] == mem[POS + (s)] && is_filled) ||               \
											  mem[cell_of(s) + STAMP] == mem[POS + (s)] + N_CELLS)))
#define has_popped(s)                                                                                                  \
	(is_done(s) || (mem[cell_of(s) + POPPER] == (s) && mem[cell_of(s) + STAMP] == mem[POS + (s)] + N_CELLS))

/* Does the intent of s have a right to r? */
#define by_intent(s, r)                                                                                                \
	(mem[REF + (s)] == (r) + 1 &&                                                                                      \
		(mem[KIND + (s)] == RIGHT || (mem[KIND + (s)] == PUSH && !mem[hold_of(s, r)] && !has_pushed(s)) ||             \
			(mem[KIND + (s)] == PUSH_OWN && mem[GIVEN + (r)] == mem[BEFORE + (s)] + 1 && !has_pushed(s)) ||            \
			(mem[KIND + (s)] == POP && !mem[hold_of(s, r)] && has_popped(s)) ||                                        \
			(mem[KIND + (s)] == POP_AGAIN && has_popped(s))))
#define by_session(s, r) (mem[hold_of(s, r)] + by_intent(s, r))
#if N_CELLS == 1
#define by_cells(r) (mem[cell(0)] == (r) + 1)
#else
#define by_cells(r) ((mem[cell(0)] == (r) + 1) + (mem[cell(1)] == (r) + 1))
#endif
#define IS_COUNTED(r)                                                                                                  \
	(count(r) == by_session(0, r) + by_session(1, r) + by_session(2, r) + by_cells(r) &&                               \
		mem[FREED + (r)] == (count(r) + mem[OWNS + (r)] == 0))
#define IS_SOUND                                                                                                       \
	(IS_COUNTED(0) && (N_OBJECTS < 2 || IS_COUNTED(1)) && (N_OBJECTS < 3 || IS_COUNTED(2)))

bool is_ready;
bool rights_are_counted = true; /* whenever no change is under way */
/* Of the model, not of the heap */
byte n_pushed;
byte n_popped;
byte n_deaths;

active proctype monitor()
{
	atomic { is_ready && n_log == 0 && n_buffered == 0 && !IS_SOUND -> rights_are_counted = false };
	assert(rights_are_counted)
}

inline commit()
{
	atomic { clear_log() }
}

/* Within a change. The owner works meanwhile, so its word is read before the count of the others' rights. */
inline free_unheld(r)
{
#ifdef OWN
	is_owned = mem[OWNS + r] > 0;
#endif
	if
	:: atomic { is_owned || count(r) -> is_owned = false }
	:: COARSE { !is_owned && !count(r) -> set(FREED + r, 1) }
	fi
}

inline drop_right(r)
{
	COARSE { assert(count(r) > 0 && !mem[FREED + r]); set(LOCKED + r, (mem[LOCKED + r] + 255) % 256) }
	free_unheld(r)
}

/* This is one change. */
inline drop_hold(s, r)
{
	if
	:: COARSE { mem[hold_of(s, r)] -> set(hold_of(s, r), 0) }
		drop_right(r);
		commit()
	:: else
	fi
}

/* This is one change, of an owner. */
inline drop_owned(s, r)
{
	if
	:: owns(s) && mem[OWNS + r] -> set(OWNS + r, 0); free_unheld(r); commit()
	:: else
	fi
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

/* The compare-and-swap of the cell of position p, from what was read. It is a barrier. */
inline swap(new_ref, new_stamp, new_pusher, new_popper)
{
	atomic {
		me != BUFFERED || n_buffered == 0;
#ifdef PLANT_NO_STAMP
		swapped = mem[cell(p)] == ref;
#else
		swapped = mem[cell(p)] == ref && mem[cell(p) + STAMP] == p && mem[cell(p) + PUSHER] == pusher &&
				  mem[cell(p) + POPPER] == popper;
#endif
		if
		:: swapped ->
			mem[cell(p)] = new_ref;
			mem[cell(p) + STAMP] = new_stamp;
			mem[cell(p) + PUSHER] = new_pusher;
			mem[cell(p) + POPPER] = new_popper
		:: else
		fi
	}
}

/*
 * Read the cell of position p. With TORN it is read in two halves, and then the first half again. Otherwise a cell
 * that is popped in between looks as if p were still to be pushed there. A session that has pushed p itself before
 * would then write an intent to push p, and the cell would seem to say that this intent has happened already.
 */
inline read_cell()
{
#ifdef TORN
	do
	:: read_marks();
		ref = mem[cell(p)];
#ifndef PLANT_TORN
		if
		:: mem[cell(p) + STAMP] == stamp -> break
		:: else
		fi
#else
		break
#endif
	od
#else
	atomic { read_marks(); ref = mem[cell(p)] }
#endif
}

inline read_marks()
{
	atomic {
		stamp = mem[cell(p) + STAMP];
		pusher = mem[cell(p) + PUSHER];
		popper = mem[cell(p) + POPPER]
	}
}

/* The intent of another session. */
inline read_intent(s, kind, pos)
{
#ifdef FINE
	x = is_of_kind(mem[KIND + s], kind);
	x = x && mem[POS + s] == pos
#else
	x = is_of_kind(mem[KIND + s], kind) && mem[POS + s] == pos
#endif
}

/*
 * Before the cell's name of its last pusher (popper) s is replaced: if the intent of s for that position is still
 * there, record that it has happened. The number is read before the intent, so it belongs to the intent that is read
 * then, or to an earlier one.
 */
inline help(s, kind, pos)
{
#ifdef PLANT_NO_HELP
	skip
#else
	if
	:: s != NOBODY && s != me ->
		read_intent(s, kind, pos);
		if
		:: x ->
			lock_take(me);
#ifdef PLANT_NUMBER_LATE
			read_intent(s, kind, pos);
			seq = mem[SEQ + s];
#else
			seq = mem[SEQ + s];
			read_intent(s, kind, pos);
#endif
			atomic {
				if
				:: x -> mem[DONE + s] = seq
				:: else
				fi;
				lock_give();
				x = 0;
				seq = 0
			}
		:: else
		fi
	:: else
	fi
#endif
}

/* The kind comes last: with it the intent begins. */
inline write_intent(kind, what)
{
#ifdef FINE
	store(REF + me, what);
	store(POS + me, p);
	store(SEQ + me, mem[SEQ + me] + 1);
#else
	atomic { store(REF + me, what); store(POS + me, p); store(SEQ + me, mem[SEQ + me] + 1) }
#endif
	store(KIND + me, kind)
}

#define POPPERS_ARE_DONE (done[2] && (done[N_PUSHERS] || me == N_PUSHERS)) /* all but the relay that asks */
#define PUSHERS_ARE_DONE (done[0] && done[N_PUSHERS - 1])

inline clear_locals()
{
	p = 0;
	ref = 0;
	stamp = 0;
	pusher = 0;
	popper = 0;
	swapped = false;
	x = 0;
	seq = 0;
	i = 0;
	is_owned = false;
	by_word = false
}

/* The intent has the right from the moment at which the table has it no more. */
inline give_by_table(r)
{
	write_intent(PUSH, r + 1);
	store(hold_of(me, r), 0)
}

inline take_back_by_table(r)
{
	store(hold_of(me, r), 1);
	atomic { store(KIND + me, NONE); clear_locals() }
}

inline own_less(r)
{
	atomic { fetch(OWNS + r, x); store(OWNS + r, x - 1); x = 0 }
}

/* The intent has the right from the moment at which it is given. The owner gives up its own before others can. */
inline give_as_owner(r)
{
	/* A death before BEFORE is noted has given nothing yet. BEFORE of an earlier push must not say otherwise. */
#ifndef PLANT_BEFORE_STALE
	store(BEFORE + me, UNKNOWN);
#endif
	write_intent(PUSH_OWN, r + 1);
	atomic { fetch(GIVEN + r, x); store(BEFORE + me, x) }
	store(GIVEN + r, x + 1);
	x = 0;
#ifndef PLANT_OWN_LATE
	own_less(r)
#endif
}

/*
 * What was given stays given, and goes into the table by the next intent. A process that has read the owner's word
 * without the right is yet to read what was given, and must find it there.
 */
inline take_back_as_owner(r)
{
#ifdef PLANT_GIVE_BACK
	atomic { fetch(OWNS + r, x); store(OWNS + r, x + 1); x = 0 }
	atomic { fetch(GIVEN + r, x); store(GIVEN + r, x - 1); x = 0 }
	atomic { store(KIND + me, NONE); clear_locals() }
#else
	/* kind and number are one word */
	atomic { fetch(SEQ + me, seq); store(KIND + me, RIGHT); store(SEQ + me, seq + 1); seq = 0 }
	store(KIND + me, PUSH);
	take_back_by_table(r)
#endif
}

/* A right in the table goes first, then the one of the owner's word. */
inline find_sender(r)
{
	atomic { fetch(hold_of(me, r), by_word); by_word = owns(me) && !by_word }
}

/* A push waits while the queue is full, unless no popper is left. */
inline push(r)
{
	do
	:: fetch(TAIL, p);
		do
		:: UNTORN {
				read_cell();
				if
				:: stamp == p && !ref -> break
				:: stamp > p || (stamp == p && ref) -> p++
				:: stamp < p ->
					if
					:: mem[cell(p) + STAMP] >= p
					:: POPPERS_ARE_DONE -> clear_locals(); goto out
					fi
				fi
			}
		od;
		help(pusher, PUSH, p - N_CELLS);
#ifdef PLANT_INTENT_LATE
		store(hold_of(me, r), 0);
#elif defined(OWN)
		find_sender(r);
		if
		:: by_word -> give_as_owner(r)
		:: else -> give_by_table(r)
		fi;
#else
		give_by_table(r);
#endif
		atomic {
			swap(r + 1, p, me, popper);
			if
			:: swapped -> assert(p == n_pushed); n_pushed++; break
			:: else
			fi
		}
#ifdef OWN
		if
		:: by_word -> take_back_as_owner(r)
		:: else -> take_back_by_table(r)
		fi;
#else
		take_back_by_table(r);
#endif
	od;
#ifdef PLANT_INTENT_LATE
	write_intent(PUSH, r + 1);
#endif
#ifdef PLANT_OWN_LATE
	if
	:: by_word -> own_less(r)
	:: else
	fi;
#endif
	store(TAIL, p + 1);
	atomic { store(KIND + me, NONE); clear_locals() }
}

proctype session_that_pushes(byte me)
{
	byte n, p, ref, stamp, pusher, popper, x, seq, i;
	bool swapped, is_owned, by_word;

	{
		do
		:: push(object_of(me, n));
			atomic {
				n++;
				if
				:: n == n_of(me) -> break
				:: else
				fi
			}
		od;
out:
		do
		:: n < n_of(me) ->
			lock_take(me);
			drop_hold(me, object_of(me, n));
			drop_owned(me, object_of(me, n));
			lock_give();
			n++
		:: else -> break
		od;
#ifdef SHARED
		if
		:: me == 1 ->
			lock_take(me);
			drop_hold(me, 0);
			lock_give()
		:: else
		fi;
#endif
		atomic { me != BUFFERED || n_buffered == 0; n = 0; done[me] = true }
	} unless { atomic { death?eval(me) -> die(me); n = 0; clear_locals() } }
}

/* It pops until the queue is empty and no pusher is left. */
proctype session_that_pops(byte me)
{
	byte p, ref, stamp, pusher, popper, x, seq, i, r;
	bool swapped, is_owned, by_word, again, has_relayed;

	{
		do
		:: fetch(HEAD, p);
			do
			:: UNTORN {
					read_cell();
					if
					:: stamp == p && ref -> break
					:: stamp > p -> p++
					:: stamp == p && !ref ->
						if
						:: mem[cell(p)] || mem[cell(p) + STAMP] > p
						:: PUSHERS_ARE_DONE && !mem[cell(p)] -> clear_locals(); again = false; goto out
						fi
					fi
				}
			od;
			help(popper, POP, p - N_CELLS);
#ifdef AGAIN
			fetch(hold_of(me, ref - 1), again);
#endif
#ifdef PLANT_AGAIN
			again = false;
#endif
			write_intent((again -> POP_AGAIN : POP), ref);
			atomic {
				swap(0, p + N_CELLS, pusher, me);
				if
				:: swapped -> assert(p == n_popped && !mem[FREED + ref - 1]); n_popped++
				:: else
				fi
			}
			if
			:: atomic { swapped && !again -> store(hold_of(me, ref - 1), 1) }
				store(HEAD, p + 1);
#ifdef AGAIN
				atomic { store(KIND + me, NONE); clear_locals(); again = false }
#else
				store(KIND + me, NONE);
#ifdef RELAY
				if
				:: atomic { me == 1 && !has_relayed -> has_relayed = true; r = ref - 1; clear_locals() }
					push(r);
					ref = r + 1
				:: else
				fi;
#endif
				lock_take(me);
				drop_hold(me, ref - 1);
				atomic { lock_give(); clear_locals(); again = false }
#endif
			:: swapped && again ->
				lock_take(me);
				drop_right(ref - 1);
				set(KIND + me, NONE);
				commit();
				atomic { lock_give(); clear_locals(); again = false }
			:: atomic { !swapped -> store(KIND + me, NONE); clear_locals(); again = false }
			fi
		od;
out:
#if defined(AGAIN) || defined(RELAY)
		lock_take(me);
		drop_hold(me, r);
		lock_give();
#endif
		atomic { me != BUFFERED || n_buffered == 0; has_relayed = false; r = 0; done[me] = true }
	} unless { atomic { death?eval(me) -> die(me); again = false; has_relayed = false; r = 0; clear_locals() } }
}

/* The next object that the dead session has a right to. */
inline find_right(s)
{
	d_step {
		do
		:: r < N_OBJECTS && !mem[hold_of(s, r)] && !(owns(s) && mem[OWNS + r]) -> r++
		:: else -> break
		od
	}
}

/*
 * This is one change. That the intent has happened is recorded for good before the intent goes. Other sessions see the
 * intent gone, although that may yet be rolled back, and replace the name in the cell.
 */
inline finish_intent(s)
{
	UNTORN {
		d_step { k = mem[KIND + s]; r = mem[REF + s] - 1; is_filled = mem[cell_of(s)] > 0 }
#ifdef TORN
		has_happened = ((is_push(k) && has_pushed_torn(s)) || (is_pop(k) && has_popped(s)))
#else
		has_happened = ((is_push(k) && has_pushed(s)) || (is_pop(k) && has_popped(s)))
#endif
	}
	if
	:: atomic {
			k ->
#ifndef PLANT_UNRECORDED
			if
			:: has_happened -> mem[DONE + s] = mem[SEQ + s]
			:: else
			fi
#endif
		}
		if
		:: k == PUSH && !has_happened && !mem[hold_of(s, r)] -> drop_right(r)
		:: k == RIGHT -> drop_right(r)
		:: k == PUSH_OWN && !has_happened && !mem[hold_of(s, r)] && mem[GIVEN + r] == mem[BEFORE + s] + 1 ->
			set(GIVEN + r, mem[BEFORE + s]);
			free_unheld(r)
		:: k == POP && has_happened && !mem[hold_of(s, r)] -> drop_right(r)
		:: k == POP_AGAIN && has_happened -> drop_right(r)
		:: else
		fi;
		set(KIND + s, NONE);
		commit()
	:: else
	fi;
	atomic { k = 0; r = 0; is_filled = false; has_happened = false; find_right(s) }
}

inline reclaim_session(s)
{
	finish_intent(s);
	do
	:: r < N_OBJECTS -> drop_owned(s, r); drop_hold(s, r); find_right(s)
	:: atomic { r == N_OBJECTS -> r = 0; break }
	od
}

/* One daemon after another: me is DAEMON, DAEMON + 1. */
proctype reclaim(byte me)
{
	byte s, k, r, i;
	bool is_filled, has_happened, is_owned;

	{
		me == DAEMON || dead[me - 1];
		do
		:: atomic { dead[0] && !done[0] -> s = 0 } goto one
		:: atomic { dead[1] && !done[1] -> s = 1 } goto one
		:: atomic { dead[2] && !done[2] -> s = 2 } goto one
		:: done[0] && done[1] && done[2] -> break
one:
			lock_take(me);
			reclaim_session(s);
			atomic { lock_give(); done[s] = true; s = 0 }
		od;
		atomic { i = 0; done[DAEMON] = true; done[me] = true }
	} unless {
		atomic {
			death?eval(me) -> die(me); s = 0; k = 0; r = 0; i = 0; is_filled = false; has_happened = false; is_owned = false
		}
	}
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
#ifndef NO_DAEMON_DIES
	:: n_deaths -> kill(DAEMON)
#endif
	:: done[0] && done[1] && done[2] -> break
	od
}

inline drop_cell(p)
{
	if
	:: mem[cell(p)] ->
		r = mem[cell(p)] - 1;
		set(cell(p), 0);
		drop_right(r);
		commit();
		r = 0
	:: else
	fi
}

init
{
	byte r, i;
	bool is_owned;

	atomic {
		for (r : 0 .. N_CELLS - 1) {
			mem[CELLS + r * 4 + STAMP] = r;
			mem[CELLS + r * 4 + PUSHER] = NOBODY;
			mem[CELLS + r * 4 + POPPER] = NOBODY
		}
		for (i : 0 .. N_PUSHERS - 1) {
			for (r : 0 .. n_of(i) - 1) {
				if
				:: owns(i) -> mem[OWNS + object_of(i, r)] = mem[OWNS + object_of(i, r)] + 1
				:: else ->
					mem[hold_of(i, object_of(i, r))] = 1;
					mem[LOCKED + object_of(i, r)] = mem[LOCKED + object_of(i, r)] + 1
				fi
			}
		}
#ifdef SHARED
		mem[hold_of(1, 0)] = 1;
		mem[LOCKED] = 1;
#endif
		for (i : 0 .. 2) {
			if
			:: is_pusher(i) -> run session_that_pushes(i)
			:: i >= N_PUSHERS && i < N_PUSHERS + N_POPPERS -> run session_that_pops(i)
			:: else -> done[i] = true
			fi
		}
		r = 0;
		i = 0;
		run reclaim(DAEMON);
		run reclaim(DAEMON + 1);
		run killer();
		is_ready = true
	}
	done[0] && done[1] && done[2] && (lock_owner == NOBODY || dead[lock_owner]);
	lock_take(DAEMON + 1);
	drop_cell(0); /* the queue is dropped */
#if N_CELLS == 2
	drop_cell(1);
#endif
	for (r : 0 .. N_OBJECTS - 1) {
		assert(mem[FREED + r] && !count(r) && !mem[OWNS + r])
	}
	lock_give();
	finished = true
}
