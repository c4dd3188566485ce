// SPDX-License-Identifier: MIT
/*
 * Arenas of pools: their order, where new pools come from, and records apart from objects
 */
#include "tests/unit/heap/fixture_arena.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* The order of usable_arenas. */

START_TEST(new_pools_from_the_fullest)
{
	static const uint32_t free_first[] = {1, 0, 0, 2, 2, 2}; /* arenas, of which as many pools are freed */
	uint64_t refs[3 * POOLS], ref;
	uint32_t arenas[3];

	for (uint32_t i = 0; i < 3 * POOLS; i++)
		MUST(session_of(i), object_new(session_of(i), fixture_pages_type(session_of(i)), POOL_SIZE, &refs[i]));
	for (uint32_t a = 0; a < 3; a++)
		arenas[a] = ref_arena_index(refs[a * POOLS]);
	ck_assert_uint_eq(fx.heap->control->spaces[SPACE_OBJECTS].usable_arenas1, 0);
	for (uint32_t i = 0; i < 6; i++) {
		uint32_t a = free_first[i];

		free_now(session_of(a * POOLS + 7 * i), refs[a * POOLS + 7 * i]);
		check_order(SPACE_OBJECTS);
	}
	for (uint32_t i = 0; i < 6; i++) {
		ref = fixture_bytes(session_of(i), POOL_SIZE);
		ck_assert_uint_eq(ref_arena_index(ref), arenas[free_first[i]]);
		check_order(SPACE_OBJECTS);
	}
	ck_assert_uint_eq(fx.heap->control->spaces[SPACE_OBJECTS].usable_arenas1, 0);
}
END_TEST

START_TEST(order_after_every_operation)
{
	uint64_t refs[200] = {0};
	uint64_t n_ops = fixture_ops(4000);

	fixture_seed();
	for (uint64_t op = 0; op < n_ops; op++) {
		uint32_t i = fixture_below(200);

		if (refs[i]) {
			ck_assert_int_eq(object_decref(session_of(i), refs[i]), 0);
			refs[i] = 0;
		} else {
			size_t size = (1 + fixture_below(4) * fixture_below(4)) * POOL_SIZE;

			ck_assert_int_eq(CALL(session_of(i), object_new(session_of(i), TYPE_BYTES, size, &refs[i])), 0);
		}
		check_order(SPACE_OBJECTS);
		check_order(SPACE_RECORDS);
		if (op % 500 == 0)
			fixture_trim(fixture_below(3));
		if (!fixture_below(10))
			fixture_trim_sessions();
		if (op % 16 == 0)
			fixture_check();
	}
	for (uint32_t i = 0; i < 200; i++)
		if (refs[i])
			fixture_drop(session_of(i), refs[i]);
	check_order(SPACE_OBJECTS);
}
END_TEST

/* Arenas that become free. */

/* The emptier of two arenas is not used for new pools, and so becomes free and can go. */
START_TEST(emptier_arena_drains)
{
	uint64_t refs[2 * POOLS];
	uint32_t emptier;

	fill_arenas(refs, 2);
	emptier = ref_arena_index(refs[POOLS]);
	for (uint32_t i = 0; i < 2 * POOLS; i++)
		if (i < POOLS / 2 || i > POOLS)
			free_now(session_of(i), refs[i]);
	for (uint32_t i = 0; i < POOLS / 2; i++)
		ck_assert_uint_ne(ref_arena_index(fixture_bytes(session_of(i), POOL_SIZE)), emptier);
	fixture_drop(session_of(POOLS), refs[POOLS]);
	ck_assert_uint_eq(fixture_trim(0), 1);
	ck_assert_uint_eq(fx.heap->arenas[emptier].state, ARENA_HOLE);
}
END_TEST

/* Spaces. */

START_TEST(records_live_apart)
{
	uint64_t refs[300];

	for (uint32_t i = 0; i < 300; i++) {
		char name[32];

		snprintf(name, sizeof(name), "object %u", i);
		refs[i] = fixture_bytes(session_of(0), 1 + i * 7);
		MUST(session_of(0), name_set(session_of(0), name, refs[i]));
		MUST(session_of(1), object_incref(session_of(1),
					    refs[i])); /* session 1 has not made it, so it holds it by its table */
	}
	for (uint32_t i = 0; i < 300; i++)
		ck_assert_uint_eq(ref_arena(refs[i])->space, SPACE_OBJECTS);
	ck_assert_uint_ne(session_of(1)->entry->holds_position1, 0);
	ck_assert_uint_eq(ref_arena(session_of(1)->entry->holds_position1 - 1)->space, SPACE_RECORDS);
	ck_assert_uint_gt(fixture_stats().bytes_records, 0);
	for (uint32_t b = 0; b < fx.heap->n_name_buckets; b++)
		if (fx.heap->name_buckets[b])
			ck_assert_uint_eq(ref_arena(fx.heap->name_buckets[b])->space, SPACE_RECORDS);
}
END_TEST

/* A wholly free arena serves the other space before fresh memory is asked for. */
START_TEST(free_arena_changes_its_space)
{
	uint64_t ref = fixture_bytes(session_of(0), 100), list = fixture_list(session_of(0), 1);

	MUST(session_of(0), name_set(session_of(0), "n", list));
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_current, 2);
	MUST(session_of(0), name_del(session_of(0), "n"));
	ck_assert_uint_eq(fx.heap->control->spaces[SPACE_RECORDS].n_free_arenas, 1);
	for (uint32_t i = 0; i < POOLS; i++) {
		uint64_t one;

		MUST(session_of(i), object_new(session_of(i), TYPE_BYTES, POOL_SIZE, &one));
	}
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_current, 2);
	ck_assert_uint_eq(fx.heap->control->spaces[SPACE_RECORDS].usable_arenas1, 0);
	fixture_drop(session_of(0), ref);
}
END_TEST

/* It does so, too, where this space has free pools, but too few adjacent ones. */
START_TEST(free_arena_changes_its_space_for_a_run)
{
	struct session *session = session_of(0);
	uint64_t refs[POOLS], run, n_current;

	for (uint32_t i = 0; i < POOLS; i++)
		refs[i] = fixture_bytes(session, POOL_SIZE);
	for (uint32_t i = 0; i < POOLS; i += 2)
		fixture_drop(session, refs[i]);
	session->n_wanted_arenas = 1;
	session->wants_run = false;
	session->wants_space = SPACE_RECORDS;
	ck_assert_int_eq(supply_accept(session, map_run(0, 1)), 0);
	ck_assert_uint_eq(fx.heap->control->spaces[SPACE_RECORDS].n_free_arenas, 1);
	n_current = fx.heap->control->counters.n_arenas_current;
	ck_assert_int_eq(object_new(session, TYPE_BYTES, 3 * POOL_SIZE, &run), 0);
	ck_assert_uint_eq(fx.heap->control->spaces[SPACE_RECORDS].n_free_arenas, 0);
	fixture_check();
	memset(ref_data(run), 1, 3 * POOL_SIZE);
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_current, n_current);
	fixture_drop(session, run);
	for (uint32_t i = 1; i < POOLS; i += 2)
		fixture_drop(session, refs[i]);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("arena");
	TCase *t = tcase_create("arena");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, new_pools_from_the_fullest);
	tcase_add_test(t, order_after_every_operation);
	tcase_add_test(t, emptier_arena_drains);
	tcase_add_test(t, records_live_apart);
	tcase_add_test(t, free_arena_changes_its_space);
	tcase_add_test(t, free_arena_changes_its_space_for_a_run);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
