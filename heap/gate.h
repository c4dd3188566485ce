/* SPDX-License-Identifier: MIT */
#pragma once

/* Calls that need no lock, and how others keep a session out of them. See gate.c. */

#include "heap/in_place.h"
#include "heap/lock.h"

/*
 * Between the two a session may change what is its own. False: somebody wants something of it: it is not in, and goes
 * by session_attend() first. No other thread uses the session.
 */
static inline bool gate_enter(struct session *session);
/* The same, but for what it was asked to gather: that may wait for its next call, as it has gathered enough in this. */
bool gate_enter_gathering(struct session *session);
/* It holds so many of its own objects more, or fewer. */
static inline void gate_leave(struct session *session, int n_holds);

/* The same of a session that is not fenced. */
static inline bool gate_enter_quickly(struct session_entry *entry);
static inline void gate_leave_quickly(struct session_entry *entry, int n_holds);

/*
 * Between the two a session says that it is inside, for who returns arenas (gate_is_looked_at()), and changes nothing:
 * so it does not matter who wants something of it, and it is as idle after that as it was before. The first returns
 * what the second is to be told.
 */
static inline uint32_t gate_enter_to_look(struct session *session);
static inline void gate_leave_look(struct session *session, uint32_t before);

/* Daemon: has the session made no such call since this was asked last? Asked with each tick, and with each step of what
 * is taken back from it: who is told so there begins anew, so that neither misses one. */
static inline bool gate_is_idle(struct session_entry *entry);

/*
 * Order what this session has stored before what it loads next, as seen by whoever calls gate_barrier() in between. For
 * the processor nothing is done, unless the session is fenced: those who come from outside pay.
 */
static inline void gate_light_barrier(const struct session *session);

/* The other half: after it, each session's stores before one of its light barriers are seen here, or its loads after it
 * see what was stored here. -EOPNOTSUPP this process may not use membarrier(2) and some session relies on it. */
int gate_barrier(struct heap *heap);

/*
 * With the lock held: keep all sessions out until gate_open_all(). Waits a bounded time for those who are in; who is in
 * after it may come out at any time, and is said to be in by gate_was_inside() until the next gate_close_all(). Where
 * there is no barrier (see above) it keeps out nobody, and all are said to be in.
 */
int gate_close_all(struct heap *heap);
/* The same for who goes on with what another had begun while it was closed: it stays closed where there is no barrier.
 */
int gate_close_begun(struct heap *heap);
void gate_open_all(struct heap *heap);

/* With the lock held: keep that session out until gate_open(). False: it is in right now, or there is no barrier. */
bool gate_close(struct heap *heap, uint32_t index);
void gate_open(struct heap *heap, uint32_t index);

/* The session gives up what is its own: it is inside for the rest of its life. */
void gate_stay(struct session *session);

/* Let the session see to something before its next call. */
void gate_ask(struct heap *heap, uint32_t index, enum attention what);

/* The session, with the lock held: what it was asked for is seen to. Nobody keeps it out now: a closer has died. */
void gate_attended(struct session *session);

/*
 * With the lock taken for several calls: keep all others from changing queues until gate_keep_no_more(). Waits a
 * bounded time for those in the middle of it; one that was stopped there does its one change when it goes on.
 */
void gate_keep(struct session *session);
void gate_keep_no_more(struct heap *heap);
/* The session, inside: does somebody keep it from changing queues? */
static inline bool gate_is_kept(const struct session *session);

/*
 * Daemon: does somebody who has no lock look into one of these arenas at this moment? They were in use before, and are
 * said not to be by their state, so that nobody comes to them any more.
 */
bool gate_is_looked_at(struct heap *heap, uint32_t first, uint32_t n);

/* Daemon: the heap is taken down: no session comes in any more. */
void gate_end(struct heap *heap);

/* With the lock held: is that session in the middle of a call, stopped there or dead or closing, or are its own lists
 * to be made anew by itself? */
bool gate_is_inside(const struct heap *heap, uint32_t index);

/* Between gate_close_all() and gate_open_all(): is it in all the same, so that what is its own is to be left alone? */
static inline bool gate_was_inside(const struct heap *heap, uint32_t index)
{
	return heap->inside[index / 64] >> (index & 63) & 1;
}

/* ---- inline, for every call passes here -------------------------------------------------------------------------- */

static inline void gate_light_barrier(const struct session *session)
{
	if (__builtin_expect(session->is_fenced, 0))
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	else
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline bool gate_is_kept(const struct session *session)
{
	/* acquire: with the release in gate_keep_no_more(). After in_call, by the barrier in gate_enter(). */
	return __builtin_expect(__atomic_load_n(&session->control->kept1, __ATOMIC_ACQUIRE) != 0, 0);
}

static inline void gate_store(struct session_entry *entry, enum in_call in_call)
{
	/* release: all that the call did, where it ends */
	__atomic_store_n(&entry->in_call, (uint32_t)in_call, __ATOMIC_RELEASE);
}

static inline bool gate_enter(struct session *session)
{
	struct session_entry *entry = session->entry;

	gate_store(entry, CALL_INSIDE);
	gate_light_barrier(session);
	/* acquire: with the release in gate_open(), of what was changed while it was closed */
	if (__builtin_expect(!__atomic_load_n(&entry->attention, __ATOMIC_ACQUIRE), 1))
		return true;
	gate_store(entry, CALL_DONE);
	return false;
}

static inline void gate_leave(struct session *session, int n_holds)
{
	gate_leave_quickly(session->entry, n_holds);
}

static inline bool gate_enter_quickly(struct session_entry *entry)
{
	gate_store(entry, CALL_INSIDE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	/* acquire: as in gate_enter() */
	if (__builtin_expect(word32_is(&entry->attention, 0), 1))
		return true;
	gate_store(entry, CALL_DONE);
	return false;
}

static inline void gate_leave_quickly(struct session_entry *entry, int n_holds)
{
	if (n_holds) /* relaxed: for reports */
		word64_add(&entry->n_own_holds, (uint64_t)(int64_t)n_holds);
	gate_store(entry, CALL_DONE);
}

static inline uint32_t gate_enter_to_look(struct session *session)
{
	/* relaxed: the daemon may be finding it idle just now, and then does not */
	uint32_t before = __atomic_load_n(&session->entry->in_call, __ATOMIC_RELAXED);

	gate_store(session->entry, CALL_INSIDE);
	gate_light_barrier(session);
	return before;
}

static inline void gate_leave_look(struct session *session, uint32_t before)
{
	gate_store(session->entry, (enum in_call)before);
}

static inline bool gate_is_idle(struct session_entry *entry)
{
	uint32_t done = CALL_DONE;

	/* relaxed, both: a call that comes in at this moment is seen when it is asked the next time */
	if (__atomic_compare_exchange_n(&entry->in_call, &done, CALL_NONE, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return false;
	return done == CALL_NONE;
}
