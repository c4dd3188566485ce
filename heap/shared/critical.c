// SPDX-License-Identifier: MIT
/*
 * Critical sections: how a session works without the lock, and how others keep it out
 *
 * A session changes what is its own (its pools, the holds of its own objects) by plain stores, without the lock.
 * Sometimes another process must be sure that it does not do so just now: a check of the whole heap, or the daemon that
 * takes free pools back from a sleeping session. So a session works in critical sections. To enter one, it stores in
 * `activity` that it is active, and then reads another word of its entry, `requests`; to leave, it stores that it is
 * done. To keep a session out, the owner of the lock sets a bit of its requests and then reads its activity. Where
 * activity does not say active, the session is out, and finds the bit before it enters again; it then waits for the
 * lock (session_serve_requests()), as everybody does.
 *
 * Of "the session stores activity, then loads requests" and "the other stores requests, then loads activity" at least
 * one must see the other's store. On any processor that takes a full barrier on both sides. The session's side runs
 * millions of times a second, the other side hardly ever, so the other side alone pays for both: membarrier(2) has each
 * processor that runs a registered process execute a barrier. On the session's side an order to the compiler is enough.
 * Sessions of a process that cannot be registered are *fenced*: they execute the barrier themselves. Proved by
 * tests/model/critical.pml.
 *
 * Pushes and pops are critical sections, too, though queues are everybody's: so a check finds none under way, or knows
 * by the session's intent what it is about. The owner of the lock between its calls (session_lock()) keeps others from
 * changing queues alone, by a mark that they read inside (critical_pause_queues()); all other work without the lock
 * goes on. First holds and last drops without the lock (count.c) are critical sections that the mark stops as well.
 *
 * Nobody waits here for a session that was stopped or killed inside a critical section. critical_block() answers that
 * it is active, and a rebuild leaves its own pools alone from beginning to end, though it may go on and come out in
 * between (critical_was_active()). `activity` of a session that dies inside stays; its entry is used again only after
 * it was reclaimed. Where the process that keeps sessions out dies, the bit stays in requests: each session's next call
 * takes the lock and clears it. Keeping all sessions out sets the bit in free entries, too, so that a session that is
 * admitted meanwhile finds it set. A session that has to make its own lists anew (rebuild.c) counts as active until it
 * has.
 */

#include "heap/shared/critical.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WAIT_TURNS 200U /* a critical section takes less than a microsecond; a turn gives its thread the processor */
#define WAIT_NSEC  50000

/* Not by nanosleep(), in which a thread could be cancelled. */
static void wait_briefly(void)
{
	syscall(SYS_nanosleep, &(struct timespec){.tv_nsec = WAIT_NSEC}, NULL);
}

bool critical_enter_collecting(struct session *session)
{
	struct session_entry *entry = session->entry;

	critical_store(entry, ACTIVITY_ACTIVE);
	critical_light_barrier(session);
	/* acquire: as in critical_enter() */
	if (!(__atomic_load_n(&entry->requests, __ATOMIC_ACQUIRE) & ~(uint32_t)REQUEST_COLLECT))
		return true;
	critical_store(entry, ACTIVITY_DONE);
	return false;
}

/*
 * A DEAD session enters no critical section any more; the daemon has seen what it did, and said so by a release. Were
 * it counted, a dead session that relied on membarrier(2) would block processes that may not use it.
 */
static bool all_fenced(const struct heap *heap)
{
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		if (__atomic_load_n(&heap->sessions[i].state, __ATOMIC_ACQUIRE) == SESSION_ACTIVE &&
			!__atomic_load_n(&heap->sessions[i].is_fenced, __ATOMIC_RELAXED))
			return false;
	return true;
}

int critical_barrier(struct heap *heap)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0)
		return 0;
	return all_fenced(heap) ? 0 : -EOPNOTSUPP;
}

bool critical_is_active(const struct heap *heap, uint32_t index)
{
	const struct session_entry *entry = &heap->sessions[index];

	/* acquire: with the release in critical_leave(). relaxed: REQUEST_REBUILD is set, cleared and read under the
	 * lock */
	return session_state(entry) != SESSION_ACTIVE ||
	       __atomic_load_n(&entry->activity, __ATOMIC_ACQUIRE) == ACTIVITY_ACTIVE ||
	       __atomic_load_n(&entry->requests, __ATOMIC_RELAXED) & REQUEST_REBUILD;
}

static bool any_is_active(const struct heap *heap)
{
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		if (session_state(&heap->sessions[i]) == SESSION_ACTIVE && critical_is_active(heap, i))
			return true;
	return false;
}

/* Recorded once: a session that leaves later must not be taken for one that was out all the time. */
static void record_active(struct heap *heap)
{
	memset(heap->active, 0, sizeof(heap->active));
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		if (critical_is_active(heap, i))
			heap->active[i / 64] |= UINT64_C(1) << (i & 63);
}

static void block_all(struct heap *heap)
{
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		critical_request(heap, i, REQUEST_BLOCK);
}

int critical_block_all_again(struct heap *heap)
{
	int r;

	block_all(heap);
	r = critical_barrier(heap);
	if (r < 0) {
		memset(heap->active, 0xff, sizeof(heap->active));
		return r;
	}
	for (uint32_t i = 0; i < WAIT_TURNS && any_is_active(heap); i++)
		wait_briefly();
	record_active(heap);
	return 0;
}

