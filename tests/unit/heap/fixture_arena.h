/* SPDX-License-Identifier: MIT */
#pragma once

/* Arenas filled to order, and a check of their order: see fixture_arena.c. */

#include "tests/unit/heap/fixture.h"

#define POOLS (ARENA_SIZE_DEFAULT / POOL_SIZE)

/* The sessions in turn. */
struct session *session_of(uint32_t i);

/* Drop an object, and have its memory go to its arena at once: a session keeps one free run of each length. */
void free_now(struct session *session, uint64_t ref);

/* usable_arenas ascends, is linked both ways and has each arena with a free pool; rank2lasta is exact for each rank. */
void check_order(enum space_kind kind);

/* Fill n arenas with objects of one pool each: refs[arena * POOLS + pool]. */
void fill_arenas(uint64_t *refs, uint32_t n);

/* Reserve and map a run of arenas for a session, which has not accepted it yet. */
uint32_t map_run(uint32_t session, uint32_t n);
