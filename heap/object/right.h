/* SPDX-License-Identifier: MIT */
#pragma once

/* Rights to objects: counted in their headers, with the lock held. See right.c. */

#include "heap/object/object.h"

/*
 * Within a change: somebody who is not its owner has one right fewer (`what` is never an own record). When it was the
 * last, the object is freed, or goes on session's dying list.
 */
int right_drop(struct session *session, const struct object *what);
/* Within a change: one right more. -EOVERFLOW; -ESTALE its owner let go of it meanwhile. */
int right_retain(struct session *session, const struct object *what);

/*
 * Within a change: the session holds it once more, by the header of its own object or by its hold table, where
 * hold_reserve() has made room. Errors as right_retain().
 */
int right_hold(struct session *session, uint64_t ref, const struct object *what);
/*
 * Within a change: what the session holds, by `hold` of its table or, where that is NULL, by the header's word, it
 * holds once less, or not at all any more: its right goes to somebody else (a queue).
 */
int right_pass_on(struct session *session, uint64_t ref, const struct object *what, struct hold *hold);
/* Within a change: the same, and the right ends. -EPERM it does not hold it; errors as object_find(). */
int right_drop_held(struct session *session, uint64_t ref, struct hold *hold);

/* Within a change: nobody has a right to it: free it, or put it on session's dying list. */
int right_end(struct session *session, const struct object *what);
