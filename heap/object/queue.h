/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Queues of refs: an object is handed over and held at every moment. See queue.c. Each function returns what the public
 * one does, or HEAP_WANTS_ARENAS.
 */

#include "heap/object/cell.h"
#include "heap/object/object.h"

int queue_push(struct session *session, uint64_t queue, uint64_t ref, int timeout_ms);
int queue_pop(struct session *session, uint64_t queue, uint64_t *ret, int timeout_ms);

/*
 * With the lock held, or where the session holds the queue: the queue that a ref names. Does not read how full it is.
 */
int queue_find(struct heap *heap, uint64_t ref, struct object *ret_object, struct cell_ring *ret);
