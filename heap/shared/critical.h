/* SPDX-License-Identifier: MIT */
#pragma once

/* Critical sections: work without the lock, and how others keep a session out of it. See critical.c. */

#include "heap/shared/atomic_operand.h"
#include "heap/shared/session.h"

/*
 * Enter and leave a critical section, in which a session may change what is its own. False: there are requests; it has
 * not entered, and calls session_serve_requests() first. n_holds: how many more, or fewer, of its own objects it holds
 * after it.
 */
static inline bool critical_enter(struct session *session);
static inline void critical_leave(struct session *session, int n_holds);

/* critical_enter() that ignores REQUEST_COLLECT, which may wait for the next call: this one has collected enough. */
bool critical_enter_collecting(struct session *session);

/*
 * critical_enter() that heeds only requests to stay out, and the end of the heap: for what changes nothing but the
 * session's hold table.
 */
static inline bool critical_enter_reading(struct session *session);

/* critical_enter() and critical_leave() of a session that is not fenced. */
static inline bool critical_enter_fast(struct session_entry *entry);
static inline void critical_leave_fast(struct session_entry *entry, int n_holds);

/*
 * A critical section that changes nothing: only the daemon, before it unmaps arenas, asks who is in one
 * (critical_has_lookup()). So requests do not matter, and the session is as idle after it as before: the second
 * call gets what the first returned.
 */
static inline uint32_t critical_enter_lookup(struct session *session);
static inline void critical_leave_lookup(struct session *session, uint32_t before);

/*
 * Daemon: has the session been in no critical section since this was last asked? Each answer starts the question
 * anew. Asked at each tick, and at each step of taking memory back from the session, so that neither misses a call.
 */
static inline bool critical_poll_idle(struct session_entry *entry);

/*
 * Order what this session has stored before what it loads next, as seen by a process that calls critical_barrier() in
 * between. Costs the processor nothing unless the session is fenced: the other process pays.
 */
static inline void critical_light_barrier(const struct session *session);

/*
 * The other half. After it, each session's stores before one of its light barriers are seen here, or its loads after
 * that barrier see what was stored here before. -EOPNOTSUPP this process may not use membarrier(2), and some session
 * relies on it.
 */
int critical_barrier(struct heap *heap);

/*
 * With the lock held: keep all sessions out until critical_unblock_all(). Waits a bounded time for active ones. Those
 * that are active after it may come out at any time; critical_was_active() says so of them until the next
 * critical_block_all(). Where there is no barrier (-EOPNOTSUPP) no session is kept out, and each counts as active.
 */
int critical_block_all(struct heap *heap);
/* critical_block_all() of a process that goes on with another's work: without a barrier the requests stay set. */
int critical_block_all_again(struct heap *heap);
void critical_unblock_all(struct heap *heap);

/* With the lock held: keep one session out until critical_unblock(). False: it is active, or there is no barrier. */
bool critical_block(struct heap *heap, uint32_t index);
void critical_unblock(struct heap *heap, uint32_t index);

/* The session gives up what is its own: it stays active for the rest of its life. */
void critical_stay(struct session *session);

/* Request something of a session, which it does before its next critical section. */
void critical_request(struct heap *heap, uint32_t index, enum request what);

/* The session, with the lock held: its requests are served. None keeps it out now: a process that did has died. */
void critical_requests_served(struct session *session);

/*
 * With the lock taken for several calls: keep others from changing queues until critical_resume_queues(). Waits a
 * bounded time for those that are changing one; a session that was stopped there makes that one change when it goes on.
 */
void critical_pause_queues(struct session *session);
void critical_resume_queues(struct heap *heap);
/* The session, inside a critical section: does another one keep it from changing queues? */
static inline bool critical_queues_are_paused(const struct session *session);

/*
 * Daemon: is a session without the lock reading one of these arenas just now? Their state says that they are in use no
 * more, so that no further session comes to read them.
 */
static inline bool critical_has_lookup(struct heap *heap, uint32_t first, uint32_t n);
/* The first such arena, plus one; 0: there is none. */
uint32_t critical_find_lookup1(struct heap *heap, uint32_t first, uint32_t n);

/* Daemon: the heap ends: no session enters a critical section any more. */
void critical_end(struct heap *heap);

/* With the lock held: is the session in a critical section, or stopped in one, dead or closing, or are its own lists
 * still to be made anew by itself? */
bool critical_is_active(const struct heap *heap, uint32_t index);

/* Between critical_block_all() and critical_unblock_all(): was it active, so that its own must be left alone? */
static inline bool critical_was_active(const struct heap *heap, uint32_t index)
{
	return heap->active[index / 64] >> (index & 63) & 1;
}

static inline void critical_light_barrier(const struct session *session)
{
	if (__builtin_expect(session->is_fenced, 0))
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	else
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline bool critical_queues_are_paused(const struct session *session)
{
	/* acquire: with the release in critical_resume_queues(). After activity: critical_enter() has a barrier */
	return __builtin_expect(__atomic_load_n(&session->control->queues_paused_by1, __ATOMIC_ACQUIRE) != 0, 0);
}

static inline void critical_store(struct session_entry *entry, enum activity activity)
{
	/* release: after all that was done in the critical section, where it ends */
	__atomic_store_n(&entry->activity, (uint32_t)activity, __ATOMIC_RELEASE);
}

static inline bool critical_enter(struct session *session)
{
	struct session_entry *entry = session->entry;

	critical_store(entry, ACTIVITY_ACTIVE);
	critical_light_barrier(session);
	/* acquire: with the release in critical_unblock(), after what was changed while the session was kept out */
	if (__builtin_expect(!__atomic_load_n(&entry->requests, __ATOMIC_ACQUIRE), 1))
		return true;
	critical_store(entry, ACTIVITY_DONE);
	return false;
}

static inline bool critical_enter_reading(struct session *session)
{
	struct session_entry *entry = session->entry;

	critical_store(entry, ACTIVITY_ACTIVE);
	critical_light_barrier(session);
	/* acquire: as in critical_enter() */
	if (__builtin_expect(!(__atomic_load_n(&entry->requests, __ATOMIC_ACQUIRE) &
				     (uint32_t)(REQUEST_BLOCK | REQUEST_ENDED | REQUEST_REBUILD)),
		    1))
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
	/* relaxed: critical_poll_idle() may store to it just now, and then finds the session not idle */
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

	/* relaxed, both: a call that begins at this moment is found by the next question */
	if (__atomic_compare_exchange_n(
		    &entry->activity, &done, ACTIVITY_NONE, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return false;
	return done == ACTIVITY_NONE;
}

static inline bool critical_has_lookup(struct heap *heap, uint32_t first, uint32_t n)
{
	return critical_find_lookup1(heap, first, n);
}
