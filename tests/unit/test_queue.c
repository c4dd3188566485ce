/* SPDX-License-Identifier: MIT */
/*
 * Queues: order, handing over, waiting, within one process and between several
 */
#include "heap/shared/critical.h"
#include "tests/unit/fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define S0 (&fx.sessions[0])
#define S1 (&fx.sessions[1])
#define S2 (&fx.sessions[2])
#define S3 (&fx.sessions[3])

static uint64_t new_queue(size_t n)
{
	uint64_t queue;

	MUST(S0, queue_new(S0, n, &queue));
	return queue;
}

static const struct queue *queue_of(uint64_t ref)
{
	return (const struct queue *)(const void *)ref_data(ref);
}

/* ---- one process ------------------------------------------------------------------------------------------------- */

START_TEST(first_in_first_out)
{
	uint64_t queue = new_queue(5), refs[5], got;

	/* Three times around, with every number of cells filled. */
	for (int round = 0; round < 15; round++) {
		for (int i = 0; i < round % 5 + 1; i++) {
			refs[i] = fixture_bytes(S0, 1 + (size_t)i);
			MUST(S0, queue_push(S0, queue, refs[i], 0));
			ck_assert(!object_is_held(S0, refs[i]));
			ck_assert_int_eq(object_refcount(S1, refs[i]), 1);
		}
		for (int i = 0; i < round % 5 + 1; i++) {
			MUST(S1, queue_pop(S1, queue, &got, 0));
			ck_assert_uint_eq(got, refs[i]);
			ck_assert_int_eq(object_refcount(S1, got), 1);
			fixture_drop(S1, got);
		}
	}
}
END_TEST

START_TEST(full_and_empty)
{
	uint64_t queue = new_queue(2), ref = fixture_bytes(S0, 1), got = 7;

	EXPECT(S0, -EAGAIN, queue_pop(S0, queue, &got, 0));
	EXPECT(S0, -ETIMEDOUT, queue_pop(S0, queue, &got, 10));
	for (int i = 0; i < 2; i++) {
		MUST(S0, object_incref(S0, ref));
		MUST(S0, queue_push(S0, queue, ref, 0));
	}
	ck_assert_int_eq(object_refcount(S0, ref), 3);
	EXPECT(S0, -EAGAIN, queue_push(S0, queue, ref, 0));
	EXPECT(S0, -ETIMEDOUT, queue_push(S0, queue, ref, 10));
	/* Where it fails the caller keeps its hold, and the queue has what it had. */
	ck_assert_uint_eq(ref_own(ref), 1);
	ck_assert_ptr_null(hold_find(S0, ref));
	ck_assert_int_eq(object_refcount(S0, ref), 3);
	ck_assert_int_eq(object_refcount(S0, queue), 1);
	ck_assert_uint_eq(got, 7);
	MUST(S0, queue_pop(S0, queue, &got, 0));
	MUST(S0, queue_push(S0, queue, ref, 0));
}
END_TEST

START_TEST(of_one_place)
{
	uint64_t queue = new_queue(1), ref = fixture_bytes(S0, 1), got;

	for (int i = 0; i < 50; i++) {
		MUST(S0, queue_push(S0, queue, ref, -1));
		EXPECT(S1, -EPERM, queue_push(S1, queue, ref, 0)); /* not the pusher's to give, full or not */
		MUST(S0, queue_pop(S0, queue, &got, -1));
	}
}
END_TEST

START_TEST(who_holds_nothing_cannot_push)
{
	uint64_t queue = new_queue(2), ref = fixture_bytes(S1, 1);

	EXPECT(S0, -EPERM, queue_push(S0, queue, ref, 0));
	EXPECT(S0, -EPERM, queue_push(S0, queue, ref, -1));
	EXPECT(S0, -EINVAL, queue_push(S0, queue, 0, 0));
	ck_assert_uint_eq(queue_of(queue)->tail, 0);
	ck_assert_int_eq(object_refcount(S0, ref), 1);
}
END_TEST

