/* SPDX-License-Identifier: MIT */
#pragma once

/* Names and their entries, as name.c changes them under the lock and name_get.c reads them without it. */

#include "heap/shared/session.h"

#include <errno.h>
#include <string.h>

#define CHAIN_MAX (UINT32_C(1) << 20) /* a longer chain is damaged */

/* A name as a caller gives it. */
struct name {
	const char *bytes;
	size_t length;
	uint64_t hash;
};

/* Check and hash a name. Errors as utf8_check(). */
int name_parse(const struct heap *heap, const char *bytes, struct name *ret);

/* name_get(), under the lock; after hold_reserve(). */
int name_get_locked(struct session *session, const struct name *name, uint64_t *ret);

/* Bytes i to i + n - 1 (n is 1..8) as the low bytes of a word, without reading any others of the name. */
static inline uint64_t name_chunk(const char *bytes, size_t i, size_t n)
{
	uint64_t chunk = 0, high = 0;

	if (n == 8)
		memcpy(&chunk, bytes + i, 8);
	else if (i + n >= 8) { /* the last bytes: those before them are shifted out */
		memcpy(&chunk, bytes + i + n - 8, 8);
		chunk >>= (8 - n) * 8;
	} else if (n >= 4) { /* two halves that overlap */
		memcpy(&chunk, bytes + i, 4);
		memcpy(&high, bytes + i + n - 4, 4);
		chunk |= high << (n - 4) * 8;
	} else
		chunk = (uint64_t)(uint8_t)bytes[i] | (uint64_t)(uint8_t)bytes[i + n / 2] << n / 2 * 8 |
			(uint64_t)(uint8_t)bytes[i + n - 1] << (n - 1) * 8;
	return chunk;
}

/*
 * Word k of what an entry has from its length on: the length and the first six bytes, then eight bytes each. Bytes
 * behind the name are 0, so that names are compared, and stored, by whole words.
 */
static inline uint64_t name_word(const struct name *name, size_t k)
{
	size_t i = k ? 8 * k - 2 : 0, most = k ? 8 : 6;
	uint64_t chunk = name_chunk(name->bytes, i, name->length - i < most ? name->length - i : most);

	return k ? chunk : chunk << 16 | name->length;
}
static inline size_t name_n_words(size_t length)
{
	return (length + 2 + 7) / 8;
}
static inline const uint64_t *entry_words(const struct name_entry *entry)
{
	static_assert(offsetof(struct name_entry, length) % 8 == 0 &&
			      offsetof(struct name_entry, name) == offsetof(struct name_entry, length) + 2,
		"the length and the name are read as words");
	return (const uint64_t *)(const void *)&entry->length;
}

/* Of an entry whose header has that word: a block of records is as long as what it was made for. */
static inline uint32_t entry_length(uint64_t word)
{
	return header_size(word) - (uint32_t)offsetof(struct name_entry, name);
}

/* length: of the entry, as its header says. relaxed: without the lock, the header is read again afterwards */
static inline bool name_is(const struct name_entry *entry, uint32_t length, const struct name *name)
{
	const uint64_t *words = entry_words(entry);

	if (read_once(entry->hash) != name->hash || length != name->length)
		return false;
	for (size_t k = 0; k < name_n_words(name->length); k++)
		if (read_once(words[k]) != name_word(name, k))
			return false;
	return true;
}
