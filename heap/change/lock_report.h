/* SPDX-License-Identifier: MIT */
#pragma once

/* Who has the lock, for reports: true of a moment, and only as far as it can be known. */

#include "heap/shared/heap.h"

/* The session (or SESSION_DAEMON) that has the lock, plus one; 0: nobody, or it is not to be found out. */
uint32_t lock_owner1(const struct heap *heap);

/*
 * The number in its own pid namespace of the thread that has the lock, for reports when the session is not to be found
 * out; 0: nobody.
 */
uint32_t lock_owner_tid(const struct heap *heap);

/* Where the word that says so lies in the control segment. */
uint64_t lock_word_offset(void);
