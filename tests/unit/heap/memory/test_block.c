// SPDX-License-Identifier: MIT
/*
 * Blocks: in which order they are handed out; and remote frees, by others than the pool's owner, also of an owner that
 * dies
 */
#include "tests/unit/heap/fixture.h"
#include "tests/unit/heap/fixture_remote_free.h"

#include <stdio.h>
#include <sys/mman.h>

/* All blocks of a new pool are put on its free list at once, in their order. */
START_TEST(block_carved_in_order)
{
	uint32_t n = class_pool_blocks(class_of_size(48));

	for (uint32_t i = 0; i < n; i++) {
		uint64_t ref = fixture_bytes(S0, 48);
		const struct object_header *headers = ref_header(ref) - i;

		ck_assert_uint_eq(ref_block(ref), i);
		ck_assert_uint_eq(ref_pool(ref)->n_carved, n);
		ck_assert_uint_eq(ref_pool(ref)->freeblock1, i + 1 < n ? i + 2 : 0);
		for (uint32_t k = i + 1; k < n; k++) {
			ck_assert_uint_eq(header_generation(headers[k].word), 0);
			ck_assert_uint_eq(header_state(headers[k].word), STATE_FREE);
			ck_assert_uint_eq(header_link(headers[k].word), k + 1 < n ? k + 2 : 0);
		}
	}
}
END_TEST

START_TEST(block_last_freed_first)
{
	uint64_t refs[10], again;
	static const uint32_t freed[] = {3, 7, 0, 5};

	for (uint32_t i = 0; i < 10; i++)
		refs[i] = fixture_bytes(S0, 24);
	for (uint32_t i = 0; i < 4; i++) {
		fixture_drop(S0, refs[freed[i]]);
		ck_assert_uint_eq(ref_pool(refs[0])->freeblock1, freed[i] + 1);
		ck_assert_uint_eq(ref_state(refs[freed[i]]), STATE_FREE);
	}
	ck_assert_uint_eq(ref_pool(refs[0])->n_used, 6);
	for (uint32_t i = 4; i-- > 0;) {
		again = fixture_bytes(S0, 20);
		ck_assert_uint_eq(ref_block(again), freed[i]);
		ck_assert_uint_ne(again, refs[freed[i]]);
		ck_assert_int_eq(object_decref(S0, refs[freed[i]]), -ESTALE);
	}
	/* No block that was used before is free any more: the next one was never used. */
	ck_assert_uint_eq(ref_block(fixture_bytes(S0, 24)), 10);
}
END_TEST

/* Remote frees. */

/* 0: the other session drops the block first, 1: the owner does. The last drop is the remote free. */
START_TEST(remote_free_by_the_last_holder)
{
	bool owner_first = _i;
	uint64_t keep = fixture_bytes(S0, 40), ref = fixture_bytes(S0, 40);
	struct pool_entry *pool = ref_pool(ref);
	uint32_t n_remote_frees;

	share(ref);
	ck_assert_uint_eq(ref_header(ref)->rights_counted, RIGHTS_SHARED | RIGHTS_ONE);
	n_remote_frees = S0->entry->n_remote_frees;
	fixture_drop(owner_first ? S0 : S1, ref);
	ck_assert_uint_eq(ref_state(ref), STATE_LIVE);
	ck_assert_uint_eq(ref_header(ref)->rights_counted, owner_first ? RIGHTS_SHARED | RIGHTS_ONE : RIGHTS_SHARED);
	ck_assert_int_eq(object_refcount(S2, ref), 1);
	ck_assert_uint_eq(S0->entry->n_remote_frees, n_remote_frees);
	ck_assert_uint_eq(S0->entry->n_own_holds, owner_first ? 1 : 2);
	ck_assert_int_eq(object_decref(owner_first ? S0 : S1, ref), -EPERM);
	fixture_drop(owner_first ? S1 : S0, ref);
	ck_assert_uint_eq(ref_state(ref), STATE_REMOTE_FREE);
	ck_assert_uint_eq(ref_header(ref)->rights_counted, RIGHTS_SHARED);
	ck_assert_uint_eq(ref_header(ref)->word >> REF_POSITION_BITS, ref_generation(ref));
	ck_assert_uint_eq(pool_count_remote(fx.heap, pool), 1);
	ck_assert_uint_eq(pool->n_used, 2);
	ck_assert_uint_eq(pool->freeblock1, 3); /* as it was */
	ck_assert_uint_eq(S0->entry->remote_pools1, ref_pool_index(ref) + 1);
	ck_assert_uint_ne(S0->entry->n_remote_frees, n_remote_frees);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(object_incref(&fx.sessions[i], ref), -ESTALE);
		ck_assert_int_eq(object_decref(&fx.sessions[i], ref), -ESTALE);
	}
	fixture_drop(S0, keep);
	fixture_expect_empty();
}
END_TEST

