// SPDX-License-Identifier: MIT
/*
 * The heap's figures, and the walk over its sessions
 */
#include "tests/unit/heap/fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

/* The eight add up to the total, which is the size of the arenas. */
static void check_sum(void)
{
	struct heap_stats s = fixture_stats();

	ck_assert_uint_eq(s.bytes_allocated_blocks + s.bytes_available_blocks + s.bytes_unused_pools +
				  s.bytes_pool_headers + s.bytes_quantization + s.bytes_medium_objects +
				  s.bytes_large_objects + s.bytes_records,
		s.bytes_total);
	ck_assert_uint_eq(s.n_arenas_current, fx.heap->control->counters.n_arenas_current);
	ck_assert_uint_eq(s.bytes_total, s.n_arenas_current * s.arena_size);
	ck_assert_uint_eq(s.bytes_total, fixture_heap_bytes());
	ck_assert_uint_eq(s.n_arenas_allocated - s.n_arenas_reclaimed, s.n_arenas_current);
	ck_assert_uint_ge(s.n_arenas_highwater, s.n_arenas_current);
}

START_TEST(empty_heap)
{
	struct heap_stats s = fixture_stats();

	check_sum();
	ck_assert_uint_eq(s.heap_size, FIXTURE_HEAP_SIZE);
	ck_assert_uint_eq(s.arena_size, ARENA_SIZE_DEFAULT);
	ck_assert_uint_eq(s.pool_size, POOL_SIZE);
	ck_assert_uint_eq(s.bytes_total, 0);
	ck_assert_uint_eq(s.n_sessions, FIXTURE_SESSIONS);
	ck_assert_uint_eq(s.max_sessions, fx.heap->n_sessions);
	ck_assert_uint_eq(s.n_lock_recoveries, 0);
	for (uint32_t i = 0; i < N_CLASSES; i++) {
		ck_assert_uint_eq(s.classes[i].size, i < N_SMALL_CLASSES ? 8 * (i + 1) : class_shapes[i].size);
		ck_assert_uint_eq(s.classes[i].pool_blocks,
			i < N_SMALL_CLASSES ? POOL_SIZE / (8 * (i + 1) + 16) : class_shapes[i].n_blocks);
		ck_assert_uint_eq(s.classes[i].n_pools + s.classes[i].n_used + s.classes[i].n_available, 0);
	}
}
END_TEST

START_TEST(each_figure)
{
	uint64_t ref, large;
	struct heap_stats s;

	for (int i = 0; i < 10; i++)
		ref = fixture_bytes(S0, 100);
	s = fixture_stats();
	ck_assert_uint_eq(s.classes[12].n_pools, 1);
	ck_assert_uint_eq(s.classes[12].n_used, 10);
	ck_assert_uint_eq(s.classes[12].n_available, s.classes[12].pool_blocks - 10);
	ck_assert_uint_eq(s.bytes_allocated_blocks, 1040);
	ck_assert_uint_eq(s.bytes_unused_pools, 63 * POOL_SIZE);
	ck_assert_uint_eq(s.bytes_pool_headers, 16 * s.classes[12].pool_blocks);
	fixture_bytes(S0, 3 * POOL_SIZE - 5);
	large = fixture_bytes(S0, 2 * ARENA_SIZE_DEFAULT - 5);
	MUST(S0, name_set(S0, "n", ref));
	s = fixture_stats();
	ck_assert_uint_eq(s.n_medium_objects, 1);
	ck_assert_uint_eq(s.bytes_medium_objects, 3 * POOL_SIZE - 5);
	ck_assert_uint_eq(s.n_large_objects, 1);
	ck_assert_uint_eq(s.bytes_large_objects, 2 * ARENA_SIZE_DEFAULT - 5);
	ck_assert_uint_eq(s.n_names, 1);
	ck_assert_uint_eq(s.bytes_records, POOL_SIZE);
	ck_assert_uint_eq(s.n_arenas_current, 4);
	check_sum();
	fixture_drop(S0, large);
	s = fixture_stats();
	ck_assert_uint_eq(s.bytes_large_objects, 0);
	check_sum();
	fixture_trim(0);
	s = fixture_stats();
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
		if (!fixture_below(20))
			fixture_trim_sessions();
		check_sum();
	}
	fixture_check();
}
END_TEST

