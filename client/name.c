// SPDX-License-Identifier: MIT
/*
 * Names for the application: each call is one change of heap/object/name.c
 */
#include "heap/object/name.h"

#include "client/session.h"

PYHEAP_PUBLIC int pyheap_name_set(pyheap *heap, const char *name, pyheap_ref ref)
{
	int r = session_enter(heap);

	if (r < 0)
		return r;
	if (!name)
		return -EINVAL;
	do {
		r = name_set(&heap->session, name, ref);
	} while (session_again(heap, &r));
	return r;
}

PYHEAP_PUBLIC int pyheap_name_get(pyheap *heap, const char *name, pyheap_ref *ret)
{
	int r = session_enter(heap);

	if (r < 0)
		return r;
	if (!name || !ret)
		return -EINVAL;
	do {
		r = name_get(&heap->session, name, ret);
	} while (session_again(heap, &r));
	return r;
}

PYHEAP_PUBLIC int pyheap_name_del(pyheap *heap, const char *name)
{
	int r = session_enter(heap);

	if (r < 0)
		return r;
	if (!name)
		return -EINVAL;
	do {
		r = name_del(&heap->session, name);
	} while (session_again(heap, &r));
	return r;
}

PYHEAP_PUBLIC int pyheap_name_next(pyheap *heap, uint64_t *cursor, char name[PYHEAP_NAME_MAX + 1], pyheap_ref *ret)
{
	int r = session_enter(heap);

	if (r < 0)
		return r;
	/* 1 is a name here: a walk needs no memory. */
	return cursor && name && ret ? name_next(&heap->session, cursor, name, ret) : -EINVAL;
}
