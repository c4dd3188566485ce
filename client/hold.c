// SPDX-License-Identifier: MIT
/*
 * Holding once more, and dropping
 *
 * Each call tries the shortest path first. An object that the session made itself and nobody else holds is counted in
 * its header word, by plain stores (heap/object/own.h); pyheap-inline.h does the same inside programs and calls the two
 * functions at the end of this file for what it leaves over. Every other object is held in the session's hold table
 * (heap/object/count.c): that path begins with session_enter(), as every call does.
 *
 * The short paths need no session_enter(). They find an object only in the session's cache or in its own pools, a
 * forked child finds none there, and each of them looks at `ended` or at the session's requests.
 */
#include "client/call.h"
#include "client/inline.h"
#include "heap/object/count.h"

static SESSION_RARE int incref_slow(pyheap *heap, pyheap_ref ref)
{
	return CALL_CHANGE(heap, true, object_incref_other(&heap->session, ref));
}

PYHEAP_PUBLIC int pyheap_incref(pyheap *heap, pyheap_ref ref)
{
	return heap && own_hold(&heap->session, ref) == 0 ? 0 : incref_slow(heap, ref);
}
INLINE_WHOLE(incref);

static SESSION_RARE int decref_slow(pyheap *heap, pyheap_ref ref)
{
	return CALL_ONCE(heap, true, object_decref_other(&heap->session, ref));
}

PYHEAP_PUBLIC int pyheap_decref(pyheap *heap, pyheap_ref ref)
{
	struct cached_object *cached;
	int r;

	if (!heap)
		return decref_slow(heap, ref);
	cached = cache_object(heap->session.cache, ref);
	if (cached->ref != ref)
		return pyheap_decref_other(heap, ref);
	return own_drop_cached(&heap->session, ref, cached, &r) ? r : decref_slow(heap, ref);
}
INLINE_WHOLE(decref);

PYHEAP_PUBLIC int64_t pyheap_refcount(pyheap *heap, pyheap_ref ref)
{
	return CALL_ONCE(heap, true, object_refcount(&heap->session, ref));
}

/* For the inline pyheap_decref(), which has checked `heap` and searched the cache */

PYHEAP_PUBLIC int pyheap_decref_other(pyheap *heap, pyheap_ref ref)
{
	int r;

	return own_drop_block(&heap->session, ref, &r) ? r : decref_slow(heap, ref);
}

PYHEAP_PUBLIC int pyheap_decref_last(pyheap *heap, pyheap_ref ref, struct pyheap_cached *cached)
{
	int r;

	return own_drop_last(&heap->session, ref, (struct cached_object *)(void *)cached, &r) ? r
											      : decref_slow(heap, ref);
}
