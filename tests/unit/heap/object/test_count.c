// SPDX-License-Identifier: MIT
/*
 * Holding and dropping without the lock: when the lock is not needed, what is counted, what is refused
 *
 * Remote frees by such drops: test_count_remote_free.c. What one session has begun and another finds:
 * test_count_stopped.c.
 */
#include "heap/change/intent.h"
#include "heap/shared/critical.h"
#include "tests/unit/heap/fixture_count.h"

/* Without the lock. */

static const struct {
	uint32_t type;
	size_t size;
} kinds[] = {
	{TYPE_BYTES, 40},
	{TYPE_BYTES, 3 * POOL_SIZE},
	{TYPE_BYTES, 20 * POOL_SIZE},
	{TYPE_BYTES, 2 * ARENA_SIZE_DEFAULT},
	{TYPE_LIST, 80},
	{TYPE_LIST, 2 * POOL_SIZE},
	{TYPE_LIST, 9 * POOL_SIZE},
	{TYPE_QUEUE, 4},
	{TYPE_QUEUE, 1000},
};

START_TEST(without_the_lock_of_each_kind)
{
	struct session_entry *entry = S1->entry;
	uint64_t ref = 0;

	if (kinds[_i].type == TYPE_QUEUE)
		MUST(S0, queue_new(S0, kinds[_i].size, &ref));
	else
		ref = fixture_new(S0, kinds[_i].type, kinds[_i].size);
	share(ref);
	for (int i = 0; i < 3; i++) {
		WITHOUT_LOCK(object_incref(S1, ref));
		expect_header(ref, COUNTED(1), S1->owner1);
		ck_assert_uint_eq(hold_find(S1, ref)->count, 1);
		ck_assert_uint_eq(entry->n_holds, 1);
		ck_assert_int_eq(object_refcount(S2, ref), 2);
		expect_through(S1);
		WITHOUT_LOCK(object_incref(S1, ref));
		expect_header(ref, COUNTED(1), S1->owner1);
		ck_assert_uint_eq(hold_find(S1, ref)->count, 2);
		ck_assert_uint_eq(entry->n_holds, 1);
		ck_assert_int_eq(object_refcount(S2, ref), 3);
		if (i == 1)
			memset(S1->cache, 0, sizeof(*S1->cache)); /* and where it knows nothing of it */
		WITHOUT_LOCK(object_decref(S1, ref));
		WITHOUT_LOCK(object_decref(S1, ref));
		expect_header(ref, COUNTED(0), S1->owner1);
		ck_assert_ptr_null(hold_find(S1, ref));
		ck_assert_uint_eq(entry->n_holds, 0);
		ck_assert_int_eq(object_refcount(S2, ref), 1);
		expect_through(S1);
	}
	ck_assert_int_eq(object_decref(S1, ref), -EPERM);
	fixture_drop(S0, ref);
	fixture_expect_empty();
}
END_TEST

/* Besides rights that the owner gave away, and its own hold. */
START_TEST(beside_others)
{
	uint64_t ref = shared(40), queue, got;

	MUST(S0, queue_new(S0, 4, &queue));
	MUST(S0, object_incref(S0, ref));
	MUST(S0, queue_push(S0, queue, ref, 0));
	ck_assert_uint_eq(ref_header(ref)->rights_given, 1);
	WITHOUT_LOCK(object_incref(S1, ref));
	expect_header(ref, COUNTED(1), S1->owner1);
	ck_assert_uint_eq(ref_header(ref)->rights_given, 1);
	MUST(S2, queue_pop(S2, queue, &got, 0));
	WITHOUT_LOCK(object_decref(S1, ref));
	expect_header(ref, COUNTED(0), S1->owner1);
	ck_assert_uint_eq(ref_rights(ref), 1);
	BY_LOCK(object_decref(S2, ref)); /* it is biased to S1: counted is less than nothing now */
	expect_header(ref, COUNTED(RIGHTS_MAX), 0);
	ck_assert_uint_eq(ref_rights(ref), 0);
	WITHOUT_LOCK(object_incref(S1, ref));
	expect_header(ref, COUNTED(0), S1->owner1);
	ck_assert_int_eq(object_refcount(S0, ref), 2);
	fixture_drop(S0, ref);
	WITHOUT_LOCK(object_incref(S1, ref)); /* nobody else has a right to it */
	WITHOUT_LOCK(object_decref(S1, ref));
	fixture_drop(S1, ref);
	ck_assert_uint_eq(ref_state(ref), STATE_REMOTE_FREE);
	ck_assert_uint_eq(ref_header(ref)->rights, RIGHTS_SHARED);
	fixture_drop(S0, queue);
	fixture_expect_empty();
}
END_TEST

