// SPDX-License-Identifier: MIT
/*
 * Numbers and names for people and for programs
 *
 * Names and program names come from other sessions, or from the command line. They may have control characters, and an
 * argument need not be UTF-8. Neither reaches a terminal unescaped.
 */
#include "ctl.h"

#include <inttypes.h>
#include <string.h>

const char *format_number(uint64_t n, char ret[NUMBER_MAX])
{
	char digits[NUMBER_MAX];
	int n_digits = snprintf(digits, sizeof(digits), "%" PRIu64, n);
	char *p = ret;

	for (int i = 0; i < n_digits; i++) {
		if (i > 0 && (n_digits - i) % 3 == 0)
			*p++ = ',';
		*p++ = digits[i];
	}
	*p = '\0';
	return ret;
}

/* The length of a character of UTF-8, by its first byte. 0: no character starts with it. */
static size_t length_by_first(unsigned char first)
{
	if (first < 0x80)
		return 1;
	if (first < 0xc2 || first >= 0xf5)
		return 0;
	return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* The length of the character of UTF-8 at s. 0: it is not well-formed. */
static size_t character_length(const unsigned char *s)
{
	static const uint32_t firsts[] = {0, 0, 0x80, 0x800, 0x10000}; /* the least character of each length */
	size_t n = length_by_first(*s);
	uint32_t c = n > 1 ? *s & (0x7fU >> n) : *s;

	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (n > 1 && (c < firsts[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)))
		return 0;
	return n;
}

/* How many bytes at s must not reach a terminal: a control character (of ASCII, or C2 80 to C2 9F), or a byte that is
 * not UTF-8. */
static size_t control_length(const unsigned char *s)
{
	if (*s < 0x20 || *s == 0x7f || character_length(s) == 0)
		return 1;
	return s[0] == 0xc2 && s[1] < 0xa0 ? 2 : 0;
}

void print_escaped(FILE *file, const char *s)
{
	for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
		size_t n = control_length(p);

		if (*p == '\\')
			fputs("\\\\", file);
		else if (n == 0)
			fwrite(p, 1, character_length(p), file);
		for (size_t i = 0; i < n; i++)
			fprintf(file, "\\x%02x", p[i]);
		p += (n ? n : character_length(p)) - 1;
	}
}

size_t escaped_width(const char *s)
{
	size_t width = 0;

	for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
		size_t n = control_length(p);

		width += *p == '\\' ? 2 : n == 0 ? 1 : 4 * n;
		p += (n ? n : character_length(p)) - 1;
	}
	return width;
}

void print_json(FILE *file, const char *s)
{
	putc('"', file);
	for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
		size_t n = character_length(p);

		if (*p == '"' || *p == '\\')
			fprintf(file, "\\%c", *p);
		else if (n == 0) /* JSON has text only: the replacement character is written instead */
			fputs("\\ufffd", file);
		else if (control_length(p))
			fprintf(file, "\\u%04x", p[n - 1]);
		else
			fwrite(p, 1, n, file);
		p += n ? n - 1 : 0;
	}
	putc('"', file);
}
