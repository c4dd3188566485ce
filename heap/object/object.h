/* SPDX-License-Identifier: MIT */
#pragma once

/* Objects: refs and headers, making, holding, dropping, taking down. See object.c. */

#include "heap/object/own.h"

/* What a ref leads to, in this process. */
struct object {
	struct object_header *header;
	struct pool_entry *pool; /* its block's, or its run's first */
	uint8_t *data;
	uint64_t size;
	uint64_t position;
	uint64_t word; /* of its header, as it was when it was found */
	uint32_t type;
	uint32_t identity; /* of its pool, where object_locate_block() found it */
	bool is_run;
};

/*
 * With the lock held: what lies at a position, whatever its header says. -ESTALE nothing can: no pool in use is there,
 * or no block starts there. -EUCLEAN its sizes are damaged.
 */
int object_locate(struct heap *heap, uint64_t position, struct object *ret);

/*
 * With the lock held: find the LIVE object that any 64-bit number names, in constant time. -EINVAL it can name none
 * (position outside the heap, generation 0, one of the heap's own records), -ESTALE it names none now.
 */
int object_find(struct heap *heap, uint64_t ref, struct object *ret);

/* The same two for where they are called most often: in place, as far as what is most frequent goes, a block. */
static inline int object_locate_fast(struct heap *heap, uint64_t position, struct object *ret);
static inline int object_find_fast(struct heap *heap, uint64_t ref, struct object *ret);

/*
 * What most often lies at a position, or what a ref most often names: a block. False: that may be something else, or
 * nothing, or damaged: object_locate() and object_find() say which.
 */
static inline bool object_locate_block(const struct heap *heap, uint64_t position, struct object *ret);
static inline bool object_find_block(const struct heap *heap, uint64_t ref, struct object *ret);

/* As object_find(), of what is none for object_find_block(). */
int object_find_other(struct heap *heap, uint64_t ref, struct object *ret);

/* As object_find(), but whether anybody has a right to it by its counts is not looked at. */
int object_match(struct heap *heap, uint64_t ref, struct object *ret);

/* As object_find(), but takes the lock unless the session holds the object: then nothing can change under it. */
int object_lookup(struct session *session, uint64_t ref, struct object *ret);

/* What object_lookup() found, where the session holds it, is found sooner from now on: see cached.h. */
void object_remember(struct session *session, uint64_t ref, const struct object *object);

/* relaxed: the owner may be giving rights away at this moment, or others be counting; see end_if_last() for the order
 */
static inline uint64_t header_rights(const struct object_header *header)
{
	return __atomic_load_n(&header->rights, __ATOMIC_RELAXED);
}

/* What names it. */
static inline uint64_t object_ref(const struct object *object)
{
	return ref_make(object->position, header_generation(object->word));
}

/* How many slots an object has, and where slot i lies. */
static inline uint64_t object_n_slots(const struct object *object, const struct type_info *type)
{
	return type_n_slots(type, object->size);
}
static inline uint64_t *object_slot(const struct object *object, const struct type_info *type, uint64_t i)
{
	return (uint64_t *)(void *)(object->data + type_slot_offset(type, i));
}

/* Each of these is one change, and takes down what it freed. Returns as the public functions, or HEAP_WANTS_ARENAS. */
int object_new(struct session *session, uint32_t type, size_t size, uint64_t *ret);
int queue_new(struct session *session, size_t n, uint64_t *ret);

/*
 * Within a change: somebody who is not its owner has one right fewer (`what` is never an own record). When it was the
 * last, the object is freed, or goes on session's dying list.
 */
int object_drop(struct session *session, const struct object *what);
/* Within a change: one right more. -EOVERFLOW; -ESTALE its owner let go of it meanwhile. */
int object_retain(struct session *session, const struct object *what);

/*
 * Within a change: the session holds it once more, by the header of its own object or by its hold table, where
 * hold_reserve() has made room. Errors as object_retain().
 */
int object_hold(struct session *session, uint64_t ref, const struct object *what);
/*
 * Within a change: what the session holds, by `hold` of its table or, where that is NULL, by the header's word, it
 * holds once less, or not at all any more: its right goes to somebody else (a queue).
 */
int object_pass_on(struct session *session, uint64_t ref, const struct object *what, struct hold *hold);
/* Within a change: the same, and the right ends. -EPERM it does not hold it; errors as object_find(). */
int object_drop_held(struct session *session, uint64_t ref, struct hold *hold);

/*
 * Does the session hold it? With the lock held; the second without it, and sees to what is wanted of the session first:
 * false also when that fails.
 */
