// SPDX-License-Identifier: MIT
/*
 * Objects shared between processes: by name, by queue, by the number alone; and what the dead leave
 */
#include "fixture.h"

#include <stdio.h>

static void write_ref(int fd, pyheap_ref ref)
{
	ck_assert_int_eq(write(fd, &ref, sizeof(ref)), sizeof(ref));
}

static pyheap_ref read_ref(int fd)
{
	pyheap_ref ref;

	ck_assert_int_eq(read(fd, &ref, sizeof(ref)), sizeof(ref));
	return ref;
}

static uint64_t n_clients(void)
{
	pyheap_stats stats;

	ck_ok(pyheap_stats(fixture_heap, &stats));
	return stats.n_sessions;
}

static uint64_t n_objects(void)
{
	pyheap_stats stats;
	uint64_t n;

	ck_ok(pyheap_stats(fixture_heap, &stats));
	n = stats.n_medium_objects + stats.n_large_objects;
	for (int i = 0; i < PYHEAP_CLASSES; i++)
		n += stats.classes[i].n_used;
	return n;
}

/* By name. */

static void publish(void *userdata)
{
	pyheap *own = fixture_open(&fx);
	pyheap_ref list, ref;
	char text[32];

	(void)userdata;
	ck_ok(pyheap_list_new(own, 100, &list));
	for (size_t i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "item %zu", i);
		ck_ok(pyheap_put(own, text, strlen(text) + 1, &ref));
		ck_ok(pyheap_list_set(own, list, i, ref));
		ck_ok(pyheap_decref(own, ref));
	}
	ck_ok(pyheap_name_set(own, "published", list));
	pyheap_close(own);
}

/* A named object outlives its maker, and so does what it refers to. */
START_TEST(test_by_name)
{
	pyheap_ref list, ref;
	char text[32];

	ck_ok(fixture_wait(fixture_fork(publish, NULL)));
	ck_ok(pyheap_name_get(fixture_heap, "published", &list));
	ck_assert_int_eq(pyheap_refcount(fixture_heap, list), 2);
	for (size_t i = 0; i < 100; i++) {
		ck_ok(pyheap_list_get(fixture_heap, list, i, &ref));
		snprintf(text, sizeof(text), "item %zu", i);
		ck_assert_str_eq(pyheap_data(fixture_heap, ref), text);
		ck_ok(pyheap_decref(fixture_heap, ref));
	}
	ck_ok(pyheap_name_del(fixture_heap, "published"));
	ck_assert_uint_eq(n_objects(), 101);
	ck_ok(pyheap_decref(fixture_heap, list));
	ck_assert_uint_eq(n_objects(), 0);
}
END_TEST

/* By queue. */

#define N_ITEMS     4000
#define N_SENDERS   3
#define N_RECEIVERS 3

struct item {
	uint32_t sender;
	uint32_t number;
	char fill[40];
};

static void item_fill(struct item *item, uint32_t sender, uint32_t number)
{
	item->sender = sender;
	item->number = number;
	memset(item->fill, (int)(sender * 31 + number), sizeof(item->fill));
}

static void send_items(void *userdata)
{
	uint32_t sender = (uint32_t)(uintptr_t)userdata;
	pyheap *own = fixture_open(&fx);
	pyheap_ref queue, ref;

	ck_ok(pyheap_name_get(own, "work", &queue));
	for (uint32_t i = 0; i < N_ITEMS; i++) {
		ck_ok(pyheap_new(own, PYHEAP_BYTES, sizeof(struct item), &ref));
		item_fill(pyheap_data(own, ref), sender, i);
		ck_ok(pyheap_queue_push(own, queue, ref, -1));
		ck_err(pyheap_decref(own, ref) == 0 ? 0 : -EPERM, EPERM); /* the queue, or who popped it, has it now */
	}
	pyheap_close(own);
}

