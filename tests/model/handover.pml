// SPDX-License-Identifier: MIT
/*
 * right.c: an object handed over by changes under the lock
 *
 * This is the way through a slot, and through a queue where its fast way (queue.pml) cannot know who holds the object.
 *
 * The sender holds the object, either by its hold table, and passes its right on, or as the owner of the object's
 * pool, and the queue gets a right of its own. The sender pushes the object, the receiver pops it and drops it.
 * Sender, receiver and the daemon that reclaims them may each die at any step, also while it rolls back the change of
 * another process; after a daemon comes a next one. Whenever no change is under way the count of rights is right, and
 * the object is there exactly as long as somebody has a right to it. In the end, when all have dropped it, it was
 * freed once.
 *
 *   sender:   right.c  right_pass_on()
 *   receiver: right.c  right_hold(), right_drop()
 *   reclaim:  recover.c  session_reclaim_step(), abandon_blocks(), drop_hold();  log.c  log_roll_back()
 *
 * PLANT_REDO is what CXL-SHM (SOSP 2023) was found to do. It has no lock and no undo log: the sender writes in a line
 * what it is about to do, and the header tells which process changed the count last, by which recovery sees whether
 * the sender's change has happened. When the receiver has changed the count meanwhile, recovery does not see it, and
 * releases the sender's right again. PLANT_EARLY_COMMIT commits before the last store of a change.
 */
#define SENDER      0
#define RECEIVER    1
#define DAEMON      2 /* after it comes DAEMON + 1, then DAEMON + 2, which nobody kills */
#define N_PROCESSES 5
#define BUFFERED    SENDER

#define HOLD_S  0 /* the sender's hold table has it */
#define OWN     1 /* the sender holds it as the owner of its pool: bits 0..6 of the header's word */
#define CELL    2 /* the queue's only cell has it */
#define HOLD_R  3 /* the receiver's hold table has it */
#define RIGHTS  4 /* the count of rights without OWN */
#define FREED   5 /* it was freed */
#define REDO    6 /* with PLANT_REDO: what the sender is about to do */
#define LAST1   7 /* with PLANT_REDO: which process changed RIGHTS last, plus one */
#define N_WORDS 8

#include "memory.pml"

#define IS_SOUND                                                                                                       \
	(mem[RIGHTS] == mem[HOLD_S] + mem[CELL] + mem[HOLD_R] && mem[FREED] == (mem[RIGHTS] + mem[OWN] == 0))

inline commit()
{
	d_step {
		clear_log();
#ifndef PLANT_EARLY_COMMIT
		assert(IS_SOUND)
#endif
	}
}

/* Within a change. */
inline drop_right()
{
	assert(mem[RIGHTS] > 0 && !mem[FREED]);
	set(RIGHTS, mem[RIGHTS] - 1);
	if
	:: mem[RIGHTS] + mem[OWN] == 0 -> set(FREED, 1)
	:: else
	fi
}

inline push()
{
	lock_take(SENDER);
	set(CELL, 1);
	if
	:: mem[HOLD_S] ->
#ifdef PLANT_EARLY_COMMIT
		commit();
#endif
		set(HOLD_S, 0)
	:: else ->
		set(RIGHTS, mem[RIGHTS] + 1);
		set(OWN, 0)
	fi;
	commit();
	lock_give()
}

/* The queue gets a right, then the sender gives up its own. Each change of the count says which process made it. */
inline push_with_redo()
{
	d_step { mem[RIGHTS] = mem[RIGHTS] + 1; mem[LAST1] = SENDER + 1 }
	mem[REDO] = 1;
	mem[CELL] = 1;
	d_step { mem[RIGHTS] = mem[RIGHTS] - 1; mem[LAST1] = SENDER + 1 }
	mem[HOLD_S] = 0;
	mem[REDO] = 0
}

