/* SPDX-License-Identifier: MIT */
#pragma once

/* A session's own pools: making, holding and dropping its own objects without the lock. See own.c. */

#include "heap/memory/pool.h"
#include "heap/object/own_trim.h"
#include "heap/object/type.h"
#include "heap/shared/critical.h"

#include <errno.h>

/* A LIVE object in a pool of the session's own. */
struct own_object {
	struct pool_entry *pool; /* the first, of a span or run */
	struct object_header *header;
	uint64_t word;     /* as it was when the object was found */
	uint32_t identity; /* of the pool, at that moment */
	uint64_t block1;   /* its number in the pool, from 1; 0: it is a run */
};

/*
 * What a 64-bit number names among the session's own objects; false: nothing. Needs no lock. A pool in which the
 * session holds something stays its own. If the object is gone, others may take the pool and use it between the two
 * reads here. Then what is read as a header has another generation, which does not match, or is part of a payload.
 */
static inline bool own_find(const struct session *session, uint64_t ref, struct own_object *ret);
/*
 * own_find(), where the session neither has the lock nor is active: it enters a critical section, in which nobody takes
 * the pool away, so its memory is there. Serves the session's requests first; false also if that fails.
 */
static inline bool own_lookup(struct session *session, uint64_t ref, struct own_object *ret);

/* Make an object, held once. OWN_NOT: own_refill() first, or it is too long for pools of its own. */
int own_new(struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret);
/*
 * The most frequent way to make an object: 1 to BLOCK_SIZE_MAX bytes, in the pool that made the last of their class.
 * True: *result is what own_new() would return. False: own_new() may make it, or say why not. own_new_medium(): more
 * bytes, up to MEDIUM_SIZE_MAX.
 */
static inline bool own_new_bytes(struct session *session, size_t size_class, size_t size, uint64_t *ret, int *result);
bool own_new_medium(struct session *session, size_t size, uint64_t *ret, int *result);

/* Hold once more what it holds already. own_hold() knows objects in the cache only, own_hold_any() all. */
static inline int own_hold(struct session *session, uint64_t ref);
int own_hold_any(struct session *session, uint64_t ref);

/*
 * Hold once less. The last drop frees an object without slots that nobody else ever knew. own_drop() knows bytes in
 * blocks that are in the cache; true: *result is what own_drop_any() would return. OWN_NOT of own_drop_any(): the
 * object must be dropped under the lock.
 */
static inline bool own_drop(struct session *session, uint64_t ref, int *result);
/* own_drop(), of an object that the caller has found in the cache. */
static inline bool own_drop_cached(struct session *session, uint64_t ref, struct cached_object *cached, int *result);
/* own_drop_cached(), of an object whose word, just read, says that it is held once. */
static inline bool own_drop_last(struct session *session, uint64_t ref, struct cached_object *cached, int *result);
int own_drop_any(struct session *session, uint64_t ref);
/* own_drop(), of an object that is not in the cache, in a block of a pool in which this process made objects lately. */
static inline bool own_drop_block(struct session *session, uint64_t ref, int *result);

/* Put an object that the session holds into the cache. See heap/shared/cache.h. */
void own_remember(struct session *session, uint64_t ref, const struct own_object *object);

/* Inline: the most frequent of all. */

#define OWN_LIKELY(x)   __builtin_expect(!!(x), 1)
#define OWN_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define OWN_INLINE      static inline __attribute__((always_inline)) /* however many callers there are */

/*
 * The header's address follows from the class of the pool, which the pool's entry says. Among many pools neither the
 * entry nor the header is in the processor's cache. So the header is fetched from where it most likely is, beside the
 * entry and not after it.
 */
static inline const void *own_guess_header(const struct session *session, uint64_t off)
{
	/* relaxed: other threads of this process write it too, and a wrong hint does no harm */
	uint8_t hint = __atomic_load_n(&session->class_hints[off >> POOL_SHIFT], __ATOMIC_RELAXED);
	uint32_t block1 = block_numbers[hint][off / BLOCK_ALIGNMENT & (POOL_SIZE / BLOCK_ALIGNMENT - 1)];

	return block1 ? session->base + (off & -(uint64_t)POOL_SIZE) + (block1 - 1) * sizeof(struct object_header)
		      : NULL;
}

static inline void own_fetch_header(const struct session *session, uint64_t off)
{
	const void *header = own_guess_header(session, off);

	if (header)
		__builtin_prefetch(header);
}

