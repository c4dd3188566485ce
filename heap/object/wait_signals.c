// SPDX-License-Identifier: MIT
/*
 * Signals while a call waits
 *
 * A signal handler that runs at any moment of a wait ends it. A sleep at a futex cannot see to that: a handler that
 * runs just before the sleep, or just as the sleep's time is over, leaves no trace. Only system calls that take a
 * signal mask can, and there is none of these for a futex. So signals are kept pending while the call waits, and are
 * let in by ppoll(2) between two sleeps, which says whether a handler ran.
 *
 * A sleep delays handlers. It takes at most as long as the wait has taken so far, and HELD_MAX_NSEC at most, so a
 * handler runs soon, and a long wait costs few wake-ups. Where no signal has a handler, nothing is kept pending, and
 * sleeps are long. Which signals have one is asked after each sleep of full length, as it takes some microseconds and
 * most waits are over before: until then any may have one. A handler that another thread installs later than that ends
 * the wait from the next such moment on, or if it runs while the call sleeps.
 *
 * Faults are never kept pending: the kernel ends a process that has blocked them. A process that is killed takes its
 * mask with it.
 */

#include "heap/object/wait_signals.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HELD_MIN_NSEC INT64_C(1000000)
#define HELD_MAX_NSEC INT64_C(100000000)
#define MASK_BYTES    sizeof(uint64_t) /* as the kernel has a mask: sigset_t is longer */

static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};

static void set_all_but_faults(sigset_t *ret)
{
	sigfillset(ret);
	for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++)
		sigdelset(ret, faults[i]);
}

static bool has_handler(int number)
{
	struct sigaction action;

	return sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
}

void signals_hold(struct wait_signals *signals, int64_t now_nsec)
{
	sigset_t set;

	set_all_but_faults(&set);
	signals->begin_nsec = now_nsec;
	signals->are_held = true;
	pthread_sigmask(SIG_BLOCK, &set, &signals->before);
}

void signals_release(const struct wait_signals *signals)
{
	pthread_sigmask(SIG_SETMASK, &signals->before, NULL);
}

bool signals_let_in(const struct wait_signals *signals)
{
	struct timespec none = {0};

	if (!signals->are_held)
		return false;
	/* not by the function ppoll(), in which a thread could be cancelled */
	return syscall(SYS_ppoll, NULL, 0, &none, &signals->before, MASK_BYTES) < 0 && errno == EINTR;
}

void signals_look_again(struct wait_signals *signals)
{
	sigset_t set = signals->before, may_be_held;

	set_all_but_faults(&may_be_held);
	signals->are_held = false;
	for (int i = 1; i <= SIGRTMAX; i++)
		if (sigismember(&may_be_held, i) && !sigismember(&set, i) && has_handler(i)) {
			sigaddset(&set, i);
			signals->are_held = true;
		}
	pthread_sigmask(SIG_SETMASK, &set, NULL);
}

int64_t signals_sleep_nsec(const struct wait_signals *signals, int64_t now_nsec, int64_t most)
{
	int64_t nsec = now_nsec - signals->begin_nsec;

	if (!signals->are_held)
		return most;
	if (nsec < HELD_MIN_NSEC)
		nsec = HELD_MIN_NSEC;
	else if (nsec > HELD_MAX_NSEC)
		nsec = HELD_MAX_NSEC;
	return nsec < most ? nsec : most;
}
