/* SPDX-License-Identifier: MIT */
#pragma once

/* Objects: what a ref names. See object.c. */

#include "heap/memory/pool.h"
#include "heap/object/type.h"

/* What a ref leads to, in this process. */
struct object {
	struct object_header *header;
	struct pool_entry *pool; /* of its block, or the first of its run */
	uint8_t *data;
	uint64_t size;
	uint64_t position;
	uint64_t word; /* of its header, as it was when the object was found */
	uint32_t type;
	uint32_t identity; /* of its pool at that moment; set by object_locate_block() and _medium() only */
	bool is_run;
};

/*
 * With the lock held: what lies at a position, in any state. -ESTALE: nothing can lie there, because no pool in use is
 * there or no block starts there. -EUCLEAN: its sizes are damaged.
 */
int object_locate(struct heap *heap, uint64_t position, struct object *ret);

/*
 * With the lock held: the LIVE object that a 64-bit number names, in constant time. -EINVAL: it can name none (position
 * outside the heap, generation 0, a record of the heap). -ESTALE: it names none now.
 */
int object_find(struct heap *heap, uint64_t ref, struct object *ret);

/* object_locate() and object_find() for frequent callers. What is most frequent, a block, is handled inline. */
static inline int object_locate_fast(struct heap *heap, uint64_t position, struct object *ret);
static inline int object_find_fast(struct heap *heap, uint64_t ref, struct object *ret);

/* Only small blocks in arenas that this process knows. False: object_locate() and object_find() say what it is. */
static inline bool object_locate_block(const struct heap *heap, uint64_t position, struct object *ret);
static inline bool object_find_block(const struct heap *heap, uint64_t ref, struct object *ret);

/*
 * object_locate_block() of a medium block. ret->identity is that of the pool of the position, whose span_index is
 * *ret_span_index: while both stay, the block is in that span.
 */
bool object_locate_medium(const struct heap *heap, uint64_t position, struct object *ret, uint32_t *ret_span_index);

/* object_find(), after object_find_block() returned false. */
int object_find_other(struct heap *heap, uint64_t ref, struct object *ret);

/* As object_find(), but accepts an object that nobody has a right to by its counts. */
int object_match(struct heap *heap, uint64_t ref, struct object *ret);

/*
 * As object_find(), and takes the lock if the session does not hold the object. (What it holds cannot change
 * meanwhile.)
 */
int object_lookup(struct session *session, uint64_t ref, struct object *ret);

/* Put what object_lookup() found into the cache, if the session holds it. See heap/shared/cache.h. */
void object_remember(struct session *session, uint64_t ref, const struct object *object);

static inline uint64_t object_ref(const struct object *object)
{
	return ref_make(object->position, header_generation(object->word));
}

/* The number of slots of an object, and the address of slot i. */
static inline uint64_t object_n_slots(const struct object *object, const struct type_info *type)
{
	return type_n_slots(type, object->size);
}
static inline uint64_t *object_slot(const struct object *object, const struct type_info *type, uint64_t i)
{
	return (uint64_t *)(void *)(object->data + type_slot_offset(type, i));
}

/*
 * Does the session hold it? The first needs the lock. The second needs none, serves the session's requests first, and
 * returns false also if that fails.
 */
bool object_is_held(const struct session *session, uint64_t ref);
bool object_is_held_unlocked(struct session *session, uint64_t ref);
/* With the lock held: does the session hold it by the header's word, as the owner of its pool? */
static inline bool object_is_held_by_word(const struct session *session, const struct object *what)
{
	/* relaxed: nobody else changes that part of the word */
	return read_once(what->pool->owner1) == session->owner1 &&
	       header_own(__atomic_load_n(&what->header->word, __ATOMIC_RELAXED));
}

/* Inline: most calls pass here. */

#define OBJECT_LIKELY(x) __builtin_expect(!!(x), 1)
/* Inlined whatever the size: the compiler then leaves out the members of struct object that a caller does not read. */
#define OBJECT_INLINE    static inline __attribute__((always_inline))

OBJECT_INLINE bool object_locate_block(const struct heap *heap, uint64_t position, struct object *ret)
{
	uint64_t off = position << 3;
	uint32_t identity, size_class, block1;

	/* The entries of these pools are there. relaxed: what came since is found by object_locate(). */
	if (!OBJECT_LIKELY(off >> POOL_SHIFT < __atomic_load_n(&heap->n_pools_known, __ATOMIC_RELAXED)))
		return false;
	/* An arena in this state is there. It stays for the owner of the lock or holds something in it. */
	if (!OBJECT_LIKELY(arena_state(&heap->arenas[off >> heap->arena_shift]) == ARENA_POOLS))
		return false;
	ret->pool = &heap->pools[off >> POOL_SHIFT];
	/* relaxed: changed under the lock, and by another session while nobody knows what is in the pool */
	identity = __atomic_load_n(&ret->pool->identity, __ATOMIC_RELAXED);
	/* Kind and class by one comparison: no small class has either of the two top bits of size_class. */
	static_assert(N_SMALL_CLASSES == 64, "the two top bits of size_class");
	if (!OBJECT_LIKELY((identity & 0xc0ff) == POOL_BLOCKS))
		return false;
	size_class = identity >> 8 & (N_SMALL_CLASSES - 1);
	block1 = block_at_position(size_class, position);
	if (!OBJECT_LIKELY(block1))
		return false;
	ret->header = (struct object_header *)(void *)(heap->base + (off & -(uint64_t)POOL_SIZE)) + (block1 - 1);
	ret->position = position;
	ret->data = heap->base + off;
	/* acquire: the rights are read after the word, as in right.c, end_if_last() */
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
		(header_own(ret->word) || rights_are_any(__atomic_load_n(&ret->header->rights, __ATOMIC_RELAXED))));
}

OBJECT_INLINE int object_locate_fast(struct heap *heap, uint64_t position, struct object *ret)
{
	struct object other;
	int r;

	if (OBJECT_LIKELY(object_locate_block(heap, position, ret)))
		return 0;
	r = object_locate(heap, position, &other);
	*ret = other; /* a copy, so that the compiler can keep *ret in registers */
	return r;
}

OBJECT_INLINE int object_find_fast(struct heap *heap, uint64_t ref, struct object *ret)
{
	struct object other;
	int r;

	if (OBJECT_LIKELY(object_find_block(heap, ref, ret)))
		return 0;
	r = object_find_other(heap, ref, &other);
	*ret = other; /* as in object_locate_fast() */
	return r;
}
