/* SPDX-License-Identifier: MIT */
/* Blocks */

#include "heap/memory/block.h"
#include "heap/shared/critical.h"

#include <errno.h>

/* Take a block out of a pool that has room: what was freed last, else the next untouched one. */
static int take_from(struct heap *heap, struct pool_entry *pool, uint32_t *ret)
{
	struct object_header *headers = pool_headers(heap, pool);
	uint32_t n_blocks = class_shapes[pool->size_class].n_blocks;
	uint32_t i;

	if (pool->freeblock1) {
		i = pool->freeblock1 - 1U;
		if (i >= pool->n_carved || i >= n_blocks || header_state(headers[i].word) != STATE_FREE)
			return -EUCLEAN;
		heap_set(heap, &pool->freeblock1, header_link(headers[i].word));
	} else {
		i = pool->n_carved;
		if (i >= n_blocks)
			return -EUCLEAN;
		heap_set(heap, &pool->n_carved, i + 1);
	}
	heap_set(heap, &pool->n_used, pool->n_used + 1);
	*ret = i;
	return 0;
}

/* Of a pool that nobody owns. */
int block_take(struct session *session, enum space_kind space, size_t size, uint32_t size_class, uint32_t type,
	uint32_t state, uint64_t rights, uint64_t *ret)
{
	struct heap *heap = session->heap;
	uint32_t *head1 = &heap->control->spaces[space].usedpools1[size_class];
	struct pool_entry *pool = NULL;
	uint32_t generation, i;
	int r;

	if (*head1) {
		pool = pool_at(heap, *head1 - 1);
		if (!pool || pool->identity != pool_identity(POOL_BLOCKS, size_class, 0))
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

/* Of a pool that nobody owns. */
static int block_give_unowned(struct session *session, struct pool_entry *pool, uint32_t i)
{
	struct heap *heap = session->heap;
	struct object_header *header = &pool_headers(heap, pool)[i];
	uint32_t *head1 = &heap->control->spaces[pool_space(heap, pool)].usedpools1[pool->size_class];
	bool was_full = !pool_has_room(pool);

	if (!pool->n_used)
		return -EUCLEAN;
	/* acquire: as in pool_collect(), where it was returned without the lock */
	heap_set_header(
		heap, header, header_free(__atomic_load_n(&header->word, __ATOMIC_ACQUIRE), pool->freeblock1), 0);
	heap_set(heap, &pool->freeblock1, i + 1);
	heap_set(heap, &pool->n_used, pool->n_used - 1);
	if (was_full)
		pool_link_used(heap, true, head1, pool);
	if (pool->n_used)
		return 0;
	pool_unlink_used(heap, true, head1, pool);
	return pool_free(session, pool);
}

/*
 * A block of a pool that a session owns was returned: it goes on that one's list. When that was the last of a full
 * pool, the owner has nothing to do with it any more, unless it is in the middle of a call: then it may have let go of
 * just this block and look at its header next, and the pool stays.
 */
static int link_or_disown(struct session *session, struct pool_entry *pool, const struct object_header *header)
{
	struct heap *heap = session->heap;
	struct session_entry *owner = pool_owner(heap, pool);

	if (!owner)
		return -EUCLEAN;
	/* relaxed, not logged: a hint for the daemon */
	__atomic_store_n(&owner->n_remote_frees, owner->n_remote_frees + 1, __ATOMIC_RELAXED);
	if (!pool->is_on_remote_list)
		pool_link_remote(heap, pool);
	/* that it was returned, before the look: as for who returns it without the lock */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!pool_is_all_remote(pool, header) || critical_is_active(heap, pool->owner1 - 1U))
		return 0;
	heap_set(heap, &pool->n_used, 0);
	heap_set(heap, &pool->size_class, CLASS_NONE); /* its headers are not those of a free list */
	return pool_disown(session, pool);
}

/* Of a pool that a session owns, which may be making objects in it at this very moment: only the block's header is
 * changed. */
static int block_remote_free(struct session *session, struct pool_entry *pool, uint32_t i)
{
	struct heap *heap = session->heap;
	struct object_header *header = &pool_headers(heap, pool)[i];

	/* relaxed, not logged: for reports */
	__atomic_store_n(&heap->control->figures.n_blocks_returned, heap->control->figures.n_blocks_returned + 1,
		__ATOMIC_RELAXED);
	/* The second word stays other than 0, which tells an owner that was about to free it too. */
	heap_set_header(heap, header, header_with_state(header_word(header), STATE_REMOTE_FREE), RIGHTS_SHARED);
	return link_or_disown(session, pool, header);
}

/* The number of the block that begins at a position, in a pool that may be any; -EUCLEAN: none does. */
static int block_at(const struct pool_entry *pool, uint64_t position)
{
	uint32_t block1;

	if (pool->kind != POOL_BLOCKS || pool->size_class >= N_CLASSES)
		return -EUCLEAN;
	block1 = block_at_position(pool->size_class, position);
	return block1 ? (int)block1 - 1 : -EUCLEAN;
}

int block_give(struct session *session, struct pool_entry *pool, uint64_t position)
{
	int i = block_at(pool, position);

	if (i < 0)
		return i;
	return pool->owner1 ? block_remote_free(session, pool, (uint32_t)i)
			    : block_give_unowned(session, pool, (uint32_t)i);
}

int block_notify_remote_free(struct session *session, uint64_t ref, struct pool_entry **ret)
{
	struct heap *heap = session->heap;
	struct pool_entry *pool = pool_at_position(heap, ref_position(ref));
	const struct object_header *header;
	int i, r;

	*ret = NULL;
	i = pool ? block_at(pool, ref_position(ref)) : -EUCLEAN;
	if (i < 0)
		return 0; /* it is another pool by now: others have seen to it */
	header = &pool_headers(heap, pool)[i];
	if (!header_is(header_word(header), ref_generation(ref), STATE_REMOTE_FREE))
		return 0; /* the same */
	if (!pool->owner1)
		return block_give_unowned(session, pool, (uint32_t)i);
	r = link_or_disown(session, pool, header);
	if (!r && pool->is_on_remote_list)
		*ret = pool;
	return r;
}
