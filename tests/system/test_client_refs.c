// SPDX-License-Identifier: MIT
/*
 * Any 64-bit number as a ref, to every function that takes one
 *
 * What can name no object gives -EINVAL, what is gone -ESTALE, from every call alike, and nothing is touched: at the
 * end of each test all figures are as before and pyheap_check() finds no fault. Refs are made up here as
 * heap/shared/layout.h says: bits 0..35 the position in units of 8 bytes, 36..63 the generation.
 */
#include "fixture.h"

#include <inttypes.h>
#include <stdio.h>

#define POSITION_BITS 36
#define HEAP_SIZE     (UINT64_C(64) << 20)
#define ARENA_SIZE    (UINT64_C(256) << 10)

static pyheap_ref ref_of(uint64_t offset, uint64_t generation)
{
	return generation << POSITION_BITS | offset / 8;
}

static uint64_t offset_of(pyheap_ref ref)
{
	return (ref & ((UINT64_C(1) << POSITION_BITS) - 1)) * 8;
}

static uint64_t generation_of(pyheap_ref ref)
{
	return ref >> POSITION_BITS;
}

/* Good objects that a bad ref is used with. */
struct good {
	pyheap *heap;
	pyheap_ref bytes, list, queue, node;
};

static const size_t node_slots[] = {8};

static void good_init(struct good *good)
{
	pyheap_type_spec spec = {.name = "node", .size = 24, .n_slots = 1, .slots = node_slots};
	pyheap_type type;

	good->heap = fixture_open(&fx);
	ck_ok(pyheap_put(good->heap, "good", 5, &good->bytes));
	ck_ok(pyheap_list_new(good->heap, 2, &good->list));
	ck_ok(pyheap_queue_new(good->heap, 2, &good->queue));
	ck_ok(pyheap_type_register(good->heap, &spec, &type));
	ck_ok(pyheap_new(good->heap, type, 0, &good->node));
}

/* The good objects have not changed. Closing the session frees them. */
static void good_finish(struct good *good)
{
	const pyheap_ref refs[] = {good->bytes, good->list, good->queue, good->node};
	pyheap_ref ref;

	for (size_t i = 0; i < 4; i++)
		ck_assert_int_eq(pyheap_refcount(good->heap, refs[i]), 1);
	for (size_t i = 0; i < 2; i++) {
		ck_ok(pyheap_list_get(good->heap, good->list, i, &ref));
		ck_assert_uint_eq(ref, 0);
	}
	ck_ok(pyheap_slot_get(good->heap, good->node, 8, &ref));
	ck_assert_uint_eq(ref, 0);
	ck_err(pyheap_queue_pop(good->heap, good->queue, &ref, 0), EAGAIN);
	ck_assert_str_eq(pyheap_data(good->heap, good->bytes), "good");
	ck_err(pyheap_name_get(good->heap, "bad", &ref), ENOENT);
	ck_assert_int_eq(pyheap_check(good->heap, NULL, NULL), 0);
	pyheap_close(good->heap);
}

static void ck_code(int64_t result, int code, const char *call, pyheap_ref ref)
{
	ck_assert_msg(code ? result == -code : result == -EINVAL || result == -ESTALE,
		"%s(%016" PRIx64 "): %" PRId64 " instead of -%d", call, ref, result, code);
}