proctype sender()
{
	byte i;

	{
#ifdef PLANT_REDO
		push_with_redo();
#else
		push();
#endif
		done[SENDER] = true
	} unless { atomic { death?eval(SENDER) -> die(SENDER); i = 0 } }
}

inline drop_hold(hold)
{
	if
	:: mem[hold] -> set(hold, 0); drop_right()
	:: else
	fi
}

proctype receiver()
{
	byte i;

	{
		mem[CELL] || done[SENDER];
		lock_take(RECEIVER);
		if
		:: mem[CELL] ->
#ifdef PLANT_REDO /* it has got a right of its own, and given up the queue's */
			atomic { mem[LAST1] = RECEIVER + 1; mem[HOLD_R] = 1; mem[CELL] = 0 }
#else
			set(CELL, 0);
			set(HOLD_R, 1)
#endif
		:: else
		fi;
#ifdef PLANT_REDO
		clear_log();
#else
		commit();
#endif
		lock_give();
		/* It uses the object. */
		assert(!mem[HOLD_R] || (!mem[FREED] && mem[RIGHTS]));
#ifndef PLANT_REDO
		lock_take(RECEIVER);
		drop_hold(HOLD_R);
		commit();
		lock_give();
#endif
		done[RECEIVER] = true
	} unless { atomic { death?eval(RECEIVER) -> die(RECEIVER); i = 0 } }
}

inline reclaim_sender()
{
#ifdef PLANT_REDO
	if
	:: mem[REDO] && mem[LAST1] != SENDER + 1 -> mem[RIGHTS] = mem[RIGHTS] - 1
	:: else
	fi;
	mem[REDO] = 0;
	mem[HOLD_S] = 0
#else
	if
	:: mem[OWN] ->
		set(OWN, 0);
		if
		:: mem[RIGHTS] == 0 -> set(FREED, 1)
		:: else
		fi
	:: else
	fi;
	commit();
	drop_hold(HOLD_S);
	commit()
#endif
}

/* One daemon after another: me is DAEMON, DAEMON + 1, DAEMON + 2. */
proctype reclaim(byte me)
{
	byte i;

	{
		me == DAEMON || dead[me - 1];
		do
		:: dead[SENDER] && !done[SENDER] ->
			lock_take(me);
			reclaim_sender();
			lock_give();
			done[SENDER] = true
		:: dead[RECEIVER] && !done[RECEIVER] ->
			lock_take(me);
#ifndef PLANT_REDO
			drop_hold(HOLD_R);
			commit();
#endif
			lock_give();
			done[RECEIVER] = true
		:: done[SENDER] && done[RECEIVER] -> break
		od;
		done[DAEMON] = true;
		done[me] = true
	} unless { atomic { death?eval(me) -> die(me); i = 0 } }
}

proctype killer()
{
	do
	:: kill(SENDER)
#ifndef PLANT_REDO
	:: kill(RECEIVER)
	:: kill(DAEMON)
	:: kill(DAEMON + 1)
#endif
	:: break
	od
}

init
{
	byte i;

	atomic {
#ifdef PLANT_REDO
		mem[HOLD_S] = 1;
		mem[RIGHTS] = 1;
#else
		if
		:: mem[HOLD_S] = 1; mem[RIGHTS] = 1
		:: mem[OWN] = 1
		fi;
#endif
		run sender();
		run receiver();
		run reclaim(DAEMON);
		run reclaim(DAEMON + 1);
		run reclaim(DAEMON + 2);
		run killer()
	}
	done[SENDER] && done[RECEIVER] && (lock_owner == NOBODY || dead[lock_owner]);
	lock_take(DAEMON + 2);
#ifndef PLANT_REDO
	drop_hold(CELL); /* the queue is dropped */
	commit();
	assert(mem[FREED] && !mem[HOLD_S] && !mem[HOLD_R] && !mem[OWN] && !mem[RIGHTS]);
#endif
	lock_give();
	finished = true
}
