/* SPDX-License-Identifier: MIT */
#pragma once

/* Calls that need no lock, and how others keep a session out of them. See gate.c. */

#include "heap/shared/atomic_operand.h"
#include "heap/shared/session.h"

/*
 * Between the two a session may change what is its own. False: somebody wants something of it: it is not in, and goes
 * by session_serve_requests() first. No other thread uses the session.
 */
static inline bool critical_enter(struct session *session);
/* The same, but for what it was asked to gather: that may wait for its next call, as it has gathered enough in this. */
bool critical_enter_collecting(struct session *session);
/* It holds so many of its own objects more, or fewer. */
static inline void critical_leave(struct session *session, int n_holds);

/* The same of a session that is not fenced. */
static inline bool critical_enter_fast(struct session_entry *entry);
static inline void critical_leave_fast(struct session_entry *entry, int n_holds);

/*
 * Between the two a session says that it is inside, for who returns arenas (critical_has_lookup()), and changes
 * nothing: so it does not matter who wants something of it, and it is as idle after that as it was before. The first
 * returns what the second is to be told.
 */
static inline uint32_t critical_enter_lookup(struct session *session);
static inline void critical_leave_lookup(struct session *session, uint32_t before);

/* Daemon: has the session made no such call since this was asked last? Asked with each tick, and with each step of what
 * is taken back from it: who is told so there begins anew, so that neither misses one. */
static inline bool critical_poll_idle(struct session_entry *entry);

/*
 * Order what this session has stored before what it loads next, as seen by whoever calls critical_barrier() in between.
 * For the processor nothing is done, unless the session is fenced: those who come from outside pay.
 */
static inline void critical_light_barrier(const struct session *session);

/* The other half: after it, each session's stores before one of its light barriers are seen here, or its loads after it
 * see what was stored here. -EOPNOTSUPP this process may not use membarrier(2) and some session relies on it. */
int critical_barrier(struct heap *heap);

/*
 * With the lock held: keep all sessions out until critical_unblock_all(). Waits a bounded time for those who are in;
 * who is in after it may come out at any time, and is said to be in by critical_was_active() until the next
 * critical_block_all(). Where there is no barrier (see above) it keeps out nobody, and all are said to be in.
 */
int critical_block_all(struct heap *heap);
/* The same for who goes on with what another had begun while it was closed: it stays closed where there is no barrier.
 */
int critical_block_all_again(struct heap *heap);
void critical_unblock_all(struct heap *heap);

/* With the lock held: keep that session out until critical_unblock(). False: it is in right now, or there is no
 * barrier. */
bool critical_block(struct heap *heap, uint32_t index);
void critical_unblock(struct heap *heap, uint32_t index);

/* The session gives up what is its own: it is inside for the rest of its life. */
void critical_stay(struct session *session);

/* Let the session see to something before its next call. */
void critical_request(struct heap *heap, uint32_t index, enum request what);

/* The session, with the lock held: what it was asked for is seen to. Nobody keeps it out now: a closer has died. */
void critical_requests_served(struct session *session);

/*
 * With the lock taken for several calls: keep all others from changing queues until critical_resume_queues(). Waits a
 * bounded time for those in the middle of it; one that was stopped there does its one change when it goes on.
 */
void critical_pause_queues(struct session *session);
void critical_resume_queues(struct heap *heap);
/* The session, inside: does somebody keep it from changing queues? */
static inline bool critical_queues_are_paused(const struct session *session);

/*
 * Daemon: does somebody who has no lock look into one of these arenas at this moment? They were in use before, and are
 * said not to be by their state, so that nobody comes to them any more.
 */
bool critical_has_lookup(struct heap *heap, uint32_t first, uint32_t n);

/* Daemon: the heap is taken down: no session comes in any more. */
void critical_end(struct heap *heap);

/* With the lock held: is that session in the middle of a call, stopped there or dead or closing, or are its own lists
 * to be made anew by itself? */
bool critical_is_active(const struct heap *heap, uint32_t index);

/* Between critical_block_all() and critical_unblock_all(): is it in all the same, so that what is its own is to be left
 * alone? */
static inline bool critical_was_active(const struct heap *heap, uint32_t index)
{
	return heap->active[index / 64] >> (index & 63) & 1;
}

/* ---- inline, for every call passes here -------------------------------------------------------------------------- */

static inline void critical_light_barrier(const struct session *session)
{
	if (__builtin_expect(session->is_fenced, 0))
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	else
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline bool critical_queues_are_paused(const struct session *session)
{
	/* acquire: with the release in critical_resume_queues(). After activity, by the barrier in critical_enter(). */
	return __builtin_expect(__atomic_load_n(&session->control->queues_paused_by1, __ATOMIC_ACQUIRE) != 0, 0);
}

static inline void critical_store(struct session_entry *entry, enum activity activity)
{
	/* release: all that the call did, where it ends */
	__atomic_store_n(&entry->activity, (uint32_t)activity, __ATOMIC_RELEASE);
}

static inline bool critical_enter(struct session *session)
{
	struct session_entry *entry = session->entry;

	critical_store(entry, ACTIVITY_ACTIVE);
	critical_light_barrier(session);
	/* acquire: with the release in critical_unblock(), of what was changed while it was closed */
	if (__builtin_expect(!__atomic_load_n(&entry->requests, __ATOMIC_ACQUIRE), 1))
		return true;
	critical_store(entry, ACTIVITY_DONE);
	return false;
}

static inline void critical_leave(struct session *session, int n_holds)
{
	critical_leave_fast(session->entry, n_holds);
}

static inline bool critical_enter_fast(struct session_entry *entry)
{
	critical_store(entry, ACTIVITY_ACTIVE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	/* acquire: as in critical_enter() */
	if (__builtin_expect(word32_is(&entry->requests, 0), 1))
		return true;
	critical_store(entry, ACTIVITY_DONE);
	return false;
}

static inline void critical_leave_fast(struct session_entry *entry, int n_holds)
{
	if (n_holds) /* relaxed: for reports */
		word64_add(&entry->n_own_holds, (uint64_t)(int64_t)n_holds);
	critical_store(entry, ACTIVITY_DONE);
}

static inline uint32_t critical_enter_lookup(struct session *session)
{
	/* relaxed: the daemon may be finding it idle just now, and then does not */
	uint32_t before = __atomic_load_n(&session->entry->activity, __ATOMIC_RELAXED);

	critical_store(session->entry, ACTIVITY_ACTIVE);
	critical_light_barrier(session);
	return before;
}

static inline void critical_leave_lookup(struct session *session, uint32_t before)
{
	critical_store(session->entry, (enum activity)before);
}

static inline bool critical_poll_idle(struct session_entry *entry)
{
	uint32_t done = ACTIVITY_DONE;

	/* relaxed, both: a call that comes in at this moment is seen when it is asked the next time */
	if (__atomic_compare_exchange_n(
		    &entry->activity, &done, ACTIVITY_NONE, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return false;
	return done == ACTIVITY_NONE;
}
