/* SPDX-License-Identifier: MIT */
/*
 * Objects: counts, taking down, refs of all kinds, sizes of all kinds
 */
#include "tests/unit/fixture.h"

#include <inttypes.h>
#include <stdio.h>

#define S0 (&fx.sessions[0])
#define S1 (&fx.sessions[1])
#define S2 (&fx.sessions[2])

static void expect_count(int64_t want, uint64_t ref)
{
	ck_assert_int_eq(object_refcount(S2, ref), want);
	fixture_check();
}

static void expect_gone(uint64_t ref)
{
	struct object object;

	ck_assert_int_eq(object_lookup(S2, ref, &object), -ESTALE);
}

/* Nothing is left: no object, no pool in use. */
static void expect_empty(void)
{
	fixture_check();
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}

/* ---- counts, by the example that everybody knows --------------------------------------------------------------- */

struct example {
	uint64_t numbers, one, two, matrix;
};

/* numbers = [1, 2] */
static struct example example_numbers(void)
{
	struct example e = {0};

	e.one = fixture_bytes(S0, 8);
	e.two = fixture_bytes(S0, 8);
	e.numbers = fixture_list(S0, 2);
	MUST(S0, list_set(S0, e.numbers, 0, e.one));
	MUST(S0, list_set(S0, e.numbers, 1, e.two));
	fixture_drop(S0, e.one);
	fixture_drop(S0, e.two);
	return e;
}

/* A call's argument is held as long as the call lasts. */
static int64_t sum(uint64_t numbers)
{
	int64_t n, total = 0, x;
	uint64_t item;

	MUST(S0, object_incref(S0, numbers));
	n = object_refcount(S2, numbers);
	for (uint64_t i = 0; i < 2; i++) {
		MUST(S0, list_get(S0, numbers, i, &item));
		memcpy(&x, ref_data(item), sizeof(x));
		total += x;
		fixture_drop(S0, item);
	}
	fixture_drop(S0, numbers);
	ck_assert_int_eq(total, 3);
	return n;
}

START_TEST(counts_of_the_example)
{
	struct example e = example_numbers();
	const int64_t one = 1, two = 2;

	memcpy(ref_data(e.one), &one, sizeof(one));
	memcpy(ref_data(e.two), &two, sizeof(two));
	expect_count(1, e.numbers);
	expect_count(1, e.one);
	MUST(S0, object_incref(S0, e.numbers)); /* more_numbers = numbers */
	expect_count(2, e.numbers);
	ck_assert_int_eq(sum(e.numbers), 3);
	expect_count(2, e.numbers);
	e.matrix = fixture_list(S0, 3); /* matrix = [numbers, numbers, numbers] */
	for (uint64_t i = 0; i < 3; i++)
		MUST(S0, list_set(S0, e.matrix, i, e.numbers));
	expect_count(5, e.numbers);
	expect_count(1, e.matrix);
}
END_TEST

/* The three names of the example go in every order: 0 numbers, 1 more_numbers, 2 matrix. */
static const int drop_orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

START_TEST(example_dropped_in_every_order)
{
	struct example e = example_numbers();
	int64_t count = 5;

	MUST(S1, object_incref(S1, e.numbers)); /* more_numbers is another session's */
	e.matrix = fixture_list(S0, 3);
	for (uint64_t i = 0; i < 3; i++)
		MUST(S0, list_set(S0, e.matrix, i, e.numbers));
	for (int i = 0; i < 3; i++) {
		int what = drop_orders[_i][i];

		expect_count(count, e.numbers);
		fixture_drop(what == 1 ? S1 : S0, what == 2 ? e.matrix : e.numbers);
		count -= what == 2 ? 3 : 1;
	}
	ck_assert_int_eq(count, 0);
	expect_gone(e.numbers);
	expect_gone(e.one);
	expect_gone(e.two);
	expect_gone(e.matrix);
	expect_empty();
}
END_TEST

