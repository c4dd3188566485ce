/* SPDX-License-Identifier: MIT */
#pragma once

/* Which process this is, as far as fork() is concerned: see process.c. */

#include <stdint.h>

extern const uint64_t *process_page __attribute__((visibility("hidden")));

/* Make the page, or give a forked child a number of its own. Called with the registry's mutex held. Negative errno. */
int process_identify(void);

/* The number that process_identify() gave to this process; 0: none, as in a child that has just been forked. */
static inline uint64_t process_number(void)
{
	return *(const volatile uint64_t *)process_page;
}
