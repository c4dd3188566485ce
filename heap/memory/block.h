/* SPDX-License-Identifier: MIT */
#pragma once

/* Blocks: taken from pools that nobody owns, freed in any pool. Within a change. See block.c. */

#include "heap/memory/pool.h"

/* Take a block of a pool that nobody owns. Arguments and errors as of memory_take(). */
int block_take(struct session *session, enum space_kind space, size_t size, uint32_t size_class, uint32_t type,
	uint32_t state, uint64_t rights, uint64_t *ret);

/* Free the block at a position, which is in that pool: by a remote free, if a session owns the pool. -EUCLEAN. */
int block_give(struct session *session, struct pool_entry *pool, uint64_t position);

/*
 * A block was turned to STATE_REMOTE_FREE without the lock: see to it that the owner of its pool finds the block,
 * unless somebody has done so. *ret is the pool, if it is on its owner's remote_pools now; NULL: nothing is left to be
 * done.
 */
int block_notify_remote_free(struct session *session, uint64_t ref, struct pool_entry **ret);