START_TEST(counts_over_sessions)
{
	uint64_t ref = fixture_bytes(S0, 100), list = fixture_list(S1, 1), queue, got;

	for (int i = 0; i < 9; i++)
		MUST(S0, object_incref(S0, ref));
	expect_count(10, ref);
	MUST(S1, object_incref(S1, ref));
	MUST(S1, object_incref(S1, ref));
	expect_count(12, ref);
	MUST(S1, list_set(S1, list, 0, ref));
	expect_count(13, ref);
	MUST(S1, name_set(S1, "r", ref));
	expect_count(14, ref);
	MUST(S1, queue_new(S1, 1, &queue));
	MUST(S1, queue_push(S1, queue, ref, 0)); /* one of the session's holds becomes the queue's */
	expect_count(14, ref);
	MUST(S2, queue_pop(S2, queue, &got, 0));
	ck_assert_uint_eq(got, ref);
	expect_count(14, ref);
	for (int i = 0; i < 10; i++)
		fixture_drop(S0, ref);
	ck_assert_int_eq(object_decref(S0, ref), -EPERM);
	expect_count(4, ref);
	fixture_drop(S1, ref);
	MUST(S1, name_del(S1, "r"));
	MUST(S1, list_set(S1, list, 0, 0));
	expect_count(1, ref);
	fixture_drop(S2, ref);
	expect_gone(ref);
	fixture_drop(S1, list);
	fixture_drop(S1, queue);
	expect_empty();
}
END_TEST

START_TEST(decref_more_often_than_held)
{
	uint64_t ref = fixture_bytes(S0, 10);

	EXPECT(S1, -EPERM, object_decref(S1, ref));
	expect_count(1, ref);
	MUST(S1, object_incref(S1, ref));
	fixture_drop(S0, ref);
	EXPECT(S0, -EPERM, object_decref(S0, ref));
	expect_count(1, ref);
	fixture_drop(S1, ref);
	EXPECT(S1, -ESTALE, object_decref(S1, ref));
	EXPECT(S0, -ESTALE, object_decref(S0, ref));
	expect_empty();
}
END_TEST

START_TEST(held_too_often)
{
	uint64_t ref = fixture_bytes(S0, 10);

	MUST(S1, object_incref(S1, ref));
	hold_find(S1, ref)->count = UINT32_MAX - 1;
	MUST(S1, object_incref(S1, ref));
	EXPECT(S1, -EOVERFLOW, object_incref(S1, ref));
	ck_assert_int_eq(object_refcount(S0, ref), (int64_t)UINT32_MAX + 1);
	MUST(S0, object_incref(S0, ref));
	ck_assert_int_eq(object_refcount(S0, ref), (int64_t)UINT32_MAX + 2);
}
END_TEST

/* Its owner counts in the header as far as that goes, then in its table. */
START_TEST(held_too_often_by_its_owner)
{
	uint64_t ref = fixture_bytes(S0, 10);
	const int64_t n = OWN_HOLDS_MAX;

	for (int64_t i = 1; i < n + 1; i++)
		MUST(S0, object_incref(S0, ref));
	hold_find(S0, ref)->count = UINT32_MAX - 1;
	MUST(S0, object_incref(S0, ref));
	EXPECT(S0, -EOVERFLOW, object_incref(S0, ref));
	ck_assert_int_eq(object_refcount(S0, ref), n + UINT32_MAX);
	MUST(S1, object_incref(S1, ref));
	ck_assert_int_eq(object_refcount(S0, ref), n + UINT32_MAX + 1);
}
END_TEST

/* ---- taking down ------------------------------------------------------------------------------------------------- */

/* A list of a list of a list ...: freed without a deep stack, in bounded steps. */
static uint64_t chain_new(uint64_t depth)
{
	uint64_t outer = 0, inner = 0;

	for (uint64_t i = 0; i < depth; i++) {
		ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_LIST, 8, &outer)), 0);
		if (inner) {
			ck_assert_int_eq(list_set(S0, outer, 0, inner), 0);
			ck_assert_int_eq(object_decref(S0, inner), 0);
		}
		inner = outer;
	}
	return outer;
}

START_TEST(chain_freed)
{
	uint64_t chain = chain_new(fixture_ops(1000000));

	fixture_drop(S0, chain);
	expect_empty();
}
END_TEST

/* Its owner lets go of it, and then holds it again: as anybody else, by its table. */
static void hold_by_table(struct session *session, uint64_t ref)
{
	uint64_t list = fixture_list(S0, 1), got;

	MUST(S0, list_set(S0, list, 0, ref));
	fixture_drop(S0, ref);
	MUST(session, list_get(session, list, 0, &got));
	fixture_drop(S0, list);
	ck_assert_uint_eq(hold_find(session, ref)->count, 1);
}

