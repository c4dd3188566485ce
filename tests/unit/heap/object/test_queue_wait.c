// SPDX-License-Identifier: MIT
/* Waiting at a queue, and queues that are paused by the lock: between several processes */
#include "heap/object/queue_wait.h"
#include "heap/shared/critical.h"
#include "tests/unit/heap/fixture.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
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

/* Wait until the other process waits at the queue: it holds the queue then, and has said so in the futex. */
static void until_waiting(uint64_t queue, const uint32_t *futex)
{
	while (object_refcount(S0, queue) != 2 || !(__atomic_load_n(futex, __ATOMIC_ACQUIRE) & QUEUE_WAITING))
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
	until_waiting(queue, &ref_queue(queue)->pop_wait);
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
	until_waiting(queue, &ref_queue(queue)->push_wait);
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

	until_waiting(queue, &ref_queue(queue)->pop_wait);
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
	until_waiting(queue, &ref_queue(queue)->pop_wait);
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

/* Sleepers without slices: threads that sleep at a futex until it is moved and they are woken. */
#define N_SLEEPERS 4

static uint32_t *slept_at;
static uint32_t n_woken;

static void *sleep_once(void *value)
{
	while (syscall(SYS_futex, slept_at, FUTEX_WAIT, *(uint32_t *)value, NULL, NULL, 0) < 0 && errno == EINTR)
		;
	__atomic_fetch_add(&n_woken, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

/* FUTEX_REQUEUE to where they are says how many sleep, and wakes none. */
static long n_sleepers(void)
{
	return syscall(SYS_futex, slept_at, FUTEX_REQUEUE, 0, (void *)(uintptr_t)INT_MAX, slept_at, 0);
}

static void put_to_sleep(pthread_t *threads, uint32_t n, uint32_t *futex)
{
	static uint32_t value;

	slept_at = futex;
	n_woken = 0;
	value = __atomic_or_fetch(futex, QUEUE_WAITING, __ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < n; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, sleep_once, &value), 0);
	while (n_sleepers() < (long)n)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void expect_woken(uint32_t n)
{
	while (__atomic_load_n(&n_woken, __ATOMIC_SEQ_CST) < n)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL); /* another one would mostly have come by then */
	ck_assert_uint_eq(__atomic_load_n(&n_woken, __ATOMIC_SEQ_CST), n);
}

static uint32_t *pop_futex(uint64_t queue)
{
	return (uint32_t *)(uintptr_t)&ref_queue(queue)->pop_wait;
}

/* Each push wakes one, and only a push that finds nobody asleep clears the bit. */
START_TEST(a_push_wakes_one)
{
	uint64_t queue = fixture_queue(2 * N_SLEEPERS);
	uint32_t *futex = pop_futex(queue);
	pthread_t threads[N_SLEEPERS];

	put_to_sleep(threads, N_SLEEPERS, futex);
	for (uint32_t i = 1; i <= N_SLEEPERS; i++) {
		ck_assert_int_eq(queue_push(S0, queue, fixture_bytes(S0, 1), 0), 0);
		expect_woken(i);
		ck_assert_uint_eq(*futex & QUEUE_WAITING, QUEUE_WAITING);
	}
	ck_assert_int_eq(queue_push(S0, queue, fixture_bytes(S0, 1), 0), 0);
	ck_assert_uint_eq(*futex & QUEUE_WAITING, 0);
	for (uint32_t i = 0; i < N_SLEEPERS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	fixture_check();
}
END_TEST

/* A session was woken, and killed before it took the object: another one is woken. */
START_TEST(woken_and_killed)
{
	uint64_t queue = fixture_queue(1);
	pthread_t threads[2];

	put_to_sleep(threads, 2, pop_futex(queue));
	MUST(S1, object_incref(S1, queue));
	S1->entry->waits_at = queue;
	fixture_bury(S1);
	expect_woken(1);
	ck_assert_uint_eq(S1->entry->waits_at, 0);
	ck_assert_uint_eq(*pop_futex(queue) & QUEUE_WAITING, QUEUE_WAITING);
	S2->entry->waits_at = queue;
	fixture_bury(S2);
	expect_woken(2);
	for (uint32_t i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}
END_TEST

/* A waker was killed before it woke anybody: all are woken. */
START_TEST(waker_killed)
{
	uint64_t queue = fixture_queue(2), ref = fixture_bytes(S1, 1);
	uint32_t *futex = pop_futex(queue);
	struct intent intent;
	pthread_t threads[2];

	MUST(S1, object_incref(S1, queue));
	MUST(S1, queue_push(S1, queue, ref, 0));
	intent = S1->entry->intent; /* it is over; as it was before */
	put_to_sleep(threads, 2, futex);
	S1->entry->intent.word = intent.word + (INTENT_PUSH_OWN - intent_kind(intent.word));
	fixture_bury(S1);
	expect_woken(2);
	for (uint32_t i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}
END_TEST

/* What the names of dead sessions may be, after a stray write. */
START_TEST(waits_at_nothing)
{
	const uint64_t refs[] = {1, UINT64_MAX, fixture_bytes(S0, 100), fixture_queue(1)};
	struct session *sessions[] = {S1, S2, S3};

	fixture_drop(S0, refs[3]);
	for (int i = 0; i < 3; i++) {
		sessions[i]->entry->waits_at = refs[i + 1];
		fixture_bury(sessions[i]);
	}
}
END_TEST

static int pop_too_often(uint64_t queue)
{
	uint64_t got;

	return queue_pop(S1, queue, &got, -1) == -EOVERFLOW ? 0 : 1;
}

/* A session that is woken and can take no object leaves it to the next one. */
START_TEST(leaves_without_an_object)
{
	uint64_t queue = fixture_queue(1), ref = fixture_bytes(S0, 1);
	struct hold *hold;
	pthread_t thread;
	pid_t pid;

	MUST(S1, object_incref(S1, ref));
	hold = hold_find(S1, ref);
	ck_assert_ptr_nonnull(hold);
	hold->count = UINT32_MAX;
	pid = start(pop_too_often, queue);
	until_waiting(queue, pop_futex(queue));
	slept_at = pop_futex(queue);
	while (n_sleepers() < 1)
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	put_to_sleep(&thread, 1, pop_futex(queue));
	ck_assert_int_eq(queue_push(S0, queue, ref, 0), 0);
	fixture_finish(pid);
	expect_woken(1);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	hold->count = 1;
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
	tcase_add_test(t, a_push_wakes_one);
	tcase_add_test(t, woken_and_killed);
	tcase_add_test(t, waker_killed);
	tcase_add_test(t, waits_at_nothing);
	tcase_add_test(t, leaves_without_an_object);
	tcase_add_test(t, many_to_many);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
