// SPDX-License-Identifier: MIT
/*
 * Slots of lists and structs
 *
 * A slot and the count of the object that it gets change in one change; the old object's right ends in a second one
 * (displaced.c). So a slot is read without the lock (read.c), if the session holds its container; else under the lock.
 */

#include "heap/object/slot.h"
#include "heap/change/lock.h"
#include "heap/object/displaced.h"
#include "heap/object/dying.h"
#include "heap/object/hold.h"
#include "heap/object/own.h"
#include "heap/object/read.h"

#include <errno.h>

static int find_list_slot(struct heap *heap, uint64_t list, uint64_t i, uint64_t **ret)
{
	struct object object;
	struct type_info type;
	int r;

	r = object_find(heap, list, &object);
	if (r < 0)
		return r;
	if (object.type != TYPE_LIST || type_find(heap, TYPE_LIST, &type) < 0)
		return -EINVAL;
	if (i >= object_n_slots(&object, &type))
		return -ERANGE;
	*ret = object_slot(&object, &type, i);
	return 0;
}

static int find_struct_slot(struct heap *heap, uint64_t obj, uint64_t offset, uint64_t **ret)
{
	struct object object;
	struct type_info type;
	int r;

	r = object_find(heap, obj, &object);
	if (r < 0)
		return r;
	r = type_find(heap, object.type, &type);
	if (r < 0)
		return r;
	if (type.stride)
		return -EINVAL;
	for (uint64_t i = 0; i < object_n_slots(&object, &type); i++) {
		if (type.slots[i] == offset) {
			*ret = object_slot(&object, &type, i);
			return 0;
		}
	}
	return -EINVAL;
}

typedef int (*find_slot)(struct heap *heap, uint64_t obj, uint64_t where, uint64_t **ret);

static int set_in_change(struct session *session, uint64_t *slot, uint64_t ref)
{
	struct heap *heap = session->heap;
	struct object new;
	uint64_t old_ref = *slot;
	int r = 0;

	if (ref) {
		r = object_find(heap, ref, &new);
		if (!r)
			r = right_retain(session, &new);
		if (r < 0)
			return r;
	}
	heap_set(heap, slot, ref);
	return displaced_drop(session, old_ref, 0);
}

static int set(struct session *session, find_slot find, uint64_t obj, uint64_t where, uint64_t ref)
{
	uint64_t *slot;
	int r;

	r = change_begin(session);
	if (r < 0)
		return r;
	r = find(session->heap, obj, where, &slot);
	if (!r)
		r = set_in_change(session, slot, ref);
	return dying_free(session, change_end(session, r));
}

static int get_in_change(struct session *session, uint64_t ref)
{
	struct object object;
	int r;

	if (!ref)
		return 0;
	r = object_find(session->heap, ref, &object);
	return r ? r : right_hold(session, ref, &object);
}

static __attribute__((noinline)) int get_locked(
	struct session *session, find_slot find, uint64_t obj, uint64_t where, uint64_t *ret)
{
	uint64_t *slot, ref = 0;
	int r;

	r = change_begin(session);
	if (r < 0)
		return r;
	r = find(session->heap, obj, where, &slot);
	if (!r) {
		ref = *slot;
		r = get_in_change(session, ref);
	}
	r = change_end(session, r);
	if (!r)
		*ret = ref;
	return r;
}

/* In a critical section: does the session hold the container, so that it stays where it is? */
static inline bool is_held(const struct session *session, uint64_t obj)
{
	struct own_object own;

	return hold_find(session, obj) ||
	       (own_is_mine(session, obj) && own_find(session, obj, &own) && header_own(own.word));
}

static inline int get(struct session *session, find_slot find, uint64_t obj, uint64_t where, uint64_t *ret)
{
	struct place place = {.record = NULL};
	uint64_t *slot;
	int r;

	r = hold_reserve(session);
	if (r)
		return r;
	if (!uncounted_begin(session))
		return get_locked(session, find, obj, where, ret);
	r = is_held(session, obj) ? find(session->heap, obj, where, &slot) : READ_NOT;
	if (!r) {
		place.where = slot;
		r = read_place(session, &place, false, ret);
	} else {
		uncounted_end(session);
	}
	if (__builtin_expect(r == READ_NOT, 0) && place.where && uncounted_begin(session)) {
		/* what is there may be in an arena that this process has not noticed yet */
		heap_refresh_arenas(session->heap);
		r = read_place(session, &place, false, ret);
	}
	return __builtin_expect(r != READ_NOT, 1) ? r : get_locked(session, find, obj, where, ret);
}

int list_set(struct session *session, uint64_t list, uint64_t i, uint64_t ref)
{
	return set(session, find_list_slot, list, i, ref);
}

int list_get(struct session *session, uint64_t list, uint64_t i, uint64_t *ret)
{
	return get(session, find_list_slot, list, i, ret);
}

int slot_set(struct session *session, uint64_t obj, uint64_t offset, uint64_t ref)
{
	return set(session, find_struct_slot, obj, offset, ref);
}

int slot_get(struct session *session, uint64_t obj, uint64_t offset, uint64_t *ret)
{
	return get(session, find_struct_slot, obj, offset, ret);
}
