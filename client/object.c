// SPDX-License-Identifier: MIT
/*
 * Objects for the application: making, looking at, holding, dropping
 *
 * Each call is one change of heap/object/object.c. pyheap_put() is two, making and filling: a process that dies in
 * between leaves bytes that nobody but itself ever held, and the daemon drops its hold.
 */
#include "client/session.h"

#include "heap/object/count.h"
#include "heap/object/making.h"
#include "heap/object/object.h"
#include "heap/object/own.h"

#include <string.h>

static SESSION_RARE int new_slowly(pyheap *heap, pyheap_type type, size_t size, pyheap_ref *ret)
{
	int r = session_enter(heap);

	if (r < 0)
		return r;
	do {
		r = object_new(&heap->session, type, size, ret);
	} while (session_again(heap, &r));
	return r;
}

PYHEAP_PUBLIC int pyheap_new(pyheap *heap, pyheap_type type, size_t size, pyheap_ref *ret)
{
	int r;

	if (!heap || !ret)
		return -EINVAL;
	if (type == PYHEAP_BYTES && size - 1 < BLOCK_SIZE_MAX && /* 0 is very large */
		own_new_bytes(&heap->session, (size - 1) >> 3, size, ret, &r))
		return r;
	return new_slowly(heap, type, size, ret);
}

PYHEAP_PUBLIC int pyheap_new_bytes(pyheap *heap, size_t size_class, size_t size, pyheap_ref *ret)
{
	int r;

	return own_new_bytes(&heap->session, size_class, size, ret, &r) ? r : new_slowly(heap, PYHEAP_BYTES, size, ret);
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

static int object_enter(pyheap *heap, pyheap_ref ref, struct object *ret)
{
	int r = session_enter(heap);

	return r < 0 ? r : object_lookup(&heap->session, ref, ret);
}

/* It was made just now: where it lies is noted when that is asked for. NULL: that is not so. */
static void *data_of_new(pyheap *heap, pyheap_ref ref)
{
	struct cached_object *recent = cache_object(heap->session.cache, ref);

	if (recent->ref != ref || !recent->pool)
		return NULL;
	recent->data = heap->session.base + (ref_position(ref) << 3);
	return recent->data;
}

static SESSION_RARE void *data_slowly(pyheap *heap, pyheap_ref ref)
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
	const struct cached_object *recent;

	if (!heap)
		return data_slowly(heap, ref);
	recent = cache_object(heap->session.cache, ref);
	/* Not NULL, and there is a heap still. relaxed: as in session_ended() */
	if (recent->ref != ref || (uintptr_t)recent->data <= __atomic_load_n(heap->session.ended, __ATOMIC_RELAXED))
		return data_slowly(heap, ref);
	return recent->data;
}

PYHEAP_PUBLIC ssize_t pyheap_size(pyheap *heap, pyheap_ref ref)
{
	struct object object;
	int r;

	r = object_enter(heap, ref, &object);
	if (r < 0)
		return r;
	/* What a queue needs beside the refs in it is not its user's affair. */
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

static SESSION_RARE int incref_slowly(pyheap *heap, pyheap_ref ref)
{
	int r = session_enter(heap);

	if (r < 0)
		return r;
	do {
		r = object_incref_other(&heap->session, ref);
	} while (session_again(heap, &r));
	return r;
}

PYHEAP_PUBLIC int pyheap_incref(pyheap *heap, pyheap_ref ref)
{
	return heap && own_hold(&heap->session, ref) == 0 ? 0 : incref_slowly(heap, ref);
}

static SESSION_RARE int decref_any(pyheap *heap, pyheap_ref ref)
{
	int r = session_enter(heap);

	return r < 0 ? r : object_decref_other(&heap->session, ref);
}

PYHEAP_PUBLIC int pyheap_decref_other(pyheap *heap, pyheap_ref ref)
{
	int r;

	return own_drop_block(&heap->session, ref, &r) ? r : decref_any(heap, ref);
}

PYHEAP_PUBLIC int pyheap_decref(pyheap *heap, pyheap_ref ref)
{
	struct cached_object *recent;
	int r;

	if (!heap)
		return decref_any(heap, ref);
	recent = cache_object(heap->session.cache, ref);
	if (recent->ref != ref)
		return pyheap_decref_other(heap, ref);
	return own_drop_cached(&heap->session, ref, recent, &r) ? r : decref_any(heap, ref);
}

PYHEAP_PUBLIC int pyheap_decref_last(pyheap *heap, pyheap_ref ref, struct pyheap_recent *recent)
{
	int r;

	return own_drop_last(&heap->session, ref, (struct cached_object *)(void *)recent, &r) ? r
											      : decref_any(heap, ref);
}

/* For the inline calls: what they call must have other names than they. */
#define WHOLE(name)                                                                                                    \
	extern PYHEAP_PUBLIC __typeof__(pyheap_##name) pyheap_whole_##name __attribute__((alias("pyheap_" #name)))
WHOLE(new);
WHOLE(data);
WHOLE(incref);
WHOLE(decref);

PYHEAP_PUBLIC int64_t pyheap_refcount(pyheap *heap, pyheap_ref ref)
{
	int r = session_enter(heap);

	return r < 0 ? r : object_refcount(&heap->session, ref);
}
