// SPDX-License-Identifier: MIT
/*
 * An object handed over, each step a change under the lock: as through a slot, and through a queue where its quick way,
 * which queue.pml has, does not know what is held
 *
 * The sender holds the object, by its hold table (its right is passed on) or as the owner of its pool (the queue gets a
 * right of its own). It pushes it, the receiver pops it and drops it. Sender, receiver and the daemon that reclaims them
 * may all die, at any step, also in the middle of taking back the change of another; a daemon is followed by a next one.
 * Whenever no change is under way exactly the rights that are counted are there, and the object is there as long as one
 * is; in the end, when all have dropped what they had, it was freed once.
 *
 *   sender:   object.c object_pass_on()
 *   receiver: object.c object_hold(), drop_in_change()
 *   reclaim:  recover.c  session_reclaim_step(), leave_blocks(), drop_hold();  lock.c log_roll_back()
 *
 * PLANT_REDO is what CXL-SHM (SOSP 2023) was found to do: no lock and no undo, but a line in which the sender writes
 * what it is about to do, and a header that tells who changed the count last, by which recovery sees whether the change
 * has taken place. When the receiver has changed the count meanwhile it does not see it: it does the sender's release
 * again. PLANT_EARLY_COMMIT commits before the last store of a change.
 */
#define SENDER      0
#define RECEIVER    1
#define DAEMON      2 /* there is a next one, DAEMON + 1, and when it dies a last one, which nobody kills */
#define N_PROCESSES 5
#define OWNER       SENDER

#define HOLD_S  0 /* the sender's hold table has it */
#define OWN     1 /* the sender holds it as the owner of its pool: bits 0..6 of the header's word */
#define PLACE   2 /* the queue's only place has it */
#define HOLD_R  3 /* the receiver's hold table has it */
#define RIGHTS  4 /* how many have a right to it but by OWN */
#define GONE    5 /* it was freed */
#define REDO    6 /* with the fault: what the sender is about to do */
#define LAST1   7 /* with the fault: who changed RIGHTS last, plus one */
#define N_WORDS 8

#include "memory.pml"

#define IS_SOUND                                                                                                       \
	(mem[RIGHTS] == mem[HOLD_S] + mem[PLACE] + mem[HOLD_R] && mem[GONE] == (mem[RIGHTS] + mem[OWN] == 0))

inline commit()
{
	d_step {
		forget_log();
#ifndef PLANT_EARLY_COMMIT
		assert(IS_SOUND)
#endif
	}
}

/* Within a change. */
inline drop_right()
{
	assert(mem[RIGHTS] > 0 && !mem[GONE]);
	set(RIGHTS, mem[RIGHTS] - 1);
	if
	:: mem[RIGHTS] + mem[OWN] == 0 -> set(GONE, 1)
	:: else
	fi
}

inline push()
{
	lock_take(SENDER);
	set(PLACE, 1);
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

/* The fault: the queue gets a right, then the sender's is given up; each change of the count says whose it was. */
inline push_with_redo()
{
	d_step { mem[RIGHTS] = mem[RIGHTS] + 1; mem[LAST1] = SENDER + 1 }
	mem[REDO] = 1;
	mem[PLACE] = 1;
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
	} unless { atomic { doomed == SENDER -> die(SENDER); i = 0 } }
}

inline drop_hold(place)
{
	if
	:: mem[place] -> set(place, 0); drop_right()
	:: else
	fi
}

proctype receiver()
{
	byte i;

	{
		mem[PLACE] || done[SENDER];
		lock_take(RECEIVER);
		if
		:: mem[PLACE] ->
#ifdef PLANT_REDO /* it has completed: a right of its own, and the queue's given up */
			atomic { mem[LAST1] = RECEIVER + 1; mem[HOLD_R] = 1; mem[PLACE] = 0 }
#else
			set(PLACE, 0);
			set(HOLD_R, 1)
#endif
		:: else
		fi;
#ifdef PLANT_REDO
		forget_log();
#else
		commit();
#endif
		lock_give();
		/* It uses what it has. */
		assert(!mem[HOLD_R] || (!mem[GONE] && mem[RIGHTS]));
#ifndef PLANT_REDO
		lock_take(RECEIVER);
		drop_hold(HOLD_R);
		commit();
		lock_give();
#endif
		done[RECEIVER] = true
	} unless { atomic { doomed == RECEIVER -> die(RECEIVER); i = 0 } }
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
		:: mem[RIGHTS] == 0 -> set(GONE, 1)
		:: else
		fi
	:: else
	fi;
	commit();
	drop_hold(HOLD_S);
	commit()
#endif
}

/* One daemon after the other: me is DAEMON, DAEMON + 1, DAEMON + 2. */
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
	} unless { atomic { doomed == me -> die(me); i = 0 } }
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
	drop_hold(PLACE); /* the queue is dropped */
	commit();
	assert(mem[GONE] && !mem[HOLD_S] && !mem[HOLD_R] && !mem[OWN] && !mem[RIGHTS]);
#endif
	lock_give();
	finished = true
}
