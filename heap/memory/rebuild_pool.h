/* SPDX-License-Identifier: MIT */
#pragma once

/* Pools and runs of a rebuild: made anew from their headers. See rebuild_pool.c. */

#include "heap/memory/pool.h"

/*
 * Make the pool or run that begins at pool p anew, n_left pools before the end of its arena. Returns the number of
 * pools that it takes; 0: the pool is free.
 */
uint32_t rebuild_pool(struct heap *heap, uint32_t p, uint32_t n_left, struct space *space, bool is_record);

/* Make the run of whole arenas that begins at pool p anew. */
void rebuild_pool_arenas(struct heap *heap, uint32_t p, uint32_t n_pools, bool is_record);

/* Make a pool of blocks anew that belongs to the session which calls this, with the lock held. */
void rebuild_pool_own(struct heap *heap, uint32_t p);
