// SPDX-License-Identifier: MIT
/*
 * A session's own pools
 *
 * A session makes objects in pools that it owns. As long as nobody else knows such an object, it is the session's
 * private affair: made and freed by plain stores to memory that nobody else changes, within a critical section, without
 * the lock, a system call or an atomic read-modify-write. How often the session holds it is counted in the header's
 * word, so the object needs no entry of a hold table.
 *
 * The header's rights count everybody else (right.c). Others change them under the lock, or by a compare-and-swap of
 * the whole header (count.c); the owner adds what it gives away to queues (queue.c). Once another has had a right
 * (RIGHTS_SHARED), the owner gives up its last hold under the lock (own_settle()).
 *
 * The owner first stores that it holds the object no more, then reads the rights, and frees the block only if they are
 * 0. A stranger, who holds the object because of a number that it got from somewhere, first stores its right, then
 * makes all processors see that (critical_barrier()), then reads the word. So either the stranger finds that the owner
 * let go, or the owner finds the right. (If the stranger has come and gone meanwhile and freed the object, the owner
 * finds at least REQUEST_STRANGER.) A right that the owner itself gives (to a slot, a name, a queue) needs no barrier,
 * because the owner has stored it. Model: tests/model/own.pml.
 *
 * If the owner lets go of an object and is then refused the lock, it puts the hold back, because its caller learns
 * that nothing happened. put_back() says why nobody can have acted on it.
 *
 * usedpools has the session's pools with room, by class. A full pool is on no list; a block freed in it brings it to
 * the front of its class. The first allocation of a pool puts all its blocks on its free list, so that an empty free
 * list means a full pool. What becomes free, and what others freed, goes back in own_trim.c.
 *
 * The most frequent calls are inline in own.h, and the shortest of them are inline in programs too (pyheap-inline.h).
 * They find objects and pools in the cache of the session's process (heap/shared/cache.h). The functions here find them
 * anew.
 *
 * If the session dies: its pools and runs are on the list owned_pools, which is changed under the lock; the headers say
 * what is in them, and lists and counts are made anew from the headers when the session is reclaimed. A header is
 * complete when its word says LIVE; the pool's generation is raised before that.
 */

#include "heap/object/own.h"
#include "heap/change/lock.h"
#include "heap/memory/memory.h"
#include "heap/object/header_lock.h"
#include "heap/object/readers.h"

#include <errno.h>

#define STRANGERS_MAX 100U

#define OWN_LAST 3 /* the object is made, of the last block of the free list */

/* Making */

