/* SPDX-License-Identifier: MIT */
#pragma once

/* Holding and dropping: what a session has of its own, and of others' by its hold table. See count.c. */

#include "heap/object/hold.h"
#include "heap/object/object.h"

/* Each is one change, and takes down what it freed. Returns as the public functions, or HEAP_WANTS_ARENAS. */
int object_incref(struct session *session, uint64_t ref);
int object_decref(struct session *session, uint64_t ref);
/* The same two, after own_hold() said OWN_NOT, and own_drop() that it is none for it. */
int object_incref_other(struct session *session, uint64_t ref);
int object_decref_other(struct session *session, uint64_t ref);
int64_t object_refcount(struct session *session, uint64_t ref);

/* Look into an arena of pools without a lock or a hold: it is there between the two, where the first says so. *before
 * is for the second. */
bool count_begin_lookup(struct session *session, uint32_t arena, uint32_t *before);
void count_end_lookup(struct session *session, uint32_t before);

/* Within a change: finish what a dead session's intent to hold or drop says. */
int count_finish(struct session *session);