/* Every function that takes a ref refuses this one: with `code`, or where that is 0 with one of the two. */
static void ck_bad(const struct good *good, pyheap_ref bad, int code)
{
	pyheap *heap = good->heap;
	pyheap_type type = 7;
	pyheap_ref ref = 7;

	errno = 0;
	ck_assert_ptr_null(pyheap_data(heap, bad));
	ck_code(-errno, code, "data", bad);
	ck_code(pyheap_size(heap, bad), code, "size", bad);
	ck_code(pyheap_typeof(heap, bad, &type), code, "typeof", bad);
	ck_code(pyheap_incref(heap, bad), code, "incref", bad);
	ck_code(pyheap_decref(heap, bad), code, "decref", bad);
	ck_code(pyheap_refcount(heap, bad), code, "refcount", bad);
	ck_code(pyheap_list_set(heap, bad, 0, good->bytes), code, "list_set", bad);
	ck_code(pyheap_list_get(heap, bad, 0, &ref), code, "list_get", bad);
	ck_code(pyheap_slot_set(heap, bad, 8, good->bytes), code, "slot_set", bad);
	ck_code(pyheap_slot_get(heap, bad, 8, &ref), code, "slot_get", bad);
	ck_code(pyheap_queue_push(heap, bad, good->bytes, 0), code, "queue_push to", bad);
	ck_code(pyheap_queue_push(heap, good->queue, bad, 0), code, "queue_push", bad);
	ck_code(pyheap_queue_pop(heap, bad, &ref, 0), code, "queue_pop", bad);
	ck_code(pyheap_queue_pop(heap, bad, &ref, 1000), code, "queue_pop waiting", bad);
	ck_code(pyheap_name_set(heap, "bad", bad), code, "name_set", bad);
	if (bad) { /* 0 empties a slot */
		ck_code(pyheap_list_set(heap, good->list, 0, bad), code, "list_set value", bad);
		ck_code(pyheap_slot_set(heap, good->node, 8, bad), code, "slot_set value", bad);
	}
	ck_assert_uint_eq(type, 7);
	ck_assert_uint_eq(ref, 7);
}

START_TEST(test_no_object)
{
	struct good good;

	good_init(&good);
	ck_bad(&good, 0, EINVAL);
	ck_bad(&good, ref_of(0, 0), EINVAL);
	ck_bad(&good, offset_of(good.bytes) / 8, EINVAL); /* generation 0 */
	ck_bad(&good, ref_of(HEAP_SIZE, 1), EINVAL);
	ck_bad(&good, ref_of(HEAP_SIZE - 8, 1), 0);
	ck_bad(&good, ref_of((UINT64_C(1) << 39) - 8, 1), EINVAL);
	ck_bad(&good, ref_of(HEAP_SIZE - ARENA_SIZE, 1), 0); /* an arena that never was */
	ck_bad(&good, UINT64_MAX, EINVAL);
	ck_bad(&good, INT64_MAX, EINVAL);
	ck_bad(&good, UINT64_C(1) << 63, 0);
	ck_bad(&good, UINT32_MAX, EINVAL);
	good_finish(&good);
}
END_TEST

START_TEST(test_freed_and_reused)
{
	static const size_t sizes[] = {0, 1, 48, 512, 513, 4096, 200 << 10, 256 << 10, 3 << 20};
	struct good good;

	good_init(&good);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		pyheap_ref first, second;

		ck_ok(pyheap_new(good.heap, PYHEAP_BYTES, sizes[i], &first));
		ck_ok(pyheap_decref(good.heap, first));
		ck_bad(&good, first, ESTALE);
		ck_ok(pyheap_new(good.heap, PYHEAP_BYTES, sizes[i], &second));
		ck_assert_uint_ne(first, second);
		ck_bad(&good, first, 0);
		ck_bad(&good, ref_of(offset_of(second), generation_of(second) + 1), ESTALE);
		ck_bad(&good, ref_of(offset_of(second), (UINT64_C(1) << 28) - 1), ESTALE);
		ck_ok(pyheap_decref(good.heap, second));
		ck_bad(&good, second, ESTALE);
	}
	good_finish(&good);
}
END_TEST

/*
 * A good generation with a wrong position: beside the block, in its pool's headers, in a block never carved, within a
 * run.
 */
START_TEST(test_displaced)
{
	static const size_t sizes[] = {1, 48, 512, 513, 9000, 600 << 10};
	struct good good;

	good_init(&good);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t offset, pool, generation;
		pyheap_ref ref;

		ck_ok(pyheap_new(good.heap, PYHEAP_BYTES, sizes[i], &ref));
		offset = offset_of(ref), pool = offset & ~UINT64_C(4095), generation = generation_of(ref);
		for (uint64_t at = pool; at < pool + 8192; at += 8)
			if (at != offset)
				ck_bad(&good, ref_of(at, generation + (at > offset)), 0);
		ck_ok(pyheap_decref(good.heap, ref));
	}
	good_finish(&good);
}
END_TEST

