// SPDX-License-Identifier: MIT
/*
 * client/grant.c and client/call.c: what a session asks for when the heap has no room, and each way that it is answered
 */
#include "peer.h"

#include "heap/change/supply.h"

#include <semaphore.h>
#include <stdlib.h>
#include <sys/socket.h>

static sem_t peer_may_answer, peer_answered;

/* The daemon goes at the first request. */
static void play_and_go(struct peer *p, int fd)
{
	peer_welcome(p, fd);
	peer_receive(p, fd);
}

static void play_no_memory(struct peer *p, int fd)
{
	play_and_go(p, fd);
	peer_send_error(fd, ENOMEM);
	while (recv(fd, (char[64]){0}, 64, 0) > 0)
		;
}

/* A session that waits for a daemon that is gone, and one whose heap was removed. Both can be closed. */
START_TEST(test_daemon_goes)
{
	pyheap_ref ref = 77;
	pyheap *heap;

	ck_assert_int_eq(peer_open(play_and_go, &heap), 0);
	ck_assert_int_eq(pyheap_set_timeout(heap, 200), 0); /* no other daemon will come */
	ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, 48, &ref), -ECONNRESET);
	ck_assert_int_eq(peer.request->body_case, PYHEAP__TO_DAEMON__BODY_GRANT_REQUEST);
	ck_assert_uint_eq(peer.request->grant_request->run_length, 1);
	ck_assert_uint_eq(peer.request->grant_request->n_runs, 1);
	ck_assert_uint_eq(ref, 77);
	ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, 48, &ref), -ECONNRESET);
	ck_assert_int_eq(pyheap_refcount(heap, 12345), -EINVAL);

	peer.heap->control->ended = HEAP_ENDED;
	ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, 48, &ref), -EPIPE);
	ck_assert_ptr_null(pyheap_close(heap));
	peer_end();
}
END_TEST

START_TEST(test_no_memory)
{
	pyheap_ref ref;
	pyheap *heap;

	ck_assert_int_eq(peer_open(play_no_memory, &heap), 0);
	ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, 5 * ARENA_SIZE_DEFAULT, &ref), -ENOMEM);
	ck_assert_uint_eq(peer.request->grant_request->run_length, 5);
	ck_assert_uint_eq(peer.request->grant_request->n_runs, 1);
	pyheap_close(heap);
	peer_end();
}
END_TEST

/* n_runs and run_length of each request of a session. */
#define REQUESTS_MAX 64
static struct {
	uint32_t n_runs, run_length;
} requests[REQUESTS_MAX];
static unsigned int n_requests;

static void play_grants(struct peer *p, int fd)
{
	peer_welcome(p, fd);
	while (peer_receive(p, fd) && p->request->body_case == PYHEAP__TO_DAEMON__BODY_GRANT_REQUEST) {
		requests[n_requests].n_runs = p->request->grant_request->n_runs;
		requests[n_requests++].run_length = p->request->grant_request->run_length;
		peer_grant(p, fd, requests[n_requests - 1].n_runs);
	}
}

/* Small objects ask for twice as many arenas each time, large ones for what they need. */
START_TEST(test_requests_grow)
{
	static const uint32_t expected[] = {1, 2, 4, 8, 16};
	unsigned int n_grown = 0;
	pyheap_ref ref;
	pyheap *heap;

	n_requests = 0;
	ck_assert_int_eq(peer_open(play_grants, &heap), 0);
	ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, 3 * ARENA_SIZE_DEFAULT, &ref), 0);
	for (int i = 0; i < 20 * 64; i++) /* pools of 20 arenas */
		ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, POOL_SIZE, &ref), 0);
	pyheap_close(heap);
	peer_end();

	ck_assert_uint_gt(n_requests, 4);
	for (unsigned int i = 0; i < n_requests; i++) {
		if (requests[i].run_length == 3) {
			ck_assert_uint_eq(requests[i].n_runs, 1);
			continue;
		}
		ck_assert_uint_eq(requests[i].run_length, 1);
		/* Between these, hold tables and the like ask for one arena at a time. */
		if (requests[i].n_runs == expected[n_grown])
			n_grown++;
		else
			ck_assert_uint_eq(requests[i].n_runs, 1);
	}
	ck_assert_uint_ge(n_grown, 4);
}
END_TEST

