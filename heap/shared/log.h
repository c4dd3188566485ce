/* SPDX-License-Identifier: MIT */
#pragma once

/* The undo log, and stores to shared memory that go through it. See log.c. */

#include "heap/shared/heap.h"

/*
 * Without the lock: what a word is if a change that is under way counts as not made. It may have been so at any moment
 * of the call. The word is one that is logged once in a change, and only in changes that end, or die, committed or
 * rolled back.
 */
uint64_t log_committed(const struct heap *heap, const uint64_t *p);

/* Without the lock: a number that has moved if a change was rolled back since. */
static inline uint64_t log_n_roll_backs(const struct heap *heap)
{
	/* acquire: before what is read next */
	return __atomic_load_n(&heap->control->n_roll_backs, __ATOMIC_ACQUIRE);
}

/* Take back what the log holds. Idempotent: after a death in the middle the next owner of the lock does it again. */
void log_roll_back(struct heap *heap);

/* Empty the log, and then unlock the headers of its n entries. */
void log_empty(struct heap *heap, uint32_t n);

/* Mark the change as one that cannot be committed. False. */
bool log_mark_full(struct heap *heap);

/* Write down the aligned word around p. False: the log is full, and nothing may be stored. */
static inline bool log_word(struct heap *heap, const void *p);

/* Write down a header lock before it is made, with rights_counted as it is; see count.c. False: the log is full. */
static inline bool log_header_lock(struct heap *heap, const uint32_t *p, uint32_t old);
/* rights_counted was another one than the entry says: correct the entry, before the next attempt. */
static inline void log_header_lock_again(struct heap *heap, uint32_t old);
/* The header was not locked: the entry goes. */
static inline void log_header_lock_failed(struct heap *heap);

/* Under the lock: store to a shared member, which the log has first. Relaxed, after a fence: see log.c. */
#define heap_set(heap, p, v)                                                                                           \
	do {                                                                                                           \
		if (log_word((heap), (p)))                                                                             \
			__atomic_store_n((p), (__typeof__(*(p)))(v), __ATOMIC_RELAXED);                                \
	} while (0)
#define heap_add(heap, p, n) heap_set((heap), (p), read_once(*(p)) + (__typeof__(*(p)))(n))

/* Store to a member that its owner writes: `logged`, as heap_set() does; else, by the owner in a critical section,
 * relaxed and without the log. */
#define heap_store(heap, logged, p, v)                                                                                 \
	do {                                                                                                           \
		if (!(logged) || log_word((heap), (p)))                                                                \
			__atomic_store_n((p), (__typeof__(*(p)))(v), __ATOMIC_RELAXED);                                \
	} while (0)

static inline void heap_set_header(struct heap *heap, struct object_header *header, uint64_t word, uint64_t rights)
{
	heap_set(heap, &header->word, word);
	if (read_once(header->rights) != rights)
		heap_set(heap, &header->rights, rights);
}

/* The change has taken place. */
static inline void log_commit(struct heap *heap)
{
	struct global_lock *lock = &heap->control->lock;

	if (__builtin_expect(heap->n_header_locks != 0, 0))
		log_empty(heap, read_once(lock->n_entries));
	else
		/* commit: release, after every store of the change */
		__atomic_store_n(&lock->n_entries, 0, __ATOMIC_RELEASE);
}

/* Offset of what p points to, as an entry of the log has it. */
static inline uint64_t log_where(const struct heap *heap, uintptr_t p)
{
	uint64_t where = p - (uintptr_t)heap->control;

	return where < heap->control_size ? where : (p - (uintptr_t)heap->base) | LOG_WHERE_HEAP;
}

static inline bool log_add(struct heap *heap, uint64_t where, uint64_t old)
{
	struct global_lock *lock = &heap->control->lock;
	uint32_t n = read_once(lock->n_entries);

	if (__builtin_expect(n >= LOG_CAPACITY, 0))
		return log_mark_full(heap);
	/* relaxed, both: log_committed() may read what was there before */
	__atomic_store_n(&lock->entries[n].where, where, __ATOMIC_RELAXED);
	__atomic_store_n(&lock->entries[n].old, old, __ATOMIC_RELAXED);
	/* release: the entry before its count */
	__atomic_store_n(&lock->n_entries, n + 1, __ATOMIC_RELEASE);
	/* release fence: the count before the caller's store, which is relaxed */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	return true;
}

static inline bool log_word(struct heap *heap, const void *p)
{
	uintptr_t word = (uintptr_t)p & ~(uintptr_t)7;

	/* relaxed: a part of the word may be one that others store to without the lock, or a hint; see header_lock.c,
	 * count.c */
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
	/* relaxed: with the entry or without it, nothing is restored */
	shared_add(lock->n_entries, -1);
}

static inline void log_header_lock_again(struct heap *heap, uint32_t old)
{
	struct global_lock *lock = &heap->control->lock;

	/* the remainder: a stray write may have changed n_entries */
	__atomic_store_n(&lock->entries[(read_once(lock->n_entries) - 1) % LOG_CAPACITY].old, old, __ATOMIC_RELAXED);
	/* release fence: the entry before the next attempt to lock the header */
	__atomic_thread_fence(__ATOMIC_RELEASE);
}