/* Note the hint of own_guess_header(): the class of a pool as it is now. */
static inline void own_note_class(const struct session *session, const struct pool_entry *pool)
{
	uint8_t *hint = &session->heap->class_hints[pool - session->pools];
	uint8_t now = class_is_small(pool->size_class) ? (uint8_t)(pool->size_class + 1) : 0;

	/* relaxed, both: as in own_guess_header() */
	if (OWN_UNLIKELY(__atomic_load_n(hint, __ATOMIC_RELAXED) != now))
		__atomic_store_n(hint, now, __ATOMIC_RELAXED);
}

/* own_may_be(), without the prefetch: for callers that do not read the header if it is false. */
static inline bool own_is_mine(const struct session *session, uint64_t ref)
{
	uint64_t pool = ref_position(ref) >> (POOL_SHIFT - 3);

	/* relaxed, both: as in own_locate() */
	return OWN_LIKELY(pool < __atomic_load_n(&session->heap->n_pools_known, __ATOMIC_RELAXED)) &&
	       __atomic_load_n(&session->pools[pool].identity, __ATOMIC_RELAXED) >> 16 == session->owner1;
}

/* Does ref lie in a pool of the session's own? Most refs of others need no further look. */
static inline bool own_may_be(const struct session *session, uint64_t ref)
{
	uint64_t off = ref_position(ref) << 3;

	if (OWN_UNLIKELY(off >> POOL_SHIFT >= __atomic_load_n(&session->heap->n_pools_known, __ATOMIC_RELAXED)))
		return false;
	own_fetch_header(session, off);
	/* relaxed, both: as in own_locate() */
	return __atomic_load_n(&session->pools[off >> POOL_SHIFT].identity, __ATOMIC_RELAXED) >> 16 == session->owner1;
}

/* Header of block number block1 of a pool. */
static inline struct object_header *own_block_header(const struct session *session, uint64_t pool, uint64_t block1)
{
	return (struct object_header *)(void *)(session->base + (pool << POOL_SHIFT)) + block1 - 1;
}

/* own_locate() of a medium block. ret->pool is the pool of ref, and becomes the first of the span. */
bool own_locate_medium(const struct session *session, uint64_t ref, struct own_object *ret);

/* Find the header, in whatever state it is. False: ref names nothing in the session's pools. */
static inline bool own_locate(const struct session *session, uint64_t ref, struct own_object *ret)
{
	uint64_t off = ref_position(ref) << 3;

	/* relaxed: the session saw the pools that it owns when it took them */
	if (OWN_UNLIKELY(off >> POOL_SHIFT >= __atomic_load_n(&session->heap->n_pools_known, __ATOMIC_RELAXED)))
		return false;
	ret->pool = &session->pools[off >> POOL_SHIFT];
	/* relaxed: only this session, and the process that keeps it out, changes the owner of a pool to or from this
	 * session */
	ret->identity = __atomic_load_n(&ret->pool->identity, __ATOMIC_RELAXED);
	if (ret->identity >> 16 != session->owner1)
		return false;
	/* kind and class by one comparison: as in object_locate_block() */
	if (OWN_LIKELY((ret->identity & 0xc0ff) == POOL_BLOCKS)) {
		ret->block1 = block_at_position(ret->identity >> 8 & (N_SMALL_CLASSES - 1), ref_position(ref));
		ret->header = own_block_header(session, off >> POOL_SHIFT, ret->block1);
		return ret->block1;
	}
	if ((ret->identity & 0xff) != POOL_RUN)
		return own_locate_medium(session, ref, ret);
	ret->header = &ret->pool->header;
	ret->block1 = 0;
	return !(off & (POOL_SIZE - 1));
}

static inline bool own_find(const struct session *session, uint64_t ref, struct own_object *ret)
{
	if (!own_locate(session, ref, ret))
		return false;
	/* relaxed: while the session holds the object nobody else stores there */
	ret->word = __atomic_load_n(&ret->header->word, __ATOMIC_RELAXED);
	return header_is(ret->word, ref_generation(ref), STATE_LIVE);
}

static inline bool own_lookup(struct session *session, uint64_t ref, struct own_object *ret)
{
	bool is_own;

	if (!own_may_be(session, ref))
		return false;
	if (OWN_UNLIKELY(!critical_enter(session)) &&
		(session_serve_requests(session) < 0 || !critical_enter_collecting(session)))
		return false;
	is_own = own_find(session, ref, ret);
	critical_leave(session, 0);
	return is_own;
}

