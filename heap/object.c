/* SPDX-License-Identifier: MIT */
/*
 * Objects: refs checked, objects made, held, dropped and taken down
 *
 * The count in an object's header says how many have a right to it: each session that holds it (once, however often:
 * how often is the session's own affair, in its hold table), each slot, queue place and name. When it falls to 0 the
 * object goes at once if it has no slots; else it turns DYING and goes on the dying list of the session that dropped
 * it, linked through the info words. That session takes its list down after the change, in changes of at most DROP_STEP
 * slots each, so that the lock is never held long and no stack grows however deep the lists. What a slot held and is
 * not dropped yet still counts. A session that dies leaves its list to the daemon, which goes on where it stopped.
 *
 * Making an object is one change. Where many slots have to be cleared (runs), it is two: the object is MAKING, written
 * down in the session's entry, while its slots are cleared outside of the lock; then it is LIVE and held. Died in
 * between, the daemon frees what the entry names.
 */

#include "heap/object.h"
#include "heap/hold.h"

#include <errno.h>
#include <string.h>

#define DROP_STEP 64U /* slots dropped in one change */
#define COUNT_MAX ((UINT64_C(1) << 34) - 1)

/* ---- refs -------------------------------------------------------------------------------------------------------- */

static int locate_run(struct heap *heap, struct pool_entry *pool, uint64_t off, struct object *ret)
{
	if (off & (POOL_SIZE - 1))
		return -ESTALE;
	if (pool->run_n_pools > (heap->heap_size - off) >> POOL_SHIFT || pool->run_size > (uint64_t)pool->run_n_pools
												  << POOL_SHIFT)
		return -EUCLEAN;
	ret->header = &pool->header;
	ret->size = pool->run_size;
	ret->is_run = true;
	return 0;
}

static int locate_block(struct heap *heap, struct pool_entry *pool, uint64_t off, struct object *ret)
{
	uint32_t in_page = (uint32_t)(off & (POOL_SIZE - 1));
	uint32_t size_class = pool->size_class;
	uint32_t first, i, size;

	if (size_class >= N_CLASSES)
		return -EUCLEAN;
	first = block_offset(size_class, 0);
	size = class_block_size(size_class);
	if (in_page < first || (in_page - first) % size)
		return -ESTALE;
	i = (in_page - first) / size;
	if (i >= class_pool_blocks(size_class))
		return -ESTALE;
	ret->header = (struct object_header *)(void *)(heap->base + (off & ~(uint64_t)(POOL_SIZE - 1))) + i;
	ret->size = header_size(ret->header->info);
	ret->is_run = false;
	/* A free block's is 0, and one that was never carved has a header of zeroes. */
	return ret->size <= size ? 0 : -EUCLEAN;
}

int object_locate(struct heap *heap, uint64_t position, struct object *ret)
{
	uint64_t off = position << 3;
	uint32_t index = (uint32_t)(off >> POOL_SHIFT);
	uint32_t state;
	int r;

	if (off >= heap->heap_size || !arena_is_there(heap, index / heap->pools_per_arena))
		return -ESTALE;
	state = heap->arenas[index / heap->pools_per_arena].state;
	if (state != ARENA_POOLS && state != ARENA_RUN)
		return -ESTALE;
	ret->pool = &heap->pools[index];
	ret->position = position;
	ret->data = heap->base + off;
	if (ret->pool->kind == POOL_RUN)
		r = locate_run(heap, ret->pool, off, ret);
	else if (ret->pool->kind == POOL_BLOCKS)
		r = locate_block(heap, ret->pool, off, ret);
	else
		r = -ESTALE;
	if (!r)
		ret->type = header_type(ret->header->info);
	return r;
}

int object_find(struct heap *heap, uint64_t ref, struct object *ret)
{
	uint64_t word;
	int r;

	if (!ref_generation(ref) || ref_position(ref) << 3 >= heap->heap_size)
		return -EINVAL;
	r = object_locate(heap, ref_position(ref), ret);
	if (r < 0)
		return r;
	word = __atomic_load_n(&ret->header->word, __ATOMIC_RELAXED); /* others change the count of what is held here */
	if (word >> REF_POSITION_BITS != ref_generation(ref) || header_state(word) != STATE_LIVE)
		return -ESTALE;
	if (ret->type == TYPE_HOLDS || ret->type == TYPE_NAME)
		return -EINVAL;
	return 0;
}

int object_look(struct session *session, uint64_t ref, struct object *ret)
{
	int r;

	if (hold_find(session, ref))
		return object_find(session->heap, ref, ret);
	r = change_begin(session);
	if (r < 0)
		return r;
	return change_end(session, object_find(session->heap, ref, ret));
}

/* ---- slots of any type ------------------------------------------------------------------------------------------- */