/* The same object by object: each step leaves a heap that is whole, and writes down little. By the owner, by another.
 */
START_TEST(chain_freed_in_bounded_steps)
{
	struct session *last = _i ? S1 : S0;
	uint64_t depth = 3000, n_steps = 0, chain = chain_new(depth);
	struct object object;
	int r;

	hold_by_table(last, chain);
	ck_assert_int_eq(change_begin(last), 0);
	ck_assert_int_eq(object_find(fx.heap, chain, &object), 0);
	ck_assert(hold_remove(last, hold_find(last, chain)));
	ck_assert_int_eq(change_end(last, right_drop(last, &object)), 0);
	expect_gone(chain);
	do {
		r = dying_step(last, true);
		ck_assert_int_ge(r, 0);
		if (n_steps++ % 64 == 0)
			fixture_check();
	} while (r == 1);
	ck_assert_uint_ge(n_steps, 30);
	expect_empty();
}
END_TEST

START_TEST(wide_list_freed)
{
	const uint64_t n = 100000;
	uint64_t list = 0, shared = fixture_bytes(S0, 8), ref;

	ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_LIST, 8 * n, &list)), 0);
	for (uint64_t i = 0; i < n; i++) {
		if (i % 3) {
			ck_assert_int_eq(list_set(S0, list, i, shared), 0);
			continue;
		}
		ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_BYTES, 16, &ref)), 0);
		ck_assert_int_eq(list_set(S0, list, i, ref), 0);
		ck_assert_int_eq(object_decref(S0, ref), 0);
	}
	expect_count(1 + (int64_t)n - (int64_t)(n + 2) / 3, shared);
	ck_assert_int_eq(CALL(S0, list_set(S0, list, n, shared)), -ERANGE);
	fixture_drop(S0, list);
	expect_count(1, shared);
	fixture_drop(S0, shared);
	expect_empty();
}
END_TEST

/* A child of many parents goes with the last of them. */
START_TEST(shared_child)
{
	uint64_t child = fixture_list(S0, 1), leaf = fixture_bytes(S0, 30), parents[20];

	MUST(S0, list_set(S0, child, 0, leaf));
	fixture_drop(S0, leaf);
	for (int i = 0; i < 20; i++) {
		parents[i] = fixture_list(S0, 4);
		MUST(S0, list_set(S0, parents[i], 1, child));
		MUST(S0, list_set(S0, parents[i], 3, child));
	}
	fixture_drop(S0, child);
	for (int i = 0; i < 20; i++) {
		expect_count(40 - 2 * i, child);
		fixture_drop(S0, parents[i]);
	}
	expect_gone(child);
	expect_gone(leaf);
	expect_empty();
}
END_TEST

/* Counting finds no cycles: what refers to itself stays until it is taken apart. */
START_TEST(cycle_stays)
{
	uint64_t list = fixture_list(S0, 1);

	MUST(S0, list_set(S0, list, 0, list));
	expect_count(2, list);
	fixture_drop(S0, list);
	expect_count(1, list);
	MUST(S0, list_set(S0, list, 0, 0)); /* and takes the list with it, whose slot it is */
	expect_gone(list);
	expect_empty();
}
END_TEST

START_TEST(struct_with_slots)
{
	const size_t slots[] = {8, 24};
	uint64_t a = fixture_bytes(S0, 5), b = fixture_list(S0, 2), object, got;
	uint32_t type;

	MUST(S0, type_register(S0, &(struct type_spec){"pair", 40, 0, 2, slots}, &type));
	object = fixture_new(S0, type, 0);
	MUST(S0, slot_get(S0, object, 8, &got));
	ck_assert_uint_eq(got, 0);
	memset(ref_data(object), 0xab, 8);
	memset(ref_data(object) + 16, 0xab, 8); /* bytes beside the slots are the user's own */
	memset(ref_data(object) + 32, 0xab, 8);
	MUST(S0, slot_set(S0, object, 8, a));
	MUST(S0, slot_set(S0, object, 24, b));
	MUST(S0, list_set(S0, b, 0, a));
	expect_count(3, a);
	expect_count(2, b);
	fixture_drop(S0, a);
	fixture_drop(S0, b);
	fixture_drop(S0, object);
	expect_gone(a);
	expect_gone(b);
	expect_empty();
}
END_TEST