/* What a session keeps free is counted as free, also a remotely freed block that is not collected yet. */
START_TEST(kept_and_returned)
{
	struct session *s1 = &fx.sessions[1];
	uint64_t refs[3], run = fixture_bytes(S0, 5 * POOL_SIZE);
	uint32_t n = class_pool_blocks(class_of_size(100));
	struct heap_stats s;

	fixture_drop(S0, run);
	ck_assert_uint_eq(ref_pool(run)->kind, POOL_RUN);
	for (int i = 0; i < 3; i++) {
		refs[i] = fixture_bytes(S0, 100);
		MUST(s1, object_incref(s1, refs[i]));
		fixture_drop(S0, refs[i]);
	}
	s = fixture_stats();
	ck_assert_uint_eq(s.n_medium_objects, 0);
	ck_assert_uint_eq(s.bytes_medium_objects, 0);
	ck_assert_uint_eq(s.bytes_unused_pools, 63 * POOL_SIZE);
	for (uint64_t i = 0; i < 3; i++) {
		ck_assert_uint_eq(fixture_stats().classes[12].n_used, 3 - i);
		ck_assert_uint_eq(fixture_stats().bytes_allocated_blocks, (3 - i) * 104);
		fixture_drop(s1, refs[i]);
		ck_assert_uint_eq(ref_state(refs[i]), STATE_REMOTE_FREE);
		check_sum();
	}
	s = fixture_stats();
	ck_assert_uint_eq(s.classes[12].n_pools, 1);
	ck_assert_uint_eq(s.classes[12].n_used, 0);
	ck_assert_uint_eq(s.classes[12].n_available, n);
	fixture_trim_sessions();
	s = fixture_stats();
	ck_assert_uint_eq(s.classes[12].n_pools, 0);
	ck_assert_uint_eq(s.bytes_unused_pools, s.bytes_total);
	check_sum();
}
END_TEST

/* Counting takes no lock, and delays no call. */
START_TEST(needs_no_lock)
{
	uint64_t n;

	fixture_bytes(S0, 100);
	ck_assert_int_eq(session_lock(S0), 0);
	n = fx.heap->control->lock.n_acquisitions;
	check_sum();
	ck_assert_uint_eq(fixture_stats().n_lock_acquisitions, n);
	ck_assert_uint_eq(fixture_stats().classes[12].n_used, 1);
	ck_assert_int_eq(session_unlock(S0), 0);
}
END_TEST

static bool has_lock; /* S1's thread */

static void *hold_lock(void *userdata)
{
	(void)userdata;
	ck_assert_int_eq(session_lock(S1), 0);
	__atomic_store_n(&has_lock, true, __ATOMIC_RELEASE);
	usleep(20000);
	ck_assert_int_eq(session_unlock(S1), 0);
	return NULL;
}

/* How often sessions wait for the lock, and how long one in 64 has it. */
START_TEST(times_of_the_lock)
{
	struct heap_stats was = fixture_stats(), is;
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, hold_lock, NULL), 0);
	while (!__atomic_load_n(&has_lock, __ATOMIC_ACQUIRE))
		usleep(100);
	ck_assert_int_eq(session_lock(S0), 0);
	ck_assert_int_eq(session_unlock(S0), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	is = fixture_stats();
	ck_assert_uint_eq(is.n_lock_waits, was.n_lock_waits + 1);
	ck_assert_uint_gt(is.lock_wait_ns, was.lock_wait_ns);
	ck_assert_uint_ge(is.lock_wait_max_ns, is.lock_wait_ns - was.lock_wait_ns);

	was = is;
	for (int i = 0; i < 128; i++) {
		ck_assert_int_eq(session_lock(S0), 0);
		ck_assert_int_eq(session_unlock(S0), 0);
	}
	is = fixture_stats();
	ck_assert_uint_eq(is.n_lock_waits, was.n_lock_waits);
	ck_assert_uint_eq(is.n_locks_timed, was.n_locks_timed + 2);
	ck_assert_uint_gt(is.lock_held_ns, was.lock_held_ns);
	ck_assert_uint_gt(is.lock_held_max_ns, 0);
}
END_TEST