/* Sender and receiver may hold the object besides, or be one and the same. */
START_TEST(held_besides)
{
	uint64_t queue = new_queue(3), ref = fixture_bytes(S0, 1), got;

	MUST(S0, object_incref(S0, ref));
	MUST(S0, queue_push(S0, queue, ref, 0));
	ck_assert_uint_eq(ref_own(ref), 1);
	ck_assert_ptr_null(hold_find(S0, ref));
	ck_assert_int_eq(object_refcount(S0, ref), 2);
	MUST(S1, object_incref(S1, ref));
	MUST(S1, queue_pop(S1, queue, &got, 0));
	ck_assert_uint_eq(hold_find(S1, ref)->count, 2);
	ck_assert_int_eq(object_refcount(S0, ref), 3);
	fixture_drop(S0, ref);
	fixture_drop(S1, ref);
	fixture_drop(S1, ref);
	ck_assert_int_eq((int)object_refcount(S0, ref), -ESTALE);
}
END_TEST

/* The right that is passed on is one of the table, where there is one, else the last or one of several of the header.
 */
START_TEST(held_by_header_or_by_table)
{
	uint64_t queue = new_queue(3), ref = fixture_bytes(S0, 1), got;

	MUST(S1, object_incref(S1, ref));
	MUST(S1, queue_push(S1, queue, ref, 0));
	ck_assert(!object_is_held(S1, ref));
	ck_assert_int_eq(object_refcount(S0, ref), 2);
	MUST(S0, queue_pop(S0, queue, &got, 0)); /* the owner holds it in both ways now */
	ck_assert_uint_eq(ref_own(ref), 1);
	ck_assert_uint_eq(hold_find(S0, ref)->count, 1);
	ck_assert_uint_eq(S0->entry->n_own_holds, 2); /* with the queue */
	MUST(S0, queue_push(S0, queue, ref, 0));
	ck_assert_uint_eq(ref_own(ref), 1);
	ck_assert_ptr_null(hold_find(S0, ref));
	MUST(S0, object_incref(S0, ref));
	MUST(S0, queue_push(S0, queue, ref, 0));
	ck_assert_uint_eq(ref_own(ref), 1);
	ck_assert_uint_eq(S0->entry->n_own_holds, 2);
	MUST(S0, queue_push(S0, queue, ref, 0));
	ck_assert_uint_eq(ref_own(ref), 0);
	ck_assert_uint_eq(S0->entry->n_own_holds, 1);
	EXPECT(S0, -EPERM, queue_push(S0, queue, ref, 0));
	ck_assert_uint_eq(ref_rights(ref), 3);
	for (uint64_t i = 1; i <= 3; i++) {
		MUST(S1, queue_pop(S1, queue, &got, 0));
		ck_assert_uint_eq(hold_find(S1, ref)->count, i);
		ck_assert_int_eq(object_refcount(S0, ref), 3);
		ck_assert_uint_eq(ref_rights(ref), 3 - i + 1); /* cells that are left, and the table */
	}
	for (int i = 0; i < 3; i++)
		fixture_drop(S1, ref);
	ck_assert_int_eq((int)object_refcount(S0, ref), -ESTALE);
	ck_assert_uint_eq(ref_state(ref), STATE_REMOTE_FREE);
}
END_TEST

