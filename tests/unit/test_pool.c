/* SPDX-License-Identifier: MIT */
/*
 * Size classes, pools and blocks
 *
 * The classes are CPython 3.7's, row by row. Of a pool: that it is used, full or empty, on which list that puts it, and
 * that an empty one may take any class. Of a block: that it is untouched, free or allocated, and in which order blocks
 * go from one to the next. Of memory: that nobody touches a page before it is needed.
 */
#include "tests/unit/fixture.h"

#include <stdio.h>
#include <sys/mman.h>

#define ALONE UINT32_C(0) /* in next1 and prev1 */

static struct session *session0(void)
{
	return &fx.sessions[0];
}

/* The first pool with room that the session has of its own. */
static uint32_t used_pool1(uint32_t size_class)
{
	return session0()->entry->usedpools1[size_class];
}

static bool pool_is_free(uint32_t pool)
{
	uint32_t arena = pool / fx.heap->pools_per_arena, i = pool % fx.heap->pools_per_arena;

	return fx.heap->freepools[arena * fx.heap->pool_words + i / 64] >> (i % 64) & 1;
}

/* ---- classes ---------------------------------------------------------------------------------------------------- */

static const struct {
	size_t first, last;
	uint32_t size, size_class;
} seed_rows[] = {
	{1, 8, 8, 0},
	{9, 16, 16, 1},
	{17, 24, 24, 2},
	{25, 32, 32, 3},
	{33, 40, 40, 4},
	{41, 48, 48, 5},
	{49, 56, 56, 6},
	{57, 64, 64, 7},
	{65, 72, 72, 8},
	{497, 504, 504, 62},
	{505, 512, 512, 63},
};

START_TEST(class_seed_rows)
{
	for (size_t size = seed_rows[_i].first; size <= seed_rows[_i].last; size++) {
		uint64_t ref = fixture_bytes(session0(), size);

		ck_assert_uint_eq(class_of_size(size), seed_rows[_i].size_class);
		ck_assert_uint_eq(ref_pool(ref)->kind, POOL_BLOCKS);
		ck_assert_uint_eq(ref_pool(ref)->size_class, seed_rows[_i].size_class);
	}
	ck_assert_uint_eq(class_block_size(seed_rows[_i].size_class), seed_rows[_i].size);
}
END_TEST

/* Every size by a walk that knows nothing but "8 bytes apart", and as the allocator sees it. */
START_TEST(class_all_sizes)
{
	size_t size = 1;

	for (uint32_t c = 0; c < N_CLASSES; c++) {
		for (int i = 0; i < 8; i++, size++) {
			uint64_t ref = fixture_bytes(session0(), size);
			struct object object;

			ck_assert_uint_eq(ref_pool(ref)->size_class, c);
			ck_assert_int_eq(object_lookup(session0(), ref, &object), 0);
			ck_assert_uint_eq(object.size, size);
			ck_assert_ptr_eq(object.data, ref_data(ref));
		}
	}
	ck_assert_uint_eq(size, 513);
	ck_assert_uint_eq(ref_pool(fixture_bytes(session0(), 513))->kind, POOL_RUN);
	ck_assert_uint_eq(ref_pool(fixture_bytes(session0(), 0))->size_class, 0);
}
END_TEST

/* Blocks and their headers fill the page as far as they can, and no block reaches into another. */
START_TEST(class_geometry)
{
	uint32_t size_class = (uint32_t)_i, size = class_block_size(size_class), n = class_pool_blocks(size_class);
	uint64_t refs[POOL_SIZE / 24];

	ck_assert_uint_eq(block_offset(size_class, 0), 16 * n);
	ck_assert_uint_le(block_offset(size_class, n), POOL_SIZE);
	ck_assert_uint_gt(block_offset(size_class, n) + size + 16, POOL_SIZE);
	for (uint32_t i = 0; i < n; i++) {
		refs[i] = fixture_bytes(session0(), size);
		memset(ref_data(refs[i]), (int)i, size);
		ck_assert_uint_eq(ref_pool_index(refs[i]), ref_pool_index(refs[0]));
		ck_assert_uint_eq(ref_offset(refs[i]) % POOL_SIZE, block_offset(size_class, i));
	}
	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t k = 0; k < size; k++)
			ck_assert_uint_eq(ref_data(refs[i])[k], (uint8_t)i);
		fixture_drop(session0(), refs[i]);
	}
}
END_TEST

