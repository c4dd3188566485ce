// SPDX-License-Identifier: MIT
/*
 * One word, or a few, written by a client that may write anything: every call comes to an end, within the heap
 *
 * Each test is a kind of damage that tests/fuzz/scribbler.c finds at random. What a call answers hardly matters; that
 * it answers does. Check's time limit is a watchdog.
 */
#include "tests/unit/heap/fixture.h"

#include <stdio.h>
#include <string.h>

#define S0 (&fx.sessions[0])
#define S1 (&fx.sessions[1])

static uint64_t name_some(uint32_t n)
{
	uint64_t ref = fixture_bytes(S0, 8);
	char name[32];

	for (uint32_t i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "name %u", i);
		ck_assert_int_eq(CALL(S0, name_set(S0, name, ref)), 0);
	}
	return ref;
}

/* Make calls that need room in the hold table, and one that may shrink it. */
static void hold_and_drop(uint64_t ref)
{
	(void)CALL(S0, object_incref(S0, ref));
	(void)CALL(S0, object_decref(S0, ref));
}

static void set_n_holds(uint64_t ref, uint64_t value)
{
	uint64_t was = S0->entry->n_holds;

	S0->entry->n_holds = value;
	hold_and_drop(ref);
	ck_assert_int_le(hold_reserve(S0), HEAP_WANTS_ARENAS);
	hold_shrink(S0);
	S0->entry->n_holds = was;
}

START_TEST(any_number_of_holds)
{
	uint64_t ref = fixture_bytes(S1, 8);

	for (uint32_t table = 0; table < 2; table++) {
		for (uint32_t i = 0; i < 64; i++) {
			set_n_holds(ref, UINT64_C(1) << i);
			set_n_holds(ref, UINT64_C(3) << i);
			set_n_holds(ref, (UINT64_C(1) << i) - 1);
		}
		for (uint32_t i = 0; i < 200 && !table; i++) /* then all of it with a table in a run */
			ck_assert_int_eq(CALL(S0, object_incref(S0, fixture_bytes(S1, 8))), 0);
	}
	ck_assert_uint_ne(S0->entry->holds_position1, 0);
}
END_TEST

/* A hold table that is nowhere, or ends nowhere. The daemon has only those arenas mapped that are there. */
START_TEST(any_hold_table)
{
	uint32_t n_arenas = fx.heap->control->n_arenas_known;
	uint64_t last = ((uint64_t)n_arenas << fx.heap->arena_shift) - POOL_SIZE;
	const uint64_t offs[] = {0, POOL_SIZE, last, last + POOL_SIZE, fx.heap->heap_size - POOL_SIZE, 12345,
		fx.heap->heap_size, UINT64_MAX - 7};
	uint32_t n;

	for (uint32_t i = 0; i < sizeof(offs) / sizeof(offs[0]); i++)
		for (uint32_t shift = 0; shift < 260; shift++) {
			struct hold *table;

			S0->entry->holds_position1 = (offs[i] >> 3) + 1;
			S0->entry->holds_shift = shift;
			table = hold_table(fx.heap, S0->entry, &n);
			for (uint32_t j = 0; table && j < n; j++)
				ck_assert_uint_ne(((volatile struct hold *)table)[j].ref + 1, 1 + UINT64_MAX / 3);
			hold_and_drop(1);
		}
	S0->entry->holds_position1 = 0;
	S0->entry->holds_shift = 0;
}
END_TEST

START_TEST(table_shorter_than_the_cursor)
{
	uint32_t n_steps = 0;

	ck_assert_int_eq(CALL(S0, object_incref(S0, fixture_bytes(S1, 8))), 0);
	session_mark_dead(fx.heap, S0->index);
	S0->drop_cursor = UINT32_C(1) << 30; /* of a table that the daemon has seen before */
	while (session_reclaim_step(S0) > 0)
		ck_assert_uint_lt(n_steps++, 1000);
	ck_assert_uint_eq(S0->entry->state, SESSION_FREE);
}
END_TEST

static int repair(void)
{
	int64_t n = heap_repair(S0, NULL, NULL);

	return n < 0 ? (int)n : 0;
}

