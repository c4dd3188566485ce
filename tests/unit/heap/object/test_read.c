// SPDX-License-Identifier: MIT
/*
 * Places read without the lock, and uncounted holds: what is counted, who ends the object, what a change under way
 * looks like, what the dead leave
 *
 * What one session has begun and another finds is stored by hand here, as it is between two stores. Kills at each
 * instruction: tests/crash; all orders: tests/model/read.pml.
 */
#include "heap/change/intent.h"
#include "heap/object/displaced.h"
#include "heap/object/readers.h"
#include "heap/object/right.h"
#include "heap/object/uncounted.h"
#include "heap/shared/critical.h"
#include "tests/unit/heap/fixture_count.h"

/* A list of S0's that S1 and S2 hold too. */
static uint64_t held_list(size_t n)
{
	uint64_t list = fixture_list(S0, n);

	MUST(S1, object_incref(S1, list));
	MUST(S2, object_incref(S2, list));
	return list;
}

/* An object that only slot i of the list has a right to. */
static uint64_t in_slot(uint64_t list, uint64_t i, uint64_t ref)
{
	MUST(S0, list_set(S0, list, i, ref));
	fixture_drop(S0, ref);
	return ref;
}

static void drop_lists(uint64_t list)
{
	fixture_drop(S1, list);
	fixture_drop(S2, list);
	fixture_drop(S0, list);
	fixture_expect_empty();
}

static void get(struct session *session, uint64_t list, uint64_t i, uint64_t want)
{
	uint64_t got = 7;

	WITHOUT_LOCK(list_get(session, list, i, &got));
	ck_assert_uint_eq(got, want);
	expect_through(session);
}

/* While the lock is taken: the calls would answer -EDEADLK if they wanted it. */
static void get_now(struct session *session, uint64_t list, uint64_t i, uint64_t want)
{
	uint64_t got = 7;

	ck_assert_int_eq(list_get(session, list, i, &got), 0);
	ck_assert_uint_eq(got, want);
	if (want)
		ck_assert_int_eq(object_decref(session, want), 0);
}

static const struct {
	uint32_t type;
	size_t size;
} kinds[] = {
	{TYPE_BYTES, 40},
	{TYPE_BYTES, 3 * POOL_SIZE},
	{TYPE_BYTES, 2 * ARENA_SIZE_DEFAULT},
	{TYPE_LIST, 80},
	{TYPE_LIST, 2 * POOL_SIZE},
};

START_TEST(each_kind)
{
	uint64_t list = held_list(2), ref = in_slot(list, 1, fixture_new(S0, kinds[_i].type, kinds[_i].size));

	for (int i = 0; i < 2; i++) {
		get(S1, list, 1, ref);
		expect_header(ref, COUNTED(1), BIAS_READERS);
		ck_assert_uint_eq(hold_find(S1, ref)->how, HOLD_ONCE_UNCOUNTED);
		ck_assert_int_eq(object_refcount(S2, ref), 2);
		get(S1, list, 1, ref);
		ck_assert_uint_eq(hold_find(S1, ref)->count, 2);
		get(S2, list, 1, ref);
		ck_assert_int_eq(object_refcount(S2, ref), 4);
		WITHOUT_LOCK(object_decref(S1, ref));
		WITHOUT_LOCK(object_decref(S2, ref));
		if (i == 1)
			memset(S1->cache, 0, sizeof(*S1->cache)); /* and where it knows nothing of it */
		WITHOUT_LOCK(object_decref(S1, ref));
		expect_through(S1);
		ck_assert_ptr_null(hold_find(S1, ref));
		ck_assert_int_eq(object_refcount(S2, ref), 1);
	}
	ck_assert_int_eq(object_decref(S1, ref), -EPERM);
	drop_lists(list);
}
END_TEST

