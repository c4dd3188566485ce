/* SPDX-License-Identifier: MIT */
#pragma once

/* Rights to objects, counted in their headers under the lock. See right.c. */

#include "heap/object/object.h"

/*
 * Within a change: one right fewer of somebody who is not the owner of the pool. The last one frees the object, or puts
 * it on the session's deferred free list. `what` is never a record of the heap.
 */
int right_drop(struct session *session, const struct object *what);
/* Within a change: one right more. -EOVERFLOW. -ESTALE: the owner of the pool let go of the object meanwhile. */
int right_retain(struct session *session, const struct object *what);

/*
 * Within a change: the session holds it once more, by the header's word if it is its own, else by its hold table, in
 * which hold_reserve() has made room. Errors as right_retain().
 */
int right_hold(struct session *session, uint64_t ref, const struct object *what);
/*
 * Within a change: the session holds it once less, and the right goes to somebody else (a queue). `hold` is its entry
 * in the hold table; NULL: it holds the object by the header's word.
 */
int right_pass_on(struct session *session, uint64_t ref, const struct object *what, struct hold *hold);
/*
 * Within a change: the session holds it once less, and the right ends. -EPERM: it does not hold it. Errors as
 * object_find().
 */
int right_drop_held(struct session *session, uint64_t ref, struct hold *hold);

/* Within a change: a session that held it uncounted (readers.c) does so no more. The last one ends it. */
int right_uncounted_gone(struct session *session, const struct object *what);

/* Within a change: nobody has a right to it. Free it, or put it on the session's deferred free list. */
int right_end(struct session *session, const struct object *what);
