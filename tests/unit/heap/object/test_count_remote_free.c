// SPDX-License-Identifier: MIT
/* Drops without the lock that free a block remotely: when the owner is notified, and what becomes of the pool */
#include "heap/change/intent.h"
#include "heap/shared/critical.h"
#include "tests/unit/heap/fixture_count.h"

/*
 * A hold whose removal moves no other hold of the table, so that the drop needs no lock. It becomes the last of refs.
 */
static uint64_t stands_last(const struct session *session, uint64_t *refs, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint64_t ref = refs[i];

		if (!hold_stands_last(session, hold_find(session, ref)))
			continue;
		refs[i] = refs[n - 1];
		refs[n - 1] = ref;
		return ref;
	}
	ck_abort_msg("the table is full");
	return 0;
}

/* Remote frees. */

START_TEST(notified_once)
{
	enum { N = 5 };
	uint64_t keep = fixture_bytes(S0, 40), refs[N], by_lock, n_before = fixture_stats().n_blocks_returned;
	struct pool_entry *pool = ref_pool(keep);
	uint32_t n_remote_frees, n_used, n = N;

	for (int i = 0; i < N; i++)
		refs[i] = passed_to(S1, 40);
	by_lock = passed_to(S2, 40);
	n_used = pool->n_used;
	n_remote_frees = S0->entry->n_remote_frees;
	ck_assert_uint_eq(pool->is_notified, 0);
	BY_LOCK(object_decref(S1, stands_last(S1, refs, n)));
	ck_assert_uint_eq(pool->is_notified, 1);
	ck_assert_uint_eq(pool->is_on_remote_list, 1);
	ck_assert_uint_eq(S0->entry->remote_pools1, ref_pool_index(keep) + 1);
	ck_assert_uint_eq(S0->entry->n_remote_frees, n_remote_frees + 1);
	expect_through(S1);
	for (uint32_t i = 1; i < N; i++) {
		uint64_t ref = stands_last(S1, refs, N - i);

		WITHOUT_LOCK(object_decref(S1, ref));
		ck_assert_uint_eq(ref_state(ref), STATE_REMOTE_FREE);
		ck_assert_uint_eq(ref_header(ref)->rights, RIGHTS_SHARED);
		ck_assert_uint_eq(ref_header(ref)->word >> REF_POSITION_BITS, ref_generation(ref));
		ck_assert_uint_eq(pool_count_remote(fx.heap, pool), i + 1);
		ck_assert_uint_eq(pool->n_used, n_used);
		ck_assert_uint_eq(S0->entry->n_remote_frees, n_remote_frees + 1);
		ck_assert_uint_eq(fixture_stats().n_blocks_returned, n_before + i + 1);
		ck_assert_int_eq(object_incref(S1, ref), -ESTALE);
		expect_through(S1);
	}
	ck_assert_uint_eq(S1->entry->n_blocks_returned, N);
	if (_i) { /* one that goes under the lock makes no difference */
		ref_header(by_lock)->biased1 = (uint16_t)S1->owner1;
		BY_LOCK(object_decref(S2, by_lock));
		ck_assert_uint_eq(pool->is_notified, 1);
		n++;
	}
	ck_assert_int_eq(session_serve_requests(S0), 0);
	fixture_check();
	for (int i = 0; i < N; i++)
		ck_assert_uint_eq(ref_header(refs[i])->word & HEADER_FREE_MASK, 0);
	ck_assert_uint_eq(pool->is_notified, 0);
	ck_assert_uint_eq(pool->is_on_remote_list, 0);
	ck_assert_uint_eq(pool_count_remote(fx.heap, pool), 0);
	ck_assert_uint_eq(pool->n_used, n_used - n);
	ck_assert_uint_eq(S0->entry->remote_pools1, 0);
	/* and again */
	refs[0] = passed_to(S1, 40);
	refs[1] = passed_to(S1, 40);
	BY_LOCK(object_decref(S1, stands_last(S1, refs, 2)));
	WITHOUT_LOCK(object_decref(S1, refs[0]));
	ck_assert_uint_eq(fixture_stats().n_blocks_returned, n_before + n + 2);
	fixture_bury(S1);
	ck_assert_uint_eq(fixture_stats().n_blocks_returned, n_before + n + 2);
	ck_assert_int_eq(fixture_admit(fx.heap, S1), 0); /* with its entry */
	ck_assert_uint_eq(fixture_stats().n_blocks_returned, n_before + n + 2);
	if (!_i)
		fixture_drop(S2, by_lock);
	fixture_drop(S0, keep);
	fixture_expect_empty();
}
END_TEST

