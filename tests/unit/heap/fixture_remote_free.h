/* SPDX-License-Identifier: MIT */
#pragma once

/* Session 1 frees blocks in pools that session 0 owns: see fixture_remote_free.c. */

#include "tests/unit/heap/fixture.h"

enum { N_PARTLY = 1100, BLOCKS_512 = 7 };
extern uint64_t partly[N_PARTLY][BLOCKS_512];

/* How many pools of S0 have remotely freed blocks. */
uint32_t n_remote_pools(void);

/*
 * S1 holds the object, too. It gets it by a name that the owner sets: coming by the number alone would make a request
 * to the owner.
 */
void share(uint64_t ref);
/* An object that S0 made and S1 alone holds. */
uint64_t passed_to_s1(size_t size);
/* The same, and S1 has dropped it: a remotely freed block. */
uint64_t remotely_freed(size_t size);

/*
 * In each of n pools one block is remotely freed and others are in use; on the list they are behind a pool that is all
 * remotely freed. Returns the ref of that pool's object. The heap is checked at the end only, since there are so many
 * steps.
 */
uint64_t remote_free_partly(uint32_t n);
/* The owner drops the others. */
void drop_partly(uint32_t n);
