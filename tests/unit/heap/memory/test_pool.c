// SPDX-License-Identifier: MIT
/*
 * Pools: used, full or empty, on which list that puts them, and that nobody touches a page before it is needed
 */
#include "tests/unit/heap/fixture.h"

#include <stdio.h>
#include <sys/mman.h>

#define ALONE UINT32_C(0) /* in next1 and prev1 */

/* The first pool with room that the session has of its own. */
static uint32_t used_pool1(uint32_t size_class)
{
	return S0->entry->usedpools1[size_class];
}

/* Fill `n_pools` pools of a class to the last block. */
static void fill_pools(uint64_t *refs, uint32_t n_pools, size_t size)
{
	uint32_t n = class_pool_blocks(class_of_size(size));

	for (uint32_t i = 0; i < n_pools * n; i++)
		refs[i] = fixture_bytes(S0, size);
}

START_TEST(pool_used_full_used)
{
	uint64_t refs[16];
	uint32_t n = class_pool_blocks(63), pool;

	ck_assert_uint_le(n, 16);
	for (uint32_t i = 0; i < n; i++) {
		refs[i] = fixture_bytes(S0, 512);
		pool = ref_pool_index(refs[i]);
		ck_assert_uint_eq(pool, ref_pool_index(refs[0]));
		ck_assert_uint_eq(ref_pool(refs[i])->n_used, i + 1);
		/* used: on its class's list, until the last block makes it full */
		ck_assert_uint_eq(used_pool1(63), i + 1 < n ? pool + 1 : ALONE);
	}
	ck_assert_uint_eq(ref_pool(refs[0])->next1, ALONE);
	ck_assert_uint_eq(ref_pool(refs[0])->prev1, ALONE);
	pool = ref_pool_index(refs[0]);
	fixture_drop(S0, refs[n / 2]);
	ck_assert_uint_eq(used_pool1(63), pool + 1);
	/* and the block that was freed is the one that is used next */
	ck_assert_uint_eq(ref_position(fixture_bytes(S0, 512)), ref_position(refs[n / 2]));
	ck_assert_uint_eq(used_pool1(63), ALONE);
}
END_TEST

START_TEST(pool_full_goes_to_the_front)
{
	uint32_t n = class_pool_blocks(63), a, b, c;
	uint64_t refs[64], third;

	fill_pools(refs, 2, 512);
	third = fixture_bytes(S0, 512);
	a = ref_pool_index(refs[0]), b = ref_pool_index(refs[n]), c = ref_pool_index(third);
	ck_assert_uint_ne(a, b);
	ck_assert_uint_ne(b, c);
	ck_assert_uint_eq(used_pool1(63), c + 1);

	fixture_drop(S0, refs[0]);
	ck_assert_uint_eq(used_pool1(63), a + 1);
	ck_assert_uint_eq(fx.heap->pools[a].next1, c + 1);
	fixture_drop(S0, refs[n]);
	ck_assert_uint_eq(used_pool1(63), b + 1);
	ck_assert_uint_eq(fx.heap->pools[b].prev1, ALONE);
	ck_assert_uint_eq(fx.heap->pools[b].next1, a + 1);
	ck_assert_uint_eq(fx.heap->pools[a].prev1, b + 1);
	ck_assert_uint_eq(fx.heap->pools[a].next1, c + 1);
	ck_assert_uint_eq(fx.heap->pools[c].prev1, a + 1);
	ck_assert_uint_eq(fx.heap->pools[c].next1, ALONE);

	/* A used pool stays in its place of the list when one more block of it is freed. */
	fixture_drop(S0, refs[1]);
	ck_assert_uint_eq(used_pool1(63), b + 1);
}
END_TEST

