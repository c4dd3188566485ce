/* SPDX-License-Identifier: MIT */
#pragma once

/* What memory each session has: see usage.c. */

#include "heap/shared/heap.h"

struct session_usage {
	uint64_t n_arenas; /* that were granted to it and are there, whichever session uses them now */
	uint64_t n_bytes;  /* of the pools and runs that it owns */
};

/*
 * Daemon: count a bounded part of the heap into `usage`, an entry for each session, all 0 at first, as *cursor is.
 * False when that was the last part. Takes no lock.
 */
bool heap_usage_step(const struct heap *heap, uint32_t *cursor, struct session_usage *usage);
