/* SPDX-License-Identifier: MIT */
#pragma once

/* The global lock and its undo log: see lock.c for the theory. */

#include "heap/shared/log.h"
#include "heap/shared/session.h"

/*
 * Take the lock for one change on behalf of session (session->has_lock: it is there already, only the change begins).
 * If the owner before died, its change is taken back first. -EPERM another thread of the session has the lock, -EDEADLK
 * this thread has it by another session; -EUCLEAN the mutex itself is damaged; -EOPNOTSUPP
 * a rebuild was begun that this process cannot finish (see rebuild.c), and nobody who can has come for a second.
 */
int change_begin(struct session *session);

/* The same, but -EBUSY instead of waiting, also for who can finish a rebuild. */
int change_try_begin(struct session *session);

/*
 * End the change: `result` 0 and more than HEAP_WANTS_ARENAS commits, anything else (negative, HEAP_WANTS_ARENAS) takes
 * every store back. Releases the lock unless session->has_lock. Returns result, or -EUCLEAN where the log had
 * overflowed.
 */
int change_end(struct session *session, int result);

/* Within a change: what was done so far has taken place, the next begins. */
void change_commit(struct heap *heap);

/* pyheap_lock() and pyheap_unlock(). -EDEADLK, -EPERM. */
int session_lock(struct session *session);
int session_unlock(struct session *session);

/* Has the session the lock between its calls? 1, 0; -EPERM it has, but this thread may not go by it. */
int session_refresh_lock(struct session *session);

/*
 * After -EPERM of session_unlock() or of a change's begin: had the other thread the lock all the time until now? Then
 * nobody has changed anything. For what the caller stored before, the fence is his.
 */
bool lock_is_still_held(const struct session *session);

/* The session ends, and session_refresh_lock() said -EPERM: that thread will give the lock back. See lock.c. */
void session_abandon_lock(struct session *session);

/* Is the lock left to a living thread of this process, so that the heap must stay mapped? This one gives it back. */
bool lock_release_abandoned(struct heap *heap);