bool object_is_held(const struct session *session, uint64_t ref);
bool object_is_held_unlocked(struct session *session, uint64_t ref);
/* With the lock held, of the session's own object: by the header's word? */
static inline bool object_is_held_by_word(const struct session *session, const struct object *what)
{
	/* relaxed: nobody else changes that part of it */
	return what->pool->owner1 == session->owner1 &&
	       header_own(__atomic_load_n(&what->header->word, __ATOMIC_RELAXED));
}

/* Within a change: nobody has a right to it: free it, or put it on session's dying list. */
int object_end(struct session *session, const struct object *what);

/* Within a change: free what the session was making and did not finish. */
int making_drop(struct session *session);

/*
 * One change: take down a bounded part of what is dying on this session's list. 1 there may be more, 0 nothing is left;
 * -EBUSY where `try` and the lock is taken.
 */
int dying_step(struct session *session, bool try);

/* All of it. Returns `result`, so that it ends a function that dropped something. */
static inline int deferred_free(struct session *session, int result);

/* ---- inline, for they are the most frequent ---------------------------------------------------------------------- */

#define OBJECT_LIKELY(x) __builtin_expect(!!(x), 1)
/* Then what a caller does not need of struct object is not even computed. */
#define OBJECT_INLINE    static inline __attribute__((always_inline))

OBJECT_INLINE bool object_locate_block(const struct heap *heap, uint64_t position, struct object *ret)
{
	uint64_t off = position << 3;
	uint32_t identity, size_class, block1;

	/* Entries of such pools can be read. relaxed: those that came since are only found by the longer way. */
	if (!OBJECT_LIKELY(off >> POOL_SHIFT < __atomic_load_n(&heap->n_pools_known, __ATOMIC_RELAXED)))
		return false;
	/* An arena in this state is there, and stays there for who has the lock, or holds something in it. */
	if (!OBJECT_LIKELY(arena_state(&heap->arenas[off >> heap->arena_shift]) == ARENA_POOLS))
		return false;
	ret->pool = &heap->pools[off >> POOL_SHIFT];
	/* relaxed: locked, and another session's while nothing is known of it */
	identity = __atomic_load_n(&ret->pool->identity, __ATOMIC_RELAXED);
	/* A kind and a class in one look: no class has one of the two top bits. */
	static_assert(N_CLASSES == 64, "the two top bits of size_class");
	if (!OBJECT_LIKELY((identity & 0xc0ff) == POOL_BLOCKS))
		return false;
	size_class = identity >> 8 & (N_CLASSES - 1);
	block1 = block_at_position(size_class, position);
	if (!OBJECT_LIKELY(block1))
		return false;
	ret->header = (struct object_header *)(void *)(heap->base + (off & -(uint64_t)POOL_SIZE)) + (block1 - 1);
	ret->position = position;
	ret->data = heap->base + off;
	/* acquire: its rights are looked at after it, as in end_if_last() */
	ret->word = __atomic_load_n(&ret->header->word, __ATOMIC_ACQUIRE);
	ret->type = header_type(ret->word);
	ret->size = header_size(ret->word);
	ret->is_run = false;
	ret->identity = identity;
	return OBJECT_LIKELY(header_state(ret->word) != STATE_FREE && ret->size <= class_block_size(size_class));
}

OBJECT_INLINE bool object_find_block(const struct heap *heap, uint64_t ref, struct object *ret)
{
	static_assert(TYPE_QUEUE + 1 == TYPE_HOLDS && TYPE_HOLDS + 1 == TYPE_NAME, "the heap's own records");
	return OBJECT_LIKELY(
		object_locate_block(heap, ref_position(ref), ret) && ref_generation(ref) &&
		header_is(ret->word, ref_generation(ref), STATE_LIVE) && ret->type - TYPE_HOLDS > 1 &&
		/* relaxed: as in object_find_other() */
		(header_own(ret->word) || rights_count(__atomic_load_n(&ret->header->rights, __ATOMIC_RELAXED))));
}

OBJECT_INLINE int object_locate_fast(struct heap *heap, uint64_t position, struct object *ret)
{
	struct object other;
	int r;

	if (OBJECT_LIKELY(object_locate_block(heap, position, ret)))
		return 0;
	r = object_locate(heap, position, &other);
	*ret = other; /* not found there at once, so that *ret can live in registers */
	return r;
}

OBJECT_INLINE int object_find_fast(struct heap *heap, uint64_t ref, struct object *ret)
{
	struct object other;
	int r;

	if (OBJECT_LIKELY(object_find_block(heap, ref, ret)))
		return 0;
	r = object_find_other(heap, ref, &other);
	*ret = other; /* as there */
	return r;
}

void deferred_free_all(struct session *session);

static inline int deferred_free(struct session *session, int result)
{
	if (!OBJECT_LIKELY(!session->entry->dying1))
		deferred_free_all(session);
	return result;
}