uint64_t object_n_slots(const struct object *object, const struct type_info *type)
{
	if (!type->is_array)
		return type->size <= object->size ? type->n_slots : 0;
	return object->size > type->size ? (object->size - type->size) / 8 : 0;
}

uint64_t *object_slot(const struct object *object, const struct type_info *type, uint64_t i)
{
	uint64_t off = type->is_array ? type->size + i * 8 : type->slots[i];

	return (uint64_t *)(void *)(object->data + off);
}

static void slots_clear(const struct object *object, const struct type_info *type)
{
	if (type->is_array) {
		memset(object->data, 0, object->size);
		return;
	}
	for (uint32_t i = 0; i < type->n_slots; i++)
		*object_slot(object, type, i) = 0;
}

/* ---- counts ------------------------------------------------------------------------------------------------------ */

int object_retain(struct session *session, const struct object *what)
{
	if (header_count(what->header->word) == COUNT_MAX)
		return -EOVERFLOW;
	heap_set(session->heap, &what->header->word, what->header->word + 1);
	return 0;
}

static void dying_push(struct session *session, const struct object *what)
{
	struct heap *heap = session->heap;
	uint64_t info = what->header->info & ((UINT64_C(1) << 26) - 1);
	uint64_t word = what->header->word & ~(UINT64_C(3) << 34);

	heap_set(heap, &what->header->word, word | (uint64_t)STATE_DYING << 34);
	heap_set(heap, &what->header->info, info | session->entry->dying1 << 26);
	heap_set(heap, &session->entry->dying1, what->position + 1);
}

int object_drop(struct session *session, const struct object *what)
{
	struct type_info type;

	if (!header_count(what->header->word))
		return -EUCLEAN;
	heap_set(session->heap, &what->header->word, what->header->word - 1);
	if (header_count(what->header->word))
		return 0;
	if (type_find(session->heap, what->type, &type) < 0 || !object_n_slots(what, &type))
		return memory_give(session, what->position);
	dying_push(session, what);
	return 0;
}

/* ---- taking down ------------------------------------------------------------------------------------------------- */

static int drop_slot(struct session *session, const uint64_t *slot)
{
	uint64_t ref = __atomic_load_n(slot, __ATOMIC_RELAXED);
	struct object child;

	/* What a stray write put there names nothing and is passed over. */
	if (!ref || object_find(session->heap, ref, &child) < 0)
		return 0;
	return object_drop(session, &child);
}

/* The next slots of the first dying object; when they are the last, it comes off the list before its children come on.
 */
static int take_down_some(struct session *session)
{
	struct heap *heap = session->heap;
	struct object object;
	struct type_info type;
	uint64_t i, n, end;
	int r;

	r = object_locate(heap, session->entry->dying1 - 1, &object);
	if (r < 0 || header_state(object.header->word) != STATE_DYING || type_find(heap, object.type, &type) < 0)
		return -EUCLEAN;
	n = object_n_slots(&object, &type);
	i = object.is_run ? object.pool->run_n_dropped : 0;
	end = object.is_run && n - i > DROP_STEP ? i + DROP_STEP : n;
	if (end == n)
		heap_set(heap, &session->entry->dying1, header_link(object.header->info));
	else
		heap_set(heap, &object.pool->run_n_dropped, end);
	for (; i < end; i++) {
		r = drop_slot(session, object_slot(&object, &type, i));
		if (r < 0)
			return r;
	}
	return end == n ? memory_give(session, object.position) : 0;
}

int dying_step(struct session *session, bool try)
{
	int r;

	if (!session->entry->dying1)
		return 0;
	r = try ? change_try_begin(session) : change_begin(session);
	if (r < 0)
		return r;
	r = session->entry->dying1 ? take_down_some(session) : 0;
	r = change_end(session, r);
	return r < 0 ? r : 1;
}

