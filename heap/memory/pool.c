// SPDX-License-Identifier: MIT
/*
 * Pools: pages of blocks of one class, and spans of pools for medium classes
 *
 * A pool is used (some blocks allocated, on a list of usedpools), full (on no list) or empty (given back to its arena,
 * may take any class next). When a block of a full pool is freed, the pool goes to the front of its class's list.
 *
 * Owners. A pool of objects is owned by the session that makes objects in it (own.c), and is on that session's
 * usedpools. Other sessions only mark blocks there as remotely freed (block.c; count.c without the lock); the owner
 * collects them from the headers when it needs blocks. A full pool of which every block was remotely freed is taken
 * from its owner at once, so memory comes back also when the owner never does anything again. Pools of records, and
 * pools whose owner is gone, are owned by nobody and changed under the lock alone.
 *
 * Classes. When a pool takes a class its headers are zeroed, so that the header words of a pool tell the whole truth
 * about its blocks. A pool that takes the class that it had last is used as it was left, as in CPython. Rolling a
 * change back must not bring back a class whose headers are zeroed already. So the old class is forgotten first, by a
 * plain store that no roll-back undoes: the pool is free, and a free pool may forget its class at any time.
 *
 * Spans. A span of several pools is a pool in all that is said here: the entry of its first pool speaks for it, and the
 * headers stand in that pool. Each other entry says where the first is, and repeats class and owner, so that one load
 * tells whose object lies there. They change with the first one's, in the same change.
 */

#include "heap/memory/pool.h"
#include "heap/memory/arena.h"

#include <errno.h>

/* 1..GENERATION_MAX, then 1 again. */
uint32_t pool_next_generation(struct heap *heap, struct pool_entry *pool)
{
	uint32_t before = read_once(pool->generation), generation = before >= GENERATION_MAX ? 1 : before + 1;

	heap_set(heap, &pool->generation, generation);
	return generation;
}

void pool_link_owned(struct session *session, struct pool_entry *pool)
{
	struct heap *heap = session->heap;
	uint32_t *head1 = &session->entry->owned_pools1;

	list_push(heap, true, head1, (struct list_node){&pool->owned_links, pool_index(heap, pool) + 1},
		POOL_NODE(heap, read_once(*head1), owned_links));
	heap_refresh_arenas(heap);
	/* relaxed, not logged: for reports */
	shared_add(heap->control->figures.n_pools_claimed, 1);
}

void pool_unlink_owned(struct heap *heap, struct pool_entry *pool)
{
	struct session_entry *owner = pool_owner(heap, pool);
	struct list_node prev = POOL_NODE(heap, read_once(pool->owned_prev1), owned_links);
	struct list_node next = POOL_NODE(heap, read_once(pool->owned_next1), owned_links);

	list_remove(heap, true, owner ? &owner->owned_pools1 : NULL, &pool->owned_links, prev, next);
}

void pool_link_remote(struct heap *heap, struct pool_entry *pool)
{
	struct session_entry *owner = pool_owner(heap, pool);

	if (!owner)
		return;
	list_push(heap, true, &owner->remote_pools1,
		(struct list_node){&pool->remote_links, pool_index(heap, pool) + 1},
		POOL_NODE(heap, read_once(owner->remote_pools1), remote_links));
	heap_set(heap, &pool->is_on_remote_list, 1);
}

