// SPDX-License-Identifier: MIT
/*
 * Objects: from a ref to a header
 *
 * A ref is a position and a generation. Any 64-bit number can be looked up, in constant time and without touching
 * memory outside the heap: the position leads to an arena, which must be in use; the entry of its pool says the kind
 * and the class, and so which block starts there, if any; the block's header must say LIVE with the ref's generation. A
 * small block in an arena of pools is by far the most frequent and is found inline (object.h), a medium one and a run
 * in such an arena next; object_locate() finds everything.
 *
 * An object is alive while its state is LIVE and somebody has a right to it. The header counts that twice: in the word,
 * how often the session that owns its pool holds it, and in the rights, everybody else (right.c). The owner may be
 * letting go of the object between its stores, so the process that is not certain that the object stays alive has the
 * lock.
 */

#include "heap/object/object.h"
#include "heap/change/lock.h"
#include "heap/object/hold.h"
#include "heap/object/own.h"

#include <errno.h>

static int locate_run(const struct heap *heap, struct pool_entry *pool, uint64_t off, struct object *ret)
{
	uint64_t size, n_pools;

	/*
	 * The owner may be making another object of this run. acquire: with the release in own_begin(), so that the
	 * size is not older than the word
	 */
	ret->word = __atomic_load_n(&pool->header.word, __ATOMIC_ACQUIRE);
	size = __atomic_load_n(&pool->run_size, __ATOMIC_RELAXED);
	if (off & (POOL_SIZE - 1))
		return -ESTALE;
	n_pools = __atomic_load_n(&pool->run_n_pools, __ATOMIC_RELAXED);
	if (n_pools > (heap->heap_size - off) >> POOL_SHIFT || size > n_pools << POOL_SHIFT)
		return -EUCLEAN;
	ret->header = &pool->header;
	ret->size = size;
	ret->is_run = true;
	return 0;
}

/* ret->pool becomes the first of a span. */
static int locate_block(struct heap *heap, uint64_t off, struct object *ret, uint32_t *ret_class)
{
	struct pool_entry *pool = pool_at_position(heap, off >> 3);
	uint32_t identity = pool ? read_once(pool->identity) : 0, size_class = identity >> 8 & 0xff, block1;

	if ((identity & 0xff) != POOL_BLOCKS || size_class >= N_CLASSES)
		return -EUCLEAN;
	block1 = pool_block1(heap, pool, size_class, off >> 3);
	if (!block1)
		return -ESTALE;
	*ret_class = size_class;
	ret->pool = pool;
	ret->header = pool_headers(heap, pool) + (block1 - 1);
	ret->is_run = false;
	return 0;
}

bool object_locate_medium(const struct heap *heap, uint64_t position, struct object *ret, uint32_t *ret_span_index)
{
	uint64_t off = position << 3;
	uint32_t size_class, block1;

	/* relaxed, all: as in object_locate_block() */
	if (off >> POOL_SHIFT >= __atomic_load_n(&heap->n_pools_known, __ATOMIC_RELAXED) ||
		arena_state(&heap->arenas[off >> heap->arena_shift]) != ARENA_POOLS)
		return false;
	ret->pool = &heap->pools[off >> POOL_SHIFT];
	ret->identity = __atomic_load_n(&ret->pool->identity, __ATOMIC_RELAXED);
	*ret_span_index = __atomic_load_n(&ret->pool->span_index, __ATOMIC_RELAXED);
	size_class = ret->identity >> 8 & 0xff;
	if ((ret->identity & 0xff) == POOL_BODY) {
		uint32_t in_arena = (uint32_t)(off >> POOL_SHIFT) & (heap->pools_per_arena - 1);

		ret->pool -= *ret_span_index < in_arena ? *ret_span_index : in_arena;
	} else if ((ret->identity & 0xff) != POOL_BLOCKS) {
		return false;
	}
	block1 = class_is_small(size_class) ? 0 : pool_block1(heap, ret->pool, size_class, position);
	if (!block1)
		return false;
	ret->header = pool_headers(heap, ret->pool) + (block1 - 1);
	ret->position = position;
	ret->data = heap->base + off;
	ret->is_run = false;
	/* acquire: as in object_locate_block() */
	ret->word = __atomic_load_n(&ret->header->word, __ATOMIC_ACQUIRE);
	ret->type = header_type(ret->word);
	ret->size = header_size(ret->word);
	return header_state(ret->word) != STATE_FREE && ret->size <= class_shapes[size_class].size;
}

