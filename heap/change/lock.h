/* SPDX-License-Identifier: MIT */
#pragma once

/* The global lock and its undo log: see lock.c for the theory. */

#include "heap/shared/heap.h"

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
int session_check_lock(struct session *session);

/*
 * After -EPERM of session_unlock() or of a change's begin: had the other thread the lock all the time until now? Then
 * nobody has changed anything. For what the caller stored before, the fence is his.
 */
bool lock_is_still_held(const struct session *session);

/* The session ends, and session_check_lock() said -EPERM: that thread will give the lock back. See lock.c. */
void session_abandon_lock(struct session *session);

/* Is the lock left to a living thread of this process, so that the heap must stay mapped? This one gives it back. */
bool lock_is_abandoned_by_other(struct heap *heap);

/* Take back what the log holds. Idempotent: whoever dies in it is followed by somebody who does it again. */
void log_roll_back(struct heap *heap);

/* Write down what the aligned word around p holds. False: the log is full, and nothing may be stored. */
static inline bool log_word(struct heap *heap, const void *p);
/* Before a header is claimed, whose rights_counted is `old`; and again, where it was another one by then. See count.c.
 */
static inline bool log_header_lock(struct heap *heap, const uint32_t *p, uint32_t old);
static inline void log_header_lock_again(struct heap *heap, uint32_t old);
static inline void log_header_lock_failed(struct heap *heap); /* it was not claimed: the entry goes */
bool log_is_full(struct heap *heap);

/* Store to a shared member under the lock: written down first, relaxed and after a fence, see lock.c. */
#define heap_set(heap, p, v)                                                                                           \
	do {                                                                                                           \
		if (log_word((heap), (p)))                                                                             \
			__atomic_store_n((p), (__typeof__(*(p)))(v), __ATOMIC_RELAXED);                                \
	} while (0)
#define heap_add(heap, p, n) heap_set((heap), (p), *(p) + (__typeof__(*(p)))(n))

/*
 * Daemon: the process of that session (or the daemon before, SESSION_DAEMON) has ended for certain. Should it have had
 * the lock, and be of a pid namespace whose dead the kernel does not tell of, the next taker is told now. Idempotent.
 */
void lock_owner_died(struct heap *heap, uint32_t session_index);

/*
 * Who has the lock, for reports: its session (or SESSION_DAEMON) plus one; 0: nobody, or it cannot be told. Looks at
 * the owner's thread id in the mutex too, since an owner may be stopped before it says who it is.
 */
uint32_t lock_owner1(const struct heap *heap);

/* The thread that has the lock, by the number that it has in its own pid namespace, for reports where its session
 * cannot be told; 0: nobody. */
uint32_t lock_owner_tid(const struct heap *heap);

/* ---- inline, as a change writes several -------------------------------------------------------------------------- */

/* Offset of what p points to, as an entry of the log has it. */
static inline uint64_t log_where(const struct heap *heap, uintptr_t p)
{
	uint64_t where = p - (uintptr_t)heap->control;

	return where < heap->control_size ? where : (p - (uintptr_t)heap->base) | LOG_WHERE_HEAP;
}

static inline bool log_add(struct heap *heap, uint64_t where, uint64_t old)
{
	struct global_lock *lock = &heap->control->lock;
	uint32_t n = lock->n_entries;

	if (__builtin_expect(n >= LOG_CAPACITY, 0))
		return log_is_full(heap);
	lock->entries[n].where = where;
	lock->entries[n].old = old;
	/* release: the entry before its count */
	__atomic_store_n(&lock->n_entries, n + 1, __ATOMIC_RELEASE);
	/* release fence: the count before the store that the caller makes (relaxed) */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	return true;
}

static inline bool log_word(struct heap *heap, const void *p)
{
	uintptr_t word = (uintptr_t)p & ~(uintptr_t)7;

	/* relaxed: a part of it may be somebody's who stores to it without the lock, or a hint; see claim.c, count.c */
	return log_add(heap, log_where(heap, word), __atomic_load_n((const uint64_t *)word, __ATOMIC_RELAXED));
}

static inline bool log_header_lock(struct heap *heap, const uint32_t *p, uint32_t old)
{
	if (!log_add(heap, log_where(heap, (uintptr_t)p) | LOG_WHERE_HEADER_LOCK, old))
		return false;
	heap->n_header_locks++;
	return true;
}

static inline void log_header_lock_failed(struct heap *heap)
{
	struct global_lock *lock = &heap->control->lock;

	heap->n_header_locks--;
	/* relaxed: with it or without it, nothing is restored */
	__atomic_store_n(&lock->n_entries, lock->n_entries - 1, __ATOMIC_RELAXED);
}

static inline void log_header_lock_again(struct heap *heap, uint32_t old)
{
	struct global_lock *lock = &heap->control->lock;

	__atomic_store_n(&lock->entries[lock->n_entries - 1].old, old, __ATOMIC_RELAXED);
	/* as in log_add() */
	__atomic_thread_fence(__ATOMIC_RELEASE);
}
