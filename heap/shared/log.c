/* SPDX-License-Identifier: MIT */
/* The undo log */

#include "heap/shared/log.h"

bool log_is_full(struct heap *heap)
{
	heap->control->lock.overflowed = 1;
	return false;
}

/* The word that an entry speaks of, or NULL where a stray write has spoilt the entry. */
static void *log_target(struct heap *heap, const struct log_entry *entry)
{
	bool in_heap = entry->where & LOG_WHERE_HEAP;
	uint64_t off = entry->where & ~(LOG_WHERE_HEAP | LOG_WHERE_HEADER_LOCK);

	if (off & 7 || off > (in_heap ? heap->heap_size : heap->control_size) - 8)
		return NULL;
	if (in_heap && !arena_is_there(heap, (uint32_t)(off >> heap->arena_shift)))
		return NULL;
	return (in_heap ? heap->base : (uint8_t *)heap->control) + off;
}

static void log_take_back(struct heap *heap, const struct log_entry *entry)
{
	void *target = log_target(heap, entry);

	if (!target)
		return;
	if (!(entry->where & LOG_WHERE_HEADER_LOCK))
		__atomic_store_n((uint64_t *)target, entry->old, __ATOMIC_RELAXED);
	else if (__atomic_load_n((uint32_t *)target, __ATOMIC_RELAXED) & RIGHTS_LOCKED)
		__atomic_store_n((uint32_t *)target, (uint32_t)entry->old | RIGHTS_LOCKED, __ATOMIC_RELAXED);
}

/*
 * The log is emptied: by that the change has taken place, or has been taken back. What its n entries claimed is others'
 * again; by whoever takes the lock next where this one dies before.
 */
void log_empty(struct heap *heap, uint32_t n)
{
	struct global_lock *lock = &heap->control->lock;

	__atomic_store_n(&lock->n_unlocking, n, __ATOMIC_RELAXED);
	/* release: after every store of the change, or the words that were restored */
	__atomic_store_n(&lock->n_entries, 0, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < n; i++) {
		const struct log_entry *entry = &lock->entries[i];
		uint32_t *counted = entry->where & LOG_WHERE_HEADER_LOCK ? log_target(heap, entry) : NULL;
		uint32_t now = counted ? __atomic_load_n(counted, __ATOMIC_RELAXED) : 0;

		if (now & RIGHTS_LOCKED) /* release: who changes it next comes after all that */
			__atomic_store_n(counted, now & ~RIGHTS_LOCKED, __ATOMIC_RELEASE);
	}
	heap->n_header_locks = 0;
	/* release: after they were let go of */
	__atomic_store_n(&lock->n_unlocking, 0, __ATOMIC_RELEASE);
}

void log_roll_back(struct heap *heap)
{
	struct global_lock *lock = &heap->control->lock;
	uint32_t n = __atomic_load_n(&lock->n_entries, __ATOMIC_ACQUIRE); /* with the owner's release */

	if (n > LOG_CAPACITY)
		n = LOG_CAPACITY;
	for (uint32_t i = n; i-- > 0;)
		log_take_back(heap, &lock->entries[i]);
	lock->overflowed = 0;
	if (!n) /* of a change that was over, and whose owner died letting go; relaxed: the lock is held */
		n = __atomic_load_n(&lock->n_unlocking, __ATOMIC_RELAXED);
	/* Dying above means that it is all done again, to the same effect: what is claimed nobody else has changed. */
	log_empty(heap, n <= LOG_CAPACITY ? n : LOG_CAPACITY);
}