/* Ends at the empty object, and sends back how many items came. */
static void receive_items(void *userdata)
{
	pyheap *own = fixture_open(&fx);
	uint32_t last[N_SENDERS] = {0};
	pyheap_ref queue, ref, done;
	uint32_t n = 0;

	(void)userdata;
	ck_ok(pyheap_name_get(own, "work", &queue));
	for (;;) {
		struct item expected, *item;

		ck_ok(pyheap_queue_pop(own, queue, &ref, -1));
		ck_assert_int_eq(pyheap_refcount(own, ref), 1);
		if (pyheap_size(own, ref) == 0)
			break;
		item = pyheap_data(own, ref);
		ck_assert_uint_lt(item->sender, N_SENDERS);
		item_fill(&expected, item->sender, item->number);
		ck_assert_mem_eq(item, &expected, sizeof(expected));
		/* First in, first out, per sender. */
		ck_assert_uint_ge(item->number + 1, last[item->sender] + 1);
		last[item->sender] = item->number + 1;
		ck_ok(pyheap_decref(own, ref));
		n++;
	}
	ck_ok(pyheap_decref(own, ref));
	ck_ok(pyheap_name_get(own, "done", &done));
	ck_ok(pyheap_put(own, &n, sizeof(n), &ref));
	ck_ok(pyheap_queue_push(own, done, ref, -1));
	pyheap_close(own);
}

START_TEST(test_by_queue)
{
	pid_t senders[N_SENDERS], receivers[N_RECEIVERS];
	pyheap_ref queue, done, ref;
	uint32_t n_received = 0;

	ck_ok(pyheap_queue_new(fixture_heap, 16, &queue));
	ck_ok(pyheap_name_set(fixture_heap, "work", queue));
	ck_ok(pyheap_queue_new(fixture_heap, N_RECEIVERS, &done));
	ck_ok(pyheap_name_set(fixture_heap, "done", done));
	for (uintptr_t i = 0; i < N_SENDERS; i++)
		senders[i] = fixture_fork(send_items, (void *)i);
	for (uintptr_t i = 0; i < N_RECEIVERS; i++)
		receivers[i] = fixture_fork(receive_items, NULL);
	for (int i = 0; i < N_SENDERS; i++)
		ck_ok(fixture_wait(senders[i]));
	for (int i = 0; i < N_RECEIVERS; i++) {
		ck_ok(pyheap_put(fixture_heap, NULL, 0, &ref));
		ck_ok(pyheap_queue_push(fixture_heap, queue, ref, -1));
	}
	for (int i = 0; i < N_RECEIVERS; i++) {
		ck_ok(pyheap_queue_pop(fixture_heap, done, &ref, -1));
		n_received += *(uint32_t *)pyheap_data(fixture_heap, ref);
		ck_ok(pyheap_decref(fixture_heap, ref));
		ck_ok(fixture_wait(receivers[i]));
	}
	ck_assert_uint_eq(n_received, N_SENDERS * N_ITEMS);
	ck_err(pyheap_queue_pop(fixture_heap, queue, &ref, 0), EAGAIN);
	ck_assert_uint_eq(n_objects(), 2);
}
END_TEST

