// SPDX-License-Identifier: MIT
/*
 * Medium objects: spans of pools, and the blocks in them
 */
#include "heap/memory/memory.h"
#include "heap/memory/rebuild.h"
#include "heap/object/dying.h"
#include "heap/repair/check.h"
#include "heap/repair/recover.h"
#include "heap/shared/critical.h"
#include "tests/unit/heap/fixture.h"

#include <string.h>

static uint64_t medium(struct session *session, size_t size)
{
	return fixture_new(session, TYPE_BYTES, size);
}

/* The largest size of a class that is used. */
static size_t size_of(uint32_t size_class)
{
	return class_shapes[size_class].size;
}

#define N_MEDIUM 43U /* classes */

/* Classes. */

START_TEST(table)
{
	size_t before = BLOCK_SIZE_MAX;

	for (uint32_t c = N_SMALL_CLASSES; c < N_CLASSES; c++) {
		const struct class_shape *shape = &class_shapes[c];
		uint64_t span = (uint64_t)shape->n_pools * POOL_SIZE;

		if (c >= N_SMALL_CLASSES + N_MEDIUM) {
			ck_assert(!shape->size && !shape->n_blocks && !shape->n_pools);
			continue;
		}
		for (size_t size = before + 1; size <= shape->size; size++)
			ck_assert_uint_eq(class_of_size(size), c);
		/* an eighth of a block is lost at most, and no block more fits into the span */
		ck_assert_uint_le(8 * (shape->size - before - 1), shape->size);
		ck_assert_uint_lt(span, shape->first + (shape->n_blocks + 1U) * (uint64_t)(shape->size + 16U));
		/* payload in a heap filled with the worst size of the class */
		ck_assert_uint_ge((before + 1) * shape->n_blocks * (64U / shape->n_pools) * 100, 85U * 64 * POOL_SIZE);
		before = shape->size;
	}
	ck_assert_uint_eq(before, MEDIUM_SIZE_MAX);
}
END_TEST

/* Every position of a span: a block begins where it should, and nowhere else. */
START_TEST(positions)
{
	uint32_t c = N_SMALL_CLASSES + (uint32_t)_i;
	const struct class_shape *shape = &class_shapes[c];

	for (uint64_t off = 0; off < (uint64_t)shape->n_pools * POOL_SIZE; off += 8) {
		uint64_t in = off - shape->first, i = in / shape->size;
		bool begins = off >= shape->first && in % shape->size == 0 && i < shape->n_blocks;

		ck_assert_uint_eq(block_in_span(c, off), begins ? i + 1 : 0);
	}
}
END_TEST

/* Two spans of each class: made, written, found by nothing but their own refs, dropped in another order. */
START_TEST(whole_spans)
{
	uint32_t c = N_SMALL_CLASSES + (uint32_t)_i, n = 2 * class_shapes[c].n_blocks;
	size_t size = size_of(c);
	static uint64_t refs[200];
	struct object object;

	for (uint32_t i = 0; i < n; i++) {
		const struct pool_entry *pool;

		ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_BYTES, size, &refs[i])), 0);
		pool = ref_pool(refs[i]);
		ck_assert_uint_eq(pool->size_class, c);
		ck_assert_uint_eq(ref_offset(refs[i]) % MEDIUM_ALIGNMENT, 0);
		for (uint32_t k = 1; k < class_shapes[c].n_pools; k++)
			ck_assert(
				pool[k].identity == pool_identity(POOL_BODY, c, S0->owner1) && pool[k].span_index == k);
		memset(ref_data(refs[i]), (int)i, size);
	}
	fixture_check();
	for (uint32_t i = 0; i < n; i++) {
		ck_assert_int_eq(object_find(fx.heap, refs[i], &object), 0);
		ck_assert_uint_eq(object.size, size);
		for (size_t k = 0; k < size; k += 1 + k / 16)
			ck_assert_uint_eq(ref_data(refs[i])[k], (uint8_t)i);
		for (uint64_t k = 1; k < size / 8; k += 7)
			ck_assert_int_lt(object_incref(S1, refs[i] + k), 0);
	}
	for (uint32_t i = 0; i < n; i += 2)
		ck_assert_int_eq(object_decref(S0, refs[i]), 0);
	fixture_check();
	for (uint32_t i = 1; i < n; i += 2)
		ck_assert_int_eq(object_decref(S0, refs[i]), 0);
	fixture_expect_empty();
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

