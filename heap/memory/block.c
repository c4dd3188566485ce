// SPDX-License-Identifier: MIT
/*
 * Blocks: taken and freed under the lock, and remote frees
 *
 * A block is untouched (from n_carved on: on no list since the pool took its class), free (on the pool's freeblock
 * list, linked through the header words, the one freed last in front), or not free; then its header word says so.
 * Payloads are never used for links: what a client writes after it has dropped an object breaks no list.
 *
 * The session that owns a pool takes and frees its blocks by itself, without the lock (own.c). Here are blocks of pools
 * that nobody owns, which are changed under the lock, and remote frees: a session frees a block of another session's
 * pool. A remote free changes the block's header alone, since the owner may be making objects in the pool at this
 * moment: the state becomes REMOTE_FREE. Then the pool goes on its owner's remote_pools, from which the owner collects.
 * Proved by tests/model/remote_free.pml; remote frees without the lock (count.c) by tests/model/count.pml.
 *
 * A pool of which all blocks are remotely freed is taken from its owner at once. Each session that frees a block makes
 * its store, executes a full barrier, and only then reads the other headers: so the one that frees the last block sees
 * all others freed. The owner may be in a critical section in which it has just let go of this very block, and may read
 * its header next; then the pool stays, and the owner collects it.
 */

#include "heap/memory/block.h"
#include "heap/shared/critical.h"

#include <errno.h>

/* Take a block out of a pool that has room: the one freed last, else the next untouched one. */
static int take_from(struct heap *heap, struct pool_entry *pool, uint32_t *ret)
{
	struct object_header *headers = pool_headers(heap, pool);
	uint32_t n_blocks = class_shapes[read_once(pool->size_class)].n_blocks;
	uint32_t freeblock1 = read_once(pool->freeblock1), n_carved = read_once(pool->n_carved), i;
	uint64_t word;

	if (freeblock1) {
		i = freeblock1 - 1U;
		word = i < n_blocks ? header_word(&headers[i]) : 0;
		if (i >= n_carved || i >= n_blocks || header_state(word) != STATE_FREE)
			return -EUCLEAN;
		heap_set(heap, &pool->freeblock1, header_link(word));
	} else {
		i = n_carved;
		if (i >= n_blocks)
			return -EUCLEAN;
		heap_set(heap, &pool->n_carved, i + 1);
	}
	heap_add(heap, &pool->n_used, 1);
	*ret = i;
	return 0;
}

int block_take(struct session *session, enum space_kind space, size_t size, uint32_t size_class, uint32_t type,
	uint32_t state, uint64_t rights, uint64_t *ret)
{
	struct heap *heap = session->heap;
	uint32_t *head1 = &heap->control->spaces[space].usedpools1[size_class];
	struct pool_entry *pool = NULL;
	uint32_t generation, i, first1 = read_once(*head1);
	int r;

	if (first1) {
		pool = pool_at(heap, first1 - 1);
		if (!pool || read_once(pool->identity) != pool_identity(POOL_BLOCKS, size_class, 0))
			return -EUCLEAN;
	} else {
		r = pool_take(session, space, size_class, 0, &pool);
		if (r)
			return r;
		pool_link_used(heap, true, head1, pool);
	}
	r = take_from(heap, pool, &i);
	if (r < 0)
		return r;
	generation = pool_next_generation(heap, pool);
	heap_set_header(heap, &pool_headers(heap, pool)[i], header_live(generation, type, size, state), rights);
	if (!pool_has_room(pool))
		pool_unlink_used(heap, true, head1, pool);
	*ret = ref_make(block_position(heap, pool, i), generation);
	return 0;
}

