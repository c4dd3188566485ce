// SPDX-License-Identifier: MIT
/*
 * Who has the lock, for reports
 *
 * The owner says who it is after it has taken the lock, so an owner that was stopped in between has not said it yet.
 * Then the thread id in the word tells, which is looked up in /proc among the threads of the sessions' processes.
 */

#include "heap/change/lock_report.h"
#include "heap/change/foreign_lock.h"

#include <stdio.h>
#include <unistd.h>

static bool is_thread_of(uint32_t tid, int32_t pid)
{
	char path[64];

	if (pid <= 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/task/%u", pid, tid);
	return access(path, F_OK) == 0;
}

/* Relaxed: of the entry's present session, or of the one before. */
static int32_t pid_of(const struct heap *heap, uint32_t session_index)
{
	return __atomic_load_n(&heap->sessions[session_index].pid, __ATOMIC_RELAXED);
}

uint32_t lock_owner_tid(const struct heap *heap)
{
	return lock_word_tid(&heap->control->lock);
}

uint64_t lock_word_offset(void)
{
	return offsetof(struct control, lock.word);
}

uint32_t lock_owner1(const struct heap *heap)
{
	const struct global_lock *lock = &heap->control->lock;
	uint32_t tid = lock_owner_tid(heap);
	uint32_t owner1 = __atomic_load_n(&lock->owner1, __ATOMIC_RELAXED); /* relaxed: a report */

	if (!tid || owner1 == SESSION_DAEMON + 1)
		return tid ? owner1 : 0;
	for (uint32_t i = 0; tid >> 29 && i < heap->n_sessions; i++)
		if (tid == foreign_lock_tid(i))
			return i + 1;
	if (owner1 && owner1 <= heap->n_sessions && is_thread_of(tid, pid_of(heap, owner1 - 1)))
		return owner1;
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		if (session_state(&heap->sessions[i]) != SESSION_FREE && is_thread_of(tid, pid_of(heap, i)))
			return i + 1;
	return owner1 <= heap->n_sessions ? owner1 : 0; /* of another pid namespace: what it said itself */
}
