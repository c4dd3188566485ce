/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

/* The length of s if it is 1..max bytes of well-formed UTF-8. -EINVAL: it is not. -ENAMETOOLONG: it is longer. */
int utf8_check(const char *s, size_t max);
