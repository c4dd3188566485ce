/* SPDX-License-Identifier: MIT */
#pragma once

/* A heap with a bit of everything, for the tests of repair: see fixture_repair.c. */

#include "tests/unit/heap/fixture.h"

#define N_KEPT   500U
#define CHAIN    3U /* names in one bucket */
#define N_LISTS  3U /* on the dying list */
#define REPAIRER (&fx.sessions[3])

/* Objects with patterned contents that must not change. */
struct kept {
	struct session *session;
	uint64_t ref;
	uint64_t size;
};

extern struct kept kept[N_KEPT];
extern uint32_t n_kept, n_names;

/*
 * What is damaged. Session 0 made and holds victim, other, list (with child in slot 1), queue (three of kept) and run,
 * and holds `borrowed`, which session 1 made; gone is freed. In its class 24 it has three pools with remotely freed
 * blocks, `remotely_freed` one of them. The pools of class 17 have no owner; session 1 holds `orphan` in them.
 */
extern uint64_t victim, other, list, child, queue, run, gone, borrowed[3], remotely_freed, orphan;
extern uint64_t half_dead[N_LISTS]; /* session 1's dying list, the last one first */
extern uint64_t unmade;             /* session 2 is making it */
extern uint32_t bucket;             /* with a chain of names */

#define CLASS         12U /* of the victim */
#define CLASS_REMOTE  24U
#define CLASS_UNOWNED 17U

/* Without a check of the whole heap after each. */
uint64_t make(struct session *session, uint32_t type, uint64_t size);
void drop(struct session *session, uint64_t ref);

void populate(void);

/* What leads to the i-th name of the chain. */
uint64_t *name_link(uint32_t i);

void verify_kept(void);
void verify_names(uint32_t n_lost);

/* Allocate and free a lot, of any size. */
void work(void);

/* All sessions end, and nothing is left. */
void end_all(void);
