// SPDX-License-Identifier: MIT
/* Collecting remote frees, by the owner or by request; and trimming what sessions keep free */
#include "tests/unit/heap/fixture.h"
#include "tests/unit/heap/fixture_remote_free.h"

#include <signal.h>
#include <ucontext.h>

/* Collecting. */

/* The owner needs a block and has none. */
START_TEST(collected_when_needed)
{
	uint32_t n = class_pool_blocks(63);
	uint64_t refs[16], again;

	for (uint32_t i = 0; i < n; i++)
		refs[i] = i % 2 ? passed_to_s1(512) : fixture_bytes(S0, 512);
	for (uint32_t i = 1; i < n; i += 2)
		fixture_drop(S1, refs[i]);
	ck_assert_uint_eq(S0->entry->usedpools1[63], 0);
	for (uint32_t i = 1; i < n; i += 2) {
		again = fixture_bytes(S0, 512);
		ck_assert_uint_eq(ref_pool_index(again), ref_pool_index(refs[0]));
		ck_assert_uint_eq(ref_block(again) % 2, 1);
		ck_assert_uint_eq(ref_pool(again)->is_on_remote_list, 0);
		ck_assert_uint_eq(n_remote_pools(), 0);
	}
	ck_assert_uint_eq(S0->entry->usedpools1[63], 0);
	/* and only then another pool */
	ck_assert_uint_ne(ref_pool_index(fixture_bytes(S0, 512)), ref_pool_index(refs[0]));
}
END_TEST

START_TEST(collected_when_requested)
{
	uint64_t keep = fixture_bytes(S0, 40), ref = remotely_freed(40), other;

	other = fixture_bytes(S0, 40); /* there is room, so nothing is collected */
	ck_assert_uint_eq(ref_state(ref), STATE_REMOTE_FREE);
	critical_request(fx.heap, S0->index, REQUEST_COLLECT);
	ck_assert_uint_eq(ref_state(ref), STATE_REMOTE_FREE);
	ck_assert_uint_eq(ref_position(fixture_bytes(S0, 40)), ref_position(ref)); /* its next call */
	ck_assert_uint_eq(S0->entry->requests, 0);
	ck_assert_uint_eq(S0->entry->remote_pools1, 0);
	ck_assert_uint_eq(ref_pool(ref)->n_used, 3);
	fixture_drop(S0, keep);
	fixture_drop(S0, other);
}
END_TEST

/* The next call collects, also a drop. */
START_TEST(collected_when_requested_by_a_drop)
{
	uint64_t keep = fixture_bytes(S0, 40), ref = remotely_freed(40), other = fixture_bytes(S0, 200);

	critical_request(fx.heap, S0->index, REQUEST_COLLECT);
	fixture_drop(S0, other);
	ck_assert_uint_eq(S0->entry->requests, 0);
	ck_assert_uint_eq(ref_state(ref), STATE_FREE);
	ck_assert_uint_eq(ref_header(ref)->rights, 0);
	ck_assert_uint_eq(ref_pool(ref)->freeblock1, ref_block(ref) + 1);
	fixture_drop(S0, keep);
	fixture_expect_empty();
}
END_TEST

/* One change collects in a few pools only, and the next one goes on. */
START_TEST(collected_in_bounded_steps)
{
	uint64_t keep[30], refs[30];
	uint32_t n_left = 30;

	for (uint32_t c = 0; c < n_left; c++) {
		keep[c] = fixture_bytes(S0, class_block_size(c));
		refs[c] = passed_to_s1(class_block_size(c));
	}
	for (uint32_t c = 0; c < n_left; c++)
		fixture_drop(S1, refs[c]);
	while (n_left) {
		uint32_t n = n_remote_pools();

		ck_assert_uint_eq(n, n_left);
		ck_assert_int_eq(session_serve_requests(S0), 0);
		fixture_check();
		n = n_left - n_remote_pools();
		ck_assert_uint_ge(n, 1);
		ck_assert_uint_le(n, 8);
		n_left -= n;
	}
	for (uint32_t c = 0; c < 30; c++)
		fixture_drop(S0, keep[c]);
	fixture_expect_empty();
}
END_TEST