/* Answers the first request when it may, and no other. */
static void play_late(struct peer *p, int fd)
{
	play_and_go(p, fd);
	sem_wait(&peer_may_answer);
	peer_grant(p, fd, 1);
	sem_post(&peer_answered);
	while (peer_receive(p, fd) && p->request->body_case == PYHEAP__TO_DAEMON__BODY_GRANT_REQUEST)
		peer_grant(p, fd, 1);
}

/* A grant that comes after its call has given up serves the next call. */
START_TEST(test_late_answer)
{
	pyheap_ref ref = 77;
	pyheap *heap;

	sem_init(&peer_may_answer, 0, 0);
	sem_init(&peer_answered, 0, 0);
	ck_assert_int_eq(peer_open(play_late, &heap), 0);
	ck_assert_int_eq(pyheap_set_timeout(heap, 0), 0);
	ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, 48, &ref), -ETIMEDOUT);
	ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, 48, &ref), -ETIMEDOUT);
	ck_assert_int_eq(pyheap_dispatch(heap), 0); /* the connection is whole, and the answer is left for a call */
	ck_assert_uint_eq(ref, 77);
	sem_post(&peer_may_answer);
	sem_wait(&peer_answered);
	ck_assert_int_eq(pyheap_dispatch(heap), 0);
	ck_assert_int_eq(pyheap_set_timeout(heap, -1), 0);
	ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, 48, &ref), 0);
	ck_assert_int_eq(pyheap_decref(heap, ref), 0);
	pyheap_close(heap);
	peer_end();
	sem_destroy(&peer_may_answer);
	sem_destroy(&peer_answered);
}
END_TEST

static void play_empty_grant(struct peer *p, int fd)
{
	play_and_go(p, fd);
	peer_grant(p, fd, 0);
	peer_receive(p, fd);
}

static void grant_head(struct peer *p, int fd, uint32_t head)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Grant grant = PYHEAP__GRANT__INIT;

	play_and_go(p, fd);
	grant.n_heads = 1;
	grant.heads = &head;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_GRANT;
	message.grant = &grant;
	peer_send(fd, &message);
	peer_receive(p, fd);
}

static void play_no_arena(struct peer *p, int fd)
{
	grant_head(p, fd, UINT32_MAX);
}

/* An arena that was granted to another session. */
static void play_anothers(struct peer *p, int fd)
{
	uint32_t head, n_mapped = 0;

	ck_assert_int_eq(supply_reserve(p->heap, p->index + 1, 1, &head), 0);
	while (supply_map_step(p->heap, head, 1, &n_mapped) == 0)
		;
	grant_head(p, fd, head);
}

static void play_second_welcome(struct peer *p, int fd)
{
	play_and_go(p, fd);
	peer_welcome(p, fd);
	peer_receive(p, fd);
}

static void ck_wrong_grant(void (*play)(struct peer *peer, int fd), int code)
{
	pyheap_ref ref = 77;
	pyheap *heap;

	ck_assert_int_eq(peer_open(play, &heap), 0);
	ck_assert_int_eq(pyheap_new(heap, PYHEAP_BYTES, 48, &ref), -code);
	ck_assert_uint_eq(ref, 77);
	pyheap_close(heap);
	peer_end();
	peer_heap_teardown();
	peer_heap_setup();
}

START_TEST(test_wrong_grants)
{
	ck_wrong_grant(play_empty_grant, EPROTO);
	ck_wrong_grant(play_no_arena, EINVAL);
	ck_wrong_grant(play_anothers, EPERM);
	ck_wrong_grant(play_second_welcome, EPROTO);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_grant");
	TCase *tcase = tcase_create("grant");
	SRunner *runner;
	int n_failed;

	tcase_add_checked_fixture(tcase, peer_heap_setup, peer_heap_teardown);
	tcase_add_test(tcase, test_daemon_goes);
	tcase_add_test(tcase, test_no_memory);
	tcase_add_test(tcase, test_requests_grow);
	tcase_add_test(tcase, test_late_answer);
	tcase_add_test(tcase, test_wrong_grants);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
