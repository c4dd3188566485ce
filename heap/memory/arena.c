// SPDX-License-Identifier: MIT
/*
 * Arenas of pools: which arena the next pool comes from
 *
 * usable_arenas is CPython's: doubly linked, ascending by how free an arena is. New pools come from the fullest arena,
 * so that the emptier ones can become wholly free and go back to the system. CPython goes by the number of free pools;
 * this list goes by its eighths (arena_rank()), with the wholly free arenas last. Among many arenas that take and give
 * pools in turn, each pool would change the order by number; by eighths one in eight does, of 64 pools in an arena.
 *
 * rank2lasta[rank], CPython's nfp2lasta, is the last arena of a rank: by it an arena whose rank has changed finds its
 * new place without a walk along the list. An arena without a free pool is not on the list.
 *
 * Of the wholly free arenas the one that became so last is first: it is used again first, and the last one, which
 * has been free for longest, is the next to go (supply.c).
 *
 * freepools, a bitmap per arena, says which pools are free. The lowest free pool is taken first; a run of adjacent free
 * pools is found by reading a few words.
 *
 * All is changed under the lock and through the undo log. It is derived: rebuild.c makes it anew.
 */

#include "heap/memory/arena.h"
#include "heap/memory/returnable.h"

#include <errno.h>

#define WALK_MAX 16U  /* arenas searched for a run of pools, from either end, before fresh memory is wanted */
#define PASS_MAX 256U /* arenas passed on the way, with too few free pools */

static struct space *space_of(struct heap *heap, uint32_t space)
{
	return &heap->control->spaces[space & 1];
}

static uint32_t rank_of(const struct heap *heap, const struct arena_entry *arena)
{
	return arena_rank(heap, read_once(arena->n_free_pools));
}

/* The last usable arena of at most that rank, plus one; 0: none. Its successor is the first of a higher rank. */
static uint32_t last_up_to(const struct space *space, uint32_t rank)
{
	uint32_t last1 = 0;

	for (; rank > 0 && !last1; rank--)
		last1 = read_once(space->rank2lasta1[rank]);
	return last1;
}

/* Insert an arena that is on no list: behind the last one of its rank or, wholly free, before the first. */
static void usable_link(struct heap *heap, struct space *space, struct arena_entry *arena)
{
	uint32_t index1 = arena_index(heap, arena) + 1, rank = rank_of(heap, arena);
	struct list_node prev = arena_node(heap, last_up_to(space, rank == RANK_FREE ? rank - 1 : rank));
	uint32_t next1 = prev.links ? read_once(prev.links->next1) : read_once(space->usable_arenas1);

	list_insert(heap, true, &space->usable_arenas1, (struct list_node){&arena->links, index1}, prev,
		arena_node(heap, next1));
	if (rank < RANK_FREE || !read_once(space->rank2lasta1[rank]))
		heap_set(heap, &space->rank2lasta1[rank], index1);
}

static void usable_unlink(struct heap *heap, struct space *space, struct arena_entry *arena)
{
	uint32_t rank = rank_of(heap, arena), prev1 = read_once(arena->prev1);
	struct arena_entry *prev = arena_at1(heap, prev1);

	if (read_once(space->rank2lasta1[rank]) == arena_index(heap, arena) + 1)
		heap_set(heap, &space->rank2lasta1[rank], prev && rank_of(heap, prev) == rank ? prev1 : 0);
	arena_unlink(heap, &space->usable_arenas1, arena);
}

/* Set the number of free pools; where that changes the rank, the arena moves in usable_arenas. */
static void free_pools_change(struct heap *heap, struct arena_entry *arena, uint32_t n_free_pools)
{
	struct space *space = space_of(heap, read_once(arena->space));
	uint32_t old = rank_of(heap, arena), new = arena_rank(heap, n_free_pools);

	if (old == new) {
		heap_set(heap, &arena->n_free_pools, n_free_pools);
		return;
	}
	if (old)
		usable_unlink(heap, space, arena);
	if (old == RANK_FREE)
		heap_add(heap, &space->n_free_arenas, -1);
	heap_set(heap, &arena->n_free_pools, n_free_pools);
	if (new)
		usable_link(heap, space, arena);
	if (new == RANK_FREE) {
		heap_add(heap, &space->n_free_arenas, 1);
		heap_set(heap, &arena->free_since, heap_clock(heap));
	}
}