int take_down(struct session *session, int result)
{
	while (dying_step(session, false) > 0)
		;
	return result;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

/* In one change: slots of a block are cleared under the lock, at most BLOCK_SIZE_MAX bytes. */
static int make_at_once(
	struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret)
{
	struct object object;
	uint64_t ref;
	bool first;
	int r;

	r = memory_take(session, SPACE_OBJECTS, size, info->alignment, type, STATE_LIVE, 1, &ref);
	if (r)
		return r;
	r = object_locate(session->heap, ref_position(ref), &object);
	if (r < 0)
		return r;
	if (!object.is_run)
		slots_clear(&object, info);
	r = hold_add(session, ref, &first);
	if (!r)
		*ret = ref;
	return r;
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

static int make_finish(struct session *session, const struct object *object, uint64_t ref)
{
	struct heap *heap = session->heap;
	bool first;

	heap_set(heap, &object->header->word, header_word(ref_generation(ref), STATE_LIVE, 1));
	heap_set(heap, &session->entry->making1, 0);
	return hold_add(session, ref, &first);
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
	/* Nobody else can reach it now, so neither lock nor log. */
	r = object_locate(session->heap, ref_position(ref), &object);
	if (r < 0)
		return r;
	slots_clear(&object, info);
	r = change_begin(session);
	if (r < 0)
		return r;
	r = change_end(session, make_finish(session, &object, ref));
	if (!r)
		*ret = ref;
	return r;
}

int making_drop(struct session *session)
{
	uint64_t position = session->entry->making1 - 1;
	struct object object;

	heap_set(session->heap, &session->entry->making1, 0);
	if (object_locate(session->heap, position, &object) < 0 || header_state(object.header->word) != STATE_MAKING)
		return 0;
	return memory_give(session, position);
}

/* Only where the heap is damaged can a making before this one have failed between its two changes. */
static int make_room_for_making(struct session *session)
{
	int r;

	if (!session->entry->making1)
		return 0;
	r = change_begin(session);
	return r < 0 ? r : change_end(session, making_drop(session));
}

static int make(struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret)
{
	int r;

	r = make_room_for_making(session);
	if (!r)
		r = hold_reserve(session);
	if (r)
		return r;
	if ((size > BLOCK_SIZE_MAX || info->alignment > 16) && (info->is_array || info->n_slots))
		return make_in_two(session, type, info, size, ret);
	r = change_begin(session);
	if (r < 0)
		return r;
	return change_end(session, make_at_once(session, type, info, size, ret));
}

int object_new(struct session *session, uint32_t type, size_t size, uint64_t *ret)
{
	struct type_info info;
	int r;

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
	if (n > session->heap->heap_size / 8)
		return -ENOMEM;
	r = type_find(session->heap, TYPE_QUEUE, &info);
	if (r < 0)
		return r;
	/* Until it has its number of places it is a queue of none: an all-zero payload, harmless to whoever finds it.
	 */
	r = make(session, TYPE_QUEUE, &info, sizeof(struct queue) + n * 8, &ref);
	if (r)
		return r;
	r = object_find(session->heap, ref, &object);
	if (r < 0)
		return r;
	__atomic_store_n(&((struct queue *)(void *)object.data)->n, n, __ATOMIC_RELEASE);
	*ret = ref;
	return 0;
}

/* ---- holds ------------------------------------------------------------------------------------------------------- */

/*
 * How often a session holds what it holds is its own affair: one relaxed store to its own table, which is the whole
 * change. Nobody's count depends on it, and who reads it (object_refcount()) wants no more than a moment's figure.
 */
static bool hold_again(struct hold *hold)
{
	if (!hold || hold->count == UINT32_MAX)
		return false;
	__atomic_store_n(&hold->count, hold->count + 1, __ATOMIC_RELAXED);
	return true;
}

static bool hold_once_less(struct hold *hold)
{
	if (!hold || hold->count < 2)
		return false;
	__atomic_store_n(&hold->count, hold->count - 1, __ATOMIC_RELAXED);
	return true;
}

int object_incref(struct session *session, uint64_t ref)
{
	struct object object;
	bool first;
	int r;

	if (hold_again(hold_find(session, ref)))
		return 0;
	r = hold_reserve(session);
	if (r)
		return r;
	r = change_begin(session);
	if (r < 0)
		return r;
	r = object_find(session->heap, ref, &object);
	if (!r)
		r = hold_add(session, ref, &first);
	if (!r && first)
		r = object_retain(session, &object);
	return change_end(session, r);
}

int object_decref(struct session *session, uint64_t ref)
{
	struct object object;
	struct hold *hold;
	int r;

	if (hold_once_less(hold_find(session, ref)))
		return 0;
	r = change_begin(session);
	if (r < 0)
		return r;
	r = object_find(session->heap, ref, &object);
	if (!r) {
		hold = hold_find(session, ref);
		if (!hold)
			r = -EPERM;
		else if (hold_remove(session, hold))
			r = object_drop(session, &object);
	}
	r = take_down(session, change_end(session, r));
	hold_shrink(session);
	return r;
}

/* What sessions hold more than once is in their tables only. */
static int64_t count_rights(struct heap *heap, const struct object *object, uint64_t ref)
{
	uint64_t n = header_count(object->header->word);

	for (uint32_t i = 0; i < heap->n_sessions; i++) {
		const struct session_entry *entry = &heap->sessions[i];
		const struct hold *hold = entry->n_holds ? hold_lookup(heap, entry, ref) : NULL;

		if (hold)
			n += __atomic_load_n(&hold->count, __ATOMIC_RELAXED) - 1;
	}
	return (int64_t)n;
}

int64_t object_refcount(struct session *session, uint64_t ref)
{
	struct object object;
	int64_t n = 0;
	int r;

	r = change_begin(session);
	if (r < 0)
		return r;
	r = object_find(session->heap, ref, &object);
	if (!r)
		n = count_rights(session->heap, &object, ref);
	r = change_end(session, r);
	return r < 0 ? r : n;
}
