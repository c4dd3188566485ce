/* SPDX-License-Identifier: MIT */
#pragma once

/* A session's own pools: making, holding and giving up its own objects without the lock. See own.c. */

#include "heap/gate.h"
#include "heap/pool.h"
#include "heap/type.h"

/* What a function here returns, beside negative errnos, when the thing goes under the lock. Nothing was changed. */
#define OWN_NOT 2

/* A LIVE object in a pool of the session's own. */
struct own_object {
	struct pool_entry *pool;
	struct object_header *header;
	uint64_t word;     /* as it was when it was found */
	uint32_t identity; /* the same, of its pool */
	uint32_t block;
};

/*
 * Find what any 64-bit number names among the session's own objects; false: nothing. Needs no lock. A pool in which the
 * session holds something stays its own. Of a number whose object is gone the pool may be taken away and used by others
 * just between the two looks here; then what is read as a header may be one of a later generation, which does not
 * match, or part of somebody's payload.
 */
static inline bool own_find(const struct session *session, uint64_t ref, struct own_object *ret);

/* Make an object, held once. OWN_NOT: own_refill(), or it is none for pools of its own (a run that is too long). */
int own_new(struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret);

/* A change: see to it that own_new() of that size finds room. HEAP_WANTS_ARENAS; OWN_NOT it is none for such pools. */
int own_refill(struct session *session, size_t size, size_t alignment);

/* Hold once more what it holds already. */
static inline int own_hold(struct session *session, uint64_t ref);

/* Hold once less; the last time frees it, where nobody else ever knew it and it has no slots. */
static inline int own_drop(struct session *session, uint64_t ref);
int own_drop_last(struct session *session, const struct own_object *object);

/* Somebody wants something of the session: wait until he is done, and see to what he asks for. */
int session_attend(struct session *session);

/* Daemon, one step: take back what an idle session keeps free. 1 there may be more, 0 done, -EBUSY the lock is taken.
 */
int own_collect(struct session *daemon, uint32_t index);

/* ---- inline, for they are the most frequent of all ----------------------------------------------------------------
 */

static inline bool own_find(const struct session *session, uint64_t ref, struct own_object *ret)
{
	const struct heap *heap = session->heap;
	uint64_t off = ref_position(ref) << 3;
	uint32_t index = (uint32_t)(off >> POOL_SHIFT), in_page = (uint32_t)(off & (POOL_SIZE - 1));
	struct pool_entry *pool;
	uint32_t identity, x;

	/* relaxed: what the session owns was seen long ago */
	if (off >> heap->arena_shift >= __atomic_load_n(&heap->control->n_arenas_seen, __ATOMIC_RELAXED) ||
		off >= heap->heap_size)
		return false;
	pool = &heap->pools[index];
	/* relaxed: only this session and who keeps it out make a pool its own, or take it away */
	identity = __atomic_load_n(&pool->identity, __ATOMIC_RELAXED);
	if (identity >> 16 != session->owner1)
		return false;
	if ((identity & 0xff) == POOL_BLOCKS) {
		const struct class_shape *shape = &class_shapes[identity >> 8 & (N_CLASSES - 1)];

		x = in_page - shape->first;
		ret->block = (uint32_t)((uint64_t)x * shape->inverse >> 32);
		if (in_page < shape->first || ret->block >= shape->n_blocks || ret->block * shape->size != x)
			return false;
		ret->header = (struct object_header *)(void *)(heap->base + (off - in_page)) + ret->block;
	} else {
		if ((identity & 0xff) != POOL_RUN || in_page)
			return false;
		ret->header = &pool->header;
		ret->block = 0;
	}
	ret->pool = pool;
	ret->identity = identity;
	/* relaxed: while the session holds it nobody else stores there */
	ret->word = __atomic_load_n(&ret->header->word, __ATOMIC_RELAXED);
	return header_generation(ret->word) == ref_generation(ref) && header_state(ret->word) == STATE_LIVE;
}

static inline int own_hold(struct session *session, uint64_t ref)
{
	struct own_object object;
	uint64_t n;

	if (!own_find(session, ref, &object))
		return OWN_NOT;
	n = header_own(object.word);
	if (!n || n == OWN_HOLDS_MAX)
		return OWN_NOT;
	/* relaxed: nobody's doing depends on how often, beyond once */
	__atomic_store_n(&object.header->word, object.word + 1, __ATOMIC_RELAXED);
	return 0;
}

static inline int own_drop(struct session *session, uint64_t ref)
{
	struct own_object object;
	uint64_t n;

	if (!own_find(session, ref, &object))
		return OWN_NOT;
	n = header_own(object.word);
	if (n == 1)
		return own_drop_last(session, &object);
	if (!n)
		return OWN_NOT;
	__atomic_store_n(&object.header->word, object.word - 1, __ATOMIC_RELAXED); /* as in own_hold() */
	return 0;
}