/* What has room in no class, or is to be aligned to more, takes whole pools. */
START_TEST(what_is_no_medium_object)
{
	uint64_t n_pools = 0;

	ck_assert_uint_ne(memory_class(fx.heap, SPACE_OBJECTS, MEDIUM_SIZE_MAX, 64, &n_pools), CLASS_NONE);
	ck_assert_uint_eq(memory_class(fx.heap, SPACE_OBJECTS, MEDIUM_SIZE_MAX + 1, 0, &n_pools), CLASS_NONE);
	ck_assert_uint_eq(n_pools, 8);
	ck_assert_uint_eq(memory_class(fx.heap, SPACE_OBJECTS, 600, 128, &n_pools), CLASS_NONE);
	ck_assert_uint_eq(n_pools, 1);
	ck_assert_uint_eq(memory_class(fx.heap, SPACE_RECORDS, 600, 0, &n_pools), CLASS_NONE);
	ck_assert_uint_eq(memory_class(fx.heap, SPACE_OBJECTS, 8, 64, &n_pools), class_of_size(BLOCK_SIZE_MAX + 1));
}
END_TEST

/* Arenas of 16 pools have no room for the longest spans: such objects are runs. */
START_TEST(short_arenas)
{
	const struct heap_geometry geometry = {.heap_size = 4 << 20, .arena_size = ARENA_SIZE_MIN, .n_sessions = 8};

	fixture_close();
	fixture_open_geometry(&geometry);
	for (size_t size = 600; size <= MEDIUM_SIZE_MAX; size += 700) {
		uint64_t ref = medium(S0, size);
		uint32_t n_pools = class_shapes[class_of_size(size)].n_pools;

		ck_assert_uint_eq(ref_pool(ref)->kind, n_pools <= 16 ? POOL_BLOCKS : POOL_RUN);
		memset(ref_data(ref), 1, size);
		fixture_drop(S0, ref);
	}
	fixture_expect_empty();
}
END_TEST

/* Others' frees. */

#define SIZE 2000U /* 13 blocks in a span of 7 pools, most of which begin in its bodies */

static uint32_t fill_span(uint64_t *refs)
{
	uint32_t n = class_shapes[class_of_size(SIZE)].n_blocks;

	for (uint32_t i = 0; i < n; i++) {
		refs[i] = medium(S0, SIZE);
		ck_assert_ptr_eq(ref_pool(refs[i]), ref_pool(refs[0]));
		MUST(S1, object_incref(S1, refs[i]));
		fixture_drop(S0, refs[i]);
	}
	return n;
}

/* The last of them takes the span from its owner: all of its pools are free. */
START_TEST(freed_by_another)
{
	uint64_t refs[64];
	uint32_t n = fill_span(refs), n_pools = class_shapes[class_of_size(SIZE)].n_pools;
	struct pool_entry *pool = ref_pool(refs[0]);

	for (uint32_t i = 0; i < n; i++) {
		ck_assert_uint_eq(pool->kind, POOL_BLOCKS);
		fixture_drop(S1, refs[i]);
	}
	for (uint32_t k = 0; k < n_pools; k++)
		ck_assert_uint_eq(pool[k].identity, pool_identity(POOL_FREE, CLASS_NONE, 0));
	ck_assert_uint_eq(S1->entry->n_blocks_returned, n);
	fixture_expect_empty();
}
END_TEST

START_TEST(collected)
{
	uint64_t refs[64], again;
	uint32_t n = fill_span(refs);

	for (uint32_t i = 1; i < n; i += 3)
		fixture_drop(S1, refs[i]);
	ck_assert_int_eq(session_serve_requests(S0), 0);
	fixture_check();
	again = medium(S0, SIZE);
	ck_assert_ptr_eq(ref_pool(again), ref_pool(refs[0]));
	for (uint32_t i = 0; i < n; i++)
		if (i % 3 != 1)
			fixture_drop(S1, refs[i]);
	fixture_drop(S0, again);
	fixture_expect_empty();
}
END_TEST

