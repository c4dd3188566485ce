/* SPDX-License-Identifier: MIT */
/*
 * heap_repair(): whatever is derived is damaged on purpose, reported by its name, mended, and then the heap works
 *
 * A row a damage. What the row does not speak of is as it was afterwards.
 */
#include "tests/unit/test_repair_heap.h"

#include <stdio.h>

static struct space *space(void)
{
	return &control()->spaces[SPACE_OBJECTS];
}

/* ---- damages ----------------------------------------------------------------------------------------------------- */

#define DAMAGE(name, ...)                                                                                              \
	static void name(void)                                                                                         \
	{                                                                                                              \
		__VA_ARGS__;                                                                                           \
	}

#define POOL     ref_pool(victim)
#define CLASS    12U /* of the victim */
#define QUEUE    ((struct queue *)(void *)ref_data(queue))
#define FREEHEAD (ref_header(victim) - ref_block(victim) + POOL->freeblock1 - 1)

static uint32_t full_pool(void)
{
	for (uint32_t i = 0; i < n_kept; i++)
		if (ref_pool(kept[i].ref)->size_class == CLASS && !ref_pool(kept[i].ref)->freeblock1 &&
			ref_pool(kept[i].ref)->n_carved == class_pool_blocks(CLASS))
			return ref_pool_index(kept[i].ref);
	ck_abort_msg("no pool is full");
	return 0;
}

/* The i-th of usedpools, of usable_arenas. */
static struct pool_entry *used_pool(uint32_t i)
{
	uint32_t p1 = space()->usedpools1[CLASS];

	for (; i > 0 && p1; i--)
		p1 = fx.heap->pools[p1 - 1].next1;
	ck_assert_uint_ne(p1, 0);
	return &fx.heap->pools[p1 - 1];
}

static struct arena_entry *usable_arena(uint32_t i)
{
	uint32_t a1 = space()->usable_arenas1;

	for (; i > 0 && a1; i--)
		a1 = fx.heap->arenas[a1 - 1].next1;
	ck_assert_uint_ne(a1, 0);
	return &fx.heap->arenas[a1 - 1];
}

static struct name_entry *name_entry(uint32_t i)
{
	return (struct name_entry *)(void *)(fx.heap->base + *name_link(i) * 8);
}

static struct arena_entry *returnable(void)
{
	return &fx.heap->arenas[control()->returnable_arenas1 - 1];
}

/* The hold is gone, and the object's count does not follow. */
static void forget(uint64_t ref)
{
	struct session *s = &fx.sessions[0];

	ck_assert_int_eq(change_begin(s), 0);
	ck_assert(hold_remove(s, hold_find(s, ref)));
	ck_assert_int_eq(change_end(s, 0), 0);
}

/* Behind the next gap, where no search for it comes. */
static void misplace(struct session *session, uint64_t ref)
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

DAMAGE(freeblock_cut, POOL->freeblock1 = 0)
DAMAGE(freeblock_of_live, POOL->freeblock1 = (uint16_t)(ref_block(victim) + 1))
DAMAGE(freeblock_wild, POOL->freeblock1 = 60000)
DAMAGE(freeblock_circle, FREEHEAD->info = (uint64_t)POOL->freeblock1 << 26)
DAMAGE(freeblock_link_cut, FREEHEAD->info = 0)
DAMAGE(freeblock_link_wild, FREEHEAD->info = UINT64_MAX)
DAMAGE(n_used_high, POOL->n_used++)
DAMAGE(n_used_zero, POOL->n_used = 0)
DAMAGE(n_carved_low, POOL->n_carved = 3)
DAMAGE(n_carved_high, used_pool(2)->n_carved++)
DAMAGE(n_carved_wild, POOL->n_carved = 500)
DAMAGE(usedpools_empty, space()->usedpools1[CLASS] = 0)
DAMAGE(usedpools_wrong_class, space()->usedpools1[3] = ref_pool_index(victim) + 1)
DAMAGE(usedpools_wild, space()->usedpools1[CLASS] = UINT32_MAX)
DAMAGE(usedpools_cut, used_pool(0)->next1 = 0)
DAMAGE(usedpools_circle, used_pool(2)->next1 = space()->usedpools1[CLASS])
DAMAGE(usedpools_prev, used_pool(1)->prev1 = 9)
DAMAGE(usedpools_full_pool, used_pool(2)->next1 = full_pool() + 1;
	fx.heap->pools[full_pool()].prev1 = (uint32_t)(used_pool(2) - fx.heap->pools) + 1)
DAMAGE(bitmap_says_free,
	fx.heap->freepools[ref_arena_index(victim) * fx.heap->pool_words] |= UINT64_C(1) << ref_pool_index(victim) % 64)