START_TEST(test_queue_bounds)
{
	pyheap *other = fixture_open(&fx);
	pyheap_ref queue, a, b, got = 7;

	ck_ok(pyheap_queue_new(fixture_heap, 2, &queue));
	ck_assert_int_eq(pyheap_size(fixture_heap, queue), 16);
	errno = 0;
	ck_assert_ptr_null(pyheap_data(fixture_heap, queue));
	ck_assert_int_eq(errno, EINVAL);
	ck_ok(pyheap_put(fixture_heap, "a", 2, &a));
	ck_ok(pyheap_put(fixture_heap, "b", 2, &b));
	ck_ok(pyheap_incref(fixture_heap, a));
	ck_err(pyheap_queue_push(other, queue, a, 0), EPERM);
	ck_ok(pyheap_queue_push(fixture_heap, queue, a, 0));
	ck_assert_int_eq(pyheap_refcount(fixture_heap, a), 2);
	ck_ok(pyheap_queue_push(fixture_heap, queue, a, 0));
	ck_assert_int_eq(pyheap_refcount(fixture_heap, a), 2);
	ck_err(pyheap_queue_push(fixture_heap, queue, a, 0), EPERM);
	ck_err(pyheap_queue_push(fixture_heap, queue, b, 0), EAGAIN);
	ck_err(pyheap_queue_push(fixture_heap, queue, b, 20), ETIMEDOUT);
	ck_assert_int_eq(pyheap_refcount(fixture_heap, b), 1); /* the caller keeps it */
	ck_err(pyheap_list_get(fixture_heap, queue, 0, &got), EINVAL);
	ck_err(pyheap_slot_get(fixture_heap, queue, 0, &got), EINVAL);
	ck_assert_uint_eq(got, 7);
	ck_ok(pyheap_queue_pop(other, queue, &got, 0));
	ck_assert_uint_eq(got, a);
	ck_ok(pyheap_queue_pop(other, queue, &got, -1));
	ck_err(pyheap_queue_pop(other, queue, &got, 0), EAGAIN);
	ck_err(pyheap_queue_pop(other, queue, &got, 20), ETIMEDOUT);
	ck_assert_int_eq(pyheap_refcount(fixture_heap, a), 2);
	pyheap_close(other);
	ck_err(pyheap_size(fixture_heap, a), ESTALE);
	ck_assert_int_eq(pyheap_refcount(fixture_heap, queue), 1); /* no waiter left a hold behind */
}
END_TEST

static void do_nothing(int signal_number)
{
	(void)signal_number;
}

static void pop_until_signal(void *userdata)
{
	struct sigaction action = {.sa_handler = do_nothing};
	pyheap *own = fixture_open(&fx);
	pyheap_ref ref;

	sigaction(SIGUSR1, &action, NULL);
	ck_err(pyheap_queue_pop(own, *(pyheap_ref *)userdata, &ref, -1), EINTR);
	pyheap_close(own);
}

START_TEST(test_queue_and_signal)
{
	pyheap_ref queue;
	int status = 0;
	pid_t pid;

	ck_ok(pyheap_queue_new(fixture_heap, 2, &queue));
	pid = fixture_fork(pop_until_signal, &queue);
	fixture_until(pyheap_refcount(fixture_heap, queue) == 2);
	/* The signal may come before the wait: then the next one interrupts it. */
	fixture_until(kill(pid, SIGUSR1) == 0 && waitpid(pid, &status, WNOHANG) == pid);
	ck_ok(status);
	ck_assert_int_eq(pyheap_refcount(fixture_heap, queue), 1);
}
END_TEST

/* By the ref alone. */

struct pipes {
	int to_child[2], from_child[2];
};

static void hold_by_number(void *userdata)
{
	struct pipes *pipes = userdata;
	pyheap *own = fixture_open(&fx);
	pyheap_ref ref = read_ref(pipes->to_child[0]);

	ck_ok(pyheap_incref(own, ref));
	write_ref(pipes->from_child[1], ref);
	ck_assert_uint_eq(read_ref(pipes->to_child[0]), 0);
	ck_assert_str_eq(pyheap_data(own, ref), "by number");
	strcpy(pyheap_data(own, ref), "changed!");
	pyheap_close(own);
}

START_TEST(test_by_number)
{
	struct pipes pipes;
	pyheap_ref ref;
	pid_t pid;

	ck_ok(pipe(pipes.to_child));
	ck_ok(pipe(pipes.from_child));
	pid = fixture_fork(hold_by_number, &pipes);
	ck_ok(pyheap_put(fixture_heap, "by number", 10, &ref));
	write_ref(pipes.to_child[1], ref);
	ck_assert_uint_eq(read_ref(pipes.from_child[0]), ref);
	ck_ok(pyheap_incref(fixture_heap, ref));
	ck_assert_int_eq(pyheap_refcount(fixture_heap, ref), 3);
	write_ref(pipes.to_child[1], 0);
	ck_ok(fixture_wait(pid));
	ck_assert_int_eq(pyheap_refcount(fixture_heap, ref), 2);
	ck_assert_str_eq(pyheap_data(fixture_heap, ref), "changed!");
}
END_TEST

/* The dead. */