START_TEST(freed_with_what_is_in_it)
{
	uint64_t queue = new_queue(1000), refs[10], list = fixture_list(S0, 1), got;

	for (int i = 0; i < 10; i++) {
		refs[i] = fixture_bytes(S0, 10);
		MUST(S0, queue_push(S0, queue, refs[i], 0));
	}
	MUST(S0, queue_pop(S0, queue, &got, 0));
	MUST(S0, list_set(S0, list, 0, refs[1]));
	MUST(S0, queue_push(S0, queue, list, 0));
	fixture_drop(S0, queue);
	EXPECT(S0, -ESTALE, queue_pop(S0, queue, &got, 0));
	EXPECT(S0, -ESTALE, queue_push(S0, queue, refs[0], -1));
	for (int i = 1; i < 10; i++)
		ck_assert_int_eq((int)object_refcount(S0, refs[i]), -ESTALE);
	ck_assert_int_eq((int)object_refcount(S0, list), -ESTALE);
	fixture_drop(S0, refs[0]);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

START_TEST(queue_of_queues)
{
	uint64_t outer = new_queue(2), inner = new_queue(2), ref = fixture_bytes(S0, 1), got;

	MUST(S0, queue_push(S0, inner, ref, 0));
	MUST(S0, queue_push(S0, outer, inner, 0));
	MUST(S1, queue_pop(S1, outer, &got, 0));
	ck_assert_uint_eq(got, inner);
	MUST(S1, queue_pop(S1, inner, &got, 0));
	ck_assert_uint_eq(got, ref);
}
END_TEST

/* In its sender's only hold, too: then who takes it out has it. */
START_TEST(queue_in_itself)
{
	uint64_t queue = new_queue(2), got;

	MUST(S0, queue_push(S0, queue, queue, 0));
	ck_assert(!object_is_held(S0, queue));
	ck_assert_int_eq(object_refcount(S0, queue), 1);
	MUST(S1, queue_pop(S1, queue, &got, 0));
	ck_assert_uint_eq(got, queue);
	fixture_drop(S1, queue);
	ck_assert_int_eq((int)object_refcount(S0, queue), -ESTALE);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

/* What the session is to look after first fails: then it goes under the lock, or is refused. */
START_TEST(attention_in_vain)
{
	uint64_t queue = new_queue(2), ref = fixture_bytes(S0, 1), got = 7;

	MUST(S0, object_incref(S0, queue)); /* it is known as an object used lately, not as a queue */
	__atomic_store_n(&fx.heap->control->ended, HEAP_ENDED, __ATOMIC_RELEASE);
	critical_request(fx.heap, S0->index, REQUEST_STRANGER);
	ck_assert_int_eq(queue_push(S0, queue, ref, 0), 0);
	ck_assert_int_eq(queue_pop(S0, queue, &got, 0), -EPIPE);
	ck_assert_uint_eq(got, 7);
}
END_TEST

START_TEST(sizes_of_queues)
{
	static const size_t lengths[] = {1, 2, 19, 20, 21, 500, 5000, 40000};
	uint64_t ref = fixture_bytes(S0, 1), got;

	for (size_t k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
		uint64_t queue = new_queue(lengths[k]);

		ck_assert_uint_eq(queue_of(queue)->n, lengths[k]);
		for (size_t i = 0; i < lengths[k]; i++) {
			ck_assert_int_eq(CALL(S0, object_incref(S0, ref)), 0);
			ck_assert_int_eq(queue_push(S0, queue, ref, 0), 0);
		}
		EXPECT(S0, -EAGAIN, queue_push(S0, queue, ref, 0));
		MUST(S0, queue_pop(S0, queue, &got, 0));
		fixture_drop(S0, ref);
		fixture_drop(S0, queue);
		ck_assert_int_eq(object_refcount(S0, ref), 1);
	}
}
END_TEST

START_TEST(no_waiting_under_the_lock)
{
	uint64_t queue = new_queue(1), ref = fixture_bytes(S0, 1), got;

	ck_assert_int_eq(session_lock(S0), 0);
	ck_assert_int_eq(queue_pop(S0, queue, &got, -1), -EDEADLK);
	ck_assert_int_eq(queue_pop(S0, queue, &got, 5), -EDEADLK);
	ck_assert_int_eq(queue_pop(S0, queue, &got, 0), -EAGAIN);
	ck_assert_int_eq(queue_push(S0, queue, ref, -1), 0); /* does not have to wait */
	ck_assert_int_eq(queue_pop(S0, queue, &got, -1), 0);
	ck_assert_int_eq(session_unlock(S0), 0);
	fixture_check();
}
END_TEST

START_TEST(damaged_queue)
{
	uint64_t queue = new_queue(3), ref = fixture_bytes(S0, 1), got = 7;
	struct queue *q = (struct queue *)(void *)ref_data(queue), good = *q;
	static const struct {
		uint64_t n, hint, stamp;
	} cases[] = {{0, 0, 0}, {4, 0, 0}, {UINT64_MAX, 0, 0}, {3, 3, 0}, {3, UINT64_MAX, 0}, {3, 6, 3}, {3, 0, 1},
		{3, 0, 4}, {3, 0, CELL_LAP_MASK - 2}, {3, 0, CELL_LAP_MASK / 2 + 1}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		q->n = cases[i].n, q->head = q->tail = cases[i].hint, q->cells[0].stamp = cases[i].stamp;
		ck_assert_int_eq(queue_push(S0, queue, ref, 0), -EUCLEAN);
		ck_assert_int_eq(queue_pop(S0, queue, &got, 0), -EUCLEAN);
	}
	q->n = good.n, q->head = q->tail = q->cells[0].stamp = 0;
	/* Each cell is ahead of the one before, around in a circle. */
	for (uint64_t i = 0; i < 3; i++)
		q->cells[i] = (struct cell){ref, i * ((CELL_LAP_MASK / 9 + 1) * 3)};
	ck_assert_int_eq(queue_push(S0, queue, ref, 0), -EUCLEAN);
	q->head = 1; /* not what is in cell 0 */
	ck_assert_int_eq(queue_pop(S0, queue, &got, 0), -EUCLEAN);
	q->head = 0;
	for (uint64_t i = 0; i < 3; i++)
		q->cells[i] = (struct cell){0, 0};
	ck_assert_uint_eq(ref_own(ref), 1);
	ck_assert_uint_eq(got, 7);
	MUST(S0, queue_push(S0, queue, ref, 0));
}
END_TEST

/* Of a queue that was used before it is known where it lies; that it is still the same is looked at. */
START_TEST(queue_known_and_gone)
{
	uint64_t queue = new_queue(3), ref = fixture_bytes(S0, 1), got;
	struct object object;

	for (int i = 0; i < 2; i++) {
		MUST(S0, queue_push(S0, queue, ref, 0));
		MUST(S0, queue_pop(S0, queue, &got, 0));
	}
	EXPECT(S0, -EAGAIN, queue_pop(S0, queue, &got, 0));
	ck_assert_ptr_eq(cache_object(S0->cache, queue)->queue, queue_of(queue));
	/* A repair, say, has put an end to it, though it was held. */
	ck_assert_int_eq(object_locate(fx.heap, ref_position(queue), &object), 0);
	object.header->word ^= UINT64_C(1) << REF_POSITION_BITS;
	ck_assert_int_eq(queue_push(S0, queue, ref, 0), -ESTALE);
	ck_assert_int_eq(CALL(S0, queue_pop(S0, queue, &got, 0)), -ESTALE);
	object.header->word ^= UINT64_C(1) << REF_POSITION_BITS;
	MUST(S0, queue_push(S0, queue, ref, 0));
	/* With the last hold it is forgotten, also where it lives on. */
	MUST(S1, object_incref(S1, queue));
	fixture_drop(S0, queue);
	ck_assert(cache_object(S0->cache, queue)->ref != queue);
	MUST(S0, queue_pop(S0, queue, &got, 0)); /* who knows its number may use it */
	fixture_drop(S1, queue);
	EXPECT(S0, -ESTALE, queue_pop(S0, queue, &got, 0));
}
END_TEST

/* ---- several processes ------------------------------------------------------------------------------------------- */

/* Run f(argument) in a child; it exits by what f returns. */
static pid_t start(int (*f)(uint64_t), uint64_t argument)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (!pid)
		_exit(f(argument));
	return pid;
}

static void finish(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}

/* Wait until somebody waits: it holds the queue then, and has set the flag. */
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
	uint64_t queue = new_queue(2), ref = fixture_bytes(S0, 1);
	pid_t pid = start(pop_one, queue);

	*ref_data(ref) = 42;
	until_waiting(queue, &queue_of(queue)->pop_waiting);
	MUST(S0, queue_push(S0, queue, ref, 0));
	finish(pid);
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
	uint64_t queue = new_queue(1), ref = fixture_bytes(S0, 1), got;
	pid_t pid;

	MUST(S0, queue_push(S0, queue, ref, 0));
	pid = start(push_one, queue);
	until_waiting(queue, &queue_of(queue)->push_waiting);
	MUST(S0, queue_pop(S0, queue, &got, 0));
	ck_assert_uint_eq(got, ref);
	MUST(S0, queue_pop(S0, queue, &got, -1));
	ck_assert_uint_eq(*ref_data(got), 43);
	finish(pid);
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

/* Who has the lock between calls finds queues as it left them. */
START_TEST(kept_from_changing)
{
	uint64_t queue = new_queue(2), ref = fixture_bytes(S0, 1), got;
	uint64_t n_waits = fx.heap->control->figures.n_lock_waits;
	pid_t pid;

	fixture_drop(S1, fixture_bytes(S1, 1)); /* it needs the lock for nothing else */
	MUST(S1, object_incref(S1, queue));
	ck_assert_int_eq(session_lock(S0), 0);
	ck_assert_uint_eq(fx.heap->control->queues_paused_by1, S0->index + 1);
	pid = start(push_held, queue);
	while (!S1->entry->intent.word) /* it has come to where it is kept out */
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	ck_assert_int_eq(queue_push(S0, queue, ref, 0), 0);
	ck_assert_int_eq(queue_pop(S0, queue, &got, 0), 0);
	ck_assert_uint_eq(got, ref);
	ck_assert_int_eq(queue_pop(S0, queue, &got, 0), -EAGAIN);
	ck_assert_int_eq(session_unlock(S0), 0);
	ck_assert_uint_eq(fx.heap->control->queues_paused_by1, 0);
	finish(pid);
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

/* The dead keep nobody. */
START_TEST(keeper_killed)
{
	uint64_t queue = new_queue(2), ref = fixture_bytes(S0, 1), got;
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
	uint64_t queue = new_queue(1);
	pid_t pid = start(pop_until_ended, queue);

	until_waiting(queue, &queue_of(queue)->pop_waiting);
	__atomic_store_n(&fx.heap->control->ended, HEAP_ENDED, __ATOMIC_RELEASE);
	finish(pid);
}
END_TEST

/* A sleeper that is killed harms nobody; the next one is woken all the same. */
START_TEST(sleeper_killed)
{
	uint64_t queue = new_queue(1), ref = fixture_bytes(S0, 1);
	pid_t pid = start(pop_one, queue);
	int r;

	*ref_data(ref) = 42;
	until_waiting(queue, &queue_of(queue)->pop_waiting);
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
	finish(pid);
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

	shared_queue = new_queue(3);
	shared_sums = fixture_bytes(S0, 16);
	memset(ref_data(shared_sums), 0, 16);
	warm = fixture_bytes(S0, sizeof(struct message)); /* there is an arena with room for all of them */
	for (uint64_t i = 0; i < 4; i++)
		pids[i] = start(i < 2 ? send_many : receive_many, i);
	for (int i = 0; i < 4; i++)
		finish(pids[i]);
	fixture_check();
	for (int i = 0; i < 2; i++)
		ck_assert_uint_eq(((const uint64_t *)(const void *)ref_data(shared_sums))[i], n * (n + 1) / 2);
	ck_assert_uint_eq(queue_of(shared_queue)->tail - queue_of(shared_queue)->head, 0);
	ck_assert_uint_eq(fixture_stats().classes[0].n_used, 1);
	fixture_drop(S0, warm);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("queue");
	TCase *t = tcase_create("queue");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, first_in_first_out);
	tcase_add_test(t, full_and_empty);
	tcase_add_test(t, of_one_place);
	tcase_add_test(t, who_holds_nothing_cannot_push);
	tcase_add_test(t, held_besides);
	tcase_add_test(t, held_by_header_or_by_table);
	tcase_add_test(t, freed_with_what_is_in_it);
	tcase_add_test(t, queue_of_queues);
	tcase_add_test(t, queue_in_itself);
	tcase_add_test(t, attention_in_vain);
	tcase_add_test(t, sizes_of_queues);
	tcase_add_test(t, no_waiting_under_the_lock);
	tcase_add_test(t, damaged_queue);
	tcase_add_test(t, queue_known_and_gone);
	tcase_add_test(t, receiver_sleeps_until_a_push);
	tcase_add_test(t, sender_sleeps_until_a_pop);
	tcase_add_test(t, kept_from_changing);
	tcase_add_test(t, keeper_killed);
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
