// SPDX-License-Identifier: MIT
/*
 * Making objects
 *
 * Most objects are made by one store, of the header's word, in a pool of the session's own (own.c); if that has no
 * room, own_refill() finds some. What is too long for such pools is made here: in one change if it has no slots, else
 * in two. Between these two the object is MAKING, its position is in the session's entry (making1), and its slots
 * are cleared without the lock. The second change makes it LIVE and held. If the session dies in between, recovery
 * frees what making1 names.
 */

#include "heap/object/making.h"
#include "heap/change/lock.h"
#include "heap/memory/memory.h"
#include "heap/object/own.h"

#include <errno.h>

/* One change. */
static int make_at_once(
	struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret)
{
	struct object object;
	uint64_t ref;
	int r;

	r = memory_take(session, SPACE_OBJECTS, size, info->alignment, type, STATE_LIVE, 0, &ref);
	if (r)
		return r;
	r = object_locate(session->heap, ref_position(ref), &object);
	if (r < 0)
		return r;
	heap_set(session->heap, &object.header->word, header_word(object.header) + 1);
	heap_add(session->heap, &session->entry->n_own_holds, 1);
	*ret = ref;
	return 0;
}

static int make_begin(struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret)
{
	int r;

	r = memory_take(session, SPACE_OBJECTS, size, info->alignment, type, STATE_MAKING, 0, ret);
	if (r)
		return r;
	heap_set(session->heap, &session->entry->making1, ref_position(*ret) + 1);
	return 0;
}

static int make_finish(struct session *session, const struct object *object)
{
	struct heap *heap = session->heap;

	heap_set(heap, &object->header->word, header_with_state(header_word(object->header), STATE_LIVE) + 1);
	heap_set(heap, &session->entry->making1, 0);
	heap_add(heap, &session->entry->n_own_holds, 1);
	return 0;
}

static int make_in_two(struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret)
{
	struct object object;
	uint64_t ref;
	int r;

	r = change_begin(session);
	if (r < 0)
		return r;
	r = change_end(session, make_begin(session, type, info, size, &ref));
	if (r)
		return r;
	/* Nobody else can reach the object yet, so this needs neither lock nor log. */
	r = object_locate(session->heap, ref_position(ref), &object);
	if (r < 0)
		return r;
	if (object.size != size) /* a stray write */
		return -EUCLEAN;
	type_clear_slots(info, object.data, size);
	r = change_begin(session);
	if (r < 0)
		return r;
	r = change_end(session, make_finish(session, &object));
	if (!r)
		*ret = ref;
	return r;
}

int making_drop(struct session *session)
{
	uint64_t position = read_once(session->entry->making1) - 1;
	struct object object;

	heap_set(session->heap, &session->entry->making1, 0);
	if (object_locate(session->heap, position, &object) < 0 ||
		header_state(header_word(object.header)) != STATE_MAKING)
		return 0;
	return memory_give(session, position);
}

/* Only in a damaged heap can a making before this one have failed between its two changes. */
static int make_room_for_making(struct session *session)
{
	int r;

	if (!session->entry->making1)
		return 0;
	r = change_begin(session);
	return r < 0 ? r : change_end(session, making_drop(session));
}

static int make_long(struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret)
{
	int r;

	r = make_room_for_making(session);
	if (r)
		return r;
	if (info->stride || info->n_slots)
		return make_in_two(session, type, info, size, ret);
	r = change_begin(session);
	if (r < 0)
		return r;
	return change_end(session, make_at_once(session, type, info, size, ret));
}

static int make(struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret)
{
	int r;

	session->n_collections = 0;
	while ((r = own_new(session, type, info, size, ret)) == OWN_NOT) {
		r = own_refill(session, size, info->alignment);
		if (r == OWN_NOT)
			return make_long(session, type, info, size, ret);
		if (r)
			return r;
	}
	return r;
}

int object_new(struct session *session, uint32_t type, size_t size, uint64_t *ret)
{
	struct type_info info;
	int r;

	if (type == TYPE_BYTES && size - 1 < BLOCK_SIZE_MAX && /* size - 1: a size of 0 becomes very large */
		own_new_bytes(session, (size - 1) >> 3, size, ret, &r))
		return r;
	if (type == TYPE_BYTES && size - 1 < MEDIUM_SIZE_MAX && size > BLOCK_SIZE_MAX &&
		own_new_medium(session, size, ret, &r))
		return r;
	if (type == TYPE_QUEUE)
		return -EINVAL;
	r = type_find(session->heap, type, &info);
	if (r < 0)
		return r;
	if (type == TYPE_LIST && size % 8)
		return -EINVAL;
	if (!size)
		size = info.size;
	if (size < info.size)
		return -EINVAL;
	if (size > session->heap->heap_size)
		return -ENOMEM;
	return make(session, type, &info, size, ret);
}

int queue_new(struct session *session, size_t n, uint64_t *ret)
{
	struct type_info info;
	struct object object;
	uint64_t ref;
	int r;

	if (!n)
		return -EINVAL;
	if (n > session->heap->heap_size / sizeof(struct cell))
		return -ENOMEM;
	r = type_find(session->heap, TYPE_QUEUE, &info);
	if (r < 0)
		return r;
	/* Until n is set it is a queue without cells: an all-zero payload, harmless to the process that finds it. */
	r = make(session, TYPE_QUEUE, &info, sizeof(struct queue) + n * sizeof(struct cell), &ref);
	if (r)
		return r;
	r = object_find(session->heap, ref, &object);
	if (r < 0)
		return r;
	__atomic_store_n(&((struct queue *)(void *)object.data)->n, n, __ATOMIC_RELEASE);
	*ret = ref;
	return 0;
}
