// SPDX-License-Identifier: MIT
/*
 * Struct types and their slots: each call is one change of heap/object/type.c or heap/object/slot.c
 */
#include "heap/object/type.h"

#include "client/call.h"
#include "heap/object/slot.h"

#include <assert.h>

static_assert(TYPE_NAME_MAX == PYHEAP_TYPE_NAME_MAX, "the buffer of pyheap_type_name()");
static_assert(SLOTS_PER_TYPE == PYHEAP_TYPE_SLOTS_MAX, "what pyheap.h promises");

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
	return CALL_CHANGE(heap, true, type_register(&heap->session, &type_spec, ret));
}

PYHEAP_PUBLIC int pyheap_type_name(pyheap *heap, pyheap_type type, char ret[PYHEAP_TYPE_NAME_MAX + 1])
{
	return CALL_ONCE(heap, ret, type_name(heap->session.heap, type, ret));
}

PYHEAP_PUBLIC int pyheap_slot_set(pyheap *heap, pyheap_ref obj, size_t offset, pyheap_ref ref)
{
	return CALL_CHANGE(heap, true, slot_set(&heap->session, obj, offset, ref));
}

PYHEAP_PUBLIC int pyheap_slot_get(pyheap *heap, pyheap_ref obj, size_t offset, pyheap_ref *ret)
{
	return CALL_CHANGE(heap, ret, slot_get(&heap->session, obj, offset, ret));
}
