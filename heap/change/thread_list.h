/* SPDX-License-Identifier: MIT */
#pragma once

/* This thread as the kernel knows it, and the lock in its list of robust futexes. See thread_list.c. */

#include "heap/change/lock_word.h"

/* In memory that each thread has from its start, so found without a call. */
struct this_thread {
	uint64_t process;                /* session->process when the rest was found out; 0: not to be relied on */
	struct robust_list_head *robust; /* NULL: not to be had, or not as expected */
	uint32_t tid;
};
extern __thread struct this_thread this_thread __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Find it out anew, for a session's `process`. False: this thread has no list. */
bool thread_learn(uint64_t process);

/* Is it known, or can it be found out? False: this thread has no list. */
static inline bool thread_know(uint64_t process)
{
	return process && this_thread.process == process ? this_thread.robust != NULL : thread_learn(process);
}

/*
 * Name the lock as the one that this thread is taking or giving back, or none (NULL). The thread must be known. The
 * kernel reads it after this thread has ended, so the compiler alone has to keep the order.
 */
static inline void thread_set_pending(struct global_lock *lock)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&this_thread.robust->list_op_pending,
		lock ? (struct robust_list *)(void *)&lock->node.next : NULL, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* ---- of a thread that is known --------------------------------------------------------------------------------- */

/*
 * Put the lock, which this thread has, into its list. False: another living thread of this process has it in its own
 * list, as can only be where the word was forged, or this list has no end.
 */
bool thread_list_add(struct global_lock *lock);

/* Take it out. Nothing where this thread does not have it. */
void thread_list_remove(struct global_lock *lock);

/* Does this thread name the lock as the one that it is taking, giving back, or changing something under? */
static inline bool thread_is_pending(struct global_lock *lock)
{
	return __atomic_load_n(&this_thread.robust->list_op_pending, __ATOMIC_RELAXED) ==
	       (struct robust_list *)(void *)&lock->node.next;
}

/* Has this thread it in its list? */
bool thread_list_has(struct global_lock *lock);

/* ---- of any thread --------------------------------------------------------------------------------------------- */

/* How often it was put into a list: names one such time. */
static inline uint32_t thread_list_number(const struct global_lock *lock)
{
	return __atomic_load_n(&lock->node.number, __ATOMIC_RELAXED);
}

/* Leave it to the thread that has it in its list since that time. */
void thread_list_abandon(struct global_lock *lock, uint32_t number);

/* Is it left to the thread that has it in its list? */
bool thread_list_is_abandoned(const struct global_lock *lock);

/* The living thread of this process that has it in its list; 0: none. */
uint32_t thread_list_holder(struct global_lock *lock);
