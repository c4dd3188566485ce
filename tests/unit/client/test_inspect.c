// SPDX-License-Identifier: MIT
/*
 * client/inspect.c: the public structs say what heap/'s own say, member by member
 */
#include "peer.h"

#include "heap/repair/stats.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void play_until_goodbye(struct peer *p, int fd)
{
	peer_welcome(p, fd);
	while (peer_receive(p, fd) && p->request->body_case == PYHEAP__TO_DAEMON__BODY_GRANT_REQUEST)
		peer_grant(p, fd, p->request->grant_request->n_runs);
}

static pyheap *open_with_objects(void)
{
	pyheap_type_spec spec = {.name = "t", .size = 8};
	pyheap_type type;
	pyheap_ref ref;
	pyheap *heap;

	ck_assert_int_eq(peer_open(play_until_goodbye, &heap), 0);
	for (size_t size = 1; size <= 512; size += 7)
		ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, size, &ref), 0);
	ck_assert_int_eq(pyheap_name_set(heap, "a", ref), 0);
	ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, 40000, &ref), 0);
	ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, 2 * ARENA_SIZE_DEFAULT, &ref), 0);
	ck_assert_int_eq(pyheap_type_register(heap, &spec, &type), 0);
	return heap;
}

/* Figures that are 0 in a heap of one session. Each is set to a number of its own, which is read back. */
static void set_figures(void)
{
	uint64_t *figures[] = {
		&peer.heap->control->counters.n_arenas_reclaimed,
		&peer.heap->control->figures.n_lock_waits,
		&peer.heap->control->figures.lock_wait_ns,
		&peer.heap->control->figures.lock_wait_max_ns,
		&peer.heap->control->figures.n_locks_timed,
		&peer.heap->control->figures.lock_held_ns,
		&peer.heap->control->figures.lock_held_max_ns,
		&peer.heap->control->figures.n_blocks_returned,
	};

	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
		*figures[i] = 1001 + i;
}

/* The two structs are laid out alike today, so their bytes are compared: a member that is not copied is 0 in one. */
START_TEST(test_stats)
{
	pyheap *heap = open_with_objects();
	struct heap_stats own;
	pyheap_stats stats;
	uint32_t cursor = 0;

	set_figures();
	memset(&stats, 0xff, sizeof(stats));
	ck_assert_int_eq(pyheap_get_stats(heap, &stats), 0);
	while (heap_stats_step(&heap->session, &cursor, &own))
		;
	ck_assert_mem_eq(&stats, &own, sizeof(stats));
	ck_assert_uint_eq(stats.n_blocks_returned, 1008);
	ck_assert_uint_eq(stats.heap_size, PEER_HEAP_SIZE);
	ck_assert_uint_eq(stats.n_medium_objects, 1);
	ck_assert_uint_eq(stats.n_large_objects, 1);
	ck_assert_uint_eq(stats.n_names, 1);
	ck_assert_uint_eq(stats.n_types, 1);
	ck_assert_uint_eq(stats.n_sessions, 1);
	ck_assert_uint_eq(stats.classes[63].size, 512);
	ck_assert_int_eq(pyheap_get_stats(heap, NULL), -EINVAL);
	pyheap_close(heap);
	peer_end();
}
END_TEST

START_TEST(test_clients)
{
	pyheap *heap = open_with_objects();
	pyheap_client_info info;
	uint64_t cursor = 0;

	ck_assert_int_eq(pyheap_lock(heap), 0);
	memset(&info, 0xff, sizeof(info));
	ck_assert_int_eq(pyheap_client_next(heap, &cursor, &info), 1);
	ck_assert_uint_eq(info.session, peer.index);
	ck_assert_int_eq(info.pid, getpid());
	ck_assert_uint_eq(info.n_holds, 74 + 2);
	ck_assert_uint_eq(info.self, 1);
	ck_assert_uint_eq(info.has_lock, 1);
	ck_assert_uint_eq(info.dead, 0);
	ck_assert_str_eq(info.program, "test");
	memset(&info, 0xff, sizeof(info));
	ck_assert_int_eq(pyheap_client_next(heap, &cursor, &info), 0);
	ck_assert_uint_eq(info.session, UINT32_MAX); /* nothing is written at the end */
	ck_assert_int_eq(pyheap_client_next(heap, NULL, &info), -EINVAL);
	ck_assert_int_eq(pyheap_client_next(heap, &cursor, NULL), -EINVAL);
	ck_assert_int_eq(pyheap_check(heap, NULL, NULL), 0);
	ck_assert_int_eq(pyheap_unlock(heap), 0);
	pyheap_close(heap);
	peer_end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_inspect");
	TCase *tcase = tcase_create("inspect");
	SRunner *runner;
	int n_failed;

	tcase_add_checked_fixture(tcase, peer_heap_setup, peer_heap_teardown);
	tcase_add_test(tcase, test_stats);
	tcase_add_test(tcase, test_clients);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