/* An empty pool leaves its list, from the front, the middle and the end, and goes back to its arena. */
START_TEST(pool_empty_leaves_its_list)
{
	uint32_t n = class_pool_blocks(63), pools[3], gone = (uint32_t)_i;
	uint64_t refs[64];

	fill_pools(refs, 3, 512);
	for (uint32_t k = 0; k < 3; k++) {
		pools[k] = ref_pool_index(refs[k * n]);
		fixture_drop(S0, refs[k * n]);
	}
	for (uint32_t i = 1; i < n; i++) {
		ck_assert(!pool_is_free(pools[gone]));
		fixture_drop(S0, refs[gone * n + i]);
	}
	ck_assert_int_eq(session_serve_requests(S0), 0);
	ck_assert(pool_is_free(pools[gone]));
	ck_assert_uint_eq(fx.heap->pools[pools[gone]].kind, POOL_FREE);
	for (uint32_t i = used_pool1(63), k = 0; k < 2; k++, i = fx.heap->pools[i - 1].next1) {
		ck_assert_uint_ne(i, ALONE);
		ck_assert_uint_ne(i, pools[gone] + 1);
	}
}
END_TEST

START_TEST(pool_empty_takes_another_class)
{
	uint32_t pool = ref_pool_index(fixture_bytes(S0, 8)); /* holds the first pool down */
	uint64_t ref = fixture_bytes(S0, 500), other;
	uint32_t generation;

	memset(ref_data(ref), 0xff, 500);
	ck_assert_uint_ne(ref_pool_index(ref), pool);
	pool = ref_pool_index(ref);
	generation = ref_generation(ref);
	fixture_drop(S0, ref);
	ck_assert_uint_eq(ref_pool(ref)->kind, POOL_BLOCKS); /* the session keeps it until it is trimmed */
	fixture_trim_sessions();
	for (size_t size = 16; size <= 512; size += 31) {
		other = fixture_bytes(S0, size);
		ck_assert_uint_eq(ref_pool_index(other), pool);
		ck_assert_uint_eq(ref_pool(other)->size_class, class_of_size(size));
		ck_assert_uint_eq(ref_block(other), 0);
		/* generations go on, so that an old ref never finds the new object */
		ck_assert_uint_gt(ref_generation(other), generation);
		generation = ref_generation(other);
		ck_assert_int_eq(object_incref(S0, ref), -ESTALE);
		fixture_drop(S0, other);
		fixture_trim_sessions();
		ck_assert_uint_eq(ref_pool(other)->kind, POOL_FREE);
	}
}
END_TEST

/*
 * A pool that takes the class it had before keeps its headers and its free list. 0: it was freed meanwhile, 1: it was
 * kept.
 */
START_TEST(pool_same_class_again)
{
	bool is_kept = _i;
	uint64_t refs[8];

	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 5; i++)
			refs[i] = fixture_bytes(S0, 100);
		for (uint32_t i = 0; i < 5; i++)
			for (uint32_t k = 0; k < i; k++)
				ck_assert_uint_ne(ref_position(refs[i]), ref_position(refs[k]));
		for (uint32_t i = 0; i < 5; i++) /* the block that was freed last is in front */
			ck_assert_uint_eq(ref_block(refs[i]), round % 2 ? 4 - i : i);
		ck_assert_uint_eq(ref_pool(refs[0])->n_carved, class_pool_blocks(class_of_size(100)));
		for (uint32_t i = 0; i < 5; i++)
			fixture_drop(S0, refs[i]);
		if (!is_kept)
			fixture_trim_sessions();
		ck_assert_uint_eq(used_pool1(class_of_size(100)), is_kept ? ref_pool_index(refs[0]) + 1 : ALONE);
		ck_assert_uint_eq(ref_pool(refs[0])->kind, is_kept ? POOL_BLOCKS : POOL_FREE);
	}
}
END_TEST

