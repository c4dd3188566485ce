/* SPDX-License-Identifier: MIT */
#pragma once

/* Damages to a heap with a little of everything in it: see check_damages.c. */

#include "tests/unit/heap/fixture.h"

struct check_damage {
	void (*damage)(void);
	const char *fault; /* what the report must speak of */
};

extern const struct check_damage check_damages[];
extern const int n_check_damages;

/* Session 0 made them, but for: */
extern uint64_t block, other, list, queue, named, run, large;
extern uint64_t borrowed;       /* session 1's, held by session 0 */
extern uint64_t remotely_freed; /* session 0's, freed by session 1 */
extern uint64_t orphan;         /* of a pool whose owner is gone */

void check_populate(void);
