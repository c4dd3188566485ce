/* SPDX-License-Identifier: MIT */
#pragma once

/* Blocks: taken from pools that nobody owns, freed in any. See block.c. */

#include "heap/memory/pool.h"

/* Within a change: a block of a pool that nobody owns. HEAP_WANTS_ARENAS. */
int block_take(struct session *session, enum space_kind space, size_t size, uint32_t size_class, uint32_t type,
	uint32_t state, uint64_t rights, uint64_t *ret);

/* Within a change: free the block at a position of that pool. */
int block_give(struct session *session, struct pool_entry *pool, uint64_t position);

/*
 * A block was turned to STATE_REMOTE_FREE without the lock: see to it that its pool's owner will find it, if it is
 * still so. *ret is the pool, if it is on its owner's list now; else NULL, and nothing is left to be told.
 */
int block_notify_remote_free(struct session *session, uint64_t ref, struct pool_entry **ret);
