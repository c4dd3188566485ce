/* SPDX-License-Identifier: MIT */
#pragma once

/* A session's own pools: making, holding and giving up its own objects without the lock. See own.c. */

#include "heap/gate.h"
#include "heap/pool.h"
#include "heap/type.h"

#include <errno.h>

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
/* The same of bytes, the most frequent of all. OWN_NOT: own_new() may do it, or say why not. */
static inline int own_new_bytes(struct session *session, size_t size, uint64_t *ret);

/* A change: see to it that own_new() of that size finds room. HEAP_WANTS_ARENAS; OWN_NOT it is none for such pools. */
int own_refill(struct session *session, size_t size, size_t alignment);

/* Hold once more what it holds already. */
static inline int own_hold(struct session *session, uint64_t ref);

/*
 * Hold once less; the last time frees it, where nobody else ever knew it and it has no slots. True: *ret is what comes
 * of it. False: it is none for the first, which is quick and knows what is most frequent, bytes in a block; for the
 * second: it is dropped under the lock.
 */
static inline bool own_drop(struct session *session, uint64_t ref, int *ret);
bool own_drop_any(struct session *session, uint64_t ref, int *ret);

/* Somebody wants something of the session: wait until he is done, and see to what he asks for. */
int session_attend(struct session *session);

/* Daemon, one step: take back what an idle session keeps free. 1 there may be more, 0 done, -EBUSY the lock is taken.
 */
int own_collect(struct session *daemon, uint32_t index);

/* ---- inline, for they are the most frequent of all ----------------------------------------------------------------
 */

#define OWN_LIKELY(x)   __builtin_expect(!!(x), 1)
#define OWN_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Where its header lies, if it names anything in the session's pools; of what that is nothing is said. */
static inline bool own_locate(const struct session *session, uint64_t ref, struct own_object *ret)
{
	uint64_t off = ref_position(ref) << 3;
	uint32_t in_page = (uint32_t)(off & (POOL_SIZE - 1));

	/* relaxed: what the session owns was seen when it took it */
	if (OWN_UNLIKELY(off >> POOL_SHIFT >= __atomic_load_n(&session->heap->n_pools_seen, __ATOMIC_RELAXED)))
		return false;
	ret->pool = &session->pools[off >> POOL_SHIFT];
	/* relaxed: only this session and who keeps it out make a pool its own, or take it away */
	ret->identity = __atomic_load_n(&ret->pool->identity, __ATOMIC_RELAXED);
	if (ret->identity >> 16 != session->owner1)
		return false;
	if (OWN_LIKELY((ret->identity & 0xff) == POOL_BLOCKS)) {
		const struct class_shape *shape = &class_shapes[ret->identity >> 8 & (N_CLASSES - 1)];
		uint32_t x = in_page - shape->first; /* very large for what is before the first */

		ret->block = (uint32_t)((uint64_t)x * shape->inverse >> 32);
		if (ret->block >= shape->n_blocks || ret->block * shape->size != x)
			return false;
		ret->header = (struct object_header *)(void *)(session->base + (off - in_page)) + ret->block;
		return true;
	}
	ret->header = &ret->pool->header;
	ret->block = 0;
	return (ret->identity & 0xff) == POOL_RUN && !in_page;
}

static inline bool own_find(const struct session *session, uint64_t ref, struct own_object *ret)
{
	if (!own_locate(session, ref, ret))
		return false;
	/* relaxed: while the session holds it nobody else stores there */
	ret->word = __atomic_load_n(&ret->header->word, __ATOMIC_RELAXED);
	return header_is(ret->word, ref_generation(ref), STATE_LIVE);
}

static inline int own_hold(struct session *session, uint64_t ref)
{
	struct own_object object;
	uint64_t n;

	if (!own_find(session, ref, &object))
		return OWN_NOT;
	n = header_own(object.word);
	if (OWN_UNLIKELY(!n || n == OWN_HOLDS_MAX))
		return OWN_NOT;
	/* relaxed: nobody's doing depends on how often, beyond once */
	__atomic_store_n(&object.header->word, object.word + 1, __ATOMIC_RELAXED);
	return 0;
}

/* Within a call: complete the header of something that is free: the object is there, and held once. */
static inline uint32_t own_begin(struct session *session, struct pool_entry *pool, struct object_header *header,
	uint32_t type, uint64_t block_size)
{
	struct session_entry *entry = session->entry;
	uint32_t generation = pool->generation + 1;

	if (OWN_UNLIKELY(generation > GENERATION_MAX))
		generation = 1;
	__atomic_store_n(&pool->generation, generation, __ATOMIC_RELAXED);
	/* commit: release, after the generation and the slots */
	__atomic_store_n(&header->word, header_live(generation, type, block_size, STATE_LIVE) | 1, __ATOMIC_RELEASE);
	/* relaxed, here and below: for reports, and for whoever keeps the session out or finds it dead */
	__atomic_store_n(&entry->n_own_holds, entry->n_own_holds + 1, __ATOMIC_RELAXED);
	return generation;
}

/*
 * Within a call: take a block and make it an object; `info` is NULL where it has no slots. OWN_FULL it is made, and was
 * its pool's last: own_finish_new(). OWN_NOT no pool has room. -EAGAIN somebody is about to find out that what he looks
 * for is not there any more: he has the lock. -EUCLEAN.
 */
