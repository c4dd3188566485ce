// SPDX-License-Identifier: MIT
/*
 * Types: a name, a size, an alignment and the offsets of the slots
 *
 * Entries are only added. An entry is written behind the last one, where nobody reads, and becomes known when n_types
 * is raised, which is the whole change. So an entry that n_types counts never changes and is read without the lock.
 *
 * Because n_types is read without the lock it must never go down: a type number that somebody has guessed and used
 * would mean another type later. So this one store does not go through the log. All other stores are committed before
 * it and mean nothing without it: after a death in between, the next registration writes to the same places again.
 *
 * Types stay for as long as the heap, and there are TYPES_MAX. So a user may register a number of them, which the
 * daemon has written into its sessions' entries. This keeps programs that make types without end from taking them all;
 * it does not keep a client out that writes to the table by itself.
 */

#include "heap/object/type.h"
#include "heap/change/lock.h"
#include "heap/object/utf8.h"

#include <errno.h>
#include <string.h>

#define ALIGNMENT_MAX 4096U

/* Finding */

static uint32_t n_types(const struct heap *heap)
{
	uint32_t n =
		__atomic_load_n(&heap->control->n_types, __ATOMIC_ACQUIRE); /* acquire: the entries that it counts */

	return n < TYPES_MAX ? n : TYPES_MAX;
}

static const struct type_entry *registered(const struct heap *heap, uint32_t type)
{
	if (type < TYPE_FIRST_REGISTERED || type - TYPE_FIRST_REGISTERED >= n_types(heap))
		return NULL;
	return &heap->types[type - TYPE_FIRST_REGISTERED];
}

int type_find(const struct heap *heap, uint32_t type, struct type_info *ret)
{
	const struct type_entry *entry;
	uint32_t first_slot;

	*ret = (struct type_info){0};
	switch (type) {
	case TYPE_BYTES:
		return 0;
	case TYPE_LIST:
		ret->stride = sizeof(uint64_t);
		return 0;
	case TYPE_QUEUE:
		ret->stride = sizeof(struct cell);
		ret->size = sizeof(struct queue);
		ret->alignment = sizeof(struct cell);
		return 0;
	default:
		break;
	}
	entry = registered(heap, type);
	if (!entry)
		return -EINVAL;
	/* relaxed, and once: what is checked is what is used */
	ret->size = __atomic_load_n(&entry->size, __ATOMIC_RELAXED);
	ret->alignment = __atomic_load_n(&entry->alignment, __ATOMIC_RELAXED);
	ret->n_slots = __atomic_load_n(&entry->n_slots, __ATOMIC_RELAXED);
	first_slot = __atomic_load_n(&entry->first_slot, __ATOMIC_RELAXED);
	if (ret->n_slots > SLOTS_PER_TYPE || first_slot > TYPE_SLOTS_MAX - SLOTS_PER_TYPE)
		return -EUCLEAN;
	ret->slots = heap->type_slots + first_slot;
	for (uint32_t i = 0; i < ret->n_slots; i++) {
		uint32_t offset = read_once(ret->slots[i]);

		if (offset & 7 || ret->size < 8 || offset > ret->size - 8)
			return -EUCLEAN;
	}
	return 0;
}

void type_clear_slots(const struct type_info *type, void *data, uint64_t size)
{
	if (type->stride) {
		memset(data, 0, size);
		return;
	}
	for (uint32_t i = 0; i < type->n_slots; i++)
		memset((uint8_t *)data + type_slot_offset(type, i), 0, sizeof(uint64_t));
}

static const char *const built_in[] = {[TYPE_BYTES] = "bytes", [TYPE_LIST] = "list", [TYPE_QUEUE] = "queue"};

int type_name(const struct heap *heap, uint32_t type, char ret[64])
{
	const struct type_entry *entry = registered(heap, type);

	if (type >= TYPE_BYTES && type <= TYPE_QUEUE)
		strcpy(ret, built_in[type]);
	else if (entry) {
		memcpy(ret, entry->name, 63);
		ret[63] = '\0';
	} else
		return -EINVAL;
	return 0;
}

/* Registering */

static int spec_check(const struct type_spec *spec)
{
	int r = utf8_check(spec->name, TYPE_NAME_MAX);

	if (r < 0)
		return r;
	if (!spec->size || spec->size > HEAP_SIZE_MAX || spec->n_slots > SLOTS_PER_TYPE ||
		(spec->n_slots && !spec->slots))
		return -EINVAL;
	if (spec->alignment > ALIGNMENT_MAX || (spec->alignment & (spec->alignment - 1)))
		return -EINVAL;
	for (size_t i = 0; i < spec->n_slots; i++) {
		if (spec->slots[i] & 7 || spec->size < 8 || spec->slots[i] > spec->size - 8 ||
			spec->slots[i] > UINT32_MAX)
			return -EINVAL;
		if (i && spec->slots[i] <= spec->slots[i - 1])
			return -EINVAL;
	}
	return 0;
}

