// SPDX-License-Identifier: MIT
/*
 * Damages to what is derived, for test_repair.c
 *
 * A function a damage, and a table of what heap_check() says of each.
 */
#include "tests/unit/heap/repair/repair_damages.h"

static struct space *space(void)
{
	return &control()->spaces[SPACE_OBJECTS];
}

#define PUBLIC_DAMAGE(name, ...)                                                                                       \
	void name(void)                                                                                                \
	{                                                                                                              \
		__VA_ARGS__;                                                                                           \
	}
#define DAMAGE(name, ...)                                                                                              \
	static void name(void)                                                                                         \
	{                                                                                                              \
		__VA_ARGS__;                                                                                           \
	}

#define UNOWNED ref_pool(orphan)
#define QUEUE   ((struct queue *)(void *)ref_data(queue))

static uint32_t index1_of(const struct pool_entry *pool)
{
	return (uint32_t)(pool - fx.heap->pools) + 1;
}

/* The headers of the blocks that a pool hands out next: that of the block freed last, and one that was never carved. */
static struct object_header *free_header(const struct pool_entry *pool)
{
	ck_assert_uint_ne(pool->freeblock1, 0);
	return pool_headers(fx.heap, pool) + pool->freeblock1 - 1;
}

/* A pool that its owner has just taken, with no block handed out. */
static struct pool_entry *untouched_pool(void)
{
	struct session *session = &fx.sessions[0];

	ck_assert_int_eq(CALL(session, own_refill(session, 320, 8)), 0);
	return &fx.heap->pools[session->entry->usedpools1[class_of_size(320)] - 1];
}

static struct object_header *uncarved_header(const struct pool_entry *pool)
{
	ck_assert_uint_lt(pool->n_carved + 2U, class_shapes[pool->size_class].n_blocks);
	return pool_headers(fx.heap, pool) + pool->n_carved + 2;
}

static struct pool_entry *full_pool(uint32_t size_class)
{
	for (uint32_t i = 0; i < n_kept; i++)
		if (ref_pool(kept[i].ref)->size_class == size_class && !pool_has_room(ref_pool(kept[i].ref)))
			return ref_pool(kept[i].ref);
	ck_abort_msg("no pool is full");
	return NULL;
}

/*
 * The i-th entry of a list: session 0's usedpools, the usedpools without an owner, session 0's owned_pools and
 * remote_pools, usable_arenas.
 */
static struct pool_entry *nth(uint32_t head1, uint32_t i, size_t next_offset)
{
	for (; i > 0 && head1; i--)
		memcpy(&head1, (uint8_t *)&fx.heap->pools[head1 - 1] + next_offset, sizeof(head1));
	ck_assert_uint_ne(head1, 0);
	return &fx.heap->pools[head1 - 1];
}

static struct pool_entry *used_pool(uint32_t i)
{
	return nth(ENTRY0->usedpools1[CLASS], i, offsetof(struct pool_entry, next1));
}

static struct pool_entry *unowned_pool(uint32_t i)
{
	return nth(space()->usedpools1[CLASS_UNOWNED], i, offsetof(struct pool_entry, next1));
}

static struct pool_entry *owned_pool(uint32_t i)
{
	return nth(ENTRY0->owned_pools1, i, offsetof(struct pool_entry, owned_next1));
}

static struct pool_entry *remote_pool(uint32_t i)
{
	return nth(ENTRY0->remote_pools1, i, offsetof(struct pool_entry, remote_next1));
}

static struct arena_entry *usable_arena(uint32_t i)
{
	uint32_t a1 = space()->usable_arenas1;

	for (; i > 0 && a1; i--)
		a1 = fx.heap->arenas[a1 - 1].next1;
	ck_assert_uint_ne(a1, 0);
	return &fx.heap->arenas[a1 - 1];
}

static struct pool_entry *spare_run(uint32_t n_pools)
{
	ck_assert_uint_ne(ENTRY0->spare_runs1[n_pools - 1], 0);
	return &fx.heap->pools[ENTRY0->spare_runs1[n_pools - 1] - 1];
}

/* Session 1's object of two arenas. */
static struct pool_entry *large_run(void)
{
	for (uint32_t i = 0; i < n_kept; i++)
		if (kept[i].size == 2 * ARENA_SIZE_DEFAULT)
			return ref_pool(kept[i].ref);
	ck_abort_msg("there is no large object");
	return NULL;
}

/* A pool of session 1's in which it holds nothing: session 2 holds all objects in it. */
static struct pool_entry *lent_pool(void)
{
	for (uint32_t i = 0; i < n_kept; i++)
		if (kept[i].session == &fx.sessions[2])
			return ref_pool(kept[i].ref);
	ck_abort_msg("session 2 holds nothing");
	return NULL;
}