/* Pools that sessions adopt, and remote frees. */
START_TEST(pools_adopted_and_remote_frees)
{
	struct heap_stats was = fixture_stats(), is;
	uint64_t refs[70], run;

	for (int i = 0; i < 70; i++) { /* 64 in a pool */
		refs[i] = fixture_bytes(S0, 48);
		MUST(S1, object_incref(S1, refs[i]));
		fixture_drop(S0, refs[i]);
	}
	run = fixture_bytes(S0, 3 * POOL_SIZE);
	is = fixture_stats();
	ck_assert_uint_eq(is.n_pools_claimed, was.n_pools_claimed + 3);
	ck_assert_uint_eq(is.n_blocks_returned, was.n_blocks_returned);
	for (int i = 0; i < 70; i++)
		fixture_drop(S1, refs[i]);
	fixture_drop(S0, run);
	is = fixture_stats();
	ck_assert_uint_eq(is.n_pools_claimed, was.n_pools_claimed + 3);
	ck_assert_uint_eq(is.n_blocks_returned, was.n_blocks_returned + 70);
}
END_TEST

/* A large heap is counted a part at a time; each part is whole, whatever happens between two. */
START_TEST(counted_in_steps)
{
	struct heap_stats s;
	uint32_t cursor = 0, n_steps = 1;
	uint64_t refs[300], large;

	fixture_close();
	fixture_open_geometry(&(struct heap_geometry){
		.heap_size = UINT64_C(32) << 20, .arena_size = ARENA_SIZE_MIN, .n_sessions = FIXTURE_SESSIONS});
	for (uint32_t i = 0; i < 300; i++)
		ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_BYTES, ARENA_SIZE_MIN - POOL_SIZE, &refs[i])), 0);
	large = fixture_bytes(S0, 100 * ARENA_SIZE_MIN);
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_current, 400);
	for (; heap_stats_step(&fx.daemon, &cursor, &s); n_steps++) {
		ck_assert_uint_eq(cursor, n_steps * 64);
		ck_assert_int_eq(object_decref(S0, refs[n_steps]), 0);
	}
	ck_assert_uint_ge(n_steps, 5);
	ck_assert_uint_eq(s.n_arenas_current, 400);
	ck_assert_uint_eq(s.n_large_objects, 1);
	ck_assert_uint_eq(s.bytes_large_objects, 100 * ARENA_SIZE_MIN);
	ck_assert_uint_eq(s.bytes_medium_objects + s.bytes_unused_pools, 300 * ARENA_SIZE_MIN);
	ck_assert_uint_eq(s.n_medium_objects, 300); /* those that went were counted before */
	check_sum();
	fixture_drop(S0, large);
}
END_TEST

START_TEST(sessions)
{
	struct heap_client info;
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
	tcase_add_test(t, empty_heap);
	tcase_add_test(t, each_figure);
	tcase_add_test(t, sum_is_exact_at_random);
	tcase_add_test(t, kept_and_returned);
	tcase_add_test(t, needs_no_lock);
	tcase_add_test(t, times_of_the_lock);
	tcase_add_test(t, pools_adopted_and_remote_frees);
	tcase_add_test(t, counted_in_steps);
	tcase_add_test(t, sessions);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