/* A run is on no list that only its owner may change: another session frees it at once. */
START_TEST(run_is_freed_at_once)
{
	uint64_t ref = passed_to_s1(3 * POOL_SIZE);

	fixture_drop(S1, ref);
	ck_assert_uint_eq(ref_pool(ref)->kind, POOL_FREE);
	ck_assert_uint_eq(S0->entry->owned_pools1, 0);
	ck_assert_uint_eq(S0->entry->remote_pools1, 0);
	fixture_expect_empty();
}
END_TEST

START_TEST(list_of_pools_with_remote_frees)
{
	static const size_t sizes[] = {8, 16, 24, 200, 512};
	uint64_t keep[5], refs[5][3], more[POOL_SIZE / 40];
	uint32_t n_more = class_pool_blocks(class_of_size(24)) - 4;

	for (int i = 0; i < 5; i++) {
		keep[i] = fixture_bytes(S0, sizes[i]);
		for (int k = 0; k < 3; k++)
			refs[i][k] = passed_to_s1(sizes[i]);
	}
	for (uint32_t k = 0; k < 3; k++) {
		for (uint32_t i = 0; i < 5; i++) {
			fixture_drop(S1, refs[i][k]);
			ck_assert_uint_eq(pool_count_remote(fx.heap, ref_pool(refs[i][0])), k + 1);
			ck_assert_uint_eq(n_remote_pools(), k ? 5 : i + 1);
		}
	}
	/* One leaves from the middle of the list: a full pool that goes away with all that was in it. */
	for (uint32_t i = 0; i < n_more; i++)
		more[i] = passed_to_s1(24);
	ck_assert_uint_eq(ref_pool_index(more[n_more - 1]), ref_pool_index(keep[2]));
	ck_assert_int_eq(CALL(S1, object_incref(S1, keep[2])), 0);
	fixture_drop(S0, keep[2]);
	fixture_drop(S1, keep[2]);
	for (uint32_t i = 0; i < n_more; i++)
		fixture_drop(S1, more[i]);
	ck_assert_uint_eq(n_remote_pools(), 4);
	ck_assert_uint_eq(ref_pool(refs[2][0])->kind, POOL_FREE);
	critical_request(fx.heap, S0->index, REQUEST_COLLECT);
	fixture_drop(S0, fixture_bytes(S0, 8));
	ck_assert_uint_eq(n_remote_pools(), 0);
	for (int i = 0; i < 5; i++)
		ck_assert_uint_eq(ref_pool(refs[i][0])->is_on_remote_list, 0);
	for (int i = 0; i < 5; i++)
		if (i != 2)
			fixture_drop(S0, keep[i]);
	fixture_expect_empty();
}
END_TEST

