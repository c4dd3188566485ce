// SPDX-License-Identifier: MIT
/*
 * Any 64-bit number as a ref, to every function of the heap that takes one
 *
 * A number that can name no object gives -EINVAL, one whose object is gone -ESTALE; nothing changes. The table bad_refs
 * holds of the owner of what the number is near to, of another session, and of one that has the lock; of the functions
 * that need the lock and of those that do not.
 */
#include "heap/change/intent.h"
#include "tests/unit/heap/fixture.h"

#include <inttypes.h>
#include <stdio.h>

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

/* A session that has made nothing comes by the hold table, without the lock and with it. It holds nothing afterwards.
 */
static void refused_to_other(const struct bad *bad)
{
	uint64_t ref = bad->ref;
	struct own_object own;
	int dropped;

	for (int has_lock = 0; has_lock < 2; has_lock++) {
		if (has_lock)
			ck_assert_int_eq(session_lock(S2), 0);
		expect_refused(object_incref(S2, ref), bad, "another's object_incref");
		dropped = object_decref(S2, ref);
		expect_refused(dropped, bad, "another's object_decref");
		if (ref) /* 0 empties a slot */
			expect_refused(CALL(S2, list_set(S2, good_list, 0, ref)), bad, "another's list_set to");
		if (has_lock)
			ck_assert_int_eq(session_unlock(S2), 0);
	}
	ck_assert(!own_find(S0, ref, &own) && !own_find(S2, ref, &own));
	ck_assert_int_eq(own_hold(S2, ref), OWN_NOT);
	ck_assert(!own_drop(S2, ref, &dropped) && own_drop_any(S2, ref) == OWN_NOT);
	ck_assert_uint_eq(intent_kind(S2->entry->intent.word), INTENT_NONE);
	ck_assert_uint_ne(S2->entry->activity, ACTIVITY_ACTIVE);
	ck_assert_uint_eq(S2->entry->n_holds + S2->entry->n_own_holds, 0);
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
	refused_to_other(bad);
}

START_TEST(bad_refs)
{
	uint64_t freed, reused, returned, kept, block, run, large, list, dying, table;
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
	dying = fixture_list(S1, 1);
	MUST(S1, list_set(S1, dying, 0, block));
	fixture_give_up(S1, dying); /* session 1 makes no call any more, so it stays so */

	const struct bad bad[] = {
		{0, -EINVAL},
		{1, -EINVAL},
		{ref_position(block), -EINVAL}, /* without a generation */
		{~UINT64_C(0), -EINVAL},
		{freed, -ESTALE},
		{reused, -ESTALE},
		{returned, -ESTALE},
		{dying, -ESTALE},
		{kept, -ESTALE}, /* a free run that its session keeps */
		{ref_make(ref_position(kept), ref_generation(kept) + 1), -ESTALE},
		{ref_make(ref_position(block), ref_generation(block) + 1), -ESTALE},
		{ref_make(ref_position(block), ref_generation(block) - 1), 0},
		{ref_make(ref_position(block), GENERATION_MAX), -ESTALE},
		{ref_make(ref_position(run), ref_generation(run) + 1), -ESTALE},
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
	ck_assert_uint_eq(ref_state(dying), STATE_DYING);
	ck_assert_int_eq(dying_step(S1, false), 1);
	fixture_expect_count(2, block); /* the session's and the name's */
}
END_TEST

/*
 * Numbers at random: all bits, then such that the position at least is of a mapped arena. Those that name an object are
 * found as the owner finds its own, too, and no others are.
 */
START_TEST(random_refs)
{
	enum { N = 60, LONGEST = 3 * POOL_SIZE };
	uint64_t n = fixture_ops(1000000), n_alive = 0, refs[N];
	struct own_object own;
	struct object object;

	fixture_seed();
	good_ones_new();
	for (uint32_t i = 0; i < N; i++)
		refs[i] = fixture_bytes(S0, 1 + fixture_below(LONGEST));
	for (uint32_t i = 0; i < N; i += 2)
		fixture_drop(S0, refs[i]);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t ref = fixture_random();
		int r;

		if (i % 2)
			ref = ref_make(fixture_below(3 * ARENA_SIZE_DEFAULT / 8), 1 + fixture_below(4));
		r = object_lookup(S1, ref, &object);
		n_alive += !r;
		ck_assert_int_eq(own_find(S0, ref, &own), !r);
		ck_assert(!own_find(S1, ref, &own));
		if (!r) /* then it is one, with all that belongs to one */
			ck_assert(object_is_held(S0, ref) && object.size <= LONGEST);
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
	fixture_expect_count(1, good_bytes);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("object");
	TCase *t = tcase_create("object");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, bad_refs);
	tcase_add_test(t, random_refs);
	tcase_add_test(t, wrong_type);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
