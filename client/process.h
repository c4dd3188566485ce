/* SPDX-License-Identifier: MIT */
#pragma once

/* Telling a forked child from its parent. See process.c. */

#include <stddef.h>
#include <stdint.h>

/* Zeroed memory of this process, which the kernel empties in every forked child. Ended by munmap(). Negative errno. */
int process_map(void **ret, size_t size);

/* Give this process a number, if it has none. Called with the registry's mutex held. Negative errno. */
int process_identify(void);

/* A number that differs after each execve() of this process, the same for all who ask in it. 0: not known. */
uint64_t process_image(void);

extern const uint64_t *process_page __attribute__((visibility("hidden")));

/* The number of this process, once process_identify() was called. 0 in a child that was forked just now. */
static inline uint64_t process_number(void)
{
	return *(const volatile uint64_t *)process_page;
}