/* A struct too large for a block, or too strictly aligned, is a run, and its slots are found all the same. */
START_TEST(struct_as_run)
{
	static const struct {
		size_t size, alignment;
	} cases[] = {{16, 64}, {512, 4096}, {5000, 8}, {300000, 0}, {600000, 4096}};
	size_t slots[3] = {0, 8, (cases[_i].size - 8) & ~(size_t)7};
	uint64_t child = fixture_bytes(S0, 5), object;
	uint32_t type, n_slots = cases[_i].size == 16 ? 2 : 3;

	MUST(S0, type_register(
			 S0, &(struct type_spec){"big", cases[_i].size, cases[_i].alignment, n_slots, slots}, &type));
	for (int round = 0; round < 3; round++) {
		object = fixture_new(S0, type, cases[_i].size + 100);
		ck_assert_uint_eq(ref_pool(object)->kind, POOL_RUN);
		for (uint32_t i = 0; i < n_slots; i++) {
			uint64_t got = 1;

			MUST(S0, slot_get(S0, object, slots[i], &got));
			ck_assert_uint_eq(got, 0);
			MUST(S0, slot_set(S0, object, slots[i], child));
		}
		expect_count(1 + n_slots, child);
		memset(ref_data(object) + cases[_i].size, 0xff, 100);
		fixture_drop(S0, object);
		expect_count(1, child);
	}
	fixture_drop(S0, child);
	expect_empty();
}
END_TEST

START_TEST(deallocated_by_type)
{
	/* The same bytes, a good ref, in every word: only where the type has a slot is it dropped. */
	uint64_t child = fixture_bytes(S0, 8), plain = fixture_bytes(S0, 64), list = fixture_list(S0, 8);

	for (size_t i = 0; i < 8; i++) {
		memcpy(ref_data(plain) + 8 * i, &child, 8);
		MUST(S0, list_set(S0, list, i, child));
	}
	expect_count(9, child);
	fixture_drop(S0, plain);
	expect_count(9, child);
	fixture_drop(S0, list);
	expect_count(1, child);
}
END_TEST

/* ---- any number at all as a ref ---------------------------------------------------------------------------------- */

struct bad {
	uint64_t ref;
	int error; /* 0: either of the two */
};

static bool is_refusal(int r)
{
	return r == -EINVAL || r == -ESTALE;
}

static uint64_t good_list, good_queue, good_struct, good_bytes;

static void good_ones_new(void)
{
	const size_t slots[] = {0};
	uint32_t type;

	good_list = fixture_list(S0, 2);
	MUST(S0, queue_new(S0, 2, &good_queue));
	MUST(S0, type_register(S0, &(struct type_spec){"good", 8, 0, 1, slots}, &type));
	good_struct = fixture_new(S0, type, 0);
	good_bytes = fixture_bytes(S0, 64);
}

static void expect_refused(int r, const struct bad *bad, const char *function)
{
	if (bad->error ? r != bad->error : !is_refusal(r))
		ck_abort_msg("%s(0x%" PRIx64 ") gives %d and not %d", function, bad->ref, r, bad->error);
}

/* Every function that takes a ref, in every place that takes one. */
static void refused_by_all(const struct bad *bad)
{
	uint64_t ref = bad->ref, ret = 99;
	struct object object;

	ck_assert_int_eq(change_begin(S0), 0);
	expect_refused(change_end(S0, object_find(fx.heap, ref, &object)), bad, "object_find");
	expect_refused(object_lookup(S0, ref, &object), bad, "object_lookup");
	expect_refused(CALL(S0, object_incref(S0, ref)), bad, "object_incref");
	expect_refused(object_decref(S0, ref), bad, "object_decref");
	expect_refused((int)object_refcount(S0, ref), bad, "object_refcount");
	expect_refused(CALL(S0, list_set(S0, ref, 0, good_bytes)), bad, "list_set of list");
	expect_refused(CALL(S0, list_get(S0, ref, 0, &ret)), bad, "list_get");
	expect_refused(CALL(S0, slot_set(S0, ref, 0, good_bytes)), bad, "slot_set of struct");
	expect_refused(CALL(S0, slot_get(S0, ref, 0, &ret)), bad, "slot_get");
	expect_refused(CALL(S0, queue_push(S0, ref, good_bytes, 0)), bad, "queue_push to");
	expect_refused(CALL(S0, queue_push(S0, good_queue, ref, 0)), bad, "queue_push of");
	expect_refused(CALL(S0, queue_pop(S0, ref, &ret, 0)), bad, "queue_pop");
	expect_refused(CALL(S0, queue_pop(S0, ref, &ret, 5)), bad, "queue_pop, waiting");
	expect_refused(CALL(S0, name_set(S0, "bad", ref)), bad, "name_set");
	if (ref) { /* 0 empties a slot */
		expect_refused(CALL(S0, list_set(S0, good_list, 0, ref)), bad, "list_set to");
		expect_refused(CALL(S0, slot_set(S0, good_struct, 0, ref)), bad, "slot_set to");
	}
	ck_assert_uint_eq(ret, 99);
}