/* The first of n adjacent free pools of a bitmap, or UINT32_MAX. */
static uint32_t freepools_find(const uint64_t *words, uint32_t n_pools, uint32_t n)
{
	uint32_t run = 0;

	for (uint32_t i = 0; i < n_pools; i++) {
		if (!(i & 63) && !words[i / 64]) { /* a word without a free pool */
			run = 0;
			i += 63;
			continue;
		}
		if (!run && n == 1 && (words[i / 64] >> (i & 63)))
			return i + (uint32_t)__builtin_ctzll(words[i / 64] >> (i & 63));
		run = words[i / 64] >> (i & 63) & 1 ? run + 1 : 0;
		if (run == n)
			return i + 1 - n;
	}
	return UINT32_MAX;
}

static void freepools_set(struct heap *heap, uint64_t *words, uint32_t first, uint32_t n, bool free)
{
	if (n == 1) { /* most often */
		uint64_t *word = &words[first / 64], mask = UINT64_C(1) << (first & 63), now = read_once(*word);

		heap_set(heap, word, free ? now | mask : now & ~mask);
		return;
	}
	while (n > 0) {
		uint32_t bit = first & 63;
		uint32_t n_here = n < 64 - bit ? n : 64 - bit;
		uint64_t mask = (n_here == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n_here) - 1) << bit;
		uint64_t *word = &words[first / 64], now = read_once(*word);

		heap_set(heap, word, free ? now | mask : now & ~mask);
		first += n_here;
		n -= n_here;
	}
}

static uint64_t *freepools_of(struct heap *heap, const struct arena_entry *arena)
{
	return &heap->freepools[arena_index(heap, arena) * heap->pool_words];
}

/*
 * Search n adjacent free pools from *arena on, towards the fuller or the emptier arenas, in at most WALK_MAX that have
 * n free pools. *ret is the first pool's number in the arena. NULL: none found, and *arena is the one to go on with.
 */
static struct arena_entry *walk(struct heap *heap, struct arena_entry **arena, bool fuller, uint32_t n, uint32_t *ret)
{
	uint32_t n_examined = 0;

	for (uint32_t i = 0; *arena && i < PASS_MAX && n_examined < WALK_MAX; i++) {
		struct arena_entry *one = *arena;

		*arena = arena_at1(heap, fuller ? read_once(one->prev1) : read_once(one->next1));
		if (read_once(one->n_free_pools) < n)
			continue;
		*ret = freepools_find(freepools_of(heap, one), heap->pools_per_arena, n);
		if (*ret != UINT32_MAX)
			return one;
		n_examined++;
	}
	return NULL;
}

/*
 * Search n adjacent free pools in the fullest arenas that have n, and then in the emptiest. The walk begins at the
 * first arena of the rank of n, in which some arenas may have fewer.
 */
static struct arena_entry *find_pools(struct heap *heap, struct space *space, uint32_t n, uint32_t *ret)
{
	struct arena_entry *before = arena_at1(heap, last_up_to(space, arena_rank(heap, n) - 1));
	struct arena_entry *next =
		arena_at1(heap, before ? read_once(before->next1) : read_once(space->usable_arenas1));
	struct arena_entry *found = walk(heap, &next, false, n, ret);

	if (found || !next) /* found, or the walk came to the end */
		return found;
	next = arena_at1(heap, last_up_to(space, RANK_FREE));
	return walk(heap, &next, true, n, ret);
}

