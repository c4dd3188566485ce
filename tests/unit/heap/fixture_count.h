/* SPDX-License-Identifier: MIT */
#pragma once

/* S0 makes objects, S1 and S2 hold them: see fixture_count.c. */

#include "heap/change/intent.h"
#include "tests/unit/heap/fixture.h"

#define COUNTED(n) ((uint32_t)(n)*RIGHTS_ONE | RIGHTS_SHARED)

/* How often the lock was taken. */
uint64_t n_taken(void);

/* The call takes the lock, or does not; the heap is whole afterwards. */
#define WITHOUT_LOCK(call)                                                                                             \
	do {                                                                                                           \
		uint64_t before_ = n_taken();                                                                          \
		ck_assert_int_eq((call), 0);                                                                           \
		ck_assert_uint_eq(n_taken(), before_);                                                                 \
		fixture_check();                                                                                       \
	} while (0)
#define BY_LOCK(call)                                                                                                  \
	do {                                                                                                           \
		uint64_t before_ = n_taken();                                                                          \
		ck_assert_int_eq((call), 0);                                                                           \
		ck_assert_uint_gt(n_taken(), before_);                                                                 \
		fixture_check();                                                                                       \
	} while (0)

/* An object of S0's, marked as shared; no other session has a right to it, and it is biased to none. */
uint64_t share(uint64_t ref);
uint64_t shared(size_t size);
/* Held by that session alone. */
uint64_t passed_to(struct session *session, size_t size);

/* S0 drops all that it has; its entry stays, since the fixture checks with it. */
void owner_goes(void);

/* The session is in no critical section, and has no intent. */
void expect_through(const struct session *session);

void expect_header(uint64_t ref, uint32_t counted, uint32_t biased1);
