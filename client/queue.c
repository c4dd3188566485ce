// SPDX-License-Identifier: MIT
/*
 * Queues for the application: each call is one change of heap/object/queue.c, after waiting there for as long as it may
 *
 * A call that wants arenas says so before it waits, so calling it again gives nobody more time than was asked for.
 */
#include "heap/object/making.h"
#include "heap/object/queue.h"

#include "client/session.h"

PYHEAP_PUBLIC int pyheap_queue_new(pyheap *heap, size_t n, pyheap_ref *ret)
{
	int r = session_enter(heap);

	if (r < 0)
		return r;
	if (!ret)
		return -EINVAL;
	do {
		r = queue_new(&heap->session, n, ret);
	} while (session_again(heap, &r));
	return r;
}

PYHEAP_PUBLIC int pyheap_queue_push(pyheap *heap, pyheap_ref queue, pyheap_ref ref, int timeout_ms)
{
	int r = session_enter(heap);

	if (r < 0)
		return r;
	do {
		r = queue_push(&heap->session, queue, ref, timeout_ms);
	} while (session_again(heap, &r));
	return r;
}

PYHEAP_PUBLIC int pyheap_queue_pop(pyheap *heap, pyheap_ref queue, pyheap_ref *ret, int timeout_ms)
{
	int r = session_enter(heap);

	if (r < 0)
		return r;
	if (!ret)
		return -EINVAL;
	do {
		r = queue_pop(&heap->session, queue, ret, timeout_ms);
	} while (session_again(heap, &r));
	return r;
}