START_TEST(alignment_of_size)
{
	for (size_t size = 0; size <= 2 * POOL_SIZE; size += size < 520 ? 1 : 509) {
		for (int i = 0; i < 5; i++) {
			uint64_t off = ref_offset(fixture_bytes(session0(), size));

			ck_assert_uint_eq(off % 8, 0);
			if (size % 16 == 0 && size > 0)
				ck_assert_uint_eq(off % 16, 0);
			if (size > BLOCK_SIZE_MAX)
				ck_assert_uint_eq(off % POOL_SIZE, 0);
		}
	}
}
END_TEST

/* What a type asks for, from 1 to a page, whatever its size. */
START_TEST(alignment_of_type)
{
	static const size_t sizes[] = {1, 8, 24, 40, 100, 256, 512, 513, 5000};

	for (size_t alignment = 1; alignment <= POOL_SIZE; alignment *= 2) {
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
			char name[32];
			uint32_t type;

			snprintf(name, sizeof(name), "t%zu-%zu", alignment, sizes[s]);
			MUST(session0(), type_register(session0(),
						 &(struct type_spec){name, sizes[s], alignment, 0, NULL}, &type));
			for (int i = 0; i < 3; i++)
				ck_assert_uint_eq(ref_offset(fixture_new(session0(), type, 0)) % alignment, 0);
		}
	}
}
END_TEST

/* ---- pools ------------------------------------------------------------------------------------------------------ */

/* Fill `n_pools` pools of a class to the last block. */
static void fill_pools(uint64_t *refs, uint32_t n_pools, size_t size)
{
	uint32_t n = class_pool_blocks(class_of_size(size));

	for (uint32_t i = 0; i < n_pools * n; i++)
		refs[i] = fixture_bytes(session0(), size);
}

START_TEST(pool_used_full_used)
{
	uint64_t refs[16];
	uint32_t n = class_pool_blocks(63), pool;

	ck_assert_uint_le(n, 16);
	for (uint32_t i = 0; i < n; i++) {
		refs[i] = fixture_bytes(session0(), 512);
		pool = ref_pool_index(refs[i]);
		ck_assert_uint_eq(pool, ref_pool_index(refs[0]));
		ck_assert_uint_eq(ref_pool(refs[i])->n_used, i + 1);
		/* used: on its class's list, until the last block makes it full */
		ck_assert_uint_eq(used_pool1(63), i + 1 < n ? pool + 1 : ALONE);
	}
	ck_assert_uint_eq(ref_pool(refs[0])->next1, ALONE);
	ck_assert_uint_eq(ref_pool(refs[0])->prev1, ALONE);
	pool = ref_pool_index(refs[0]);
	fixture_drop(session0(), refs[n / 2]);
	ck_assert_uint_eq(used_pool1(63), pool + 1);
	/* and the block that was freed is the one that is used next */
	ck_assert_uint_eq(ref_position(fixture_bytes(session0(), 512)), ref_position(refs[n / 2]));
	ck_assert_uint_eq(used_pool1(63), ALONE);
}
END_TEST

