// SPDX-License-Identifier: MIT
/*
 * The gate: calls that need no lock, and who may keep a session out of them
 *
 * What belongs to one session (its pools, the holds of its own objects) it changes by plain stores, without the lock.
 * Sometimes somebody else must be sure that it does not do so just now: who checks the whole heap, the daemon that
 * takes free pools back from a session that sleeps. So each such call begins by storing in `in_call` that
 * it is inside, and then looking at another word, the session's `attention`; it ends by storing that it is done.
 * Whoever wants a session out takes the lock, sets a bit of its attention and looks at in_call: where it
 * does not say inside the session is out, and finds the word before it comes in again. It then waits for the lock
 * (session_attend()), as everybody does.
 *
 * Of "I store in_call, then load attention" and "he stores attention, then loads in_call" at least one must see the
 * other's store; on any processor that needs a full barrier on both sides. The session's side runs millions of times a
 * second, the other hardly ever, so the barrier is paid for by the other side alone: membarrier(2) has every processor
 * that runs a registered process execute one. The session's is then no more than an order to the compiler. Where a
 * process cannot be registered its sessions are fenced: they execute the barrier themselves.
 *
 * Pushes and pops are such calls, too, though queues are everybody's: so a check finds none under way, or knows by its
 * intent what it is about. Who has the lock between calls (session_lock()) keeps the others from them alone, by a mark
 * that they look at inside (gate_keep()); all else that needs no lock goes on.
 *
 * First holds and last drops without the lock are such calls, too (count.c), and the same holds for them.
 *
 * Nobody waits here for a session that was stopped or killed in the middle of a call: gate_close() says that it is in,
 * and what is its own is left alone, to the end, though it may go on and come out before (gate_was_inside()).
 * in_call stays as it is when a session dies inside; its entry is then not looked at before it was reclaimed. A closer
 * that dies leaves attention set: each session's next call takes the lock, and clears it. Who keeps all out sets the
 * bit in the entries of those as well who may yet come: it stays there when one is admitted. A session that has to make
 * its own anew (rebuild.c) counts as inside until it has.
 */

#include "heap/gate.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WAIT_TURNS 200U /* a call takes less than a microsecond; a turn lets its thread have the processor */
#define WAIT_NSEC  50000

bool gate_enter_gathering(struct session *session)
{
	struct session_entry *entry = session->entry;

	gate_store(entry, CALL_INSIDE);
	gate_light_barrier(session);
	/* acquire: as in gate_enter() */
	if (!(__atomic_load_n(&entry->attention, __ATOMIC_ACQUIRE) & ~(uint32_t)ATTENTION_GATHER))
		return true;
	gate_store(entry, CALL_DONE);
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

int gate_barrier(struct heap *heap)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0)
		return 0;
	return all_fenced(heap) ? 0 : -EOPNOTSUPP;
}

bool gate_is_inside(const struct heap *heap, uint32_t index)
{
	const struct session_entry *entry = &heap->sessions[index];

	/* acquire: with the release in gate_leave(). relaxed: whoever asks has the lock, as has who sets it, or clears
	 * it */
	return session_state(entry) != SESSION_ACTIVE ||
	       __atomic_load_n(&entry->in_call, __ATOMIC_ACQUIRE) == CALL_INSIDE ||
	       __atomic_load_n(&entry->attention, __ATOMIC_RELAXED) & ATTENTION_REBUILD;
}

static bool somebody_is_inside(const struct heap *heap)
{
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		if (session_state(&heap->sessions[i]) == SESSION_ACTIVE && gate_is_inside(heap, i))
			return true;
	return false;
}

/* Looked at once: who comes out later must not be taken for one that was out all the time. */
static void note_inside(struct heap *heap)
{
	memset(heap->inside, 0, sizeof(heap->inside));
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		if (gate_is_inside(heap, i))
			heap->inside[i / 64] |= UINT64_C(1) << (i & 63);
}

static void close_all(struct heap *heap)
{
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		gate_ask(heap, i, ATTENTION_CLOSED);
}

int gate_close_begun(struct heap *heap)
{
	int r;

	close_all(heap);
	r = gate_barrier(heap);
	if (r < 0) {
		memset(heap->inside, 0xff, sizeof(heap->inside));
		return r;
	}
	for (uint32_t i = 0; i < WAIT_TURNS && somebody_is_inside(heap); i++)
		nanosleep(&(struct timespec){.tv_nsec = WAIT_NSEC}, NULL);
	note_inside(heap);
	return 0;
}

