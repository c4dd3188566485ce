// SPDX-License-Identifier: MIT
/*
 * Damages to a heap with a little of everything in it, for test_check.c
 *
 * A function a damage, and a table of what heap_check() says of each. Most are to what is derived, some to the truth,
 * which no repair brings back; those that can be mended stand in repair_damages.c as well, where more is asked of them.
 */
#include "tests/unit/heap/repair/check_damages.h"

uint64_t block, other, list, queue, named, run, large, borrowed, remotely_freed, orphan;

static uint64_t gone;

static struct space *space(void)
{
	return &fx.heap->control->spaces[SPACE_OBJECTS];
}

static struct hold *hold_of(uint64_t ref)
{
	struct hold *hold = hold_find(S0, ref);

	ck_assert_ptr_nonnull(hold);
	return hold;
}

/* One session makes it, another holds it. */
static uint64_t lend(struct session *from, struct session *to, size_t size)
{
	uint64_t ref = fixture_bytes(from, size);

	MUST(to, object_incref(to, ref));
	fixture_drop(from, ref);
	return ref;
}

static void populate_unowned(void)
{
	struct session s;

	ck_assert_int_eq(fixture_admit(fx.heap, &s), 0);
	orphan = fixture_bytes(&s, 200);
	fixture_drop(&s, fixture_bytes(&s, 208));
	MUST(S1, object_incref(S1, orphan));
	session_mark_dead(fx.heap, s.index);
	while (session_reclaim_step(&s) == 1)
		;
	ck_assert_uint_eq(ref_pool(orphan)->owner1, 0);
}

void check_populate(void)
{
	uint64_t refs[20];

	for (int i = 0; i < 20; i++)
		refs[i] = fixture_bytes(S0, 100);
	for (int i = 4; i < 20; i += 3)
		fixture_drop(S0, refs[i]);
	block = refs[0];
	other = refs[1];
	gone = refs[7];
	list = fixture_list(S0, 3);
	MUST(S0, list_set(S0, list, 1, block));
	MUST(S0, queue_new(S0, 3, &queue));
	MUST(S0, object_incref(S0, block));
	MUST(S0, queue_push(S0, queue, block, 0));
	named = fixture_bytes(S0, 50);
	MUST(S0, name_set(S0, "name", named));
	run = fixture_bytes(S0, 5 * POOL_SIZE);
	large = fixture_bytes(S0, 2 * ARENA_SIZE_DEFAULT);
	fixture_drop(S0, fixture_bytes(S0, 3 * ARENA_SIZE_DEFAULT)); /* returnable */
	fixture_drop(S0, fixture_bytes(S0, 2 * POOL_SIZE));          /* a run that it keeps */
	fixture_drop(S0, fixture_bytes(S0, 300));                    /* a pool that it keeps */
	for (int i = 0; i < 3; i++)
		borrowed = lend(S1, S0, 60);
	populate_unowned();
	remotely_freed = lend(S0, S1, 150); /* last, since S0's next call would collect it */
	fixture_drop(S1, remotely_freed);
	ck_assert_uint_eq(ref_state(remotely_freed), STATE_REMOTE_FREE);
}

