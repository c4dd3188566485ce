// SPDX-License-Identifier: MIT
/*
 * Looking at the heap, for the application: figures, sessions, and whether all is well
 */
#include "client/session.h"

#include "heap/repair/check.h"
#include "heap/repair/repair.h"

PYHEAP_PUBLIC int pyheap_get_stats(pyheap *heap, pyheap_stats *ret)
{
	int r = session_enter(heap);
	uint32_t cursor = 0;

	if (r < 0)
		return r;
	if (!ret)
		return -EINVAL;
	while (heap_stats_step(&heap->session, &cursor, ret))
		;
	return 0;
}

PYHEAP_PUBLIC int pyheap_client_next(pyheap *heap, uint64_t *cursor, pyheap_client_info *ret)
{
	int r = session_enter(heap);

	if (r < 0)
		return r;
	return cursor && ret ? heap_client_next(&heap->session, cursor, ret) : -EINVAL;
}

PYHEAP_PUBLIC int64_t pyheap_check(pyheap *heap, void (*report)(void *userdata, const char *fault), void *userdata)
{
	int r = session_enter(heap);

	return r < 0 ? r : heap_check(&heap->session, report, userdata);
}

PYHEAP_PUBLIC int64_t pyheap_repair(pyheap *heap, void (*report)(void *userdata, const char *fault), void *userdata)
{
	int r = session_enter(heap);

	return r < 0 ? r : heap_repair(&heap->session, report, userdata);
}
