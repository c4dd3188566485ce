/* SPDX-License-Identifier: MIT */
#pragma once

/* Signals while a call waits: any handler that runs meanwhile ends the wait. See wait_signals.c. */

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct wait_signals {
	sigset_t before;    /* the thread's signal mask before the call */
	int64_t begin_nsec; /* of CLOCK_MONOTONIC: when the wait began */
	bool are_held;      /* signals with handlers, as far as is known, are kept pending */
};

/* The wait begins. Any handler that runs until the end is noticed by signals_let_in(), or by -EINTR of a sleep. */
void signals_hold(struct wait_signals *signals, int64_t now_nsec);

/* The end of the wait: the thread's signal mask is what it was. Handlers of what is pending run now. */
void signals_release(const struct wait_signals *signals);

/* Let in what is pending. Did a handler run? */
bool signals_let_in(const struct wait_signals *signals);

/* After a sleep of full length: find out anew which signals have handlers. */
void signals_look_again(struct wait_signals *signals);

/* For how long the next sleep may keep handlers waiting; at most `most`. */
int64_t signals_sleep_nsec(const struct wait_signals *signals, int64_t now_nsec, int64_t most);
