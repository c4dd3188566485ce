// SPDX-License-Identifier: MIT
/*
 * client/session.c: what every call says of a session that is NULL, of another process, or of a heap that was removed,
 * and that closing gives everything back
 */
#include "peer.h"

#include "heap/repair/recover.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void play_until_goodbye(struct peer *p, int fd)
{
	peer_welcome(p, fd);
	while (peer_receive(p, fd) && p->request->body_case == PYHEAP__TO_DAEMON__BODY_GRANT_REQUEST)
		peer_grant(p, fd, p->request->grant_request->n_runs);
}

/* Every call that takes other arguments, which are all wrong: what is wrong with the session comes first. */
static void ck_every_call(pyheap *heap, int code)
{
	ck_assert_int_eq(pyheap_fd(heap), -code);
	ck_assert_int_eq(pyheap_dispatch(heap), -code);
	ck_assert_int_eq(pyheap_set_timeout(heap, -2), -code);
	ck_assert_int_eq(pyheap_put(heap, NULL, 1, NULL), -code);
	errno = 0;
	ck_assert_ptr_null(pyheap_data(heap, 0));
	ck_assert_int_eq(errno, code);
	ck_assert_int_eq(pyheap_size(heap, 0), -code);
	ck_assert_int_eq(pyheap_typeof(heap, 0, NULL), -code);
	ck_assert_int_eq(pyheap_incref(heap, 0), -code);
	ck_assert_int_eq(pyheap_decref(heap, 0), -code);
	ck_assert_int_eq(pyheap_refcount(heap, 0), -code);
	ck_assert_int_eq(pyheap_list_new(heap, SIZE_MAX, NULL), -code);
	ck_assert_int_eq(pyheap_list_set(heap, 0, 0, 0), -code);
	ck_assert_int_eq(pyheap_list_get(heap, 0, 0, NULL), -code);
	ck_assert_int_eq(pyheap_type_register(heap, NULL, NULL), -code);
	ck_assert_int_eq(pyheap_type_name(heap, 0, NULL), -code);
	ck_assert_int_eq(pyheap_slot_set(heap, 0, 0, 0), -code);
	ck_assert_int_eq(pyheap_slot_get(heap, 0, 0, NULL), -code);
	ck_assert_int_eq(pyheap_queue_new(heap, 0, NULL), -code);
	ck_assert_int_eq(pyheap_queue_push(heap, 0, 0, 0), -code);
	ck_assert_int_eq(pyheap_queue_pop(heap, 0, NULL, 0), -code);
	ck_assert_int_eq(pyheap_name_set(heap, NULL, 0), -code);
	ck_assert_int_eq(pyheap_name_get(heap, NULL, NULL), -code);
	ck_assert_int_eq(pyheap_name_del(heap, NULL), -code);
	ck_assert_int_eq(pyheap_name_next(heap, NULL, NULL, NULL), -code);
	ck_assert_int_eq(pyheap_lock(heap), -code);
	ck_assert_int_eq(pyheap_unlock(heap), -code);
	ck_assert_int_eq(pyheap_get_stats(heap, NULL), -code);
	ck_assert_int_eq(pyheap_client_next(heap, NULL, NULL), -code);
	ck_assert_int_eq(pyheap_check(heap, NULL, NULL), -code);
	ck_assert_int_eq(pyheap_repair(heap, NULL, NULL), -code);
}

START_TEST(test_null)
{
	pyheap_ref ref;

	ck_every_call(NULL, EINVAL);
	ck_assert_int_eq(pyheap_open(NULL, "/nowhere"), -EINVAL);
	ck_assert_int_eq(pyheap_new(NULL, PYHEAP_BYTES, 8, &ref), -EINVAL);
	ck_assert_ptr_null(pyheap_close(NULL));
}
END_TEST

START_TEST(test_forked)
{
	pyheap_ref ref;
	pyheap *heap;
	int status;
	pid_t pid;

	ck_assert_int_eq(peer_open(play_until_goodbye, &heap), 0);
	ck_assert_int_eq(pyheap_put(heap, "x", 1, &ref), 0);
	peer_rest(); /* the child has no such thread: what that has allocated would be lost */
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		ck_every_call(heap, ECHILD);
		ck_assert_ptr_null(pyheap_close(heap));
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(pyheap_refcount(heap, ref), 1); /* the child's close left it alone */
	ck_assert_int_eq(pyheap_decref(heap, ref), 0);
	pyheap_close(heap);
	peer_end();
}
END_TEST

START_TEST(test_removed)
{
	pyheap *heap;

	ck_assert_int_eq(peer_open(play_until_goodbye, &heap), 0);
	peer.heap->control->ended = HEAP_ENDED;
	ck_every_call(heap, EPIPE);
	ck_assert_ptr_null(pyheap_close(heap));
	peer_end();
}
END_TEST

/* Closing drops every hold and gives the lock back, then says Goodbye. */
START_TEST(test_close)
{
	struct session_entry *entry = &peer.heap->sessions[peer.index];
	pyheap_ref refs[200];
	pyheap *heap;

	ck_assert_int_eq(peer_open(play_until_goodbye, &heap), 0);
	for (int i = 0; i < 200; i++)
		ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, (size_t)(i * 10), &refs[i]), 0);
	ck_assert_int_eq(pyheap_lock(heap), 0);
	ck_assert_uint_eq(entry->n_holds + entry->n_own_holds, 200);
	ck_assert_ptr_null(pyheap_close(heap));
	peer_wait();
	ck_assert_int_eq(peer.request->body_case, PYHEAP__TO_DAEMON__BODY_GOODBYE);
	ck_assert_uint_eq(entry->n_holds + entry->n_own_holds, 0);
	ck_assert_uint_eq(peer.heap->control->lock.owner1, 0);
	peer_end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_session");
	TCase *tcase = tcase_create("session");
	SRunner *runner;
	int n_failed;

	tcase_add_checked_fixture(tcase, peer_heap_setup, peer_heap_teardown);
	tcase_add_test(tcase, test_null);
	tcase_add_test(tcase, test_forked);
	tcase_add_test(tcase, test_removed);
	tcase_add_test(tcase, test_close);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
