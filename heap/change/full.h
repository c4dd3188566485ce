/* SPDX-License-Identifier: MIT */
#pragma once

/* That the heap is full, said once for all sessions: see full.c. */

#include "heap/shared/heap.h"

/* Daemon: room may have come, or is about to. Before anybody can see what it came by. */
void full_ends(struct heap *heap);

/* Daemon: nothing can be returned, and there is no run of n holes. */
void full_begins(struct heap *heap, uint32_t n);

/* Had the daemon no room for a run of n arenas when it was last asked, and has none come by its own doing since? */
bool full_is_known(const struct heap *heap, uint32_t n);