/* Make an arena that is on no list one of free pools. */
static void open_pools(struct heap *heap, struct arena_entry *arena, enum space_kind space)
{
	heap_set(heap, &arena->state, ARENA_POOLS);
	heap_set(heap, &arena->space, space);
	heap_set(heap, &arena->n_free_pools, 0);
	freepools_set(heap, freepools_of(heap, arena), 0, heap->pools_per_arena, true);
	free_pools_change(heap, arena, heap->pools_per_arena);
}

/* A wholly free arena that is of the other space, or of a run. NULL: there is none. */
static struct arena_entry *convert_arena(struct heap *heap, enum space_kind to)
{
	struct arena_entry *arena = arena_at1(heap, read_once(space_of(heap, 1U - to)->rank2lasta1[RANK_FREE]));

	if (arena)
		free_pools_change(heap, arena, 0);
	else
		arena = returnable_take(heap, 1);
	if (arena)
		open_pools(heap, arena, to);
	return arena;
}

int arena_take_pools(struct session *session, enum space_kind space, uint32_t n, uint32_t *ret)
{
	struct heap *heap = session->heap;
	struct arena_entry *arena;
	uint32_t first = 0, n_free_pools;

	arena = find_pools(heap, space_of(heap, space), n, &first);
	if (!arena) {
		arena = convert_arena(heap, space);
		if (!arena)
			return session_wants(session, 1, false, space);
		first = 0;
	}
	n_free_pools = read_once(arena->n_free_pools);
	if (arena_state(arena) != ARENA_POOLS || n_free_pools < n || n_free_pools > heap->pools_per_arena)
		return -EUCLEAN;
	freepools_set(heap, freepools_of(heap, arena), first, n, false);
	free_pools_change(heap, arena, n_free_pools - n);
	*ret = arena_index(heap, arena) * heap->pools_per_arena + first;
	return 0;
}

int arena_give_pools(struct session *session, uint32_t first, uint32_t n)
{
	struct heap *heap = session->heap;
	struct arena_entry *arena = arena_at1(heap, (first >> (heap->arena_shift - POOL_SHIFT)) + 1);

	uint32_t n_free_pools = arena ? read_once(arena->n_free_pools) : 0, i = first & (heap->pools_per_arena - 1);

	if (!arena || arena_state(arena) != ARENA_POOLS || n_free_pools > heap->pools_per_arena ||
		n > heap->pools_per_arena - n_free_pools || n > heap->pools_per_arena - i)
		return -EUCLEAN;
	freepools_set(heap, freepools_of(heap, arena), i, n, true);
	free_pools_change(heap, arena, n_free_pools + n);
	return 0;
}

void arena_count(struct heap *heap, uint32_t n)
{
	struct counters *c = &heap->control->counters;

	heap_add(heap, &c->n_arenas_allocated, n);
	heap_add(heap, &c->n_arenas_current, n);
	if (c->n_arenas_current > c->n_arenas_highwater)
		heap_set(heap, &c->n_arenas_highwater, c->n_arenas_current);
}

void arena_open(struct heap *heap, struct arena_entry *arena, enum space_kind space)
{
	open_pools(heap, arena, space);
	arena_count(heap, 1);
}

struct arena_entry *arena_oldest_free(struct heap *heap)
{
	const struct space *spaces = heap->control->spaces;
	struct arena_entry *records = arena_at1(heap, read_once(spaces[SPACE_RECORDS].rank2lasta1[RANK_FREE]));
	struct arena_entry *objects = arena_at1(heap, read_once(spaces[SPACE_OBJECTS].rank2lasta1[RANK_FREE]));

	if (!records || !objects)
		return records ? records : objects;
	return (int32_t)(read_once(records->free_since) - read_once(objects->free_since)) < 0 ? records : objects;
}

bool arena_is_free(const struct heap *heap, const struct arena_entry *arena)
{
	return arena_state(arena) == ARENA_POOLS && read_once(arena->n_free_pools) == heap->pools_per_arena;
}

void arena_take_free(struct heap *heap, struct arena_entry *arena)
{
	free_pools_change(heap, arena, 0);
}