static struct name_entry *name_entry(uint32_t i)
{
	return (struct name_entry *)(void *)(fx.heap->base + *name_link(i) * 8);
}

static struct arena_entry *returnable(void)
{
	return &fx.heap->arenas[control()->returnable_arenas1 - 1];
}

/* Remove a hold, and leave the object's count. */
static void forget(uint64_t ref)
{
	struct session *s = &fx.sessions[0];

	ck_assert_int_eq(change_begin(s), 0);
	ck_assert(hold_remove(s, hold_find(s, ref)));
	ck_assert_int_eq(change_end(s, 0), 0);
}

/* Remove the owner's holds from the header, without the drop. */
static void forget_own(uint64_t ref)
{
	ck_assert_uint_ne(header_own(ref_header(ref)->word), 0);
	ref_header(ref)->word &= ~OWN_HOLDS_MAX;
	ENTRY0->n_own_holds--;
}

/* Move a hold behind the next gap of the table, where no search finds it. */
void misplace(struct session *session, uint64_t ref)
{
	uint32_t n, i, n_gaps = 0;
	struct hold *table = hold_table(fx.heap, session->entry, &n), *hold = hold_find(session, ref), moved = *hold;

	for (i = (uint32_t)(hold - table); n_gaps < 2; i = (i + 1) % n)
		n_gaps += table[i].ref == HOLD_EMPTY;
	forget(ref);
	i = (i + n - 1) % n;
	ck_assert_uint_eq(table[i].ref, HOLD_EMPTY);
	table[i] = moved;
	session->entry->n_holds++;
}

/* Link two pools of a list to each other, whatever was between them. */
static void link_used(struct pool_entry *pool, struct pool_entry *next)
{
	pool->next1 = index1_of(next);
	next->prev1 = index1_of(pool);
}

static void link_owned(struct pool_entry *pool, struct pool_entry *next)
{
	pool->owned_next1 = index1_of(next);
	next->owned_prev1 = index1_of(pool);
}

/* A pool's counts and free list, with an owner and without. */
DAMAGE(freeblock_cut, POOL->freeblock1 = 0)
DAMAGE(freeblock_of_live, POOL->freeblock1 = (uint16_t)(ref_block(victim) + 1))
DAMAGE(freeblock_wild, POOL->freeblock1 = 60000)
PUBLIC_DAMAGE(freeblock_circle, free_header(POOL)->word = header_free(free_header(POOL)->word, POOL->freeblock1))
DAMAGE(freeblock_link_cut, free_header(POOL)->word = header_free(free_header(POOL)->word, 0))
DAMAGE(freeblock_link_wild, free_header(POOL)->word = header_free(free_header(POOL)->word, UINT16_MAX))
DAMAGE(freeblock_link_of_live, free_header(POOL)->word = header_free(free_header(POOL)->word, ref_block(victim) + 1))
DAMAGE(freeblock_of_unowned, UNOWNED->freeblock1 = 0)
DAMAGE(freeblock_circle_of_unowned,
	free_header(UNOWNED)->word = header_free(free_header(UNOWNED)->word, UNOWNED->freeblock1))
PUBLIC_DAMAGE(n_used_high, POOL->n_used++)
DAMAGE(n_used_zero, POOL->n_used = 0)
DAMAGE(n_used_of_unowned, UNOWNED->n_used--)
PUBLIC_DAMAGE(n_carved_low, POOL->n_carved = 3)
DAMAGE(n_carved_high, untouched_pool()->n_carved++)
DAMAGE(n_carved_wild, POOL->n_carved = 500)
DAMAGE(n_carved_of_unowned, UNOWNED->n_carved = 1)
DAMAGE(unknown_state_of_live, ref_header(victim)->word |= UINT64_C(7) << 7)
DAMAGE(unknown_state_of_free, free_header(POOL)->word |= UINT64_C(6) << 7)
DAMAGE(free_with_rights, free_header(POOL)->rights = RIGHTS_SHARED | 2 * RIGHTS_ONE)
DAMAGE(free_with_rights_unowned, free_header(UNOWNED)->rights = RIGHTS_SHARED)
DAMAGE(uncarved_with_rights, uncarved_header(untouched_pool())->rights = 1)
DAMAGE(free_run_with_rights, spare_run(2)->header.rights = RIGHTS_SHARED)
DAMAGE(free_block_remote, free_header(UNOWNED)->rights = RIGHTS_SHARED;
	free_header(UNOWNED)->word = header_with_state(free_header(UNOWNED)->word, STATE_REMOTE_FREE))
