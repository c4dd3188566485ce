// SPDX-License-Identifier: MIT
/*
 * How arenas come and go: granted, accepted, returned to the system, adopted by another daemon
 */
#include "tests/unit/heap/fixture_arena.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Arenas that become free. */

START_TEST(only_wholly_free_ones_return)
{
	uint64_t refs[3 * POOLS], bytes;
	uint32_t kept;

	fill_arenas(refs, 3);
	bytes = fixture_heap_bytes();
	for (uint32_t i = 0; i < 3 * POOLS; i++)
		if (i != POOLS + 5) /* one object keeps the second arena */
			ck_assert_int_eq(object_decref(session_of(i), refs[i]), 0);
	fixture_check();
	kept = ref_arena_index(refs[POOLS]);
	fixture_trim_sessions();

	ck_assert_uint_eq(fixture_trim(1), 1);
	fixture_check();
	ck_assert_uint_eq(fx.heap->control->spaces[SPACE_OBJECTS].n_free_arenas, 1);
	ck_assert_uint_eq(fixture_heap_bytes(), bytes - ARENA_SIZE_DEFAULT);
	ck_assert_uint_eq(fixture_trim(1), 0);
	ck_assert_uint_eq(fixture_trim(0), 1);
	fixture_check();
	ck_assert_uint_eq(fixture_heap_bytes(), ARENA_SIZE_DEFAULT);
	ck_assert_uint_eq(fx.heap->arenas[kept].state, ARENA_POOLS);
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_current, 1);
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_reclaimed, 2);
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_highwater, 3);
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_allocated, 3);

	fixture_drop(session_of(POOLS + 5), refs[POOLS + 5]);
	ck_assert_uint_eq(fixture_trim(0), 1);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
	check_order(SPACE_OBJECTS);
	fixture_check();
}
END_TEST

/* The memory is gone from other mappings, too: they read zeroes where the object's bytes were. */
START_TEST(returned_memory_is_gone)
{
	struct heap *client = fixture_attach();
	uint64_t ref = fixture_bytes(session_of(0), 5 * POOL_SIZE), other;

	memset(ref_data(ref), 0xee, 5 * POOL_SIZE);
	ck_assert_uint_eq(client->base[ref_offset(ref)], 0xee);
	fixture_drop(session_of(0), ref);
	ck_assert_uint_eq(fixture_trim(0), 1);
	ck_assert_uint_eq(fx.heap->arenas[ref_arena_index(ref)].state, ARENA_HOLE);
	other = fixture_bytes(session_of(1), 5 * POOL_SIZE);
	ck_assert_uint_eq(ref_position(other), ref_position(ref));
	for (uint32_t i = 0; i < 5 * POOL_SIZE; i++)
		ck_assert_uint_eq(client->base[ref_offset(ref) + i], 0);
	heap_free(client);
}
END_TEST

