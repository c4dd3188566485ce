// SPDX-License-Identifier: MIT
/*
 * Making and reading objects
 *
 * The calls that a program makes most often have two paths. The short one finds the object, or a pool with a free
 * block, in the session's cache and asks for nothing else; it is the one that pyheap-inline.h has in programs. It needs
 * no session_enter(): the cache of a forked child is empty, and each short path looks at `ended` or at the session's
 * requests itself. Whatever the short path does not know takes the long one (new_slow(), data_slow()), which begins as
 * every call does.
 *
 * pyheap_put() is two changes, making and filling. A process that dies in between leaves bytes that nobody but itself
 * ever held, and the daemon drops its hold.
 */
#include "heap/object/object.h"
#include "client/call.h"
#include "client/inline.h"
#include "heap/object/cell.h"
#include "heap/object/making.h"

#include <string.h>

/* Making */

static SESSION_RARE int new_slow(pyheap *heap, pyheap_type type, size_t size, pyheap_ref *ret)
{
	return CALL_CHANGE(heap, true, object_new(&heap->session, type, size, ret));
}

PYHEAP_PUBLIC int pyheap_new(pyheap *heap, pyheap_type type, size_t size, pyheap_ref *ret)
{
	int r;

	if (!heap || !ret)
		return -EINVAL;
	/* size - 1: a size of 0 becomes very large */
	if (type == PYHEAP_BYTES && size - 1 < BLOCK_SIZE_MAX &&
		own_new_bytes(&heap->session, (size - 1) >> 3, size, ret, &r))
		return r;
	return new_slow(heap, type, size, ret);
}
INLINE_WHOLE(new);

PYHEAP_PUBLIC int pyheap_new_bytes(pyheap *heap, size_t size_class, size_t size, pyheap_ref *ret)
{
	int r;

	return own_new_bytes(&heap->session, size_class, size, ret, &r) ? r : new_slow(heap, PYHEAP_BYTES, size, ret);
}

PYHEAP_PUBLIC int pyheap_put(pyheap *heap, const void *data, size_t size, pyheap_ref *ret)
{
	struct object object;
	pyheap_ref ref;
	int r = session_enter(heap);

	if (r < 0)
		return r;
	if (!ret || (!data && size > 0))
		return -EINVAL;
	r = pyheap_new(heap, PYHEAP_BYTES, size, &ref);
	if (r < 0)
		return r;
	r = object_lookup(&heap->session, ref, &object);
	if (r < 0) {
		pyheap_decref(heap, ref);
		return r;
	}
	if (size > 0)
		memcpy(object.data, data, size);
	*ret = ref;
	return 0;
}

/* Reading */

static int object_enter(pyheap *heap, pyheap_ref ref, struct object *ret)
{
	return CALL_ONCE(heap, true, object_lookup(&heap->session, ref, ret));
}

/* The payload of an object that is in the cache without it: own_new_bytes() leaves it out. NULL: it is not there. */
static void *data_of_new(pyheap *heap, pyheap_ref ref)
{
	struct cached_object *cached = cache_object(heap->session.cache, ref);

	if (cached->ref != ref || !cached->pool)
		return NULL;
	cached->data = heap->session.base + (ref_position(ref) << 3);
	return cached->data;
}

static SESSION_RARE void *data_slow(pyheap *heap, pyheap_ref ref)
{
	struct own_object own;
	struct object object;
	void *data;
	int r;

	r = session_enter(heap);
	data = r < 0 ? NULL : data_of_new(heap, ref);
	if (data)
		return data;
	if (r == 0 && own_lookup(&heap->session, ref, &own) && header_own(own.word) &&
		header_type(own.word) != PYHEAP_QUEUE) {
		own_remember(&heap->session, ref, &own);
		return heap->session.base + (ref_position(ref) << 3);
	}
	r = object_enter(heap, ref, &object);
	if (r == 0 && object.type == PYHEAP_QUEUE)
		r = -EINVAL;
	if (r < 0) {
		errno = -r;
		return NULL;
	}
	object_remember(&heap->session, ref, &object);
	return object.data;
}

PYHEAP_PUBLIC void *pyheap_data(pyheap *heap, pyheap_ref ref)
{
	const struct cached_object *cached;

	if (!heap)
		return data_slow(heap, ref);
	cached = cache_object(heap->session.cache, ref);
	/* Is data known (not NULL), and does the heap still exist? `ended` is 0, or larger than any address. relaxed:
	 * as in session_ended() */
	if (cached->ref != ref || (uintptr_t)cached->data <= __atomic_load_n(heap->session.ended, __ATOMIC_RELAXED))
		return data_slow(heap, ref);
	return cached->data;
}
INLINE_WHOLE(data);

PYHEAP_PUBLIC ssize_t pyheap_size(pyheap *heap, pyheap_ref ref)
{
	struct object object;
	int r = object_enter(heap, ref, &object);

	if (r < 0)
		return r;
	/* A queue's payload has more than its refs; its size for users is that of its refs alone. */
	if (object.type == PYHEAP_QUEUE)
		return (ssize_t)((object.size - sizeof(struct queue)) / sizeof(struct cell) * sizeof(pyheap_ref));
	return (ssize_t)object.size;
}

PYHEAP_PUBLIC int pyheap_typeof(pyheap *heap, pyheap_ref ref, pyheap_type *ret)
{
	struct object object;
	int r = object_enter(heap, ref, &object);

	if (r < 0)
		return r;
	if (!ret)
		return -EINVAL;
	*ret = object.type;
	return 0;
}