START_TEST(bad_refs)
{
	uint64_t freed, reused, returned, kept, block, run, large, list, table;
	uint64_t end = FIXTURE_HEAP_SIZE / 8;

	good_ones_new();
	freed = fixture_bytes(S0, 200);
	fixture_drop(S0, freed);
	reused = fixture_bytes(S0, 300);
	fixture_drop(S0, reused);
	ck_assert_uint_eq(ref_position(fixture_bytes(S0, 300)), ref_position(reused));
	returned = fixture_bytes(S1, 60);
	MUST(S0, object_incref(S0, returned));
	fixture_drop(S1, returned);
	fixture_drop(S0, returned);
	ck_assert_uint_eq(ref_state(returned), STATE_REMOTE_FREE);
	kept = fixture_bytes(S0, 5 * POOL_SIZE);
	fixture_drop(S0, kept);
	ck_assert_uint_eq(ref_pool(kept)->kind, POOL_RUN);
	block = fixture_bytes(S0, 100);
	run = fixture_bytes(S0, 3 * POOL_SIZE);
	large = fixture_bytes(S0, 2 * ARENA_SIZE_DEFAULT);
	list = fixture_list(S0, 1);
	MUST(S0, name_set(S0, "record", block));
	for (int i = 0; i < 100; i++) { /* a hold table outside its entry */
		uint64_t theirs = fixture_bytes(S1, 8);

		MUST(S0, object_incref(S0, theirs));
	}
	ck_assert_uint_ne(S0->entry->holds_position1, 0);
	table = S0->entry->holds_position1 - 1;

	const struct bad bad[] = {
		{0, -EINVAL},
		{1, -EINVAL},
		{ref_position(block), -EINVAL}, /* without a generation */
		{~UINT64_C(0), -EINVAL},
		{freed, -ESTALE},
		{reused, -ESTALE},
		{returned, -ESTALE},
		{kept, -ESTALE}, /* a free run that its session keeps */
		{ref_make(ref_position(kept), ref_generation(kept) + 1), -ESTALE},
		{ref_make(ref_position(block), ref_generation(block) + 1), -ESTALE},
		{ref_make(ref_position(block), GENERATION_MAX), -ESTALE},
		{block + 1, 0}, /* within it, and so not where a block starts */
		{block - 1, 0},
		{ref_make(ref_position(block) & ~UINT64_C(511), ref_generation(block)), 0}, /* a header of its pool */
		{ref_make((ref_position(block) & ~UINT64_C(511)) + 1, ref_generation(block)), 0},
		{ref_make(ref_position(block) | 511, ref_generation(block)), 0}, /* the pool's last word */
		{run + 1, 0},
		{run + 512, 0}, /* its second pool */
		{large + ARENA_SIZE_DEFAULT / 8, 0},
		{ref_make(end, ref_generation(block)), -EINVAL}, /* the first position past the end */
		{ref_make(REF_POSITION_MASK, 1), -EINVAL},
		{ref_make(end - 1, 1), -ESTALE}, /* in a hole */
		{ref_make(end / 2, 1), -ESTALE},
		{ref_make(table, 1), 0}, /* the heap's own records */
		{ref_make(table, ref_pool(table)->generation), -EINVAL},
		{ref_make(ref_position(list) + 7, ref_generation(list)), 0},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		refused_by_all(&bad[i]);
		fixture_check();
	}
	/* and the name's entry, whose generation only the heap knows */
	for (uint32_t b = 0; b < fx.heap->n_name_buckets; b++) {
		uint64_t position = fx.heap->name_buckets[b];

		if (position)
			refused_by_all(&(struct bad){
				ref_make(position, (uint32_t)(ref_header(position)->word >> REF_POSITION_BITS)),
				-EINVAL});
	}
	fixture_check();
}
END_TEST

