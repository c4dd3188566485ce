/* SPDX-License-Identifier: MIT */
#pragma once

/* The registry of types. A type is data and not code, so that any process can free any object. See type.c. */

#include "heap/shared/session.h"

#define TYPE_NAME_MAX  63U  /* longest name of a type, in bytes without its NUL */
#define SLOTS_PER_TYPE 256U /* most slots of a registered type */

struct type_spec {
	const char *name;
	size_t size, alignment, n_slots;
	const size_t *slots;
};

/* What making and freeing an object need to know of its type, be it built-in or registered. */
struct type_info {
	uint64_t size;         /* of the fixed part */
	uint32_t alignment;    /* 0: none asked for */
	uint32_t stride;       /* lists and queues: from `size` on there is a slot every `stride` bytes; else 0 */
	uint32_t n_slots;      /* where stride is 0: the number of slots */
	const uint32_t *slots; /* and their offsets */
};

/* The number of slots of an object of `size` bytes, and the offset of slot i. */
static inline uint64_t type_n_slots(const struct type_info *type, uint64_t size)
{
	if (!type->stride)
		return type->size <= size ? type->n_slots : 0;
	return size > type->size ? (size - type->size) / type->stride : 0;
}
static inline uint64_t type_slot_offset(const struct type_info *type, uint64_t i)
{
	/* read anew, so it may have been damaged since type_find(): it never leads out of the type */
	uint32_t offset;

	if (type->stride)
		return type->size + i * type->stride;
	offset = __atomic_load_n(&type->slots[i], __ATOMIC_RELAXED) & ~UINT32_C(7);
	return offset + UINT64_C(8) <= type->size ? offset : 0;
}
/* Clear the slots of an object that nobody else can reach yet; of a list or queue all bytes. */
void type_clear_slots(const struct type_info *type, void *data, uint64_t size);

int type_register(struct session *session, const struct type_spec *spec, uint32_t *ret);
/* -EINVAL: there is no such type. Needs no lock: an entry that n_types counts never changes. */
int type_find(const struct heap *heap, uint32_t type, struct type_info *ret);
int type_name(const struct heap *heap, uint32_t type, char ret[TYPE_NAME_MAX + 1]);
