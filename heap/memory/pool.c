/* SPDX-License-Identifier: MIT */
/*
 * Pools and blocks, runs of pools, runs of arenas: memory for one object
 *
 * A pool is a page of blocks of one class: used (some blocks allocated, on a list of usedpools), full (on no list) or
 * empty (given back to its arena, may take any class next). When a block of a full pool is freed, the pool goes to the
 * front of its class's list.
 *
 * A pool of objects is owned by the session that makes objects in it (own.c), and stands on that session's usedpools.
 * What others free there they only mark as returned (some of them without the lock: count.c); the owner gathers it from
 * the headers when it needs blocks. A full
 * pool of which every block was returned is taken from its owner at once, so memory comes back also when the owner does
 * nothing any more. Pools of the heap's own records, and those whose owner is gone, are owned by nobody and changed
 * under the lock alone.
 *
 * A block is untouched (from n_carved on: on no list since the pool took its class), free (on the pool's freeblock
 * list, the one freed last in front, linked through the header words), returned, or not free, and then its header word
 * says so. Payloads are never used for links: what a client writes after it dropped an object breaks no list.
 *
 * When a pool takes a class its headers are zeroed, so that the header words of a pool tell the whole truth about its
 * blocks. A pool that comes back to the class that it had last is used as it was left (CPython does the same). Taking
 * back a change must not bring back a class whose headers are zeroed already; so the old class is forgotten by a plain
 * store first, which no roll-back restores: the pool is free, and a free pool may forget its class at any time.
 *
 * More than BLOCK_SIZE_MAX bytes is a run of whole pools of one arena, an arena and more a run of whole arenas; the
 * entry of the first pool has header and size, so that payloads start on a page.
 */

#include "heap/memory/pool.h"
#include "heap/shared/critical.h"

#include <errno.h>

#define SHAPE_BLOCKS(c) (POOL_SIZE / (((c) + 1) * BLOCK_ALIGNMENT + sizeof(struct object_header)))
#define SHAPE(c)                                                                                                       \
	{                                                                                                              \
		.size = ((c) + 1) * BLOCK_ALIGNMENT, .n_blocks = SHAPE_BLOCKS(c),                                      \
		.first = SHAPE_BLOCKS(c) * sizeof(struct object_header),                                               \
	}
#define SHAPES_8(c)                                                                                                    \
	SHAPE(c), SHAPE((c) + 1), SHAPE((c) + 2), SHAPE((c) + 3), SHAPE((c) + 4), SHAPE((c) + 5), SHAPE((c) + 6),      \
		SHAPE((c) + 7)

const struct class_shape class_shapes[N_CLASSES] = {
	SHAPES_8(0), SHAPES_8(8), SHAPES_8(16), SHAPES_8(24), SHAPES_8(32), SHAPES_8(40), SHAPES_8(48), SHAPES_8(56)};

/* What lies at x, in units of 8 bytes: the n-th block of c + 1 such units each, after n of two for the headers. */
#define NUMBER_FIRST(c) (SHAPE_BLOCKS(c) * sizeof(struct object_header) / BLOCK_ALIGNMENT)
#define NUMBER(c, x)                                                                                                   \
	((x) >= NUMBER_FIRST(c) && ((x)-NUMBER_FIRST(c)) % ((c) + 1) == 0 &&                                           \
				((x)-NUMBER_FIRST(c)) / ((c) + 1) < SHAPE_BLOCKS(c)                                    \
			? (uint8_t)(1 + ((x)-NUMBER_FIRST(c)) / ((c) + 1))                                             \
			: 0)
#define NUMBERS_8(c, x)                                                                                                \
	NUMBER(c, x), NUMBER(c, (x) + 1), NUMBER(c, (x) + 2), NUMBER(c, (x) + 3), NUMBER(c, (x) + 4),                  \
		NUMBER(c, (x) + 5), NUMBER(c, (x) + 6), NUMBER(c, (x) + 7)
#define NUMBERS_64(c, x)                                                                                               \
	NUMBERS_8(c, x), NUMBERS_8(c, (x) + 8), NUMBERS_8(c, (x) + 16), NUMBERS_8(c, (x) + 24),                        \
		NUMBERS_8(c, (x) + 32), NUMBERS_8(c, (x) + 40), NUMBERS_8(c, (x) + 48), NUMBERS_8(c, (x) + 56)
