/* SPDX-License-Identifier: MIT */
#pragma once

/* First holds and last drops of other sessions' objects without the lock. See count.c. */

#include "heap/hold.h"
#include "heap/object.h"

/* What a function here returns, beside its results, when the thing goes under the lock. Nothing was changed. */
#define COUNT_NOT 6

/*
 * Without the lock: hold for the first time what is another's, at its place in the hold table, which has room; and drop
 * what is held once. 0, or COUNT_NOT.
 */
int count_hold(struct session *session, uint64_t ref, struct hold *place);
int count_drop(struct session *session, uint64_t ref, struct hold *hold);

/* Within a change: finish what a dead session's intent to hold or drop says. */
int count_finish(struct session *session);
