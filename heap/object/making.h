/* SPDX-License-Identifier: MIT */
#pragma once

/* Making objects and queues. See making.c. */

#include "heap/object/object.h"

/* Each is one change, or a few. They return what the public functions do, or HEAP_WANTS_ARENAS. */
int object_new(struct session *session, uint32_t type, size_t size, uint64_t *ret);
int queue_new(struct session *session, size_t n, uint64_t *ret);

/* Within a change: free the object that the session began to make and did not finish. */
int making_drop(struct session *session);
