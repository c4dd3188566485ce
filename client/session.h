/* SPDX-License-Identifier: MIT */
#pragma once

/* A session as the application has it, and what every public call begins and ends with. See session.c. */

#include "client/connection.h"
#include "heap/shared/session.h"

#define PYHEAP_NO_INLINE /* here they are what the inline ones leave to others */
#include "include/pyheap.h"

#include <assert.h>
#include <errno.h>

/* What the library exports; everything else is hidden. libpyheap.sym lists the same. */
#define PYHEAP_PUBLIC __attribute__((visibility("default")))

/* What the frequent way through a call leaves out: kept apart, so that it costs that way nothing. */
#define SESSION_RARE __attribute__((noinline))

struct pyheap {
	struct session session; /* on whose behalf heap/ works */
	struct cache *cache;    /* session's, owned */
	struct mapping *mapping;
	struct connection connection;
	uint32_t n_grants; /* that the call under way has asked for */
};

/* The inline calls read heap/'s own by the names that pyheap.h has for it. */
#define SESSION_SAME(theirs, ours)                                                                                     \
	static_assert(offsetof(struct pyheap_inline, theirs) == offsetof(struct session, ours), "see pyheap.h")
#define SESSION_SAME_RECENT(theirs, ours)                                                                              \
	static_assert(offsetof(struct pyheap_recent, theirs) == offsetof(struct cached_object, ours), "see pyheap.h")
SESSION_SAME(recent, cache);
SESSION_SAME(ended, ended);
SESSION_SAME_RECENT(ref, ref);
SESSION_SAME_RECENT(word, header);
SESSION_SAME_RECENT(word1, word);
SESSION_SAME_RECENT(data, data);
static_assert(offsetof(struct pyheap, session) == 0 && offsetof(struct cache, objects) == 0, "see pyheap.h");
static_assert(sizeof(struct pyheap_recent) == sizeof(struct cached_object), "see pyheap.h");
static_assert(offsetof(struct object_header, word) == 0, "where the holds are counted");
static_assert(CACHE_FACTOR == PYHEAP_INLINE_FACTOR, "where pyheap.h looks for a ref");
static_assert(CACHE_OBJECTS_SHIFT == 32 - PYHEAP_INLINE_SHIFT && CACHE_OBJECTS == 256, "the same");
static_assert(OWN_HOLDS_MAX == PYHEAP_INLINE_HOLDS, "how often pyheap.h counts");
static_assert(BLOCK_SIZE_MAX == PYHEAP_INLINE_SIZE && BLOCK_ALIGNMENT == PYHEAP_INLINE_CLASS, "see pyheap_new()");
static_assert(HEAP_ENDED == UINT64_MAX, "what pyheap.h looks for");

/* Did the daemon end and take the heap down? */
static inline bool session_ended(const pyheap *heap)
{
	/* relaxed: nothing else is read on the strength of it */
	return __atomic_load_n(heap->session.ended, __ATOMIC_RELAXED) != 0;
}

/* Is it of this process, not one that a forked child inherited? */
static inline bool session_is_mine(const pyheap *heap)
{
	return heap->cache->is_mine != 0;
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
