/* SPDX-License-Identifier: MIT */
#pragma once

/* Queues of refs: handing over with no moment unheld. See queue.c. Returns as the public functions, or
 * HEAP_WANTS_ARENAS. */

#include "heap/object/cell.h"
#include "heap/object/object.h"

int queue_push(struct session *session, uint64_t queue, uint64_t ref, int timeout_ms);
int queue_pop(struct session *session, uint64_t queue, uint64_t *ret, int timeout_ms);

/* Which queue a ref names; nothing is said of how full it is. */
int queue_find(struct heap *heap, uint64_t ref, struct object *ret_object, struct cell_ring *ret);
