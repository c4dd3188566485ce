/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Cancellation of threads, held off inside the library
 *
 * A thread that is cancelled in the middle of a call would leave behind what only the call's end gives back: the
 * registry's mutex, for one. So the calls that reach a cancellation point hold it off: it takes effect after them.
 */

#include <pthread.h>

static inline int cancel_hold_off(void)
{
	int before;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	return before;
}

static inline void cancel_restore(const int *before)
{
	pthread_setcancelstate(*before, NULL);
}

/* Among the declarations of a function: until the function's end no thread is cancelled in it. */
#define CANCEL_HELD_OFF __attribute__((cleanup(cancel_restore), unused)) int cancel_before_ = cancel_hold_off()