#define OWN_FULL 3
static inline int own_take_block(struct session *session, uint32_t size_class, uint32_t type,
	const struct type_info *info, size_t size, uint64_t *ret)
{
	const struct class_shape *shape = &class_shapes[size_class];
	uint32_t index = session->entry->usedpools1[size_class] - 1, block1, link;
	struct object_header *header;
	struct pool_entry *pool;
	uint64_t counts, off, word;

	/* relaxed: as in own_locate() */
	if (OWN_UNLIKELY(index >= __atomic_load_n(&session->heap->n_pools_seen, __ATOMIC_RELAXED)))
		return index == UINT32_MAX ? OWN_NOT : -EUCLEAN;
	pool = &session->pools[index];
	if (OWN_UNLIKELY(pool->identity != pool_identity(POOL_BLOCKS, size_class, session->owner1)))
		return -EUCLEAN;
	counts = __atomic_load_n(&pool->counts, __ATOMIC_RELAXED);
	block1 = counts_freeblock1(counts);
	if (!block1)
		block1 = counts_carved(counts) + 1;
	if (OWN_UNLIKELY(block1 > shape->n_blocks))
		return -EUCLEAN;
	off = (uint64_t)index << POOL_SHIFT;
	header = (struct object_header *)(void *)(session->base + off) + (block1 - 1);
	off += shape->first + (block1 - 1) * shape->size;
	if (OWN_UNLIKELY(__atomic_load_n(&header->rights, __ATOMIC_RELAXED)))
		return -EAGAIN;
	word = header->word;
	if (OWN_UNLIKELY(header_state(word) != STATE_FREE))
		return -EUCLEAN;
	if (counts_freeblock1(counts)) {
		link = header_link(word) & UINT16_MAX;
		counts = counts_with_freeblock1(counts, link) + COUNTS_ONE_USED;
	} else {
		link = 0;
		counts += COUNTS_ONE_USED + COUNTS_ONE_CARVED;
	}
	if (info)
		type_clear_slots(info, session->base + off, size);
	*ret = ref_make(off >> 3, own_begin(session, pool, header, type, size));
	__atomic_store_n(&pool->counts, counts, __ATOMIC_RELAXED);
	return OWN_UNLIKELY(!link && counts_carved(counts) == shape->n_blocks) ? OWN_FULL : 0;
}

/* Ends the call: the first pool of a class is none with room any more. 0. */
int own_finish_new(struct session *session, uint32_t size_class);

static inline int own_new_bytes(struct session *session, size_t size, uint64_t *ret)
{
	int r;

	if (size - 1 >= BLOCK_SIZE_MAX || !gate_enter(session)) /* 0 is very large */
		return OWN_NOT;
	r = own_take_block(session, (uint32_t)(size - 1) >> 3, TYPE_BYTES, NULL, size, ret);
	if (OWN_UNLIKELY(r == OWN_FULL))
		return own_finish_new(session, (uint32_t)(size - 1) >> 3);
	gate_leave(session);
	return r == 0 ? 0 : OWN_NOT;
}

/* Within a call: it is held no more. True: others know it, or want something of the session; then own_settle(). */
static inline bool own_let_go(struct session *session, const struct own_object *object)
{
	struct session_entry *entry = session->entry;

	__atomic_store_n(&entry->n_own_holds, entry->n_own_holds - 1, __ATOMIC_RELAXED);
	/* release: whoever sees it sees that the session is inside */
	__atomic_store_n(&object->header->word, object->word - 1, __ATOMIC_RELEASE);
	gate_light_barrier(session); /* that store before these loads, for who calls gate_barrier() */
	return __atomic_load_n(&object->header->rights, __ATOMIC_ACQUIRE) |
	       __atomic_load_n(&entry->attention, __ATOMIC_ACQUIRE);
}

/* Within a call: a block goes on its pool's free list. True: that is not all; own_finish_free(). */
static inline bool own_free_block(const struct own_object *object)
{
	const struct class_shape *shape = &class_shapes[object->identity >> 8 & (N_CLASSES - 1)];
	struct pool_entry *pool = object->pool;
	uint64_t counts = __atomic_load_n(&pool->counts, __ATOMIC_RELAXED);
	uint32_t link = counts_freeblock1(counts);
	bool was_full = !link && counts_carved(counts) == shape->n_blocks;

	__atomic_store_n(&object->header->word, header_free(object->word, link), __ATOMIC_RELAXED);
	counts = counts_with_freeblock1(counts, object->block + 1) - COUNTS_ONE_USED;
	__atomic_store_n(&pool->counts, counts, __ATOMIC_RELAXED);
	return was_full || !counts_used(counts);
}

/* Both end the call that they are called in. */
int own_settle(struct session *session, uint64_t ref);
void own_finish_free(struct session *session, struct pool_entry *pool);

static inline bool own_drop(struct session *session, uint64_t ref, int *ret)
{
	struct own_object object;

	if (!own_locate(session, ref, &object))
		return false;
	*ret = 0;
	/* relaxed: as in own_find() */
	object.word = __atomic_load_n(&object.header->word, __ATOMIC_RELAXED);
	if (!header_is_block_held_once(object.word, ref_generation(ref), TYPE_BYTES)) {
		if (!header_is(object.word, ref_generation(ref), STATE_LIVE) || header_own(object.word) < 2)
			return false;
		__atomic_store_n(&object.header->word, object.word - 1, __ATOMIC_RELAXED); /* as in own_hold() */
		return true;
	}
	/* relaxed: what others have a right to is dropped under the lock; whether they have is asked again */
	if (OWN_UNLIKELY((object.identity & 0xff) != POOL_BLOCKS ||
			 __atomic_load_n(&object.header->rights, __ATOMIC_RELAXED) != 0 || !gate_enter(session)))
		return false;
	if (OWN_UNLIKELY(own_let_go(session, &object)))
		*ret = own_settle(session, ref);
	else if (OWN_UNLIKELY(own_free_block(&object)))
		own_finish_free(session, object.pool);
	else
		gate_leave(session);
	return true;
}
