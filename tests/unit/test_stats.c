/* SPDX-License-Identifier: MIT */
/*
 * The heap's figures, and the walk over its sessions
 */
#include "tests/unit/fixture.h"

#include <stdio.h>
#include <unistd.h>

#define S0 (&fx.sessions[0])

static pyheap_stats stats(void)
{
	pyheap_stats s;

	ck_assert_int_eq(heap_stats(S0, false, &s), 0);
	return s;
}

/* The eight add up to the total, and that is what the arenas take. */
static void check_sum(void)
{
	pyheap_stats s = stats();

	ck_assert_uint_eq(s.bytes_allocated_blocks + s.bytes_available_blocks + s.bytes_unused_pools +
				  s.bytes_pool_headers + s.bytes_quantization + s.bytes_medium_objects +
				  s.bytes_large_objects + s.bytes_records,
		s.bytes_total);
	ck_assert_uint_eq(s.bytes_total, s.n_arenas_current * s.arena_size);
	ck_assert_uint_eq(s.bytes_total, fixture_heap_bytes());
	ck_assert_uint_eq(s.n_arenas_allocated - s.n_arenas_reclaimed, s.n_arenas_current);
	ck_assert_uint_ge(s.n_arenas_highwater, s.n_arenas_current);
}

START_TEST(empty_heap)
{
	pyheap_stats s = stats();

	check_sum();
	ck_assert_uint_eq(s.heap_size, FIXTURE_HEAP_SIZE);
	ck_assert_uint_eq(s.arena_size, ARENA_SIZE_DEFAULT);
	ck_assert_uint_eq(s.pool_size, POOL_SIZE);
	ck_assert_uint_eq(s.bytes_total, 0);
	ck_assert_uint_eq(s.n_sessions, FIXTURE_SESSIONS);
	ck_assert_uint_eq(s.max_sessions, fx.heap->n_sessions);
	ck_assert_uint_eq(s.n_lock_recoveries, 0);
	for (uint32_t i = 0; i < PYHEAP_CLASSES; i++) {
		ck_assert_uint_eq(s.classes[i].size, 8 * (i + 1));
		ck_assert_uint_eq(s.classes[i].pool_blocks, POOL_SIZE / (8 * (i + 1) + 16));
		ck_assert_uint_eq(s.classes[i].n_pools + s.classes[i].n_used + s.classes[i].n_available, 0);
	}
}
END_TEST

START_TEST(each_figure)
{
	uint64_t ref, large;
	pyheap_stats s;

	for (int i = 0; i < 10; i++)
		ref = fixture_bytes(S0, 100);
	s = stats();
	ck_assert_uint_eq(s.classes[12].n_pools, 1);
	ck_assert_uint_eq(s.classes[12].n_used, 10);
	ck_assert_uint_eq(s.classes[12].n_available, s.classes[12].pool_blocks - 10);
	ck_assert_uint_eq(s.bytes_allocated_blocks, 1040);
	ck_assert_uint_eq(s.bytes_unused_pools, 63 * POOL_SIZE);
	ck_assert_uint_eq(s.bytes_pool_headers, 16 * s.classes[12].pool_blocks);
	fixture_bytes(S0, 3 * POOL_SIZE - 5);
	large = fixture_bytes(S0, 2 * ARENA_SIZE_DEFAULT - 5);
	MUST(S0, name_set(S0, "n", ref));
	s = stats();
	ck_assert_uint_eq(s.n_medium_objects, 1);
	ck_assert_uint_eq(s.bytes_medium_objects, 3 * POOL_SIZE);
	ck_assert_uint_eq(s.n_large_objects, 1);
	ck_assert_uint_eq(s.bytes_large_objects, 2 * ARENA_SIZE_DEFAULT);
	ck_assert_uint_eq(s.n_names, 1);
	ck_assert_uint_eq(s.bytes_records, POOL_SIZE);
	ck_assert_uint_eq(s.n_arenas_current, 4);
	check_sum();
	fixture_drop(S0, large);
	s = stats();
	ck_assert_uint_eq(s.bytes_large_objects, 0);
	check_sum();
	fixture_trim(0);
	s = stats();
	ck_assert_uint_eq(s.n_arenas_current, 2);
	ck_assert_uint_eq(s.n_arenas_reclaimed, 2);
	ck_assert_uint_eq(s.n_arenas_highwater, 4);
	check_sum();
}
END_TEST

START_TEST(sum_is_exact_at_random)
{
	uint64_t refs[500] = {0};

	fixture_seed();
	for (uint64_t op = 0, n = fixture_ops(20000); op < n; op++) {
		uint32_t i = fixture_below(500), session = fixture_below(FIXTURE_SESSIONS);
		struct session *s = &fx.sessions[i % FIXTURE_SESSIONS];
		size_t size = fixture_below(600) * (fixture_below(20) ? 1 : fixture_below(200));
		char name[16];

		if (refs[i]) {
			ck_assert_int_eq(object_decref(s, refs[i]), 0);
			refs[i] = 0;
		} else if (CALL(s, object_new(s, TYPE_BYTES, size, &refs[i])) < 0) {
			refs[i] = 0;
		} else {
			snprintf(name, sizeof(name), "%u", i % 50);
			(void)CALL(&fx.sessions[session], name_set(&fx.sessions[session], name, refs[i]));
		}
		if (op % 500 == 0)
			fixture_trim(1);
		check_sum();
	}
	fixture_check();
}
END_TEST

START_TEST(busy)
{
	pyheap_stats s;

	ck_assert_int_eq(session_lock(S0), 0);
	ck_assert_int_eq(heap_stats(&fx.daemon, true, &s), -EBUSY);
	ck_assert_int_eq(heap_stats(S0, true, &s), 0);
	ck_assert_int_eq(session_unlock(S0), 0);
	ck_assert_int_eq(heap_stats(&fx.daemon, true, &s), 0);
}
END_TEST

START_TEST(sessions)
{
	pyheap_client_info info;
	uint64_t cursor = 0;
	uint32_t n = 0;

	fixture_bytes(&fx.sessions[1], 5);
	fixture_bytes(&fx.sessions[1], 5);
	session_mark_dead(fx.heap, 3);
	ck_assert_int_eq(session_lock(&fx.sessions[2]), 0);
	for (; heap_client_next(S0, &cursor, &info) == 1; n++) {
		ck_assert_uint_eq(info.session, n);
		ck_assert_int_eq(info.pid, getpid());
		ck_assert_uint_eq(info.n_holds, n == 1 ? 2 : 0);
		ck_assert_uint_eq(info.self, n == 0);
		ck_assert_uint_eq(info.has_lock, n == 2);
		ck_assert_uint_eq(info.dead, n == 3);
		ck_assert_str_eq(info.program, "unit-test");
	}
	ck_assert_uint_eq(n, FIXTURE_SESSIONS);
	ck_assert_int_eq(heap_client_next(S0, &cursor, &info), 0);
	cursor = UINT64_MAX;
	ck_assert_int_eq(heap_client_next(S0, &cursor, &info), 0);
	ck_assert_int_eq(session_unlock(&fx.sessions[2]), 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("stats");
	TCase *t = tcase_create("stats");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_set_timeout(t, 300);
	tcase_add_test(t, empty_heap);
	tcase_add_test(t, each_figure);
	tcase_add_test(t, sum_is_exact_at_random);
	tcase_add_test(t, busy);
	tcase_add_test(t, sessions);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
