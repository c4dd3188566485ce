/* SPDX-License-Identifier: MIT */
#pragma once

/* Pools and their blocks, and runs of pools and arenas: memory for one object of any size. See pool.c. */

#include "heap/arena.h"

/*
 * Within a change: allocate room for `size` bytes aligned to `alignment` in `space`; its header gets type and `state`
 * and the count `count`. *ret is the ref. HEAP_WANTS_ARENAS, -ENOMEM (larger than the heap), -EUCLEAN.
 */
int memory_take(struct session *session, enum space_kind space, size_t size, size_t alignment, uint32_t type,
	uint32_t state, uint64_t count, uint64_t *ret);

/* Within a change: free it; its header becomes STATE_FREE. Position, not ref. */
int memory_give(struct session *session, uint64_t position);