/* All names in one chain: a walk for each of them would take minutes. */
START_TEST(names_of_one_hash)
{
	const struct heap_geometry geometry = {
		.heap_size = UINT64_C(64) << 20, .arena_size = ARENA_SIZE_DEFAULT, .n_sessions = SESSIONS_DEFAULT};
	uint32_t n_names = 250000, n_found = 0;
	uint64_t ref, position;

	fixture_close();
	fixture_open_geometry(&geometry);
	ref = name_some(n_names);
	for (uint32_t b = 0; b < fx.heap->n_name_buckets; b++)
		for (position = fx.heap->name_buckets[b]; position;) {
			struct name_entry *entry = (void *)(fx.heap->base + (position << 3));

			entry->hash = 7;
			position = entry->next;
		}
	ck_assert_int_eq(repair(), 0);
	for (position = fx.heap->name_buckets[0]; position && n_found <= n_names; n_found++)
		position = ((struct name_entry *)(void *)(fx.heap->base + (position << 3)))->next;
	ck_assert_uint_eq(n_found, n_names);
	ck_assert_uint_eq(fx.heap->control->counters.n_names, n_names);
	ck_assert_int_eq(object_refcount(S0, ref), 1 + (int64_t)n_names);
}
END_TEST

/* A rebuild sorts each chain: names of many hashes are all found again. */
START_TEST(names_are_sorted)
{
	uint64_t ref = name_some(5000), other;
	char name[32];

	for (uint32_t i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "name %u", (i * 7) % 5000);
		if (i == 2500) {
			ck_assert_int_eq(repair(), 0);
			fixture_check();
		}
		ck_assert_int_eq(name_get(S0, name, &other), 0);
		ck_assert_uint_eq(other, ref);
		ck_assert_int_eq(object_decref(S0, other), 0);
	}
}
END_TEST

/* Names that lead to each other: no walk is longer than the heap. */
START_TEST(names_in_a_circle)
{
	char name[256];
	uint64_t cursor = 0, ref, n = 0;

	name_some(100);
	for (uint32_t b = 0; b < fx.heap->n_name_buckets; b++)
		if (fx.heap->name_buckets[b]) {
			struct name_entry *entry = (void *)(fx.heap->base + (fx.heap->name_buckets[b] << 3));

			entry->next = fx.heap->name_buckets[b];
			for (uint32_t i = 0; i < fx.heap->n_name_buckets; i++) /* all buckets lead there */
				fx.heap->name_buckets[i] = fx.heap->name_buckets[b];
			break;
		}
	while (name_next(S0, &cursor, name, &ref) > 0)
		ck_assert_uint_lt(n++, 1000);
	ck_assert_int_le(name_get(S0, "not there", &ref), 0);
	ck_assert_int_eq(repair(), 0);
	fixture_check();
}
END_TEST

/* A pool that follows itself on the list from which its owner collects. */
START_TEST(remote_list_in_a_circle)
{
	uint64_t ref = fixture_bytes(S0, 8), keep = fixture_bytes(S0, 8);
	struct pool_entry *pool = ref_pool(ref);
	uint32_t index1 = (uint32_t)(pool - fx.heap->pools) + 1;

	ck_assert_int_eq(CALL(S1, object_incref(S1, ref)), 0);
	ck_assert_int_eq(object_decref(S0, ref), 0);
	ck_assert_int_eq(object_decref(S1, ref), 0);
	ck_assert_uint_eq(S0->entry->remote_pools1, index1);
	pool->remote_next1 = pool->remote_prev1 = index1;
	ck_assert_int_eq(own_collect_all(S0), -EUCLEAN);
	for (int i = 0; i < 100; i++)
		ck_assert_int_le(own_trim(&fx.daemon, S0->index), 0); /* not "there is more", for ever */
	ck_assert_int_eq(repair(), 0);
	fixture_check();
	fixture_drop(S0, keep);
}
END_TEST