/* Two that were given away, and no more: one goes, then the last. */
START_TEST(given_and_dropped)
{
	uint64_t ref = fixture_bytes(S0, 40), queue, got;

	MUST(S0, queue_new(S0, 4, &queue));
	MUST(S1, object_incref(S1, queue));
	MUST(S2, object_incref(S2, queue));
	MUST(S0, object_incref(S0, ref));
	for (int i = 0; i < 2; i++)
		MUST(S0, queue_push(S0, queue, ref, 0));
	MUST(S1, queue_pop(S1, queue, &got, 0));
	MUST(S2, queue_pop(S2, queue, &got, 0));
	ck_assert_uint_eq(ref_header(ref)->rights_given, 2);
	ck_assert_uint_eq(ref_header(ref)->rights_counted, 0); /* rights_given alone says that others know it */
	WITHOUT_LOCK(object_decref(S1, ref));
	expect_header(ref, COUNTED(RIGHTS_MAX), S1->owner1);
	ck_assert_uint_eq(ref_rights(ref), 1);
	ck_assert_int_eq(object_refcount(S0, ref), 1);
	BY_LOCK(object_decref(S2, ref));
	ck_assert_uint_eq(ref_state(ref), STATE_REMOTE_FREE);
	ck_assert_uint_eq(ref_header(ref)->rights, RIGHTS_SHARED);
	fixture_drop(S1, queue);
	fixture_drop(S2, queue);
	fixture_drop(S0, queue);
	fixture_expect_empty();
}
END_TEST

/* The owner's holds beyond what the header word counts are in its table. */
START_TEST(own_beyond_the_word)
{
	uint64_t ref = _i ? shared(40) : fixture_bytes(S0, 40);

	for (uint64_t i = 1; i < OWN_HOLDS_MAX; i++)
		ck_assert_int_eq(object_incref(S0, ref), 0);
	if (_i)
		WITHOUT_LOCK(object_incref(S0, ref));
	else
		BY_LOCK(object_incref(S0, ref));
	expect_header(ref, COUNTED(1), _i ? S0->owner1 : 0);
	ck_assert_uint_eq(ref_own(ref), OWN_HOLDS_MAX);
	ck_assert_uint_eq(hold_find(S0, ref)->count, 1);
	for (uint64_t i = 0; i < OWN_HOLDS_MAX; i++)
		WITHOUT_LOCK(object_decref(S0, ref));
	ck_assert_int_eq(object_refcount(S0, ref), 1);
	fixture_drop(S0, ref);
	ck_assert_int_eq((int)object_refcount(S0, ref), -ESTALE);
	fixture_expect_empty();
}
END_TEST

START_TEST(table_in_a_run)
{
	enum { N = 70 };
	uint64_t refs[N], n_quick = 0, n_others = 0;

	for (int i = 0; i < N; i++)
		refs[i] = shared(40);
	for (int i = 0; i < N; i++) {
		bool is_in_run = S1->entry->holds_position1;
		uint64_t before = n_taken();

		ck_assert_int_eq(CALL(S1, object_incref(S1, refs[i])), 0);
		ck_assert_uint_eq(n_taken() == before, is_in_run == !!S1->entry->holds_position1);
		expect_header(refs[i], COUNTED(1), S1->owner1);
		ck_assert_uint_eq(hold_find(S1, refs[i])->count, 1);
		ck_assert_uint_eq(S1->entry->n_holds, (uint32_t)i + 1);
		fixture_check();
	}
	ck_assert_uint_ne(S1->entry->holds_position1, 0);
	for (int i = 0; i < N / 3; i++) {
		if (hold_stands_last(S1, hold_find(S1, refs[i]))) {
			WITHOUT_LOCK(object_decref(S1, refs[i]));
			WITHOUT_LOCK(object_incref(S1, refs[i]));
			WITHOUT_LOCK(object_decref(S1, refs[i]));
			n_quick++;
		} else {
			BY_LOCK(object_decref(S1, refs[i]));
			n_others++;
		}
		ck_assert_ptr_null(hold_find(S1, refs[i]));
		ck_assert_uint_eq(S1->entry->n_holds, (uint32_t)(N - 1 - i));
	}
	ck_assert_uint_gt(n_quick, n_others);
	for (int i = N / 3; i < N; i++)
		fixture_drop(S1, refs[i]);
	ck_assert_uint_eq(S1->entry->holds_position1, 0);
	for (int i = 0; i < N; i++)
		fixture_drop(S0, refs[i]);
	fixture_expect_empty();
}
END_TEST

