// SPDX-License-Identifier: MIT
/*
 * Lines, words and identifiers
 *
 * Lines and words are what `wc` counts in the C locale: a line ends with a newline; a word is a run of bytes that are
 * not white space. Whether a run of nothing but unprintable bytes is a word depends on its version, so the caller says.
 * An identifier is a run of letters, digits and _ that does not begin with a digit, as
 * `grep -aow '[A-Za-z_][A-Za-z0-9_]*'` finds them.
 *
 * The set is a hash table with open addressing, at most half full; it refers to the strings where they lie.
 */
#include "words.h"

#include <stdlib.h>
#include <string.h>

static bool is_space(unsigned char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_printable(unsigned char c)
{
	return c >= ' ' && c <= '~';
}

static bool is_digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

static bool is_identifier(unsigned char c)
{
	return is_digit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

/* Where the string is, or where it belongs. FNV-1a. */
static struct string *string_set_find(const struct string_set *set, const char *p, size_t n)
{
	uint64_t hash = UINT64_C(14695981039346656037);

	for (size_t i = 0; i < n; i++)
		hash = (hash ^ (unsigned char)p[i]) * UINT64_C(1099511628211);
	for (size_t i = (hash ^ hash >> 32) & (set->n_places - 1);; i = (i + 1) & (set->n_places - 1)) {
		struct string *place = &set->places[i];
		if (!place->p || (place->n == n && memcmp(place->p, p, n) == 0))
			return place;
	}
}

static bool string_set_grow(struct string_set *set)
{
	struct string_set bigger = {.n = set->n, .n_places = set->n_places ? set->n_places * 2 : 1024};

	bigger.places = calloc(bigger.n_places, sizeof(bigger.places[0]));
	if (!bigger.places)
		return false;
	for (size_t i = 0; i < set->n_places; i++)
		if (set->places[i].p)
			*string_set_find(&bigger, set->places[i].p, set->places[i].n) = set->places[i];
	free(set->places);
	*set = bigger;
	return true;
}

bool string_set_add(struct string_set *set, const char *p, size_t n)
{
	if (2 * set->n >= set->n_places && !string_set_grow(set))
		return false;

	struct string *place = string_set_find(set, p, n);
	if (!place->p) {
		*place = (struct string){.p = p, .n = n};
		set->n++;
	}
	return true;
}

void string_set_clear(struct string_set *set)
{
	if (set->n)
		memset(set->places, 0, set->n_places * sizeof(set->places[0]));
	set->n = 0;
}

void string_set_deinit(struct string_set *set)
{
	free(set->places);
	*set = (struct string_set){0};
}

static void count_words(const char *p, size_t n, bool any_word, struct text_count *count)
{
	bool in_word = false;

	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)p[i];
		count->n_lines += c == '\n';
		if (is_space(c)) {
			in_word = false;
		} else if (!in_word && (any_word || is_printable(c))) {
			in_word = true;
			count->n_words++;
		}
	}
}

bool text_count(const char *p, size_t n, bool any_word, struct text_count *count, struct string_set *identifiers)
{
	count_words(p, n, any_word, count);
	for (size_t i = 0, end; i < n; i = end + 1) {
		for (end = i; end < n && is_identifier((unsigned char)p[end]); end++)
			;
		if (end > i && !is_digit((unsigned char)p[i]) && !string_set_add(identifiers, p + i, end - i))
			return false;
	}
	return true;
}
