// SPDX-License-Identifier: MIT
/*
 * Contents that can be verified without knowing what was written
 *
 * The first word is a key from which all others are computed. The second word is the object's own ref, so that contents
 * of another object are recognized. An object of less than 8 bytes has a key of one byte.
 */
#include "storm.h"

#include <string.h>

static uint64_t word_of(uint64_t key, size_t size, size_t at)
{
	uint64_t x = key ^ (uint64_t)size << 40 ^ at;

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/* The word at byte `at`; a last one reaches beyond the end. */
static uint64_t expected(uint64_t key, size_t size, size_t at, pyheap_ref ref)
{
	if (at == 0 && size >= 8)
		return key;
	if (at == 0)
		return (key & 0xff) | word_of(key & 0xff, size, 0) << 8;
	if (at == 8 && size >= 16)
		return ref;
	return word_of(key, size, at);
}

static size_t length_at(size_t size, size_t at)
{
	return size - at < 8 ? size - at : 8;
}

void pattern_fill(uint8_t *data, size_t size, uint64_t key, pyheap_ref ref)
{
	for (size_t at = 0; at < size; at += 8) {
		uint64_t word = expected(key, size, at, ref);

		memcpy(data + at, &word, length_at(size, at));
	}
}

bool pattern_check(const uint8_t *data, size_t size, pyheap_ref ref, uint64_t *ret_key)
{
	uint64_t key = 0, said;

	memcpy(&key, data, size < 8 ? (size != 0) : 8);
	for (size_t at = 0; at < size; at += 8) {
		uint64_t word = expected(key, size, at, ref);

		if (memcmp(data + at, &word, length_at(size, at)) == 0)
			continue;
		memcpy(&said, data + at, length_at(size, at));
		if (at != 8 || size < 16 || said != 0) /* pyheap_put() copies contents before the ref is known: 0 */
			return false;
	}
	*ret_key = key;
	return true;
}