/* A pool that becomes free by collecting is disowned, unless it is the only one of its class with room. */
START_TEST(collected_pool_is_freed)
{
	uint32_t n = class_pool_blocks(63);
	uint64_t first[16], second[16], keep[2];

	for (uint32_t i = 0; i < n; i++)
		first[i] = i < n - 1 ? passed_to_s1(512) : (keep[0] = fixture_bytes(S0, 512));
	for (uint32_t i = 0; i < n; i++)
		second[i] = i < n - 1 ? passed_to_s1(512) : (keep[1] = fixture_bytes(S0, 512));
	ck_assert_uint_ne(ref_pool_index(keep[0]), ref_pool_index(keep[1]));
	for (uint32_t i = 0; i < n - 1; i++) {
		fixture_drop(S1, first[i]);
		fixture_drop(S1, second[i]);
	}
	fixture_drop(S0, keep[0]); /* each has one block on its free list, and remotely freed ones */
	fixture_drop(S0, keep[1]);
	ck_assert_uint_eq(ref_pool(keep[0])->n_used, n - 1);
	ck_assert_int_eq(session_serve_requests(S0), 0);
	fixture_check();
	ck_assert_uint_eq(n_remote_pools(), 0);
	ck_assert_int_ne(ref_pool(keep[0])->kind == POOL_FREE, ref_pool(keep[1])->kind == POOL_FREE);
	fixture_expect_empty();
}
END_TEST

/*
 * No memory is left but remotely freed blocks: all are collected before the call returns -ENOMEM, however far back on
 * the list. 0: a block is enough; 1: a whole pool becomes free.
 */
START_TEST(collected_when_memory_is_short)
{
	enum { N_OTHERS = 40 };
	uint32_t n = class_pool_blocks(63);
	uint64_t refs[16], others[N_OTHERS], again;
	int r;

	fixture_close();
	fixture_open_geometry(&(struct heap_geometry){
		.heap_size = UINT64_C(1) << 20, .arena_size = ARENA_SIZE_MIN, .n_sessions = FIXTURE_SESSIONS});
	for (uint32_t i = 0; i < n; i++)
		refs[i] = passed_to_s1(512);
	if (_i) { /* room in another pool and in this one, so that this pool is disowned when it is free */
		fixture_bytes(S0, 512);
		fixture_drop(S1, refs[0]);
		ck_assert_int_eq(session_serve_requests(S0), 0);
	}
	for (uint32_t i = 0; i < N_OTHERS; i++) {
		fixture_bytes(S0, class_block_size(i));
		others[i] = passed_to_s1(class_block_size(i));
	}
	while ((r = CALL(S2, object_new(S2, fixture_pages_type(S2), POOL_SIZE, &again))) == 0)
		;
	ck_assert_int_eq(r, -ENOMEM);
	if (_i) {
		for (uint32_t i = 1; i < n; i++)
			fixture_drop(S1, refs[i]);
	} else {
		fixture_drop(S1, refs[3]);
	}
	for (uint32_t i = 0; i < N_OTHERS; i++)
		fixture_drop(S1, others[i]);
	ck_assert_uint_eq(n_remote_pools(), N_OTHERS + 1);
	again = fixture_bytes(S0, _i ? POOL_SIZE : 512);
	ck_assert_uint_eq(ref_pool_index(again), ref_pool_index(refs[3]));
}
END_TEST

/* An owner with the request to collect does so change by change, until nothing is left. */
START_TEST(collected_to_the_end)
{
	uint32_t n_before = 101, n;

	remote_free_partly(100);
	critical_request(fx.heap, S0->index, REQUEST_COLLECT);
	for (; S0->entry->requests; n_before = n) {
		ck_assert_int_eq(session_serve_requests(S0), 0);
		fixture_check();
		n = n_remote_pools();
		ck_assert_uint_lt(n, n_before);
		ck_assert_int_eq(n > 0, S0->entry->requests == REQUEST_COLLECT);
	}
	ck_assert_uint_eq(n_remote_pools(), 0);
	drop_partly(100);
}
END_TEST