static bool is_same(const struct heap *heap, const struct type_entry *entry, const struct type_spec *spec)
{
	uint32_t first_slot;

	if (entry->size != spec->size || entry->alignment != spec->alignment || entry->n_slots != spec->n_slots)
		return false;
	first_slot = __atomic_load_n(&entry->first_slot, __ATOMIC_RELAXED);
	if (first_slot > TYPE_SLOTS_MAX - SLOTS_PER_TYPE)
		return false;
	for (size_t i = 0; i < spec->n_slots; i++)
		if (heap->type_slots[first_slot + i] != spec->slots[i])
			return false;
	return true;
}

/*
 * First slot behind those of the last entry. n_type_slots does not say: a type that never became known may have raised
 * it.
 */
static int first_free_slot(const struct heap *heap, uint32_t n, uint32_t *ret)
{
	const struct type_entry *last = n ? &heap->types[n - 1] : NULL;

	uint32_t first = last ? __atomic_load_n(&last->first_slot, __ATOMIC_RELAXED) : 0;
	uint32_t n_slots = last ? __atomic_load_n(&last->n_slots, __ATOMIC_RELAXED) : 0;

	if (first > TYPE_SLOTS_MAX || n_slots > SLOTS_PER_TYPE)
		return -EUCLEAN;
	*ret = first + n_slots;
	return 0;
}

/* Has the session's user registered as many types as it may? */
static bool is_over_limit(const struct session *session, uint32_t n)
{
	/* relaxed, both: the daemon writes them before the session knows its entry */
	uint32_t n_max = __atomic_load_n(&session->entry->max_types, __ATOMIC_RELAXED);
	uint32_t uid = __atomic_load_n(&session->entry->uid, __ATOMIC_RELAXED), n_own = 0;

	for (uint32_t i = 0; n_max && i < n; i++)
		n_own += session->heap->types[i].uid == uid;
	return n_max && n_own >= n_max;
}

static int register_in_change(struct session *session, const struct type_spec *spec, uint32_t *ret)
{
	struct heap *heap = session->heap;
	uint32_t n = n_types(heap);
	uint32_t first_slot;
	struct type_entry *entry;
	int r;

	for (uint32_t i = TYPE_BYTES; i <= TYPE_QUEUE; i++)
		if (!strcmp(built_in[i], spec->name))
			return -EEXIST;
	for (uint32_t i = 0; i < n; i++) {
		if (strncmp(heap->types[i].name, spec->name, sizeof(heap->types[i].name)) != 0)
			continue;
		*ret = TYPE_FIRST_REGISTERED + i;
		return is_same(heap, &heap->types[i], spec) ? 0 : -EEXIST;
	}
	r = first_free_slot(heap, n, &first_slot);
	if (r < 0)
		return r;
	/* type_find() accepts up to SLOTS_PER_TYPE slots from a type's first: they must lie within the table. */
	if (n >= TYPES_MAX || first_slot > TYPE_SLOTS_MAX - SLOTS_PER_TYPE)
		return -ENOSPC;
	if (is_over_limit(session, n))
		return -EDQUOT;

	entry = &heap->types[n];
	*entry = (struct type_entry){.size = spec->size,
		.alignment = (uint32_t)spec->alignment,
		.n_slots = (uint32_t)spec->n_slots,
		.first_slot = first_slot,
		.uid = __atomic_load_n(&session->entry->uid, __ATOMIC_RELAXED)}; /* as above */
	strncpy(entry->name, spec->name, sizeof(entry->name) - 1);
	for (size_t i = 0; i < spec->n_slots; i++)
		heap->type_slots[first_slot + i] = (uint32_t)spec->slots[i];
	heap_set(heap, &heap->control->n_type_slots, first_slot + spec->n_slots);
	change_commit(heap);
	/*
	 * The change. release: the entry before its number, see type_find(). The commit above comes first, because this
	 * store is not in the log.
	 */
	__atomic_store_n(&heap->control->n_types, n + 1, __ATOMIC_RELEASE);
	*ret = TYPE_FIRST_REGISTERED + n;
	return 0;
}

int type_register(struct session *session, const struct type_spec *spec, uint32_t *ret)
{
	uint32_t type = 0;
	int r;

	r = spec_check(spec);
	if (r < 0)
		return r;
	r = change_begin(session);
	if (r < 0)
		return r;
	r = change_end(session, register_in_change(session, spec, &type));
	if (!r)
		*ret = type;
	return r;
}
