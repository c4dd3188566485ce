// SPDX-License-Identifier: MIT
/*
 * Linked into every program of Check tests (tests/meson.build): no test case has a time limit.
 *
 * Check's limit of 4 seconds fails tests where the machine is busy. Meson's time limit ends a test that hangs.
 */
#include <stdlib.h>

static __attribute__((constructor)) void no_time_limit(void)
{
	setenv("CK_DEFAULT_TIMEOUT", "0", 0); /* read by tcase_create() */
}
