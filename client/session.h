/* SPDX-License-Identifier: MIT */
#pragma once

/* A session as the application has it. See session.c. */

#include "client/connection.h"
#include "client/registry.h"
#include "heap/shared/session.h"

#define PYHEAP_NO_INLINE /* the library defines the calls that are inline in programs */
#include "include/pyheap.h"

#include <errno.h>

/* What the library exports. Everything else is hidden; libpyheap.sym lists the same names. */
#define PYHEAP_PUBLIC __attribute__((visibility("default")))

/* A path that is seldom taken: out of line, so that it costs the frequent path no instruction. */
#define SESSION_RARE __attribute__((noinline))

struct pyheap {
	struct session session; /* for heap/; must be first: inline calls read its beginning, see inline.h */
	struct cache *cache;    /* the session's cache of objects, owned */
	struct mapping *mapping;
	struct connection connection;
	uint32_t n_grants; /* grants that the current call has asked for, see call.c */
};

/* Has the daemon ended and removed the heap? */
static inline bool session_ended(const pyheap *heap)
{
	/* relaxed: no other load depends on it */
	return __atomic_load_n(heap->session.ended, __ATOMIC_RELAXED) != 0;
}

/* Was it opened by this process, and not inherited by fork()? The kernel empties the cache in a forked child. */
static inline bool session_is_mine(const pyheap *heap)
{
	return heap->cache->is_mine != 0;
}

/*
 * Every public call begins with it, except for the short paths of object.c and hold.c. May the call go on? -EINVAL:
 * there is no session; -ECHILD: the session is another process's; -EPIPE: the heap was removed.
 */
static inline int session_enter(const pyheap *heap)
{
	if (!heap)
		return -EINVAL;
	if (!session_is_mine(heap))
		return -ECHILD;
	return session_ended(heap) ? -EPIPE : 0;
}
