// SPDX-License-Identifier: MIT
/*
 * Runs of pools and runs of arenas: first fit, every length, fragmented, used again
 */
#include "tests/unit/heap/fixture_arena.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Runs of pools. */

START_TEST(runs_first_fit)
{
	static const uint32_t lengths[] = {3, 5, 2, 7, 1, 6};
	uint64_t refs[6], ref;
	uint32_t first = 0;

	for (uint32_t i = 0; i < 6; i++) {
		refs[i] = fixture_bytes(session_of(i), lengths[i] * POOL_SIZE);
		ck_assert_uint_eq(ref_pool_index(refs[i]) % POOLS, first);
		first += lengths[i];
	}
	free_now(session_of(1), refs[1]); /* 3..7 are free, and from 24 on */
	free_now(session_of(3), refs[3]); /* and 10..16 */
	ref = fixture_bytes(session_of(0), 6 * POOL_SIZE);
	ck_assert_uint_eq(ref_pool_index(ref) % POOLS, 10);
	ref = fixture_bytes(session_of(0), 3 * POOL_SIZE);
	ck_assert_uint_eq(ref_pool_index(ref) % POOLS, 3);
	ref = fixture_bytes(session_of(0), 3 * POOL_SIZE);
	ck_assert_uint_eq(ref_pool_index(ref) % POOLS, 24);
	ref = fixture_bytes(session_of(0), 2 * POOL_SIZE);
	ck_assert_uint_eq(ref_pool_index(ref) % POOLS, 6);
	ref = fixture_bytes(session_of(0), 1 * POOL_SIZE);
	ck_assert_uint_eq(ref_pool_index(ref) % POOLS, 16);
}
END_TEST

/* Of an arena that fill_arenas() has filled: free n pools, each stride-th. */
static void free_some(const uint64_t *refs, uint32_t arena, uint32_t n, uint32_t stride)
{
	for (uint32_t i = arena * POOLS; n-- > 0; i += stride)
		free_now(session_of(i), refs[i]);
}

/*
 * A run is found though many arenas of the same rank have no room for it; and though many have enough free pools, but
 * too few adjacent ones.
 */
START_TEST(run_among_many)
{
	static const struct {
		uint32_t n, stride;  /* free pools in each of 17 arenas */
		uint32_t n_adjacent; /* free pools in the next arena */
	} rows[] = {{1, 1, 7}, {10, 2, 12}};
	static uint64_t refs[19 * POOLS];
	uint64_t ref;

	fill_arenas(refs, 19);
	for (uint32_t a = 0; a < 17; a++)
		free_some(refs, a, rows[_i].n, rows[_i].stride);
	free_some(refs, 17, rows[_i].n_adjacent, 1);
	free_some(refs, 18, rows[_i].n, rows[_i].stride);
	check_order(SPACE_OBJECTS);
	ref = fixture_bytes(session_of(0), 4 * POOL_SIZE);
	ck_assert_uint_eq(ref_arena_index(ref), ref_arena_index(refs[17 * POOLS]));
	check_order(SPACE_OBJECTS);
}
END_TEST