int critical_block_all(struct heap *heap)
{
	int r = critical_block_all_again(heap);

	if (r < 0)
		critical_unblock_all(heap);
	return r;
}

void critical_unblock_all(struct heap *heap)
{
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		critical_unblock(heap, i);
}

void critical_stay(struct session *session)
{
	critical_store(session->entry, ACTIVITY_ACTIVE);
}

void critical_request(struct heap *heap, uint32_t index, enum request what)
{
	/* relaxed: a caller that relies on the session seeing it calls critical_barrier() next */
	__atomic_fetch_or(&heap->sessions[index].requests, (uint32_t)what, __ATOMIC_RELAXED);
}

void critical_requests_served(struct session *session)
{
	/* release: as in critical_unblock(). acquire: if REQUEST_ENDED was among them, the next load finds the end */
	__atomic_fetch_and(&session->entry->requests, 0, __ATOMIC_ACQ_REL);
	if (__atomic_load_n(&session->control->ended, __ATOMIC_RELAXED))
		critical_request(session->heap, session->index, REQUEST_ENDED);
}

static bool changes_a_queue(const struct session_entry *entry)
{
	/* acquire: with the release in critical_leave(). relaxed: the intent is complete before activity says active */
	return session_state(entry) == SESSION_ACTIVE &&
	       __atomic_load_n(&entry->activity, __ATOMIC_ACQUIRE) == ACTIVITY_ACTIVE &&
	       intent_kind(__atomic_load_n(&entry->intent.word, __ATOMIC_RELAXED)) != INTENT_NONE;
}

static bool any_changes_a_queue(const struct heap *heap)
{
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		if (changes_a_queue(&heap->sessions[i]))
			return true;
	return false;
}

void critical_pause_queues(struct session *session)
{
	struct heap *heap = session->heap;

	/* relaxed: critical_barrier() orders it */
	__atomic_store_n(&heap->control->queues_paused_by1, session->owner1, __ATOMIC_RELAXED);
	if (critical_barrier(heap) < 0) /* second best: long enough for the stores of any processor to be seen */
		wait_briefly();
	for (uint32_t i = 0; i < WAIT_TURNS && any_changes_a_queue(heap); i++)
		wait_briefly();
}

void critical_resume_queues(struct heap *heap)
{
	/* release: after what the owner of the lock did meanwhile */
	__atomic_store_n(&heap->control->queues_paused_by1, 0, __ATOMIC_RELEASE);
}

/* The arena of a position, plus one, if it is one of these n; else 0. */
static uint32_t arena1_among(const struct heap *heap, uint64_t ref, uint32_t first, uint32_t n)
{
	uint64_t arena = ref_position(ref) << 3 >> heap->arena_shift;

	return arena - first < n ? (uint32_t)arena + 1 : 0;
}

uint32_t critical_find_lookup1(struct heap *heap, uint32_t first, uint32_t n)
{
	/* After the arenas' state and before the intents. Where there is no barrier, the lock was taken in between. */
	(void)critical_barrier(heap);
	for (uint32_t i = 0; i < heap->n_sessions; i++) {
		const struct session_entry *entry = &heap->sessions[i];
		/* acquire, both: the intent is complete before activity says active */
		bool is_active = session_state(entry) == SESSION_ACTIVE &&
				 __atomic_load_n(&entry->activity, __ATOMIC_ACQUIRE) == ACTIVITY_ACTIVE;
		uint32_t kind = intent_kind(__atomic_load_n(&entry->intent.word, __ATOMIC_ACQUIRE));
		/* acquire: what a reader has done with moves from ref to queue, see read.c */
		uint64_t ref = __atomic_load_n(&entry->intent.ref, __ATOMIC_ACQUIRE);
		uint64_t other = __atomic_load_n(&entry->intent.queue, __ATOMIC_RELAXED);
		uint32_t found1 = 0;

		if (is_active && (intent_is_count(kind) || intent_is_read(kind)))
			found1 = arena1_among(heap, ref, first, n);
		if (is_active && intent_is_read(kind) && !found1)
			found1 = arena1_among(heap, other, first, n);
		if (found1)
			return found1;
	}
	return 0;
}

void critical_end(struct heap *heap)
{
	/* First: a daemon that follows this one, killed on the way, does all of this once more. */
	if (heap->truth)
		__atomic_store_n(&heap->truth->head->ended, HEAP_ENDED, __ATOMIC_RELEASE);
	/* release: before the bits in requests */
	__atomic_store_n(&heap->control->ended, HEAP_ENDED, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		__atomic_fetch_or(&heap->sessions[i].requests, REQUEST_ENDED, __ATOMIC_RELEASE);
}

bool critical_block(struct heap *heap, uint32_t index)
{
	critical_request(heap, index, REQUEST_BLOCK);
	if (critical_barrier(heap) == 0 && !critical_is_active(heap, index))
		return true;
	critical_unblock(heap, index);
	return false;
}

void critical_unblock(struct heap *heap, uint32_t index)
{
	/* release: after what was changed while the session was kept out */
	__atomic_fetch_and(&heap->sessions[index].requests, ~(uint32_t)REQUEST_BLOCK, __ATOMIC_RELEASE);
}
