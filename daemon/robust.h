/* SPDX-License-Identifier: MIT */
#pragma once

/* Has a thread a lock, by what the kernel would go by if the thread died? See robust.c. */

#include <stdint.h>
#include <sys/types.h>

/*
 * Is the futex word at that offset of an open file among those that thread `tid` of process `pid` has locked? 1 it is,
 * 0 it is not, for certain; or a negative errno: this process may not look, most often -EPERM, or cannot tell. It has
 * the word mapped itself.
 */
int robust_has(pid_t pid, uint32_t tid, int fd, uint64_t word_off);
