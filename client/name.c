// SPDX-License-Identifier: MIT
/*
 * Names: each call is one change of heap/object/name.c
 */
#include "heap/object/name.h"

#include "client/call.h"

#include <assert.h>

static_assert(NAME_MAX_LENGTH == PYHEAP_NAME_MAX, "the buffer of pyheap_name_next()");

PYHEAP_PUBLIC int pyheap_name_set(pyheap *heap, const char *name, pyheap_ref ref)
{
	return CALL_CHANGE(heap, name, name_set(&heap->session, name, ref));
}

PYHEAP_PUBLIC int pyheap_name_get(pyheap *heap, const char *name, pyheap_ref *ret)
{
	return CALL_CHANGE(heap, name && ret, name_get(&heap->session, name, ret));
}

PYHEAP_PUBLIC int pyheap_name_del(pyheap *heap, const char *name)
{
	return CALL_CHANGE(heap, name, name_del(&heap->session, name));
}

/* CALL_ONCE(): a walk needs no memory, and 1 says that there is a name, not that arenas are wanted. */
PYHEAP_PUBLIC int pyheap_name_next(pyheap *heap, uint64_t *cursor, char name[PYHEAP_NAME_MAX + 1], pyheap_ref *ret)
{
	return CALL_ONCE(heap, cursor && name && ret, name_next(&heap->session, cursor, name, ret));
}
