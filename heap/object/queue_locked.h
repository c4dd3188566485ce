/* SPDX-License-Identifier: MIT */
#pragma once

/* Changing a queue under the lock. See queue_locked.c. */

#include "heap/object/cell.h"
#include "heap/object/object.h"
#include "heap/shared/cache.h"

/* What an attempt returns, beside what its caller is to get: another one came first; it goes under the lock. */
#define QUEUE_AGAIN  3
#define QUEUE_NOT    4
#define QUEUE_SPOILT 5 /* what was in the cell names nothing: the next, perhaps */

int queue_push_locked(struct session *session, uint64_t queue_ref, const struct cell_ring *ring, uint64_t ref);
int queue_pop_locked(struct session *session, uint64_t queue_ref, const struct cell_ring *ring, uint64_t *ret);

/* Take note of what was received: the session holds it by its table. */
static inline void queue_note_received(struct session *session, uint64_t ref, const struct object *object)
{
	cache_add_held(session, ref, object->type != TYPE_QUEUE, object->header);
}