DAMAGE(bitmap_says_taken, fx.heap->freepools[(uint32_t)(usable_arena(0) - fx.heap->arenas) * fx.heap->pool_words] = 0)
DAMAGE(n_free_pools_high, ref_arena(victim)->n_free_pools++)
DAMAGE(n_free_pools_wild, usable_arena(0)->n_free_pools = 100000)
DAMAGE(usable_empty, space()->usable_arenas1 = 0)
DAMAGE(usable_wild, space()->usable_arenas1 = 4000000000)
DAMAGE(usable_cut, usable_arena(0)->next1 = 0)
DAMAGE(usable_circle, usable_arena(1)->next1 = space()->usable_arenas1)
DAMAGE(usable_prev, usable_arena(1)->prev1 = 0)
DAMAGE(usable_of_run, usable_arena(1)->next1 = (uint32_t)(returnable() - fx.heap->arenas) + 1)

static void usable_misordered(void) /* two neighbours with different numbers change places */
{
	struct arena_entry *first, *second, *behind;
	uint32_t i = 0, first1, second1;

	while (usable_arena(i)->n_free_pools == usable_arena(i + 1)->n_free_pools)
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

DAMAGE(nfp2lasta_missing, space()->nfp2lasta1[usable_arena(0)->n_free_pools] = 0)
DAMAGE(nfp2lasta_too_much, space()->nfp2lasta1[7] = 1)
DAMAGE(nfp2lasta_wild, space()->nfp2lasta1[usable_arena(1)->n_free_pools] = UINT32_MAX)
DAMAGE(n_free_arenas, space()->n_free_arenas++)
DAMAGE(n_free_arenas_of_records, control()->spaces[SPACE_RECORDS].n_free_arenas = 5)
DAMAGE(returnable_empty, control()->returnable_arenas1 = 0)
DAMAGE(returnable_cut, returnable()->next1 = 0)
DAMAGE(returnable_circle, returnable()->next1 = control()->returnable_arenas1)
DAMAGE(returnable_of_live, control()->returnable_arenas1 = ref_arena_index(victim) + 1)
DAMAGE(returnable_prev, returnable()->prev1 = 3)

DAMAGE(n_holds, fx.sessions[0].entry->n_holds++)
DAMAGE(n_holds_of_table, fx.sessions[2].entry->n_holds = 0)
DAMAGE(hold_of_dead, hold_find(&fx.sessions[0], victim)->ref = gone)
DAMAGE(hold_zero_times, hold_find(&fx.sessions[0], victim)->count = 0)
DAMAGE(hold_misplaced, misplace(&fx.sessions[0], victim))
DAMAGE(holds_misplaced, misplace(&fx.sessions[0], victim); misplace(&fx.sessions[0], kept[0].ref);
	misplace(&fx.sessions[0], kept[1].ref))
DAMAGE(new_table_of_live, fx.sessions[0].entry->new_holds_position1 = ref_position(run) + 1)
DAMAGE(new_table_wild, fx.sessions[0].entry->new_holds_position1 = UINT64_MAX)
DAMAGE(dying_cut, fx.sessions[1].entry->dying1 = 0)
DAMAGE(dying_of_live, fx.sessions[1].entry->dying1 = ref_position(victim) + 1)
DAMAGE(dying_wild, fx.sessions[1].entry->dying1 = UINT64_MAX)
DAMAGE(dying_circle, ref_header(half_dead[0])->info |= (ref_position(half_dead[2]) + 1) << 26)
DAMAGE(dying_link_cut, ref_header(half_dead[2])->info &= (1 << 26) - 1)
DAMAGE(dying_link_wild, ref_header(half_dead[1])->info |= UINT64_MAX << 26)
DAMAGE(dying_twice, fx.sessions[0].entry->dying1 = ref_position(half_dead[1]) + 1)
DAMAGE(dying_counted, ref_header(half_dead[1])->word += 2)
DAMAGE(making_lost, fx.sessions[2].entry->making1 = 0)
DAMAGE(making_of_live, fx.sessions[1].entry->making1 = ref_position(victim) + 1)
DAMAGE(making_wild, fx.sessions[1].entry->making1 = UINT64_MAX)
DAMAGE(making_twice, fx.sessions[1].entry->making1 = ref_position(unmade) + 1)

DAMAGE(count_too_high, ref_header(victim)->word += 3)
DAMAGE(count_too_low, ref_header(kept[0].ref)->word--)
DAMAGE(count_zero, ref_header(victim)->word--)
DAMAGE(count_of_run, ref_header(run)->word += 1000)
DAMAGE(leaked, forget(victim))
DAMAGE(leaked_run, forget(run))
DAMAGE(leaked_list, forget(list))
DAMAGE(slot_of_dead, memcpy(ref_data(list) + 16, &gone, 8))
DAMAGE(slot_wild, memset(ref_data(list) + 16, 0xee, 8))
DAMAGE(slot_too_many, memcpy(ref_data(list) + 16, &victim, 8))
DAMAGE(place_of_dead, memcpy(ref_data(queue) + offsetof(struct queue, places), &gone, 8))
DAMAGE(queue_head_wild, QUEUE->head = 1000)
DAMAGE(queue_head_off, QUEUE->head++)
DAMAGE(queue_count_low, QUEUE->count = 0)
DAMAGE(queue_count_wild, QUEUE->count = UINT64_MAX)
DAMAGE(queue_n_wild, QUEUE->n = 1 << 20)
DAMAGE(queue_gap, QUEUE->places[2] = QUEUE->places[1]; QUEUE->places[1] = 0)
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

static const struct {
	void (*damage)(void);
	const char *fault;     /* what the report must speak of */
	uint32_t n_names_lost; /* beside what is broken, nothing may be lost */
	bool in_holds;         /* of session 0, which stores there without the lock: nobody else moves them */
} damages[] = {
	{freeblock_cut, "freeblock list", 0, false},
	{freeblock_of_live, "freeblock list", 0, false},
	{freeblock_wild, "freeblock list", 0, false},
	{freeblock_circle, "freeblock list", 0, false},
	{freeblock_link_cut, "freeblock list", 0, false},
	{freeblock_link_wild, "freeblock list", 0, false},
	{n_used_high, "blocks are in use", 0, false},
	{n_used_zero, "blocks are in use", 0, false},
	{n_carved_low, "nextoffset", 0, false},
	{n_carved_high, "freeblock list", 0, false},
	{n_carved_wild, "blocks carved", 0, false},
	{usedpools_empty, "usedpools[12]", 0, false},
	{usedpools_wrong_class, "usedpools[3]", 0, false},
	{usedpools_wild, "usedpools[12]", 0, false},
	{usedpools_cut, "usedpools[12]", 0, false},
	{usedpools_circle, "usedpools[12]", 0, false},
	{usedpools_prev, "usedpools[12]", 0, false},
	{usedpools_full_pool, "usedpools[12]", 0, false},
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
	{nfp2lasta_missing, "nfp2lasta", 0, false},
	{nfp2lasta_too_much, "nfp2lasta[7]", 0, false},
	{nfp2lasta_wild, "nfp2lasta", 0, false},
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
	{hold_zero_times, "0 times", 0, false},
	{hold_misplaced, "not found where it is", 0, true},
	{holds_misplaced, "not found where it is", 0, true},
	{new_table_of_live, "the new hold table of session 0", 0, true},
	{new_table_wild, "the new hold table of session 0", 0, true},
	{dying_cut, "dying for 0 sessions", 0, false},
	{dying_of_live, "dying list", 0, false},
	{dying_wild, "dying list", 0, false},
	{dying_circle, "dying list", 0, false},
	{dying_link_cut, "dying for 0 sessions", 0, false},
	{dying_link_wild, "dying list", 0, false},
	{dying_twice, "dying list", 0, false},
	{dying_counted, "dying and its count is 2", 0, false},
	{making_lost, "being made for 0 sessions", 0, false},
	{making_of_live, "not being made", 0, false},
	{making_wild, "not being made", 0, false},
	{making_twice, "being made for 2 sessions", 0, false},
	{count_too_high, "its count is 4, 1 have a right to it", 0, false},
	{count_too_low, "have a right to it", 0, false},
	{count_zero, "its count is 0, 1 have a right to it", 0, false},
	{count_of_run, "its count is 1001, 1 have a right to it", 0, false},
	{leaked, "has leaked", 0, false},
	{leaked_run, "has leaked", 0, false},
	{leaked_list, "has leaked", 0, false},
	{slot_of_dead, "a slot of object", 0, false},
	{slot_wild, "a slot of object", 0, false},
	{slot_too_many, "2 have a right to it", 0, false},
	{place_of_dead, "a slot of object", 0, false},
	{queue_head_wild, "its head and count", 0, false},
	{queue_head_off, "its head and count", 0, false},
	{queue_count_low, "its head and count", 0, false},
	{queue_count_wild, "its head and count", 0, false},
	{queue_n_wild, "its head and count", 0, false},
	{queue_gap, "its head and count", 0, false},
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

/* ---- reported, mended -------------------------------------------------------------------------------------------- */

struct report {
	const char *wanted;
	bool found;
	int64_t n_faults;
	char all[8192];
};

static void note_fault(void *userdata, const char *fault)
{
	struct report *report = userdata;
	size_t length = strlen(report->all);

	report->n_faults++;
	report->found |= report->wanted && strstr(fault, report->wanted) != NULL;
	snprintf(report->all + length, sizeof(report->all) - length, "%s\n", fault);
}

static void expect_reported_and_mended(struct session *repairer, const char *fault)
{
	struct report checked = {.wanted = fault}, repaired = {.wanted = fault};
	int64_t n = heap_check(REPAIRER, note_fault, &checked);

	ck_assert_int_gt(n, 0);
	ck_assert_int_eq(n, checked.n_faults);
	ck_assert_msg(checked.found, "nothing says \"%s\" in:\n%s", fault, checked.all);
	n = heap_repair(repairer, note_fault, &repaired);
	ck_assert_msg(n == checked.n_faults, "repair gives %d after:\n%s", (int)n, repaired.all);
	ck_assert_str_eq(checked.all, repaired.all);
	fixture_check();
	ck_assert_int_eq(heap_repair(REPAIRER, NULL, NULL), 0);
}

START_TEST(damage_is_mended)
{
	populate();
	damages[_i].damage();
	if (damages[_i].in_holds) {
		ck_assert_int_eq(heap_repair(REPAIRER, NULL, NULL), -EUCLEAN);
		expect_reported_and_mended(&fx.sessions[0], damages[_i].fault);
	} else {
		expect_reported_and_mended(REPAIRER, damages[_i].fault);
	}
	verify_kept();
	verify_names(damages[_i].n_names_lost);
	work();
	verify_kept();
	end_all();
}
END_TEST

/* What only the session itself mends in its table goes with it, too. */
START_TEST(holds_of_the_dead)
{
	int r;

	populate();
	hold_of_dead();
	misplace(&fx.sessions[0], kept[0].ref);
	new_table_of_live();
	ck_assert_int_eq(heap_repair(REPAIRER, NULL, NULL), -EUCLEAN);
	session_mark_dead(fx.heap, 0);
	ck_assert_int_gt(heap_repair(REPAIRER, NULL, NULL), 0);
	fixture_check();
	while ((r = session_reclaim_step(&fx.sessions[0])) == 1)
		;
	ck_assert_int_eq(r, 0);
	fixture_check();
	end_all();
}
END_TEST

#define COUNTER(member)                                                                                                \
	{                                                                                                              \
#member, offsetof(struct counters, member)                                                             \
	}

static const struct {
	const char *name;
	size_t off;
} counters[] = {
	COUNTER(classes[12].n_pools),
	COUNTER(classes[12].n_used),
	COUNTER(classes[63].n_used),
	COUNTER(n_arenas_allocated),
	COUNTER(n_arenas_reclaimed),
	COUNTER(n_arenas_current),
	COUNTER(n_free_pools),
	COUNTER(n_medium_pools),
	COUNTER(n_large_arenas),
	COUNTER(n_record_pools),
	COUNTER(n_record_arenas),
	COUNTER(n_medium_objects),
	COUNTER(n_large_objects),
	COUNTER(n_names),
};

START_TEST(counter_is_mended)
{
	static const uint64_t change[] = {1, UINT64_MAX, UINT64_C(1) << 40};
	const size_t n = sizeof(change) / sizeof(change[0]);
	uint8_t *counter = (uint8_t *)&control()->counters + counters[(size_t)_i / n].off;
	uint64_t value;

	populate();
	memcpy(&value, counter, sizeof(value));
	value += change[(size_t)_i % n];
	memcpy(counter, &value, sizeof(value));
	expect_reported_and_mended(REPAIRER, counters[(size_t)_i / n].name);
	work();
	verify_kept();
	end_all();
}
END_TEST

START_TEST(highwater_is_mended)
{
	populate();
	control()->counters.n_arenas_highwater = 0;
	expect_reported_and_mended(REPAIRER, "n_arenas_highwater");
	end_all();
}
END_TEST

/* Under the lock that the session has for several calls already. */
START_TEST(mended_under_the_lock)
{
	populate();
	usable_empty();
	ck_assert_int_eq(session_lock(REPAIRER), 0);
	ck_assert_int_gt(heap_repair(REPAIRER, NULL, NULL), 0);
	ck_assert_int_eq(change_try_begin(&fx.sessions[0]), -EBUSY);
	ck_assert_int_eq(session_unlock(REPAIRER), 0);
	fixture_check();
	verify_kept();
	end_all();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("repair");
	TCase *t = tcase_create("repair");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_set_timeout(t, 300);
	tcase_add_loop_test(t, damage_is_mended, 0, (int)(sizeof(damages) / sizeof(damages[0])));
	tcase_add_loop_test(t, counter_is_mended, 0, 3 * (int)(sizeof(counters) / sizeof(counters[0])));
	tcase_add_test(t, highwater_is_mended);
	tcase_add_test(t, holds_of_the_dead);
	tcase_add_test(t, mended_under_the_lock);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