/* Each length, each placed beside the others and with its bytes its own. */
START_TEST(runs_of_each_length)
{
	uint64_t refs[POOLS];

	for (uint32_t n = 1; n < POOLS; n++) {
		refs[n] = fixture_bytes(session_of(n), n * POOL_SIZE);
		ck_assert_uint_eq(ref_pool_index(refs[n]) / POOLS, (ref_pool_index(refs[n]) + n - 1) / POOLS);
		memset(ref_data(refs[n]), (int)n, n * POOL_SIZE);
	}
	for (uint32_t n = 1; n < POOLS; n++) {
		for (uint32_t i = 0; i < n * POOL_SIZE; i += 512)
			ck_assert_uint_eq(ref_data(refs[n])[i], n);
		fixture_drop(session_of(n), refs[n]);
	}
	ck_assert_uint_eq(fixture_stats().bytes_medium_objects, 0);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

START_TEST(runs_fragmented)
{
	uint64_t refs[POOLS], ref;

	fill_arenas(refs, 1);
	for (uint32_t i = 0; i < POOLS; i += 2)
		free_now(session_of(i), refs[i]);
	/* half of the pools are free, and no two of them adjoin */
	ref = fixture_bytes(session_of(0), 2 * POOL_SIZE);
	ck_assert_uint_ne(ref_arena_index(ref), ref_arena_index(refs[1]));
	free_now(session_of(1), refs[1]);
	ref = fixture_bytes(session_of(0), 3 * POOL_SIZE);
	ck_assert_uint_eq(ref_pool_index(ref), ref_pool_index(refs[0]));
}
END_TEST

/* Runs of arenas. */

START_TEST(arena_runs_of_each_length)
{
	for (uint32_t n = 1; n <= fx.heap->n_arenas; n++) {
		uint64_t ref = fixture_bytes(session_of(n), (uint64_t)n * ARENA_SIZE_DEFAULT - (n > 1 ? 4096 : 4095));
		uint32_t head = ref_arena_index(ref);

		ck_assert_uint_eq(ref_offset(ref) % ARENA_SIZE_DEFAULT, 0);
		ck_assert_uint_eq(ref_arena(ref)->state, ARENA_RUN);
		ck_assert_uint_eq(ref_arena(ref)->n_arenas, n);
		for (uint32_t i = 1; i < n; i++)
			ck_assert_uint_eq(fx.heap->arenas[head + i].state, ARENA_BODY);
		ref_data(ref)[(uint64_t)n * ARENA_SIZE_DEFAULT - 4097] = 1;
		ck_assert_uint_eq(fixture_heap_bytes(), (uint64_t)n * ARENA_SIZE_DEFAULT);
		fixture_drop(session_of(n), ref);
		ck_assert_uint_eq(fx.heap->arenas[head].state, ARENA_RETURNABLE);
		ck_assert_uint_eq(fx.heap->control->counters.n_arenas_current, n);
		ck_assert_uint_eq(fx.heap->control->n_returnable, n);
		ck_assert_uint_eq(fixture_trim(n), 0);
		ck_assert_uint_eq(fixture_trim(0), 1);
		for (uint32_t i = 0; i < n; i++)
			ck_assert_uint_eq(fx.heap->arenas[head + i].state, ARENA_HOLE);
		ck_assert_uint_eq(fixture_heap_bytes(), 0);
		fixture_check();
	}
}
END_TEST

START_TEST(arena_run_reused)
{
	uint64_t ref = fixture_bytes(session_of(0), 3 * ARENA_SIZE_DEFAULT), other;

	fixture_drop(session_of(0), ref);
	other = fixture_bytes(session_of(1), 3 * ARENA_SIZE_DEFAULT - 100);
	ck_assert_uint_eq(ref_position(other), ref_position(ref));
	ck_assert_uint_ne(other, ref);
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_allocated, 3);
	ck_assert_int_eq(object_decref(session_of(0), ref), -ESTALE);
	fixture_drop(session_of(1), other);
	ck_assert_uint_eq(fixture_trim(0), 1);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

static uint64_t arenas_bytes(uint32_t n)
{
	return (uint64_t)n * ARENA_SIZE_DEFAULT;
}

/* A shorter object gets the front of a free run; the rest serves others: objects, pools, and a longer one together. */
START_TEST(arena_run_cut_and_joined)
{
	uint64_t ref = fixture_bytes(session_of(0), arenas_bytes(5)), a, b, small;
	uint32_t first = ref_arena_index(ref);

	fixture_drop(session_of(0), ref);
	a = fixture_bytes(session_of(1), arenas_bytes(2));
	ck_assert_uint_eq(ref_arena_index(a), first);
	ck_assert_uint_eq(fx.heap->arenas[first + 2].state, ARENA_RETURNABLE);
	ck_assert_uint_eq(fx.heap->arenas[first + 2].n_arenas, 3);
	ck_assert_uint_eq(fx.heap->control->n_returnable, 3);
	fixture_check();
	small = fixture_bytes(session_of(2), 100);
	ck_assert_uint_eq(ref_arena_index(small), first + 2);
	fixture_check();
	b = fixture_bytes(session_of(1), arenas_bytes(2));
	ck_assert_uint_eq(ref_arena_index(b), first + 3);
	ck_assert_uint_eq(fx.heap->control->n_returnable, 0);
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_allocated, 5);
	fixture_drop(session_of(1), a);
	fixture_drop(session_of(1), b);
	ck_assert_uint_eq(fx.heap->control->n_returnable, 4);
	a = fixture_bytes(session_of(1), arenas_bytes(1));
	b = fixture_bytes(session_of(1), arenas_bytes(1));
	fixture_drop(session_of(1), b);
	fixture_drop(session_of(1), a);
	fixture_check();
	/* two that lie side by side become one again */
	a = fixture_bytes(session_of(1), arenas_bytes(2));
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_allocated, 5);
	fixture_check();
	fixture_drop(session_of(1), a);
	fixture_drop(session_of(2), small);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

