/* SPDX-License-Identifier: MIT */
#pragma once

/* Lines, words and identifiers in bytes that lie anywhere, and a set of strings that are never copied. See words.c. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Strings by their place: they must stay where they are as long as the set is used. Zero-initialised is empty. */
struct string_set {
	struct string {
		const char *p; /* NULL: a free place */
		size_t n;
	} * places;
	size_t n, n_places;
};

/* False where memory is out. */
bool string_set_add(struct string_set *set, const char *p, size_t n);
void string_set_clear(struct string_set *set);
void string_set_deinit(struct string_set *set);

struct text_count {
	uint64_t n_lines, n_words;
};

/* Add what the n bytes at p have. any_word: a word may be all of unprintable bytes. False where memory is out. */
bool text_count(const char *p, size_t n, bool any_word, struct text_count *count, struct string_set *identifiers);
