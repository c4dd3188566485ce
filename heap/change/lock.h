/* SPDX-License-Identifier: MIT */
#pragma once

/* The global lock, and changes made under it. See lock.c; the undo log is in heap/shared/log.h. */

#include "heap/shared/log.h"
#include "heap/shared/session.h"

/*
 * Take the lock for one change on behalf of a session. With session->has_lock the lock is there, and only the change
 * begins. If the owner before has died, its change is rolled back first. -EPERM another thread of the session has the
 * lock; -EDEADLK this thread has it by another session; -EOPNOTSUPP a rebuild was begun that this process cannot finish
 * (rebuild.c), and for a second no process that can has come.
 */
int change_begin(struct session *session);

/* change_begin() that answers -EBUSY instead of waiting, for the lock or for the end of a rebuild. */
int change_try_begin(struct session *session);

/*
 * End the change. A `result` of 0, or above HEAP_WANTS_ARENAS, commits; a negative one and HEAP_WANTS_ARENAS roll every
 * store back. Gives the lock back unless session->has_lock. Returns result, or -EUCLEAN where the log had overflowed.
 */
int change_end(struct session *session, int result);

/* Within a change: what was done so far has taken place, and the next change begins. */
void change_commit(struct heap *heap);

/* pyheap_lock() and pyheap_unlock(): the lock for several calls. -EDEADLK, -EPERM. */
int session_lock(struct session *session);
int session_unlock(struct session *session);

/*
 * Bring session->has_lock up to date, since the lock is lost when the thread that took it ends. 1 the session has the
 * lock between its calls; 0 it has not; -EPERM it has, but this thread may not use it.
 */
int session_refresh_lock(struct session *session);

/*
 * After -EPERM of session_unlock() or of the begin of a change: has the other thread had the lock all the time until
 * now? Then nobody has changed anything. The caller orders its own stores before this by a fence.
 */
bool lock_is_still_held(const struct session *session);

/* The session ends, and session_refresh_lock() has answered -EPERM: leave the lock to the thread that took it. */
void session_abandon_lock(struct session *session);

/*
 * Give the lock back that a closed session has left to this thread, if one has. True: one has left it to another living
 * thread of this process, so that the heap must stay mapped.
 */
bool lock_release_abandoned(struct heap *heap);
