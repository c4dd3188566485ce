/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The deferred free list of a session: objects whose count reached 0 and whose slots are not dropped yet. See dying.c.
 */

#include "heap/object/right.h"

/*
 * One change: drop a bounded number of slots of the first object on the list. 1: there may be more, 0: the list is
 * empty. -EBUSY: `try` is set and the lock is taken.
 */
int dying_step(struct session *session, bool try);

/* Empty the list. Returns `result`, so that it can end a function that dropped something. */
static inline int dying_free(struct session *session, int result);

void dying_free_all(struct session *session);

static inline int dying_free(struct session *session, int result)
{
	if (!__builtin_expect(!session->entry->dying1, 1))
		dying_free_all(session);
	return result;
}