/* The daemon's trim, a repair and the owner's death clear is_notified, as the owner's own collecting does. */
static void collect(void)
{
	fixture_trim_sessions();
}

static void repair(void)
{
	fx.heap->control->counters.n_names++; /* so that there is something to mend */
	ck_assert_int_eq(heap_repair(S2, NULL, NULL), 1);
	ck_assert_uint_eq(S0->entry->remote_pools1 != 0, 1);
}

static void (*const clearers[])(void) = {collect, repair, owner_goes};

START_TEST(notified_flag_cleared_by_others)
{
	uint64_t keep = fixture_bytes(S0, 40), refs[3];
	struct pool_entry *pool = ref_pool(keep);

	for (int i = 0; i < 3; i++)
		refs[i] = passed_to(S1, 40);
	BY_LOCK(object_decref(S1, stands_last(S1, refs, 3)));
	ck_assert_uint_eq(pool->is_notified, 1);
	clearers[_i]();
	fixture_check();
	ck_assert_uint_eq(pool->is_notified, 0);
	BY_LOCK(object_decref(S1, stands_last(S1, refs, 2)));
	ck_assert_uint_eq(pool->is_notified, pool->owner1 != 0);
	if (pool->owner1)
		WITHOUT_LOCK(object_decref(S1, refs[0]));
	else
		BY_LOCK(object_decref(S1, refs[0]));
	ck_assert_uint_eq(pool->kind == POOL_FREE, clearers[_i] == owner_goes);
}
END_TEST

/* All blocks of a full pool are remotely freed. 0: the owner is idle, 1: it is in a critical section. */
START_TEST(last_of_a_full_pool)
{
	const uint32_t n = class_pool_blocks(63);
	bool is_active = _i;
	uint64_t refs[POOL_SIZE / 512];
	struct pool_entry *pool;

	for (uint32_t i = 0; i < n; i++)
		refs[i] = passed_to(S1, 512);
	pool = ref_pool(refs[0]);
	ck_assert_uint_eq(S0->entry->usedpools1[63], 0);
	if (is_active)
		critical_stay(S0);
	for (uint32_t i = 0; i < n - 1; i++) {
		uint64_t ref = stands_last(S1, refs, n - i), before = n_taken();

		ck_assert_int_eq(object_decref(S1, ref), 0);
		ck_assert_int_eq(n_taken() == before, i > 0);
		ck_assert_uint_eq(pool->owner1, S0->owner1);
	}
	fixture_check();
	BY_LOCK(object_decref(S1, refs[0]));
	expect_through(S1);
	ck_assert_uint_eq(pool->owner1, is_active ? S0->owner1 : 0);
	ck_assert_uint_eq(pool->kind, is_active ? POOL_BLOCKS : POOL_FREE);
	ck_assert_uint_eq(S1->entry->n_blocks_returned, n);
	if (is_active) {
		ck_assert_uint_eq(pool_count_remote(fx.heap, pool), n);
		ck_assert_uint_eq(pool->is_notified, 1);
		ck_assert_uint_eq(ref_state(refs[0]), STATE_REMOTE_FREE);
		critical_leave(S0, 0);
	}
	fixture_expect_empty();
}
END_TEST

/* A session remotely frees a block of its own where it holds it by its table. */
START_TEST(remote_free_by_the_owner)
{
	uint64_t refs[2], queue, got;

	MUST(S0, queue_new(S0, 4, &queue));
	for (int i = 0; i < 2; i++) {
		refs[i] = shared(40);
		MUST(S0, queue_push(S0, queue, refs[i], 0));
		MUST(S0, queue_pop(S0, queue, &got, 0));
		ck_assert_uint_eq(ref_own(got), 0);
	}
	BY_LOCK(object_decref(S0, stands_last(S0, refs, 2)));
	ck_assert_uint_eq(S0->entry->remote_pools1, ref_pool_index(refs[0]) + 1);
	WITHOUT_LOCK(object_decref(S0, refs[0]));
	ck_assert_uint_eq(ref_state(refs[0]), STATE_REMOTE_FREE);
	ck_assert_int_eq(session_serve_requests(S0), 0);
	fixture_check();
	ck_assert_uint_eq(ref_state(refs[0]), STATE_FREE);
	got = fixture_bytes(S0, 40);
	ck_assert_uint_eq(ref_pool_index(got), ref_pool_index(refs[0]));
	fixture_drop(S0, got);
	fixture_drop(S0, queue);
	fixture_expect_empty();
}
END_TEST