/* The run of an object that is dropped at that time. */
static void drop_at(uint64_t ref, uint32_t clock_ms)
{
	supply_set_clock(fx.heap, clock_ms);
	fixture_drop(session_of(0), ref);
}

static uint32_t pick_old(uint32_t n_spare, uint32_t before)
{
	uint32_t head = 0, n_done = 0;

	if (supply_pick_old(&fx.daemon, n_spare, before, &head) != 1)
		return 0;
	ck_assert_int_eq(supply_unmap_step(fx.heap, head, UINT32_MAX, &n_done), 1);
	fixture_check();
	return n_done;
}

/* What was freed first goes first, and not before its time; the clock may have gone round. */
START_TEST(arena_runs_age)
{
	static const uint32_t lengths[] = {2, 3, 5};
	uint32_t start = _i ? UINT32_MAX - 150 : 1000;
	uint64_t refs[3], live[3];

	for (uint32_t i = 0; i < 3; i++) {
		refs[i] = fixture_bytes(session_of(0), arenas_bytes(lengths[i]));
		live[i] = fixture_bytes(session_of(0), arenas_bytes(1)); /* keeps the runs apart */
	}
	for (uint32_t i = 0; i < 3; i++)
		drop_at(refs[i], start + 100 * i);
	ck_assert_uint_eq(fx.heap->control->n_returnable, 10);
	ck_assert_uint_eq(pick_old(0, start - 1), 0);
	ck_assert_uint_eq(pick_old(0, start + 100), 2);
	ck_assert_uint_eq(pick_old(8, start + 900), 0); /* eight stay, however old */
	ck_assert_uint_eq(pick_old(6, start + 900), 2); /* of three: a run is cut for that */
	ck_assert_uint_eq(pick_old(0, start + 100), 1);
	ck_assert_uint_eq(pick_old(0, start + 199), 0);
	ck_assert_uint_eq(pick_old(0, start + 200), 5);
	for (int i = 0; i < 3; i++)
		fixture_drop(session_of(0), live[i]);
}
END_TEST

/* The rest of a run that was cut is as old as the run was; the part that was used is young again. */
START_TEST(rest_of_run_keeps_its_age)
{
	uint64_t ref = fixture_bytes(session_of(0), arenas_bytes(4));

	drop_at(ref, 1000);
	drop_at(fixture_bytes(session_of(0), arenas_bytes(1)), 5000);
	ck_assert_uint_eq(pick_old(0, 1000), 3);
	ck_assert_uint_eq(pick_old(0, 1000), 0);
	ck_assert_uint_eq(pick_old(0, 5000), 1);
}
END_TEST