DAMAGE(free_block_remote_owned, free_header(POOL)->rights = RIGHTS_SHARED;
	free_header(POOL)->word = header_with_state(free_header(POOL)->word, STATE_REMOTE_FREE))
DAMAGE(remote_unmarked, ref_header(remotely_freed)->rights = 0)

/* Pools without an owner. */
DAMAGE(unowned_empty, space()->usedpools1[CLASS_UNOWNED] = 0)
DAMAGE(unowned_wrong_class, space()->usedpools1[3] = index1_of(UNOWNED))
DAMAGE(unowned_wild, space()->usedpools1[CLASS_UNOWNED] = UINT32_MAX)
PUBLIC_DAMAGE(unowned_cut, unowned_pool(0)->next1 = 0)
DAMAGE(unowned_circle, unowned_pool(2)->next1 = space()->usedpools1[CLASS_UNOWNED])
DAMAGE(unowned_prev, unowned_pool(1)->prev1 = 9)
DAMAGE(unowned_full_pool, link_used(unowned_pool(2), full_pool(CLASS_UNOWNED)))
DAMAGE(unowned_of_session, space()->usedpools1[CLASS] = ENTRY0->usedpools1[CLASS])

/* A session's own pools: with room, ... */
DAMAGE(usedpools_empty, ENTRY0->usedpools1[CLASS] = 0)
DAMAGE(usedpools_wrong_class, ENTRY0->usedpools1[3] = index1_of(POOL))
DAMAGE(usedpools_moved, ENTRY0->usedpools1[3] = ENTRY0->usedpools1[CLASS]; ENTRY0->usedpools1[CLASS] = 0)
DAMAGE(usedpools_wild, ENTRY0->usedpools1[CLASS] = UINT32_MAX)
PUBLIC_DAMAGE(usedpools_cut, used_pool(0)->next1 = 0)
DAMAGE(usedpools_circle, used_pool(2)->next1 = ENTRY0->usedpools1[CLASS])
DAMAGE(usedpools_prev, used_pool(1)->prev1 = 9)
DAMAGE(usedpools_full_pool, link_used(used_pool(2), full_pool(CLASS)))
PUBLIC_DAMAGE(usedpools_of_run, ENTRY0->usedpools1[40] = index1_of(spare_run(2)))
DAMAGE(usedpools_of_nobody, ENTRY0->usedpools1[CLASS_UNOWNED] = space()->usedpools1[CLASS_UNOWNED])
DAMAGE(usedpools_of_other, ENTRY1->usedpools1[CLASS] = ENTRY0->usedpools1[CLASS])

/* ... all of them, ... */
DAMAGE(owned_empty, ENTRY0->owned_pools1 = 0)
DAMAGE(owned_wild, ENTRY0->owned_pools1 = 4000000000)
PUBLIC_DAMAGE(owned_cut, owned_pool(1)->owned_next1 = 0)
PUBLIC_DAMAGE(owned_circle, owned_pool(4)->owned_next1 = ENTRY0->owned_pools1)
DAMAGE(owned_next, owned_pool(2)->owned_next1 = UINT32_MAX)
DAMAGE(owned_prev, owned_pool(2)->owned_prev1 = 0)
DAMAGE(owned_missing, link_owned(owned_pool(1), owned_pool(3)))
DAMAGE(owned_missing_run, ENTRY0->owned_pools1 = owned_pool(0)->owned_next1; owned_pool(0)->owned_prev1 = 0)
DAMAGE(owned_of_other, ENTRY0->owned_pools1 = ENTRY1->owned_pools1)
DAMAGE(owned_of_nobody, link_owned(owned_pool(1), UNOWNED))
DAMAGE(owned_free_pool, owned_pool(1)->owned_next1 = ENTRY0->owned_pools1 + 20000)
DAMAGE(owner_forgotten, lent_pool()->owner1 = 0)
DAMAGE(owner_wild, lent_pool()->owner1 = 60000)
DAMAGE(owner_no_session, lent_pool()->owner1 = 8)
DAMAGE(owner_of_records, fx.heap->pools[*name_link(0) >> (POOL_SHIFT - 3)].owner1 = 1)