/* The compiler computes x here, on every path: what it is computed from is then needed no longer. */
#define OWN_NOW(x) __asm__ volatile("" : "+r"(x))

/*
 * Is n_more less than n, and is there still a heap? n_more says how often more than once the object is held: its word
 * less the word of one that is held once. It is very large if the word is another object's, and so is `ended` once the
 * heap has ended.
 */
static inline bool own_is_fewer(const struct session *session, uint64_t n_more, uint64_t n)
{
	/* relaxed: nothing else is read because of it */
	return (n_more | __atomic_load_n(session->ended, __ATOMIC_RELAXED)) < n;
}

static inline int own_hold(struct session *session, uint64_t ref)
{
	const struct cached_object *cached = cache_object(session->cache, ref);
	struct object_header *header;
	uint64_t word, next;

	if (OWN_UNLIKELY(cached->ref != ref))
		return OWN_NOT;
	header = cached->header;
	if (OWN_UNLIKELY(!header))
		return OWN_NOT;
	/* relaxed: as in own_find() */
	word = __atomic_load_n(&header->word, __ATOMIC_RELAXED);
	next = word + 1;
	OWN_NOW(next);
	if (OWN_UNLIKELY(!own_is_fewer(session, word - cached->word, OWN_HOLDS_MAX - 1)))
		return OWN_NOT;
	/* relaxed: nobody depends on how often it is held, beyond once */
	__atomic_store_n(&header->word, next, __ATOMIC_RELAXED);
	return 0;
}

/* A block that was just taken. */
struct own_block {
	struct object_header *header;
	uint64_t position;
	uint64_t block1; /* its number, from 1 */
	uint64_t counts; /* of its pool, as they are now */
};

/*
 * Within a critical section: take the first free block of a pool that *cached still describes. False: there is none;
 * its header is not that of a free block; or a stranger, who has the lock, is about to find out that the object is
 * gone.
 */
static inline bool own_take_block(const struct cached_pool *cached, struct pool_entry *pool, struct own_block *ret)
{
	uint64_t counts = __atomic_load_n(&pool->counts, __ATOMIC_RELAXED) + COUNTS_ONE_USED;
	uint64_t block1 = counts_freeblock1(counts), word;

	if (OWN_UNLIKELY(block1 - 1 >= cached->n_blocks)) /* 0 becomes very large */
		return false;
	ret->block1 = block1;
	ret->header = cached->header0 + block1;
	ret->position = cached->position0 + block1 * cached->stride;
	/* relaxed, both: nobody else changes a free header, except for a stranger's right, which own_let_go() orders */
	if (OWN_UNLIKELY(!word64_is(&ret->header->rights, 0)))
		return false;
	word = __atomic_load_n(&ret->header->word, __ATOMIC_RELAXED);
	if (OWN_UNLIKELY(word & HEADER_FREE_MASK))
		return false;
	counts = counts_with_link(counts, word);
	/* relaxed: it follows from the headers */
	__atomic_store_n(&pool->counts, counts, __ATOMIC_RELAXED);
	ret->counts = counts;
	return true;
}

/* Within a critical section: the next generation of a pool. */
static inline uint32_t own_next_generation(struct pool_entry *pool)
{
	uint32_t generation = pool->generation + 1;

	if (OWN_UNLIKELY(generation > GENERATION_MAX))
		generation = 1;
	/* relaxed: before the word that has it, which is a release */
	__atomic_store_n(&pool->generation, generation, __ATOMIC_RELAXED);
	return generation;
}

/* Within a critical section: make a free header LIVE, held once. Returns its word. */
static inline uint64_t own_begin(struct object_header *header, uint32_t generation, uint32_t type, uint64_t block_size)
{
	uint64_t word = header_live(generation, type, block_size, STATE_LIVE) | 1;

	/* commit: release, after the generation and the slots */
	__atomic_store_n(&header->word, word, __ATOMIC_RELEASE);
	return word;
}

/* Ends the critical section of own_new(), after the last block of the free list was taken. Returns 0. */
int own_finish_new(struct session *session, struct pool_entry *pool);

OWN_INLINE bool own_new_in_class(
	struct session *session, size_t size_class, bool is_medium, size_t size, uint64_t *ret, int *result)
{
	struct session_entry *entry = session->entry;
	const struct cached_pool *cached;
	struct cached_object *object;
	struct pool_entry *pool;
	struct own_block block;
	uint64_t ref, word;
	uint32_t generation;

