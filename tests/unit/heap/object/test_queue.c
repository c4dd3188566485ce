// SPDX-License-Identifier: MIT
/*
 * Queues: order, cells, handing over of rights, damage
 *
 * Waiting and pausing, between processes: test_queue_wait.c.
 */
#include "heap/shared/critical.h"
#include "tests/unit/heap/fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

START_TEST(first_in_first_out)
{
	uint64_t queue = fixture_queue(5), refs[5], got;

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
	uint64_t queue = fixture_queue(2), ref = fixture_bytes(S0, 1), got = 7;

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

START_TEST(of_one_cell)
{
	uint64_t queue = fixture_queue(1), ref = fixture_bytes(S0, 1), got;

	for (int i = 0; i < 50; i++) {
		MUST(S0, queue_push(S0, queue, ref, -1));
		EXPECT(S1, -EPERM,
			queue_push(
				S1, queue, ref, 0)); /* the pusher does not hold it, whether the queue is full or not */
		MUST(S0, queue_pop(S0, queue, &got, -1));
	}
}
END_TEST

START_TEST(who_holds_nothing_cannot_push)
{
	uint64_t queue = fixture_queue(2), ref = fixture_bytes(S1, 1);

	EXPECT(S0, -EPERM, queue_push(S0, queue, ref, 0));
	EXPECT(S0, -EPERM, queue_push(S0, queue, ref, -1));
	EXPECT(S0, -EINVAL, queue_push(S0, queue, 0, 0));
	ck_assert_uint_eq(ref_queue(queue)->tail, 0);
	ck_assert_int_eq(object_refcount(S0, ref), 1);
}
END_TEST

/* Sender and receiver may hold the object besides, or be the same session. */
START_TEST(held_besides)
{
	uint64_t queue = fixture_queue(3), ref = fixture_bytes(S0, 1), got;

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

/* The right that is passed on is one of the table's holds where there is one, else one of the header's. */
START_TEST(held_by_header_or_by_table)
{
	uint64_t queue = fixture_queue(3), ref = fixture_bytes(S0, 1), got;

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
	uint64_t queue = fixture_queue(1000), refs[10], list = fixture_list(S0, 1), got;

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
	uint64_t outer = fixture_queue(2), inner = fixture_queue(2), ref = fixture_bytes(S0, 1), got;

	MUST(S0, queue_push(S0, inner, ref, 0));
	MUST(S0, queue_push(S0, outer, inner, 0));
	MUST(S1, queue_pop(S1, outer, &got, 0));
	ck_assert_uint_eq(got, inner);
	MUST(S1, queue_pop(S1, inner, &got, 0));
	ck_assert_uint_eq(got, ref);
}
END_TEST

/* A queue in itself, by its only hold: the session that pops it holds it. */
START_TEST(queue_in_itself)
{
	uint64_t queue = fixture_queue(2), got;

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

/* Serving a request fails: then the push goes under the lock, or fails. */
START_TEST(requests_fail)
{
	uint64_t queue = fixture_queue(2), ref = fixture_bytes(S0, 1), got = 7;

	MUST(S0, object_incref(S0, queue)); /* it is in the cache as an object, not as a queue */
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
		uint64_t queue = fixture_queue(lengths[k]);

		ck_assert_uint_eq(ref_queue(queue)->n, lengths[k]);
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
	uint64_t queue = fixture_queue(1), ref = fixture_bytes(S0, 1), got;

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
	uint64_t queue = fixture_queue(3), ref = fixture_bytes(S0, 1), got = 7;
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

/* The cache has where a queue lies; that it is still the same queue is checked. */
START_TEST(queue_known_and_gone)
{
	uint64_t queue = fixture_queue(3), ref = fixture_bytes(S0, 1), got;
	struct object object;

	for (int i = 0; i < 2; i++) {
		MUST(S0, queue_push(S0, queue, ref, 0));
		MUST(S0, queue_pop(S0, queue, &got, 0));
	}
	EXPECT(S0, -EAGAIN, queue_pop(S0, queue, &got, 0));
	ck_assert_ptr_eq(cache_object(S0->cache, queue)->queue, ref_queue(queue));
	/* A repair has freed it, though it was held. */
	ck_assert_int_eq(object_locate(fx.heap, ref_position(queue), &object), 0);
	object.header->word ^= UINT64_C(1) << REF_POSITION_BITS;
	ck_assert_int_eq(queue_push(S0, queue, ref, 0), -ESTALE);
	ck_assert_int_eq(CALL(S0, queue_pop(S0, queue, &got, 0)), -ESTALE);
	object.header->word ^= UINT64_C(1) << REF_POSITION_BITS;
	MUST(S0, queue_push(S0, queue, ref, 0));
	/* The last drop takes it out of the cache, also where others hold it. */
	MUST(S1, object_incref(S1, queue));
	fixture_drop(S0, queue);
	ck_assert(cache_object(S0->cache, queue)->ref != queue);
	MUST(S0, queue_pop(S0, queue, &got, 0)); /* any session may use it by its ref */
	fixture_drop(S1, queue);
	EXPECT(S0, -ESTALE, queue_pop(S0, queue, &got, 0));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("queue");
	TCase *t = tcase_create("queue");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, first_in_first_out);
	tcase_add_test(t, full_and_empty);
	tcase_add_test(t, of_one_cell);
	tcase_add_test(t, who_holds_nothing_cannot_push);
	tcase_add_test(t, held_besides);
	tcase_add_test(t, held_by_header_or_by_table);
	tcase_add_test(t, freed_with_what_is_in_it);
	tcase_add_test(t, queue_of_queues);
	tcase_add_test(t, queue_in_itself);
	tcase_add_test(t, requests_fail);
	tcase_add_test(t, sizes_of_queues);
	tcase_add_test(t, no_waiting_under_the_lock);
	tcase_add_test(t, damaged_queue);
	tcase_add_test(t, queue_known_and_gone);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
