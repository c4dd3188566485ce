/* SPDX-License-Identifier: MIT */
#pragma once

/* What a session may die with, and what must be left of it: see fixture_recover.c. */

#include "tests/unit/heap/fixture.h"

#define DEAD (&fx.sessions[1])

/* Held by a living session, which made it, and by the dead one. */
extern uint64_t kept;

/* How many there are: each variant of each row, one after the other. */
int n_rows(void);

/* Prepare the row's state in DEAD, and mark DEAD dead. */
void prepare(int row);

/* What others held of its objects is as it was, and the pools can be used. The others drop it. */
void expect_lent(void);

/* DEAD is reclaimed: its entry is free, and only what others hold is left. They drop it, and the heap is empty. */
void expect_cleared(void);

/* Some rows of one variant, for tests of their own. */
void row_many_holds(int variant);
void row_tree(int variant);
void row_pools(int variant);
void row_pools_lent(int variant);
void row_pools_remote_frees(int variant);