START_TEST(pool_full_goes_to_the_front)
{
	uint32_t n = class_pool_blocks(63), a, b, c;
	uint64_t refs[64], third;

	fill_pools(refs, 2, 512);
	third = fixture_bytes(session0(), 512);
	a = ref_pool_index(refs[0]), b = ref_pool_index(refs[n]), c = ref_pool_index(third);
	ck_assert_uint_ne(a, b);
	ck_assert_uint_ne(b, c);
	ck_assert_uint_eq(used_pool1(63), c + 1);

	fixture_drop(session0(), refs[0]);
	ck_assert_uint_eq(used_pool1(63), a + 1);
	ck_assert_uint_eq(fx.heap->pools[a].next1, c + 1);
	fixture_drop(session0(), refs[n]);
	ck_assert_uint_eq(used_pool1(63), b + 1);
	ck_assert_uint_eq(fx.heap->pools[b].prev1, ALONE);
	ck_assert_uint_eq(fx.heap->pools[b].next1, a + 1);
	ck_assert_uint_eq(fx.heap->pools[a].prev1, b + 1);
	ck_assert_uint_eq(fx.heap->pools[a].next1, c + 1);
	ck_assert_uint_eq(fx.heap->pools[c].prev1, a + 1);
	ck_assert_uint_eq(fx.heap->pools[c].next1, ALONE);

	/* A used pool of which one more block is freed stays where it is. */
	fixture_drop(session0(), refs[1]);
	ck_assert_uint_eq(used_pool1(63), b + 1);
}
END_TEST

/* From the front, the middle and the end of its list: an empty pool leaves it, and goes back to its arena. */
START_TEST(pool_empty_leaves_its_list)
{
	uint32_t n = class_pool_blocks(63), pools[3], gone = (uint32_t)_i;
	uint64_t refs[64];

	fill_pools(refs, 3, 512);
	for (uint32_t k = 0; k < 3; k++) {
		pools[k] = ref_pool_index(refs[k * n]);
		fixture_drop(session0(), refs[k * n]);
	}
	for (uint32_t i = 1; i < n; i++) {
		ck_assert(!pool_is_free(pools[gone]));
		fixture_drop(session0(), refs[gone * n + i]);
	}
	ck_assert_int_eq(session_serve_requests(session0()), 0);
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
	uint32_t pool = ref_pool_index(fixture_bytes(session0(), 8)); /* holds the first pool down */
	uint64_t ref = fixture_bytes(session0(), 500), other;
	uint32_t generation;

	memset(ref_data(ref), 0xff, 500);
	ck_assert_uint_ne(ref_pool_index(ref), pool);
	pool = ref_pool_index(ref);
	generation = ref_generation(ref);
	fixture_drop(session0(), ref);
	ck_assert_uint_eq(ref_pool(ref)->kind, POOL_BLOCKS); /* the session keeps it, until it is taken back */
	fixture_collect();
	for (size_t size = 16; size <= 512; size += 31) {
		other = fixture_bytes(session0(), size);
		ck_assert_uint_eq(ref_pool_index(other), pool);
		ck_assert_uint_eq(ref_pool(other)->size_class, class_of_size(size));
		ck_assert_uint_eq(ref_block(other), 0);
		/* generations go on, so that an old ref never finds the new object */
		ck_assert_uint_gt(ref_generation(other), generation);
		generation = ref_generation(other);
		ck_assert_int_eq(object_incref(session0(), ref), -ESTALE);
		fixture_drop(session0(), other);
		fixture_collect();
		ck_assert_uint_eq(ref_pool(other)->kind, POOL_FREE);
	}
}
END_TEST

/* Pools that took a class before and take it again find what they left, in the same order; so do those that were kept.
 */