START_TEST(struct_slot)
{
	static const size_t slots[] = {8};
	uint64_t obj, ref = fixture_bytes(S0, 40), got = 7;
	uint32_t type;

	MUST(S0, type_register(S0, &(struct type_spec){"one", 32, 0, 1, slots}, &type));
	obj = fixture_new(S0, type, 32);
	MUST(S0, slot_set(S0, obj, 8, ref));
	MUST(S1, object_incref(S1, obj));
	WITHOUT_LOCK(slot_get(S1, obj, 8, &got));
	ck_assert_uint_eq(got, ref);
	ck_assert_int_eq(slot_get(S1, obj, 16, &got), -EINVAL);
	expect_through(S1);
	fixture_drop(S1, ref);
	fixture_drop(S1, obj);
	fixture_drop(S0, obj);
	fixture_drop(S0, ref);
	fixture_expect_empty();
}
END_TEST

START_TEST(nothing_there)
{
	uint64_t list = held_list(2), got = 7;

	get(S1, list, 0, 0);
	ck_assert_int_eq(list_get(S1, list, 2, &got), -ERANGE);
	ck_assert_int_eq(list_get(S3, list, 2, &got), -ERANGE);
	BY_LOCK(list_get(S3, list, 0, &got)); /* a session that does not hold the list takes the lock */
	ck_assert_uint_eq(got, 0);
	drop_lists(list);
}
END_TEST

/* The owner of its pool, which holds it by the word or not at all. */
START_TEST(own_object)
{
	uint64_t list = held_list(1), ref = fixture_bytes(S0, 40);

	MUST(S0, list_set(S0, list, 0, ref));
	get(S0, list, 0, ref);
	ck_assert_uint_eq(ref_own(ref), 2);
	ck_assert_ptr_null(hold_find(S0, ref));
	fixture_drop(S0, ref);
	fixture_drop(S0, ref);
	get(S0, list, 0, ref);
	ck_assert_uint_eq(ref_own(ref), 0);
	ck_assert_uint_eq(hold_find(S0, ref)->how, HOLD_ONCE_UNCOUNTED);
	ck_assert_int_eq(object_refcount(S2, ref), 2);
	MUST(S0, list_set(S0, list, 0, 0));
	ck_assert_int_eq(object_refcount(S2, ref), 1);
	fixture_drop(S0, ref);
	fixture_expect_gone(ref);
	drop_lists(list);
}
END_TEST

/* What has been counted by a bias goes on under the lock. */
START_TEST(biased_before)
{
	uint64_t list = held_list(1), ref = in_slot(list, 0, fixture_bytes(S0, 40)), got;

	WITHOUT_LOCK(object_incref(S1, ref)); /* takes the bias */
	expect_header(ref, COUNTED(2), S1->owner1);
	BY_LOCK(list_get(S2, list, 0, &got)); /* which only the lock takes away */
	expect_header(ref, COUNTED(3), 0);
	WITHOUT_LOCK(object_decref(S1, ref));
	expect_header(ref, COUNTED(2), S1->owner1);
	get(S1, list, 0, ref); /* its own bias it gives up */
	expect_header(ref, COUNTED(2), BIAS_READERS);
	ck_assert_uint_eq(hold_find(S2, ref)->how, HOLD_ONCE);
	BY_LOCK(object_decref(S2, ref));
	expect_header(ref, COUNTED(1), BIAS_READERS);
	WITHOUT_LOCK(object_decref(S1, ref));
	drop_lists(list);
}
END_TEST

/* Who ends it. */

START_TEST(last_uncounted_ends_it)
{
	uint64_t list = held_list(1), ref = in_slot(list, 0, fixture_new(S0, _i ? TYPE_LIST : TYPE_BYTES, 40));

	get(S1, list, 0, ref);
	get(S2, list, 0, ref);
	MUST(S0, list_set(S0, list, 0, 0));
	expect_header(ref, COUNTED(1), BIAS_UNCOUNTED);
	ck_assert_int_eq(object_refcount(S0, ref), 2);
	MUST(S1, object_decref(S1, ref));
	expect_header(ref, COUNTED(1), BIAS_UNCOUNTED);
	ck_assert_int_eq(object_refcount(S0, ref), 1);
	MUST(S2, object_decref(S2, ref));
	fixture_expect_gone(ref);
	drop_lists(list);
}
END_TEST

