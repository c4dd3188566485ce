/* SPDX-License-Identifier: MIT */
#pragma once

/* The heap's files may be cut short by clients, which does not end this daemon: see sigbus.c. */

#include "heap/shared/heap.h"

/* From here on a missing page of this heap is no fatal signal. One heap at a time; NULL: none any more. */
void sigbus_guard(struct heap *heap);

/* Give the files their sizes again, if a client has changed them, and say so once. Often called; costs two fstat(). */
void sigbus_mend(void);

/* Are the heap's records gone, so that nobody can be admitted any more? */
bool sigbus_is_lost(void);
