/* SPDX-License-Identifier: MIT */
#pragma once

/* What a session may die with, and what must be left of it: see fixture_recover.c. */

#include "tests/unit/heap/fixture.h"

#define DEAD (&fx.sessions[1])

/* Held by a living session, which made it, and by the dead one. */
extern uint64_t kept;

/* How many there are: each variant of each row, one after the other. */
int n_rows(void);

/* DEAD has that under way, and is dead. */
void prepare(int row);

/* What others held of its objects they have, and can go on with the pools. They drop it. */
void expect_lent(void);

/* DEAD is cleared up: its place is free, and nothing is left but what others hold; that goes, and nothing is left. */
void expect_cleared(void);

/* Some rows of one variant, for tests of their own. */
void row_many_holds(int variant);
void row_tree(int variant);
void row_pools(int variant);
void row_pools_lent(int variant);
void row_pools_remote_frees(int variant);
