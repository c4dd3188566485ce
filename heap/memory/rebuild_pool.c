// SPDX-License-Identifier: MIT
/*
 * Pools made anew from their headers
 *
 * The truth about a pool of blocks is its kind, class and owner, and the header words of its blocks; about a run its
 * first pool's header. Counts, free lists and the lists that the pool is on follow from these. What a stray write has
 * left in them that cannot be is settled first: each settle_*() makes one record say something that can be true.
 *
 * A pool whose owner is active keeps its counts and free list: its owner goes on with them.
 */

#include "heap/memory/rebuild_pool.h"
#include "heap/shared/critical.h"

/* An owner that is no session becomes none. True: the owner is active, so that its own must be left alone. */
static bool settle_owner(struct heap *heap, struct pool_entry *pool, bool is_record)
{
	uint32_t owner1 = __atomic_load_n(&pool->owner1, __ATOMIC_RELAXED);

	if (owner1 &&
		(is_record || owner1 > heap->n_sessions || session_state(&heap->sessions[owner1 - 1]) == SESSION_FREE))
		owner1 = pool->owner1 = 0;
	return owner1 && critical_was_active(heap, owner1 - 1u);
}

static void link_owned(struct heap *heap, uint32_t p)
{
	struct pool_entry *pool = &heap->pools[p];
	struct session_entry *owner = pool_owner(heap, pool);

	pool->owned_links.both = 0;
	if (owner)
		list_push(heap, false, &owner->owned_pools1, (struct list_node){&pool->owned_links, p + 1},
			POOL_NODE(heap, read_once(owner->owned_pools1), owned_links));
}

static void link_remote(struct heap *heap, uint32_t p, bool is_on_remote_list)
{
	struct pool_entry *pool = &heap->pools[p];
	struct session_entry *owner = pool_owner(heap, pool);

	pool->is_notified = 0;
	is_on_remote_list = owner && is_on_remote_list;
	pool->is_on_remote_list = is_on_remote_list;
	pool->remote_links.both = 0;
	if (is_on_remote_list)
		list_push(heap, false, &owner->remote_pools1, (struct list_node){&pool->remote_links, p + 1},
			POOL_NODE(heap, read_once(owner->remote_pools1), remote_links));
}

/* The word of a state that is none, as LIVE. */
static uint64_t header_alive(uint64_t word)
{
	return (word & ~(UINT64_C(7) << 7)) | (uint64_t)STATE_LIVE << 7;
}

/*
 * Make a block's header say what can be: a remotely freed block that no owner will collect is free, rights agree with
 * the state, no object is longer than its block. Returns the state.
 */
static uint32_t settle_header(struct object_header *header, const struct pool_entry *pool)
{
	uint64_t word = header_word(header), size = class_shapes[read_once(pool->size_class)].size;

	/* An unknown state may have been an object's: it stays, if somebody has a right to it. */
	if (header_state(word) > STATE_REMOTE_FREE)
		header->word = word = header_alive(word);
	if (header_state(word) == STATE_REMOTE_FREE && !read_once(pool->owner1))
		header->word = word = header_free(word, 0);
	if (header_state(word) == STATE_FREE)
		header->rights = 0;
	if (header_state(word) == STATE_REMOTE_FREE)
		header->rights = RIGHTS_SHARED;
	if (header_state(word) != STATE_FREE && header_size(word) > size)
		header->word = (word & ~(HEADER_SIZE_MAX << 10)) | size << 10;
	return header_state(word);
}

/* Make counts and freeblock list from the headers; behind the last header that is not all 0 nothing was carved. */
static void rebuild_blocks(struct heap *heap, uint32_t p)
{
	struct pool_entry *pool = &heap->pools[p];
	struct object_header *headers = pool_headers(heap, pool);
	uint32_t n_blocks = class_shapes[read_once(pool->size_class)].n_blocks, n_used = 0, n_carved = 0,
		 freeblock1 = 0;

	for (uint32_t i = 0; i < n_blocks; i++)
		if (header_word(&headers[i]) || read_once(headers[i].rights))
			n_carved = i + 1;
	for (uint32_t i = n_carved; i-- > 0;) {
		if (settle_header(&headers[i], pool) != STATE_FREE) {
			n_used++;
			continue;
		}
		headers[i].word = header_free(header_word(&headers[i]), freeblock1);
		freeblock1 = i + 1;
	}
	pool->n_used = (uint16_t)n_used;
	pool->n_carved = (uint16_t)n_carved;
	pool->freeblock1 = (uint16_t)freeblock1;
}

/* Settle the headers of a dead owner's pool. Counts and lists are made from them when the owner is reclaimed. */
static void settle_headers_of_dead(struct heap *heap, const struct pool_entry *pool)
{
	struct object_header *headers = pool_headers(heap, pool);
	const struct session_entry *owner = pool_owner(heap, pool);
	uint32_t n_blocks = class_shapes[read_once(pool->size_class)].n_blocks;

	if (!owner || session_state(owner) != SESSION_DEAD)
		return;
	for (uint32_t i = 0; i < n_blocks; i++)
		settle_header(&headers[i], pool);
}

