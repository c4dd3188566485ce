/* SPDX-License-Identifier: MIT */
#pragma once

/* Objects are made. See making.c. */

#include "heap/object/object.h"

/* Each of these is one change, and takes down what it freed. Returns as the public functions, or HEAP_WANTS_ARENAS. */
int object_new(struct session *session, uint32_t type, size_t size, uint64_t *ret);
int queue_new(struct session *session, size_t n, uint64_t *ret);

/* Within a change: free what the session was making and did not finish. */
int making_drop(struct session *session);
