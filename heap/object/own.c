/* SPDX-License-Identifier: MIT */
/*
 * A session's own pools
 *
 * A session makes objects in pools that it owns, and as long as nobody else has come to know such an object it is the
 * session's private affair: made and freed by plain stores to memory that nobody else changes, without the lock, a
 * system call or an atomic read-modify-write. How often the session holds it stands in the header word, so that such an
 * object costs no entry in a hold table.
 *
 * The header's second word counts everybody else's rights. Others change it, under the lock or by a
 * compare-and-swap of both words (claim.c, count.c), and beside them the owner counts what it gives away to queues
 * (queue.c). Once one was given (RIGHTS_SHARED), the owner gives up the last right of all under the lock. The owner
 * looks at that word after it has stored that it holds the object no more, and frees the block only if it is 0. A
 * stranger who takes a hold on the strength of a number that he got from somewhere stores to it, then makes all
 * processors see that (critical_barrier()), then looks at the word: either he finds that the owner let go, or the owner
 * finds him (or, should he have come and gone meanwhile and freed it, at least REQUEST_STRANGER). Who is given a
 * right by the owner (a slot, a name, a queue) needs no barrier: the owner has stored it itself.
 *
 * What is let go of so is put back where the lock is then refused, since the caller is told that nothing happened: see
 * put_back() for why it is certain that nobody has acted on it.
 *
 * usedpools are the session's pools with room, its own list of each class; a block that is freed in a full pool brings
 * that to the front. All blocks of a pool come on its free list when the first of them is asked for, so that an empty
 * list is a full pool. One free pool of a class stays; any further go back to their arenas, SESSION_FREED_MAX in one
 * change, or with the next change of the session's own pools, or when it does nothing any more. A run of at most
 * SPARE_RUN_MAX pools is kept when it becomes free, one of each length. What others returned is gathered when a class
 * has no block left, when the daemon asks for it (requests), or by the daemon when the session does nothing
 * (own_trim()). There may be any number of such pools: a call gathers from a few, and leaves it to the next to go
 * on, by asking itself for it. Only where there is no other memory all of them are gathered (own_collect_all()).
 *
 * The most frequent calls are inline (own.h; the shortest of them in programs, too: pyheap.h). They find an object and
 * the pool of a class by what the session's process keeps of those it used lately (cached.h); the functions here find
 * them anew.
 *
 * Died in the middle: pools and runs are found by the list of owned ones, which is changed under the lock; what is in
 * them is said by their headers. The rest, lists and numbers, is made anew from them when the session is reclaimed. A
 * header is complete when its word says LIVE, and the pool's generation is counted before.
 */

#include "heap/object/own.h"
#include "heap/memory/memory.h"
#include "heap/memory/rebuild.h"
#include "heap/memory/run.h"
#include "heap/object/header_lock.h"

#include <errno.h>
#include <stdlib.h>

#define POOLS_COLLECTED_COST 8U    /* in one change */
#define COLLECTIONS_MAX      3U    /* such changes in one call */
#define TRIM_POOLS_MAX       32U   /* given back in one change */
#define POOLS_EXAMINED       1024U /* in one change, for free ones */
#define STRANGERS_MAX        100U

#define OWN_LAST 3 /* it is made, and was the last block of its pool's free list */

/* ---- making ------------------------------------------------------------------------------------------------------ */

/* One change: see to what is wanted of the session; what was returned is gathered from so many pools at most. */
static int serve(struct session *session, uint32_t n_max);

/* How many pools the next change of this call may gather from. */
static uint32_t collecting_share(struct session *session)
{
	return session->n_collections++ < COLLECTIONS_MAX ? POOLS_COLLECTED_COST : 0;
}

