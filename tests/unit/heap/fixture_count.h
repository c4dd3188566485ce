/* SPDX-License-Identifier: MIT */
#pragma once

/* Who makes objects, S0, and who holds them, S1 and S2: see fixture_count.c. */

#include "heap/change/intent.h"
#include "tests/unit/heap/fixture.h"

#define COUNTED(n) ((uint32_t)(n)*RIGHTS_ONE | RIGHTS_SHARED)

/* How often the lock was taken. */
uint64_t n_taken(void);

/* The call takes the lock, or does not; the heap is whole afterwards. */
#define QUICKLY(call)                                                                                                  \
	do {                                                                                                           \
		uint64_t before_ = n_taken();                                                                          \
		ck_assert_int_eq((call), 0);                                                                           \
		ck_assert_uint_eq(n_taken(), before_);                                                                 \
		fixture_check();                                                                                       \
	} while (0)
#define LOCKED(call)                                                                                                   \
	do {                                                                                                           \
		uint64_t before_ = n_taken();                                                                          \
		ck_assert_int_eq((call), 0);                                                                           \
		ck_assert_uint_gt(n_taken(), before_);                                                                 \
		fixture_check();                                                                                       \
	} while (0)

/* S0's, which others may know; nobody else has a right to it, and it is biased to nobody. */
uint64_t share(uint64_t ref);
uint64_t shared(size_t size);
/* Held by that session alone. */
uint64_t passed_to(struct session *session, size_t size);

/* S0 goes, but for the place that the fixture checks with. */
void owner_goes(void);

/* The session is in no critical section, and has no intent. */
void expect_through(const struct session *session);

void expect_header(uint64_t ref, uint32_t counted, uint32_t biased1);
