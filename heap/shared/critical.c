// SPDX-License-Identifier: MIT
/*
 * The gate: calls that need no lock, and who may keep a session out of them
 *
 * What belongs to one session (its pools, the holds of its own objects) it changes by plain stores, without the lock.
 * Sometimes somebody else must be sure that it does not do so just now: who checks the whole heap, the daemon that
 * takes free pools back from a session that sleeps. So each such call begins by storing in `activity` that
 * it is inside, and then looking at another word, the session's `attention`; it ends by storing that it is done.
 * Whoever wants a session out takes the lock, sets a bit of its attention and looks at activity: where it
 * does not say inside the session is out, and finds the word before it comes in again. It then waits for the lock
 * (session_serve_requests()), as everybody does.
 *
 * Of "I store activity, then load attention" and "he stores requests, then loads activity" at least one must see the
 * other's store; on any processor that needs a full barrier on both sides. The session's side runs millions of times a
 * second, the other hardly ever, so the barrier is paid for by the other side alone: membarrier(2) has every processor
 * that runs a registered process execute one. The session's is then no more than an order to the compiler. Where a
 * process cannot be registered its sessions are fenced: they execute the barrier themselves.
 *
 * Pushes and pops are such calls, too, though queues are everybody's: so a check finds none under way, or knows by its
 * intent what it is about. Who has the lock between calls (session_lock()) keeps the others from them alone, by a mark
 * that they look at inside (critical_pause_queues()); all else that needs no lock goes on.
 *
 * First holds and last drops without the lock are such calls, too (count.c), and the same holds for them.
 *
 * Nobody waits here for a session that was stopped or killed in the middle of a call: critical_block() says that it is
 * in, and what is its own is left alone, to the end, though it may go on and come out before (critical_was_active()).
 * activity stays as it is when a session dies inside; its entry is then not looked at before it was reclaimed. A closer
 * that dies leaves attention set: each session's next call takes the lock, and clears it. Who keeps all out sets the
 * bit in the entries of those as well who may yet come: it stays there when one is admitted. A session that has to make
 * its own anew (rebuild.c) counts as inside until it has.
 */

#include "heap/shared/critical.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WAIT_TURNS 200U /* a call takes less than a microsecond; a turn lets its thread have the processor */
#define WAIT_NSEC  50000

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
 * A DEAD session makes no call any more: what it did was seen by the daemon, who said so by a release. Were it counted,
 * a process that died with others relying on it would keep those that have no barrier waiting for it.
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

	/* acquire: with the release in critical_leave(). relaxed: whoever asks has the lock, as has who sets it, or
	 * clears it */
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

/* Looked at once: who comes out later must not be taken for one that was out all the time. */
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
		nanosleep(&(struct timespec){.tv_nsec = WAIT_NSEC}, NULL);
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
	/* relaxed: who must know that the session sees it calls critical_barrier() */
	__atomic_fetch_or(&heap->sessions[index].requests, (uint32_t)what, __ATOMIC_RELAXED);
}

void critical_requests_served(struct session *session)
{
	/* release: as critical_unblock(); acquire: if the end's bit was among them, the end is seen next */
	__atomic_fetch_and(&session->entry->requests, 0, __ATOMIC_ACQ_REL);
	if (__atomic_load_n(&session->control->ended, __ATOMIC_RELAXED))
		critical_request(session->heap, session->index, REQUEST_ENDED);
}

static bool changes_a_queue(const struct session_entry *entry)
{
	/* acquire: with the release in critical_leave(); relaxed: it is complete before activity says inside */
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

	/* relaxed: the barrier orders it */
	__atomic_store_n(&heap->control->queues_paused_by1, session->owner1, __ATOMIC_RELAXED);
	if (critical_barrier(heap) < 0) /* the next best: long enough for any processor's stores to be seen */
		nanosleep(&(struct timespec){.tv_nsec = WAIT_NSEC}, NULL);
	for (uint32_t i = 0; i < WAIT_TURNS && any_changes_a_queue(heap); i++)
		nanosleep(&(struct timespec){.tv_nsec = WAIT_NSEC}, NULL);
}

void critical_resume_queues(struct heap *heap)
{
	/* release: what was done meanwhile */
	__atomic_store_n(&heap->control->queues_paused_by1, 0, __ATOMIC_RELEASE);
}

bool critical_has_lookup(struct heap *heap, uint32_t first, uint32_t n)
{
	/* Their state before the intents; where there is no barrier the lock was taken and given back in between. */
	(void)critical_barrier(heap);
	for (uint32_t i = 0; i < heap->n_sessions; i++) {
		const struct session_entry *entry = &heap->sessions[i];
		/* acquire, both: it is complete before activity says inside */
		bool is_active = session_state(entry) == SESSION_ACTIVE &&
				 __atomic_load_n(&entry->activity, __ATOMIC_ACQUIRE) == ACTIVITY_ACTIVE;
		uint64_t word = __atomic_load_n(&entry->intent.word, __ATOMIC_ACQUIRE);
		uint64_t off = ref_position(__atomic_load_n(&entry->intent.ref, __ATOMIC_RELAXED)) << 3;

		if (is_active && intent_is_count(intent_kind(word)) && (off >> heap->arena_shift) - first < n)
			return true;
	}
	return false;
}

void critical_end(struct heap *heap)
{
	/* release: before the bits */
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
	/* release: what was changed while it was closed */
	__atomic_fetch_and(&heap->sessions[index].requests, ~(uint32_t)REQUEST_BLOCK, __ATOMIC_RELEASE);
}