/* Where removing a hold from the table would move another one, the drop takes the lock. */
START_TEST(stands_before_another)
{
	enum { N = 100 };
	uint64_t refs[N], first = 0, second = 0;

	for (int i = 0; i < N; i++) {
		refs[i] = shared(40);
		for (int k = 0; k < i && !second; k++) {
			if (hold_slot(refs[k], HOLDS_INLINE) != hold_slot(refs[i], HOLDS_INLINE))
				continue;
			first = refs[k];
			second = refs[i];
		}
	}
	ck_assert_uint_ne(second, 0);
	WITHOUT_LOCK(object_incref(S1, first));
	WITHOUT_LOCK(object_incref(S1, second));
	ck_assert_ptr_eq(hold_find(S1, second), hold_find(S1, first) + 1);
	BY_LOCK(object_decref(S1, first));
	ck_assert_uint_eq(hold_find(S1, second)->ref, second);
	ck_assert_uint_eq(S1->entry->n_holds, 1);
	expect_header(first, COUNTED(0), 0);
	expect_header(second, COUNTED(1), S1->owner1);
	WITHOUT_LOCK(object_decref(S1, second));
}
END_TEST

/* Under the lock. */

START_TEST(first_stranger)
{
	uint64_t ref = fixture_bytes(S0, 40);

	BY_LOCK(object_incref(S1, ref));
	expect_header(ref, COUNTED(1), 0);
	ck_assert_uint_eq(S0->entry->requests, REQUEST_STRANGER);
	WITHOUT_LOCK(object_decref(S1, ref));
	expect_header(ref, COUNTED(0), S1->owner1);
	WITHOUT_LOCK(object_incref(S1, ref));
}
END_TEST

START_TEST(biased_to_another)
{
	uint64_t ref = shared(40);

	WITHOUT_LOCK(object_incref(S2, ref));
	BY_LOCK(object_incref(S1, ref));
	expect_header(ref, COUNTED(2), 0);
	WITHOUT_LOCK(object_decref(S2, ref));
	expect_header(ref, COUNTED(1), S2->owner1);
	BY_LOCK(object_decref(S1, ref));
	expect_header(ref, COUNTED(0), 0);
	WITHOUT_LOCK(object_incref(S1, ref));
	BY_LOCK(object_incref(S2, ref));
	expect_header(ref, COUNTED(2), 0);
	WITHOUT_LOCK(object_decref(S1, ref));
	BY_LOCK(object_decref(S2, ref));
	/* nor does it matter that the other one is no session */
	ref_header(ref)->biased1 = BIAS_UNCOUNTED - 1;
	BY_LOCK(object_incref(S1, ref));
	expect_header(ref, COUNTED(1), 0);
	ck_assert_uint_eq(S1->entry->done_counting, 0);
	ck_assert_uint_eq(S2->entry->done_counting, 0);
}
END_TEST

