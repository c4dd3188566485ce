/* SPDX-License-Identifier: MIT */
#pragma once

/* Sessions kept out of their critical sections, and membarrier(2) that fails: see fixture_critical.c. */

#include "heap/shared/critical.h"
#include "tests/unit/heap/fixture.h"

/* From now on membarrier(2) fails in this process. */
extern bool no_membarrier;

/* What a session is asked to do: enum request. */
uint32_t requests_of(const struct session *session);

/* The session can enter its critical section; it leaves it at once. */
bool comes_in(struct session *session);

void lock(struct session *session);
void unlock(struct session *session);

/* The first n sessions execute a barrier of their own in each call; the others do not. */
void fence(uint32_t n_sessions);