static void hold_and_wait(void *userdata)
{
	struct pipes *pipes = userdata;
	pyheap *own = fixture_open(&fx);
	pyheap_ref ref, list, queue, large;

	ck_ok(pyheap_name_get(own, "queue", &queue));
	ck_ok(pyheap_name_get(own, "kept", &ref));
	ck_ok(pyheap_incref(own, ref));
	ck_ok(pyheap_list_new(own, 1000, &list));
	for (size_t i = 0; i < 1000; i++) {
		pyheap_ref child;

		ck_ok(pyheap_new(own, PYHEAP_BYTES, 1 + i * 5, &child));
		ck_ok(pyheap_list_set(own, list, i, child));
		if (i % 2)
			ck_ok(pyheap_decref(own, child));
	}
	ck_ok(pyheap_new(own, PYHEAP_BYTES, 2 << 20, &large));
	ck_ok(pyheap_put(own, "handed over", 12, &ref));
	ck_ok(pyheap_queue_push(own, queue, ref, -1));
	write_ref(pipes->from_child[1], ref);
	read_ref(pipes->to_child[0]); /* never comes */
}

/* A killed client's holds are dropped, what others hold stays, and what it pushed belongs to the queue. */
START_TEST(test_killed)
{
	struct pipes pipes;
	pyheap_ref kept, queue, handed, ref;
	pid_t pid;

	ck_ok(pipe(pipes.to_child));
	ck_ok(pipe(pipes.from_child));
	ck_ok(pyheap_put(fixture_heap, "kept", 5, &kept));
	ck_ok(pyheap_name_set(fixture_heap, "kept", kept));
	ck_ok(pyheap_queue_new(fixture_heap, 4, &queue));
	ck_ok(pyheap_name_set(fixture_heap, "queue", queue));
	pid = fixture_fork(hold_and_wait, &pipes);
	handed = read_ref(pipes.from_child[0]);
	ck_assert_int_eq(pyheap_refcount(fixture_heap, kept), 4);
	ck_assert_uint_eq(n_objects(), 1005);
	fixture_kill(pid);
	fixture_until(n_objects() == 3);
	fixture_until(n_clients() == 1);
	ck_assert_int_eq(pyheap_refcount(fixture_heap, kept), 2);
	ck_assert_int_eq(pyheap_refcount(fixture_heap, handed), 1);
	ck_ok(pyheap_queue_pop(fixture_heap, queue, &ref, 0));
	ck_assert_uint_eq(ref, handed);
	ck_assert_str_eq(pyheap_data(fixture_heap, ref), "handed over");
}
END_TEST

static void wait_at_queue(void *userdata)
{
	pyheap *own = fixture_open(&fx);
	pyheap_ref ref;

	pyheap_queue_pop(own, *(pyheap_ref *)userdata, &ref, -1);
}

/* A dead waiter takes nothing: the next object that is pushed goes to a living one. */
START_TEST(test_killed_while_waiting)
{
	pyheap_ref queue, ref, got;
	pid_t pid;

	ck_ok(pyheap_queue_new(fixture_heap, 1, &queue));
	pid = fixture_fork(wait_at_queue, &queue);
	fixture_until(pyheap_refcount(fixture_heap, queue) == 2);
	fixture_kill(pid);
	ck_ok(pyheap_put(fixture_heap, "x", 1, &ref));
	ck_ok(pyheap_queue_push(fixture_heap, queue, ref, 0));
	fixture_until(pyheap_refcount(fixture_heap, queue) == 1);
	ck_ok(pyheap_queue_pop(fixture_heap, queue, &got, 0));
	ck_assert_uint_eq(got, ref);
}
END_TEST

static void work_until_killed(void *userdata)
{
	uint32_t state = (uint32_t)(uintptr_t)userdata * 2654435761U + 1;
	pyheap *own = fixture_open(&fx);
	pyheap_ref queue, list, refs[32] = {0};

	ck_ok(pyheap_name_get(own, "queue", &queue));
	ck_ok(pyheap_name_get(own, "list", &list));
	for (;;) {
		pyheap_ref *ref, got;

		state = state * 1664525 + 1013904223;
		ref = &refs[state >> 27];
		if (*ref && pyheap_decref(own, *ref) < 0)
			_exit(1);
		if (pyheap_new(own, state >> 12 & 1 ? PYHEAP_BYTES : PYHEAP_LIST, (state >> 13) % 900 * 8, ref) < 0)
			_exit(2);
		if (pyheap_list_set(own, list, state >> 8 & 63, *ref) < 0)
			_exit(3);
		if (pyheap_queue_push(own, queue, *ref, 0) == 0)
			*ref = 0;
		if (state >> 20 & 1 && pyheap_queue_pop(own, queue, &got, 0) == 0)
			pyheap_decref(own, got);
	}
}