/* The next session with the entry of the dead one is the one that it is biased to. */
START_TEST(biased_to_a_dead_one)
{
	struct session next;
	uint64_t ref = shared(40);

	WITHOUT_LOCK(object_incref(S1, ref));
	WITHOUT_LOCK(object_incref(S1, ref));
	fixture_bury(S1);
	ck_assert_uint_eq(ref_rights(ref), 0);
	ref_header(ref)->biased1 = (uint16_t)S1->owner1;
	ck_assert_int_eq(fixture_admit(fx.heap, &next), 0);
	ck_assert_uint_eq(next.index, S1->index);
	WITHOUT_LOCK(object_incref(&next, ref));
	expect_header(ref, COUNTED(1), next.owner1);
	BY_LOCK(object_incref(S2, ref));
	ck_assert_uint_eq(next.entry->done_counting, 0);
}
END_TEST

/* Another session has the lock between its calls; its hold counts nevertheless. */
START_TEST(lock_is_another_session_s)
{
	uint64_t ref = shared(40);

	fx.heap->control->queues_paused_by1 = S2->owner1;
	BY_LOCK(object_incref(S1, ref));
	expect_header(ref, COUNTED(1), 0);
	expect_through(S1);
	ck_assert_uint_eq(fx.heap->control->queues_paused_by1, 0);
	fx.heap->control->queues_paused_by1 = S2->owner1;
	BY_LOCK(object_decref(S1, ref));
	expect_header(ref, COUNTED(0), 0);
	expect_through(S1);
}
END_TEST

/* It has the lock itself. */
START_TEST(lock_is_its_own)
{
	uint64_t ref = shared(40);

	ck_assert_int_eq(session_lock(S1), 0);
	ck_assert_int_eq(object_incref(S1, ref), 0);
	expect_header(ref, COUNTED(1), 0);
	ck_assert_int_eq(session_unlock(S1), 0);
	fixture_check();
	WITHOUT_LOCK(object_decref(S1, ref));
	WITHOUT_LOCK(object_incref(S1, ref));
	ck_assert_int_eq(session_lock(S1), 0);
	ck_assert_int_eq(object_decref(S1, ref), 0);
	expect_header(ref, COUNTED(0), 0);
	ck_assert_int_eq(session_unlock(S1), 0);
	fixture_check();
}
END_TEST

/* The session has a request: it serves that first, and then goes on without the lock. */
START_TEST(serves_requests_first)
{
	uint64_t ref = shared(40);

	for (int i = 0; i < 2; i++) {
		critical_request(fx.heap, S1->index, REQUEST_COLLECT);
		BY_LOCK(i ? object_decref(S1, ref) : object_incref(S1, ref));
		ck_assert_uint_eq(S1->entry->requests, 0);
		expect_header(ref, COUNTED(!i), S1->owner1);
		expect_through(S1);
	}
	fx.heap->control->ended = HEAP_ENDED;
	critical_request(fx.heap, S1->index, REQUEST_ENDED);
	(void)object_incref(S1, ref);
	expect_through(S1);
	ck_assert_uint_eq(S1->entry->requests, REQUEST_ENDED);
	fx.heap->control->ended = 0;
}
END_TEST

/* The last right to objects other than blocks of bytes in owned pools goes under the lock. */
START_TEST(last_of_another_kind)
{
	uint64_t ref = 0, child = fixture_bytes(S0, 8);

	if (kinds[_i].type == TYPE_QUEUE)
		MUST(S0, queue_new(S0, kinds[_i].size, &ref));
	else
		ref = fixture_new(S0, kinds[_i].type, kinds[_i].size);
	share(ref);
	if (kinds[_i].type == TYPE_LIST)
		MUST(S0, list_set(S0, ref, 0, child));
	WITHOUT_LOCK(object_incref(S1, ref));
	fixture_drop(S0, ref);
	expect_header(ref, COUNTED(1), 0);
	BY_LOCK(object_decref(S1, ref));
	ck_assert_int_eq((int)object_refcount(S2, ref), -ESTALE);
	ck_assert_int_eq(object_refcount(S2, child), 1);
	ck_assert_uint_eq(
		S1->entry->n_blocks_returned, kinds[_i].type == TYPE_BYTES && kinds[_i].size <= MEDIUM_SIZE_MAX);
	fixture_drop(S0, child);
	fixture_expect_empty();
}
END_TEST

