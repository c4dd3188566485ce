/* SPDX-License-Identifier: MIT */
#pragma once

/* Lookups of what the session does not hold, in a critical section whose intent says which arenas are read: see count.c
 * and read.c. */

#include "heap/object/object.h"

/* A header, and the identity of its pool when it was found. */
struct lookup {
	struct object_header *header; /* NULL: none was found */
	uint32_t identity;
	uint32_t span_index; /* of a medium object, of that pool */
};

/*
 * A medium block; or a run, whose header is in the entry of its first pool. NULL: it is none, or in an arena that this
 * process does not know yet. The lock finds out which.
 */
struct lookup lookup_find_other(const struct heap *heap, uint64_t ref);

static inline struct lookup lookup_find(const struct heap *heap, uint64_t ref)
{
	struct object object;

	if (OBJECT_LIKELY(object_locate_block(heap, ref_position(ref), &object)))
		return (struct lookup){object.header, object.identity, 0};
	return lookup_find_other(heap, ref);
}

/* Is the pool still what it was? relaxed: after the header, whose load is an acquire */
static inline bool lookup_is_still(const struct session *session, uint64_t ref, const struct lookup *found)
{
	const struct pool_entry *pool = &session->pools[ref_position(ref) >> (POOL_SHIFT - 3)];

	return __atomic_load_n(&pool->identity, __ATOMIC_RELAXED) == found->identity &&
	       (OBJECT_LIKELY(class_is_small(found->identity >> 8 & 0xff)) || (found->identity & 0xff) == POOL_RUN ||
		       __atomic_load_n(&pool->span_index, __ATOMIC_RELAXED) == found->span_index);
}