/* What the log never has it does not restore: the header by which the next daemon knows the heap, the lock. */
START_TEST(log_with_anything)
{
	struct global_lock *lock = &fx.heap->control->lock;
	uint64_t magic = fx.heap->control->magic;

	for (uint64_t where = 0; where < sizeof(struct control); where += 8) {
		if (where == offsetof(struct control, counters))
			where = offsetof(struct control, lock.unused);
		lock->entries[0] = (struct log_entry){where, 0x1111111111111111};
		lock->n_entries = 1;
		log_roll_back(fx.heap);
	}
	lock->n_entries = lock->n_unlocking = UINT32_MAX;
	log_roll_back(fx.heap);
	log_empty(fx.heap, UINT32_MAX);
	lock->n_entries = 0;
	fx.heap->n_header_locks = 1;
	log_header_lock_again(fx.heap, 0); /* behind no entry */
	fx.heap->n_header_locks = 0;
	lock->n_entries = 0;
	ck_assert_uint_eq(fx.heap->control->magic, magic);
	lock->entries[0] = (struct log_entry){
		(uint64_t)((uint8_t *)&S1->entry->pid - (uint8_t *)fx.heap->control) & ~UINT64_C(7), 0};
	lock->n_entries = 1;
	log_roll_back(fx.heap);
	ck_assert_int_ne(S1->entry->pid, 0);
	fixture_check();
}
END_TEST

/* The offset of a type's slot, changed after the type was looked up. */
START_TEST(slot_far_away)
{
	const size_t slots[] = {8};
	const struct type_spec spec = {.name = "pair", .size = 16, .n_slots = 1, .slots = slots};
	struct type_info info;
	uint32_t type = 0;

	ck_assert_int_eq(type_register(S0, &spec, &type), 0);
	ck_assert_int_eq(type_find(fx.heap, type, &info), 0);
	fx.heap->type_slots[fx.heap->types[type - TYPE_FIRST_REGISTERED].first_slot] = UINT32_MAX - 7;
	ck_assert_uint_le(type_slot_offset(&info, 0), 8);
	fx.heap->type_slots[fx.heap->types[type - TYPE_FIRST_REGISTERED].first_slot] = 8;
}
END_TEST

/* A queue whose object has become too short for a cell, or for a queue. */
START_TEST(queue_without_cells)
{
	uint64_t size = (uint64_t)_i * 8;
	uint64_t queue;
	struct pool_entry *pool;
	struct object_header *header;

	ck_assert_int_eq(CALL(S0, queue_new(S0, 2, &queue)), 0);
	pool = ref_pool(queue);
	header = pool_headers(fx.heap, pool) + block_at_position(pool->size_class, ref_position(queue)) - 1;
	header->word = (header->word & ~(UINT64_C(0x3ff) << 10)) | size << 10;
	(void)heap_repair(S0, NULL, NULL); /* it cannot be mended, and is no reason to end here */
	ck_assert_int_eq(object_decref(S0, queue), 0);
}
END_TEST

/* A class that is none, in a pool that is counted, freed and rebuilt. */
START_TEST(class_that_is_none)
{
	for (uint32_t size_class = N_CLASSES; size_class <= UINT8_MAX; size_class += 13) {
		uint64_t ref = fixture_bytes(S0, 64);

		ref_pool(ref)->size_class = (uint8_t)size_class;
		ck_assert_uint_eq(class_shapes[size_class].n_blocks, 0);
		(void)CALL(S0, object_incref(S0, ref));
		(void)CALL(S1, object_incref(S1, ref));
		(void)object_decref(S0, ref);
		(void)fixture_stats();
		ck_assert_int_eq(repair(), 0);
		fixture_check();
	}
}
END_TEST

/* What the daemon and clients do with a heap, whatever comes of it. S1 reads by a mapping of its own, as a client. */
static void work_on(uint64_t ref)
{
	struct heap *heap = fixture_attach();
	struct session session;
	uint32_t head;

	session_init(&session, heap, S1->index);
	(void)CALL(&session, object_incref(&session, ref));
	(void)CALL(&session, object_decref(&session, ref));
	(void)object_refcount(&session, ref);
	heap_free(heap);
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++)
		for (int n = 0; n < 100 && own_trim(&fx.daemon, i) > 0; n++)
			;
	(void)fixture_stats();
	for (uint32_t n_done = 0; supply_pick_returning(&fx.daemon, 0, &head) > 0; n_done = 0)
		ck_assert_int_eq(supply_unmap_step(fx.heap, head, UINT32_MAX, &n_done), 1);
	session_mark_dead(fx.heap, S2->index);
	for (uint32_t n = 0; session_reclaim_step(S2) > 0; n++)
		ck_assert_uint_lt(n, 10000);
	(void)repair();
	(void)CALL(S0, object_decref(S0, ref));
}

