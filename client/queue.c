// SPDX-License-Identifier: MIT
/*
 * Queues: each call is one change of heap/object/queue.c, which also waits for room or for an object
 *
 * A push or pop that wants arenas says so before it waits. Calling it again after a grant therefore never doubles the
 * time that it waits.
 */
#include "heap/object/queue.h"
#include "heap/object/making.h"

#include "client/call.h"

PYHEAP_PUBLIC int pyheap_queue_new(pyheap *heap, size_t n, pyheap_ref *ret)
{
	return CALL_CHANGE(heap, ret, queue_new(&heap->session, n, ret));
}

PYHEAP_PUBLIC int pyheap_queue_push(pyheap *heap, pyheap_ref queue, pyheap_ref ref, int timeout_ms)
{
	return CALL_CHANGE(heap, true, queue_push(&heap->session, queue, ref, timeout_ms));
}

PYHEAP_PUBLIC int pyheap_queue_pop(pyheap *heap, pyheap_ref queue, pyheap_ref *ret, int timeout_ms)
{
	return CALL_CHANGE(heap, ret, queue_pop(&heap->session, queue, ret, timeout_ms));
}