/* ... those with remotely freed blocks, ... */
DAMAGE(remote_empty, ENTRY0->remote_pools1 = 0)
DAMAGE(remote_wild, ENTRY0->remote_pools1 = UINT32_MAX)
PUBLIC_DAMAGE(remote_cut, remote_pool(0)->remote_next1 = 0)
DAMAGE(remote_circle, remote_pool(2)->remote_next1 = ENTRY0->remote_pools1)
DAMAGE(remote_next, remote_pool(1)->remote_next1 = 77777777)
DAMAGE(remote_prev, remote_pool(1)->remote_prev1 = 0)
DAMAGE(remote_of_other, ENTRY1->remote_pools1 = ENTRY0->remote_pools1)
DAMAGE(remote_of_nobody, ENTRY1->remote_pools1 = index1_of(UNOWNED))
DAMAGE(remote_of_run, fx.sessions[2].entry->remote_pools1 = ref_pool_index(unmade) + 1; ref_pool(unmade)->run_size = 0)
DAMAGE(remote_without, remote_pool(2)->remote_next1 = index1_of(POOL); POOL->remote_prev1 = index1_of(remote_pool(2)))
DAMAGE(remote_not_said, REMOTE_POOL->is_on_remote_list = 0)
DAMAGE(remote_said_of_none, POOL->is_on_remote_list = 1)

/* ... runs that it keeps, and how much of its own it holds. */
DAMAGE(spare_lost, ENTRY0->spare_runs1[1] = 0)
PUBLIC_DAMAGE(spare_wild, ENTRY0->spare_runs1[1] = UINT32_MAX)
DAMAGE(spare_new_wild, ENTRY0->spare_runs1[11] = 4000000000)
DAMAGE(spare_of_live, ENTRY0->spare_runs1[4] = ref_pool_index(run) + 1)
DAMAGE(spare_too_short, ENTRY0->spare_runs1[9] = ENTRY0->spare_runs1[6]; ENTRY0->spare_runs1[6] = 0)
DAMAGE(spare_of_blocks, ENTRY0->spare_runs1[0] = index1_of(POOL))
DAMAGE(spare_of_other, ENTRY1->spare_runs1[1] = ENTRY0->spare_runs1[1])
PUBLIC_DAMAGE(n_own_holds_high, ENTRY0->n_own_holds += 5)
DAMAGE(n_own_holds_zero, ENTRY0->n_own_holds = 0)

/* Arenas and their pools. */
DAMAGE(bitmap_says_free,
	fx.heap->freepools[ref_arena_index(victim) * fx.heap->pool_words] |= UINT64_C(1) << ref_pool_index(victim) % 64)
DAMAGE(bitmap_says_taken, fx.heap->freepools[(uint32_t)(usable_arena(0) - fx.heap->arenas) * fx.heap->pool_words] = 0)
DAMAGE(n_free_pools_high, ref_arena(victim)->n_free_pools++)
DAMAGE(n_free_pools_wild, usable_arena(0)->n_free_pools = 100000)
PUBLIC_DAMAGE(usable_empty, space()->usable_arenas1 = 0)
DAMAGE(usable_wild, space()->usable_arenas1 = 4000000000)
DAMAGE(usable_cut, usable_arena(0)->next1 = 0)
DAMAGE(usable_circle, usable_arena(1)->next1 = space()->usable_arenas1)
DAMAGE(usable_prev, usable_arena(1)->prev1 = 0)
DAMAGE(usable_of_run, usable_arena(1)->next1 = (uint32_t)(returnable() - fx.heap->arenas) + 1)

static void usable_misordered(void) /* two neighbours with different numbers change places */
{
	struct arena_entry *first, *second, *behind;
	uint32_t i = 0, first1, second1;

	while (arena_rank(fx.heap, usable_arena(i)->n_free_pools) ==
		arena_rank(fx.heap, usable_arena(i + 1)->n_free_pools))
		i++;
	first = usable_arena(i);
	second = usable_arena(i + 1);
	first1 = (uint32_t)(first - fx.heap->arenas) + 1;
	second1 = first->next1;
	behind = second->next1 ? &fx.heap->arenas[second->next1 - 1] : NULL;
	*(i ? &usable_arena(i - 1)->next1 : &space()->usable_arenas1) = second1;
	second->prev1 = first->prev1;
	first->next1 = second->next1;
	second->next1 = first1;
	first->prev1 = second1;
	if (behind)
		behind->prev1 = first1;
}

DAMAGE(space_of_arena, usable_arena(0)->space = 2)
DAMAGE(space_of_arena_wild, usable_arena(1)->space = UINT32_MAX)
DAMAGE(rank2lasta_missing, space()->rank2lasta1[arena_rank(fx.heap, usable_arena(0)->n_free_pools)] = 0)
DAMAGE(rank2lasta_too_much, space()->rank2lasta1[7] = 1)
DAMAGE(rank2lasta_wild, space()->rank2lasta1[arena_rank(fx.heap, usable_arena(1)->n_free_pools)] = UINT32_MAX)
DAMAGE(n_free_arenas, space()->n_free_arenas++)
DAMAGE(n_free_arenas_of_records, control()->spaces[SPACE_RECORDS].n_free_arenas = 5)
DAMAGE(returnable_empty, control()->returnable_arenas1 = 0)
DAMAGE(returnable_cut, returnable()->next1 = 0)
DAMAGE(returnable_circle, returnable()->next1 = control()->returnable_arenas1)
DAMAGE(returnable_of_live, control()->returnable_arenas1 = ref_arena_index(victim) + 1)
DAMAGE(returnable_prev, returnable()->prev1 = 3)

