/* SPDX-License-Identifier: MIT */
#pragma once

/* A session's own pools: making, holding and giving up its own objects without the lock. See own.c. */

#include "heap/memory/pool.h"
#include "heap/object/type.h"
#include "heap/shared/cache.h"
#include "heap/shared/critical.h"

#include <errno.h>

/* What a function here returns, beside negative errnos, when the thing goes under the lock. Nothing was changed. */
#define OWN_NOT 2

/* A LIVE object in a pool of the session's own. */
struct own_object {
	struct pool_entry *pool;
	struct object_header *header;
	uint64_t word;     /* as it was when it was found */
	uint32_t identity; /* the same, of its pool */
	uint64_t block1;   /* its number in it, from 1; 0: it is a run */
};

/*
 * Find what any 64-bit number names among the session's own objects; false: nothing. Needs no lock. A pool in which the
 * session holds something stays its own. Of a number whose object is gone the pool may be taken away and used by others
 * just between the two looks here; then what is read as a header may be one of a later generation, which does not
 * match, or part of somebody's payload.
 */
static inline bool own_find(const struct session *session, uint64_t ref, struct own_object *ret);
/*
 * The same for where the session neither has the lock nor is inside a call: meanwhile nobody takes the pool away, so
 * that its memory is there to be looked at. Sees to what is wanted of the session first; false also when that fails.
 */
static inline bool own_lookup(struct session *session, uint64_t ref, struct own_object *ret);

/* Make an object, held once. OWN_NOT: own_refill(), or it is none for pools of its own (a run that is too long). */
int own_new(struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret);
/*
 * The same of 1 to BLOCK_SIZE_MAX bytes, the most frequent of all, in the pool where the last of their class was made.
 * True: *result is what comes of it. False: own_new() may do it, or say why not.
 */
static inline bool own_new_bytes(struct session *session, size_t size_class, size_t size, uint64_t *ret, int *result);

/*
 * A change, or a few: see to it that own_new() of that size finds room. HEAP_WANTS_ARENAS; OWN_NOT it is none for such
 * pools. Before the first of both the caller sets session->n_collections to 0.
 */
int own_refill(struct session *session, size_t size, size_t alignment);

/* There is no memory for what the session wants: gather all that was returned to it. 1 there was something: try it
 * again. */
int own_collect_all(struct session *session);

/* Hold once more what it holds already. The first is quick and knows what was used lately. */
static inline int own_hold(struct session *session, uint64_t ref);
int own_hold_any(struct session *session, uint64_t ref);

/*
 * Hold once less; the last time frees it, where nobody else ever knew it and it has no slots. False, or OWN_NOT: it is
 * none for the first, which is quick and knows bytes in a block that was used lately, and says in *result what comes of
 * it; for the second: it is dropped under the lock.
 */
static inline bool own_drop(struct session *session, uint64_t ref, int *result);
/* The same of what the caller has found among what was used lately. */
static inline bool own_drop_cached(struct session *session, uint64_t ref, struct cached_object *cached, int *result);
/* The same of what is held once, as the header's word has just said. */
static inline bool own_drop_last(struct session *session, uint64_t ref, struct cached_object *cached, int *result);
int own_drop_any(struct session *session, uint64_t ref);
/* As own_drop(), but of what is not among what was used lately, in a block of a pool that the session's process made
 * objects in lately. */
static inline bool own_drop_block(struct session *session, uint64_t ref, int *result);

/* Of an object that the session holds: it is found sooner from now on, see cached.h. */
void own_remember(struct session *session, uint64_t ref, const struct own_object *object);

/* Somebody wants something of the session: wait until he is done, and see to what he asks for. Where that is to gather
 * more than one change can, he asks for the rest still. */
int session_serve_requests(struct session *session);

/* Daemon: the session has done something: what was gone through so far of what it keeps free is gone through anew. */
void own_trim_restart(struct heap *heap, uint32_t index);

/* Daemon, one step: take back what an idle session keeps free. 1 there may be more, 0 done, -EBUSY the lock is taken.
 */