static void link_used(struct heap *heap, struct space *space, uint32_t p)
{
	struct pool_entry *pool = &heap->pools[p];
	struct session_entry *owner = pool_owner(heap, pool);
	uint32_t *head1 = owner   ? &owner->usedpools1[pool_class_of(pool)]
			  : space ? &space->usedpools1[pool_class_of(pool)]
				  : NULL;

	pool->links.both = 0;
	if (head1 && pool_has_room(pool))
		pool_link_used(heap, false, head1, pool);
}

static void make_free(struct pool_entry *pool, bool forget_class)
{
	pool->kind = POOL_FREE;
	pool->owner1 = 0;
	pool->owned_next1 = 0;
	pool->owned_prev1 = 0;
	if (forget_class)
		pool->size_class = CLASS_NONE;
}

/* False: the pool is free now. */
static bool rebuild_pool_of_blocks(struct heap *heap, uint32_t p, struct space *space, bool is_record)
{
	struct pool_entry *pool = &heap->pools[p];
	bool is_active = settle_owner(heap, pool, is_record);
	uint32_t n_remote;

	pool_clear_notified(pool);
	if (is_active)
		settle_headers_of_dead(heap, pool);
	else
		rebuild_blocks(heap, p);
	n_remote = pool_count_remote(heap, pool);
	if (!is_active && read_once(pool->n_used) == n_remote) {
		make_free(pool, n_remote);
		return false;
	}
	link_owned(heap, p);
	if (read_once(pool->owner1))
		link_remote(heap, p, n_remote != 0);
	if (!is_active)
		link_used(heap, space, p);
	return true;
}

static void settle_run(struct pool_entry *pool)
{
	uint64_t size_max = (uint64_t)read_once(pool->run_n_pools) << POOL_SHIFT, word = header_word(&pool->header);

	if (read_once(pool->run_size) > size_max)
		pool->run_size = size_max;
	if (header_state(word) > STATE_REMOTE_FREE)
		pool->header.word = word = header_alive(word);
	if (header_state(word) == STATE_FREE && read_once(pool->header.rights))
		pool->header.rights = 0;
}

/* Do most of the pools that follow agree that they are bodies of the span which begins here? */
static bool is_span(const struct pool_entry *pool, uint32_t n_pools)
{
	uint32_t n_agree = 0;

	for (uint32_t i = 1; i < n_pools; i++)
		n_agree += read_once(pool[i].kind) == POOL_BODY && read_once(pool[i].span_index) == i;
	return 2 * n_agree + 1 >= n_pools;
}

static void settle_bodies(struct pool_entry *pool, uint32_t n_pools)
{
	uint32_t identity = read_once(pool->identity);

	for (uint32_t i = 1; i < n_pools; i++) {
		pool[i].identity = pool_identity(POOL_BODY, identity >> 8 & 0xff, identity >> 16);
		pool[i].counts = (uint64_t)i << 32; /* its span_index */
		pool[i].links.both = 0;
		pool[i].owned_links.both = 0;
	}
}

/* Make a pool or span anew that begins here. Returns the number of its pools; 0: the pool is free. */
static uint32_t rebuild_span(
	struct heap *heap, uint32_t p, uint32_t n_pools, uint32_t n_left, struct space *space, bool is_record)
{
	struct pool_entry *pool = &heap->pools[p];

	if (!n_pools || n_pools > n_left || !is_span(pool, n_pools)) {
		make_free(pool, true);
		return 0;
	}
	if (!rebuild_pool_of_blocks(heap, p, space, is_record))
		return 0; /* its bodies come next, and are free as well */
	settle_bodies(pool, n_pools);
	return n_pools;
}

uint32_t rebuild_pool(struct heap *heap, uint32_t p, uint32_t n_left, struct space *space, bool is_record)
{
	struct pool_entry *pool = &heap->pools[p];
	uint32_t n_pools = read_once(pool->run_n_pools), identity = read_once(pool->identity);

	if ((identity & 0xff) == POOL_BLOCKS && (identity >> 8 & 0xff) < N_CLASSES)
		return rebuild_span(heap, p, class_shapes[identity >> 8 & 0xff].n_pools, n_left, space, is_record);
	if ((identity & 0xff) == POOL_RUN && n_pools && n_pools <= n_left) {
		bool is_active = settle_owner(heap, pool, is_record);

		if (is_active || header_state(header_word(&pool->header)) != STATE_FREE) {
			settle_run(pool);
			link_owned(heap, p);
			return n_pools;
		}
	}
	make_free(pool, true);
	return 0;
}

void rebuild_pool_arenas(struct heap *heap, uint32_t p, uint32_t n_pools, bool is_record)
{
	struct pool_entry *pool = &heap->pools[p];

	settle_owner(heap, pool, is_record);
	pool->run_n_pools = n_pools;
	settle_run(pool);
	link_owned(heap, p);
}

void rebuild_pool_own(struct heap *heap, uint32_t p)
{
	rebuild_blocks(heap, p);
	link_used(heap, NULL, p);
}