START_TEST(nobody_reads_it_any_more)
{
	uint64_t list = held_list(1), ref = in_slot(list, 0, fixture_bytes(S0, 40));

	get(S1, list, 0, ref);
	WITHOUT_LOCK(object_decref(S1, ref));
	MUST(S0, list_set(S0, list, 0, 0));
	fixture_expect_gone(ref);
	drop_lists(list);
}
END_TEST

/* The owner of the pool lets go of it last. */
START_TEST(owner_lets_go)
{
	uint64_t list = held_list(1), ref = fixture_bytes(S0, 40);

	MUST(S0, list_set(S0, list, 0, ref));
	get(S1, list, 0, ref);
	MUST(S0, list_set(S0, list, 0, 0));
	expect_header(ref, COUNTED(0), BIAS_READERS);
	if (_i)
		owner_goes();
	else
		fixture_drop(S0, ref);
	expect_header(ref, COUNTED(1), BIAS_UNCOUNTED);
	fixture_check();
	MUST(S1, object_decref(S1, ref));
	fixture_expect_gone(ref);
}
END_TEST

/* Who holds it uncounted finds it also while the last counted right has gone and the tables are being asked. */
START_TEST(between_two_rights)
{
	uint64_t list = held_list(1), ref = in_slot(list, 0, fixture_bytes(S0, 40));
	struct object object;

	get(S1, list, 0, ref);
	ref_header(ref)->rights_counted = COUNTED(0);
	ck_assert_int_eq(object_lookup(S1, ref, &object), 0);
	memset(S1->cache, 0, sizeof(*S1->cache));
	get_now(S1, list, 0, ref);
	ref_header(ref)->rights_counted = COUNTED(1);
	fixture_drop(S1, ref);
	drop_lists(list);
}
END_TEST

/* The right that stands for uncounted holds becomes that of a place, and the other way round. */
START_TEST(placed_again)
{
	uint64_t list = held_list(2), ref = in_slot(list, 0, fixture_bytes(S0, 40));

	get(S1, list, 0, ref);
	for (int i = 0; i < 2; i++) {
		MUST(S0, list_set(S0, list, 0, 0));
		expect_header(ref, COUNTED(1), BIAS_UNCOUNTED);
		MUST(S1, list_set(S1, list, 0, ref));
		expect_header(ref, COUNTED(1), BIAS_READERS);
		MUST(S1, list_set(S1, list, 1, ref));
		expect_header(ref, COUNTED(2), BIAS_READERS);
		MUST(S1, list_set(S1, list, 1, 0));
	}
	WITHOUT_LOCK(object_decref(S1, ref));
	drop_lists(list);
}
END_TEST

START_TEST(handed_over)
{
	uint64_t list = held_list(1), ref = in_slot(list, 0, fixture_bytes(S0, 40)), queue = fixture_queue(4), got;

	get(S1, list, 0, ref);
	MUST(S1, queue_push(S1, queue, ref, 0)); /* the hold is none that can be handed over: one is made */
	ck_assert_ptr_null(hold_find(S1, ref));
	expect_header(ref, COUNTED(2), BIAS_READERS);
	get(S1, list, 0, ref);
	MUST(S1, queue_pop(S1, queue, &got, 0)); /* it holds it already */
	ck_assert_uint_eq(hold_find(S1, ref)->count, 2);
	expect_header(ref, COUNTED(1), BIAS_READERS);
	MUST(S0, list_set(S0, list, 0, 0));
	MUST(S1, queue_push(S1, queue, ref, 0)); /* of two */
	expect_header(ref, COUNTED(1), BIAS_READERS);
	MUST(S1, queue_push(S1, queue, ref, 0));
	expect_header(ref, COUNTED(2), BIAS_READERS);
	for (int i = 0; i < 2; i++)
		MUST(S2, queue_pop(S2, queue, &got, 0));
	fixture_drop(S2, ref);
	fixture_drop(S2, ref);
	fixture_expect_gone(ref);
	fixture_drop(S0, queue);
	drop_lists(list);
}
END_TEST