/* Free a block of a pool that nobody owns. */
static int block_give_unowned(struct session *session, struct pool_entry *pool, uint32_t i)
{
	struct heap *heap = session->heap;
	struct object_header *header = &pool_headers(heap, pool)[i];
	uint32_t *head1 = &heap->control->spaces[pool_space(heap, pool)].usedpools1[pool_class_of(pool)];
	bool was_full = !pool_has_room(pool);
	uint32_t n_used = read_once(pool->n_used);

	if (!n_used)
		return -EUCLEAN;
	/* acquire: as in pool_collect(), if it was freed remotely without the lock */
	heap_set_header(heap, header,
		header_free(__atomic_load_n(&header->word, __ATOMIC_ACQUIRE), read_once(pool->freeblock1)), 0);
	heap_set(heap, &pool->freeblock1, i + 1);
	heap_set(heap, &pool->n_used, n_used - 1);
	if (was_full)
		pool_link_used(heap, true, head1, pool);
	if (n_used > 1)
		return 0;
	pool_unlink_used(heap, true, head1, pool);
	return pool_free(session, pool);
}

/* A block of an owned pool is remotely freed: put the pool on its owner's remote_pools, or take it from the owner. */
static int link_or_disown(struct session *session, struct pool_entry *pool, const struct object_header *header)
{
	struct heap *heap = session->heap;
	struct session_entry *owner = pool_owner(heap, pool);

	if (!owner)
		return -EUCLEAN;
	/* relaxed, not logged: a hint for the daemon */
	shared_add(owner->n_remote_frees, 1);
	if (!read_once(pool->is_on_remote_list))
		pool_link_remote(heap, pool);
	/* the remote free, before the other headers are read: the barrier of a free without the lock, here too */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!pool_is_all_remote(pool, header) || critical_is_active(heap, (uint32_t)(owner - heap->sessions)))
		return 0;
	heap_set(heap, &pool->n_used, 0);
	heap_set(heap, &pool->size_class, CLASS_NONE); /* its headers are not those of a free list */
	return pool_disown(session, pool);
}

/* Free a block of a pool that a session owns. */
static int block_remote_free(struct session *session, struct pool_entry *pool, uint32_t i)
{
	struct heap *heap = session->heap;
	struct object_header *header = &pool_headers(heap, pool)[i];

	/* relaxed, not logged: for reports */
	shared_add(heap->control->figures.n_blocks_returned, 1);
	/* The second word is not 0, so that an owner which was about to free the block, too, finds out. */
	heap_set_header(heap, header, header_with_state(header_word(header), STATE_REMOTE_FREE), RIGHTS_SHARED);
	return link_or_disown(session, pool, header);
}

/* The number of the block that begins at a position of any pool; -EUCLEAN: none does. */
static int block_at(const struct heap *heap, const struct pool_entry *pool, uint64_t position)
{
	uint32_t identity = __atomic_load_n(&pool->identity, __ATOMIC_RELAXED), block1;

	if ((identity & 0xff) != POOL_BLOCKS)
		return -EUCLEAN;
	block1 = pool_block1(heap, pool, identity >> 8 & 0xff, position);
	return block1 ? (int)block1 - 1 : -EUCLEAN;
}

int block_give(struct session *session, struct pool_entry *pool, uint64_t position)
{
	int i = block_at(session->heap, pool, position);

	if (i < 0)
		return i;
	return read_once(pool->owner1) ? block_remote_free(session, pool, (uint32_t)i)
				       : block_give_unowned(session, pool, (uint32_t)i);
}

int block_notify_remote_free(struct session *session, uint64_t ref, struct pool_entry **ret)
{
	struct heap *heap = session->heap;
	struct pool_entry *pool = pool_at_position(heap, ref_position(ref));
	const struct object_header *header;
	int i, r;

	*ret = NULL;
	i = pool ? block_at(heap, pool, ref_position(ref)) : -EUCLEAN;
	if (i < 0)
		return 0; /* the pool has become another one, so its owner found the block */
	header = &pool_headers(heap, pool)[i];
	if (!header_is(header_word(header), ref_generation(ref), STATE_REMOTE_FREE))
		return 0; /* the block was collected */
	if (!read_once(pool->owner1))
		return block_give_unowned(session, pool, (uint32_t)i);
	r = link_or_disown(session, pool, header);
	if (!r && read_once(pool->is_on_remote_list))
		*ret = pool;
	return r;
}
