/* SPDX-License-Identifier: MIT */
#pragma once

/* The registry of types: data, not code, so that any process can take any object down. */

#include "heap/change/lock.h"

struct type_spec {
	const char *name;
	size_t size, alignment, n_slots;
	const size_t *slots;
};

/* What is needed of a type to make an object of it and to take it down. Built-in and registered ones alike. */
struct type_info {
	uint64_t size;         /* of the fixed part */
	uint32_t alignment;    /* 0: none asked for */
	uint32_t stride;       /* a list or queue: every so many bytes from `size` on a slot begins; else 0 */
	uint32_t n_slots;      /* else: so many */
	const uint32_t *slots; /* at these offsets */
};

/* How many slots an object of `size` bytes has, and where slot i lies in it. */
static inline uint64_t type_n_slots(const struct type_info *type, uint64_t size)
{
	if (!type->stride)
		return type->size <= size ? type->n_slots : 0;
	return size > type->size ? (size - type->size) / type->stride : 0;
}
static inline uint64_t type_slot_offset(const struct type_info *type, uint64_t i)
{
	return type->stride ? type->size + i * type->stride : type->slots[i];
}
/* Empty the slots of an object that nobody else can reach yet; of a list or queue all of it. */
void type_clear_slots(const struct type_info *type, void *data, uint64_t size);

int type_register(struct session *session, const struct type_spec *spec, uint32_t *ret);
/* -EINVAL no such type. Needs no lock: an entry that n_types counts never changes. */
int type_find(const struct heap *heap, uint32_t type, struct type_info *ret);
int type_name(const struct heap *heap, uint32_t type, char ret[64]);

/* Is it 1..max bytes of well-formed UTF-8? -EINVAL, -ENAMETOOLONG; else its length. */
int utf8_check(const char *s, size_t max);