/* All blocks of a full pool are remotely freed: the last one frees the pool, without its owner. */
START_TEST(full_pool_is_freed_by_others)
{
	uint32_t size_class = (uint32_t)_i, n = class_pool_blocks(size_class);
	uint64_t refs[POOL_SIZE / 24] = {0}, again;
	struct pool_entry *pool;

	for (uint32_t i = 0; i < n; i++)
		refs[i] = fixture_bytes(S0, class_block_size(size_class));
	for (uint32_t i = 0; i < n; i++) {
		share(refs[i]);
		fixture_drop(S0, refs[i]);
	}
	pool = ref_pool(refs[0]);
	ck_assert_uint_eq(S0->entry->usedpools1[size_class], 0);
	S0->entry->activity = ACTIVITY_NONE;
	for (uint32_t i = 0; i < n; i++) {
		ck_assert_uint_eq(pool->owner1, S0->owner1);
		ck_assert_uint_eq(pool_count_remote(fx.heap, pool), i);
		fixture_drop(S1, refs[i]);
	}
	ck_assert_uint_eq(S0->entry->activity, ACTIVITY_NONE);
	ck_assert_uint_eq(pool->identity, pool_identity(POOL_FREE, CLASS_NONE, 0));
	ck_assert_uint_eq(S0->entry->owned_pools1, 0);
	ck_assert_uint_eq(S0->entry->remote_pools1, 0);
	/* It is as good as new: nothing of what its headers said is believed. */
	again = fixture_bytes(S2, class_block_size(size_class));
	ck_assert_uint_eq(ref_position(again), ref_position(refs[0]));
	ck_assert_uint_gt(ref_generation(again), ref_generation(refs[n - 1]));
	ck_assert_uint_eq(ref_pool(again)->n_used, 1);
	ck_assert_uint_eq(ref_pool(again)->freeblock1, 2);
	fixture_drop(S2, again);
	fixture_expect_empty();
}
END_TEST

/* While the owner is in a critical section it may still read a header of the pool: the pool is freed afterwards. */
START_TEST(full_pool_waits_for_its_owner)
{
	uint32_t n = class_pool_blocks(5);
	uint64_t refs[POOL_SIZE / 64];
	struct pool_entry *pool;

	for (uint32_t i = 0; i < n; i++)
		refs[i] = fixture_bytes(S0, 48);
	for (uint32_t i = 0; i < n; i++) {
		share(refs[i]);
		fixture_drop(S0, refs[i]);
	}
	pool = ref_pool(refs[0]);
	ck_assert(critical_enter(S0));
	for (uint32_t i = 0; i < n; i++)
		fixture_drop(S1, refs[i]);
	ck_assert_uint_eq(pool->owner1, S0->owner1);
	ck_assert_uint_eq(pool_count_remote(fx.heap, pool), n);
	ck_assert_uint_eq(ref_header(refs[n - 1])->rights_counted, RIGHTS_SHARED);
	fixture_trim_sessions();
	ck_assert_uint_eq(pool->owner1, S0->owner1);
	critical_leave(S0, 0);
	fixture_check();
	fixture_trim_sessions();
	ck_assert_uint_eq(pool->identity, pool_identity(POOL_FREE, CLASS_NONE, 0));
	ck_assert_uint_eq(S0->entry->remote_pools1, 0);
}
END_TEST

START_TEST(pool_with_room_is_left)
{
	uint32_t n = class_pool_blocks(63);
	uint64_t refs[16];
	struct pool_entry *pool;

	for (uint32_t i = 0; i < n; i++)
		refs[i] = i ? passed_to_s1(512) : fixture_bytes(S0, 512);
	fixture_drop(S0, refs[0]);
	for (uint32_t i = 1; i < n; i++)
		fixture_drop(S1, refs[i]);
	pool = ref_pool(refs[0]);
	ck_assert_uint_eq(pool->owner1, S0->owner1);
	ck_assert_uint_eq(pool_count_remote(fx.heap, pool), n - 1);
	ck_assert_uint_eq(pool->n_used, n - 1);
	ck_assert_uint_eq(ref_position(fixture_bytes(S0, 512)), ref_position(refs[0]));
	fixture_check();
}
END_TEST

/* The owner dies. */

enum { N_BLOCKS = 12 };

/* Pools of two classes, with objects of all kinds: the owner's own, shared, passed on, returned, free. */
struct estate {
	uint64_t own[N_BLOCKS], shared[N_BLOCKS], passed[N_BLOCKS], list, child, run, large, spare;
};