int object_locate(struct heap *heap, uint64_t position, struct object *ret)
{
	uint64_t off = position << 3;
	uint32_t state, kind, size_class = 0;
	int r;

	if (off >= heap->heap_size || !arena_is_there(heap, (uint32_t)(off >> heap->arena_shift)))
		return -ESTALE;
	/* object_locate_block() may have failed only because it did not know the arena. relaxed: as there */
	if (off >> POOL_SHIFT >= __atomic_load_n(&heap->n_pools_known, __ATOMIC_RELAXED))
		heap_refresh_arenas(heap);
	state = arena_state(&heap->arenas[off >> heap->arena_shift]);
	if (state != ARENA_POOLS && state != ARENA_RUN)
		return -ESTALE;
	ret->pool = &heap->pools[off >> POOL_SHIFT];
	ret->position = position;
	ret->data = heap->base + off;
	kind = read_once(ret->pool->kind);
	if (kind == POOL_RUN)
		r = locate_run(heap, ret->pool, off, ret);
	else if (kind == POOL_BLOCKS || kind == POOL_BODY)
		r = locate_block(heap, off, ret, &size_class);
	else
		r = -ESTALE;
	if (r)
		return r;
	if (!ret->is_run)
		ret->word = __atomic_load_n(
			&ret->header->word, __ATOMIC_ACQUIRE); /* acquire: as in object_locate_block() */
	ret->type = header_type(ret->word);
	if (ret->is_run)
		return 0;
	/* Of a free block these bits are a link. */
	ret->size = header_state(ret->word) == STATE_FREE ? 0 : header_size(ret->word);
	return ret->size <= class_shapes[size_class].size ? 0 : -EUCLEAN;
}

int object_match(struct heap *heap, uint64_t ref, struct object *ret)
{
	int r;

	if (!ref_generation(ref) || ref_position(ref) << 3 >= heap->heap_size)
		return -EINVAL;
	r = object_locate(heap, ref_position(ref), ret);
	if (r < 0)
		return r;
	if (header_generation(ret->word) != ref_generation(ref) || header_state(ret->word) != STATE_LIVE)
		return -ESTALE;
	return ret->type == TYPE_HOLDS || ret->type == TYPE_NAME ? -EINVAL : 0;
}

/* relaxed: the process that is not certain that the object stays alive has the lock */
static bool has_rights(const struct object *object)
{
	return header_own(object->word) || rights_are_any(__atomic_load_n(&object->header->rights, __ATOMIC_RELAXED));
}

/*
 * A run in an arena of pools, the next most frequent after blocks. False: it may be something else, see object_match().
 */
static bool find_run(const struct heap *heap, uint64_t ref, struct object *ret)
{
	uint64_t position = ref_position(ref), off = position << 3;

	/* relaxed: as in object_locate_block() */
	if (off & (POOL_SIZE - 1) || off >> POOL_SHIFT >= __atomic_load_n(&heap->n_pools_known, __ATOMIC_RELAXED) ||
		arena_state(&heap->arenas[off >> heap->arena_shift]) != ARENA_POOLS)
		return false;
	ret->pool = &heap->pools[off >> POOL_SHIFT];
	if (read_once(ret->pool->kind) != POOL_RUN || locate_run(heap, ret->pool, off, ret) < 0)
		return false;
	ret->position = position;
	ret->data = heap->base + off;
	ret->type = header_type(ret->word);
	return ref_generation(ref) && header_is(ret->word, ref_generation(ref), STATE_LIVE) &&
	       ret->type != TYPE_HOLDS && ret->type != TYPE_NAME && has_rights(ret);
}

static bool find_medium(const struct heap *heap, uint64_t ref, struct object *ret)
{
	uint32_t span_index;

	return object_locate_medium(heap, ref_position(ref), ret, &span_index) && ref_generation(ref) &&
	       header_is(ret->word, ref_generation(ref), STATE_LIVE) && ret->type != TYPE_HOLDS &&
	       ret->type != TYPE_NAME && has_rights(ret);
}

int object_find_other(struct heap *heap, uint64_t ref, struct object *ret)
{
	int r;

	if (find_medium(heap, ref, ret) || find_run(heap, ref, ret))
		return 0;
	r = object_match(heap, ref, ret);
	return r < 0 || has_rights(ret) ? r : -ESTALE;
}

int object_find(struct heap *heap, uint64_t ref, struct object *ret)
{
	return object_find_block(heap, ref, ret) ? 0 : object_find_other(heap, ref, ret);
}

int object_lookup(struct session *session, uint64_t ref, struct object *ret)
{
	int r;

	if (object_is_held_unlocked(session, ref))
		return object_find_fast(session->heap, ref, ret);
	r = change_begin(session);
	if (r < 0)
		return r;
	return change_end(session, object_find(session->heap, ref, ret));
}

void object_remember(struct session *session, uint64_t ref, const struct object *object)
{
	struct cached_object *cached = cache_object(session->cache, ref);
	struct own_object own;

	if (own_lookup(session, ref, &own) && header_own(own.word))
		own_remember(session, ref, &own);
	else if (hold_find(session, ref))
		session_cache_held(session, ref, object->type != TYPE_QUEUE, object->header);
	if (cached->ref != ref || object->type != TYPE_QUEUE)
		return;
	cached->queue = (struct queue *)(void *)object->data;
	cached->n_cells = cached->queue->n;
	cached->held_header = object->header;
}

bool object_is_held_unlocked(struct session *session, uint64_t ref)
{
	struct own_object own;

	return hold_find(session, ref) || (own_lookup(session, ref, &own) && header_own(own.word));
}

bool object_is_held(const struct session *session, uint64_t ref)
{
	struct own_object own;

	return hold_find(session, ref) || (own_find(session, ref, &own) && header_own(own.word));
}