int own_trim(struct session *daemon, uint32_t index);

/* ---- inline, for they are the most frequent of all ----------------------------------------------------------------
 */

#define OWN_LIKELY(x)   __builtin_expect(!!(x), 1)
#define OWN_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define OWN_INLINE      static inline __attribute__((always_inline)) /* whatever the number of its callers */

/*
 * Where the header lies follows from the pool's class, which its entry says. Among many pools neither is in the cache:
 * fetch it from where it most likely lies, beside the entry and not after it.
 */
static inline const void *own_guess_header(const struct session *session, uint64_t off)
{
	/* relaxed: other threads of this process write it, too, and whatever it says does no harm */
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

/* What own_guess_header() goes by: the class of the blocks in a pool, as it is now. */
static inline void own_note_class(const struct session *session, const struct pool_entry *pool)
{
	uint8_t *hint = &session->heap->class_hints[pool - session->pools];
	uint8_t now = pool->size_class < N_CLASSES ? (uint8_t)(pool->size_class + 1) : 0;

	/* relaxed, both: as there */
	if (OWN_UNLIKELY(__atomic_load_n(hint, __ATOMIC_RELAXED) != now))
		__atomic_store_n(hint, now, __ATOMIC_RELAXED);
}

/* The same as own_may_be(), of what is not looked at next where it is not. */
static inline bool own_is_mine(const struct session *session, uint64_t ref)
{
	uint64_t pool = ref_position(ref) >> (POOL_SHIFT - 3);

	/* relaxed, all: as there */
	return OWN_LIKELY(pool < __atomic_load_n(&session->heap->n_pools_known, __ATOMIC_RELAXED)) &&
	       __atomic_load_n(&session->pools[pool].identity, __ATOMIC_RELAXED) >> 16 == session->owner1;
}

/* Does it name a place in a pool of the session's own? Of most that are another's this is all that is asked. */
static inline bool own_may_be(const struct session *session, uint64_t ref)
{
	uint64_t off = ref_position(ref) << 3;

	if (OWN_UNLIKELY(off >> POOL_SHIFT >= __atomic_load_n(&session->heap->n_pools_known, __ATOMIC_RELAXED)))
		return false;
	own_fetch_header(session, off);
	/* relaxed, both: as in own_locate() */
	return __atomic_load_n(&session->pools[off >> POOL_SHIFT].identity, __ATOMIC_RELAXED) >> 16 == session->owner1;
}

/* Of block block1 of a pool. */
static inline struct object_header *own_block_header(const struct session *session, uint64_t pool, uint64_t block1)
{
	return (struct object_header *)(void *)(session->base + (pool << POOL_SHIFT)) + block1 - 1;
}

/* Where its header lies, if it names anything in the session's pools; of what that is nothing is said. */
static inline bool own_locate(const struct session *session, uint64_t ref, struct own_object *ret)
{
	uint64_t off = ref_position(ref) << 3;

	/* relaxed: what the session owns was seen when it took it */
	if (OWN_UNLIKELY(off >> POOL_SHIFT >= __atomic_load_n(&session->heap->n_pools_known, __ATOMIC_RELAXED)))
		return false;
	ret->pool = &session->pools[off >> POOL_SHIFT];
	/* relaxed: only this session and who keeps it out make a pool its own, or take it away */
	ret->identity = __atomic_load_n(&ret->pool->identity, __ATOMIC_RELAXED);
	if (ret->identity >> 16 != session->owner1)
		return false;
	/* a kind and a class in one look: as in object_locate_block() */
	if (OWN_LIKELY((ret->identity & 0xc0ff) == POOL_BLOCKS)) {
		ret->block1 = block_at_position(ret->identity >> 8 & (N_CLASSES - 1), ref_position(ref));
		ret->header = own_block_header(session, off >> POOL_SHIFT, ret->block1);
		return ret->block1;
	}
	ret->header = &ret->pool->header;
	ret->block1 = 0;
	return (ret->identity & 0xff) == POOL_RUN && !(off & (POOL_SIZE - 1));
}

static inline bool own_find(const struct session *session, uint64_t ref, struct own_object *ret)
{
	if (!own_locate(session, ref, ret))
		return false;
	/* relaxed: while the session holds it nobody else stores there */
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

/* To the compiler: compute x here, though not every way from here needs it; what it is computed of is needed no more.
 */
#define OWN_NOW(x) __asm__ volatile("" : "+r"(x))

/*
 * Does the session hold it so often more than once, by the difference of its header's word, and is there a heap still?
 * If the word is another's the difference is very large, and if the heap was taken down `ended` is.
 */
static inline bool own_is_fewer(const struct session *session, uint64_t n_more, uint64_t n)
{
	/* relaxed: nothing else is read on the strength of it */
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
	/* relaxed: nobody's doing depends on how often, beyond once */
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
 * Within a call: take the first block of the free list of a pool that is as it is described. False: it has none; or its
 * header is not that of a free one, or somebody is about to find out that what he looks for there is gone.
 */
static inline bool own_take_block(const struct cached_pool *cached, struct pool_entry *pool, struct own_block *ret)
{
	uint64_t counts = __atomic_load_n(&pool->counts, __ATOMIC_RELAXED) + COUNTS_ONE_USED;
	uint64_t block1 = counts_freeblock1(counts), word;

	if (OWN_UNLIKELY(block1 - 1 >= cached->n_blocks)) /* 0 is very large */
		return false;
	ret->block1 = block1;
	ret->header = cached->header0 + block1;
	ret->position = cached->position0 + block1 * cached->stride;
	/* relaxed is enough, for both: nobody else changes a free one; the stranger's rights are ordered as in
	 * own_let_go() */
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

/* Within a call: the next generation of a pool. */
static inline uint32_t own_next_generation(struct pool_entry *pool)
{
	uint32_t generation = pool->generation + 1;

	if (OWN_UNLIKELY(generation > GENERATION_MAX))
		generation = 1;
	/* relaxed: before the word that has it, which is stored with release */
	__atomic_store_n(&pool->generation, generation, __ATOMIC_RELAXED);
	return generation;
}

/* Within a call: complete the header of something that is free: the object is there, and held once. Returns its word.
 */
static inline uint64_t own_begin(struct object_header *header, uint32_t generation, uint32_t type, uint64_t block_size)
{
	uint64_t word = header_live(generation, type, block_size, STATE_LIVE) | 1;

	/* commit: release, after the generation and the slots */
	__atomic_store_n(&header->word, word, __ATOMIC_RELEASE);
	return word;
}

/* Ends the call, and with it one more is held: a pool's free list is empty now. 0. */
int own_finish_new(struct session *session, struct pool_entry *pool);

OWN_INLINE bool own_new_bytes(struct session *session, size_t size_class, size_t size, uint64_t *ret, int *result)
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
	/* relaxed: only this session and who keeps it out change it */
	if (OWN_UNLIKELY(__atomic_load_n(&pool->identity, __ATOMIC_RELAXED) != cached->identity ||
			 !own_take_block(cached, pool, &block))) {
		critical_leave_fast(entry, 0);
		return false;
	}
	generation = own_next_generation(pool);
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

/* Within a call: it is held no more, by its word from now on, which is as it was found. True: others know it, or want
 * something of the session; then own_settle(). */
static inline bool own_let_go(const struct session_entry *entry, const struct own_object *object, bool is_fenced)
{
	/* release: whoever sees it sees that the session is inside */
	__atomic_store_n(&object->header->word, object->word - 1, __ATOMIC_RELEASE);
	/* that store before these loads, for who calls critical_barrier(); see critical_light_barrier() */
	if (is_fenced)
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	else
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return OWN_UNLIKELY(!word64_is(&object->header->rights, 0)) || OWN_UNLIKELY(!word32_is(&entry->requests, 0));
}

/*
 * Within a call: the block goes on its pool's free list. True: that was empty, or the pool is free now:
 * own_finish_free().
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

/* The same of a pool whose numbers are in no cache: by parts, so that the store of the new freeblock1, which follows
 * from the ref, waits for no load. Who loads all three soon after waits until all are in the cache. */
static inline bool own_free_block_by_parts(const struct own_object *object)
{
	struct pool_entry *pool = object->pool;
	/* relaxed, all: as there */
	uint32_t before = __atomic_load_n(&pool->freeblock1, __ATOMIC_RELAXED);

	__atomic_store_n(&object->header->word, header_free(object->word, before), __ATOMIC_RELAXED);
	__atomic_store_n(&pool->freeblock1, (uint16_t)object->block1, __ATOMIC_RELAXED);
	if (OWN_UNLIKELY(word16_count_down(&pool->n_used)))
		return true;
	return !before;
}

/* Both end the call that they are called in, with one held less; the first, where it is refused the lock, with as many.
 */
int own_settle(struct session *session, uint64_t ref);
int own_finish_free(struct session *session, struct pool_entry *pool); /* 0 */
int own_finish_free_at(struct session *session, uint64_t ref);         /* the same, of the pool that ref is in */

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
	/* relaxed is enough: what others have a right to is dropped under the lock; whether they have is asked again */
	if (OWN_UNLIKELY(!word64_is(&object.header->rights, 0)))
		return false;
	if (OWN_UNLIKELY(!critical_enter_fast(entry)))
		return false;
	/* relaxed: as in own_find(). Of whatever class, unless it is none; no class has one of the two top bits. */
	if (OWN_UNLIKELY((__atomic_load_n(&object.pool->identity, __ATOMIC_RELAXED) & ~((N_CLASSES - 1) << 8)) !=
			 session->blocks_identity)) {
		critical_leave_fast(entry, 0);
		return false;
	}
	cached->ref ^= 1; /* as cache_forget() */
	*result = 0;
	if (OWN_UNLIKELY(own_let_go(entry, &object, false)))
		*result = own_settle(session, ref);
	else if (OWN_UNLIKELY(own_free_block(&object)))
		*result = own_finish_free(session, object.pool);
	else
		critical_leave_fast(entry, -1);
	return true;
}

/* What the header's word says of bytes that the session holds once, whatever their size. */
#define OWN_BYTES_ONCE (header_live(0, TYPE_BYTES, 0, STATE_LIVE) | 1)
#define OWN_SIZE_BITS  header_live(0, 0, 0x3ff, 0)

static inline bool own_drop_block(struct session *session, uint64_t ref, int *result)
{
	uint64_t index = ref_position(ref) >> (POOL_SHIFT - 3), generation;
	struct session_entry *entry = session->entry;
	struct own_object object;
	uint32_t hint;

	if (OWN_UNLIKELY(index >= session->cache->n_pools))
		return false;
	/*
	 * Where the header lies follows from the class, which is taken from the hint and compared with the pool's entry
	 * afterwards: among many pools neither entry nor header is in the cache, and the one is not waited for to fetch
	 * the other. relaxed: as in own_guess_header()
	 */
	hint = __atomic_load_n(&session->class_hints[index], __ATOMIC_RELAXED);
	object.block1 = block_numbers[hint][ref & (POOL_SIZE / BLOCK_ALIGNMENT - 1)];
	if (OWN_UNLIKELY(!object.block1))
		return false;
	if (OWN_UNLIKELY(!critical_enter_fast(entry)))
		return false;
	object.pool = &session->pools[index];
	object.header = own_block_header(session, index, object.block1);
	/* relaxed is enough, for all: as in own_find(), and in own_drop() */
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
	object.word = generation; /* all that is wanted of it now */
	if (OWN_UNLIKELY(own_free_block_by_parts(&object)))
		*result = own_finish_free_at(session, ref);
	else
		critical_leave_fast(entry, -1);
	return true;

another:
	critical_leave_fast(entry, 0); /* nothing was done */
	return false;
}
