/* SPDX-License-Identifier: MIT */
#pragma once

/* Room for one object of any size. See memory.c. */

#include "heap/memory/pool.h"

/*
 * Within a change: allocate room for `size` bytes aligned to `alignment` in `space`. Its header gets type, state and
 * rights. A run of SPACE_OBJECTS becomes the session's own. *ret is the ref. HEAP_WANTS_ARENAS; -ENOMEM larger than the
 * heap; -EUCLEAN; -EINVAL a block of SPACE_OBJECTS, which own.c makes.
 */
int memory_take(struct session *session, enum space_kind space, size_t size, size_t alignment, uint32_t type,
	uint32_t state, uint64_t rights, uint64_t *ret);

/*
 * Within a change: free the block or run at a position. A block of a pool that a session owns becomes REMOTE_FREE,
 * anything else FREE. -EUCLEAN: nothing begins there.
 */
int memory_give(struct session *session, uint64_t position);

/* The class of a block for an object of that size; CLASS_NONE: it takes a run, of *ret_n_pools pools. */
uint32_t memory_class(
	const struct heap *heap, enum space_kind space, size_t size, size_t alignment, uint64_t *ret_n_pools);