/* A ref from before stays stale: while its arena is a hole, and when another object lies there. */
START_TEST(generations_survive_return)
{
	static const size_t sizes[] = {8, 512, 9000, ARENA_SIZE_DEFAULT, 2 * ARENA_SIZE_DEFAULT};
	size_t size = sizes[_i];
	uint64_t old[20], ref;
	struct object object;

	for (int round = 0; round < 20; round++) {
		ref = fixture_bytes(session_of(0), size);
		for (int i = 0; i < round; i++) {
			ck_assert_uint_eq(ref_position(old[i]), ref_position(ref));
			ck_assert_int_eq(object_lookup(session_of(0), old[i], &object), -ESTALE);
			ck_assert_int_eq(object_incref(session_of(0), old[i]), -ESTALE);
		}
		old[round] = ref;
		fixture_drop(session_of(0), ref);
		ck_assert_uint_eq(fixture_trim(0), 1);
		for (int i = 0; i <= round; i++)
			ck_assert_int_eq(object_lookup(session_of(0), old[i], &object), -ESTALE);
		fixture_check();
	}
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

static uint64_t control_bytes(void)
{
	struct stat st;

	ck_assert_int_eq(fstat(fx.heap->control_fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* Granting. */

START_TEST(accept_what_was_granted)
{
	uint32_t head = map_run(1, 1);

	ck_assert_int_eq(supply_accept(session_of(0), head), -EPERM);
	ck_assert_int_eq(supply_accept(session_of(1), head + 1), -EINVAL);
	ck_assert_int_eq(supply_accept(session_of(1), fx.heap->n_arenas), -EINVAL);
	ck_assert_int_eq(supply_accept(session_of(1), UINT32_MAX), -EINVAL);
	fixture_check();
	ck_assert_int_eq(supply_accept(session_of(1), head), 0);
	fixture_check();
	ck_assert_int_eq(supply_accept(session_of(1), head), -EPERM);
	check_order(SPACE_OBJECTS);
	/* An arena that was granted in advance is used by any session that needs it. */
	ck_assert_int_eq(object_new(session_of(2), TYPE_BYTES, 5, &(uint64_t){0}), 0);
}
END_TEST

START_TEST(reserve_refused)
{
	uint32_t head = 77;

	ck_assert_int_eq(supply_reserve(fx.heap, 0, fx.heap->n_arenas + 1, &head), -ENOMEM);
	ck_assert_int_eq(supply_reserve(fx.heap, 0, UINT32_MAX, &head), -ENOMEM);
	ck_assert_int_eq(supply_reserve(fx.heap, 0, 0, &head), -ENOMEM);
	ck_assert_uint_eq(head, 77);
	ck_assert_int_eq(supply_reserve(fx.heap, 0, fx.heap->n_arenas, &head), 0);
	ck_assert_int_eq(supply_reserve(fx.heap, 0, 1, &head), -ENOMEM);
	fixture_check();
}
END_TEST

/*
 * An arena is granted while those below it are still being mapped for another session. When it is granted the pool
 * entries of all arenas below it exist, and they were allocated in bounded steps.
 */
START_TEST(entries_below_in_steps)
{
	const struct heap_geometry geometry = {
		.heap_size = 160 * (uint64_t)ARENA_SIZE_MAX, .arena_size = ARENA_SIZE_MAX, .n_sessions = 4};
	const uint64_t step = UINT64_C(4) << 20,
		       below = step / (ARENA_SIZE_MAX / POOL_SIZE * sizeof(struct pool_entry));
	uint32_t below_head, head, n_done = 0, n = 0;
	uint64_t bytes;
	int r;

	fixture_close();
	fixture_open_geometry(&geometry);
	ck_assert_int_eq(supply_reserve(fx.heap, 0, 150, &below_head), 0);
	ck_assert_int_eq(supply_reserve(fx.heap, 1, 1, &head), 0);
	ck_assert_uint_eq(head, 150);
	do {
		bytes = control_bytes();
		r = supply_map_step(fx.heap, head, 1, &n_done);
		ck_assert_uint_eq(n_done, 1);
		ck_assert_int_eq(r, ++n * below > head);
		ck_assert_uint_eq(fx.heap->arenas[head].state, r ? ARENA_GRANTED : ARENA_MAPPING);
		ck_assert_uint_eq(fx.heap->control->n_arenas_mapped, r ? head + 1 : n * below);
		ck_assert_uint_gt(control_bytes(), bytes);
		ck_assert_uint_le(
			control_bytes() - bytes, step + ARENA_SIZE_MAX / POOL_SIZE * sizeof(struct pool_entry));
		fixture_check();
	} while (r == 0);
	ck_assert_int_eq(supply_accept(session_of(1), head), 0);
	fixture_check();
	/* Lookups there find nothing, and allocate nothing. */
	bytes = control_bytes();
	for (uint32_t i = 0; i < head; i++)
		ck_assert_int_lt(
			object_incref(session_of(1), ref_make((uint64_t)i * ARENA_SIZE_MAX / BLOCK_ALIGNMENT, 1)), 0);
	ck_assert_uint_eq(control_bytes(), bytes);
	n_done = 0;
	ck_assert_int_eq(supply_unmap_step(fx.heap, below_head, 150, &n_done), 1);
	/* The entries stay. */
	n_done = 0;
	ck_assert_int_eq(supply_reserve(fx.heap, 0, 9, &below_head), 0);
	ck_assert_int_eq(supply_map_step(fx.heap, below_head, 9, &n_done), 1);
	ck_assert_uint_eq(control_bytes(), bytes);
	fixture_check();
}
END_TEST

/* What is reserved can be given up half-way, as when /dev/shm is full. */
START_TEST(mapping_given_up)
{
	uint32_t head, n_done = 0;

	ck_assert_int_eq(supply_reserve(fx.heap, 0, 5, &head), 0);
	ck_assert_int_eq(supply_map_step(fx.heap, head, 2, &n_done), 0);
	ck_assert_uint_eq(fixture_heap_bytes(), 2 * ARENA_SIZE_DEFAULT);
	fixture_check();
	n_done = 0;
	ck_assert_int_eq(supply_unmap_step(fx.heap, head, 4, &n_done), 0);
	ck_assert_int_eq(supply_unmap_step(fx.heap, head, 4, &n_done), 1);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
	ck_assert_int_eq(supply_reserve(fx.heap, 1, fx.heap->n_arenas, &head), 0);
}
END_TEST

START_TEST(dead_sessions_grants_are_taken_back)
{
	uint32_t head = map_run(1, 2), other = map_run(2, 1), picked, n_done = 0;

	session_mark_dead(fx.heap, 1);
	ck_assert_int_eq(supply_pick_granted(&fx.daemon, 1, false, &picked), 1);
	ck_assert_uint_eq(picked, head);
	ck_assert_uint_eq(fx.heap->arenas[head].state, ARENA_RETURNING);
	ck_assert_int_eq(supply_unmap_step(fx.heap, picked, 2, &n_done), 1);
	ck_assert_int_eq(supply_pick_granted(&fx.daemon, 1, false, &picked), 0);
	fixture_check();
	ck_assert_uint_eq(fixture_heap_bytes(), ARENA_SIZE_DEFAULT);
	ck_assert_int_eq(supply_accept(session_of(2), other), 0);
}
END_TEST

START_TEST(pick_waits_for_nobody)
{
	uint32_t head;

	free_now(session_of(0), fixture_bytes(session_of(0), 10));
	ck_assert_int_eq(session_lock(session_of(0)), 0);
	ck_assert_int_eq(supply_pick_returning(&fx.daemon, 0, &head), -EBUSY);
	ck_assert_int_eq(supply_pick_granted(&fx.daemon, 1, false, &head), -EBUSY);
	ck_assert_int_eq(
		supply_pick_granted(&fx.daemon, 0, true, &head), 0); /* the lock's owner itself has no change pending */
	ck_assert_int_eq(session_unlock(session_of(0)), 0);
	ck_assert_int_eq(supply_pick_returning(&fx.daemon, 0, &head), 1);
}
END_TEST

/* Another daemon. */

/* The daemon and all its own state are gone, and another one adopts the heap. */
static void restart_daemon(void)
{
	struct heap *heap;
	int control_fd = dup(fx.heap->control_fd), heap_fd = dup(fx.heap->heap_fd);

	heap_free(fx.heap);
	ck_assert_int_eq(heap_adopt(&heap, control_fd, heap_fd), 0);
	fx.heap = heap;
	session_init(&fx.daemon, heap, SESSION_DAEMON);
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++)
		session_init(&fx.sessions[i], heap, fx.sessions[i].index);
	supply_adopt_all(heap);
	fixture_adopt_returning();
	fixture_check();
}

/* The system takes back nothing now: the next daemon goes on all the same, and gives it back later. */
START_TEST(adopted_where_nothing_can_be_returned)
{
	int fd = fx.heap->heap_fd;
	uint32_t head, n_done = 0;
	char path[48];

	ck_assert_int_eq(supply_reserve(fx.heap, 0, 2, &head), 0);
	ck_assert_int_eq(supply_map_step(fx.heap, head, 1, &n_done), 0);
	ck_assert_int_eq(supply_reserve(fx.heap, 0, 1, &head), 0);
	n_done = 0;
	ck_assert_int_eq(supply_map_step(fx.heap, head, 1, &n_done), 1);
	fx.heap->truth->arenas[head].session1 = 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fx.heap->heap_fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fx.heap->heap_fd, 0);
	supply_adopt_all(fx.heap);
	ck_assert_uint_gt(fixture_heap_bytes(), 0);
	close(fx.heap->heap_fd);
	fx.heap->heap_fd = fd;
	fixture_adopt_returning();
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
	fixture_check();
}
END_TEST

START_TEST(adopted_with_everything)
{
	uint64_t small = fixture_bytes(session_of(0), 100),
		 large = fixture_bytes(session_of(0), 2 * ARENA_SIZE_DEFAULT);
	uint64_t bytes = fixture_heap_bytes();

	memset(ref_data(small), 1, 100);
	memset(ref_data(large), 2, 2 * ARENA_SIZE_DEFAULT);
	restart_daemon();
	ck_assert_uint_eq(fixture_heap_bytes(), bytes);
	ck_assert_uint_eq(ref_data(small)[99], 1);
	ck_assert_uint_eq(ref_data(large)[2 * ARENA_SIZE_DEFAULT - 1], 2);
	fixture_drop(session_of(0), small);
	fixture_drop(session_of(0), large);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

START_TEST(adopt_takes_what_was_half_way)
{
	uint64_t ref = fixture_bytes(session_of(0), 3 * ARENA_SIZE_DEFAULT);
	uint32_t mapping, granted, lost, returning, n_done = 0;

	fixture_drop(session_of(0), ref);
	ck_assert_int_eq(supply_reserve(fx.heap, 0, 4, &mapping), 0);
	ck_assert_int_eq(supply_map_step(fx.heap, mapping, 2, &n_done), 0);
	granted = map_run(0, 2);
	lost = map_run(fx.heap->n_sessions - 1, 2); /* of a session that is free */
	n_done = 0;
	ck_assert_int_eq(supply_pick_returning(&fx.daemon, 0, &returning), 1);
	ck_assert_int_eq(supply_unmap_step(fx.heap, returning, 1, &n_done), 0);

	restart_daemon();
	ck_assert_uint_eq(fx.heap->arenas[mapping].state, ARENA_HOLE);
	ck_assert_uint_eq(fx.heap->arenas[lost].state, ARENA_HOLE);
	ck_assert_uint_eq(fx.heap->arenas[returning].state, ARENA_HOLE);
	ck_assert_uint_eq(fx.heap->arenas[granted].state, ARENA_GRANTED);
	ck_assert_uint_eq(fixture_heap_bytes(), 2 * ARENA_SIZE_DEFAULT);
	restart_daemon(); /* again changes nothing */
	ck_assert_uint_eq(fixture_heap_bytes(), 2 * ARENA_SIZE_DEFAULT);
}
END_TEST

/* While a run is returned arena by arena, what is a hole already may be in use again when the daemon dies. */
START_TEST(return_interrupted)
{
	uint64_t ref = fixture_bytes(session_of(0), 4 * ARENA_SIZE_DEFAULT), other;
	uint32_t head, n_done = 0;

	fixture_drop(session_of(0), ref);
	ck_assert_int_eq(supply_pick_returning(&fx.daemon, 0, &head), 1);
	ck_assert_int_eq(supply_unmap_step(fx.heap, head, 2, &n_done), 0);
	other = fixture_bytes(session_of(0), 5000);
	memset(ref_data(other), 0x77, 5000);

	restart_daemon();
	ck_assert_uint_eq(fx.heap->arenas[head].state, ARENA_HOLE);
	ck_assert_uint_eq(ref_arena(other)->state, ARENA_POOLS);
	for (uint32_t i = 0; i < 5000; i++)
		ck_assert_uint_eq(ref_data(other)[i], 0x77);
	fixture_drop(session_of(0), other);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("supply");
	TCase *t = tcase_create("supply");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, only_wholly_free_ones_return);
	tcase_add_test(t, returned_memory_is_gone);
	tcase_add_loop_test(t, generations_survive_return, 0, 5);
	tcase_add_test(t, accept_what_was_granted);
	tcase_add_test(t, reserve_refused);
	tcase_add_test(t, entries_below_in_steps);
	tcase_add_test(t, mapping_given_up);
	tcase_add_test(t, dead_sessions_grants_are_taken_back);
	tcase_add_test(t, pick_waits_for_nobody);
	tcase_add_test(t, adopted_where_nothing_can_be_returned);
	tcase_add_test(t, adopted_with_everything);
	tcase_add_test(t, adopt_takes_what_was_half_way);
	tcase_add_test(t, return_interrupted);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
