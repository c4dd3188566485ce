// SPDX-License-Identifier: MIT
/*
 * The undo log: changes under the global lock take place wholly or not at all
 *
 * The owner of the lock writes down whatever it changes before it changes it: each store to a shared word goes through
 * heap_set(), which appends the word's offset and old content to the log in the control segment. A change has taken
 * place when the log is emptied, by one store (the commit), and not before. The next owner of the lock after a death
 * finds the log as it was, restores the words from the last to the first, and goes on: the change has not taken place.
 * A change that fails half-way is rolled back in this way, too, so failing and dying are one path.
 *
 * Order of the stores. An entry is complete before n_entries counts it (release); n_entries counts it before the word
 * is overwritten (a release fence before the relaxed store). The stores of a killed process reach the next owner in
 * that order, as those of a living one would: the fences bind the compiler, the fences and the lock the processor. The
 * commit is a release store: it comes after all stores of the change, also those that need no log.
 *
 * No log is needed for memory that nobody can reach yet (the payload of a block that is being allocated, the headers of
 * a pool that is being given a class), and for words of which a needless change harms nobody (futexes of queues).
 *
 * Header locks. Others change the counts in an object's header without the lock (count.c), so the owner of the lock
 * first sets a bit beside them, RIGHTS_LOCKED, which keeps others away (header_lock.c). The entry of a header lock is
 * written before the bit is set; where the bit is not set, the header was not locked, and nothing is restored. Headers
 * are unlocked only when the log has been emptied, after a commit as after a roll-back: earlier, a second roll-back
 * would undo what others did meanwhile. n_unlocking says of how many entries. A process that dies before it has
 * unlocked them leaves that to the next owner of the lock.
 *
 * Readers without the lock see the stores of a change before its commit. Where that matters they ask the log
 * (log_committed()): a word that it has is not changed yet, and is what the log says it was. A reader that finds the
 * word not in the log may have read it before the change was taken back; so n_roll_backs moves after the words are
 * restored and before the log is emptied.
 *
 * A rule follows for callers: no change allocates a pool that it has itself given back, since a roll-back must find the
 * headers of the pool as they were.
 *
 * Died after ...                     the next owner of the lock ...
 *   an entry, before the word's store  restores what is there already
 *   stores, before the commit          restores the old words
 *   the commit                         unlocks the headers of n_unlocking entries
 *   some restored words                restores all of them again
 */

#include "heap/shared/log.h"

bool log_mark_full(struct heap *heap)
{
	heap->is_log_full = true;
	return false;
}

/* Does the log ever have that word of the control segment? Not the header, the lock with what is private
 * behind it, or what the daemon alone writes.
 */
static bool is_logged(const struct heap *heap, uint64_t off)
{
	uint64_t sessions = (uint64_t)((const uint8_t *)heap->sessions - (const uint8_t *)heap->control);

	if (off < offsetof(struct control, counters))
		return false;
	if (off >= offsetof(struct control, lock) && off < sizeof(struct control))
		return false;
	if (off < sessions || off - sessions >= heap->n_sessions * sizeof(struct session_entry))
		return true;
	return (off - sessions) % sizeof(struct session_entry) >= offsetof(struct session_entry, holds_position1);
}

/* The word that an entry is of, by what it has in `where`; NULL: a stray write has damaged the entry. */
static void *log_target(struct heap *heap, uint64_t where)
{
	bool in_heap = where & LOG_WHERE_HEAP;
	uint64_t off = where & ~(LOG_WHERE_HEAP | LOG_WHERE_HEADER_LOCK);

	if (off & 7 || off > (in_heap ? heap->heap_size : heap->control_size) - 8)
		return NULL;
	if (!in_heap && !is_logged(heap, off))
		return NULL;
	if (in_heap && !arena_is_there(heap, (uint32_t)(off >> heap->arena_shift)))
		return NULL;
	return (in_heap ? heap->base : (uint8_t *)heap->control) + off;
}

static void log_take_back(struct heap *heap, const struct log_entry *entry)
{
	uint64_t where = read_once(entry->where), old = read_once(entry->old);
	void *target = log_target(heap, where);

	if (!target)
		return;
	if (!(where & LOG_WHERE_HEADER_LOCK))
		__atomic_store_n((uint64_t *)target, old, __ATOMIC_RELAXED);
	else if (__atomic_load_n((uint32_t *)target, __ATOMIC_RELAXED) & RIGHTS_LOCKED)
		__atomic_store_n((uint32_t *)target, (uint32_t)old | RIGHTS_LOCKED, __ATOMIC_RELAXED);
}

