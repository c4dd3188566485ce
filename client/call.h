/* SPDX-License-Identifier: MIT */
#pragma once

/* What every public call does before and after the function of heap/ that does its work. See call.c. */

#include "client/session.h"

/* Get arenas for a change that has none left. True: try the change again. False: *r is the error of the call. */
SESSION_RARE bool call_grow(pyheap *heap, int *r);

/* *r is what a change returned. True: the daemon granted arenas, try it again. False: *r is what the call returns. */
static inline bool call_again(pyheap *heap, int *r)
{
	if (__builtin_expect(*r == HEAP_WANTS_ARENAS, 0))
		return call_grow(heap, r);
	heap->n_grants = 0;
	return false;
}

/*
 * The result of a public call that changes the heap. `arguments` says whether the other arguments are acceptable: where
 * not, the call returns -EINVAL. `change` calls a function of heap/ that is one change; it is evaluated again after
 * each grant of arenas.
 */
#define CALL_CHANGE(heap, arguments, change)                                                                           \
	({                                                                                                             \
		int call_r_ = session_enter(heap);                                                                     \
		if (call_r_ == 0) {                                                                                    \
			if (arguments)                                                                                 \
				do {                                                                                   \
					call_r_ = (change);                                                            \
				} while (call_again((heap), &call_r_));                                                \
			else                                                                                           \
				call_r_ = -EINVAL;                                                                     \
		}                                                                                                      \
		call_r_;                                                                                               \
	})

/* The result of a public call that needs no arenas. `read` calls a function of heap/, once. */
#define CALL_ONCE(heap, arguments, read)                                                                               \
	({                                                                                                             \
		__typeof__(read) call_r_ = session_enter(heap);                                                        \
		if (call_r_ == 0)                                                                                      \
			call_r_ = (arguments) ? (read) : -EINVAL;                                                      \
		call_r_;                                                                                               \
	})