#define NUMBERS(c)                                                                                                     \
	{                                                                                                              \
		NUMBERS_64(c, 0), NUMBERS_64(c, 64), NUMBERS_64(c, 128), NUMBERS_64(c, 192), NUMBERS_64(c, 256),       \
			NUMBERS_64(c, 320), NUMBERS_64(c, 384), NUMBERS_64(c, 448)                                     \
	}
#define CLASSES_8(c)                                                                                                   \
	NUMBERS(c), NUMBERS((c) + 1), NUMBERS((c) + 2), NUMBERS((c) + 3), NUMBERS((c) + 4), NUMBERS((c) + 5),          \
		NUMBERS((c) + 6), NUMBERS((c) + 7)

const uint8_t block_numbers[1 + N_CLASSES][POOL_SIZE / BLOCK_ALIGNMENT] = {{0}, CLASSES_8(0), CLASSES_8(8),
	CLASSES_8(16), CLASSES_8(24), CLASSES_8(32), CLASSES_8(40), CLASSES_8(48), CLASSES_8(56)};
static_assert(SHAPE_BLOCKS(0) <= UINT8_MAX, "block_numbers");

/* ---- headers ----------------------------------------------------------------------------------------------------- */

/* The generation of the next object of this pool: 1..GENERATION_MAX, then 1 again. */
static uint32_t next_generation(struct heap *heap, struct pool_entry *pool)
{
	uint32_t generation = pool->generation >= GENERATION_MAX ? 1 : pool->generation + 1;

	heap_set(heap, &pool->generation, generation);
	return generation;
}

static void header_set(struct heap *heap, struct object_header *header, uint64_t word, uint64_t rights)
{
	heap_set(heap, &header->word, word);
	if (header->rights != rights)
		heap_set(heap, &header->rights, rights);
}

static enum space_kind pool_space(const struct heap *heap, const struct pool_entry *pool)
{
	return heap->arenas[pool_index(heap, pool) >> (heap->arena_shift - POOL_SHIFT)].space & 1 ? SPACE_RECORDS
												  : SPACE_OBJECTS;
}

/* ---- owners ------------------------------------------------------------------------------------------------------ */

static struct session_entry *owner_of(struct heap *heap, const struct pool_entry *pool)
{
	return pool->owner1 && pool->owner1 <= heap->n_sessions ? &heap->sessions[pool->owner1 - 1] : NULL;
}

/* The caller says in its identity whose it is, and whose it is no more. */
static void owned_link(struct session *session, struct pool_entry *pool)
{
	struct heap *heap = session->heap;
	uint32_t *head1 = &session->entry->owned_pools1;
	struct pool_entry *next = *head1 ? pool_at(heap, *head1 - 1) : NULL;

	if (pool->owned_links != *head1)
		heap_set(heap, &pool->owned_links, *head1); /* owned_next1, and no owned_prev1 */
	if (next)
		heap_set(heap, &next->owned_prev1, pool_index(heap, pool) + 1);
	heap_set(heap, head1, pool_index(heap, pool) + 1);
	heap_refresh_arenas(heap);
	/* relaxed, not logged: for reports */
	__atomic_store_n(
		&heap->control->figures.n_pools_claimed, heap->control->figures.n_pools_claimed + 1, __ATOMIC_RELAXED);
}

static void owned_unlink(struct heap *heap, struct pool_entry *pool)
{
	struct session_entry *owner = owner_of(heap, pool);
	struct pool_entry *next = pool->owned_next1 ? pool_at(heap, pool->owned_next1 - 1) : NULL;
	struct pool_entry *prev = pool->owned_prev1 ? pool_at(heap, pool->owned_prev1 - 1) : NULL;

	if (prev)
		heap_set(heap, &prev->owned_next1, pool->owned_next1);
	else if (owner)
		heap_set(heap, &owner->owned_pools1, pool->owned_next1);
	if (next)
		heap_set(heap, &next->owned_prev1, pool->owned_prev1);
	if (pool->owned_links)
		heap_set(heap, &pool->owned_links, 0);
}

