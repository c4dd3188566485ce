/* SPDX-License-Identifier: MIT */
/*
 * What the daemon takes back from a session that does nothing any more: what was returned to it, and what it keeps free
 */
#include "tests/unit/test_remote_free_heap.h"

/* Of an owner that does nothing more: the daemon takes a pool in which all that is used was returned, and gathers the
 * rest. */
START_TEST(collected_with_what_was_returned)
{
	uint64_t keep = fixture_bytes(S0, 40), ref = passed_to_s1(40), alone = passed_to_s1(200), again;

	fixture_drop(S1, ref);
	fixture_drop(S1, alone);
	ck_assert_uint_eq(n_returned_pools(), 2);
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 0);
	fixture_check();
	ck_assert_uint_eq(ref_pool(alone)->identity, pool_identity(POOL_FREE, CLASS_NONE, 0));
	ck_assert_uint_eq(n_returned_pools(), 0);
	ck_assert_uint_eq(ref_state(ref), STATE_FREE); /* in a pool that is in use */
	ck_assert_uint_eq(ref_pool(ref)->owner1, S0->owner1);
	again = fixture_bytes(S0, 40);
	ck_assert_uint_eq(ref_position(again), ref_position(ref));
	fixture_drop(S0, again);
	again = fixture_bytes(S1, 200);
	ck_assert_uint_eq(ref_position(again), ref_position(alone));
	fixture_drop(S1, again);
	fixture_drop(S0, keep);
	expect_empty();
}
END_TEST

/* However many stand before it. */
START_TEST(collected_behind_many)
{
	uint64_t first = return_partly(N_PARTLY);

	fixture_collect();
	fixture_check();
	ck_assert_uint_eq(n_returned_pools(), 0);
	ck_assert_uint_eq(ref_pool(first)->kind, POOL_FREE);
	drop_partly(N_PARTLY);
}
END_TEST

/* Of so many pools one is wholly free, and on the list of those with room behind the others, of which a block is. */
static struct pool_entry *hide_free_pool(struct session *s, uint64_t refs[][BLOCKS_512], uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < BLOCKS_512; k++)
			ck_assert_int_eq(CALL(s, object_new(s, TYPE_BYTES, 512, &refs[i][k])), 0);
	for (uint32_t k = 0; k < BLOCKS_512; k++)
		ck_assert_int_eq(object_decref(s, refs[0][k]), 0);
	for (uint32_t i = 1; i < n; i++)
		ck_assert_int_eq(object_decref(s, refs[i][0]), 0);
	ck_assert_uint_eq(ref_pool(refs[0][0])->n_used, 0);
	ck_assert_uint_eq(ref_pool(refs[0][0])->next1, 0);
	ck_assert_uint_eq(s->entry->usedpools1[63], ref_pool_index(refs[n - 1][1]) + 1);
	fixture_check();
	return ref_pool(refs[0][0]);
}

static bool is_kept_free(const struct session *s, const struct pool_entry *pool)
{
	return pool->owner1 == s->owner1 && pool->kind == POOL_BLOCKS && !pool->n_used;
}

/* A free pool that stands behind more than are looked at in one change: the next change goes on, of each session. */
START_TEST(collected_from_the_end)
{
	static uint64_t others[N_PARTLY][BLOCKS_512];
	struct pool_entry *pool = hide_free_pool(S0, partly, N_PARTLY), *other = hide_free_pool(S2, others, N_PARTLY);

	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 1);
	ck_assert_int_eq(own_trim(&fx.daemon, S2->index), 1);
	ck_assert(is_kept_free(S0, pool) && is_kept_free(S2, other));
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 0);
	ck_assert_int_eq(own_trim(&fx.daemon, S2->index), 0);
	ck_assert_uint_eq(pool->kind, POOL_FREE);
	ck_assert_uint_eq(other->kind, POOL_FREE);
	fixture_check();
	/* and it begins at the front again */
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 1);
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 0);
}
END_TEST

/* What was true before is not believed: the session has made a call, or the pool to go on from is its own no more. */
START_TEST(collected_anew)
{
	uint64_t *next = partly[N_PARTLY - 1025]; /* after 1024 */
	struct pool_entry *pool = hide_free_pool(S0, partly, N_PARTLY);
	bool by_call = _i;

	for (uint32_t k = 1; k < BLOCKS_512; k++) {
		ck_assert_int_eq(CALL(S1, object_incref(S1, next[k])), 0);
		ck_assert_int_eq(object_decref(S0, next[k]), 0);
	}
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 1);
	if (by_call)
		fixture_drop(S0, fixture_bytes(S0, 200));
	for (uint32_t k = 1; k < BLOCKS_512 && !by_call; k++)
		fixture_drop(S1, next[k]);
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 1);
	ck_assert_int_eq(ref_pool(next[0])->kind == POOL_FREE, !by_call);
	ck_assert(is_kept_free(S0, pool));
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 0);
	ck_assert_uint_eq(pool->kind, POOL_FREE);
	fixture_check();
}
END_TEST

/* The daemon was told by its tick, and not by a step, that the session freed some of what the round has passed. */
START_TEST(collected_anew_after_a_tick)
{
	hide_free_pool(S0, partly, N_PARTLY);
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 1);
	for (uint32_t i = N_PARTLY - 10; i < N_PARTLY; i++)
		for (uint32_t k = 1; k < BLOCKS_512; k++)
			ck_assert_int_eq(object_decref(S0, partly[i][k]), 0);
	ck_assert_uint_eq(S0->n_freed, 10);
	ck_assert(!critical_poll_idle(S0->entry));
	own_trim_restart(fx.heap, S0->index);
	while (own_trim(&fx.daemon, S0->index) == 1)
		;
	for (uint32_t i = N_PARTLY - 10; i < N_PARTLY; i++)
		ck_assert_uint_eq(ref_pool(partly[i][1])->kind, POOL_FREE);
	fixture_check();
}
END_TEST

/* Another session has the place in the table: it is looked at from its front. */
START_TEST(collected_from_the_next_one)
{
	struct pool_entry *pool;

	hide_free_pool(S0, partly, N_PARTLY);
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 1);
	ck_assert_uint_ne(fx.heap->trimming[S0->index].pool1, 0);
	fixture_bury(S0);
	ck_assert_int_eq(fixture_admit(fx.heap, S0), 0);
	ck_assert_uint_eq(S0->index, 0);
	ck_assert_uint_eq(fx.heap->trimming[S0->index].pool1, 0);
	pool = hide_free_pool(S0, partly, 2);
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 0);
	ck_assert_uint_eq(pool->kind, POOL_FREE);
	fixture_check();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("collected");
	TCase *t = tcase_create("collected");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, collected_with_what_was_returned);
	tcase_add_test(t, collected_behind_many);
	tcase_add_test(t, collected_from_the_end);
	tcase_add_loop_test(t, collected_anew, 0, 2);
	tcase_add_test(t, collected_anew_after_a_tick);
	tcase_add_test(t, collected_from_the_next_one);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
