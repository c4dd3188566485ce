// SPDX-License-Identifier: MIT
/*
 * A queue without the lock
 *
 * Pushers move their rights into places of the queue, poppers move them out again, each by one compare-and-swap of a
 * whole place: {ref, stamp, pusher, popper}. Before it the session writes down what it is about to do, its intent. A
 * right is always at exactly one of five: the sender's hold table, the sender's intent, the place, the receiver's
 * intent, the receiver's hold table; so the object's count never changes on the way.
 *
 * Of each session that dies it must be said whether its compare-and-swap has taken place. The place says so: it notes
 * who pushed and who popped last, until the next of the kind. Who is the next looks first whether the noted one's
 * intent is still there, and then says under the lock, in the noted one's `done`, that it has taken place.
 *
 * Sessions may die at any step, also in the middle of taking back the change of another, and so may the daemon that
 * reclaims them; there is a next one. Whenever no change is under way exactly the rights that are counted are there;
 * positions are pushed and popped one after the other, each once; in the end, when all have dropped what they had and
 * the queue is gone, each object was freed once.
 *
 *   push, pop: queue.c
 *   help:      queue.c, by who finds the intent of the noted one still there
 *   drop:      object.c  object_decref()
 *   reclaim:   recover.c  session_reclaim_step();  lock.c  log_roll_back()
 *
 * Sessions are the pushers first, then the poppers. The first pusher pushes N_EACH objects one after the other,
 * another one. BUFFERED is a session whose stores others see late. OWN: the first pusher has its objects as the owner
 * of their pool; SHARED: the second has a right to the first of them, which it drops in the end; TWICE: they are one
 * object, which it holds and pushes N_EACH times. AGAIN: all pushers push one and the same object, which poppers keep,
 * so that they get what they have already. RELAY: the first popper pushes back the first that it gets. TORN: who looks
 * at a place reads it by halves. N_DEATHS sessions die, and a daemon after the first of them unless NO_DAEMON_DIES.
 *
 * PLANT_REDO judges by whether the ref is there; CXL-SHM (SOSP 2023) was found to do so: when the receiver has taken
 * it the sender's right is released again. PLANT_UNSAID lets the intent go before it is said for good what has taken
 * place, PLANT_NUMBER_LATE helps an intent by the number of the next one, PLANT_TORN trusts in halves of different
 * moments, PLANT_OWN_LATE lets the owner go only when others may have gone, PLANT_GIVE_BACK takes back what the owner
 * gave when another came first, PLANT_NOTE_STALE leaves the note of what was given before from the push before until
 * there is a new one, PLANT_AGAIN takes what is in the table for what came.
 */
#ifndef N_PLACES
#define N_PLACES 1
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
#define DAEMON      3 /* there is a next one, DAEMON + 1, which nobody kills */
#define N_PROCESSES 5
#define OWNER       BUFFERED

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
#define n_of(me) (1 + (N_EACH - 1) * ((me) == 0)) /* so many times */

/* Of each session */
#define KIND   0 /* its intent */
#define SEQ    3
#define REF    6
#define POS    9
#define BEFORE 12 /* what `given` was before, or UNKNOWN */
#define DONE   15 /* SEQ of one that has taken place */
#define HOLD   18 /* its hold table, a word for each of at most three objects */
/* Of each object */
#define LOCKED 27 /* rights that came and went under the lock */
#define GIVEN  30 /* rights that the owner gave without it */
#define OWNS   33 /* the owner has it so many times */
#define GONE   36 /* it was freed */
/* Of the queue; HEAD and TAIL are hints */
#define HEAD    39
#define TAIL    40
#define PLACES  41 /* of each place: */
#define STAMP   1
#define PUSHER  2
#define POPPER  3
#define N_WORDS (41 + 4 * N_PLACES)

#include "memory.pml"

#define NONE      0
#define PUSH      1
#define POP       2
#define PUSH_OWN  3
#define POP_AGAIN 4 /* of what it has: the right that comes is one too many */
#define RIGHT     5 /* the intent has it, whatever is in the places */
#define UNKNOWN   255