static uint32_t index1(uint64_t ref)
{
	return ref_pool_index(ref) + 1;
}
static struct object_header *free_header(uint64_t ref)
{
	ck_assert_uint_ne(ref_pool(ref)->freeblock1, 0);
	return ref_header(ref) - ref_block(ref) + ref_pool(ref)->freeblock1 - 1;
}
static void freelist_cut(void)
{
	ref_pool(block)->freeblock1 = 0;
}
static void freelist_of_live_block(void)
{
	ref_pool(block)->freeblock1 = (uint16_t)(ref_block(block) + 1);
}
static void freelist_wild(void)
{
	ref_pool(block)->freeblock1 = 60000;
}
static void freelist_circle(void)
{
	struct object_header *header = free_header(block);

	header->word = header_free(header->word, ref_pool(block)->freeblock1);
}
static void pool_n_used(void)
{
	ref_pool(block)->n_used++;
}
static void pool_n_carved_low(void)
{
	ref_pool(block)->n_carved = 1;
}
static void pool_n_carved_high(void)
{
	ref_pool(block)->n_carved = 500;
}
static void pool_class(void)
{
	ref_pool(block)->size_class = 200;
}
static void pool_kind_unknown(void)
{
	ref_pool(block)->kind = 77;
}
static void pool_kind_free(void)
{
	ref_pool(block)->kind = POOL_FREE;
}
static void free_with_rights(void)
{
	free_header(block)->rights = RIGHTS_SHARED | RIGHTS_ONE;
}
static void state_unknown(void)
{
	ref_header(other)->word = header_with_state(ref_header(other)->word, 6);
}
static void unowned_empty(void)
{
	space()->usedpools1[ref_pool(orphan)->size_class] = 0;
}
static void unowned_wrong_class(void)
{
	space()->usedpools1[3] = index1(orphan);
}
static void unowned_wild(void)
{
	space()->usedpools1[3] = UINT32_MAX;
}
static void unowned_of_session(void)
{
	space()->usedpools1[ref_pool(block)->size_class] = index1(block);
}
static void unowned_circle(void)
{
	ref_pool(orphan)->next1 = index1(orphan);
}
static void unowned_prev(void)
{
	ref_pool(orphan)->prev1 = 9;
}
static void usedpools_empty(void)
{
	S0->entry->usedpools1[ref_pool(block)->size_class] = 0;
}
static void usedpools_wrong_class(void)
{
	S0->entry->usedpools1[3] = index1(block);
}
static void usedpools_wild(void)
{
	S0->entry->usedpools1[3] = UINT32_MAX;
}
static void usedpools_of_other(void)
{
	S0->entry->usedpools1[ref_pool(borrowed)->size_class] = index1(borrowed);
}
static void usedpools_of_run(void)
{
	S0->entry->usedpools1[3] = index1(run);
}
static void usedpools_circle(void)
{
	ref_pool(block)->next1 = index1(block);
}
static void usedpools_prev(void)
{
	ref_pool(block)->prev1 = 9;
}
static void owned_empty(void)
{
	S0->entry->owned_pools1 = 0;
}
static void owned_wild(void)
{
	S0->entry->owned_pools1 = UINT32_MAX;
}
static void owned_of_other(void)
{
	S1->entry->owned_pools1 = index1(block);
}
static void owned_of_nobody(void)
{
	ref_pool(block)->owned_next1 = index1(orphan);
}
static void owned_circle(void)
{
	ref_pool(block)->owned_next1 = index1(block);
}
static void owned_prev(void)
{
	ref_pool(large)->owned_prev1 = UINT32_MAX;
}
static void owner_forgotten(void)
{
	ref_pool(block)->owner1 = 0;
}
static void owner_of_run_forgotten(void)
{
	ref_pool(large)->owner1 = 0;
}
static void owner_wild(void)
{
	ref_pool(block)->owner1 = UINT16_MAX;
}
static void owner_no_session(void)
{
	ref_pool(run)->owner1 = 2 * FIXTURE_SESSIONS;
}
static void owner_another(void)
{
	ref_pool(block)->owner1 = 2;
}
static uint64_t name_position(void)
{
	for (uint32_t b = 0;; b++)
		if (fx.heap->name_buckets[b])
			return fx.heap->name_buckets[b];
}
static void owner_of_records(void)
{
	fx.heap->pools[name_position() >> (POOL_SHIFT - 3)].owner1 = 1;
}
static void remote_empty(void)
{
	S0->entry->remote_pools1 = 0;
}
static void remote_wild(void)
{
	S0->entry->remote_pools1 = 4000000000;
}
static void remote_of_run(void)
{
	ref_pool(run)->run_size = 0;
	S0->entry->remote_pools1 = index1(run);
}
static void remote_of_other(void)
{
	S1->entry->remote_pools1 = index1(remotely_freed);
}
static void remote_circle(void)
{
	ref_pool(remotely_freed)->remote_next1 = index1(remotely_freed);
}
static void remote_prev(void)
{
	ref_pool(remotely_freed)->remote_prev1 = 1;
}
static void remote_without(void)
{
	ref_pool(remotely_freed)->remote_next1 = index1(block);
	ref_pool(block)->remote_prev1 = index1(remotely_freed);
}
static void not_said_remote(void)
{
	ref_pool(remotely_freed)->is_on_remote_list = 0;
}
static void said_remote(void)
{
	ref_pool(block)->is_on_remote_list = 1;
}
static void remote_unowned(void)
{
	ref_header(orphan)->word = header_with_state(ref_header(orphan)->word, STATE_REMOTE_FREE);
}
static void remote_unmarked(void)
{
	ref_header(remotely_freed)->rights = 0;
}
static void spare_lost(void)
{
	ck_assert_uint_ne(S0->entry->spare_runs1[1], 0);
	S0->entry->spare_runs1[1] = 0;
}
static void spare_wild(void)
{
	S0->entry->spare_runs1[7] = UINT32_MAX;
}
static void spare_of_live(void)
{
	S0->entry->spare_runs1[4] = index1(run);
}
static void spare_of_other(void)
{
	S1->entry->spare_runs1[1] = S0->entry->spare_runs1[1];
}
static void spare_too_short(void)
{
	S0->entry->spare_runs1[8] = S0->entry->spare_runs1[1];
}
static void spare_with_rights(void)
{
	fx.heap->pools[S0->entry->spare_runs1[1] - 1].header.rights = 1;
}
static void n_own_holds(void)
{
	S0->entry->n_own_holds--;
}
static void bitmap_says_free(void)
{
	uint32_t arena = ref_arena_index(block);

	fx.heap->freepools[arena * fx.heap->pool_words] |= UINT64_C(1) << ref_pool_index(block) % 64;
}
static void bitmap_says_taken(void)
{
	fx.heap->freepools[ref_arena_index(block) * fx.heap->pool_words] &= ~(UINT64_C(1) << 63);
}
static void arena_n_free_pools(void)
{
	ref_arena(block)->n_free_pools--;
}
static void unknown_arena_state(void)
{
	ref_arena(block)->state = 55;
}
static void arena_run_length(void)
{
	ref_arena(large)->n_arenas = 60;
}
static void arena_run_without_object(void)
{
	ref_pool(large)->kind = POOL_FREE;
}
static void arena_body(void)
{
	ref_arena(large)[1].state = ARENA_POOLS;
}
static void arena_space_of_pools(void)
{
	ref_arena(block)->space = 2;
}
static void arena_space_of_run(void)
{
	ref_arena(large)->space = UINT32_MAX;
}
static void usable_empty(void)
{
	space()->usable_arenas1 = 0;
}
static void usable_wild(void)
{
	space()->usable_arenas1 = 4000000000;
}
static void usable_circle(void)
{
	ref_arena(block)->next1 = ref_arena_index(block) + 1;
}
static void rank2lasta_missing(void)
{
	space()->rank2lasta1[arena_rank(fx.heap, ref_arena(block)->n_free_pools)] = 0;
}
static void rank2lasta_too_much(void)
{
	space()->rank2lasta1[2] = 1;
}
static void returnable_empty(void)
{
	control()->returnable_arenas1 = 0;
}
static void returnable_wild(void)
{
	control()->returnable_arenas1 = ref_arena_index(block) + 1;
}
static void n_free_arenas(void)
{
	space()->n_free_arenas++;
}
static void counter_arenas(void)
{
	control()->counters.n_arenas_current++;
}
static void counter_highwater(void)
{
	control()->counters.n_arenas_highwater = 0;
}
static void counter_reclaimed(void)
{
	control()->counters.n_arenas_reclaimed++;
}
static void counter_names(void)
{
	control()->counters.n_names++;
}
static void count_too_high(void)
{
	ref_header(block)->rights += RIGHTS_ONE;
}
static void count_too_low(void)
{
	ref_header(block)->rights -= RIGHTS_ONE;
}
static void count_wild(void)
{
	ref_header(run)->rights = UINT64_MAX;
}
static void not_shared(void)
{
	ref_header(block)->rights = rights_count(ref_header(block)->rights) * RIGHTS_ONE;
}
static void held_by_nobody(void)
{
	ref_header(orphan)->word++;
}
static void object_leaked(void)
{
	ref_header(run)->word &= ~OWN_HOLDS_MAX;
	S0->entry->n_own_holds--;
}
static void shared_object_leaked(void)
{
	*hold_of(borrowed) = (struct hold){0};
	S0->entry->n_holds--;
}
static void header_freed(void) /* of what others have a right to */
{
	ref_header(block)->word = header_with_state(ref_header(block)->word, STATE_FREE);
}
static void run_header_freed(void)
{
	ref_header(run)->word = header_with_state(ref_header(run)->word, STATE_FREE);
}
static void run_too_long(void)
{
	ref_pool(run)->run_n_pools = 1000;
}
static void block_size_too_large(void)
{
	ref_header(other)->word |= UINT64_C(0x3ff) << 10;
}
static void run_size_too_large(void)
{
	ref_pool(run)->run_size = UINT64_MAX;
}
static void type_unknown(void)
{
	ref_header(other)->word |= UINT64_C(0x3000) << 20;
}
static void hold_of_dead(void)
{
	hold_of(borrowed)->ref = gone;
}
static void hold_of_zero(void)
{
	hold_of(borrowed)->count = 0;
}
static void hold_misplaced(void)
{
	struct hold *holds = S0->entry->holds_inline, moved = *hold_of(borrowed);
	uint32_t i = (uint32_t)(hold_of(borrowed) - holds);

	holds[i] = (struct hold){0};
	/* behind a gap, where no search for it comes */
	do
		i = (i + 1) % HOLDS_INLINE;
	while (holds[i].ref || holds[(i + HOLDS_INLINE - 1) % HOLDS_INLINE].ref);
	holds[i] = moved;
}
static void n_holds(void)
{
	S0->entry->n_holds++;
}
static void hold_table_wild(void)
{
	S0->entry->holds_position1 = UINT64_C(1) << 40;
	S0->entry->holds_shift = 10;
}
static void hold_table_no_record(void)
{
	S0->entry->new_holds_position1 = ref_position(run) + 1;
}
static void dying_of_live(void)
{
	S0->entry->dying1 = ref_position(other) + 1;
}
static void dying_wild(void)
{
	S0->entry->dying1 = UINT64_MAX;
}
static void making_of_live(void)
{
	S0->entry->making1 = ref_position(other) + 1;
}
static void dying_of_remote(void)
{
	S0->entry->dying1 = ref_position(remotely_freed) + 1;
}
static void dying_on_no_list(void)
{
	ref_header(run)->word = header_with_state(ref_header(run)->word, STATE_DYING);
}
static void dying_two(void)
{
	fixture_give_up(S0, list);
	S0->entry->n_own_holds--;
	ref_header(run)->word = header_with_state(ref_header(run)->word, STATE_DYING);
	ref_header(run)->rights = rights_of_dying(ref_position(list) + 1);
	S0->entry->dying1 = ref_position(run) + 1;
}
static void dying_circle(void)
{
	dying_two();
	ref_header(list)->rights = rights_of_dying(ref_position(run) + 1);
}
static void dying_link_wild(void)
{
	dying_two();
	ref_header(run)->rights = UINT64_MAX;
}
static void dying_link_cut(void)
{
	dying_two();
	ref_header(run)->rights = 0;
}
static void dying_held(void)
{
	dying_two();
	ref_header(run)->word++;
}
static void making_with_rights(void)
{
	ref_header(run)->word = header_with_state(ref_header(run)->word, STATE_MAKING);
	ref_header(run)->rights = 1;
	S0->entry->n_own_holds--;
	S0->entry->making1 = ref_position(run) + 1;
}
static struct name_entry *name_entry(void)
{
	return (struct name_entry *)(void *)(fx.heap->base + name_position() * 8);
}
static void name_of_dead(void)
{
	name_entry()->ref = gone;
}
static void name_bucket_wild(void)
{
	fx.heap->name_buckets[5] = UINT64_MAX;
}
static void name_in_wrong_bucket(void)
{
	name_entry()->hash ^= UINT64_C(1) << 62;
}
static void name_chain_circle(void)
{
	for (uint32_t b = 0; b < fx.heap->n_name_buckets; b++)
		if (fx.heap->name_buckets[b])
			name_entry()->next = fx.heap->name_buckets[b];
}
static void slot_of_dead(void)
{
	memcpy(ref_data(list) + 16, &gone, 8);
}
static void slot_too_many(void)
{
	memcpy(ref_data(list) + 16, &other, 8);
}
static void place_of_dead(void)
{
	((struct queue *)(void *)ref_data(queue))->cells[0].ref = gone;
}
static void queue_head(void)
{
	((struct queue *)(void *)ref_data(queue))->head = 2;
}
static void queue_tail(void)
{
	((struct queue *)(void *)ref_data(queue))->tail++;
}
static void queue_stamp(void)
{
	((struct queue *)(void *)ref_data(queue))->cells[1].stamp++;
}
static void log_left(void)
{
	control()->lock.entries[0] = (struct log_entry){.where = offsetof(struct control, reserved2)};
	control()->lock.n_entries = 1;
}