/* The daemon requests collecting: each of the next calls collects in a few pools, and does its own work. */
START_TEST(collected_over_calls)
{
	uint32_t n_before = 101, n = n_before;
	uint64_t keep = fixture_bytes(S0, 8), ref;
	bool by_drop = _i;

	remote_free_partly(100);
	critical_request(fx.heap, S0->index, REQUEST_COLLECT);
	for (; n > 0; n_before = n) {
		ref = keep;
		ck_assert_int_eq(by_drop ? object_decref(S0, ref) : object_new(S0, TYPE_BYTES, 8, &keep), 0);
		n = n_remote_pools();
		ck_assert_uint_lt(n, n_before);
		ck_assert_uint_le(n_before - n, 24);
		ck_assert_uint_eq(S0->entry->requests, n ? REQUEST_COLLECT : 0);
		ck_assert_int_eq(by_drop ? object_new(S0, TYPE_BYTES, 8, &keep) : object_decref(S0, ref), 0);
		n = n_remote_pools();
		ck_assert_int_eq(object_incref(S0, keep), 0);
		ck_assert_uint_eq(ref_own(keep), 2);
		ck_assert_int_eq(object_decref(S0, keep), 0);
		fixture_check();
		n = n_remote_pools();
		ck_assert_uint_eq(S0->entry->requests, n ? REQUEST_COLLECT : 0);
	}
	ck_assert_int_eq(object_decref(S0, keep), 0);
	drop_partly(100);
}
END_TEST

/*
 * A call that is about to ask for arenas collects in a few pools only; where there are no arenas, in all:
 * collected_when_memory_is_short.
 */
START_TEST(collected_before_asking)
{
	uint64_t ref;

	remote_free_partly(100);
	while (object_new(S2, fixture_pages_type(S2), POOL_SIZE, &ref) != HEAP_WANTS_ARENAS)
		;
	ck_assert_int_eq(object_new(S0, TYPE_BYTES, 480, &ref), HEAP_WANTS_ARENAS);
	ck_assert_uint_eq(n_remote_pools(), 101 - 24);
	fixture_check();
	ck_assert_int_eq(own_collect_all(S0), 1);
	ck_assert_uint_eq(n_remote_pools(), 0);
	ck_assert_int_eq(own_collect_all(S0), 0);
	fixture_check();
}
END_TEST

/*
 * The owner makes no calls: the daemon frees a pool whose used blocks are all remotely freed, and collects in the
 * others.
 */
START_TEST(trimmed_with_remote_frees)
{
	uint64_t keep = fixture_bytes(S0, 40), ref = passed_to_s1(40), alone = passed_to_s1(200), again;

	fixture_drop(S1, ref);
	fixture_drop(S1, alone);
	ck_assert_uint_eq(n_remote_pools(), 2);
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 0);
	fixture_check();
	ck_assert_uint_eq(ref_pool(alone)->identity, pool_identity(POOL_FREE, CLASS_NONE, 0));
	ck_assert_uint_eq(n_remote_pools(), 0);
	ck_assert_uint_eq(ref_state(ref), STATE_FREE); /* in a pool that is in use */
	ck_assert_uint_eq(ref_pool(ref)->owner1, S0->owner1);
	again = fixture_bytes(S0, 40);
	ck_assert_uint_eq(ref_position(again), ref_position(ref));
	fixture_drop(S0, again);
	again = fixture_bytes(S1, 200);
	ck_assert_uint_eq(ref_position(again), ref_position(alone));
	fixture_drop(S1, again);
	fixture_drop(S0, keep);
	fixture_expect_empty();
}
END_TEST

/* A pool that is all remotely freed is found behind however many others. */
START_TEST(trimmed_behind_many)
{
	uint64_t first = remote_free_partly(N_PARTLY);

	fixture_trim_sessions();
	fixture_check();
	ck_assert_uint_eq(n_remote_pools(), 0);
	ck_assert_uint_eq(ref_pool(first)->kind, POOL_FREE);
	drop_partly(N_PARTLY);
}
END_TEST

