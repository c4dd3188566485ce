/* SPDX-License-Identifier: MIT */
#pragma once

/* Memory in holes of the heap's files, which nobody was granted: see stray.c. */

#include "heap/shared/heap.h"

/*
 * Daemon: give back memory that lies in holes, in bounded steps: *cursor is 0 at the beginning, *n_bytes counts what
 * was given back. 1 there may be more, 0 there is none. A negative errno: it cannot be given back now.
 */
int stray_step(struct heap *heap, uint32_t *cursor, uint64_t *n_bytes);
