/* SPDX-License-Identifier: MIT */
#pragma once

/* Lookups of what the session does not hold, in a critical section whose intent says which arenas are read: see count.c
 * and read.c. */

#include "heap/object/object.h"

/* A header, and the identity of its pool when it was found. */
struct lookup {
	struct object_header *header; /* NULL: none was found */
	uint32_t identity;
};

/*
 * A run: its header is in the entry of its first pool. NULL: it is none, or in an arena that this process does not know
 * yet. The lock finds out which.
 */
struct lookup lookup_find_run(const struct heap *heap, uint64_t ref);

static inline struct lookup lookup_find(const struct heap *heap, uint64_t ref)
{
	struct object object;

	if (OBJECT_LIKELY(object_locate_block(heap, ref_position(ref), &object)))
		return (struct lookup){object.header, object.identity};
	return lookup_find_run(heap, ref);
}

/* Is the pool still what it was? relaxed: after the header, whose load is an acquire */
static inline bool lookup_is_still(const struct session *session, uint64_t ref, uint32_t identity)
{
	return __atomic_load_n(&session->pools[ref_position(ref) >> (POOL_SHIFT - 3)].identity, __ATOMIC_RELAXED) ==
	       identity;
}