START_TEST(last_where_nobody_owns)
{
	uint64_t ref = passed_to(S1, 40), other = passed_to(S1, 40);

	MUST(S1, object_incref(S1, ref));
	MUST(S2, object_incref(S2, ref));
	/* S0 goes, but for the place that the fixture checks with */
	for (int r = 1; r == 1;) {
		r = session_drop_step(S0, false);
		ck_assert_int_ge(r, 0);
	}
	ck_assert_uint_eq(ref_pool(ref)->owner1, 0);
	WITHOUT_LOCK(object_decref(S2, ref)); /* not the last */
	WITHOUT_LOCK(object_decref(S1, ref)); /* held once more than once */
	BY_LOCK(object_decref(S1, ref));
	ck_assert_uint_eq(ref_state(ref), STATE_FREE);
	ck_assert_uint_eq(ref_header(ref)->rights, 0);
	ck_assert_uint_eq(ref_pool(ref)->n_used, 1);
	BY_LOCK(object_decref(S1, other));
	ck_assert_uint_eq(ref_pool(other)->kind, POOL_FREE);
	ck_assert_uint_eq(S1->entry->n_blocks_returned, 0);
}
END_TEST

/* Refused. */

START_TEST(too_many)
{
	uint64_t ref = shared(40);
	struct object_header *header = ref_header(ref);
	uint16_t given = _i ? 5 : 0;
	uint64_t rights;

	header->rights_given = given;
	header->rights_counted = COUNTED(RIGHTS_MAX - given);
	header->biased1 = (uint16_t)S1->owner1;
	rights = header->rights;
	ck_assert_uint_eq(rights_count(rights), RIGHTS_MAX);
	ck_assert_int_eq(object_incref(S1, ref), -EOVERFLOW);
	header->biased1 = (uint16_t)S1->owner1;
	ck_assert_uint_eq(header->rights, rights);
	ck_assert_ptr_null(hold_find(S1, ref));
	ck_assert_uint_eq(S1->entry->n_holds, 0);
	expect_through(S1);
	header->rights_counted -= RIGHTS_ONE; /* one more goes */
	ck_assert_int_eq(object_incref(S1, ref), 0);
	ck_assert_uint_eq(header->rights, rights);
	ck_assert_int_eq(object_incref(S2, ref), -EOVERFLOW);
	ck_assert_int_eq(object_incref(S1, ref), 0);
	ck_assert_int_eq(object_decref(S1, ref), 0);
	ck_assert_int_eq(object_decref(S1, ref), 0);
	header->rights = RIGHTS_SHARED;
	fixture_check();
}
END_TEST

START_TEST(too_often)
{
	uint64_t ref = shared(40);

	WITHOUT_LOCK(object_incref(S1, ref));
	hold_find(S1, ref)->count = UINT32_MAX;
	ck_assert_int_eq(object_incref(S1, ref), -EOVERFLOW);
	ck_assert_uint_eq(hold_find(S1, ref)->count, UINT32_MAX);
	expect_header(ref, COUNTED(1), S1->owner1);
	WITHOUT_LOCK(object_decref(S1, ref));
	ck_assert_uint_eq(hold_find(S1, ref)->count, UINT32_MAX - 1);
	hold_find(S1, ref)->count = 1;
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("count");
	TCase *t = tcase_create("count");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, without_the_lock_of_each_kind, 0, (int)(sizeof(kinds) / sizeof(kinds[0])));
	tcase_add_test(t, beside_others);
	tcase_add_test(t, given_and_dropped);
	tcase_add_loop_test(t, own_beyond_the_word, 0, 2);
	tcase_add_test(t, table_in_a_run);
	tcase_add_test(t, stands_before_another);
	tcase_add_test(t, first_stranger);
	tcase_add_test(t, biased_to_another);
	tcase_add_test(t, biased_to_a_dead_one);
	tcase_add_test(t, lock_is_another_session_s);
	tcase_add_test(t, lock_is_its_own);
	tcase_add_test(t, serves_requests_first);
	tcase_add_loop_test(t, last_of_another_kind, 0, (int)(sizeof(kinds) / sizeof(kinds[0])));
	tcase_add_test(t, last_where_nobody_owns);
	tcase_add_loop_test(t, too_many, 0, 2);
	tcase_add_test(t, too_often);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