/* In, or a negative errno. */
static int enter(struct session *session)
{
	int r;

	while (!critical_enter(session)) {
		if (session->n_collections >= COLLECTIONS_MAX && critical_enter_collecting(session))
			return 0;
		r = serve(session, collecting_share(session));
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * Within a call: the blocks that were never touched go on the free list, which is empty, in their order. Died in the
 * middle: some of them look as if they had been used before. False: that they were never touched is not true. Those in
 * front are linked by then, on no list: the next call says the same, and a repair finds them free.
 */
static bool carve(struct heap *heap, struct pool_entry *pool)
{
	struct object_header *headers = pool_headers(heap, pool);
	uint32_t n_blocks = class_shapes[pool->size_class & (N_CLASSES - 1)].n_blocks, first = pool->n_carved;

	/* relaxed, as heap_store(): it is the session's own */
	for (uint32_t i = first; i < n_blocks; i++) {
		if (!word64_is(&headers[i].word, 0) || !word64_is(&headers[i].rights, 0))
			return false;
		__atomic_store_n(&headers[i].word, header_free(0, i + 1 < n_blocks ? i + 2 : 0), __ATOMIC_RELAXED);
	}
	/* as a whole, as it is read next */
	heap_store(heap, false, &pool->counts, counts_carved(pool->n_used, n_blocks, first + 1));
	return true;
}

int own_finish_new(struct session *session, struct pool_entry *pool)
{
	uint32_t size_class = pool->size_class & (N_CLASSES - 1);

	if (pool->n_carved < class_shapes[size_class].n_blocks)
		(void)carve(session->heap, pool); /* in vain: the next call says so */
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

/* Describe the first pool of a class. 0; OWN_NOT there is none, -EUCLEAN. */
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
	__atomic_store_n(&session->heap->class_hints[index1 - 1], (uint8_t)(size_class + 1), __ATOMIC_RELAXED);
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

/*
 * Of a pool among those with room. -EAGAIN somebody is about to find out that what he looks for is not there any more:
 * he has the lock.
 */
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
	generation = own_next_generation(pool.pool);
	own_begin(block.header, generation, type, size);
	*ret = ref_make(block.position, generation);
	*ret_pool = pool.pool;
	return counts_freeblock1(block.counts) ? 0 : OWN_LAST;
}

/* Whoever has the lock has it no more. */
static int wait_for_lock(struct session *session)
{
	int r = change_begin(session);

	return r < 0 ? r : change_end(session, 0);
}

int own_new(struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret)
{
	uint64_t n_pools = 0;
	uint32_t size_class = memory_class(size, info->alignment, &n_pools);
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

/* ---- freeing ----------------------------------------------------------------------------------------------------- */

/* It is held no more, unless it was put back in vain: then it is let go of now. */
static int settle(struct session *session, uint64_t ref)
{
	struct own_object object;
	int r;

	if (!own_find(session, ref, &object))
		return 0;
	r = header_lock(session, object.header, ref);
	if (r < 0)
		return r == -ESTALE ? 0 : r; /* the last of the others has just dropped it */
	if (header_own(object.word))
		heap_set(session->heap, &object.header->word, object.word - header_own(object.word));
	/* relaxed: nobody else changes it */
	return rights_count(__atomic_load_n(&object.header->rights, __ATOMIC_RELAXED))
		       ? 0
		       : memory_give(session, ref_position(ref));
}

/*
 * The lock is kept by a thread of this session, or by this thread (`error` says which), so nobody changes anything and
 * the hold can be put back. True: that was so until it had been done. False: somebody may have come to the lock and
 * have found that the object is held no more, and free it or have freed it; by CAS, so that what was freed stays so.
 */
static bool put_back(struct session *session, const struct own_object *object, int error)
{
	uint64_t word = object->word;

	/* relaxed: the fence is what matters */
	if (!header_own(word) && !__atomic_compare_exchange_n(&object->header->word, &word, word + 1, false,
					 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return false;
	/* That store before the look at the lock: who takes it after that finds the object held. See lock_answered().
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return error == -EDEADLK || lock_is_still_held(session);
}

/*
 * Others know the object, or knew it. If they had let go of it before this session did, it goes now; if after, whoever
 * was the last has freed it already. Where the lock cannot be had at all, the heap being damaged, nobody can say that
 * it is not being freed: it stays dropped, and if nobody has a right to it, it is found when the session is cleared up.
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

/* Within a change: what became free and still is goes, where it is not the only one with room of its class. */
static int give_freed(struct session *session)
{
	struct heap *heap = session->heap;
	uint32_t n = session->n_freed;
	int r = 0;

	session->n_freed = 0;
	for (uint32_t i = 0; i < n && !r; i++) {
		struct pool_entry *pool = pool_at(heap, session->freed[i]);

		if (!pool || pool->owner1 != session->owner1 || pool->kind != POOL_BLOCKS || pool->n_used ||
			pool->size_class >= N_CLASSES || !(pool->next1 || pool->prev1))
			continue;
		pool_unlink_used(heap, true, &session->entry->usedpools1[pool->size_class], pool);
		r = pool_disown(session, pool);
	}
	return r;
}

/* A pool has become free and is not the only one with room of its class. Where it cannot go it stays. */
static void note_freed(struct session *session, const struct pool_entry *pool)
{
	session->freed[session->n_freed++] = pool_index(session->heap, pool);
	if (session->n_freed < SESSION_FREED_MAX)
		return;
	if (change_begin(session) < 0)
		session->n_freed = 0;
	else
		(void)change_end(session, give_freed(session));
}

int own_finish_free(struct session *session, struct pool_entry *pool)
{
	struct heap *heap = session->heap;
	const struct object_header *last = &pool_headers(heap, pool)[pool->freeblock1 - 1];
	uint32_t size_class = pool->size_class & (N_CLASSES - 1);
	bool goes;

	/* The only block on its free list: it was full, and on no list. */
	if (!header_link(last->word) && pool->n_carved == class_shapes[size_class].n_blocks) {
		pool_link_used(heap, false, &session->entry->usedpools1[size_class], pool);
		cache_forget_pool(session->cache, size_class); /* this one comes first */
	}
	goes = !pool->n_used && (pool->next1 || pool->prev1);
	critical_leave(session, -1);
	if (goes)
		note_freed(session, pool);
	return 0;
}

int own_finish_free_at(struct session *session, uint64_t ref)
{
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
	__atomic_store_n(&object->header->word, header_free(object->word, 0), __ATOMIC_RELAXED);
	heap_store(session->heap, false, spare_of_size(session, object->pool),
		pool_index(session->heap, object->pool) + 1);
}

/* Can the object be freed by this session alone? It is held once. */
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
	/* relaxed: who keeps this session out takes it away, nobody but it puts one there */
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
		return r < 0 ? r : OWN_NOT; /* whatever it waited for, the object may be another now */
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
	__atomic_store_n(&object.header->word, object.word + 1, __ATOMIC_RELAXED); /* as in own_hold() */
	own_remember(session, ref, &object);
	return 0;
}

/* Within a call: what own_drop() does, of bytes in a block that was not used lately. OWN_NOT: it is another. */
static int drop_bytes(struct session *session, uint64_t ref, struct own_object *object)
{
	/* relaxed: as in own_drop() */
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
	if (!critical_enter(session)) /* it sees to what is wanted of it, where it has something to drop here */
		return own_find(session, ref, &object) && header_own(object.word) == 1
			       ? drop_last(session, ref, &object)
			       : OWN_NOT;
	if (!own_find(session, ref, &object) || !header_own(object.word)) {
		critical_leave(session, 0);
		return OWN_NOT;
	}
	if (header_own(object.word) > 1) {
		__atomic_store_n(&object.header->word, object.word - 1, __ATOMIC_RELAXED); /* as in own_hold() */
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

/* ---- within a change --------------------------------------------------------------------------------------------- */

/* Gather what others returned, from so many pools at most. */
static int gather(struct session *session, uint32_t n_max)
{
	struct heap *heap = session->heap;
	struct session_entry *entry = session->entry;
	int r = 0;

	for (uint32_t n = 0; n < n_max && entry->remote_pools1 && !r; n++) {
		struct pool_entry *pool = pool_at(heap, entry->remote_pools1 - 1);
		uint32_t *used1;
		bool was_full, is_free;

		if (!pool || pool->kind != POOL_BLOCKS || pool->owner1 != session->owner1 ||
			pool->size_class >= N_CLASSES)
			return -EUCLEAN;
		used1 = &entry->usedpools1[pool->size_class];
		was_full = !pool_has_room(pool);
		is_free = pool_collect(heap, pool);
		if (was_full)
			pool_link_used(heap, true, used1, pool);
		if (!is_free || !(pool->next1 || pool->prev1))
			continue;
		pool_unlink_used(heap, true, used1, pool);
		r = pool_disown(session, pool);
	}
	return r;
}

static int refill_run(struct session *session, uint32_t n_pools)
{
	uint32_t *spare1 = &session->entry->spare_runs1[n_pools - 1];
	uint32_t index;
	int r;

	if (*spare1)
		return 0;
	r = run_own(session, n_pools, &index);
	if (!r)
		heap_set(session->heap, spare1, index + 1);
	return r;
}

static int refill_blocks(struct session *session, uint32_t size_class)
{
	int r;

	r = gather(session, collecting_share(session));
	if (!r)
		r = give_freed(session);
	if (r < 0)
		return r;
	change_commit(session->heap); /* a pool that is given back must not be taken in the same change */
	return session->entry->usedpools1[size_class] ? 0 : pool_own(session, size_class);
}

/* relaxed: others return at any time, what is missed now is gathered later */
static bool has_remote(const struct session *session)
{
	return __atomic_load_n(&session->entry->remote_pools1, __ATOMIC_RELAXED);
}

int own_refill(struct session *session, size_t size, size_t alignment)
{
	uint64_t n_pools = 0;
	uint32_t size_class = memory_class(size, alignment, &n_pools);
	int r;

	if (size_class == CLASS_NONE && (n_pools > SPARE_RUN_MAX || n_pools >= session->heap->pools_per_arena))
		return OWN_NOT;
	for (;;) {
		r = change_begin(session);
		if (r < 0)
			return r;
		r = size_class == CLASS_NONE ? refill_run(session, (uint32_t)n_pools)
					     : refill_blocks(session, size_class);
		r = change_end(session, r);
		/* What was returned comes before memory that the daemon would have to map, and may not have. */
		if (r != HEAP_WANTS_ARENAS || session->n_collections >= COLLECTIONS_MAX || !has_remote(session))
			return r;
		r = serve(session, collecting_share(session));
		if (r < 0)
			return r;
	}
}

static int serve(struct session *session, uint32_t n_max)
{
	struct heap *heap = session->heap;
	int r;

	r = change_begin(session);
	if (r < 0)
		return r;
	/* relaxed: nothing is read on the strength of it */
	if (__atomic_load_n(&session->control->ended, __ATOMIC_RELAXED))
		return change_end(session, -EPIPE);
	/* relaxed: set with the lock held */
	if (__atomic_load_n(&session->entry->requests, __ATOMIC_RELAXED) & REQUEST_REBUILD)
		r = rebuild_own(session);
	if (r < 0)
		return change_end(session, r);
	change_commit(heap); /* before it is asked for no more */
	critical_requests_served(session);
	r = gather(session, n_max);
	if (!r)
		r = give_freed(session);
	if (!r && session->entry->remote_pools1)
		critical_request(heap, session->index, REQUEST_COLLECT); /* the rest, in changes of their own */
	return change_end(session, r);
}

int session_serve_requests(struct session *session)
{
	return serve(session, POOLS_COLLECTED_COST);
}

int own_collect_all(struct session *session)
{
	int r, n = 0;

	for (; has_remote(session); n = 1) {
		r = session_serve_requests(session);
		if (r < 0)
			return r;
	}
	return n;
}

/* ---- the daemon -------------------------------------------------------------------------------------------------- */

/*
 * What was returned: pools of which every block that is not free was returned go, of the others it is gathered. How
 * many pools, at most n_max; one that is gathered counts for several, as it fills more of the log.
 */
static int trim_remote(struct session *daemon, uint32_t index, uint32_t n_max)
{
	struct heap *heap = daemon->heap;
	struct session_entry *entry = &heap->sessions[index];
	uint32_t n = 0;
	int r;

	while (entry->remote_pools1 && n < n_max) {
		struct pool_entry *pool = pool_at(heap, entry->remote_pools1 - 1);
		uint32_t *used1;
		bool was_full;

		if (!pool || pool->kind != POOL_BLOCKS || pool->owner1 != index + 1 || pool->size_class >= N_CLASSES)
			return -EUCLEAN;
		used1 = &entry->usedpools1[pool->size_class];
		was_full = !pool_has_room(pool);
		pool_clear_notified(pool);
		if (pool->n_used != pool_count_remote(heap, pool)) {
			pool_collect(heap, pool);
			if (was_full)
				pool_link_used(heap, true, used1, pool);
			n += TRIM_POOLS_MAX / POOLS_COLLECTED_COST;
			continue;
		}
		if (!was_full)
			pool_unlink_used(heap, true, used1, pool);
		heap_set(heap, &pool->size_class, CLASS_NONE); /* its headers are not those of a free list */
		heap_set(heap, &pool->n_used, 0);
		r = pool_disown(daemon, pool);
		if (r < 0)
			return r;
		n++;
	}
	return (int)(n < n_max ? n : n_max);
}

/*
 * Among so many pools with room a free one is rare, so a change looks at a few of them and the next goes on where it
 * stopped. Meanwhile the list may have become another one in front of that place only (what was gathered goes there,
 * and is not free), unless the session has made a call, or the pool itself is gone: then it is all looked at anew. A
 * pool that is still the session's and has room is on the list of its class.
 */
static void find_trim_cursor(struct heap *heap, uint32_t index, struct trimming *at)
{
	const struct pool_entry *pool = at->pool1 ? pool_at(heap, at->pool1 - 1) : NULL;

	if (!critical_poll_idle(&heap->sessions[index]))
		*at = (struct trimming){0};
	else if (at->pool1 && (!pool || pool->identity != pool_identity(POOL_BLOCKS, at->size_class, index + 1) ||
				      !pool_has_room(pool)))
		*at = (struct trimming){.size_class = at->size_class};
}

/* Free pools of one class go, at most *n_max, of *n_examine that it looks at. 1 there are more to look at. */
static int trim_class(struct session *daemon, uint32_t index, struct trimming *at, uint32_t *n_max, uint32_t *n_examine)
{
	struct heap *heap = daemon->heap;
	uint32_t *used1 = &heap->sessions[index].usedpools1[at->size_class];
	int r;

	for (at->pool1 = at->pool1 ? at->pool1 : *used1; at->pool1 && *n_examine && *n_max; --*n_examine) {
		struct pool_entry *pool = pool_at(heap, at->pool1 - 1);

		if (!pool || pool->identity != pool_identity(POOL_BLOCKS, at->size_class, index + 1) ||
			at->n_examined++ >= heap->n_arenas * heap->pools_per_arena) /* it goes round in a circle */
			return -EUCLEAN;
		at->pool1 = pool->next1;
		if (pool->n_used)
			continue;
		pool_unlink_used(heap, true, used1, pool);
		r = pool_disown(daemon, pool);
		if (r < 0)
			return r;
		--*n_max;
	}
	return at->pool1 != 0;
}

/* Free pools, class by class, at most n_max of them. 1 there are more to look at. */
static int trim_pools(struct session *daemon, uint32_t index, struct trimming *at, uint32_t n_max)
{
	uint32_t n_examine = POOLS_EXAMINED;
	int r = 0;

	find_trim_cursor(daemon->heap, index, at);
	while (!r && at->size_class < N_CLASSES) {
		r = trim_class(daemon, index, at, &n_max, &n_examine);
		at->size_class += !r;
	}
	return r;
}

static int trim_runs(struct session *daemon, uint32_t index)
{
	struct heap *heap = daemon->heap;
	struct session_entry *entry = &heap->sessions[index];

	for (uint32_t i = 0; i < SPARE_RUN_MAX; i++) {
		struct pool_entry *pool = entry->spare_runs1[i] ? pool_at(heap, entry->spare_runs1[i] - 1) : NULL;
		int r;

		if (!pool || pool->identity != pool_identity(POOL_RUN, CLASS_NONE, index + 1) ||
			header_state(pool->header.word) != STATE_FREE)
			continue;
		heap_set(heap, &entry->spare_runs1[i], 0);
		r = run_disown(daemon, pool);
		if (r < 0)
			return r;
	}
	return 0;
}

static int trim_in_change(struct session *daemon, uint32_t index, struct trimming *at)
{
	int r, n;

	r = trim_runs(daemon, index);
	if (r < 0)
		return r;
	n = trim_remote(daemon, index, TRIM_POOLS_MAX);
	if (n < 0 || n == (int)TRIM_POOLS_MAX)
		return n < 0 ? n : 1;
	return trim_pools(daemon, index, at, TRIM_POOLS_MAX - (uint32_t)n);
}

/* With the session kept out. As own_trim(). */
static int trim_blocked(struct session *daemon, uint32_t index)
{
	struct heap *heap = daemon->heap;
	struct trimming at = heap->trimming[index];
	int more = trim_in_change(daemon, index, &at);

	/* Where it failed, or is through, the next round begins at the front. */
	heap->trimming[index] = more > 0 ? at : (struct trimming){0};
	if (more >= 0)
		change_commit(heap); /* before the session comes in again */
	else
		log_roll_back(heap);
	return more;
}

void own_trim_restart(struct heap *heap, uint32_t index)
{
	if (heap->trimming)
		heap->trimming[index] = (struct trimming){0};
}

int own_trim(struct session *daemon, uint32_t index)
{
	struct heap *heap = daemon->heap;
	int r, more;

	if (!heap->trimming)
		heap->trimming = calloc(heap->n_sessions, sizeof(*heap->trimming));
	if (!heap->trimming)
		return -ENOMEM;
	r = change_try_begin(daemon);
	if (r < 0)
		return r;
	if (!critical_block(heap, index))
		return change_end(daemon, 0);
	more = trim_blocked(daemon, index);
	critical_unblock(heap, index);
	r = change_end(daemon, more < 0 ? more : 0);
	return r < 0 ? r : more;
}