/* Numbers at random: all bits, then such that their position at least is of a mapped arena. */
START_TEST(random_refs)
{
	uint64_t n = fixture_ops(1000000), n_alive = 0;
	struct object object;

	fixture_seed();
	good_ones_new();
	for (uint32_t i = 0; i < 40; i++)
		fixture_bytes(S0, 1 + fixture_below(3000));
	for (uint64_t i = 0; i < n; i++) {
		uint64_t ref = fixture_random();
		int r;

		if (i % 2)
			ref = ref_make(fixture_below(ARENA_SIZE_DEFAULT / 8), 1 + fixture_below(4));
		r = object_lookup(S1, ref, &object);
		n_alive += !r;
		if (!r) /* then it is one, with all that belongs to one */
			ck_assert(object_is_held(S0, ref) && object.size <= 3000);
		else if (i % 64 < 2)
			refused_by_all(&(struct bad){ref, r});
		else
			ck_assert(is_refusal(r));
	}
	fixture_check();
	ck_assert_uint_gt(n, n_alive);
}
END_TEST

/* The right ref, of the wrong type. */
START_TEST(wrong_type)
{
	uint64_t ret = 99;

	good_ones_new();
	const uint64_t refs[] = {good_list, good_queue, good_struct, good_bytes};

	for (int i = 0; i < 4; i++) {
		if (refs[i] != good_list) {
			EXPECT(S0, -EINVAL, list_set(S0, refs[i], 0, good_bytes));
			EXPECT(S0, -EINVAL, list_get(S0, refs[i], 0, &ret));
		}
		if (refs[i] != good_struct) {
			EXPECT(S0, -EINVAL, slot_set(S0, refs[i], 0, good_bytes));
			EXPECT(S0, -EINVAL, slot_get(S0, refs[i], 0, &ret));
		}
		if (refs[i] != good_queue) {
			EXPECT(S0, -EINVAL, queue_push(S0, refs[i], good_bytes, 0));
			EXPECT(S0, -EINVAL, queue_pop(S0, refs[i], &ret, 0));
		}
	}
	ck_assert_uint_eq(ret, 99);
	expect_count(1, good_bytes);
}
END_TEST

/* ---- sizes ------------------------------------------------------------------------------------------------------- */

START_TEST(sizes)
{
	static const struct {
		size_t size;
		int r;
	} cases[] = {
		{0, 0},
		{1, 0},
		{512, 0},
		{513, 0},
		{POOL_SIZE, 0},
		{POOL_SIZE + 1, 0},
		{ARENA_SIZE_DEFAULT - POOL_SIZE, 0},
		{ARENA_SIZE_DEFAULT - 1, 0},
		{ARENA_SIZE_DEFAULT, 0},
		{ARENA_SIZE_DEFAULT + 1, 0},
		{FIXTURE_HEAP_SIZE - 1, 0},
		{FIXTURE_HEAP_SIZE, 0},
		{FIXTURE_HEAP_SIZE + 1, -ENOMEM},
		{HEAP_SIZE_MAX, -ENOMEM},
		{HEAP_SIZE_MAX + 1, -ENOMEM},
		{(size_t)INT64_MAX, -ENOMEM},
		{SIZE_MAX - 7, -ENOMEM},
		{SIZE_MAX, -ENOMEM},
	};
	struct object object;
	uint64_t ref;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ref = 5;
		EXPECT(S0, cases[i].r, object_new(S0, TYPE_BYTES, cases[i].size, &ref));
		if (cases[i].r) {
			ck_assert_uint_eq(ref, 5);
			continue;
		}
		ck_assert_int_eq(object_lookup(S0, ref, &object), 0);
		ck_assert_uint_eq(object.size, cases[i].size);
		ck_assert_uint_eq(object.type, TYPE_BYTES);
		if (cases[i].size) {
			object.data[0] = 1;
			object.data[cases[i].size - 1] = 1;
		}
		fixture_drop(S0, ref);
		expect_empty();
	}
}
END_TEST

