/* SPDX-License-Identifier: MIT */
#pragma once

/* Lists, bitmaps and numbers made anew from the truth. See rebuild.c. */

#include "heap/heap.h"

/* With the lock held, and the gate closed for all sessions (gate.h). Stores without the log: whoever dies in it leaves
 * `rebuilding` set, and the next taker who can begins again. */
void heap_rebuild(struct heap *heap);
