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
 * the futex stays where it is. Once a slice it looks whether the heap has ended.
 *
 * A signal handler that runs at any moment of a wait ends it. No sleep at a futex tells that for certain: where the
 * handler runs just before the sleep, or just as the sleep's time is over, the sleep ends in another way. So the
 * signals that have handlers are kept pending during the call, and are let in by ppoll(2) alone, which does tell. It
 * waits for nothing, and is called after each sleep. The sleeps are short then, as they are what delays the handlers.
 * Where no signal has a handler, nothing is kept pending, and the sleeps are long. Faults are never kept pending.
 */

#include "heap/object/queue_wait.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NSEC_PER_SEC INT64_C(1000000000)
#define SLICE_NSEC   NSEC_PER_SEC
#define SIGNAL_NSEC  INT64_C(20000000) /* a slice where signals are kept pending */

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

int64_t queue_now_nsec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/* Signals */

static bool is_fault(int signal_number)
{
	switch (signal_number) {
	case SIGABRT:
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGSEGV:
	case SIGSYS:
	case SIGTRAP:
		return true;
	default:
		return false;
	}
}

/* Fill *ret with the signals that have a handler, or could have one. Is there any? */
static bool signals_with_handlers(sigset_t *ret, bool could)
{
	struct sigaction action;
	bool any = false;

	sigemptyset(ret);
	for (int i = 1; i <= SIGRTMAX; i++) {
		if (is_fault(i))
			continue;
		if (!could && (sigaction(i, NULL, &action) < 0 || action.sa_handler == SIG_DFL ||
				      action.sa_handler == SIG_IGN))
			continue;
		sigaddset(ret, i);
		any = true;
	}
	return any;
}

/* Let in what is pending. Did a handler run? */
static bool signals_let_in(const struct queue_wait *wait)
{
	struct timespec none = {0};

	/* not by ppoll(), where a thread could be cancelled */
	return syscall(SYS_ppoll, NULL, 0, &none, &wait->before, sizeof(uint64_t)) < 0 && errno == EINTR;
}

/* After a slice without an event: find out anew which signals have handlers. */
static void signals_look_again(struct queue_wait *wait)
{
	sigset_t set;

	wait->has_handlers = signals_with_handlers(&set, false);
	sigorset(&set, &set, &wait->before);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
}

void queue_wait_begin(struct queue_wait *wait)
{
	sigset_t set;

	/* Most waits are short. Which signals have handlers is asked after the first slice, as it takes microseconds.
	 */
	wait->has_handlers = signals_with_handlers(&set, true);
	pthread_sigmask(SIG_BLOCK, &set, &wait->before);
}

void queue_wait_end(const struct queue_wait *wait)
{
	pthread_sigmask(SIG_SETMASK, &wait->before, NULL);
}

/* Sleeping */

/* Sleep for at most that long. -EINTR; -ETIMEDOUT: it was that long; 0: something has changed. */
static int sleep_for(const struct queue_wait *wait, int64_t nsec)
{
	struct timespec ts = {.tv_sec = nsec / NSEC_PER_SEC, .tv_nsec = nsec % NSEC_PER_SEC};

	if (syscall(SYS_futex, wait->seq, FUTEX_WAIT, wait->value, &ts, NULL, 0) == 0)
		return 0;
	return errno == EINTR || errno == ETIMEDOUT ? -errno : 0;
}

int queue_wait_for(struct heap *heap, struct queue_wait *wait, int64_t deadline)
{
	int64_t left = wait->has_handlers ? SIGNAL_NSEC : SLICE_NSEC;
	int r = -ETIMEDOUT;

	if (deadline >= 0) {
		int64_t all = deadline - queue_now_nsec();

		left = all < left ? all : left;
	}
	if (left > 0)
		r = sleep_for(wait, left);
	if (r == -EINTR || signals_let_in(wait))
		return -EINTR;
	if (left <= 0)
		return -ETIMEDOUT;
	if (r == -ETIMEDOUT)
		signals_look_again(wait);
	return __atomic_load_n(&heap->control->ended, __ATOMIC_RELAXED) ? -EPIPE : 0;
}