DAMAGE(n_holds, ENTRY0->n_holds++)
DAMAGE(n_holds_of_table, fx.sessions[2].entry->n_holds = 0)
PUBLIC_DAMAGE(hold_of_dead, hold_find(&fx.sessions[0], borrowed[0])->ref = gone)
DAMAGE(hold_of_remote, hold_find(&fx.sessions[0], borrowed[0])->ref = remotely_freed)
DAMAGE(hold_zero_times, hold_find(&fx.sessions[0], borrowed[0])->count = 0)
DAMAGE(hold_misplaced, misplace(&fx.sessions[0], borrowed[0]))
DAMAGE(holds_misplaced, misplace(&fx.sessions[0], borrowed[0]); misplace(&fx.sessions[0], borrowed[1]);
	misplace(&fx.sessions[0], borrowed[2]))
PUBLIC_DAMAGE(new_table_of_live, ENTRY0->new_holds_position1 = ref_position(run) + 1)
DAMAGE(new_table_wild, ENTRY0->new_holds_position1 = UINT64_MAX)
DAMAGE(dying_cut, ENTRY1->dying1 = 0)
DAMAGE(dying_of_live, ENTRY1->dying1 = ref_position(victim) + 1)
DAMAGE(dying_wild, ENTRY1->dying1 = UINT64_MAX)
DAMAGE(dying_of_remote, ENTRY1->dying1 = ref_position(remotely_freed) + 1)
DAMAGE(dying_circle, ref_header(half_dead[0])->rights = rights_of_dying(ref_position(half_dead[2]) + 1))
DAMAGE(dying_link_cut, ref_header(half_dead[2])->rights = 0)
DAMAGE(dying_link_wild, ref_header(half_dead[1])->rights = UINT64_MAX)
DAMAGE(dying_link_of_live, ref_header(half_dead[1])->rights = rights_of_dying(ref_position(victim) + 1))
DAMAGE(dying_link_of_itself, ref_header(half_dead[1])->rights = rights_of_dying(ref_position(half_dead[1]) + 1))
DAMAGE(dying_twice, ENTRY0->dying1 = ref_position(half_dead[1]) + 1)
DAMAGE(dying_held, ref_header(half_dead[1])->word += 2)
DAMAGE(making_lost, fx.sessions[2].entry->making1 = 0)
DAMAGE(making_of_live, ENTRY1->making1 = ref_position(victim) + 1)
DAMAGE(making_wild, ENTRY1->making1 = UINT64_MAX)
DAMAGE(making_twice, ENTRY1->making1 = ref_position(unmade) + 1)
DAMAGE(making_held, ref_header(unmade)->word++)
DAMAGE(making_with_rights, ref_header(unmade)->rights = RIGHTS_SHARED | RIGHTS_ONE)

DAMAGE(block_too_long, ref_header(victim)->word |= UINT64_C(0x3ff) << 10)
DAMAGE(shared_block_too_long, ref_header(borrowed[0])->word |= UINT64_C(0x3ff) << 10)
PUBLIC_DAMAGE(dying_too_long, ref_header(half_dead[0])->word |= UINT64_C(0x3ff) << 10)
PUBLIC_DAMAGE(dying_of_no_type, ref_header(half_dead[0])->word ^= header_live(0, TYPE_LIST ^ 9, 0, 0))
PUBLIC_DAMAGE(owned_of_dead_wild, ENTRY1->owned_pools1 = UINT32_MAX)
PUBLIC_DAMAGE(large_of_wrong_length, large_run()->run_n_pools = 5)
PUBLIC_DAMAGE(free_of_dead_with_rights, free_header(POOL)->rights = RIGHTS_SHARED)
PUBLIC_DAMAGE(spare_of_dead_with_rights, spare_run(2)->header.rights = 1)
DAMAGE(run_too_long, ref_pool(run)->run_size = UINT64_MAX)