int gate_close_all(struct heap *heap)
{
	int r = gate_close_begun(heap);

	if (r < 0)
		gate_open_all(heap);
	return r;
}

void gate_open_all(struct heap *heap)
{
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		gate_open(heap, i);
}

void gate_stay(struct session *session)
{
	gate_store(session->entry, CALL_INSIDE);
}

void gate_ask(struct heap *heap, uint32_t index, enum attention what)
{
	/* relaxed: who must know that the session sees it calls gate_barrier() */
	__atomic_fetch_or(&heap->sessions[index].attention, (uint32_t)what, __ATOMIC_RELAXED);
}

void gate_attended(struct session *session)
{
	/* release: as gate_open(); acquire: if the end's bit was among them, the end is seen next */
	__atomic_fetch_and(&session->entry->attention, 0, __ATOMIC_ACQ_REL);
	if (__atomic_load_n(&session->control->ended, __ATOMIC_RELAXED))
		gate_ask(session->heap, session->index, ATTENTION_ENDED);
}

static bool is_changing_a_queue(const struct session_entry *entry)
{
	/* acquire: with the release in gate_leave(); relaxed: it is complete before in_call says inside */
	return session_state(entry) == SESSION_ACTIVE &&
	       __atomic_load_n(&entry->in_call, __ATOMIC_ACQUIRE) == CALL_INSIDE &&
	       intent_kind(__atomic_load_n(&entry->intent.word, __ATOMIC_RELAXED)) != INTENT_NONE;
}

static bool somebody_is_changing_a_queue(const struct heap *heap)
{
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		if (is_changing_a_queue(&heap->sessions[i]))
			return true;
	return false;
}

void gate_keep(struct session *session)
{
	struct heap *heap = session->heap;

	/* relaxed: the barrier orders it */
	__atomic_store_n(&heap->control->kept1, session->owner1, __ATOMIC_RELAXED);
	if (gate_barrier(heap) < 0) /* the next best: long enough for any processor's stores to be seen */
		nanosleep(&(struct timespec){.tv_nsec = WAIT_NSEC}, NULL);
	for (uint32_t i = 0; i < WAIT_TURNS && somebody_is_changing_a_queue(heap); i++)
		nanosleep(&(struct timespec){.tv_nsec = WAIT_NSEC}, NULL);
}

void gate_keep_no_more(struct heap *heap)
{
	/* release: what was done meanwhile */
	__atomic_store_n(&heap->control->kept1, 0, __ATOMIC_RELEASE);
}

bool gate_is_looked_at(struct heap *heap, uint32_t first, uint32_t n)
{
	/* Their state before the intents; where there is no barrier the lock was taken and given back in between. */
	(void)gate_barrier(heap);
	for (uint32_t i = 0; i < heap->n_sessions; i++) {
		const struct session_entry *entry = &heap->sessions[i];
		/* acquire, both: it is complete before in_call says inside */
		bool is_inside = session_state(entry) == SESSION_ACTIVE &&
				 __atomic_load_n(&entry->in_call, __ATOMIC_ACQUIRE) == CALL_INSIDE;
		uint64_t word = __atomic_load_n(&entry->intent.word, __ATOMIC_ACQUIRE);
		uint64_t off = ref_position(__atomic_load_n(&entry->intent.ref, __ATOMIC_RELAXED)) << 3;

		if (is_inside && intent_is_count(intent_kind(word)) && (off >> heap->arena_shift) - first < n)
			return true;
	}
	return false;
}

void gate_end(struct heap *heap)
{
	/* release: before the bits */
	__atomic_store_n(&heap->control->ended, HEAP_ENDED, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		__atomic_fetch_or(&heap->sessions[i].attention, ATTENTION_ENDED, __ATOMIC_RELEASE);
}

bool gate_close(struct heap *heap, uint32_t index)
{
	gate_ask(heap, index, ATTENTION_CLOSED);
	if (gate_barrier(heap) == 0 && !gate_is_inside(heap, index))
		return true;
	gate_open(heap, index);
	return false;
}

void gate_open(struct heap *heap, uint32_t index)
{
	/* release: what was changed while it was closed */
	__atomic_fetch_and(&heap->sessions[index].attention, ~(uint32_t)ATTENTION_CLOSED, __ATOMIC_RELEASE);
}