	cached = &session->cache->pools[size_class];
	pool = cached->pool;
	if (OWN_UNLIKELY(!pool || !critical_enter_fast(entry)))
		return false;
	/* relaxed: only this session and the process that keeps it out changes it */
	if (OWN_UNLIKELY(__atomic_load_n(&pool->identity, __ATOMIC_RELAXED) != cached->identity ||
			 !own_take_block(cached, pool, &block))) {
		critical_leave_fast(entry, 0);
		return false;
	}
	/* of the pool that the block begins in */
	generation = own_next_generation(is_medium ? &session->pools[block.position >> (POOL_SHIFT - 3)] : pool);
	word = own_begin(block.header, generation, TYPE_BYTES, size);
	ref = ref_make(block.position, generation);
	*ret = ref;
	object = cache_object(session->cache, ref);
	object->ref = ref;
	object->header = block.header;
	object->pool = pool;
	object->data = NULL;
	object->block1 = block.block1;
	object->word = word;
	*result = 0;
	if (OWN_UNLIKELY(!counts_freeblock1(block.counts)))
		*result = own_finish_new(session, pool);
	else
		critical_leave_fast(entry, 1);
	return true;
}

OWN_INLINE bool own_new_bytes(struct session *session, size_t size_class, size_t size, uint64_t *ret, int *result)
{
	return own_new_in_class(session, size_class, false, size, ret, result);
}

/*
 * Within a critical section: the word says that the session holds the object no more. True: others know the object, or
 * the session has requests; then own_settle().
 */
static inline bool own_let_go(const struct session_entry *entry, const struct own_object *object, bool is_fenced)
{
	/* release: the process that sees it sees that the session is active */
	__atomic_store_n(&object->header->word, object->word - 1, __ATOMIC_RELEASE);
	/* orders that store before these loads, for the process that calls critical_barrier(); see
	 * critical_light_barrier() */
	if (is_fenced)
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	else
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return OWN_UNLIKELY(!word64_is(&object->header->rights, 0)) || OWN_UNLIKELY(!word32_is(&entry->requests, 0));
}

/*
 * Within a critical section: put the block on the free list of its pool. True: the list was empty, or the pool is
 * wholly free now; then own_finish_free().
 */
static inline bool own_free_block(const struct own_object *object)
{
	struct pool_entry *pool = object->pool;
	uint64_t before = __atomic_load_n(&pool->counts, __ATOMIC_RELAXED);
	uint64_t counts = counts_with_freeblock1(before, object->block1) - COUNTS_ONE_USED;

	__atomic_store_n(&object->header->word, header_free(object->word, counts_freeblock1(before)), __ATOMIC_RELAXED);
	__atomic_store_n(&pool->counts, counts, __ATOMIC_RELAXED);
	return !counts_freeblock1(before) || !counts_used(counts);
}

/*
 * own_free_block() of a pool whose counts are not in the processor's cache. It stores them by parts: the new freeblock1
 * follows from the ref alone, so its store waits for no load. (Reading all of them as one word soon after waits for
 * these stores.)
 */
static inline bool own_free_block_by_parts(const struct own_object *object)
{
	struct pool_entry *pool = object->pool;
	/* relaxed, all: as in own_free_block() */
	uint32_t before = __atomic_load_n(&pool->freeblock1, __ATOMIC_RELAXED);

	__atomic_store_n(&object->header->word, header_free(object->word, before), __ATOMIC_RELAXED);
	__atomic_store_n(&pool->freeblock1, (uint16_t)object->block1, __ATOMIC_RELAXED);
	if (OWN_UNLIKELY(word16_count_down(&pool->n_used)))
		return true;
	return !before;
}

/*
 * All end the critical section, with one own hold less. own_settle() leaves the holds as they were if it is refused the
 * lock.
 */
int own_settle(struct session *session, uint64_t ref);
int own_finish_free(struct session *session, struct pool_entry *pool); /* 0 */
int own_finish_free_at(struct session *session, uint64_t ref);         /* 0; of the pool that ref is in */

static inline bool own_drop(struct session *session, uint64_t ref, int *result)
{
	struct cached_object *cached = cache_object(session->cache, ref);

	return OWN_LIKELY(cached->ref == ref) && own_drop_cached(session, ref, cached, result);
}

