/* SPDX-License-Identifier: MIT */
#pragma once

/* Who has the lock, for reports. */

#include "heap/shared/heap.h"

/*
 * Who has the lock, for reports: its session (or SESSION_DAEMON) plus one; 0: nobody, or it cannot be told. Looks at
 * the owner's thread id in the mutex too, since an owner may be stopped before it says who it is.
 */
uint32_t lock_owner1(const struct heap *heap);

/* The thread that has the lock, by the number that it has in its own pid namespace, for reports where its session
 * cannot be told; 0: nobody. */
uint32_t lock_owner_tid(const struct heap *heap);