/* Clients killed in the middle of their work, again and again: nothing is left of them and the heap is whole. */
START_TEST(test_killed_at_work)
{
	pyheap_ref queue, list, ref;
	pid_t pids[3];

	ck_ok(pyheap_queue_new(fixture_heap, 8, &queue));
	ck_ok(pyheap_name_set(fixture_heap, "queue", queue));
	ck_ok(pyheap_list_new(fixture_heap, 64, &list));
	ck_ok(pyheap_name_set(fixture_heap, "list", list));
	for (uintptr_t i = 0; i < 3; i++)
		pids[i] = fixture_fork(work_until_killed, (void *)i);
	for (uintptr_t i = 0; i < 60; i++) {
		int status;

		usleep(3000 + (useconds_t)(i * 977 % 20000));
		ck_ok(kill(pids[i % 3], SIGKILL));
		status = fixture_wait(pids[i % 3]);
		ck_assert(WIFSIGNALED(status));
		ck_assert_int_eq(pyheap_check(fixture_heap, NULL, NULL), 0);
		pids[i % 3] = fixture_fork(work_until_killed, (void *)(i + 3));
	}
	for (int i = 0; i < 3; i++)
		fixture_kill(pids[i]);
	fixture_until(n_clients() == 1);
	for (size_t i = 0; i < 64; i++)
		ck_ok(pyheap_list_set(fixture_heap, list, i, 0));
	while (pyheap_queue_pop(fixture_heap, queue, &ref, 0) == 0)
		ck_ok(pyheap_decref(fixture_heap, ref));
	ck_assert_uint_eq(n_objects(), 2);
}
END_TEST

/* pyheap_clients(). */

START_TEST(test_clients)
{
	pyheap *other = fixture_open(&fx);
	pyheap_client_info info;
	uint64_t cursor = 0;
	pyheap_ref ref;
	int n = 0, n_self = 0, n_lock = 0;

	for (int i = 0; i < 5; i++)
		ck_ok(pyheap_put(other, "x", 1, &ref));
	ck_ok(pyheap_lock(other));
	while (pyheap_client_next(fixture_heap, &cursor, &info) == 1) {
		ck_assert_int_eq(info.pid, getpid());
		ck_assert_uint_eq(info.uid, geteuid());
		ck_assert_str_eq(info.program, program_invocation_short_name);
		ck_assert(!info.dead);
		n++;
		n_self += info.self;
		n_lock += info.has_lock;
		ck_assert_uint_eq(info.n_holds, info.self ? 0 : 5);
		ck_assert_uint_eq(info.has_lock, info.self ? 0 : 1);
	}
	ck_ok(pyheap_unlock(other));
	ck_assert_int_eq(n, 2);
	ck_assert_int_eq(n_self, 1);
	ck_assert_int_eq(n_lock, 1);
	pyheap_close(other);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_share");
	TCase *tcase = tcase_create("all");

	tcase_add_checked_fixture(tcase, fixture_setup_session, fixture_teardown_session);
	tcase_add_test(tcase, test_by_name);
	tcase_add_test(tcase, test_by_queue);
	tcase_add_test(tcase, test_queue_bounds);
	tcase_add_test(tcase, test_queue_and_signal);
	tcase_add_test(tcase, test_by_number);
	tcase_add_test(tcase, test_killed);
	tcase_add_test(tcase, test_killed_while_waiting);
	tcase_add_test(tcase, test_killed_at_work);
	tcase_add_test(tcase, test_clients);
	suite_add_tcase(suite, tcase);
	return fixture_main(suite);
}