static void estate_new(struct estate *e)
{
	uint64_t leaf;

	for (uint32_t i = 0; i < N_BLOCKS; i++) {
		size_t size = i % 2 ? 40 : 512;

		e->own[i] = fixture_bytes(S0, size);
		e->shared[i] = fixture_bytes(S0, size);
		share(e->shared[i]);
		e->passed[i] = passed_to_s1(size);
		remotely_freed(size);
		fixture_drop(S0, fixture_bytes(S0, size));
	}
	e->list = fixture_list(S0, 5);
	e->child = fixture_list(S0, 1);
	leaf = fixture_bytes(S0, 40);
	MUST(S0, list_set(S0, e->list, 0, e->child));
	MUST(S0, list_set(S0, e->child, 0, leaf));
	fixture_drop(S0, leaf);
	fixture_drop(S0, e->child);
	e->run = passed_to_s1(2 * POOL_SIZE);
	e->large = fixture_bytes(S0, 2 * ARENA_SIZE_DEFAULT);
	e->spare = fixture_bytes(S0, 4 * POOL_SIZE);
	fixture_drop(S0, e->spare);
	MUST(S0, object_incref(S0, e->own[0]));
	remotely_freed(40);
	remotely_freed(512);
	ck_assert_uint_eq(n_remote_pools(), 2);
}

static void expect_estate_is_s1s(const struct estate *e)
{
	for (uint32_t i = 0; i < N_BLOCKS; i++) {
		ck_assert_int_eq((int)object_refcount(S1, e->own[i]), -ESTALE);
		ck_assert_int_eq(object_refcount(S1, e->shared[i]), 1);
		ck_assert_int_eq(object_refcount(S1, e->passed[i]), 1);
		ck_assert_uint_eq(ref_pool(e->passed[i])->owner1, 0);
		ck_assert_uint_eq(ref_pool(e->passed[i])->is_on_remote_list, 0);
	}
	ck_assert_int_eq((int)object_refcount(S1, e->list), -ESTALE);
	ck_assert_int_eq((int)object_refcount(S1, e->child), -ESTALE);
	ck_assert_int_eq((int)object_refcount(S1, e->large), -ESTALE);
	ck_assert_int_eq(object_refcount(S1, e->run), 1);
	ck_assert_uint_eq(ref_pool(e->run)->owner1, 0);
	ck_assert_uint_eq(ref_pool(e->spare)->kind, POOL_FREE);
}

START_TEST(owner_dies)
{
	struct estate e;
	uint64_t n_free_before;

	estate_new(&e);
	fixture_bury(S0);
	expect_estate_is_s1s(&e);
	ck_assert_uint_eq(fixture_stats().classes[class_of_size(40)].n_used, N_BLOCKS);
	/* A block of a pool without an owner is freed at once. */
	for (uint32_t i = 0; i < N_BLOCKS; i++) {
		n_free_before = ref_pool(e.shared[i])->n_used;
		fixture_drop(S1, e.shared[i]);
		ck_assert_uint_eq(ref_state(e.shared[i]), STATE_FREE);
		ck_assert_uint_eq(ref_pool(e.shared[i])->n_used, n_free_before - 1);
		fixture_drop(S1, e.passed[i]);
	}
	fixture_drop(S1, e.run);
	fixture_expect_empty();
}
END_TEST

/* Blocks are remotely freed while their owner is dead and not reclaimed yet, between each of the steps. */
START_TEST(remote_free_to_a_dead_owner)
{
	struct estate e;
	uint32_t i = 0;
	int r;

	estate_new(&e);
	session_mark_dead(fx.heap, S0->index);
	do {
		if (i < N_BLOCKS) {
			fixture_drop(S1, e.passed[i]);
			fixture_drop(S1, e.shared[i]);
		}
		if (i == 2)
			fixture_drop(S1, e.run);
		i++;
		r = session_reclaim_step(S0);
		ck_assert_int_ge(r, 0);
		fixture_check();
	} while (r == 1);
	for (; i < N_BLOCKS; i++) {
		fixture_drop(S1, e.passed[i]);
		fixture_drop(S1, e.shared[i]);
	}
	fixture_expect_empty();
}
END_TEST

/* The owner dies, and its entry is given to another session, which owns nothing of it. */
START_TEST(session_entry_is_used_again)
{
	struct estate e;
	struct session next;

	estate_new(&e);
	fixture_bury(S0);
	ck_assert_int_eq(fixture_admit(fx.heap, &next), 0);
	ck_assert_uint_eq(next.index, S0->index);
	ck_assert(session_is_empty(&next));
	for (uint32_t i = 0; i < N_BLOCKS; i++) {
		struct own_object own;

		ck_assert(!own_find(&next, e.shared[i], &own));
		ck_assert_int_eq(object_decref(&next, e.shared[i]), -EPERM);
		fixture_drop(S1, e.shared[i]);
		fixture_drop(S1, e.passed[i]);
	}
	fixture_drop(S1, e.run);
	fixture_expect_empty();
}
END_TEST