static const uint32_t lengths[] = {
	0, 1, 2, 15, 16, 17, 63, 64, 65, 127, 1024, UINT32_C(1) << 20, INT32_MAX, UINT32_MAX};
#define N_LENGTHS ((int)(sizeof(lengths) / sizeof(lengths[0])))

/* A run of pools, and a run of arenas, as long as a stray write says, for its owner, for others, and for the daemon. */
START_TEST(any_run_length)
{
	uint64_t refs[] = {fixture_bytes(S0, 9000), fixture_bytes(S0, 3 * (size_t)fx.heap->arena_size),
		fixture_bytes(S2, 9000), fixture_bytes(S2, 3 * (size_t)fx.heap->arena_size)};

	for (uint32_t i = 0; i < 4; i++) {
		struct pool_entry *pool = ref_pool(refs[i]);

		ck_assert_int_eq(CALL(S1, object_incref(S1, refs[i])), 0);
		pool->run_n_pools = lengths[_i];
		pool->run_size = (uint64_t)lengths[_i] << POOL_SHIFT;
		fx.heap->arenas[ref_pool_index(refs[i]) / fx.heap->pools_per_arena].n_arenas = lengths[_i];
	}
	for (uint32_t i = 0; i < 4; i++)
		work_on(refs[i]);
}
END_TEST

/* Each arena in a state, and in a space, that it is not in. */
START_TEST(any_arena)
{
	uint64_t refs[] = {fixture_bytes(S0, 64), fixture_bytes(S2, 9000), fixture_bytes(S2, 64),
		fixture_bytes(S0, 3 * (size_t)fx.heap->arena_size)};
	uint32_t n_known = fx.heap->control->n_arenas_known;

	for (uint32_t a = 0; a < n_known; a++) {
		fx.heap->arenas[a].state = lengths[_i] < 8 ? lengths[_i] : (uint32_t)_i;
		fx.heap->arenas[a].space = lengths[_i];
		fx.heap->arenas[a].n_free_pools = lengths[N_LENGTHS - 1 - _i];
		fx.heap->arenas[a].links.both = (uint64_t)(a + 1) << 32 | (a + 1);
	}
	fx.heap->control->returnable_arenas1 = lengths[_i];
	for (uint32_t i = 0; i < 4; i++)
		work_on(refs[i]);
}
END_TEST

/* Whether the log was full only the process knows that has the lock: what lies there makes no change fail. */
START_TEST(log_that_is_said_to_be_full)
{
	struct global_lock *lock = &fx.heap->control->lock;

	for (uint32_t i = 0; i < 10; i++) {
		lock->reserved0 = UINT32_MAX; /* where an earlier layout said so */
		ck_assert_int_eq(CALL(S0, name_set(S0, "name", fixture_bytes(S0, 8))), 0);
		ck_assert_int_eq(lock_recover(&fx.daemon), 0);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("scribbled");
	TCase *t = tcase_create("scribbled");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, any_number_of_holds);
	tcase_add_test(t, any_hold_table);
	tcase_add_test(t, table_shorter_than_the_cursor);
	tcase_add_test(t, names_of_one_hash);
	tcase_add_test(t, names_are_sorted);
	tcase_add_test(t, names_in_a_circle);
	tcase_add_test(t, remote_list_in_a_circle);
	tcase_add_test(t, log_with_anything);
	tcase_add_test(t, log_that_is_said_to_be_full);
	tcase_add_loop_test(t, any_run_length, 0, N_LENGTHS);
	tcase_add_loop_test(t, any_arena, 0, N_LENGTHS);
	tcase_add_test(t, slot_far_away);
	tcase_add_loop_test(t, queue_without_cells, 0, (int)sizeof(struct queue) / 8 + 1);
	tcase_add_test(t, class_that_is_none);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
