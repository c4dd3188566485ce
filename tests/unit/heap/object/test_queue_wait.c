// SPDX-License-Identifier: MIT
/* Waiting at a queue, and queues that are paused by the lock: between several processes */
#include "heap/shared/critical.h"
#include "tests/unit/heap/fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Run f(argument) in a child; it exits by what f returns. */
static pid_t start(int (*f)(uint64_t), uint64_t argument)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (!pid)
		_exit(f(argument));
	return pid;
}

/* Wait until the other process waits at the queue: it holds the queue then, and has set the flag. */
static void until_waiting(uint64_t queue, const uint32_t *flag)
{
	while (object_refcount(S0, queue) != 2 || !__atomic_load_n(flag, __ATOMIC_ACQUIRE))
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static int pop_one(uint64_t queue)
{
	uint64_t got;

	if (queue_pop(S1, queue, &got, -1))
		return 1;
	if (*ref_data(got) != 42)
		return 2;
	return object_decref(S1, got) ? 3 : 0;
}

START_TEST(receiver_sleeps_until_a_push)
{
	uint64_t queue = fixture_queue(2), ref = fixture_bytes(S0, 1);
	pid_t pid = start(pop_one, queue);

	*ref_data(ref) = 42;
	until_waiting(queue, &ref_queue(queue)->pop_waiting);
	MUST(S0, queue_push(S0, queue, ref, 0));
	fixture_finish(pid);
	ck_assert_int_eq((int)object_refcount(S0, ref), -ESTALE);
	ck_assert_int_eq(object_refcount(S0, queue), 1);
	fixture_check();
}
END_TEST

static int push_one(uint64_t queue)
{
	uint64_t ref;

	if (object_new(S1, TYPE_BYTES, 1, &ref))
		return 1;
	*ref_data(ref) = 43;
	return queue_push(S1, queue, ref, -1) ? 2 : 0;
}

START_TEST(sender_sleeps_until_a_pop)
{
	uint64_t queue = fixture_queue(1), ref = fixture_bytes(S0, 1), got;
	pid_t pid;

	MUST(S0, queue_push(S0, queue, ref, 0));
	pid = start(push_one, queue);
	until_waiting(queue, &ref_queue(queue)->push_waiting);
	MUST(S0, queue_pop(S0, queue, &got, 0));
	ck_assert_uint_eq(got, ref);
	MUST(S0, queue_pop(S0, queue, &got, -1));
	ck_assert_uint_eq(*ref_data(got), 43);
	fixture_finish(pid);
	fixture_check();
}
END_TEST

static int push_held(uint64_t queue)
{
	uint64_t ref;

	if (object_new(S1, TYPE_BYTES, 1, &ref) || object_incref(S1, queue))
		return 1;
	if (queue_push(S1, queue, ref, 0))
		return 2;
	return object_decref(S1, queue) ? 3 : 0;
}

/* While a session has the lock between its calls no other session changes a queue. */
START_TEST(paused_by_the_lock)
{
	uint64_t queue = fixture_queue(2), ref = fixture_bytes(S0, 1), got;
	uint64_t n_waits = fx.heap->control->figures.n_lock_waits;
	pid_t pid;

	fixture_drop(S1, fixture_bytes(S1, 1)); /* it needs the lock for nothing else */
	MUST(S1, object_incref(S1, queue));
	ck_assert_int_eq(session_lock(S0), 0);
	ck_assert_uint_eq(fx.heap->control->queues_paused_by1, S0->index + 1);
	pid = start(push_held, queue);
	while (!S1->entry->intent.word) /* it has come to where it waits */
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	ck_assert_int_eq(queue_push(S0, queue, ref, 0), 0);
	ck_assert_int_eq(queue_pop(S0, queue, &got, 0), 0);
	ck_assert_uint_eq(got, ref);
	ck_assert_int_eq(queue_pop(S0, queue, &got, 0), -EAGAIN);
	ck_assert_int_eq(session_unlock(S0), 0);
	ck_assert_uint_eq(fx.heap->control->queues_paused_by1, 0);
	fixture_finish(pid);
	ck_assert_uint_gt(fx.heap->control->figures.n_lock_waits, n_waits);
	MUST(S0, queue_pop(S0, queue, &got, 0));
	ck_assert_uint_ne(got, ref);
}
END_TEST

static int lock_and_die(uint64_t queue)
{
	if (session_lock(S1) || queue_push(S1, queue, queue, 0) != -EPERM)
		return 1;
	kill(getpid(), SIGKILL);
	return 2;
}

/* A dead session with the lock does not pause queues. */
START_TEST(pauser_killed)
{
	uint64_t queue = fixture_queue(2), ref = fixture_bytes(S0, 1), got;
	pid_t pid = start(lock_and_die, queue);

	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_uint_eq(fx.heap->control->queues_paused_by1, S1->index + 1);
	ck_assert_int_eq(queue_push(S0, queue, ref, 0), 0);
	ck_assert_uint_eq(fx.heap->control->queues_paused_by1, 0);
	MUST(S0, queue_pop(S0, queue, &got, 0));
}
END_TEST

static int pop_until_ended(uint64_t queue)
{
	uint64_t got;

	return queue_pop(S1, queue, &got, -1) == -EPIPE ? 0 : 1;
}

START_TEST(sleeper_sees_the_end_of_the_heap)
{
	uint64_t queue = fixture_queue(1);
	pid_t pid = start(pop_until_ended, queue);

	until_waiting(queue, &ref_queue(queue)->pop_waiting);
	__atomic_store_n(&fx.heap->control->ended, HEAP_ENDED, __ATOMIC_RELEASE);
	fixture_finish(pid);
}
END_TEST

/* A waiter that is killed harms no other; the next one is woken. */
START_TEST(sleeper_killed)
{
	uint64_t queue = fixture_queue(1), ref = fixture_bytes(S0, 1);
	pid_t pid = start(pop_one, queue);
	int r;

	*ref_data(ref) = 42;
	until_waiting(queue, &ref_queue(queue)->pop_waiting);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	session_mark_dead(fx.heap, S1->index);
	while ((r = session_reclaim_step(S1)) == 1)
		fixture_check();
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(object_refcount(S0, queue), 1);
	ck_assert_int_eq(fixture_admit(fx.heap, S1), 0);
	pid = start(pop_one, queue);
	MUST(S0, queue_push(S0, queue, ref, 0));
	fixture_finish(pid);
	fixture_check();
}
END_TEST

/* Two senders, two receivers, a narrow queue: each object arrives once, each sender's in their order. */
enum { N_EACH = 2000 };

struct message {
	uint32_t sender, number;
};

static uint64_t shared_queue, shared_sums;

static int send_many(uint64_t sender)
{
	struct session *s = &fx.sessions[sender];
	uint64_t n = fixture_ops(N_EACH), ref;

	for (uint32_t i = 1; i <= n; i++) {
		const struct message message = {(uint32_t)sender, i};

		if (object_new(s, TYPE_BYTES, sizeof(message), &ref))
			return 1;
		memcpy(ref_data(ref), &message, sizeof(message));
		if (queue_push(s, shared_queue, ref, -1))
			return 2;
	}
	return 0;
}

static int receive_many(uint64_t receiver)
{
	struct session *s = &fx.sessions[receiver];
	uint64_t *sums = (uint64_t *)(void *)ref_data(shared_sums), n = fixture_ops(N_EACH), got;
	uint32_t last[2] = {0};

	for (uint64_t i = 0; i < n; i++) {
		struct message message;

		if (queue_pop(s, shared_queue, &got, -1))
			return 1;
		memcpy(&message, ref_data(got), sizeof(message));
		if (message.sender > 1 || message.number <= last[message.sender])
			return 2;
		last[message.sender] = message.number;
		__atomic_fetch_add(&sums[message.sender], message.number, __ATOMIC_RELAXED);
		if (object_decref(s, got))
			return 3;
	}
	return 0;
}

START_TEST(many_to_many)
{
	uint64_t n = fixture_ops(N_EACH), warm;
	pid_t pids[4];

	shared_queue = fixture_queue(3);
	shared_sums = fixture_bytes(S0, 16);
	memset(ref_data(shared_sums), 0, 16);
	warm = fixture_bytes(S0, sizeof(struct message)); /* there is an arena with room for all of them */
	for (uint64_t i = 0; i < 4; i++)
		pids[i] = start(i < 2 ? send_many : receive_many, i);
	for (int i = 0; i < 4; i++)
		fixture_finish(pids[i]);
	fixture_check();
	for (int i = 0; i < 2; i++)
		ck_assert_uint_eq(((const uint64_t *)(const void *)ref_data(shared_sums))[i], n * (n + 1) / 2);
	ck_assert_uint_eq(ref_queue(shared_queue)->tail - ref_queue(shared_queue)->head, 0);
	ck_assert_uint_eq(fixture_stats().classes[0].n_used, 1);
	fixture_drop(S0, warm);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("queue-wait");
	TCase *t = tcase_create("queue_wait");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, receiver_sleeps_until_a_push);
	tcase_add_test(t, sender_sleeps_until_a_pop);
	tcase_add_test(t, paused_by_the_lock);
	tcase_add_test(t, pauser_killed);
	tcase_add_test(t, sleeper_sees_the_end_of_the_heap);
	tcase_add_test(t, sleeper_killed);
	tcase_add_test(t, many_to_many);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