static inline bool own_drop_cached(struct session *session, uint64_t ref, struct cached_object *cached, int *result)
{
	struct object_header *header = cached->header;
	uint64_t n_more, next;

	if (OWN_UNLIKELY(!header))
		return false;
	/* relaxed: as in own_find() */
	n_more = __atomic_load_n(&header->word, __ATOMIC_RELAXED);
	next = n_more - 1;
	OWN_NOW(next);
	n_more -= cached->word;
	if (!n_more)
		return own_drop_last(session, ref, cached, result);
	if (OWN_UNLIKELY(!own_is_fewer(session, n_more, OWN_HOLDS_MAX)))
		return false;
	/* relaxed: as in own_hold() */
	__atomic_store_n(&header->word, next, __ATOMIC_RELAXED);
	*result = 0;
	return true;
}

OWN_INLINE bool own_drop_last(struct session *session, uint64_t ref, struct cached_object *cached, int *result)
{
	struct session_entry *entry = session->entry;
	struct own_object object = {
		.header = cached->header, .pool = cached->pool, .word = cached->word, .block1 = cached->block1};

	if (OWN_UNLIKELY(!object.pool))
		return false;
	/* relaxed: what others have a right to is dropped under the lock, and own_let_go() asks again */
	if (OWN_UNLIKELY(!word64_is(&object.header->rights, 0)))
		return false;
	if (OWN_UNLIKELY(!critical_enter_fast(entry)))
		return false;
	/* relaxed: as in own_find(). Any class will do, but CLASS_NONE has one of the two top bits. */
	if (OWN_UNLIKELY((__atomic_load_n(&object.pool->identity, __ATOMIC_RELAXED) & ~((N_CLASSES - 1) << 8)) !=
			 session->blocks_identity)) {
		critical_leave_fast(entry, 0);
		return false;
	}
	cached->ref ^= 1; /* as cache_forget() does */
	*result = 0;
	if (OWN_UNLIKELY(own_let_go(entry, &object, false)))
		*result = own_settle(session, ref);
	else if (OWN_UNLIKELY(own_free_block(&object)))
		*result = own_finish_free(session, object.pool);
	else
		critical_leave_fast(entry, -1);
	return true;
}

/* The word of bytes that the session holds once, without generation and size. */
#define OWN_BYTES_ONCE (header_live(0, TYPE_BYTES, 0, STATE_LIVE) | 1)
#define OWN_SIZE_BITS  header_live(0, 0, HEADER_SIZE_MAX, 0)

static inline bool own_drop_block(struct session *session, uint64_t ref, int *result)
{
	uint64_t index = ref_position(ref) >> (POOL_SHIFT - 3), generation;
	struct session_entry *entry = session->entry;
	struct own_object object;
	uint32_t hint;

	if (OWN_UNLIKELY(index >= session->cache->n_pools))
		return false;
	/*
	 * The address of the header follows from the class. That is taken from the hint, and compared with the pool's
	 * entry afterwards: among many pools neither entry nor header is in the processor's cache, and so both are
	 * fetched at once. relaxed: as in own_guess_header()
	 */
	hint = __atomic_load_n(&session->class_hints[index], __ATOMIC_RELAXED);
	object.block1 = block_numbers[hint][ref & (POOL_SIZE / BLOCK_ALIGNMENT - 1)];
	if (OWN_UNLIKELY(!object.block1))
		return false;
	if (OWN_UNLIKELY(!critical_enter_fast(entry)))
		return false;
	object.pool = &session->pools[index];
	object.header = own_block_header(session, index, object.block1);
	/* relaxed, all: as in own_find() and own_drop_last() */
	if (OWN_UNLIKELY(!word32_is(&object.pool->identity, session->hinted_identity + (hint << 8))))
		goto another;
	object.word = __atomic_load_n(&object.header->word, __ATOMIC_RELAXED);
	generation = ref & ~REF_POSITION_MASK;
	if (OWN_UNLIKELY((object.word - OWN_BYTES_ONCE - generation) & ~OWN_SIZE_BITS) ||
		OWN_UNLIKELY(!word64_is(&object.header->rights, 0)))
		goto another;
	*result = 0;
	if (OWN_UNLIKELY(own_let_go(entry, &object, false))) {
		*result = own_settle(session, ref);
		return true;
	}
	object.word = generation; /* own_free_block_by_parts() needs no more of it */
	if (OWN_UNLIKELY(own_free_block_by_parts(&object)))
		*result = own_finish_free_at(session, ref);
	else
		critical_leave_fast(entry, -1);
	return true;

another:
	critical_leave_fast(entry, 0); /* nothing was changed */
	return false;
}
