// SPDX-License-Identifier: MIT
/*
 * Waiting for a queue: a futex in it
 *
 * A session that finds the queue full (empty) sets the waiting flag, reads the sequence number, looks at the cells once
 * more, and sleeps as long as the number stays what it was. A session that empties (fills) a cell reads the flag
 * afterwards; if it is set, it clears it, moves the number and wakes all sleepers.
 *
 * If the waker is killed before that, reclaiming it wakes them (queue_recover.c). If it is stopped, the sleepers look
 * for themselves after a slice. A dead sleeper costs one needless wake-up. A sleeper holds the queue meanwhile, so that
 * the futex stays where it is. Once a slice it looks whether the heap has ended. A slice is a second, or shorter where
 * it keeps handlers of signals waiting (wait_signals.c).
 */

#include "heap/object/queue_wait.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NSEC_PER_SEC  INT64_C(1000000000)
#define NSEC_PER_MSEC INT64_C(1000000)
#define SLICE_NSEC    NSEC_PER_SEC

void queue_wake(uint32_t *seq)
{
	__atomic_fetch_add(seq, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, seq, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

void queue_announce(struct queue *queue, bool is_push_call, struct queue_wait *ret)
{
	ret->seq = is_push_call ? &queue->pop_seq : &queue->push_seq;
	__atomic_store_n(is_push_call ? &queue->push_waiting : &queue->pop_waiting, 1, __ATOMIC_SEQ_CST);
	ret->value = __atomic_load_n(ret->seq, __ATOMIC_SEQ_CST);
	/* that store before the look: either who changes a cell sees the flag, or the session sees the cell changed */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static int64_t now_nsec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

void queue_wait_begin(struct queue_wait *wait, int timeout_ms)
{
	int64_t now = now_nsec();

	wait->deadline = timeout_ms < 0 ? INT64_MAX : now + (int64_t)timeout_ms * NSEC_PER_MSEC;
	wait->has_slept = false;
	signals_hold(&wait->signals, now);
}

void queue_wait_end(const struct queue_wait *wait)
{
	signals_release(&wait->signals);
}

/* 0: woken, or something has changed. -ETIMEDOUT, -EINTR. */
static int sleep_for(const struct queue_wait *wait, int64_t nsec)
{
	struct timespec ts = {.tv_sec = nsec / NSEC_PER_SEC, .tv_nsec = nsec % NSEC_PER_SEC};

	if (syscall(SYS_futex, wait->seq, FUTEX_WAIT, wait->value, &ts, NULL, 0) == 0)
		return 0;
	return errno == EINTR || errno == ETIMEDOUT ? -errno : 0;
}

/* The cells are read after each sleep, before it is asked whether a handler ran: a wake-up is never lost. */
int queue_wait_for(struct heap *heap, struct queue_wait *wait)
{
	int64_t now, left;
	int r;

	if (wait->has_slept && signals_let_in(&wait->signals))
		return -EINTR;
	now = now_nsec();
	left = signals_sleep_nsec(&wait->signals, now, SLICE_NSEC);
	if (wait->deadline - now < left)
		left = wait->deadline - now;
	if (left <= 0)
		return wait->has_slept || !signals_let_in(&wait->signals) ? -ETIMEDOUT : -EINTR;
	r = sleep_for(wait, left);
	wait->has_slept = true;
	if (r == -EINTR)
		return r;
	if (r == -ETIMEDOUT)
		signals_look_again(&wait->signals);
	return __atomic_load_n(&heap->control->ended, __ATOMIC_RELAXED) ? -EPIPE : 0;
}