/* Into tables of every length, and out of their middle. */
START_TEST(many_holds)
{
	enum { N = 150 };
	uint64_t list = held_list(N), refs[N], got;

	for (uint64_t i = 0; i < N; i++)
		refs[i] = in_slot(list, i, fixture_bytes(S0, 40));
	for (uint64_t i = 0; i < N; i++) {
		ck_assert_int_eq(CALL(S1, list_get(S1, list, i, &got)), 0);
		ck_assert_uint_eq(got, refs[i]);
		ck_assert_uint_eq(hold_find(S1, refs[i])->how, HOLD_ONCE_UNCOUNTED);
	}
	fixture_check();
	for (uint64_t i = 0; i < N; i += 2)
		MUST(S0, list_set(S0, list, i, 0));
	for (uint64_t i = 0; i < N; i++) {
		fixture_drop(S1, refs[i]);
		ck_assert_uint_eq(ref_state(refs[i]) == STATE_LIVE, i % 2);
	}
	drop_lists(list);
}
END_TEST

/* A change under way. */

/* As list_set() does it, up to the commit. */
static void begin_set(struct session *session, uint64_t list, uint64_t i, uint64_t ref)
{
	uint64_t *slot = (uint64_t *)(void *)ref_data(list) + i;
	struct object object;

	ck_assert_int_eq(change_begin(session), 0);
	if (ref) {
		ck_assert_int_eq(object_find(fx.heap, ref, &object), 0);
		ck_assert_int_eq(right_retain(session, &object), 0);
	}
	heap_set(fx.heap, slot, ref);
}

/* Neither the new ref, which may be taken back, nor nothing; and nobody waits for the process that stands there. */
START_TEST(reads_what_was_committed)
{
	uint64_t list = held_list(3), old = in_slot(list, 0, fixture_bytes(S0, 40)), new = fixture_bytes(S0, 48);

	if (_i & 1) { /* readers know it already */
		get(S1, list, 0, old);
		fixture_drop(S1, old);
	}
	begin_set(S0, list, 0, new);
	get_now(S1, list, 0, old);
	get_now(S1, list, 1, 0);
	ck_assert_int_eq(change_end(S0, _i & 2 ? -EIO : 0), _i & 2 ? -EIO : 0);
	get_now(S1, list, 0, _i & 2 ? old : new);
	if (!(_i & 2)) { /* by hand: the old one's right */
		struct object object;

		ck_assert_int_eq(change_begin(S0), 0);
		ck_assert_int_eq(object_find(fx.heap, old, &object), 0);
		ck_assert_int_eq(change_end(S0, right_drop(S0, &object)), 0);
	}
	fixture_check();
	begin_set(S0, list, 0, 0);
	get_now(S2, list, 0, _i & 2 ? old : new);
	ck_assert_int_eq(change_end(S0, -EIO), -EIO);
	fixture_check();
	fixture_drop(S0, new);
	drop_lists(list);
}
END_TEST

/* The header is locked for another place's sake. */
START_TEST(locked_for_another)
{
	uint64_t list = held_list(2), ref = in_slot(list, 0, fixture_bytes(S0, 40));

	begin_set(S0, list, 1, ref);
	get_now(S1, list, 0, ref);
	get_now(S1, list, 1, 0);
	ck_assert_int_eq(change_end(S0, -EIO), -EIO);
	expect_header(ref, COUNTED(1), BIAS_READERS);
	drop_lists(list);
}
END_TEST

/* It died between the two changes. */
START_TEST(displaced_by_the_dead)
{
	uint64_t list = held_list(2), old = in_slot(list, 0, fixture_bytes(S0, 40)), new = fixture_bytes(S0, 48);

	if (_i)
		get(S1, list, 0, old);
	begin_set(S2, list, 0, new);
	heap_set(fx.heap, &S2->entry->displaced, old);
	ck_assert_int_eq(change_end(S2, 0), 0);
	fixture_check();
	get(S1, list, 0, new);
	fixture_drop(S1, new);
	fixture_bury(S2);
	if (_i) {
		expect_header(old, COUNTED(1), BIAS_UNCOUNTED);
		fixture_drop(S1, old);
	}
	fixture_expect_gone(old);
	fixture_drop(S0, new);
	fixture_drop(S1, list);
	fixture_drop(S0, list);
	fixture_expect_empty();
}
END_TEST

