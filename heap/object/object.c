/* SPDX-License-Identifier: MIT */
/*
 * Objects: refs checked, objects made, held, dropped and taken down
 *
 * Who has a right to an object is counted in its header: how often the session that owns its pool holds it in the one
 * word, all others in the other (a session that holds it by its hold table counts once, however often; each slot, queue
 * place and name counts once). The first is the owner's own affair (own.c). The second has two parts that are added:
 * one is changed by claiming it under the lock, here, or by who it is biased to (count.c); to the other the owner alone
 * adds what it gives away (queue.c), so that neither overwrites what the other one does.
 *
 * When nobody has a right any more the object goes at once if it has no slots; else it turns DYING and goes on the
 * dying list of the session that dropped it, linked through the second words. That session takes its list down after
 * the change, in changes of at most DROP_STEP slots each, so that the lock is never held long and no stack grows
 * however deep the lists. What a slot held and is not dropped yet still counts. A session that dies leaves its list to
 * the daemon, which goes on where it stopped.
 *
 * Making an object is one store, of its header's word (own.c). One that is too long for that way is made in one change,
 * or, where slots have to be cleared, in two: the object is MAKING, written down in the session's entry, while its
 * slots are cleared outside of the lock; then it is LIVE and held. Died in between, the daemon frees what the entry
 * names.
 */

#include "heap/object/object.h"
#include "heap/object/hold.h"
#include "heap/object/own.h"

#include <errno.h>

/* ---- refs -------------------------------------------------------------------------------------------------------- */

static int locate_run(const struct heap *heap, struct pool_entry *pool, uint64_t off, struct object *ret)
{
	uint64_t size;

	/* Its owner may be making another object of it. acquire: with the release in own_begin(), so that the size is
	 * not older than the word. */
	ret->word = __atomic_load_n(&pool->header.word, __ATOMIC_ACQUIRE);
	size = __atomic_load_n(&pool->run_size, __ATOMIC_RELAXED);
	if (off & (POOL_SIZE - 1))
		return -ESTALE;
	if (pool->run_n_pools > (heap->heap_size - off) >> POOL_SHIFT || size > (uint64_t)pool->run_n_pools
											 << POOL_SHIFT)
		return -EUCLEAN;
	ret->header = &pool->header;
	ret->size = size;
	ret->is_run = true;
	return 0;
}

static int locate_block(struct heap *heap, struct pool_entry *pool, uint64_t off, struct object *ret)
{
	uint32_t size_class = pool->size_class, block1;

	if (size_class >= N_CLASSES)
		return -EUCLEAN;
	block1 = block_at_position(size_class, off >> 3);
	if (!block1)
		return -ESTALE;
	ret->header = pool_headers(heap, pool) + (block1 - 1);
	ret->is_run = false;
	return 0;
}

int object_locate(struct heap *heap, uint64_t position, struct object *ret)
{
	uint64_t off = position << 3;
	uint32_t state;
	int r;

	if (off >= heap->heap_size || !arena_is_there(heap, (uint32_t)(off >> heap->arena_shift)))
		return -ESTALE;
	/* object_locate_block() was called in vain, perhaps for not knowing it. Relaxed: as there. */
	if (off >> POOL_SHIFT >= __atomic_load_n(&heap->n_pools_known, __ATOMIC_RELAXED))
		heap_refresh_arenas(heap);
	state = arena_state(&heap->arenas[off >> heap->arena_shift]);
	if (state != ARENA_POOLS && state != ARENA_RUN)
		return -ESTALE;
	ret->pool = &heap->pools[off >> POOL_SHIFT];
	ret->position = position;
	ret->data = heap->base + off;
	if (ret->pool->kind == POOL_RUN)
		r = locate_run(heap, ret->pool, off, ret);
	else if (ret->pool->kind == POOL_BLOCKS)
		r = locate_block(heap, ret->pool, off, ret);
	else
		r = -ESTALE;
	if (r)
		return r;
	if (!ret->is_run)
		ret->word = __atomic_load_n(&ret->header->word, __ATOMIC_ACQUIRE); /* as in object_locate_block() */
	ret->type = header_type(ret->word);
	if (ret->is_run)
		return 0;
	/* Of a free block these bits are a link. */
	ret->size = header_state(ret->word) == STATE_FREE ? 0 : header_size(ret->word);
	return ret->size <= class_shapes[ret->pool->size_class & (N_CLASSES - 1)].size ? 0 : -EUCLEAN;
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

/* relaxed: who is not sure that it stays alive has the lock; between two stores its owner may be letting go */
static bool has_rights(const struct object *object)
{
	return header_own(object->word) || rights_count(__atomic_load_n(&object->header->rights, __ATOMIC_RELAXED));
}

/* The next most frequent: a run in an arena of pools. False: object_find_block() has said what that means. */
static bool find_run(const struct heap *heap, uint64_t ref, struct object *ret)
{
	uint64_t position = ref_position(ref), off = position << 3;

	/* As in object_locate_block(). */
	if (off & (POOL_SIZE - 1) || off >> POOL_SHIFT >= __atomic_load_n(&heap->n_pools_known, __ATOMIC_RELAXED) ||
		arena_state(&heap->arenas[off >> heap->arena_shift]) != ARENA_POOLS)
		return false;
	ret->pool = &heap->pools[off >> POOL_SHIFT];
	if (ret->pool->kind != POOL_RUN || locate_run(heap, ret->pool, off, ret) < 0)
		return false;
	ret->position = position;
	ret->data = heap->base + off;
	ret->type = header_type(ret->word);
	return ref_generation(ref) && header_is(ret->word, ref_generation(ref), STATE_LIVE) &&
	       ret->type != TYPE_HOLDS && ret->type != TYPE_NAME && has_rights(ret);
}

int object_find_other(struct heap *heap, uint64_t ref, struct object *ret)
{
	int r;

	if (find_run(heap, ref, ret))
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
	struct cached_object *cached = cache_object(session, ref);
	struct own_object own;

	if (own_lookup(session, ref, &own) && header_own(own.word))
		own_remember(session, ref, &own);
	else if (hold_find(session, ref))
		cache_add_held(session, ref, object->type != TYPE_QUEUE, object->header);
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