START_TEST(pool_same_class_again)
{
	bool is_kept = _i;
	uint64_t refs[8];

	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 5; i++)
			refs[i] = fixture_bytes(session0(), 100);
		for (uint32_t i = 0; i < 5; i++)
			for (uint32_t k = 0; k < i; k++)
				ck_assert_uint_ne(ref_position(refs[i]), ref_position(refs[k]));
		for (uint32_t i = 0; i < 5; i++) /* the block that was freed last is in front */
			ck_assert_uint_eq(ref_block(refs[i]), round % 2 ? 4 - i : i);
		ck_assert_uint_eq(ref_pool(refs[0])->n_carved, class_pool_blocks(class_of_size(100)));
		for (uint32_t i = 0; i < 5; i++)
			fixture_drop(session0(), refs[i]);
		if (!is_kept)
			fixture_collect();
		ck_assert_uint_eq(used_pool1(class_of_size(100)), is_kept ? ref_pool_index(refs[0]) + 1 : ALONE);
		ck_assert_uint_eq(ref_pool(refs[0])->kind, is_kept ? POOL_BLOCKS : POOL_FREE);
	}
}
END_TEST

static void expect_class(uint32_t size_class, uint64_t n_pools, uint64_t n_used)
{
	pyheap_stats stats = fixture_stats();

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
		fixture_drop(session0(), refs[i]);
		ck_assert_int_eq(session_serve_requests(session0()), 0);
		/* the first pool that becomes free is the only one with room, and stays; the second goes */
		expect_class(12, i + 1 < 2 * n ? 2 : 1, 2 * n - i - 1);
	}
	fixture_collect();
	expect_class(12, 0, 0);
}
END_TEST

/* ---- blocks ----------------------------------------------------------------------------------------------------- */

/* All blocks of an own pool come on its free list at once, in their order. */
START_TEST(block_carved_in_order)
{
	uint32_t n = class_pool_blocks(class_of_size(48));

	for (uint32_t i = 0; i < n; i++) {
		uint64_t ref = fixture_bytes(session0(), 48);
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
		refs[i] = fixture_bytes(session0(), 24);
	for (uint32_t i = 0; i < 4; i++) {
		fixture_drop(session0(), refs[freed[i]]);
		ck_assert_uint_eq(ref_pool(refs[0])->freeblock1, freed[i] + 1);
		ck_assert_uint_eq(ref_state(refs[freed[i]]), STATE_FREE);
	}
	ck_assert_uint_eq(ref_pool(refs[0])->n_used, 6);
	for (uint32_t i = 4; i-- > 0;) {
		again = fixture_bytes(session0(), 20);
		ck_assert_uint_eq(ref_block(again), freed[i]);
		ck_assert_uint_ne(again, refs[freed[i]]);
		ck_assert_int_eq(object_decref(session0(), refs[freed[i]]), -ESTALE);
	}
	/* None that was used before is free any more: the next one was never used. */
	ck_assert_uint_eq(ref_block(fixture_bytes(session0(), 24)), 10);
}
END_TEST

/* A block's generation is never 0, and starts again at 1 after the last one. */
START_TEST(block_generation_wraps)
{
	uint64_t keep = fixture_bytes(session0(), 32), ref;

	ref_pool(keep)->generation = GENERATION_MAX - 1;
	ref = fixture_bytes(session0(), 32);
	ck_assert_uint_eq(ref_generation(ref), GENERATION_MAX);
	ck_assert_uint_eq(ref_generation(fixture_bytes(session0(), 32)), 1);
	fixture_drop(session0(), ref);
}
END_TEST

/* ---- residency -------------------------------------------------------------------------------------------------- */

/*
 * The pages of an arena are allocated when it is mapped, but not one of them is in the page cache as up to date, which
 * is what mincore() tells, before somebody touches it.
 */
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
	uint64_t ref = fixture_bytes(session0(), 512);

	first = ref_arena_index(ref) * pools;
	ck_assert_uint_eq(n_resident(first, pools), 1);
	ck_assert(page_is_resident(ref_pool_index(ref)));
	for (uint32_t i = 1; i < n; i++)
		fixture_bytes(session0(), 512);
	ck_assert_uint_eq(n_resident(first, pools), 1);
	fixture_bytes(session0(), 512);
	ck_assert_uint_eq(n_resident(first, pools), 2);

	/* A medium object's header is elsewhere: making it touches none of its pages, freeing it neither. */
	ref = fixture_bytes(session0(), 10 * POOL_SIZE);
	ck_assert_uint_eq(n_resident(first, pools), 2);
	ref_data(ref)[3 * POOL_SIZE] = 1;
	ck_assert_uint_eq(n_resident(first, pools), 3);
	fixture_drop(session0(), ref);
	ck_assert_uint_eq(n_resident(first, pools), 3);
}
END_TEST