void pool_clear_notified(struct pool_entry *pool)
{
	if (!read_once(pool->is_notified))
		return;
	/*
	 * relaxed, and before the log first has this word. The fence orders it before the caller's reading of the
	 * headers; with the compare-and-swap of a session that frees a block remotely and then reads this word: either
	 * its block is found, or it finds 0 here and notifies.
	 */
	__atomic_store_n(&pool->is_notified, 0, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void pool_unlink_remote(struct heap *heap, struct pool_entry *pool)
{
	struct session_entry *owner = pool_owner(heap, pool);
	struct list_node prev = POOL_NODE(heap, read_once(pool->remote_prev1), remote_links);
	struct list_node next = POOL_NODE(heap, read_once(pool->remote_next1), remote_links);

	list_remove(heap, true, owner ? &owner->remote_pools1 : NULL, &pool->remote_links, prev, next);
	heap_set(heap, &pool->is_on_remote_list, 0);
}

/* Clear the headers of a free pool for the class that the caller gives it next: see above for the order. */
static void pool_clear(struct heap *heap, struct pool_entry *pool, uint32_t size_class)
{
	struct object_header *headers = pool_headers(heap, pool);

	/* relaxed, not logged, and before the log first has this word */
	__atomic_store_n(&pool->size_class, (uint8_t)CLASS_NONE, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE); /* the class is forgotten before its headers go */
	for (uint32_t i = 0; i < class_shapes[size_class].n_blocks; i++) {
		/* relaxed: an earlier owner may be reading the header of an object that is gone, see own_hold() */
		__atomic_store_n(&headers[i].word, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&headers[i].rights, 0, __ATOMIC_RELAXED);
	}
	if (read_once(pool->counts))
		heap_set(heap, &pool->counts, 0);
}

/* A run has other members there, which it may have left: cleared before the pool has an owner. */
static void pool_clear_remote(struct heap *heap, struct pool_entry *pool)
{
	if (read_once(pool->remote_links.both))
		heap_set(heap, &pool->remote_links.both, 0);
	if (read_once(pool->remote_flags))
		heap_set(heap, &pool->remote_flags, 0);
}

/* How many pools it has: of a span that has forgotten its class, by the bodies that follow it. */
static uint32_t count_pools(const struct heap *heap, const struct pool_entry *pool)
{
	uint32_t n_left = heap->pools_per_arena - (pool_index(heap, pool) & (heap->pools_per_arena - 1)), n = 1;

	if (class_is_small(read_once(pool->size_class)))
		return 1;
	while (n < n_left && read_once(pool[n].kind) == POOL_BODY && read_once(pool[n].span_index) == n)
		n++;
	return n;
}

/* Make n_pools - 1 pools that follow the first the bodies of its span, or free. */
static void set_bodies(struct heap *heap, struct pool_entry *pool, uint32_t n_pools, uint32_t identity)
{
	for (uint32_t i = 1; i < n_pools; i++) {
		heap_set(heap, &pool[i].identity, identity);
		if ((identity & 0xff) == POOL_BODY)
			heap_set(heap, &pool[i].counts, (uint64_t)i << 32); /* its span_index */
	}
}

static bool are_free(const struct pool_entry *pool, uint32_t n_pools)
{
	for (uint32_t i = 0; i < n_pools; i++)
		if (read_once(pool[i].kind) != POOL_FREE)
			return false;
	return true;
}

int pool_take(
	struct session *session, enum space_kind space, uint32_t size_class, uint32_t owner1, struct pool_entry **ret)
{
	struct heap *heap = session->heap;
	uint32_t index, n_pools = class_shapes[size_class].n_pools;
	struct pool_entry *pool;
	int r;

	r = arena_take_pools(session, space, n_pools, &index);
	if (r)
		return r;
	pool = pool_at(heap, index);
	if (!pool || !are_free(pool, n_pools))
		return -EUCLEAN;
	if (read_once(pool->size_class) != size_class)
		pool_clear(heap, pool, size_class);
	else if (read_once(pool->n_used))
		heap_set(heap, &pool->n_used, 0);
	pool_clear_remote(heap, pool);
	heap_set(heap, &pool->identity, pool_identity(POOL_BLOCKS, size_class, owner1));
	set_bodies(heap, pool, n_pools, pool_identity(POOL_BODY, size_class, owner1));
	*ret = pool;
	return 0;
}

int pool_free(struct session *session, struct pool_entry *pool)
{
	struct heap *heap = session->heap;
	uint32_t n_pools = count_pools(heap, pool);

	heap_set(heap, &pool->identity, pool_identity(POOL_FREE, read_once(pool->size_class), 0));
	set_bodies(heap, pool, n_pools, pool_identity(POOL_FREE, CLASS_NONE, 0)); /* payloads lie on their headers */
	return arena_give_pools(session, pool_index(heap, pool), n_pools);
}

int pool_own(struct session *session, uint32_t size_class)
{
	struct heap *heap = session->heap;
	uint32_t *unowned1 = &heap->control->spaces[SPACE_OBJECTS].usedpools1[size_class];
	struct pool_entry *pool;
	uint32_t first1 = read_once(*unowned1);
	int r;

	if (first1) {
		pool = pool_at(heap, first1 - 1);
		if (!pool || read_once(pool->identity) != pool_identity(POOL_BLOCKS, size_class, 0) ||
			!pool_has_room(pool))
			return -EUCLEAN;
		pool_unlink_used(heap, true, unowned1, pool);
		pool_clear_remote(heap, pool);
		heap_set(heap, &pool->owner1, session->owner1);
		set_bodies(heap, pool, class_shapes[size_class].n_pools,
			pool_identity(POOL_BODY, size_class, session->owner1));
	} else {
		r = pool_take(session, SPACE_OBJECTS, size_class, session->owner1, &pool);
		if (r)
			return r;
	}
	pool_link_owned(session, pool);
	pool_link_used(heap, true, &session->entry->usedpools1[size_class], pool);
	return 0;
}

int pool_disown(struct session *session, struct pool_entry *pool)
{
	struct heap *heap = session->heap;

	pool_clear_notified(pool);
	if (read_once(pool->is_on_remote_list))
		pool_unlink_remote(heap, pool);
	pool_unlink_owned(heap, pool);
	if (read_once(pool->links.both))
		heap_set(heap, &pool->links.both, 0);
	if (!read_once(pool->n_used))
		return pool_free(session, pool);
	heap_set(heap, &pool->owner1, 0);
	set_bodies(heap, pool, count_pools(heap, pool), pool_identity(POOL_BODY, read_once(pool->size_class), 0));
	if (pool_has_room(pool))
		pool_link_used(heap, true, &heap->control->spaces[SPACE_OBJECTS].usedpools1[pool_class_of(pool)], pool);
	return 0;
}

bool pool_collect(struct heap *heap, struct pool_entry *pool)
{
	struct object_header *headers = pool_headers(heap, pool);
	uint32_t n_blocks = class_shapes[read_once(pool->size_class)].n_blocks, n = 0;
	uint32_t freeblock1 = read_once(pool->freeblock1), n_used;

	pool_clear_notified(pool);
	for (uint32_t i = 0; i < n_blocks; i++) {
		/* acquire: with the compare-and-swap of the session that freed it. Of other blocks the owner may be
		 * changing the word just now */
		uint64_t word = __atomic_load_n(&headers[i].word, __ATOMIC_ACQUIRE);

		if (header_state(word) != STATE_REMOTE_FREE)
			continue;
		heap_set_header(heap, &headers[i], header_free(word, freeblock1), 0);
		freeblock1 = i + 1;
		n++;
	}
	heap_set(heap, &pool->freeblock1, freeblock1);
	n_used = read_once(pool->n_used) - n;
	heap_set(heap, &pool->n_used, n_used);
	pool_unlink_remote(heap, pool);
	return !n_used;
}

void pool_count_blocks(struct heap *heap, struct pool_entry *pool)
{
	struct object_header *headers = pool_headers(heap, pool);
	uint32_t n_blocks = class_shapes[read_once(pool->size_class)].n_blocks, n_used = 0, n_carved = 0,
		 freeblock1 = 0;

	for (uint32_t i = 0; i < n_blocks; i++) {
		uint64_t word = header_word(&headers[i]);

		n_used += header_state(word) != STATE_FREE;
		if (word)
			n_carved = i + 1;
	}
	/* Wholly free: its headers are zeroed when it takes a class. */
	if (!n_used)
		heap_set(heap, &pool->size_class, CLASS_NONE);
	for (uint32_t i = n_carved; n_used && i-- > 0;) {
		uint64_t word = header_word(&headers[i]);

		if (header_state(word) != STATE_FREE)
			continue;
		if (header_link(word) != freeblock1)
			heap_set(heap, &headers[i].word, header_free(word, freeblock1));
		freeblock1 = i + 1;
	}
	heap_set(heap, &pool->n_used, n_used);
	heap_set(heap, &pool->n_carved, n_carved);
	heap_set(heap, &pool->freeblock1, freeblock1);
}