DAMAGE(count_too_high, ref_header(victim)->rights = RIGHTS_SHARED | 3 * RIGHTS_ONE)
DAMAGE(count_far_too_high, ref_header(victim)->rights = UINT64_MAX)
DAMAGE(count_too_low, ref_header(kept[0].ref)->rights -= RIGHTS_ONE)
DAMAGE(count_zero, ref_header(borrowed[0])->rights = RIGHTS_SHARED)
DAMAGE(rights_zero, ref_header(borrowed[0])->rights = 0)
DAMAGE(count_of_run, ref_header(run)->rights = 1000 * RIGHTS_ONE)
DAMAGE(not_shared, ref_header(borrowed[0])->rights &= ~(uint64_t)RIGHTS_SHARED)
DAMAGE(held_by_nobody, ref_header(orphan)->word++)
DAMAGE(leaked, forget(borrowed[0]))
DAMAGE(leaked_own, forget_own(victim))
DAMAGE(leaked_run, forget_own(run))
DAMAGE(leaked_list, forget_own(list))
DAMAGE(slot_of_dead, memcpy(ref_data(list) + 16, &gone, 8))
DAMAGE(slot_wild, memset(ref_data(list) + 16, 0xee, 8))
DAMAGE(slot_too_many, memcpy(ref_data(list) + 16, &victim, 8))
DAMAGE(place_of_dead, memcpy(ref_data(queue) + offsetof(struct queue, cells), &gone, 8))
DAMAGE(queue_head_wild, QUEUE->head = 1000)
DAMAGE(queue_head_off, QUEUE->head++)
DAMAGE(queue_tail_off, QUEUE->tail++)
DAMAGE(queue_tail_wild, QUEUE->tail = UINT64_MAX / 2)
DAMAGE(queue_stamp_off, QUEUE->cells[0].stamp++)
DAMAGE(queue_stamp_wild, QUEUE->cells[2].stamp = UINT64_MAX)
DAMAGE(queue_lap_off, QUEUE->cells[1].stamp += QUEUE->n)
DAMAGE(queue_n_wild, QUEUE->n = 1 << 20)
DAMAGE(queue_gap, QUEUE->cells[2].ref = QUEUE->cells[1].ref; QUEUE->cells[1].ref = 0)
DAMAGE(name_of_dead, name_entry(0)->ref = gone)

DAMAGE(bucket_cut, fx.heap->name_buckets[bucket] = 0)
DAMAGE(bucket_wild, fx.heap->name_buckets[bucket] = UINT64_MAX)
DAMAGE(bucket_of_live, fx.heap->name_buckets[bucket] = ref_position(victim))
DAMAGE(bucket_moved, fx.heap->name_buckets[bucket ^ 1] = fx.heap->name_buckets[bucket];
	fx.heap->name_buckets[bucket] = 0)
DAMAGE(chain_cut, *name_link(1) = 0)
DAMAGE(chain_wild, *name_link(2) = 12345)
DAMAGE(chain_circle, name_entry(2)->next = *name_link(0))
DAMAGE(chain_misordered, uint64_t *link = name_link(0), first = *link, second = name_entry(0)->next;
	name_entry(0)->next = name_entry(1)->next; *link = second; name_entry(0)->next = first)

