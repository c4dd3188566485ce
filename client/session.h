/* SPDX-License-Identifier: MIT */
#pragma once

/* A session as the application has it, and what every public call begins and ends with. See session.c. */

#include "client/connection.h"
#include "heap/recent.h"
#include "include/pyheap.h"

#include <errno.h>

/* What the library exports; everything else is hidden. libpyheap.sym lists the same. */
#define PYHEAP_PUBLIC __attribute__((visibility("default")))

/* What the frequent way through a call leaves out: kept apart, so that it costs that way nothing. */
#define SESSION_RARE __attribute__((noinline))

struct pyheap {
	struct session session; /* on whose behalf heap/ works */
	struct recent *recent;  /* session's, owned */
	struct mapping *mapping;
	struct connection connection;
	uint32_t n_grants; /* that the call under way has asked for */
};

/* Did the daemon end and take the heap down? */
static inline bool session_ended(const pyheap *heap)
{
	/* relaxed: nothing else is read on the strength of it */
	return __atomic_load_n(&heap->session.control->ended, __ATOMIC_RELAXED) != 0;
}

/* Is it of this process, not one that a forked child inherited? */
static inline bool session_is_mine(const pyheap *heap)
{
	return heap->recent->is_mine != 0;
}

/* Each public call begins with it, or does nothing but what recent.h allows before it. -EINVAL no session, -ECHILD it
 * is another process's, -EPIPE the heap was taken down.
 */
static inline int session_enter(const pyheap *heap)
{
	if (!heap)
		return -EINVAL;
	if (!session_is_mine(heap))
		return -ECHILD;
	return session_ended(heap) ? -EPIPE : 0;
}

/*
 * What a function of heap/ answered is in *r: should it be called again? True when it wanted arenas and the daemon
 * granted some; otherwise *r is what the public call returns.
 */
static inline bool session_again(pyheap *heap, int *r);

/* What it does where arenas are wanted. */
SESSION_RARE bool session_grow(pyheap *heap, int *r);

static inline bool session_again(pyheap *heap, int *r)
{
	if (__builtin_expect(*r == HEAP_WANTS_ARENAS, 0))
		return session_grow(heap, r);
	heap->n_grants = 0;
	return false;
}