/* 0: the session is active. Negative errno: it is not. */
static int enter(struct session *session)
{
	int r;

	while (!critical_enter(session)) {
		if (session->n_collections >= OWN_COLLECTIONS_MAX && critical_enter_collecting(session))
			return 0;
		r = own_serve_share(session);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * Within a critical section: put the untouched blocks on the free list, which is empty, in their order. After a death
 * in the middle some of them look as if they had been used before. False: one of them was not untouched. Those before
 * it are linked then, but on no list: the next call says so again, and a repair finds them free.
 */
static bool carve(struct heap *heap, struct pool_entry *pool)
{
	struct object_header *headers = pool_headers(heap, pool);
	uint32_t n_blocks = class_shapes[pool->size_class & (N_CLASSES - 1)].n_blocks, first = pool->n_carved;

	/* relaxed: it is the session's own */
	for (uint32_t i = first; i < n_blocks; i++) {
		if (!word64_is(&headers[i].word, 0) || !word64_is(&headers[i].rights, 0))
			return false;
		__atomic_store_n(&headers[i].word, header_free(0, i + 1 < n_blocks ? i + 2 : 0), __ATOMIC_RELAXED);
	}
	/* by one store, since it is read as one word next */
	heap_store(heap, false, &pool->counts, counts_carved(pool->n_used, n_blocks, first + 1));
	return true;
}

int own_finish_new(struct session *session, struct pool_entry *pool)
{
	uint32_t size_class = pool->size_class & (N_CLASSES - 1);

	if (pool->n_carved < class_shapes[size_class].n_blocks)
		(void)carve(session->heap, pool); /* if it fails, the next call says so */
	else
		pool_unlink_used(session->heap, false, &session->entry->usedpools1[size_class], pool);
	critical_leave(session, 1);
	return 0;
}

static int take_run(struct session *session, uint64_t n_pools, uint32_t type, const struct type_info *slots,
	size_t size, uint64_t *ret)
{
	struct heap *heap = session->heap;
	uint32_t *spare1;
	struct pool_entry *pool;
	uint32_t index, generation;

	if (n_pools > SPARE_RUN_MAX || n_pools >= heap->pools_per_arena)
		return OWN_NOT;
	spare1 = &session->entry->spare_runs1[n_pools - 1];
	if (!*spare1)
		return OWN_NOT;
	index = *spare1 - 1;
	pool = pool_at(heap, index);
	if (!pool || pool->identity != pool_identity(POOL_RUN, CLASS_NONE, session->owner1) ||
		pool->run_n_pools != n_pools || header_state(pool->header.word) != STATE_FREE)
		return -EUCLEAN;
	if (__atomic_load_n(&pool->header.rights, __ATOMIC_RELAXED))
		return -EAGAIN;
	heap_store(heap, false, spare1, 0);
	heap_store(heap, false, &pool->run_size, size);
	if (slots)
		type_clear_slots(slots, heap->base + ((uint64_t)index << POOL_SHIFT), size);
	generation = own_next_generation(pool);
	own_begin(&pool->header, generation, type, 0);
	*ret = ref_make((uint64_t)index << (POOL_SHIFT - 3), generation);
	return 0;
}

bool own_new_medium(struct session *session, size_t size, uint64_t *ret, int *result)
{
	return own_new_in_class(session, class_of_size(size), true, size, ret, result);
}

bool own_locate_medium(const struct session *session, uint64_t ref, struct own_object *ret)
{
	uint32_t kind = ret->identity & 0xff, size_class = ret->identity >> 8 & 0xff;

	if ((kind != POOL_BODY && kind != POOL_BLOCKS) || class_is_small(size_class))
		return false;
	if (kind == POOL_BODY)
		ret->pool = pool_of_body(session->heap, ret->pool);
	/* relaxed: as in own_locate(). Otherwise the span has gone since its body was read. */
	if (__atomic_load_n(&ret->pool->identity, __ATOMIC_RELAXED) !=
		pool_identity(POOL_BLOCKS, size_class, session->owner1))
		return false;
	ret->block1 = pool_block1(session->heap, ret->pool, size_class, ref_position(ref));
	ret->header = pool_headers(session->heap, ret->pool) + ret->block1 - 1;
	return ret->block1;
}

/* Describe the first pool with room of a class. OWN_NOT: there is none. -EUCLEAN. */
static int describe_pool(const struct session *session, uint32_t size_class, struct cached_pool *ret)
{
	const struct class_shape *shape = &class_shapes[size_class];
	uint32_t index1 = session->entry->usedpools1[size_class];
	struct pool_entry *pool;

	if (!index1)
		return OWN_NOT;
	/* relaxed: as in own_locate() */
	if (index1 - 1 >= __atomic_load_n(&session->heap->n_pools_known, __ATOMIC_RELAXED))
		return -EUCLEAN;
	pool = &session->pools[index1 - 1];
	if (pool->identity != pool_identity(POOL_BLOCKS, size_class, session->owner1))
		return -EUCLEAN;
	/* relaxed: as in own_guess_header() */
	__atomic_store_n(&session->heap->class_hints[index1 - 1],
		class_is_small(size_class) ? (uint8_t)(size_class + 1) : 0, __ATOMIC_RELAXED);
	*ret = (struct cached_pool){
		.pool = pool,
		.header0 = pool_headers(session->heap, pool) - 1,
		.position0 = block_position(session->heap, pool, 0) - shape->size / 8,
		.stride = shape->size / 8,
		.identity = pool->identity,
		.n_blocks = shape->n_blocks,
	};
	return 0;
}

/* Of a pool with room. -EAGAIN: a stranger, who has the lock, is about to find out that the object is gone. */
static int why_not_taken(const struct cached_pool *pool)
{
	uint32_t block1 = pool->pool->freeblock1;

	if (block1 - 1U >= pool->n_blocks)
		return -EUCLEAN;
	return __atomic_load_n(&pool->header0[block1].rights, __ATOMIC_RELAXED) ? -EAGAIN : -EUCLEAN;
}

static int take_block(struct session *session, uint32_t size_class, uint32_t type, const struct type_info *slots,
	size_t size, uint64_t *ret, struct pool_entry **ret_pool)
{
	struct cached_pool pool;
	struct own_block block;
	uint32_t generation;
	int r;

	r = describe_pool(session, size_class, &pool);
	if (r)
		return r;
	if (!pool.pool->freeblock1 && pool.pool->n_carved < pool.n_blocks && !carve(session->heap, pool.pool))
		return -EUCLEAN;
	if (!own_take_block(&pool, pool.pool, &block))
		return why_not_taken(&pool);
	if (session->cache->is_mine && !session->is_fenced)
		session->cache->pools[size_class] = pool;
	if (slots)
		type_clear_slots(slots, session->base + (block.position << 3), size);
	generation = own_next_generation(&session->pools[block.position >> (POOL_SHIFT - 3)]);
	own_begin(block.header, generation, type, size);
	*ret = ref_make(block.position, generation);
	*ret_pool = pool.pool;
	return counts_freeblock1(block.counts) ? 0 : OWN_LAST;
}

/* Returns after the owner of the lock has released it. */
static int wait_for_lock(struct session *session)
{
	int r = change_begin(session);

	return r < 0 ? r : change_end(session, 0);
}

int own_new(struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret)
{
	uint64_t n_pools = 0;
	uint32_t size_class = memory_class(session->heap, SPACE_OBJECTS, size, info->alignment, &n_pools);
	const struct type_info *slots = info->stride || info->n_slots ? info : NULL;
	struct pool_entry *pool = NULL;
	int r;

	for (uint32_t i = 0; i < STRANGERS_MAX; i++) {
		r = enter(session);
		if (r < 0)
			return r;
		if (size_class == CLASS_NONE)
			r = take_run(session, n_pools, type, slots, size, ret);
		else
			r = take_block(session, size_class, type, slots, size, ret, &pool);
		if (r == OWN_LAST)
			return own_finish_new(session, pool);
		critical_leave(session, r == 0);
		if (r != -EAGAIN)
			return r;
		r = wait_for_lock(session);
		if (r < 0)
			return r;
	}
	return -EUCLEAN;
}

/* Freeing */

/*
 * Within a change: free the object if nobody has a right to it. If put_back() has put the hold back in vain, it goes
 * now.
 */
static int settle(struct session *session, uint64_t ref)
{
	struct own_object object;
	int r;

	if (!own_find(session, ref, &object))
		return 0;
	r = header_lock(session, object.header, ref);
	if (r < 0)
		return r == -ESTALE ? 0 : r; /* somebody else has just dropped the last right */
	if (header_own(object.word))
		heap_set(session->heap, &object.header->word, object.word - header_own(object.word));
	/* relaxed: nobody else changes them now */
	return rights_count(__atomic_load_n(&object.header->rights, __ATOMIC_RELAXED)) ||
			       readers_keep(session, object.header, ref)
		       ? 0
		       : memory_give(session, ref_position(ref));
}

/*
 * Hold the object again, after the lock was refused (`error`) because another thread has it for this session (-EPERM)
 * or this thread has it for another session (-EDEADLK). Nobody changes anything under the lock meanwhile. True: the
 * lock was held by that thread until the hold was back. False: somebody may have taken the lock, found the object held
 * no more, and freed it, or be about to. The compare-and-swap leaves alone what was freed.
 */
static bool put_back(struct session *session, const struct own_object *object, int error)
{
	uint64_t word = object->word;

	/* relaxed: the fence below orders it */
	if (!header_own(word) && !__atomic_compare_exchange_n(&object->header->word, &word, word + 1, false,
					 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return false;
	/*
	 * That store before the lock is read: the process that takes the lock after that finds the object held. See
	 * heap/change/lock.c.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return error == -EDEADLK || lock_is_still_held(session);
}

/*
 * Others know the object, or knew it. If they let go of it before the owner did, the owner frees it now; if after, the
 * last of them has freed it. If the lock cannot be had at all because the heap is damaged, somebody may be freeing the
 * object: it stays dropped, and if nobody has a right to it, reclaiming the session frees it.
 */
int own_settle(struct session *session, uint64_t ref)
{
	struct own_object object;
	int r;

	while ((r = change_begin(session)) == -EPERM || r == -EDEADLK) {
		if (!own_find(session, ref, &object))
			break;
		if (put_back(session, &object, r)) {
			critical_leave(session, 0);
			return r;
		}
	}
	r = r < 0 ? 0 : change_end(session, settle(session, ref));
	critical_leave(session, -1);
	return r;
}

int own_finish_free(struct session *session, struct pool_entry *pool)
{
	struct heap *heap = session->heap;
	uint32_t size_class = pool_class_of(pool), i = pool->freeblock1 - 1U;
	const struct object_header *last = &pool_headers(heap, pool)[i % (POOL_SIZE / sizeof(struct object_header))];
	bool goes;

	/* It is the only block on the free list: the pool was full, and on no list. */
	if (!header_link(last->word) && pool->n_carved == class_shapes[size_class].n_blocks) {
		pool_link_used(heap, false, &session->entry->usedpools1[size_class], pool);
		cache_forget_pool(session->cache, size_class); /* the pool is first now */
	}
	goes = !pool->n_used && (pool->next1 || pool->prev1);
	critical_leave(session, -1);
	if (goes)
		own_note_freed(session, pool);
	return 0;
}

int own_finish_free_at(struct session *session, uint64_t ref)
{
	/* a small block's: own_drop_block() knows no others */
	return own_finish_free(session, &session->pools[ref_position(ref) >> (POOL_SHIFT - 3)]);
}

static uint32_t *spare_of_size(struct session *session, const struct pool_entry *pool)
{
	uint32_t n_pools = pool->run_n_pools;

	return n_pools && n_pools <= SPARE_RUN_MAX && n_pools < session->heap->pools_per_arena
		       ? &session->entry->spare_runs1[n_pools - 1]
		       : NULL;
}

static void free_run(struct session *session, const struct own_object *object)
{
	uint32_t *spare1 = spare_of_size(session, object->pool);

	__atomic_store_n(&object->header->word, header_free(object->word, 0), __ATOMIC_RELAXED);
	if (spare1) /* there is none: its length has changed since is_private(), by a stray write */
		heap_store(session->heap, false, spare1, pool_index(session->heap, object->pool) + 1);
}

/* It is held once. Can this session alone free it? */
static bool is_private(struct session *session, const struct own_object *object)
{
	uint32_t type = header_type(object->word);
	struct type_info info;
	uint32_t *spare1;

	if (__atomic_load_n(&object->header->rights, __ATOMIC_RELAXED))
		return false;
	if (type != TYPE_BYTES && (type_find(session->heap, type, &info) < 0 || info.stride || info.n_slots))
		return false;
	if (object->pool->kind == POOL_BLOCKS)
		return true;
	spare1 = spare_of_size(session, object->pool);
	/* relaxed: the process that keeps this session out takes a run away, but nobody else puts one there */
	return spare1 && !__atomic_load_n(spare1, __ATOMIC_RELAXED);
}

/* It is held once, by the word. */
static int drop_last(struct session *session, uint64_t ref, const struct own_object *object)
{
	int r;

	if (!is_private(session, object))
		return OWN_NOT;
	if (!critical_enter(session)) {
		r = session_serve_requests(session);
		return r < 0 ? r : OWN_NOT; /* after waiting, the object may be another one */
	}
	cache_forget(session->cache, ref);
	if (own_let_go(session->entry, object, session->is_fenced))
		return own_settle(session, ref);
	if (object->pool->kind == POOL_RUN)
		free_run(session, object);
	else if (own_free_block(object))
		return own_finish_free(session, object->pool);
	critical_leave(session, -1);
	return 0;
}

void own_remember(struct session *session, uint64_t ref, const struct own_object *object)
{
	uint32_t type = header_type(object->word);
	bool is_plain = object->pool->kind == POOL_BLOCKS && type == TYPE_BYTES && !session->is_fenced;

	if (!session->cache->is_mine)
		return;
	*cache_object(session->cache, ref) = (struct cached_object){
		.ref = ref,
		.header = object->header,
		.pool = is_plain ? object->pool : NULL,
		.word = object->word - header_own(object->word) + 1,
		.data = type == TYPE_QUEUE ? NULL : session->base + (ref_position(ref) << 3),
		.block1 = is_plain ? object->block1 : 0,
	};
}

int own_hold_any(struct session *session, uint64_t ref)
{
	struct own_object object;
	uint64_t n;

	if (!own_lookup(session, ref, &object))
		return OWN_NOT;
	n = header_own(object.word);
	if (!n || n == OWN_HOLDS_MAX)
		return OWN_NOT;
	__atomic_store_n(&object.header->word, object.word + 1, __ATOMIC_RELAXED); /* relaxed: as in own_hold() */
	own_remember(session, ref, &object);
	return 0;
}

/* Within a critical section: own_drop() of bytes in a block that is not in the cache. OWN_NOT: it is something else. */
static int drop_bytes(struct session *session, uint64_t ref, struct own_object *object)
{
	/* relaxed: as in own_drop_last() */
	if (object->pool->kind != POOL_BLOCKS || header_type(object->word) != TYPE_BYTES ||
		__atomic_load_n(&object->header->rights, __ATOMIC_RELAXED))
		return OWN_NOT;
	cache_forget(session->cache, ref);
	if (own_let_go(session->entry, object, session->is_fenced))
		return own_settle(session, ref);
	if (own_free_block(object))
		return own_finish_free(session, object->pool);
	critical_leave(session, -1);
	return 0;
}

int own_drop_any(struct session *session, uint64_t ref)
{
	struct own_object object;
	int r;

	if (!own_may_be(session, ref))
		return OWN_NOT;
	if (!critical_enter(session)) /* the requests are served only if there is something to drop here */
		return own_find(session, ref, &object) && header_own(object.word) == 1
			       ? drop_last(session, ref, &object)
			       : OWN_NOT;
	if (!own_find(session, ref, &object) || !header_own(object.word)) {
		critical_leave(session, 0);
		return OWN_NOT;
	}
	if (header_own(object.word) > 1) {
		__atomic_store_n(
			&object.header->word, object.word - 1, __ATOMIC_RELAXED); /* relaxed: as in own_hold() */
		critical_leave(session, 0);
		return 0;
	}
	r = drop_bytes(session, ref, &object);
	if (r != OWN_NOT)
		return r;
	critical_leave(session, 0);
	cache_forget(session->cache, ref);
	return drop_last(session, ref, &object);
}