#define is_push(k)          ((k) == PUSH || (k) == PUSH_OWN)
#define is_pop(k)           ((k) == POP || (k) == POP_AGAIN)
#define is_of_kind(k, kind) ((k) == (kind) || (k) == (kind) + 2) /* PUSH or POP, each in two ways */
#define hold_of(s, r)       (HOLD + (s) * 3 + (r))
#define place(p)            (PLACES + ((p) % N_PLACES) * 4)
#define count(r)            ((mem[LOCKED + (r)] + mem[GIVEN + (r)]) % 256)

/* Has the compare-and-swap of the intent taken place? */
#define is_done(s) (mem[DONE + (s)] == mem[SEQ + (s)])
#define there(s)   place(mem[POS + (s)])
#ifdef PLANT_REDO
#define has_pushed(s) (mem[there(s)] == mem[REF + (s)])
#else
#define has_pushed(s)                                                                                                  \
	(is_done(s) || (mem[there(s) + PUSHER] == (s) &&                                                                   \
						 ((mem[there(s) + STAMP] == mem[POS + (s)] && mem[there(s)]) ||                                \
							 (mem[there(s) + STAMP] == mem[POS + (s)] + N_PLACES && !mem[there(s)]))))
#endif
/* The same by what was read before: was it filled? What comes later than a filled place is an empty one. */
#define has_pushed_by_halves(s)                                                                                        \
	(is_done(s) ||                                                                                                     \
		(mem[there(s) + PUSHER] == (s) && ((mem[there(s) + STAMP] == mem[POS + (s)] && is_filled) ||                   \
											  mem[there(s) + STAMP] == mem[POS + (s)] + N_PLACES)))
#define has_popped(s)                                                                                                  \
	(is_done(s) || (mem[there(s) + POPPER] == (s) && mem[there(s) + STAMP] == mem[POS + (s)] + N_PLACES))

/* Does the intent have a right? */
#define by_intent(s, r)                                                                                                \
	(mem[REF + (s)] == (r) + 1 &&                                                                                      \
		(mem[KIND + (s)] == RIGHT || (mem[KIND + (s)] == PUSH && !mem[hold_of(s, r)] && !has_pushed(s)) ||             \
			(mem[KIND + (s)] == PUSH_OWN && mem[GIVEN + (r)] == mem[BEFORE + (s)] + 1 && !has_pushed(s)) ||            \
			(mem[KIND + (s)] == POP && !mem[hold_of(s, r)] && has_popped(s)) ||                                        \
			(mem[KIND + (s)] == POP_AGAIN && has_popped(s))))
#define by_session(s, r) (mem[hold_of(s, r)] + by_intent(s, r))
#if N_PLACES == 1
#define by_places(r) (mem[place(0)] == (r) + 1)
#else
#define by_places(r) ((mem[place(0)] == (r) + 1) + (mem[place(1)] == (r) + 1))
#endif
#define IS_COUNTED(r)                                                                                                  \
	(count(r) == by_session(0, r) + by_session(1, r) + by_session(2, r) + by_places(r) &&                              \
		mem[GONE + (r)] == (count(r) + mem[OWNS + (r)] == 0))
#define IS_SOUND                                                                                                       \
	(IS_COUNTED(0) && (N_OBJECTS < 2 || IS_COUNTED(1)) && (N_OBJECTS < 3 || IS_COUNTED(2)))

bool is_ready;
bool rights_are_counted = true; /* whenever no change is under way */
byte n_pushed; /* of the model, as the two below */
byte n_popped;
byte n_deaths;

active proctype monitor()
{
	atomic { is_ready && n_log == 0 && n_buffered == 0 && !IS_SOUND -> rights_are_counted = false };
	assert(rights_are_counted)
}

inline commit()
{
	atomic { forget_log() }
}

/* Within a change. The owner works meanwhile: what it has is looked at first, then what others have. */
inline free_unheld(r)
{
#ifdef OWN
	is_owned = mem[OWNS + r] > 0;
#endif
	if
	:: atomic { is_owned || count(r) -> is_owned = false }
	:: !is_owned && !count(r) -> set(GONE + r, 1)
	fi
}