const struct repair_damage repair_damages[] = {
	{freeblock_cut, "freeblock list", 0, false},
	{freeblock_of_live, "freeblock list", 0, false},
	{freeblock_wild, "freeblock list", 0, false},
	{freeblock_circle, "freeblock list", 0, false},
	{freeblock_link_cut, "freeblock list", 0, false},
	{freeblock_link_wild, "freeblock list", 0, false},
	{freeblock_link_of_live, "freeblock list", 0, false},
	{freeblock_of_unowned, "freeblock list", 0, false},
	{freeblock_circle_of_unowned, "freeblock list", 0, false},
	{n_used_high, "blocks are in use", 0, false},
	{n_used_zero, "blocks are in use", 0, false},
	{n_used_of_unowned, "blocks are in use", 0, false},
	{n_carved_low, "nextoffset", 0, false},
	{n_carved_high, "freeblock list", 0, false},
	{n_carved_wild, "blocks carved", 0, false},
	{n_carved_of_unowned, "nextoffset", 0, false},
	{unknown_state_of_live, "unknown state 7", 0, false},
	{unknown_state_of_free, "unknown state 6", 0, false},
	{free_with_rights, "is free and somebody has a right to it", 0, false},
	{free_with_rights_unowned, "is free and somebody has a right to it", 0, false},
	{uncarved_with_rights, "is free and somebody has a right to it", 0, false},
	{free_run_with_rights, "starts a free run and somebody has a right to it", 0, false},
	{free_block_remote, "waits to be collected and the pool has no owner", 0, false},
	{free_block_remote_owned, "has 1 remotely freed blocks and is not on remote_pools", 0, false},
	{remote_unmarked, "waits to be collected and its rights", 0, false},
	{unowned_empty, "usedpools[17]", 0, false},
	{unowned_wrong_class, "usedpools[3] of space 0", 0, false},
	{unowned_wild, "usedpools[17] of space 0", 0, false},
	{unowned_cut, "usedpools[17]", 0, false},
	{unowned_circle, "usedpools[17] of space 0", 0, false},
	{unowned_prev, "usedpools[17] of space 0", 0, false},
	{unowned_full_pool, "has no room and is on usedpools[17]", 0, false},
	{unowned_of_session, "usedpools[12] of space 0", 0, false},
	{usedpools_empty, "has some room and is not on usedpools[12]", 0, false},
	{usedpools_wrong_class, "session 0: its list usedpools[3] is broken", 0, false},
	{usedpools_moved, "session 0: its list usedpools[3] is broken", 0, false},
	{usedpools_wild, "session 0: its list usedpools[12] is broken", 0, false},
	{usedpools_cut, "has some room and is not on usedpools[12]", 0, false},
	{usedpools_circle, "session 0: its list usedpools[12] is broken", 0, false},
	{usedpools_prev, "session 0: its list usedpools[12] is broken", 0, false},
	{usedpools_full_pool, "has no room and is on usedpools[12]", 0, false},
	{usedpools_of_run, "session 0: its list usedpools[40] is broken", 0, false},
	{usedpools_of_nobody, "session 0: its list usedpools[17] is broken", 0, false},
	{usedpools_of_other, "session 1: its list usedpools[12] is broken", 0, false},
	{owned_empty, "is not on the list owned_pools of its owner, session 0", 0, false},
	{owned_wild, "session 0: its list owned_pools is broken", 0, false},
	{owned_cut, "is not on the list owned_pools of its owner, session 0", 0, false},
	{owned_circle, "session 0: its list owned_pools is broken", 0, false},
	{owned_next, "session 0: its list owned_pools is broken", 0, false},
	{owned_prev, "session 0: its list owned_pools is broken", 0, false},
	{owned_missing, "is not on the list owned_pools of its owner, session 0", 0, false},
	{owned_missing_run, "is not on the list owned_pools of its owner, session 0", 0, false},
	{owned_of_other, "session 0: its list owned_pools is broken", 0, false},
	{owned_of_nobody, "session 0: its list owned_pools is broken", 0, false},
	{owned_free_pool, "session 0: its list owned_pools is broken", 0, false},
	{owner_forgotten, "session 1: its list owned_pools is broken", 0, false},
	{owner_wild, "is owned by session 59999, which cannot be", 0, false},
	{owner_no_session, "is owned by session 7, which cannot be", 0, false},
	{owner_of_records, "is owned by session 0, which cannot be", 0, false},
	{remote_empty, "remotely freed blocks and is not on remote_pools", 0, false},
	{remote_wild, "session 0: its list remote_pools is broken", 0, false},
	{remote_cut, "remotely freed blocks and is not on remote_pools", 0, false},
	{remote_circle, "session 0: its list remote_pools is broken", 0, false},
	{remote_next, "session 0: its list remote_pools is broken", 0, false},
	{remote_prev, "session 0: its list remote_pools is broken", 0, false},
	{remote_of_other, "session 1: its list remote_pools is broken", 0, false},
	{remote_of_nobody, "session 1: its list remote_pools is broken", 0, false},
	{remote_of_run, "session 2: its list remote_pools is broken", 0, false},
	{remote_without, "has 0 remotely freed blocks and is on remote_pools", 0, false},
	{remote_not_said, "says that it is not on remote_pools, which it is", 0, false},
	{remote_said_of_none, "says that it is on remote_pools, which it is not", 0, false},
	{spare_lost, "starts a run whose header says that it is free", 0, false},
	{spare_wild, "session 0: keeps a run of 2 pools", 0, false},
	{spare_new_wild, "session 0: keeps a run of 12 pools", 0, false},
	{spare_of_live, "session 0: keeps a run of 5 pools", 0, false},
	{spare_too_short, "session 0: keeps a run of 10 pools", 0, false},
	{spare_of_blocks, "session 0: keeps a run of 1 pools", 0, false},
	{spare_of_other, "session 1: keeps a run of 2 pools", 0, false},
	{n_own_holds_high, "objects of its own", 0, false},
	{n_own_holds_zero, "session 0: says that it holds 0 objects of its own", 0, false},
	{bitmap_says_free, "freepools", 0, false},
	{bitmap_says_taken, "freepools", 0, false},
	{n_free_pools_high, "nfreepools", 0, false},
	{n_free_pools_wild, "nfreepools", 0, false},
	{usable_empty, "usable_arenas", 0, false},
	{usable_wild, "usable_arenas", 0, false},
	{usable_cut, "usable_arenas", 0, false},
	{usable_circle, "usable_arenas", 0, false},
	{usable_prev, "usable_arenas", 0, false},
	{usable_of_run, "usable_arenas", 0, false},
	{usable_misordered, "stands behind", 0, false},
	{space_of_arena, "unknown space 2", 0, false},
	{space_of_arena_wild, "unknown space", 0, false},
	{rank2lasta_missing, "rank2lasta", 0, false},
	{rank2lasta_too_much, "rank2lasta[7]", 0, false},
	{rank2lasta_wild, "rank2lasta", 0, false},
	{n_free_arenas, "n_free_arenas of objects", 0, false},
	{n_free_arenas_of_records, "n_free_arenas of records", 0, false},
	{returnable_empty, "returnable_arenas", 0, false},
	{returnable_cut, "returnable_arenas", 0, false},
	{returnable_circle, "returnable_arenas", 0, false},
	{returnable_of_live, "returnable_arenas", 0, false},
	{returnable_prev, "returnable_arenas", 0, false},
	{n_holds, "session 0: says that it has", 0, false},
	{n_holds_of_table, "session 2: says that it has 0 holds", 0, false},
	{hold_of_dead, "a hold of session 0", 0, true},
	{hold_of_remote, "a hold of session 0", 0, true},
	{hold_zero_times, "0 times", 0, false},
	{hold_misplaced, "not found where it is", 0, true},
	{holds_misplaced, "not found where it is", 0, true},
	{new_table_of_live, "the new hold table of session 0", 0, true},
	{new_table_wild, "the new hold table of session 0", 0, true},
	{dying_cut, "dying for 0 sessions", 0, false},
	{dying_of_live, "dying list", 0, false},
	{dying_wild, "dying list", 0, false},
	{dying_of_remote, "dying list", 0, false},
	{dying_circle, "dying list", 0, false},
	{dying_link_cut, "dying for 0 sessions", 0, false},
	{dying_link_wild, "dying list", 0, false},
	{dying_link_of_live, "dying list", 0, false},
	{dying_link_of_itself, "dying list", 0, false},
	{dying_twice, "dying list", 0, false},
	{dying_held, "is dying and its pool's owner holds it", 0, false},
	{making_lost, "being made for 0 sessions", 0, false},
	{making_of_live, "not being made", 0, false},
	{making_wild, "not being made", 0, false},
	{making_twice, "being made for 2 sessions", 0, false},
	{making_held, "is being made and its pool's owner holds it", 0, false},
	{making_with_rights, "is being made and somebody has a right to it", 0, false},
	{block_too_long, "bytes of its object", 0, false},
	{shared_block_too_long, "bytes of its object", 0, false},
	{run_too_long, "bytes of its object", 0, false},
	{count_too_high, "its count is 3, 0 have a right to it", 0, false},
	{count_far_too_high, "0 have a right to it", 0, false},
	{count_too_low, "have a right to it", 0, false},
	{count_zero, "its count is 0, 1 have a right to it", 0, false},
	{rights_zero, "its count is 0, 1 have a right to it", 0, false},
	{count_of_run, "its count is 1000, 0 have a right to it", 0, false},
	{not_shared, "others have a right to it and it is not marked as shared", 0, false},
	{held_by_nobody, "is held by the owner of its pool, which has none", 0, false},
	{leaked, "has leaked", 0, false},
	{leaked_own, "has leaked", 0, false},
	{leaked_run, "has leaked", 0, false},
	{leaked_list, "has leaked", 0, false},
	{slot_of_dead, "a slot of object", 0, false},
	{slot_wild, "a slot of object", 0, false},
	{slot_too_many, "its count is 0, 1 have a right to it", 0, false},
	{place_of_dead, "a slot of object", 0, false},
	{queue_head_wild, "its head and tail", 0, false},
	{queue_head_off, "its head and tail", 0, false},
	{queue_tail_off, "its head and tail", 0, false},
	{queue_tail_wild, "its head and tail", 0, false},
	{queue_stamp_off, "its head and tail", 0, false},
	{queue_stamp_wild, "its head and tail", 0, false},
	{queue_lap_off, "its head and tail", 0, false},
	{queue_n_wild, "its head and tail", 0, false},
	{queue_gap, "its head and tail", 0, false},
	{name_of_dead, "a name of bucket", 1, false},
	{bucket_cut, "n_names", 0, false},
	{bucket_wild, "name bucket", 0, false},
	{bucket_of_live, "name bucket", 0, false},
	{bucket_moved, "does not belong there", 0, false},
	{chain_cut, "n_names", 0, false},
	{chain_wild, "name bucket", 0, false},
	{chain_circle, "name bucket", 0, false},
	{chain_misordered, "name bucket", 0, false},
};
const int n_repair_damages = sizeof(repair_damages) / sizeof(repair_damages[0]);