const struct check_damage check_damages[] = {
	{freelist_cut, "freeblock"},
	{freelist_of_live_block, "freeblock"},
	{freelist_wild, "freeblock"},
	{freelist_circle, "freeblock"},
	{pool_n_used, "blocks are in use"},
	{pool_n_carved_low, "untouched"},
	{pool_n_carved_high, "blocks carved"},
	{pool_class, "class 200"},
	{pool_kind_unknown, "unknown kind 77"},
	{pool_kind_free, "freepools"},
	{free_with_rights, "is free and somebody has a right"},
	{state_unknown, "unknown state 6"},
	{unowned_empty, "has some room and is not on usedpools[24]"},
	{unowned_wrong_class, "usedpools[3] of space 0"},
	{unowned_wild, "usedpools[3] of space 0"},
	{unowned_of_session, "usedpools[12] of space 0"},
	{unowned_circle, "usedpools[24] of space 0"},
	{unowned_prev, "usedpools[24] of space 0"},
	{usedpools_empty, "has some room and is not on usedpools[12]"},
	{usedpools_wrong_class, "session 0: its list usedpools[3]"},
	{usedpools_wild, "session 0: its list usedpools[3]"},
	{usedpools_of_other, "session 0: its list usedpools[7]"},
	{usedpools_of_run, "session 0: its list usedpools[3]"},
	{usedpools_circle, "session 0: its list usedpools[12]"},
	{usedpools_prev, "session 0: its list usedpools[12]"},
	{owned_empty, "not on the list owned_pools of its owner, session 0"},
	{owned_wild, "session 0: its list owned_pools"},
	{owned_of_other, "session 1: its list owned_pools"},
	{owned_of_nobody, "session 0: its list owned_pools"},
	{owned_circle, "session 0: its list owned_pools"},
	{owned_prev, "session 0: its list owned_pools"},
	{owner_forgotten, "is held by the owner of its pool, which has none"},
	{owner_of_run_forgotten, "is held by the owner of its pool, which has none"},
	{owner_wild, "is owned by session 65534, which cannot be"},
	{owner_no_session, "is owned by session 7, which cannot be"},
	{owner_another, "not on the list owned_pools of its owner, session 1"},
	{owner_of_records, "is owned by session 0, which cannot be"},
	{remote_empty, "not on remote_pools"},
	{remote_wild, "session 0: its list remote_pools"},
	{remote_of_run, "session 0: its list remote_pools"},
	{remote_of_other, "session 1: its list remote_pools"},
	{remote_circle, "session 0: its list remote_pools"},
	{remote_prev, "session 0: its list remote_pools"},
	{remote_without, "has 0 remotely freed blocks and is on remote_pools"},
	{not_said_remote, "says that it is not on remote_pools, which it is"},
	{said_remote, "says that it is on remote_pools, which it is not"},
	{remote_unowned, "waits to be collected and the pool has no owner"},
	{remote_unmarked, "waits to be collected and its rights"},
	{spare_lost, "header says that it is free"},
	{spare_wild, "session 0: keeps a run of 8 pools"},
	{spare_of_live, "session 0: keeps a run of 5 pools"},
	{spare_of_other, "session 1: keeps a run of 2 pools"},
	{spare_too_short, "session 0: keeps a run of 9 pools"},
	{spare_with_rights, "starts a free run and somebody has a right"},
	{n_own_holds, "objects of its own"},
	{bitmap_says_free, "freepools"},
	{bitmap_says_taken, "freepools"},
	{arena_n_free_pools, "nfreepools"},
	{unknown_arena_state, "state 55"},
	{arena_run_length, "60 arenas"},
	{arena_run_without_object, "without an object"},
	{arena_body, "middle of a run"},
	{arena_space_of_pools, "unknown space 2"},
	{arena_space_of_run, "unknown space"},
	{usable_empty, "usable_arenas"},
	{usable_wild, "usable_arenas"},
	{usable_circle, "usable_arenas"},
	{rank2lasta_missing, "rank2lasta"},
	{rank2lasta_too_much, "rank2lasta[2]"},
	{returnable_empty, "returnable_arenas"},
	{returnable_wild, "returnable_arenas"},
	{n_free_arenas, "n_free_arenas"},
	{counter_arenas, "n_arenas_current"},
	{counter_highwater, "n_arenas_highwater"},
	{counter_reclaimed, "n_arenas_reclaimed"},
	{counter_names, "n_names"},
	{count_too_high, "count is"},
	{count_too_low, "count is"},
	{count_wild, "count is"},
	{not_shared, "it is not marked as shared"},
	{held_by_nobody, "is held by the owner of its pool, which has none"},
	{object_leaked, "leaked"},
	{shared_object_leaked, "leaked"},
	{header_freed, "not alive"},
	{run_header_freed, "free"},
	{run_too_long, "1000 pools"},
	{block_size_too_large, "bytes of its object"},
	{run_size_too_large, "bytes of its object"},
	{type_unknown, "unknown type"},
	{hold_of_dead, "hold of session"},
	{hold_of_zero, "0 times"},
	{hold_misplaced, "not found"},
	{n_holds, "holds"},
	{hold_table_wild, "hold table"},
	{hold_table_no_record, "new hold table"},
	{dying_of_live, "dying list"},
	{dying_wild, "dying list"},
	{making_of_live, "making"},
	{dying_of_remote, "dying list"},
	{dying_on_no_list, "dying for 0"},
	{dying_circle, "dying list"},
	{dying_link_wild, "dying list"},
	{dying_link_cut, "dying for 0"},
	{dying_held, "is dying and its pool's owner holds it"},
	{making_with_rights, "is being made and somebody has a right"},
	{name_of_dead, "name"},
	{name_bucket_wild, "name bucket 5"},
	{name_in_wrong_bucket, "does not belong"},
	{name_chain_circle, "name bucket"},
	{slot_of_dead, "slot of object"},
	{slot_too_many, "count is"},
	{place_of_dead, "slot of object"},
	{queue_head, "head and tail"},
	{queue_tail, "head and tail"},
	{queue_stamp, "head and tail"},
	{log_left, "log"},
};
const int n_check_damages = sizeof(check_damages) / sizeof(check_damages[0]);
