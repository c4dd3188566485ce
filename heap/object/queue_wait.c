// SPDX-License-Identifier: MIT
/*
 * Waiting for a queue: two futexes in it, one for sessions that wait to pop and one for those that wait to push
 *
 * A futex has a bit, QUEUE_WAITING, and a number. A session that finds the queue empty (full) sets the bit, looks at
 * the cells once more, and sleeps as long as the futex stays what it was. A session that fills (empties) a cell looks
 * at the futex afterwards; if the bit is set, it moves the number and wakes one sleeper. So each push wakes one,
 * whatever number sleeps, and a session that was about to sleep looks again. The bit stays, as others may sleep, until
 * a waker finds nobody. It is cleared only where the futex has not moved since, and then all are woken: somebody may
 * have fallen asleep in between.
 *
 * A sleeper that was woken looks at the cells before all else. Where it then leaves without an object, as it has no
 * memory for one, it wakes the next one. Nobody has to live for another one to be woken:
 *
 *   a waker that is killed, or stopped, before it has woken one     reclaiming it wakes all (queue_recover.c)
 *   a sleeper that is killed after it was woken                     reclaiming it wakes another (queue_pass_on())
 *   either is stopped, or there is no daemon                        the sleepers look for themselves after a slice
 *   a sleeper that is killed in its sleep                           nothing is lost: the kernel wakes another
 *
 * A sleeper holds the queue meanwhile, so that the futex stays where it is, and its entry names the queue. Once a slice
 * it looks whether the heap has ended. A slice is a second, or shorter where it keeps handlers of signals waiting
 * (wait_signals.c). Model: tests/model/wait.pml.
 */

#include "heap/object/queue_wait.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NSEC_PER_SEC  INT64_C(1000000000)
#define NSEC_PER_MSEC INT64_C(1000000)
#define SLICE_NSEC    NSEC_PER_SEC
#define NUMBER_ONE    UINT32_C(2) /* of a futex, beside the bit */

/* Waking */

static long wake_n(uint32_t *futex, int n)
{
	return syscall(SYS_futex, futex, FUTEX_WAKE, n, NULL, NULL, 0);
}

void queue_wake(uint32_t *futex)
{
	uint32_t value = __atomic_add_fetch(futex, NUMBER_ONE, __ATOMIC_SEQ_CST);

	if (wake_n(futex, 1) > 0 || !(value & QUEUE_WAITING))
		return;
	/* Nobody sleeps. Who falls asleep before the bit is cleared is woken after it, and sets it again. */
	__atomic_fetch_and(futex, ~QUEUE_WAITING, __ATOMIC_SEQ_CST);
	wake_n(futex, INT_MAX);
}

void queue_wake_next(uint32_t *futex)
{
	if (!(__atomic_load_n(futex, __ATOMIC_SEQ_CST) & QUEUE_WAITING))
		return;
	__atomic_fetch_add(futex, NUMBER_ONE, __ATOMIC_SEQ_CST);
	wake_n(futex, 1);
}

void queue_wake_all(uint32_t *futex)
{
	__atomic_fetch_add(futex, NUMBER_ONE, __ATOMIC_SEQ_CST);
	wake_n(futex, INT_MAX);
}

/* Sleeping */

void queue_announce(struct queue *queue, bool is_push_call, struct queue_wait *ret)
{
	ret->futex = is_push_call ? &queue->push_wait : &queue->pop_wait;
	ret->value = __atomic_fetch_or(ret->futex, QUEUE_WAITING, __ATOMIC_SEQ_CST) | QUEUE_WAITING;
	/* that before the look: either the session that changes a cell sees the bit, or this one sees the cell changed
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static int64_t now_nsec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

void queue_wait_begin(struct session *session, uint64_t queue, struct queue_wait *wait, int timeout_ms)
{
	int64_t now = now_nsec();

	wait->deadline = timeout_ms < 0 ? INT64_MAX : now + (int64_t)timeout_ms * NSEC_PER_MSEC;
	wait->has_slept = false;
	signals_hold(&wait->signals, now);
	/* relaxed: it is read after this process has ended */
	__atomic_store_n(&session->entry->waits_at, queue, __ATOMIC_RELAXED);
}

void queue_wait_end(struct session *session, const struct queue_wait *wait)
{
	__atomic_store_n(&session->entry->waits_at, 0, __ATOMIC_RELAXED);
	signals_release(&wait->signals);
}

/* 0: woken, or something has changed. -ETIMEDOUT, -EINTR. */
static int sleep_for(const struct queue_wait *wait, int64_t nsec)
{
	struct timespec ts = {.tv_sec = nsec / NSEC_PER_SEC, .tv_nsec = nsec % NSEC_PER_SEC};

	if (syscall(SYS_futex, wait->futex, FUTEX_WAIT, wait->value, &ts, NULL, 0) == 0)
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