/* The owner dies: nobody owns the span, and the next one that wants the class takes it. */
START_TEST(outlives_its_owner)
{
	uint64_t refs[64], more;
	uint32_t n = fill_span(refs), c = class_of_size(SIZE);
	struct pool_entry *pool = ref_pool(refs[0]);

	fixture_drop(S1, refs[2]);
	session_mark_dead(fx.heap, S0->index);
	while (session_reclaim_step(S0) == 1)
		;
	ck_assert_uint_eq(pool->owner1, 0);
	for (uint32_t k = 1; k < class_shapes[c].n_pools; k++)
		ck_assert_uint_eq(pool[k].identity, pool_identity(POOL_BODY, c, 0));
	fixture_check();
	more = medium(S2, SIZE);
	ck_assert_uint_eq(ref_position(more), ref_position(refs[2]));
	ck_assert_uint_ne(more, refs[2]);
	for (uint32_t k = 1; k < class_shapes[c].n_pools; k++)
		ck_assert_uint_eq(pool[k].identity, pool_identity(POOL_BODY, c, S2->owner1));
	for (uint32_t i = 0; i < n; i++)
		if (i != 2)
			fixture_drop(S1, refs[i]);
	fixture_drop(S2, more);
}
END_TEST

/* Old refs. */

/* A place is used by small, medium and large objects in turn: no ref of before becomes good again. */
START_TEST(refs_stay_stale)
{
	static const size_t sizes[] = {2000, 40, 600, 9000, 2000, 30000, 500, 600, 2000};
	static uint64_t old[4000];
	uint32_t n_old = 0;

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		uint32_t n = 0;
		uint64_t refs[400];

		for (uint64_t ref = 0; n < 300 && n * sizes[s] < ARENA_SIZE_DEFAULT / 2; n++) {
			ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_BYTES, sizes[s], &ref)), 0);
			for (uint32_t i = 0; i < n_old; i++)
				ck_assert_uint_ne(old[i], ref);
			refs[n] = ref;
		}
		for (uint32_t i = 0; i < n_old; i++)
			ck_assert_int_eq(object_incref(S0, old[i]), -ESTALE);
		for (uint32_t i = 0; i < n; i++) {
			ck_assert_int_eq(object_decref(S0, refs[i]), 0);
			if (n_old < 4000)
				old[n_old++] = refs[i];
		}
		fixture_trim_sessions();
		fixture_check();
	}
}
END_TEST

/* Repair. */

static void rebuilt(void)
{
	ck_assert_int_eq(session_lock(S2), 0);
	ck_assert_int_eq(critical_block_all(fx.heap), 0);
	rebuild_all(fx.heap);
	critical_unblock_all(fx.heap);
	ck_assert_int_eq(session_unlock(S2), 0);
	fixture_check();
}

START_TEST(made_anew)
{
	uint64_t refs[64], one = medium(S1, 12000);
	uint32_t n = fill_span(refs);
	struct pool_entry *pool = ref_pool(refs[0]);

	fixture_drop(S1, refs[0]);
	fixture_drop(S1, refs[n - 1]);
	rebuilt();
	pool->freeblock1 = 7;
	pool[3].identity = 0; /* one body says nothing any more: the others do */
	pool[5].span_index = 77;
	ck_assert_int_gt(heap_check(S2, NULL, NULL), 0);
	rebuilt();
	for (uint32_t i = 1; i + 1 < n; i++) {
		ck_assert_int_eq(object_refcount(S1, refs[i]), 1);
		fixture_drop(S1, refs[i]);
	}
	fixture_drop(S1, one);
	fixture_expect_empty();
}
END_TEST

/* A list of many slots in a medium block is freed in steps. */
START_TEST(long_lists_go_in_steps)
{
	uint64_t list = fixture_list(S0, 2000), child = fixture_bytes(S0, 8);
	uint32_t n = 0;

	for (uint64_t i = 0; i < 2000; i += 3)
		ck_assert_int_eq(list_set(S0, list, i, child), 0);
	fixture_give_up(S0, list);
	while (dying_step(S0, false) > 0) {
		fixture_check();
		n++;
	}
	ck_assert_uint_gt(n, 20);
	ck_assert_int_eq(object_refcount(S1, child), 1);
	fixture_drop(S0, child);
	fixture_expect_empty();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("medium");
	TCase *t = tcase_create("medium");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, table);
	tcase_add_loop_test(t, positions, 0, N_MEDIUM);
	tcase_add_loop_test(t, whole_spans, 0, N_MEDIUM);
	tcase_add_test(t, what_is_no_medium_object);
	tcase_add_test(t, short_arenas);
	tcase_add_test(t, freed_by_another);
	tcase_add_test(t, collected);
	tcase_add_test(t, outlives_its_owner);
	tcase_add_test(t, refs_stay_stale);
	tcase_add_test(t, made_anew);
	tcase_add_test(t, long_lists_go_in_steps);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