static void expect_class(uint32_t size_class, uint64_t n_pools, uint64_t n_used)
{
	struct heap_stats stats = fixture_stats();

	ck_assert_uint_eq(stats.classes[size_class].n_pools, n_pools);
	ck_assert_uint_eq(stats.classes[size_class].n_used, n_used);
	ck_assert_uint_eq(stats.classes[size_class].n_available, n_pools * class_pool_blocks(size_class) - n_used);
}

START_TEST(pool_class_counters)
{
	uint32_t n = class_pool_blocks(12);
	uint64_t refs[256];

	fill_pools(refs, 2, 100);
	expect_class(12, 2, 2 * n);
	for (uint32_t i = 0; i < 2 * n; i++) {
		fixture_drop(S0, refs[i]);
		ck_assert_int_eq(session_serve_requests(S0), 0);
		/* the first pool that becomes free is the only one with room, and stays; the second goes */
		expect_class(12, i + 1 < 2 * n ? 2 : 1, 2 * n - i - 1);
	}
	fixture_trim_sessions();
	expect_class(12, 0, 0);
}
END_TEST

/* Residency. */

/* The pages of an arena are allocated when it is mapped. mincore() counts a page only once it was touched. */
static bool page_is_resident(uint32_t pool)
{
	unsigned char resident;

	ck_assert_int_eq(mincore(fx.heap->base + (uint64_t)pool * POOL_SIZE, POOL_SIZE, &resident), 0);
	return resident & 1;
}

static uint32_t n_resident(uint32_t first, uint32_t n)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += page_is_resident(first + i);
	return sum;
}

START_TEST(resident_only_when_touched)
{
	uint32_t n = class_pool_blocks(63), pools = fx.heap->pools_per_arena, first;
	uint64_t ref = fixture_bytes(S0, 512);

	first = ref_arena_index(ref) * pools;
	ck_assert_uint_eq(n_resident(first, pools), 1);
	ck_assert(page_is_resident(ref_pool_index(ref)));
	for (uint32_t i = 1; i < n; i++)
		fixture_bytes(S0, 512);
	ck_assert_uint_eq(n_resident(first, pools), 1);
	fixture_bytes(S0, 512);
	ck_assert_uint_eq(n_resident(first, pools), 2);

	/* A medium object's header is elsewhere: making it touches none of its pages, freeing it neither. */
	ref = fixture_bytes(S0, 10 * POOL_SIZE);
	ck_assert_uint_eq(n_resident(first, pools), 2);
	ref_data(ref)[3 * POOL_SIZE] = 1;
	ck_assert_uint_eq(n_resident(first, pools), 3);
	fixture_drop(S0, ref);
	ck_assert_uint_eq(n_resident(first, pools), 3);
}
END_TEST

START_TEST(resident_large)
{
	uint32_t pools = fx.heap->pools_per_arena;
	uint64_t ref = fixture_bytes(S0, 3 * ARENA_SIZE_DEFAULT), list;

	ck_assert_uint_eq(n_resident(ref_pool_index(ref), 3 * pools), 0);
	ref_data(ref)[2 * ARENA_SIZE_DEFAULT + 5 * POOL_SIZE] = 1;
	ck_assert_uint_eq(n_resident(ref_pool_index(ref), 3 * pools), 1);
	fixture_drop(S0, ref);
	/* A list's slots must be empty, so all its pages are written. */
	list = fixture_list(S0, 10 * POOL_SIZE / 8);
	ck_assert_uint_eq(n_resident(ref_pool_index(list), 10), 10);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("pool");
	TCase *t = tcase_create("pool");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, pool_used_full_used);
	tcase_add_test(t, pool_full_goes_to_the_front);
	tcase_add_loop_test(t, pool_empty_leaves_its_list, 0, 3);
	tcase_add_test(t, pool_empty_takes_another_class);
	tcase_add_loop_test(t, pool_same_class_again, 0, 2);
	tcase_add_test(t, pool_class_counters);
	tcase_add_test(t, resident_only_when_touched);
	tcase_add_test(t, resident_large);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