/* Another session has the lock between its calls. */
START_TEST(lock_is_taken)
{
	uint64_t list = held_list(1), ref = in_slot(list, 0, fixture_bytes(S0, 40)), got;

	ck_assert_int_eq(session_lock(S2), 0);
	get_now(S1, list, 0, ref);
	ck_assert_int_eq(list_get(S2, list, 0, &got), 0); /* who has it uses it */
	ck_assert_int_eq(object_decref(S2, ref), 0);
	ck_assert_int_eq(session_unlock(S2), 0);
	drop_lists(list);
}
END_TEST

/* Only requests to stay out keep it from reading without the lock. */
START_TEST(requests)
{
	uint64_t list = held_list(1), ref = in_slot(list, 0, fixture_bytes(S0, 40)), got;

	critical_request(fx.heap, S1->index, REQUEST_COLLECT);
	critical_request(fx.heap, S1->index, REQUEST_STRANGER);
	get(S1, list, 0, ref);
	WITHOUT_LOCK(object_decref(S1, ref));
	ck_assert_uint_eq(S1->entry->requests, REQUEST_COLLECT | REQUEST_STRANGER);
	critical_request(fx.heap, S1->index, REQUEST_BLOCK);
	BY_LOCK(list_get(S1, list, 0, &got));
	expect_through(S1);
	critical_unblock(fx.heap, S1->index);
	fixture_drop(S1, ref);
	drop_lists(list);
}
END_TEST

/* The dead. */

static const struct {
	uint32_t kind;
	bool is_held, is_last; /* the hold is in the table; nobody else has a right */
} deaths[] = {
	{INTENT_READ, false, false},
	{INTENT_READ, true, false},
	{INTENT_READ, true, true},  /* the place changed, and it did not come to see that */
	{INTENT_READ, false, true}, /* it did, and took the hold out */
	{INTENT_UNREAD, true, false},
	{INTENT_UNREAD, true, true},
	{INTENT_UNREAD, false, false},
	{INTENT_UNREAD, false, true},
};

START_TEST(dead_reader)
{
	uint64_t list = held_list(1), ref = in_slot(list, 0, fixture_new(S0, TYPE_LIST, 40));
	struct session_entry *entry = S1->entry;
	struct hold *hold;

	get(S1, list, 0, ref);
	if (deaths[_i].is_last) {
		MUST(S0, list_set(S0, list, 0, 0));
		expect_header(ref, COUNTED(1), BIAS_UNCOUNTED);
	}
	hold = hold_find(S1, ref);
	uncounted_intend(entry, deaths[_i].kind, ref, 0);
	if (deaths[_i].kind == INTENT_READ)
		entry->intent_before = entry->n_holds - 1;
	if (!deaths[_i].is_held)
		__atomic_store_n(&hold->ref, HOLD_EMPTY, __ATOMIC_RELAXED);
	entry->activity = ACTIVITY_ACTIVE;
	fixture_check();
	fixture_bury(S1);
	ck_assert_uint_eq(entry->n_holds, 0);
	ck_assert_uint_eq(control()->readers[0], 0);
	if (deaths[_i].is_last)
		fixture_expect_gone(ref);
	else
		ck_assert_int_eq(object_refcount(S0, ref), 1);
	fixture_drop(S2, list);
	fixture_drop(S0, list);
	fixture_expect_empty();
}
END_TEST

/* Of an object that went before the hold could be seen, the hold is not good: it names nothing. */
START_TEST(hold_of_what_is_gone)
{
	uint64_t list = held_list(1), ref = in_slot(list, 0, fixture_bytes(S0, 40)), other;

	get(S1, list, 0, ref);
	fixture_drop(S1, ref);
	MUST(S0, list_set(S0, list, 0, 0));
	fixture_expect_gone(ref);
	other = fixture_bytes(S0, 40); /* in its block */
	uncounted_intend(S1->entry, INTENT_READ, ref, 0);
	hold_put_uncounted(S1->entry, hold_probe(S1, ref), ref);
	S1->entry->activity = ACTIVITY_ACTIVE;
	fixture_check();
	fixture_bury(S1);
	ck_assert_int_eq(object_refcount(S0, other), 1);
	fixture_drop(S0, other);
	fixture_drop(S2, list);
	fixture_drop(S0, list);
	fixture_expect_empty();
}
END_TEST

