// SPDX-License-Identifier: MIT
/*
 * Shared memory, the global lock and its undo log, and death: what all models here are made of
 *
 * A model defines N_WORDS and the names of its words, N_PROCESSES, and includes this.
 *
 * mem[] is what everybody sees. The owner, who works without the lock, stores through a buffer (buffered(), load()):
 * what is in it reaches memory in order, but any time later (flusher), as on a processor that has total store order.
 * Others see its stores late, while its own loads after them are made at once. membarrier() waits until the buffer is
 * empty. What is done under the lock goes to memory at once: the mutex is a barrier at both ends.
 *
 * kill() may come before any step of a process: each is `unless { doomed == me -> die(me) }`, which forgets where it was.
 * What was in the buffer of the dead still reaches memory, as with a real one. The lock of the dead is taken by the next,
 * who rolls back first.
 *
 *   lock_take(me)      lock.c: change_begin(), with lock_taken() and log_roll_back()
 *   set(where, what)   lock.c: heap_set(): log_word(), then the store
 *   commit()           lock.c: change_commit()
 *   lock_give()        lock.c: lock_release()
 */
#define NOBODY 255
#ifndef N_LOG
#define N_LOG 8
#endif

byte mem[N_WORDS];

byte buffer_where[4];
byte buffer_what[4];
byte n_buffered;

byte log_where[N_LOG];
byte log_old[N_LOG];
byte n_log;
byte lock_owner = NOBODY;
bool dead[N_PROCESSES];
bool done[N_PROCESSES]; /* it has come to its end, or was reclaimed */
byte doomed = NOBODY; /* it takes no more steps but to die */

/* What a change will have freed once it is committed; of the model, not of the heap. */
byte pending;

inline buffered(where, what)
{
	atomic {
		n_buffered < 4;
		buffer_where[n_buffered] = where;
		buffer_what[n_buffered] = what;
		n_buffered++
	}
}

inline drain_one()
{
	mem[buffer_where[0]] = buffer_what[0];
	buffer_where[0] = buffer_where[1];
	buffer_what[0] = buffer_what[1];
	buffer_where[1] = buffer_where[2];
	buffer_what[1] = buffer_what[2];
	buffer_where[2] = buffer_where[3];
	buffer_what[2] = buffer_what[3];
	buffer_where[3] = 0;
	buffer_what[3] = 0;
	n_buffered--
}

/* The owner's: its newest store to the word, or what memory has. */
inline load(where, ret)
{
	d_step {
		if
		:: n_buffered > 3 && buffer_where[3] == where -> ret = buffer_what[3]
		:: else ->
			if
			:: n_buffered > 2 && buffer_where[2] == where -> ret = buffer_what[2]
			:: else ->
				if
				:: n_buffered > 1 && buffer_where[1] == where -> ret = buffer_what[1]
				:: else ->
					if
					:: n_buffered > 0 && buffer_where[0] == where -> ret = buffer_what[0]
					:: else -> ret = mem[where]
					fi
				fi
			fi
		fi
	}
}

active proctype flusher()
{
	do
	:: d_step { n_buffered > 0 -> drain_one() }
	od
}

/* Whoever waits for ever is found here. */
bool finished;

active proctype watcher()
{
	timeout;
	assert(finished)
}

/* gate.c: gate_barrier() */
inline membarrier()
{
#ifdef PLANT_NO_MEMBARRIER
	skip
#else
	n_buffered == 0
#endif
}

/* What is beyond n_log is zeroed only so that fewer states differ. */
inline forget_log()
{
	do
	:: n_log > 0 -> n_log--; log_where[n_log] = 0; log_old[n_log] = 0
	:: n_log == 0 -> break
	od
}

/*
 * Nobody but the dead can be in the way of a roll-back, so its steps are those of any change. A model that has entries of
 * another kind defines OWN_ENTRIES, and what becomes of them: take_back(where, old), and when the log is empty
 * taken_back().
 */
#ifndef OWN_ENTRIES
inline take_back(where, old)
{
	mem[where] = old
}

inline taken_back()
{
	skip
}
#endif

inline roll_back()
{
	i = n_log;
	do
	:: i > 0 -> atomic { i--; take_back(log_where[i], log_old[i]) }
	:: i == 0 -> break
	od;
	atomic { forget_log() }
	taken_back()
}

/* The owner comes with an empty buffer: taking a mutex is a barrier. */
inline lock_take(me)
{
	atomic {
		(lock_owner == NOBODY || dead[lock_owner]) && (me != OWNER || n_buffered == 0);
		lock_owner = me;
		pending = 0
	}
	if
	:: n_log > 0 -> roll_back()
	:: else
	fi
}

inline lock_give()
{
	lock_owner = NOBODY
}

/*
 * The entry is complete and counted before the store, so who dies between the two leaves what he would have left before
 * both: one step. Where FINE is defined they are taken one by one.
 */
inline set(where, what)
{
#ifdef FINE
	d_step { log_where[n_log] = where; log_old[n_log] = mem[where]; n_log++ }
	mem[where] = what
#else
	d_step { log_where[n_log] = where; log_old[n_log] = mem[where]; n_log++; mem[where] = what }
#endif
}

inline drain_all()
{
	do
	:: n_buffered > 0 -> drain_one()
	:: else -> break
	od
}

inline kill(who)
{
	atomic { doomed == NOBODY && !done[who] && !dead[who] -> doomed = who }
}

inline die(me)
{
	doomed = NOBODY;
	dead[me] = true;
	if
	:: me == OWNER -> drain_all()
	:: else
	fi
}
