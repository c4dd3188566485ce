// SPDX-License-Identifier: MIT
/*
 * Shared memory, the global lock with its undo log, and death: the base of every model here
 *
 * A model defines N_WORDS and the names of its words, N_PROCESSES and BUFFERED, and includes this file.
 *
 * mem[] is shared memory. The process BUFFERED works without the lock and stores through a store buffer (buffered(),
 * load()). The flusher moves its stores to memory in their order, but any time later, as a processor with total store
 * order does. So the other processes see its stores late, while its own later loads are made at once. membarrier()
 * waits until the buffer is empty. A store under the lock reaches memory at once: the mutex is a barrier at both ends.
 *
 * kill() may come before any step of a process: each process is `unless { death?me -> die(me) }`, which forgets where
 * it was. The rendezvous makes kill() and die() one step. What the buffer of the dead process contains still reaches
 * memory, as on a real processor. The next process to take the lock of a dead one rolls back first.
 *
 * Steps that no other process can tell apart are one step, in atomic { }. A step that uses only its own process's
 * variables belongs to the step before or after it: a death between the two is like a death beside them, since die()
 * forgets the variables. So does a step that gives up the lock: only a process that takes the lock sees it, and a dead
 * owner with an empty log keeps nobody out. Two stores that another process loads without the lock are two steps, and
 * so are a load and a store that depends on it, where another process may store to the loaded word in between and see
 * the difference. Without FINE the words of an intent are stored in one step before its kind, which makes them valid.
 *
 *   lock_take(me)      lock.c  change_begin(), with lock_taken() and log_roll_back()
 *   set(where, what)   lock.h  heap_set(): log_word(), then the store
 *   commit()           lock.c  change_commit()
 *   lock_give()        lock.c  lock_release()
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
bool done[N_PROCESSES]; /* it has ended, or was reclaimed */
chan death = [0] of { byte };

/* What the change will have freed once it is committed. Of the model, not of the heap. */
byte pending;

#define LOCK_IS_FREE (lock_owner == NOBODY || dead[lock_owner])

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

/* A load of BUFFERED: its newest store to the word, or else what memory has. */
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

/* Finds a process that waits for ever: nothing can move, and the model has not finished. */
bool finished;

active proctype watcher()
{
	timeout;
	assert(finished)
}

/* critical.c: critical_barrier() */
inline membarrier()
{
#ifdef PLANT_NO_MEMBARRIER
	skip
#else
	n_buffered == 0
#endif
}

/* The entries from n_log on are zeroed only to have fewer states. */
inline clear_log()
{
	do
	:: n_log > 0 -> n_log--; log_where[n_log] = 0; log_old[n_log] = 0
	:: n_log == 0 -> break
	od
}

/*
 * A roll-back has the steps of any change, for only a death can interrupt it. A model with log entries of another kind
 * defines HAS_OWN_ENTRIES, undo_entry(where, old) and, for when the log is empty, undone().
 */
#ifndef HAS_OWN_ENTRIES
inline undo_entry(where, old)
{
	mem[where] = old
}

inline undone()
{
	skip
}
#endif

/* The newest entry first. i is 0 before and after it. */
inline roll_back()
{
	do
	:: atomic { i < n_log -> i++; undo_entry(log_where[n_log - i], log_old[n_log - i]) }
	:: atomic { i == n_log -> clear_log(); i = 0; break }
	od;
	undone()
}

/*
 * BUFFERED takes the lock with an empty buffer: taking a mutex is a barrier. Only the owner of the lock changes n_log,
 * so whether there is something to roll back is known in the step that takes the lock.
 */
inline lock_take(me)
{
	if
	:: atomic { LOCK_IS_FREE && (me != BUFFERED || n_buffered == 0) && n_log == 0 -> lock_owner = me; pending = 0 }
	:: atomic { LOCK_IS_FREE && (me != BUFFERED || n_buffered == 0) && n_log > 0 -> lock_owner = me; pending = 0 }
		roll_back()
	fi
}

inline lock_give()
{
	lock_owner = NOBODY
}

/*
 * The entry is complete and counted before the store. A death between the two leaves what a death before both leaves,
 * so they are one step. With FINE they are two.
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
	atomic { !done[who] && !dead[who] -> death!who }
}

/* A lock whose owner died and left nothing to roll back is as good as free: one state instead of two. */
inline die(me)
{
	dead[me] = true;
	if
	:: lock_owner == me && n_log == 0 -> lock_owner = NOBODY
	:: else
	fi;
	if
	:: me == BUFFERED -> drain_all()
	:: else
	fi
}
