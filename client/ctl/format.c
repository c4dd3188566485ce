// SPDX-License-Identifier: MIT
/*
 * Numbers and names for people and for programs
 *
 * Names and program names come from whoever has a session. They are UTF-8 (the heap sees to that for names), but may
 * have control characters: those never reach a terminal as they are.
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

/* The length of the control character at s: ASCII's, and those that UTF-8 writes as C2 80 to C2 9F. 0: none. */
static size_t control_length(const unsigned char *s)
{
	if (*s < 0x20 || *s == 0x7f)
		return 1;
	return s[0] == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0 ? 2 : 0;
}

void print_escaped(FILE *file, const char *s)
{
	for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
		size_t n = control_length(p);

		if (*p == '\\')
			fputs("\\\\", file);
		else if (n == 0)
			putc(*p, file);
		for (size_t i = 0; i < n; i++)
			fprintf(file, "\\x%02x", p[i]);
		if (n == 2)
			p++;
	}
}

size_t escaped_width(const char *s)
{
	size_t width = 0;

	for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
		size_t n = control_length(p);

		if (*p == '\\')
			width += 2;
		else if (n == 0)
			width += (*p & 0xc0) != 0x80; /* what goes on a character is none */
		width += 4 * n;
		if (n == 2)
			p++;
	}
	return width;
}

void print_json(FILE *file, const char *s)
{
	putc('"', file);
	for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
		if (*p == '"' || *p == '\\')
			fprintf(file, "\\%c", *p);
		else if (*p < 0x20 || *p == 0x7f)
			fprintf(file, "\\u%04x", *p);
		else
			putc(*p, file);
	}
	putc('"', file);
}