/* One of n pools is wholly free; it is the last on the list of pools with room, the others have one free block each. */
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

/*
 * A free pool behind more pools than one change examines: the next change goes on from there, for each session by
 * itself.
 */
START_TEST(trimmed_from_the_end)
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

/*
 * The daemon starts again from the front where the session has made a call (1), or owns the pool to go on from no more
 * (0).
 */
START_TEST(trim_restarted)
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

/* The daemon learns by its tick, between two steps, that the session freed pools which the round has passed. */
START_TEST(trim_restarted_by_a_tick)
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

/* Another session has the entry now: trimming starts from the front. */
START_TEST(trimmed_from_the_next_session)
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

/* Trimming. */

START_TEST(trimmed_in_steps)
{
	uint64_t keep = fixture_bytes(S0, 100);

	for (uint32_t c = 0; c < N_SMALL_CLASSES; c++)
		fixture_warm_up(class_block_size(c));
	for (uint32_t n = 1; n <= SPARE_RUN_MAX; n++)
		fixture_warm_up(n * POOL_SIZE);
	ck_assert_uint_eq(fixture_n_owned(S0), N_SMALL_CLASSES + SPARE_RUN_MAX);
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 1);
	fixture_check();
	ck_assert_uint_gt(fixture_n_owned(S0), 1); /* not all in one change */
	while (own_trim(&fx.daemon, S0->index) == 1)
		fixture_check();
	ck_assert_uint_eq(fixture_n_owned(S0), 1);
	for (uint32_t c = 0; c < N_SMALL_CLASSES; c++)
		ck_assert_uint_eq(S0->entry->usedpools1[c], c == class_of_size(100) ? ref_pool_index(keep) + 1 : 0);
	for (uint32_t i = 0; i < SPARE_RUN_MAX; i++)
		ck_assert_uint_eq(S0->entry->spare_runs1[i], 0);
	ck_assert_uint_eq(S0->entry->requests, 0);
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 0);
	fixture_drop(S0, keep);
	fixture_expect_empty();
}
END_TEST

START_TEST(not_trimmed)
{
	fixture_warm_up(100);
	ck_assert_int_eq(session_lock(S1), 0);
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), -EBUSY);
	ck_assert_int_eq(session_unlock(S1), 0);
	ck_assert(critical_enter(S0)); /* stopped in the middle of a call */
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 0);
	ck_assert_uint_eq(fixture_n_owned(S0), 1);
	ck_assert_uint_eq(S0->entry->requests, 0);
	critical_leave(S0, 0);
	ck_assert_int_eq(own_trim(&fx.daemon, S1->index), 0); /* of another one */
	ck_assert_uint_eq(fixture_n_owned(S0), 1);
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 0);
	ck_assert_uint_eq(fixture_n_owned(S0), 0);
	fixture_expect_empty();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("own-trim");
	TCase *t = tcase_create("own_trim");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, collected_when_needed);
	tcase_add_test(t, collected_when_requested);
	tcase_add_test(t, collected_when_requested_by_a_drop);
	tcase_add_test(t, collected_in_bounded_steps);
	tcase_add_test(t, collected_pool_is_freed);
	tcase_add_loop_test(t, collected_when_memory_is_short, 0, 2);
	tcase_add_test(t, collected_to_the_end);
	tcase_add_loop_test(t, collected_over_calls, 0, 2);
	tcase_add_test(t, collected_before_asking);
	tcase_add_test(t, trimmed_with_remote_frees);
	tcase_add_test(t, trimmed_behind_many);
	tcase_add_test(t, trimmed_from_the_end);
	tcase_add_loop_test(t, trim_restarted, 0, 2);
	tcase_add_test(t, trim_restarted_by_a_tick);
	tcase_add_test(t, trimmed_from_the_next_session);
	tcase_add_test(t, trimmed_in_steps);
	tcase_add_test(t, not_trimmed);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