void log_empty(struct heap *heap, uint32_t n)
{
	struct global_lock *lock = &heap->control->lock;

	if (n > LOG_CAPACITY) /* a stray write */
		n = LOG_CAPACITY;
	__atomic_store_n(&lock->n_unlocking, n, __ATOMIC_RELAXED);
	/* commit: release, after every store of the change, or after the words that were restored */
	__atomic_store_n(&lock->n_entries, 0, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t where = read_once(lock->entries[i].where);
		uint32_t *counted = where & LOG_WHERE_HEADER_LOCK ? log_target(heap, where) : NULL;
		uint32_t now = counted ? __atomic_load_n(counted, __ATOMIC_RELAXED) : 0;

		if (now & RIGHTS_LOCKED) /* release: the next session that changes it comes after all that */
			__atomic_store_n(counted, now & ~RIGHTS_LOCKED, __ATOMIC_RELEASE);
	}
	heap->n_header_locks = 0;
	/* release: after the headers were unlocked */
	__atomic_store_n(&lock->n_unlocking, 0, __ATOMIC_RELEASE);
}

void log_roll_back(struct heap *heap)
{
	struct global_lock *lock = &heap->control->lock;
	uint32_t n = __atomic_load_n(&lock->n_entries, __ATOMIC_ACQUIRE); /* with the release of the owner before */

	if (n > LOG_CAPACITY)
		n = LOG_CAPACITY;
	for (uint32_t i = n; i-- > 0;)
		log_take_back(heap, &lock->entries[i]);
	heap->is_log_full = false;
	if (n) /* relaxed: log_empty() releases it. Readers who saw what is taken back see it moved */
		shared_add(heap->control->n_roll_backs, 1);
	if (!n) /* the change was over, and its owner died unlocking headers; relaxed: the lock is held */
		n = __atomic_load_n(&lock->n_unlocking, __ATOMIC_RELAXED);
	/* After a death above, all is done again to the same effect: nobody else has changed a locked header. */
	log_empty(heap, n <= LOG_CAPACITY ? n : LOG_CAPACITY);
}

#define COMMITTED_TRIES 100U

/* The log's entry for a word. 1: *ret is the word before the change; 0: it has none; -1: the log has moved meanwhile.
 */
static int find_old(const struct heap *heap, uint64_t where, uint64_t *ret)
{
	const struct global_lock *lock = &heap->control->lock;
	/* acquire: the entries, as they were counted, or later ones */
	uint32_t n = __atomic_load_n(&lock->n_entries, __ATOMIC_ACQUIRE);

	for (uint32_t i = 0; i < n && i < LOG_CAPACITY; i++) {
		const struct log_entry *entry = &lock->entries[i];

		if (__atomic_load_n(&entry->where, __ATOMIC_RELAXED) != where)
			continue;
		*ret = __atomic_load_n(&entry->old, __ATOMIC_ACQUIRE);
		/* acquire: if it is counted after it was read, and still the same, it is of a change under way */
		return __atomic_load_n(&lock->n_entries, __ATOMIC_ACQUIRE) > i &&
				       __atomic_load_n(&entry->where, __ATOMIC_RELAXED) == where &&
				       __atomic_load_n(&entry->old, __ATOMIC_RELAXED) == *ret
			       ? 1
			       : -1;
	}
	return 0;
}

uint64_t log_committed(const struct heap *heap, const uint64_t *p)
{
	uint64_t where = log_where(heap, (uintptr_t)p), value = 0, old = 0;

	for (uint32_t i = 0; i < COMMITTED_TRIES; i++) {
		uint64_t roll_backs = log_n_roll_backs(heap);
		int r;

		/* acquire: a store of a change comes after its entry of the log */
		value = __atomic_load_n(p, __ATOMIC_ACQUIRE);
		r = find_old(heap, where, &old);
		if (r > 0)
			return old;
		/* Not in the log: the change of the value was over, or is over by now, and not taken back. */
		if (!r && log_n_roll_backs(heap) == roll_backs)
			return value;
	}
	return value;
}
