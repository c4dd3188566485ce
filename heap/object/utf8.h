/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

/* Is it 1..max bytes of well-formed UTF-8? -EINVAL, -ENAMETOOLONG; else its length. */
int utf8_check(const char *s, size_t max);
