/* SPDX-License-Identifier: MIT */
#pragma once

/* Holding and dropping any object: incref, decref, refcount. See count.c. */

#include "heap/object/hold.h"
#include "heap/object/object.h"

/*
 * Each is one change, or needs none, and empties the deferred free list. They return what the public functions do, or
 * HEAP_WANTS_ARENAS.
 */
int object_incref(struct session *session, uint64_t ref);
int object_decref(struct session *session, uint64_t ref);
/* object_incref() after own_hold() returned OWN_NOT, and object_decref() after own_drop() returned false. */
int object_incref_other(struct session *session, uint64_t ref);
int object_decref_other(struct session *session, uint64_t ref);
int64_t object_refcount(struct session *session, uint64_t ref);

/*
 * Read headers in an arena of pools without the lock and without a hold. True: the arena is there until
 * count_end_lookup(), which gets *before.
 */
bool count_begin_lookup(struct session *session, uint32_t arena, uint32_t *before);
void count_end_lookup(struct session *session, uint32_t before);