START_TEST(sizes_of_types)
{
	uint64_t ref = 5;
	uint32_t type;

	EXPECT(S0, -EINVAL, object_new(S0, TYPE_LIST, 9, &ref));
	EXPECT(S0, -ENOMEM, object_new(S0, TYPE_LIST, SIZE_MAX - 7, &ref));
	EXPECT(S0, -EINVAL, object_new(S0, TYPE_QUEUE, 64, &ref));
	EXPECT(S0, -EINVAL, object_new(S0, TYPE_HOLDS, 64, &ref));
	EXPECT(S0, -EINVAL, object_new(S0, TYPE_NAME, 64, &ref));
	EXPECT(S0, -EINVAL, object_new(S0, TYPE_NONE, 64, &ref));
	EXPECT(S0, -EINVAL, object_new(S0, TYPE_FIRST_REGISTERED, 64, &ref));
	EXPECT(S0, -EINVAL, object_new(S0, UINT32_MAX, 64, &ref));
	EXPECT(S0, -EINVAL, queue_new(S0, 0, &ref));
	EXPECT(S0, -ENOMEM, queue_new(S0, SIZE_MAX, &ref));
	EXPECT(S0, -ENOMEM, queue_new(S0, FIXTURE_HEAP_SIZE / 8, &ref));
	MUST(S0, type_register(S0, &(struct type_spec){"forty", 40, 0, 0, NULL}, &type));
	EXPECT(S0, -EINVAL, object_new(S0, type, 39, &ref));
	ck_assert_uint_eq(ref, 5);
	expect_empty();
	MUST(S0, object_new(S0, type, 1000, &ref)); /* with a flexible array behind it */
	MUST(S0, object_new(S0, TYPE_LIST, 0, &ref));
	EXPECT(S0, -ERANGE, list_set(S0, ref, 0, 0));
}
END_TEST

/* The heap full of small objects: -ENOMEM, everything else works, and all of it comes back. */
START_TEST(heap_full)
{
	uint64_t list = 0, ref = 0, keep = fixture_bytes(S0, 64), n;
	int r = 0;

	/* all of them in one list, so that hold tables play no part */
	ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_LIST, 8 * 300000, &list)), 0);
	for (n = 0; n < 300000; n++) {
		r = CALL(S0, object_new(S0, TYPE_BYTES, 64, &ref));
		if (r < 0)
			break;
		ck_assert_int_eq(list_set(S0, list, n, ref), 0);
		ck_assert_int_eq(object_decref(S0, ref), 0);
	}
	ck_assert_int_eq(r, -ENOMEM);
	ck_assert_uint_gt(n, 150000);
	fixture_check();
	MUST(S0, object_incref(S0, keep));
	EXPECT(S0, -ENOMEM, object_new(S0, TYPE_BYTES, 5000, &ref));
	MUST(S0, list_set(S0, list, n / 2, 0));
	MUST(S0, object_new(S0, TYPE_BYTES, 64, &ref));
	fixture_drop(S0, list);
	fixture_drop(S0, ref);
	fixture_drop(S0, keep);
	fixture_drop(S0, keep);
	expect_empty();
}
END_TEST

static void open_large(void)
{
	fixture_open_geometry(&(struct heap_geometry){
		.heap_size = UINT64_C(96) << 20, .arena_size = ARENA_SIZE_DEFAULT, .n_sessions = FIXTURE_SESSIONS});
}

static Suite *suite(void)
{
	Suite *s = suite_create("object");
	TCase *t = tcase_create("object"), *large = tcase_create("large");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, counts_of_the_example);
	tcase_add_loop_test(t, example_dropped_in_every_order, 0, 6);
	tcase_add_test(t, counts_over_sessions);
	tcase_add_test(t, decref_more_often_than_held);
	tcase_add_test(t, held_too_often);
	tcase_add_test(t, held_too_often_by_its_owner);
	tcase_add_loop_test(t, chain_freed_in_bounded_steps, 0, 2);
	tcase_add_test(t, wide_list_freed);
	tcase_add_test(t, shared_child);
	tcase_add_test(t, cycle_stays);
	tcase_add_test(t, struct_with_slots);
	tcase_add_loop_test(t, struct_as_run, 0, 5);
	tcase_add_test(t, deallocated_by_type);
	tcase_add_test(t, bad_refs);
	tcase_add_test(t, random_refs);
	tcase_add_test(t, wrong_type);
	tcase_add_test(t, sizes);
	tcase_add_test(t, sizes_of_types);
	tcase_add_test(t, heap_full);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(large, open_large, fixture_close);
	tcase_add_test(large, chain_freed);
	suite_add_tcase(s, large);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