/* Rights that the owner gave away. */

START_TEST(given_to_the_full)
{
	uint64_t ref = shared(40), queue, got, before;
	struct object_header *header = ref_header(ref);

	MUST(S0, queue_new(S0, 8, &queue));
	MUST(S2, object_incref(S2, queue));
	for (int i = 0; i < 6; i++)
		MUST(S0, object_incref(S0, ref));
	header->rights_given = RIGHTS_GIVEN_MAX - 1;
	header->rights_counted = COUNTED(0) - (RIGHTS_GIVEN_MAX - 1) * RIGHTS_ONE;
	fixture_check();
	if (_i) { /* biased or not */
		WITHOUT_LOCK(object_incref(S1, ref));
		ck_assert_uint_eq(header->rights_given, RIGHTS_GIVEN_MAX - 1);
		ck_assert_uint_eq(ref_rights(ref), 1);
		WITHOUT_LOCK(object_decref(S1, ref));
		ck_assert_uint_eq(header->biased1, S1->owner1);
	}
	WITHOUT_LOCK(queue_push(S0, queue, ref, 0));
	ck_assert_uint_eq(header->rights_given, RIGHTS_GIVEN_MAX);
	ck_assert_uint_eq(ref_rights(ref), 1);
	before = header->rights_counted;
	if (_i) {
		WITHOUT_LOCK(object_incref(S1, ref));
		ck_assert_uint_eq(ref_rights(ref), 2);
		WITHOUT_LOCK(object_decref(S1, ref));
		ck_assert_uint_eq(header->rights_counted, before);
	}
	ck_assert_uint_eq(header->rights_given, RIGHTS_GIVEN_MAX);
	BY_LOCK(queue_push(S0, queue, ref, 0)); /* no more fit */
	expect_header(ref, COUNTED(2), BIAS_READERS);
	ck_assert_uint_eq(header->rights_given, 0);
	WITHOUT_LOCK(queue_push(S0, queue, ref, 0));
	ck_assert_uint_eq(header->rights_given, 1);
	ck_assert_uint_eq(ref_rights(ref), 3);
	ck_assert_int_eq(object_refcount(S1, ref), 7);
	for (uint64_t i = 3; i > 0; i--) {
		MUST(S2, queue_pop(S2, queue, &got, 0));
		ck_assert_uint_eq(got, ref);
		BY_LOCK(object_decref(S2, ref));
		ck_assert_uint_eq(ref_rights(ref), i - 1);
	}
	for (int i = 0; i < 4; i++)
		fixture_drop(S0, ref);
	fixture_drop(S2, queue);
	fixture_drop(S0, queue);
	fixture_expect_empty();
}
END_TEST

/*
 * Another session's hold under the lock does not store rights_given, which the owner may be adding to; the owner's hold
 * does.
 */
START_TEST(given_and_held_by_others)
{
	uint64_t ref = shared(40), list = fixture_list(S0, 1);
	struct object_header *header = ref_header(ref);

	header->rights_given = RIGHTS_GIVEN_MAX;
	header->rights_counted = COUNTED(0) - RIGHTS_GIVEN_MAX * RIGHTS_ONE;
	header->biased1 = (uint16_t)S2->owner1;
	BY_LOCK(object_incref(S1, ref));
	ck_assert_uint_eq(header->rights_given, RIGHTS_GIVEN_MAX);
	ck_assert_uint_eq(ref_rights(ref), 1);
	MUST(S0, list_set(S0, list, 0, ref));
	ck_assert_uint_eq(header->rights_given, 0);
	expect_header(ref, COUNTED(2), BIAS_READERS);
	fixture_drop(S0, list);
	expect_header(ref, COUNTED(1), BIAS_READERS);
	fixture_drop(S0, ref);
	fixture_drop(S1, ref);
	fixture_expect_empty();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("count-remote-free");
	TCase *t = tcase_create("count_remote_free");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, notified_once, 0, 2);
	tcase_add_loop_test(t, notified_flag_cleared_by_others, 0, (int)(sizeof(clearers) / sizeof(clearers[0])));
	tcase_add_loop_test(t, last_of_a_full_pool, 0, 2);
	tcase_add_test(t, remote_free_by_the_owner);
	tcase_add_loop_test(t, given_to_the_full, 0, 2);
	tcase_add_test(t, given_and_held_by_others);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