/* Every position of the arenas in use, with each likely generation: only refs of living objects give a count. */
START_TEST(test_every_place)
{
	struct good good;
	pyheap_stats stats;
	pyheap_ref ref;
	uint64_t n_live = 0;

	good_init(&good);
	ck_ok(pyheap_name_set(good.heap, "one", good.bytes)); /* a record */
	/* Pools of every class; and the hold table, with so many, is a run of records. */
	for (size_t i = 0; i < 100; i++)
		ck_ok(pyheap_new(good.heap, PYHEAP_BYTES, 8 * (i % 64 + 1), &ref));
	ck_ok(pyheap_stats(good.heap, &stats));
	for (uint64_t at = 0; at < stats.n_arenas_current * ARENA_SIZE; at += 8) {
		for (uint64_t generation = 1; generation <= 6; generation++) {
			int64_t count = pyheap_refcount(good.heap, ref_of(at, generation));

			n_live += count > 0;
			ck_assert_msg(
				count > 0 || count == -ESTALE || count == -EINVAL, "%" PRIu64 ": %" PRId64, at, count);
		}
	}
	ck_assert_uint_eq(n_live, 104);
	ck_ok(pyheap_name_del(good.heap, "one"));
	good_finish(&good);
}
END_TEST

/* 0, which an empty slot gives, is no object, whatever the cache of recently used objects has in it. */
START_TEST(test_zero)
{
	pyheap_ref refs[1024];
	struct good good;

	good_init(&good);
	for (int round = 0; round < 4; round++) {
		for (size_t i = 0; i < 1024; i++) {
			ck_ok(pyheap_new(good.heap, PYHEAP_BYTES, 40, &refs[i]));
			if (round & 1)
				ck_assert_ptr_nonnull(pyheap_data(good.heap, refs[i]));
			if (round & 2) {
				ck_ok(pyheap_incref(good.heap, refs[i]));
				ck_ok(pyheap_decref(good.heap, refs[i]));
			}
			if (i % 2) /* while it is among the latest, or later */
				ck_ok(pyheap_decref(good.heap, refs[i]));
			ck_assert_ptr_null(pyheap_data(good.heap, 0));
			ck_assert_int_lt(pyheap_incref(good.heap, 0), 0);
			ck_assert_int_lt(pyheap_decref(good.heap, 0), 0);
		}
		for (size_t i = 0; i < 1024; i += 2) {
			ck_ok(pyheap_decref(good.heap, refs[i]));
			ck_assert_ptr_null(pyheap_data(good.heap, 0));
			ck_assert_int_lt(pyheap_incref(good.heap, 0), 0);
			ck_assert_int_lt(pyheap_decref(good.heap, 0), 0);
		}
	}
	ck_bad(&good, 0, 0);
	good_finish(&good);
}
END_TEST

/* xorshift64*: the same numbers each time for one seed. */
static uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}

START_TEST(test_random)
{
	uint64_t seed = (uint64_t)getpid() << 20 ^ (uint64_t)(uintptr_t)&seed, state;
	const char *given = getenv("PYHEAP_SEED");
	struct good good;

	if (given)
		seed = strtoull(given, NULL, 0);
	state = seed |= 1;
	printf("test_random: PYHEAP_SEED=0x%" PRIx64 "\n", seed);
	good_init(&good);
	for (int i = 0; i < 100000; i++) {
		uint64_t ref = random_next(&state);

		if (i % 2) /* half of them inside of the heap */
			ref = ref_of(offset_of(ref) % HEAP_SIZE, generation_of(ref));
		ck_bad(&good, ref, 0);
	}
	good_finish(&good);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_refs");
	TCase *tcase = tcase_create("all");

	tcase_add_checked_fixture(tcase, fixture_setup, fixture_teardown);
	tcase_add_test(tcase, test_no_object);
	tcase_add_test(tcase, test_freed_and_reused);
	tcase_add_test(tcase, test_displaced);
	tcase_add_test(tcase, test_every_place);
	tcase_add_test(tcase, test_zero);
	tcase_add_test(tcase, test_random);
	suite_add_tcase(suite, tcase);
	return fixture_main(suite);
}