inline drop_right(r)
{
	assert(count(r) > 0 && !mem[GONE + r]);
	set(LOCKED + r, (mem[LOCKED + r] + 255) % 256);
	free_unheld(r)
}

/* One change. */
inline drop_hold(s, r)
{
	if
	:: mem[hold_of(s, r)] ->
		set(hold_of(s, r), 0);
		drop_right(r);
		commit()
	:: else
	fi
}

/* The same, of an owner. */
inline drop_what_it_owns(s, r)
{
	if
	:: owns(s) && mem[OWNS + r] -> set(OWNS + r, 0); free_unheld(r); commit()
	:: else
	fi
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

/* Of a place that is as it was seen at position p. It is a barrier. */
inline swap(new_ref, new_stamp, new_pusher, new_popper)
{
	atomic {
		me != OWNER || n_buffered == 0;
#ifdef PLANT_NO_STAMP
		swapped = mem[place(p)] == ref;
#else
		swapped = mem[place(p)] == ref && mem[place(p) + STAMP] == p && mem[place(p) + PUSHER] == pusher &&
				  mem[place(p) + POPPER] == popper;
#endif
		if
		:: swapped ->
			mem[place(p)] = new_ref;
			mem[place(p) + STAMP] = new_stamp;
			mem[place(p) + PUSHER] = new_pusher;
			mem[place(p) + POPPER] = new_popper
		:: else
		fi
	}
}

/*
 * What is in the place of position p. Where TORN is defined it is read by halves, and the first one again: else a
 * place that was popped in between looks as if p were still to be pushed there, and by an intent of that position who
 * has pushed p himself before would seem to have done so again.
 */
inline look_at_place()
{
#ifdef TORN
	do
	:: true ->
		read_note();
		ref = mem[place(p)];
#ifndef PLANT_TORN
		if
		:: mem[place(p) + STAMP] == stamp -> break
		:: else
		fi
#else
		break
#endif
	od
#else
	atomic { read_note(); ref = mem[place(p)] }
#endif
}

inline read_note()
{
	atomic {
		stamp = mem[place(p) + STAMP];
		pusher = mem[place(p) + PUSHER];
		popper = mem[place(p) + POPPER]
	}
}

/* Another's, word by word. */
inline look_at_intent(s, kind, pos)
{
#ifdef FINE
	x = is_of_kind(mem[KIND + s], kind);
	x = x && mem[POS + s] == pos
#else
	x = is_of_kind(mem[KIND + s], kind) && mem[POS + s] == pos
#endif
}

/*
 * Who did the same at this place before is seen to before its note goes. The number is read first: it is that of the
 * intent that is looked at then, or an earlier one's.
 */
inline help(s, kind, pos)
{
#ifdef PLANT_NO_HELP
	skip
#else
	if
	:: s != NOBODY && s != me ->
		look_at_intent(s, kind, pos);
		if
		:: x ->
			lock_take(me);
#ifdef PLANT_NUMBER_LATE
			look_at_intent(s, kind, pos);
			seq = mem[SEQ + s];
#else
			seq = mem[SEQ + s];
			look_at_intent(s, kind, pos);
#endif
			if
			:: x -> mem[DONE + s] = seq
			:: else
			fi;
			lock_give();
			d_step { x = 0; seq = 0 }
		:: else
		fi
	:: else
	fi
#endif
}

/* What it is comes last. */
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

#define POPPERS_ARE_DONE (done[2] && (done[N_PUSHERS] || me == N_PUSHERS)) /* but for who asks, a relay */
#define PUSHERS_ARE_DONE (done[0] && done[N_PUSHERS - 1])

inline forget_look()
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

/* The intent has the right from when the table has it no more. */
inline give_by_table(r)
{
	write_intent(PUSH, r + 1);
	store(hold_of(me, r), 0)
}

inline take_back_by_table(r)
{
	store(hold_of(me, r), 1);
	store(KIND + me, NONE)
}

inline own_less(r)
{
	atomic { fetch(OWNS + r, x); store(OWNS + r, x - 1); x = 0 }
}

/* The intent has the right from when it is given; the owner lets go before others can. */
inline give_as_owner(r)
{
	/* Who dies before the next note has given nothing yet: what was noted of another push must not look like it. */
#ifndef PLANT_NOTE_STALE
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
 * It stays given, and goes into the table by the next intent: who has seen the owner without it is yet to look at what
 * was given.
 */
inline take_back_as_owner(r)
{
#ifdef PLANT_GIVE_BACK
	atomic { fetch(OWNS + r, x); store(OWNS + r, x + 1); x = 0 }
	atomic { fetch(GIVEN + r, x); store(GIVEN + r, x - 1); x = 0 }
	store(KIND + me, NONE)
#else
	/* one word */
	atomic { fetch(SEQ + me, seq); store(KIND + me, RIGHT); store(SEQ + me, seq + 1); seq = 0 }
	store(KIND + me, PUSH);
	take_back_by_table(r)
#endif
}

/* What is in the table goes first. */
inline find_sender(r)
{
#ifdef OWN
	atomic { fetch(hold_of(me, r), by_word); by_word = owns(me) && !by_word }
#else
	skip
#endif
}

/* Where it is full it waits, unless nobody is there to pop. */
inline push(r)
{
	do
	:: true ->
		fetch(TAIL, p);
		do
		:: true ->
			look_at_place();
			if
			:: stamp == p && !ref -> break
			:: stamp > p || (stamp == p && ref) -> p++
			:: stamp < p ->
				if
				:: mem[place(p) + STAMP] >= p
				:: POPPERS_ARE_DONE -> goto out
				fi
			fi
		od;
		help(pusher, PUSH, p - N_PLACES);
		find_sender(r);
#ifdef PLANT_INTENT_LATE
		store(hold_of(me, r), 0);
#else
		if
		:: by_word -> give_as_owner(r)
		:: else -> give_by_table(r)
		fi;
#endif
		atomic {
			swap(r + 1, p, me, popper);
			if
			:: swapped -> assert(p == n_pushed); n_pushed++; break
			:: else
			fi
		}
		if
		:: by_word -> take_back_as_owner(r)
		:: else -> take_back_by_table(r)
		fi;
		d_step { forget_look() }
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
	store(KIND + me, NONE);
	d_step { forget_look() }
}

proctype session_that_pushes(byte me)
{
	byte n, p, ref, stamp, pusher, popper, x, seq, i;
	bool swapped, is_owned, by_word;

	{
		do
		:: n < n_of(me) ->
			push(object_of(me, n));
			n++
		:: else -> break
		od;
out:
		atomic { forget_look() }
		do
		:: n < n_of(me) ->
			lock_take(me);
			drop_hold(me, object_of(me, n));
			drop_what_it_owns(me, object_of(me, n));
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
		atomic { me != OWNER || n_buffered == 0; n = 0; done[me] = true }
	} unless { atomic { doomed == me -> die(me); n = 0; forget_look() } }
}

/* Until nothing is there and nobody to push. */
proctype session_that_pops(byte me)
{
	byte p, ref, stamp, pusher, popper, x, seq, i, r;
	bool swapped, is_owned, by_word, again, has_relayed;

	{
		do
		:: true ->
			fetch(HEAD, p);
			do
			:: true ->
				look_at_place();
				if
				:: stamp == p && ref -> break
				:: stamp > p -> p++
				:: stamp == p && !ref ->
					if
					:: mem[place(p)] || mem[place(p) + STAMP] > p
					:: PUSHERS_ARE_DONE && !mem[place(p)] -> goto out
					fi
				fi
			od;
			help(popper, POP, p - N_PLACES);
#ifdef AGAIN
			fetch(hold_of(me, ref - 1), again);
#endif
#ifdef PLANT_AGAIN
			again = false;
#endif
			write_intent((again -> POP_AGAIN : POP), ref);
			atomic {
				swap(0, p + N_PLACES, pusher, me);
				if
				:: swapped -> assert(p == n_popped && !mem[GONE + ref - 1]); n_popped++
				:: else
				fi
			}
			if
			:: swapped && !again ->
				store(hold_of(me, ref - 1), 1);
				store(HEAD, p + 1);
				store(KIND + me, NONE);
#ifdef RELAY
				if
				:: me == 1 && !has_relayed ->
					has_relayed = true;
					r = ref - 1;
					atomic { forget_look() };
					push(r);
					ref = r + 1
				:: else
				fi;
#endif
#ifndef AGAIN
				lock_take(me);
				drop_hold(me, ref - 1);
				lock_give()
#endif
			:: swapped && again ->
				lock_take(me);
				drop_right(ref - 1);
				set(KIND + me, NONE);
				commit();
				lock_give()
			:: !swapped -> store(KIND + me, NONE)
			fi;
			d_step { forget_look(); again = false }
		od;
out:
		atomic { forget_look(); again = false }
#if defined(AGAIN) || defined(RELAY)
		lock_take(me);
		drop_hold(me, r);
		lock_give();
#endif
		atomic { me != OWNER || n_buffered == 0; has_relayed = false; r = 0; done[me] = true }
	} unless { atomic { doomed == me -> die(me); again = false; has_relayed = false; r = 0; forget_look() } }
}

/*
 * One change. What has taken place is said for good before the intent goes: others see it gone though that may yet be
 * taken back, and do away with the note.
 */
inline settle_intent(s)
{
	d_step { k = mem[KIND + s]; r = mem[REF + s] - 1 }
#ifdef TORN
	is_filled = mem[there(s)] > 0;
	happened = ((is_push(k) && has_pushed_by_halves(s)) || (is_pop(k) && has_popped(s)));
#else
	happened = ((is_push(k) && has_pushed(s)) || (is_pop(k) && has_popped(s)));
#endif
	if
	:: k ->
#ifndef PLANT_UNSAID
		if
		:: happened -> mem[DONE + s] = mem[SEQ + s]
		:: else
		fi;
#endif
		if
		:: k == PUSH && !happened && !mem[hold_of(s, r)] -> drop_right(r)
		:: k == RIGHT -> drop_right(r)
		:: k == PUSH_OWN && !happened && !mem[hold_of(s, r)] && mem[GIVEN + r] == mem[BEFORE + s] + 1 ->
			set(GIVEN + r, mem[BEFORE + s]);
			free_unheld(r)
		:: k == POP && happened && !mem[hold_of(s, r)] -> drop_right(r)
		:: k == POP_AGAIN && happened -> drop_right(r)
		:: else
		fi;
		set(KIND + s, NONE);
		commit()
	:: else
	fi;
	d_step { k = 0; r = 0; is_filled = false; happened = false }
}

inline reclaim_session(s)
{
	settle_intent(s);
	do
	:: r < N_OBJECTS -> drop_what_it_owns(s, r); drop_hold(s, r); r++
	:: else -> break
	od;
	r = 0
}

/* One daemon after the other: me is DAEMON, DAEMON + 1. */
proctype reclaim(byte me)
{
	byte s, k, r, i;
	bool is_filled, happened, is_owned;

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
			lock_give();
			atomic { done[s] = true; s = 0 }
		od;
		atomic { i = 0; done[DAEMON] = true; done[me] = true }
	} unless {
		atomic {
			doomed == me -> die(me); s = 0; k = 0; r = 0; i = 0; is_filled = false; happened = false; is_owned = false
		}
	}
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
#ifndef NO_DAEMON_DIES
	:: n_deaths -> kill(DAEMON)
#endif
	:: done[0] && done[1] && done[2] -> break
	od
}

inline drop_place(p)
{
	if
	:: mem[place(p)] ->
		r = mem[place(p)] - 1;
		set(place(p), 0);
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
		for (r : 0 .. N_PLACES - 1) {
			mem[PLACES + r * 4 + STAMP] = r;
			mem[PLACES + r * 4 + PUSHER] = NOBODY;
			mem[PLACES + r * 4 + POPPER] = NOBODY
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
	drop_place(0); /* the queue is dropped */
#if N_PLACES == 2
	drop_place(1);
#endif
	for (r : 0 .. N_OBJECTS - 1) {
		assert(mem[GONE + r] && !count(r) && !mem[OWNS + r])
	}
	lock_give();
	finished = true
}