START_TEST(resident_large)
{
	uint32_t pools = fx.heap->pools_per_arena;
	uint64_t ref = fixture_bytes(session0(), 3 * ARENA_SIZE_DEFAULT), list;

	ck_assert_uint_eq(n_resident(ref_pool_index(ref), 3 * pools), 0);
	ref_data(ref)[2 * ARENA_SIZE_DEFAULT + 5 * POOL_SIZE] = 1;
	ck_assert_uint_eq(n_resident(ref_pool_index(ref), 3 * pools), 1);
	fixture_drop(session0(), ref);
	/* A list's slots must be empty, so all its pages are written. */
	list = fixture_list(session0(), 10 * POOL_SIZE / 8);
	ck_assert_uint_eq(n_resident(ref_pool_index(list), 10), 10);
}
END_TEST

/* ---- runs of pools ---------------------------------------------------------------------------------------------- */

START_TEST(run_sizes)
{
	pyheap_stats stats;

	for (uint32_t n = 1; n < fx.heap->pools_per_arena; n++) {
		uint64_t ref = fixture_bytes(session0(), n * POOL_SIZE - 4095),
			 full = fixture_bytes(session0(), n * POOL_SIZE);

		if (n > 1) {
			ck_assert_uint_eq(ref_pool(ref)->kind, POOL_RUN);
			ck_assert_uint_eq(ref_pool(ref)->run_n_pools, n);
			ck_assert_uint_eq(ref_pool(ref)->run_size, n * POOL_SIZE - 4095);
		}
		ck_assert_uint_eq(ref_pool(full)->run_n_pools, n);
		memset(ref_data(full), 0x5a, n * POOL_SIZE);
		fixture_drop(session0(), full);
		fixture_drop(session0(), ref);
	}
	stats = fixture_stats();
	ck_assert_uint_eq(stats.n_medium_objects, 0);
	ck_assert_uint_eq(stats.bytes_medium_objects, 0);
	fixture_collect();
	ck_assert_uint_eq(fixture_stats().bytes_unused_pools, fixture_stats().bytes_total);
	for (uint32_t i = 0; i < fx.heap->control->n_arenas_known * fx.heap->pools_per_arena; i++)
		ck_assert(fx.heap->pools[i].kind == POOL_FREE && pool_is_free(i));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("pool");
	TCase *t = tcase_create("pool");
	const int n_rows = (int)(sizeof(seed_rows) / sizeof(seed_rows[0]));

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, class_seed_rows, 0, n_rows);
	tcase_add_test(t, class_all_sizes);
	tcase_add_loop_test(t, class_geometry, 0, N_CLASSES);
	tcase_add_test(t, alignment_of_size);
	tcase_add_test(t, alignment_of_type);
	tcase_add_test(t, pool_used_full_used);
	tcase_add_test(t, pool_full_goes_to_the_front);
	tcase_add_loop_test(t, pool_empty_leaves_its_list, 0, 3);
	tcase_add_test(t, pool_empty_takes_another_class);
	tcase_add_loop_test(t, pool_same_class_again, 0, 2);
	tcase_add_test(t, pool_class_counters);
	tcase_add_test(t, block_carved_in_order);
	tcase_add_test(t, block_last_freed_first);
	tcase_add_test(t, block_generation_wraps);
	tcase_add_test(t, resident_only_when_touched);
	tcase_add_test(t, resident_large);
	tcase_add_test(t, run_sizes);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
