/* SPDX-License-Identifier: MIT */
#pragma once

/* The undo log, and stores to shared members under the lock. See log.c. */

#include "heap/shared/heap.h"

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
/* Store to a member of an owner's: by itself within a call as it is (relaxed), else, `logged`, as heap_set() does. */
#define heap_store(heap, logged, p, v)                                                                                 \
	do {                                                                                                           \
		if (!(logged) || log_word((heap), (p)))                                                                \
			__atomic_store_n((p), (__typeof__(*(p)))(v), __ATOMIC_RELAXED);                                \
	} while (0)
#define heap_add(heap, p, n) heap_set((heap), (p), *(p) + (__typeof__(*(p)))(n))

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

/* The log is emptied: see log_commit(). */
void log_empty(struct heap *heap, uint32_t n);

static inline void log_commit(struct heap *heap)
{
	struct global_lock *lock = &heap->control->lock;

	if (__builtin_expect(heap->n_header_locks != 0, 0))
		log_empty(heap, lock->n_entries);
	else
		/* commit: release, after every store of the change */
		__atomic_store_n(&lock->n_entries, 0, __ATOMIC_RELEASE);
}

static inline void heap_set_header(struct heap *heap, struct object_header *header, uint64_t word, uint64_t rights)
{
	heap_set(heap, &header->word, word);
	if (header->rights != rights)
		heap_set(heap, &header->rights, rights);
}
