/* SPDX-License-Identifier: MIT */
#pragma once

/* A line about damage of the heap: see damage.c. */

#include "heap/shared/heap.h"

/*
 * `what` cannot be done, by a negative errno. session1: the session, plus one, whose own records or pools are damaged;
 * 0: what is damaged all sessions write to.
 */
void damage_log(const struct heap *heap, uint32_t session1, int error, const char *what);
