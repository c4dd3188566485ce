/* SPDX-License-Identifier: MIT */
#pragma once

/* An owner, S0, and who gives blocks back to it, S1: see fixture_remote_free.c. */

#include "tests/unit/heap/fixture.h"

enum { N_PARTLY = 1100, BLOCKS_512 = 7 };
extern uint64_t partly[N_PARTLY][BLOCKS_512];

/* How many pools the owner has that have returned blocks. */
uint32_t n_remote_pools(void);

/* S1 holds it, too, by a name, which the owner gives it: who comes on the strength of a number asks for the owner's
 * attention. */
void share(uint64_t ref);
/* Made by the owner, who has let go of it; held by S1 alone. */
uint64_t passed_to_s1(size_t size);
/* The same, and dropped. */
uint64_t remotely_freed(size_t size);

/*
 * A block in each of so many pools, of which another block is in use, is returned, behind a pool of which all was; what
 * that one's object was. The heap is not checked after each step, of which there are too many.
 */
uint64_t remote_free_partly(uint32_t n);
/* The owner drops the others. */
void drop_partly(uint32_t n);