/* An arena is not unmapped while a session says that it reads there, at either position. */
START_TEST(keeps_arenas_mapped)
{
	uint64_t in_2 = UINT64_C(2) << (fx.heap->arena_shift - 3);

	ck_assert(uncounted_begin(S1));
	ck_assert(!critical_has_lookup(fx.heap, 2, 1));
	(void)uncounted_read_at(S1, in_2, 0);
	ck_assert(critical_has_lookup(fx.heap, 2, 1));
	(void)uncounted_read_at(S1, 0, in_2);
	ck_assert(critical_has_lookup(fx.heap, 2, 1));
	ck_assert(!critical_has_lookup(fx.heap, 1, 1));
	uncounted_end(S1);
	ck_assert(!critical_has_lookup(fx.heap, 2, 1));
}
END_TEST

/* What a check must find, and a repair mend. */

static const char *const faults[] = {
	"not marked for readers",
	"stands for uncounted holds, which are not all",
	"is not asked for it",
	"stands for uncounted holds, which are not all",
};

START_TEST(damaged)
{
	uint64_t list = held_list(1), ref = in_slot(list, 0, fixture_bytes(S0, 40));
	struct fixture_report report = {.wanted = faults[_i]};

	get(S1, list, 0, ref);
	if (_i == 0)
		ref_header(ref)->biased1 = 0;
	if (_i == 1)
		ref_header(ref)->biased1 = BIAS_UNCOUNTED;
	if (_i == 2)
		control()->readers[0] = 0;
	if (_i == 3) { /* nobody holds it so */
		MUST(S1, object_decref(S1, ref));
		MUST(S0, object_incref(S0, ref));
		MUST(S0, list_set(S0, list, 0, 0));
		fixture_check();
		ref_header(ref)->biased1 = BIAS_UNCOUNTED;
		ref_header(ref)->rights_counted = COUNTED(1);
	}
	ck_assert_int_gt(heap_check(S0, fixture_note_fault, &report), 0);
	ck_assert_msg(report.found, "%s", report.all);
	report.wanted = NULL;
	ck_assert_int_ge(heap_repair(S0, fixture_note_fault, &report), 0);
	fixture_check();
	if (_i == 3)
		fixture_drop(S0, ref);
	else
		fixture_drop(S1, ref);
	drop_lists(list);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("read");
	TCase *t = tcase_create("read");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, each_kind, 0, (int)(sizeof(kinds) / sizeof(kinds[0])));
	tcase_add_test(t, struct_slot);
	tcase_add_test(t, nothing_there);
	tcase_add_test(t, own_object);
	tcase_add_test(t, biased_before);
	tcase_add_loop_test(t, last_uncounted_ends_it, 0, 2);
	tcase_add_test(t, nobody_reads_it_any_more);
	tcase_add_loop_test(t, owner_lets_go, 0, 2);
	tcase_add_test(t, between_two_rights);
	tcase_add_test(t, placed_again);
	tcase_add_test(t, handed_over);
	tcase_add_test(t, many_holds);
	tcase_add_loop_test(t, reads_what_was_committed, 0, 4);
	tcase_add_test(t, locked_for_another);
	tcase_add_loop_test(t, displaced_by_the_dead, 0, 2);
	tcase_add_test(t, lock_is_taken);
	tcase_add_test(t, requests);
	tcase_add_loop_test(t, dead_reader, 0, (int)(sizeof(deaths) / sizeof(deaths[0])));
	tcase_add_test(t, hold_of_what_is_gone);
	tcase_add_test(t, keeps_arenas_mapped);
	tcase_add_loop_test(t, damaged, 0, (int)(sizeof(faults) / sizeof(faults[0])));
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