/* Empty arenas of pools age as runs do; neighbours of both kinds go together. */
START_TEST(neighbours_go_together)
{
	uint64_t refs[3 * POOLS], run;

	fill_arenas(refs, 3);
	run = fixture_bytes(session_of(0), arenas_bytes(2));
	ck_assert_uint_eq(ref_arena_index(run), ref_arena_index(refs[0]) + 3);
	supply_set_clock(fx.heap, 1000);
	for (uint32_t i = 0; i < 3 * POOLS; i++)
		fixture_drop(session_of(i), refs[i]);
	fixture_trim_sessions();
	ck_assert_uint_eq(supply_n_free(fx.heap), 3);
	fixture_drop(session_of(0), run);
	ck_assert_uint_eq(pick_old(1, 1000), 4);
	ck_assert_uint_eq(pick_old(0, 999), 0);
	ck_assert_uint_eq(pick_old(0, 1000), 1);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

START_TEST(arena_run_needs_adjacent_holes)
{
	uint32_t n = fx.heap->n_arenas;
	uint64_t refs[64], ref = 7;

	ck_assert_uint_eq(n, 64);
	for (uint32_t i = 0; i < n; i++)
		refs[i] = fixture_bytes(session_of(i), ARENA_SIZE_DEFAULT);
	EXPECT(session_of(0), -ENOMEM, object_new(session_of(0), TYPE_BYTES, 1, &ref));
	for (uint32_t i = 0; i < n; i++)
		if (ref_arena_index(refs[i]) % 2)
			fixture_drop(session_of(i), refs[i]);
	fixture_trim(0);
	EXPECT(session_of(0), -ENOMEM, object_new(session_of(0), TYPE_BYTES, 2 * ARENA_SIZE_DEFAULT, &ref));
	ck_assert_uint_eq(ref, 7);
	ref = fixture_bytes(session_of(0), ARENA_SIZE_DEFAULT);
	fixture_drop(session_of(0), ref);
	for (uint32_t i = 0; i < n; i++)
		if (ref_arena_index(refs[i]) % 2 == 0)
			fixture_drop(session_of(i), refs[i]);
	/* and now there is room for one object as large as the heap */
	ref = fixture_bytes(session_of(0), FIXTURE_HEAP_SIZE);
	ref_data(ref)[FIXTURE_HEAP_SIZE - 1] = 1;
	fixture_drop(session_of(0), ref);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

/* Runs of pools. */

START_TEST(run_sizes)
{
	struct heap_stats stats;

	for (uint32_t n = 1; n < fx.heap->pools_per_arena; n++) {
		uint64_t ref = fixture_bytes(S0, n * POOL_SIZE - 4095), full = fixture_bytes(S0, n * POOL_SIZE);

		if (n > 1) {
			ck_assert_uint_eq(ref_pool(ref)->kind, POOL_RUN);
			ck_assert_uint_eq(ref_pool(ref)->run_n_pools, n);
			ck_assert_uint_eq(ref_pool(ref)->run_size, n * POOL_SIZE - 4095);
		}
		ck_assert_uint_eq(ref_pool(full)->run_n_pools, n);
		memset(ref_data(full), 0x5a, n * POOL_SIZE);
		fixture_drop(S0, full);
		fixture_drop(S0, ref);
	}
	stats = fixture_stats();
	ck_assert_uint_eq(stats.n_medium_objects, 0);
	ck_assert_uint_eq(stats.bytes_medium_objects, 0);
	fixture_trim_sessions();
	ck_assert_uint_eq(fixture_stats().bytes_unused_pools, fixture_stats().bytes_total);
	for (uint32_t i = 0; i < fx.heap->control->n_arenas_known * fx.heap->pools_per_arena; i++)
		ck_assert(fx.heap->pools[i].kind == POOL_FREE && pool_is_free(i));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("run");
	TCase *t = tcase_create("run");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, runs_first_fit);
	tcase_add_loop_test(t, run_among_many, 0, 2);
	tcase_add_test(t, runs_of_each_length);
	tcase_add_test(t, runs_fragmented);
	tcase_add_test(t, arena_runs_of_each_length);
	tcase_add_test(t, arena_run_reused);
	tcase_add_test(t, arena_run_cut_and_joined);
	tcase_add_loop_test(t, arena_runs_age, 0, 2);
	tcase_add_test(t, rest_of_run_keeps_its_age);
	tcase_add_test(t, neighbours_go_together);
	tcase_add_test(t, arena_run_needs_adjacent_holes);
	tcase_add_test(t, run_sizes);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
