/* SPDX-License-Identifier: MIT */
#pragma once

/* The deferred free list of a session. See dying.c. */

#include "heap/object/right.h"

/*
 * One change: take down a bounded part of what is dying on this session's list. 1 there may be more, 0 nothing is left;
 * -EBUSY where `try` and the lock is taken.
 */
int dying_step(struct session *session, bool try);

/* All of it. Returns `result`, so that it ends a function that dropped something. */
static inline int dying_free(struct session *session, int result);

void dying_free_all(struct session *session);

static inline int dying_free(struct session *session, int result)
{
	if (!__builtin_expect(!session->entry->dying1, 1))
		dying_free_all(session);
	return result;
}