static void remote_link(struct heap *heap, struct pool_entry *pool)
{
	struct session_entry *owner = owner_of(heap, pool);
	struct pool_entry *next;

	if (!owner)
		return;
	next = owner->remote_pools1 ? pool_at(heap, owner->remote_pools1 - 1) : NULL;
	heap_set(heap, &pool->remote_next1, owner->remote_pools1);
	heap_set(heap, &pool->remote_prev1, 0);
	heap_set(heap, &pool->is_on_remote_list, 1);
	if (next)
		heap_set(heap, &next->remote_prev1, pool_index(heap, pool) + 1);
	heap_set(heap, &owner->remote_pools1, pool_index(heap, pool) + 1);
}

void pool_clear_notified(struct pool_entry *pool)
{
	if (!pool->is_notified)
		return;
	/* Before the log speaks of this word. The fence: before the headers are looked at, with the compare-and-swap of
	 * who returns a block and then looks here. */
	__atomic_store_n(&pool->is_notified, 0, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void remote_unlink(struct heap *heap, struct pool_entry *pool)
{
	struct session_entry *owner = owner_of(heap, pool);
	struct pool_entry *next = pool->remote_next1 ? pool_at(heap, pool->remote_next1 - 1) : NULL;
	struct pool_entry *prev = pool->remote_prev1 ? pool_at(heap, pool->remote_prev1 - 1) : NULL;

	if (prev)
		heap_set(heap, &prev->remote_next1, pool->remote_next1);
	else if (owner)
		heap_set(heap, &owner->remote_pools1, pool->remote_next1);
	if (next)
		heap_set(heap, &next->remote_prev1, pool->remote_prev1);
	if (pool->remote_links)
		heap_set(heap, &pool->remote_links, 0);
	heap_set(heap, &pool->is_on_remote_list, 0);
}

/* ---- pools ------------------------------------------------------------------------------------------------------- */

/* Clear a free pool's headers for a class, which the caller then gives it: see at the head for the order. */
static void pool_clear(struct heap *heap, struct pool_entry *pool, uint32_t size_class)
{
	struct object_header *headers = pool_headers(heap, pool);

	/* Not logged; relaxed atomic, and before the log first speaks of this word. */
	__atomic_store_n(&pool->size_class, (uint8_t)CLASS_NONE, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE); /* the class forgotten before its headers are gone */
	for (uint32_t i = 0; i < class_shapes[size_class].n_blocks; i++) {
		/* relaxed: who owned the pool before may be looking for an object that is gone, see own_hold() */
		__atomic_store_n(&headers[i].word, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&headers[i].rights, 0, __ATOMIC_RELAXED);
	}
	if (pool->counts)
		heap_set(heap, &pool->counts, 0);
}

/* What a run may have left where a pool says that blocks were returned: before it has an owner. */
static void pool_clear_remote(struct heap *heap, struct pool_entry *pool)
{
	if (pool->remote_links)
		heap_set(heap, &pool->remote_links, 0);
	if (pool->remote_flags)
		heap_set(heap, &pool->remote_flags, 0);
}

/* A pool of that class and owner, with no block in use and on no list. */
static int pool_take(
	struct session *session, enum space_kind space, uint32_t size_class, uint32_t owner1, struct pool_entry **ret)
{
	struct heap *heap = session->heap;
	struct pool_entry *pool;
	uint32_t index;
	int r;

	r = arena_take_pools(session, space, 1, &index);
	if (r)
		return r;
	pool = pool_at(heap, index);
	if (!pool || pool->kind != POOL_FREE)
		return -EUCLEAN;
	if (pool->size_class != size_class)
		pool_clear(heap, pool, size_class);
	else if (pool->n_used)
		heap_set(heap, &pool->n_used, 0);
	pool_clear_remote(heap, pool);
	heap_set(heap, &pool->identity, pool_identity(POOL_BLOCKS, size_class, owner1));
	*ret = pool;
	return 0;
}

/* A pool that is on no list, and whose owner has it no more, goes back to its arena. */
static int pool_free(struct session *session, struct pool_entry *pool)
{
	heap_set(session->heap, &pool->identity, pool_identity(POOL_FREE, pool->size_class, 0));
	return arena_give_pools(session, pool_index(session->heap, pool), 1);
}

int pool_own(struct session *session, uint32_t size_class)
{
	struct heap *heap = session->heap;
	uint32_t *unowned1 = &heap->control->spaces[SPACE_OBJECTS].usedpools1[size_class];
	struct pool_entry *pool;
	int r;

	if (*unowned1) {
		pool = pool_at(heap, *unowned1 - 1);
		if (!pool || pool->identity != pool_identity(POOL_BLOCKS, size_class, 0) || !pool_has_room(pool))
			return -EUCLEAN;
		usedpools_remove(heap, true, unowned1, pool);
		pool_clear_remote(heap, pool);
		heap_set(heap, &pool->owner1, session->owner1);
	} else {
		r = pool_take(session, SPACE_OBJECTS, size_class, session->owner1, &pool);
		if (r)
			return r;
	}
	owned_link(session, pool);
	usedpools_push(heap, true, &session->entry->usedpools1[size_class], pool);
	return 0;
}

int pool_disown(struct session *session, struct pool_entry *pool)
{
	struct heap *heap = session->heap;

	pool_clear_notified(pool);
	if (pool->is_on_remote_list)
		remote_unlink(heap, pool);
	owned_unlink(heap, pool);
	if (pool->links)
		heap_set(heap, &pool->links, 0);
	if (!pool->n_used)
		return pool_free(session, pool);
	heap_set(heap, &pool->owner1, 0);
	if (pool_has_room(pool))
		usedpools_push(heap, true, &heap->control->spaces[SPACE_OBJECTS].usedpools1[pool->size_class], pool);
	return 0;
}

bool pool_collect(struct heap *heap, struct pool_entry *pool)
{
	struct object_header *headers = pool_headers(heap, pool);
	uint32_t n_blocks = class_shapes[pool->size_class].n_blocks;
	uint32_t freeblock1 = pool->freeblock1, n = 0;

	pool_clear_notified(pool);
	for (uint32_t i = 0; i < n_blocks; i++) {
		/* acquire: with the compare-and-swap of who returned it. Its owner may hold one of the others once more
		 * just now. */
		uint64_t word = __atomic_load_n(&headers[i].word, __ATOMIC_ACQUIRE);

		if (header_state(word) != STATE_REMOTE_FREE)
			continue;
		header_set(heap, &headers[i], header_free(word, freeblock1), 0);
		freeblock1 = i + 1;
		n++;
	}
	heap_set(heap, &pool->freeblock1, freeblock1);
	heap_set(heap, &pool->n_used, pool->n_used - n);
	remote_unlink(heap, pool);
	return !pool->n_used;
}

void pool_count_blocks(struct heap *heap, struct pool_entry *pool)
{
	struct object_header *headers = pool_headers(heap, pool);
	uint32_t n_used = 0, n_carved = 0, freeblock1 = 0;

	for (uint32_t i = 0; i < class_shapes[pool->size_class].n_blocks; i++) {
		n_used += header_state(header_word(&headers[i])) != STATE_FREE;
		if (header_word(&headers[i]))
			n_carved = i + 1;
	}
	/* Nothing is left: the headers are zeroed when it takes a class. */
	if (!n_used)
		heap_set(heap, &pool->size_class, CLASS_NONE);
	for (uint32_t i = n_carved; n_used && i-- > 0;) {
		if (header_state(header_word(&headers[i])) != STATE_FREE)
			continue;
		if (header_link(headers[i].word) != freeblock1)
			heap_set(heap, &headers[i].word, header_free(headers[i].word, freeblock1));
		freeblock1 = i + 1;
	}
	heap_set(heap, &pool->n_used, n_used);
	heap_set(heap, &pool->n_carved, n_carved);
	heap_set(heap, &pool->freeblock1, freeblock1);
}

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

/* Take a block out of a pool that has room: what was freed last, else the next untouched one. */
static int pool_take_block(struct heap *heap, struct pool_entry *pool, uint32_t *ret)
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
static int block_take(struct session *session, enum space_kind space, size_t size, uint32_t size_class, uint32_t type,
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
		usedpools_push(heap, true, head1, pool);
	}
	r = pool_take_block(heap, pool, &i);
	if (r < 0)
		return r;
	generation = next_generation(heap, pool);
	header_set(heap, &pool_headers(heap, pool)[i], header_live(generation, type, size, state), rights);
	if (!pool_has_room(pool))
		usedpools_remove(heap, true, head1, pool);
	*ret = ref_make(block_position(heap, pool, i), generation);
	return 0;
}

/* Of a pool that nobody owns. */
static int block_give(struct session *session, struct pool_entry *pool, uint32_t i)
{
	struct heap *heap = session->heap;
	struct object_header *header = &pool_headers(heap, pool)[i];
	uint32_t *head1 = &heap->control->spaces[pool_space(heap, pool)].usedpools1[pool->size_class];
	bool was_full = !pool_has_room(pool);

	if (!pool->n_used)
		return -EUCLEAN;
	/* acquire: as in pool_collect(), where it was returned without the lock */
	header_set(heap, header, header_free(__atomic_load_n(&header->word, __ATOMIC_ACQUIRE), pool->freeblock1), 0);
	heap_set(heap, &pool->freeblock1, i + 1);
	heap_set(heap, &pool->n_used, pool->n_used - 1);
	if (was_full)
		usedpools_push(heap, true, head1, pool);
	if (pool->n_used)
		return 0;
	usedpools_remove(heap, true, head1, pool);
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
	struct session_entry *owner = owner_of(heap, pool);

	if (!owner)
		return -EUCLEAN;
	/* relaxed, not logged: a hint for the daemon */
	__atomic_store_n(&owner->n_remote_frees, owner->n_remote_frees + 1, __ATOMIC_RELAXED);
	if (!pool->is_on_remote_list)
		remote_link(heap, pool);
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
	header_set(heap, header, header_with_state(header_word(header), STATE_REMOTE_FREE), RIGHTS_SHARED);
	return link_or_disown(session, pool, header);
}

/* ---- runs -------------------------------------------------------------------------------------------------------- */

/* Find room for a run of so many pools; n_pools becomes what it really takes. */
static int run_locate(struct session *session, enum space_kind space, uint64_t *n_pools, uint32_t *ret)
{
	struct heap *heap = session->heap;
	uint64_t n_arenas;
	uint32_t head;
	int r;

	if (*n_pools < heap->pools_per_arena)
		return arena_take_pools(session, space, (uint32_t)*n_pools, ret);
	n_arenas = (*n_pools + heap->pools_per_arena - 1) / heap->pools_per_arena;
	if (n_arenas > heap->n_arenas)
		return -ENOMEM;
	r = arena_take_run(session, (uint32_t)n_arenas, space, &head);
	if (r)
		return r;
	*n_pools = n_arenas * heap->pools_per_arena;
	*ret = head * heap->pools_per_arena;
	return 0;
}

/* The payload will overwrite the headers of what the pools were before: their classes are forgotten. */
static void forget_classes(struct heap *heap, uint32_t first, uint64_t n_pools)
{
	if (n_pools > heap->pools_per_arena)
		n_pools = 1; /* arenas of a run have none but at its first pool */
	for (uint32_t i = first; i < first + n_pools; i++)
		if (heap->pools[i].size_class != CLASS_NONE)
			heap_set(heap, &heap->pools[i].size_class, CLASS_NONE);
}

/* A run whose header is not set yet. */
static int run_begin(struct session *session, enum space_kind space, uint64_t n_pools, struct pool_entry **ret)
{
	struct heap *heap = session->heap;
	struct pool_entry *pool;
	uint32_t first;
	int r;

	r = run_locate(session, space, &n_pools, &first);
	if (r)
		return r;
	pool = pool_at(heap, first);
	if (!pool || pool->kind != POOL_FREE)
		return -EUCLEAN;
	forget_classes(heap, first, n_pools);
	heap_set(heap, &pool->identity,
		pool_identity(POOL_RUN, CLASS_NONE, space == SPACE_OBJECTS ? session->owner1 : 0));
	heap_set(heap, &pool->run_n_pools, n_pools);
	heap_set(heap, &pool->run_n_dropped, 0);
	if (pool->owned_links)
		heap_set(heap, &pool->owned_links, 0);
	if (space == SPACE_OBJECTS)
		owned_link(session, pool);
	*ret = pool;
	return 0;
}

static int run_take(struct session *session, enum space_kind space, size_t size, uint32_t type, uint32_t state,
	uint64_t rights, uint64_t *ret)
{
	struct heap *heap = session->heap;
	struct pool_entry *pool;
	uint32_t generation;
	int r;

	r = run_begin(session, space, size ? (size - 1) / POOL_SIZE + 1 : 1, &pool);
	if (r)
		return r;
	heap_set(heap, &pool->run_size, size);
	generation = next_generation(heap, pool);
	header_set(heap, &pool->header, header_live(generation, type, 0, state), rights);
	*ret = ref_make((uint64_t)pool_index(heap, pool) << (POOL_SHIFT - 3), generation);
	return 0;
}

int run_own(struct session *session, uint32_t n_pools, uint32_t *ret)
{
	struct heap *heap = session->heap;
	struct pool_entry *pool;
	int r;

	r = run_begin(session, SPACE_OBJECTS, n_pools, &pool);
	if (r)
		return r;
	heap_set(heap, &pool->run_size, 0);
	header_set(heap, &pool->header, header_free(pool->header.word, 0), 0);
	*ret = pool_index(heap, pool);
	return 0;
}

int run_disown(struct session *session, struct pool_entry *pool)
{
	struct heap *heap = session->heap;
	uint32_t n_pools = pool->run_n_pools;

	if (pool->owner1) {
		owned_unlink(heap, pool);
		heap_set(heap, &pool->owner1, 0);
	}
	if (header_state(pool->header.word) != STATE_FREE)
		return 0;
	heap_set(heap, &pool->kind, POOL_FREE);
	if (n_pools < heap->pools_per_arena)
		return arena_give_pools(session, pool_index(heap, pool), n_pools);
	return arena_give_run(session, pool_index(heap, pool) >> (heap->arena_shift - POOL_SHIFT));
}

static int run_give(struct session *session, struct pool_entry *pool)
{
	header_set(session->heap, &pool->header, header_free(pool->header.word, 0), 0);
	return run_disown(session, pool);
}

/* ---- any size ---------------------------------------------------------------------------------------------------- */

uint32_t memory_class(size_t size, size_t alignment, uint64_t *ret_n_pools)
{
	size_t room = size;

	if (alignment == 16 && size <= BLOCK_SIZE_MAX) /* blocks of a class that is a multiple of 16 all lie so */
		room = size ? (size + 15) & ~(size_t)15 : 16;
	if (room <= BLOCK_SIZE_MAX && alignment <= 16)
		return class_of_size(room);
	*ret_n_pools = size ? (size - 1) / POOL_SIZE + 1 : 1;
	return CLASS_NONE;
}

int memory_take(struct session *session, enum space_kind space, size_t size, size_t alignment, uint32_t type,
	uint32_t state, uint64_t rights, uint64_t *ret)
{
	uint64_t n_pools;
	uint32_t size_class;

	if (size > session->heap->heap_size)
		return -ENOMEM;
	size_class = memory_class(size, alignment, &n_pools);
	if (size_class == CLASS_NONE)
		return run_take(session, space, size, type, state, rights, ret);
	if (space == SPACE_OBJECTS)
		return -EINVAL;
	return block_take(session, space, size, size_class, type, state, rights, ret);
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

static struct pool_entry *pool_of(const struct heap *heap, uint64_t position)
{
	uint64_t off = position << 3;

	return off < heap->heap_size ? pool_at(heap, (uint32_t)(off >> POOL_SHIFT)) : NULL;
}

int memory_give(struct session *session, uint64_t position)
{
	struct pool_entry *pool = pool_of(session->heap, position);
	int i;

	if (!pool)
		return -EUCLEAN;
	if (pool->kind == POOL_RUN)
		return run_give(session, pool);
	i = block_at(pool, position);
	if (i < 0)
		return i;
	return pool->owner1 ? block_remote_free(session, pool, (uint32_t)i) : block_give(session, pool, (uint32_t)i);
}

int pool_notify_remote_free(struct session *session, uint64_t ref, struct pool_entry **ret)
{
	struct heap *heap = session->heap;
	struct pool_entry *pool = pool_of(heap, ref_position(ref));
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
		return block_give(session, pool, (uint32_t)i);
	r = link_or_disown(session, pool, header);
	if (!r && pool->is_on_remote_list)
		*ret = pool;
	return r;
}
