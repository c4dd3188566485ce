/* SPDX-License-Identifier: MIT */
#pragma once

/* Pushing and popping under the lock. See queue_locked.c. */

#include "heap/object/cell.h"
#include "heap/object/object.h"

/*
 * What an attempt returns beside 0 and negative errnos. Nothing was changed: try again, because somebody else came
 * first; or do it under the lock.
 */
#define QUEUE_AGAIN  3
#define QUEUE_NOT    4
#define QUEUE_SPOILT 5 /* what was in the cell names nothing: it is gone, try the next */

/* Push `ref`, which the session holds; pop to *ret. `ring` is that of queue_ref, which the session holds too. */
int queue_push_locked(struct session *session, uint64_t queue_ref, const struct cell_ring *ring, uint64_t ref);
int queue_pop_locked(struct session *session, uint64_t queue_ref, const struct cell_ring *ring, uint64_t *ret);

/* The session holds what it received by its table: put it into the cache. */
static inline void queue_note_received(struct session *session, uint64_t ref, const struct object *object)
{
	session_cache_held(session, ref, object->type != TYPE_QUEUE, object->header);
}
