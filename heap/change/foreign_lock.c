// SPDX-License-Identifier: MIT
/*
 * The lock for owners that the kernel cannot find
 *
 * The kernel finds out that the lock has a dead owner by comparing the thread id in its word with the id of each dying
 * thread, which is a number of the thread's own pid namespace: the first process of every container is 1. So only
 * processes of the heap's *home* namespace, that of the daemon which made it, lock by thread id. Every other process
 * puts a number into the word that no thread has, made of its session, and that the kernel passes over; so does a
 * thread without a robust list (thread_list.c). When such a process has ended, the daemon, which knows it by a pidfd,
 * marks the word as the kernel would have done (foreign_lock_owner_died()). While there is no daemon, all wait for one.
 *
 * Owners of both kinds wait for each other and wake each other: lock_word.c.
 */

#include "heap/change/foreign_lock.h"

void foreign_lock_owner_died(struct heap *heap, uint32_t session_index)
{
	lock_word_owner_died(lock_word(&heap->control->lock), foreign_lock_tid(session_index));
}