/* A pool without an owner is adopted, with what is in it, by the next session that needs its class. */
START_TEST(unowned_pool_is_adopted)
{
	uint64_t ref = passed_to_s1(40), mine;

	remotely_freed(40);
	fixture_drop(S0, fixture_bytes(S0, 40));
	fixture_bury(S0);
	ck_assert_uint_eq(
		fx.heap->control->spaces[SPACE_OBJECTS].usedpools1[class_of_size(40)], ref_pool_index(ref) + 1);
	mine = fixture_bytes(S2, 40);
	ck_assert_uint_eq(ref_pool_index(mine), ref_pool_index(ref));
	ck_assert_uint_eq(ref_pool(ref)->owner1, S2->owner1);
	ck_assert_uint_eq(fx.heap->control->spaces[SPACE_OBJECTS].usedpools1[class_of_size(40)], 0);
	MUST(S2, object_incref(S2, ref)); /* it has not made it, so by its table */
	ck_assert_uint_eq(ref_own(ref), 0);
	ck_assert_uint_eq(hold_find(S2, ref)->count, 1);
	fixture_drop(S2, ref);
	fixture_drop(S1, ref);
	ck_assert_uint_eq(ref_state(ref), STATE_REMOTE_FREE);
	ck_assert_uint_eq(S2->entry->remote_pools1, ref_pool_index(ref) + 1);
	fixture_drop(S2, mine);
	fixture_expect_empty();
}
END_TEST

/* The session that holds the owner's block dies: reclaiming it frees the block remotely. */
START_TEST(holder_dies)
{
	uint64_t keep = fixture_bytes(S0, 40), ref = passed_to_s1(40), both = fixture_bytes(S0, 40);

	share(both);
	MUST(S1, object_incref(S1, both));
	fixture_bury(S1);
	ck_assert_uint_eq(ref_state(ref), STATE_REMOTE_FREE);
	ck_assert_int_eq(object_refcount(S0, both), 1);
	fixture_drop(S0, both);
	ck_assert_uint_eq(pool_count_remote(fx.heap, ref_pool(ref)), 2);
	fixture_drop(S0, keep);
	fixture_expect_empty();
}
END_TEST

/* The owner closes in steps, while others remotely free its blocks. */
START_TEST(owner_closes)
{
	struct estate e;
	uint32_t i = 0;
	int r;

	estate_new(&e);
	while ((r = session_drop_step(S0, false)) == 1) {
		if (i < N_BLOCKS)
			fixture_drop(S1, e.passed[i++]);
		ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 0); /* trims nothing of a session that closes */
		fixture_check();
	}
	ck_assert_int_eq(r, 0);
	ck_assert(session_is_empty(S0));
	for (; i < N_BLOCKS; i++)
		fixture_drop(S1, e.passed[i]);
	for (i = 0; i < N_BLOCKS; i++)
		fixture_drop(S1, e.shared[i]);
	fixture_drop(S1, e.run);
	fixture_expect_empty();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("block");
	TCase *t = tcase_create("block");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, block_carved_in_order);
	tcase_add_test(t, block_last_freed_first);
	tcase_add_loop_test(t, remote_free_by_the_last_holder, 0, 2);
	tcase_add_test(t, run_is_freed_at_once);
	tcase_add_test(t, list_of_pools_with_remote_frees);
	tcase_add_loop_test(t, full_pool_is_freed_by_others, 0, N_SMALL_CLASSES);
	tcase_add_test(t, full_pool_waits_for_its_owner);
	tcase_add_test(t, pool_with_room_is_left);
	tcase_add_test(t, owner_dies);
	tcase_add_test(t, remote_free_to_a_dead_owner);
	tcase_add_test(t, session_entry_is_used_again);
	tcase_add_test(t, unowned_pool_is_adopted);
	tcase_add_test(t, holder_dies);
	tcase_add_test(t, owner_closes);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
