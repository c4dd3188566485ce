/* SPDX-License-Identifier: MIT */
#pragma once

/* Pools made anew: see rebuild_pool.c. */

#include "heap/memory/pool.h"

/* How many pools what starts at p takes, of n_left in its arena; 0: it is free. */
uint32_t rebuild_pool(struct heap *heap, uint32_t p, uint32_t n_left, struct space *space, bool is_record);

/* The run of whole arenas that starts at p. */
void rebuild_pool_arenas(struct heap *heap, uint32_t p, uint32_t n_pools, bool is_record);

/* The session, with the lock held: of a pool of blocks of its own. */
void rebuild_pool_own(struct heap *heap, uint32_t p);
