/* SPDX-License-Identifier: MIT */
#pragma once

/* The registry of types: data, not code, so that any process can take any object down. */

#include "heap/lock.h"

struct type_spec {
	const char *name;
	size_t size, alignment, n_slots;
	const size_t *slots;
};

/* What is needed of a type to make an object of it and to take it down. Built-in and registered ones alike. */
struct type_info {
	uint64_t size;         /* of the fixed part */
	uint32_t alignment;    /* 0: none asked for */
	bool is_array;         /* a list or queue: every 8 bytes from `size` on are a slot */
	uint32_t n_slots;      /* else: so many */
	const uint32_t *slots; /* at these offsets */
};

int type_register(struct session *session, const struct type_spec *spec, uint32_t *ret);
/* -EINVAL no such type. Needs no lock: an entry that n_types counts never changes. */
int type_find(const struct heap *heap, uint32_t type, struct type_info *ret);
int type_name(const struct heap *heap, uint32_t type, char ret[64]);

/* Is it 1..max bytes of well-formed UTF-8? -EINVAL, -ENAMETOOLONG; else its length. */
int utf8_check(const char *s, size_t max);
