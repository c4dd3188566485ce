// SPDX-License-Identifier: MIT
/*
 * UTF-8: is a string well-formed?
 *
 * As RFC 3629 has it: the shortest form of each character, no surrogates, nothing above U+10FFFF.
 */

#include "heap/object/utf8.h"

#include <errno.h>
#include <string.h>

/* The length of the well-formed sequence at s; 0: there is none. */
static size_t utf8_sequence(const unsigned char *s)
{
	unsigned char lead = s[0];
	unsigned char low = 0x80, high = 0xbf; /* range of the second byte */
	size_t n;

	if (lead < 0x80)
		return 1;
	if (lead < 0xc2 || lead > 0xf4)
		return 0;
	n = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
	if (lead == 0xe0)
		low = 0xa0;
	else if (lead == 0xed)
		high = 0x9f;
	else if (lead == 0xf0)
		low = 0x90;
	else if (lead == 0xf4)
		high = 0x8f;
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

int utf8_check(const char *s, size_t max)
{
	size_t length = strnlen(s, max + 1);

	if (!length)
		return -EINVAL;
	if (length > max)
		return -ENAMETOOLONG;
	for (size_t i = 0; i < length;) {
		size_t n = utf8_sequence((const unsigned char *)s + i); /* reads no further than the NUL */

		if (!n)
			return -EINVAL;
		i += n;
	}
	return (int)length;
}
