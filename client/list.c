// SPDX-License-Identifier: MIT
/*
 * Lists: each call is one change of heap/object/slot.c
 */
#include "client/call.h"
#include "heap/object/slot.h"

PYHEAP_PUBLIC int pyheap_list_new(pyheap *heap, size_t n, pyheap_ref *ret)
{
	size_t size;
	int r = session_enter(heap);

	if (r < 0)
		return r;
	if (__builtin_mul_overflow(n, sizeof(pyheap_ref), &size))
		return -ENOMEM;
	return pyheap_new(heap, PYHEAP_LIST, size, ret);
}

PYHEAP_PUBLIC int pyheap_list_set(pyheap *heap, pyheap_ref list, size_t i, pyheap_ref ref)
{
	return CALL_CHANGE(heap, true, list_set(&heap->session, list, i, ref));
}

PYHEAP_PUBLIC int pyheap_list_get(pyheap *heap, pyheap_ref list, size_t i, pyheap_ref *ret)
{
	return CALL_CHANGE(heap, ret, list_get(&heap->session, list, i, ret));
}
