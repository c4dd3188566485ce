// SPDX-License-Identifier: MIT
/*
 * Struct types and their slots for the application: each call is one change of heap/object/type.c or heap/object/slot.c
 */
#include "heap/object/type.h"

#include "client/session.h"
#include "heap/object/slot.h"

PYHEAP_PUBLIC int pyheap_type_register(pyheap *heap, const pyheap_type_spec *spec, pyheap_type *ret)
{
	struct type_spec type_spec;
	int r = session_enter(heap);

	if (r < 0)
		return r;
	if (!spec || !spec->name || !ret || (!spec->slots && spec->n_slots > 0))
		return -EINVAL;
	type_spec = (struct type_spec){
		.name = spec->name,
		.size = spec->size,
		.alignment = spec->alignment,
		.n_slots = spec->n_slots,
		.slots = spec->slots,
	};
	do {
		r = type_register(&heap->session, &type_spec, ret);
	} while (session_again(heap, &r));
	return r;
}

PYHEAP_PUBLIC int pyheap_type_name(pyheap *heap, pyheap_type type, char ret[PYHEAP_TYPE_NAME_MAX + 1])
{
	int r = session_enter(heap);

	if (r < 0)
		return r;
	return ret ? type_name(heap->session.heap, type, ret) : -EINVAL;
}

PYHEAP_PUBLIC int pyheap_slot_set(pyheap *heap, pyheap_ref obj, size_t offset, pyheap_ref ref)
{
	int r = session_enter(heap);

	if (r < 0)
		return r;
	do {
		r = slot_set(&heap->session, obj, offset, ref);
	} while (session_again(heap, &r));
	return r;
}

PYHEAP_PUBLIC int pyheap_slot_get(pyheap *heap, pyheap_ref obj, size_t offset, pyheap_ref *ret)
{
	int r = session_enter(heap);

	if (r < 0)
		return r;
	if (!ret)
		return -EINVAL;
	do {
		r = slot_get(&heap->session, obj, offset, ret);
	} while (session_again(heap, &r));
	return r;
}
