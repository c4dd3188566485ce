// SPDX-License-Identifier: MIT
/*
 * The cache of recently used objects: an object is found as it is, is forgotten in time, and is never taken for another
 */
#include "tests/unit/heap/fixture.h"

#include "heap/object/hold.h"
#include "heap/object/object.h"
#include "heap/object/own.h"
#include "heap/object/queue.h"

#include <errno.h>
#include <string.h>

static bool is_known(const struct session *session, uint64_t ref)
{
	return cache_object(session->cache, ref)->ref == ref;
}

static void remember(struct session *session, uint64_t ref)
{
	struct object object;

	ck_assert_int_eq(object_lookup(session, ref, &object), 0);
	object_remember(session, ref, &object);
}

/* An object that is made in the pool of the one before is in the cache at once, with all that own_drop() reads. */
START_TEST(made)
{
	uint64_t first = fixture_bytes(S0, 48), ref = fixture_bytes(S0, 48);
	const struct cached_object *cached = cache_object(S0->cache, ref);

	ck_assert(!is_known(S0, first));
	ck_assert(is_known(S0, ref));
	ck_assert_ptr_eq(cached->header, ref_header(ref));
	ck_assert_ptr_eq(cached->pool, ref_pool(ref));
	ck_assert_uint_eq(cached->word, ref_header(ref)->word);
	ck_assert_uint_eq(cached->block1, ref_block(ref) + 1);
	ck_assert(!is_known(S1, ref));

	ck_assert_int_eq(object_decref(S0, ref), 0);
	ck_assert(!is_known(S0, ref));
	ck_assert_int_eq(object_decref(S0, ref), -ESTALE);
	fixture_drop(S0, first);
	fixture_check();
}
END_TEST

/* Calls by the cache do what calls without it do: each class, sizes in it, pools filled and emptied. */
START_TEST(every_class)
{
	static uint64_t refs[3 * POOL_SIZE / 24];

	for (uint32_t size = 1; size <= BLOCK_SIZE_MAX; size = 2 * size + 1) {
		uint32_t n_blocks = class_pool_blocks(class_of_size(size)), n = 2 * n_blocks + 1;

		for (uint32_t round = 0; round < 3; round++) {
			for (uint32_t i = 0; i < n; i++) {
				refs[i] = fixture_bytes(S0, size);
				ck_assert_uint_eq(header_size(ref_header(refs[i])->word), size);
				ck_assert_uint_eq(header_type(ref_header(refs[i])->word), TYPE_BYTES);
				ck_assert_uint_eq(header_own(ref_header(refs[i])->word), 1);
				ck_assert_uint_eq(block_position(fx.heap, ref_pool(refs[i]), ref_block(refs[i])),
					ref_position(refs[i]));
			}
			fixture_check();
			for (uint32_t i = 0; i < n; i++) /* from the front, from the back, both */
				fixture_drop(S0, refs[round == 0      ? i
							 : round == 1 ? n - 1 - i
							 : i % 2      ? n - 1 - i / 2
								      : i / 2]);
			fixture_check();
		}
	}
	ck_assert_uint_eq(S0->entry->n_own_holds, 0);
}
END_TEST

/* Two objects of one cache line: the later one is in it, the earlier one is found without it. */
START_TEST(two_in_one_line)
{
	uint64_t refs[3 * CACHE_OBJECTS];
	uint32_t n_known = 0;

	for (uint32_t i = 0; i < 3 * CACHE_OBJECTS; i++)
		refs[i] = fixture_bytes(S0, 24);
	for (uint32_t i = 0; i < 3 * CACHE_OBJECTS; i++)
		n_known += is_known(S0, refs[i]);
	ck_assert_uint_gt(n_known, CACHE_OBJECTS / 4);
	ck_assert_uint_le(n_known, CACHE_OBJECTS);
	for (uint32_t i = 0; i < 3 * CACHE_OBJECTS; i++) {
		ck_assert_int_eq(object_incref(S0, refs[i]), 0);
		ck_assert(is_known(S0, refs[i]));
		ck_assert_uint_eq(header_own(ref_header(refs[i])->word), 2);
	}
	for (uint32_t i = 0; i < 3 * CACHE_OBJECTS; i++) {
		ck_assert_int_eq(object_decref(S0, refs[i]), 0);
		fixture_drop(S0, refs[i]);
	}
	fixture_check();
}
END_TEST

/* Each way in which a session's last hold may end. */
static void by_decref(uint64_t ref)
{
	fixture_drop(S0, ref);
}
static void by_push(uint64_t ref)
{
	uint64_t queue;

	ck_assert_int_eq(CALL(S0, queue_new(S0, 2, &queue)), 0);
	ck_assert_int_eq(queue_push(S0, queue, ref, 0), 0);
	fixture_drop(S0, queue);
}
static void by_decref_of_shared(uint64_t ref)
{
	ck_assert_int_eq(CALL(S1, object_incref(S1, ref)), 0);
	ck_assert_int_eq(object_decref(S0, ref), 0);
	ck_assert(!is_known(S0, ref));
	fixture_drop(S1, ref);
}
static void by_decref_after_others(uint64_t ref)
{
	ck_assert_int_eq(CALL(S1, object_incref(S1, ref)), 0);
	ck_assert_int_eq(object_decref(S1, ref), 0);
	fixture_drop(S0, ref);
}

static const struct {
	void (*end)(uint64_t ref);
	bool is_foreign;
} ends[] = {
	{by_decref, false},
	{by_push, false},
	{by_decref_of_shared, false},
	{by_decref_after_others, false},
	{by_decref, true},
	{by_push, true},
};

START_TEST(forgotten_with_the_last_hold)
{
	bool is_foreign = ends[_i].is_foreign;
	uint64_t first = fixture_bytes(is_foreign ? S1 : S0, 48), ref = fixture_bytes(is_foreign ? S1 : S0, 48);

	if (is_foreign) {
		ck_assert_int_eq(CALL(S0, object_incref(S0, ref)), 0);
		fixture_drop(S1, ref);
	}
	remember(S0, ref);
	ck_assert(is_known(S0, ref));
	ck_assert_int_eq(cache_object(S0->cache, ref)->header == NULL, is_foreign);
	ends[_i].end(ref);
	ck_assert(!is_known(S0, ref));
	ck_assert(!object_is_held(S0, ref));
	fixture_drop(is_foreign ? S1 : S0, first);
	fixture_check();
}
END_TEST

/* A queue and a run are in the cache with their position only: drops of them do not go by it. */
START_TEST(of_other_kinds)
{
	uint64_t queue, run = fixture_bytes(S0, 3 * POOL_SIZE);

	ck_assert_int_eq(CALL(S0, queue_new(S0, 2, &queue)), 0);
	remember(S0, queue);
	remember(S0, run);
	ck_assert_ptr_null(cache_object(S0->cache, queue)->data);
	ck_assert_ptr_null(cache_object(S0->cache, queue)->pool);
	ck_assert_ptr_null(cache_object(S0->cache, run)->pool);
	ck_assert_ptr_eq(cache_object(S0->cache, run)->data, fx.heap->base + (ref_position(run) << 3));
	ck_assert_int_eq(object_incref(S0, run), 0);
	ck_assert_uint_eq(header_own(ref_header(run)->word), 2);
	ck_assert_int_eq(object_decref(S0, run), 0);
	fixture_drop(S0, run);
	fixture_drop(S0, queue);
	fixture_check();
}
END_TEST

/* The pool that the cache has for a class is of another class or session by now: nothing is made in it. */
START_TEST(pool_gone)
{
	uint64_t ref = fixture_bytes(S0, 48), theirs;
	uint32_t pool = pool_index(fx.heap, ref_pool(ref));

	ck_assert_ptr_eq(S0->cache->pools[class_of_size(48)].pool, ref_pool(ref));
	fixture_drop(S0, ref);
	fixture_trim_sessions();
	ck_assert_uint_eq(S0->entry->owned_pools1, 0);
	theirs = fixture_bytes(S1, _i ? 100 : 48);
	ck_assert_uint_eq(pool_index(fx.heap, ref_pool(theirs)), pool);
	ref = fixture_bytes(S0, 48);
	ck_assert_uint_ne(pool_index(fx.heap, ref_pool(ref)), pool);
	ck_assert_uint_eq(ref_pool(ref)->owner1, S0->owner1);
	fixture_check();
}
END_TEST

/* A block that is freed in a full pool brings the pool to the front, and the next object is made there. */
START_TEST(full_pool_comes_first)
{
	uint32_t n = class_pool_blocks(class_of_size(48));
	uint64_t refs[POOL_SIZE / 64 + 2], ref;

	for (uint32_t i = 0; i < n + 1; i++)
		refs[i] = fixture_bytes(S0, 48);
	ck_assert_ptr_ne(ref_pool(refs[0]), ref_pool(refs[n]));
	fixture_drop(S0, refs[5]);
	ref = fixture_bytes(S0, 48);
	ck_assert_uint_eq(ref_position(ref), ref_position(refs[5]));
	ck_assert_uint_ne(ref, refs[5]);
	ref = fixture_bytes(S0, 48);
	ck_assert_ptr_eq(ref_pool(ref), ref_pool(refs[n]));
	fixture_check();
}
END_TEST

/* Over the last generation: the next is 1. */
START_TEST(generation_begins_anew)
{
	uint64_t keep = fixture_bytes(S0, 48), ref;

	ref_pool(keep)->generation = GENERATION_MAX - 1;
	ref = fixture_bytes(S0, 48);
	ck_assert_uint_eq(ref_generation(ref), GENERATION_MAX);
	fixture_drop(S0, ref);
	ref = fixture_bytes(S0, 48);
	ck_assert_uint_eq(ref_generation(ref), 1);
	fixture_drop(S0, ref);
	fixture_drop(S0, keep);
	fixture_check();
}
END_TEST

/* A header that a stray write has changed is noticed before the cache is used. */
START_TEST(damaged_header)
{
	uint64_t keep = fixture_bytes(S0, 48), ref = fixture_bytes(S0, 48), word = ref_header(ref)->word, counts;
	const uint64_t bad[] = {0, ~UINT64_C(0), word ^ UINT64_C(1) << 40, header_with_state(word, STATE_FREE),
		header_with_state(word, STATE_REMOTE_FREE) | 1};

	counts = ref_pool(ref)->counts;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert(is_known(S0, ref));
		ref_header(ref)->word = bad[i];
		ck_assert_int_lt(object_decref(S0, ref), 0);
		ck_assert_uint_eq(ref_header(ref)->word, bad[i]);
		ck_assert_uint_eq(ref_pool(ref)->counts, counts);
		ref_header(ref)->word = word;
		remember(S0, ref);
	}
	fixture_drop(S0, ref);
	fixture_drop(S0, keep);
	fixture_check();
}
END_TEST

/* A pool that is the session's no more, or of an unknown class: nothing is freed there or elsewhere. */
START_TEST(damaged_pool)
{
	uint64_t keep = fixture_bytes(S0, 48), ref = fixture_bytes(S0, 48), word = ref_header(ref)->word;
	const struct object_header *header = ref_header(ref);
	struct pool_entry *pool = ref_pool(ref), good = *pool;
	uint32_t damages[1 + 3 * 64], n = 0;

	damages[n++] = pool_identity(POOL_BLOCKS, pool->size_class, S1->owner1);
	damages[n++] = pool_identity(POOL_RUN, pool->size_class, S0->owner1);
	for (uint32_t size_class = N_CLASSES; size_class < 256; size_class += 5)
		damages[n++] = pool_identity(POOL_BLOCKS, size_class, S0->owner1);
	for (uint32_t i = 0; i < n; i++) {
		struct session_entry before = *S0->entry;

		remember(S0, ref);
		ck_assert(is_known(S0, ref));
		pool->identity = damages[i];
		(void)object_decref(S0, ref);
		before.activity = S0->entry->activity;
		for (size_t k = 0; k < sizeof(before); k++)
			ck_assert_msg(((uint8_t *)&before)[k] == ((uint8_t *)S0->entry)[k], "%u: byte %zu", i, k);
		ck_assert_uint_eq(header->word, word);
		ck_assert_uint_eq(pool->counts, good.counts);
		*pool = good;
	}
	fixture_drop(S0, ref);
	fixture_drop(S0, keep);
	fixture_check();
}
END_TEST

/* A session without a cache works. */
START_TEST(nothing_kept)
{
	struct session bare;
	uint64_t refs[100];

	session_init(&bare, fx.heap, 0);
	for (uint32_t i = 0; i < 100; i++) {
		refs[i] = fixture_bytes(&bare, 48);
		ck_assert(!is_known(&bare, refs[i]));
		ck_assert_int_eq(object_incref(&bare, refs[i]), 0);
		ck_assert_int_eq(object_decref(&bare, refs[i]), 0);
	}
	for (uint32_t i = 0; i < 100; i++)
		fixture_drop(&bare, refs[i]);
	for (uint32_t i = 0; i < CACHE_OBJECTS; i++)
		ck_assert_uint_eq(bare.cache->objects[i].ref, 0);
	for (uint32_t i = 0; i < N_CLASSES; i++)
		ck_assert_ptr_null(bare.cache->pools[i].pool);
	ck_assert_uint_eq(bare.cache->is_mine, 0);
	fixture_check();
}
END_TEST

/* Emptied, as in a forked child: any number can be asked for. */
START_TEST(emptied)
{
	uint64_t keep = fixture_bytes(S0, 48), ref = fixture_bytes(S0, 48), got;
	int r = 7;

	memset(S0->cache, 0, sizeof(*S0->cache));
	ck_assert_int_eq(own_hold(S0, ref), OWN_NOT);
	ck_assert_int_eq(own_hold(S0, 0), OWN_NOT);
	ck_assert(!own_drop(S0, ref, &r));
	ck_assert(!own_drop(S0, 0, &r));
	ck_assert(!own_drop_block(S0, ref, &r));
	ck_assert(!own_drop_block(S0, 0, &r));
	ck_assert(!own_new_bytes(S0, 5, 48, &got, &r));
	ck_assert_int_eq(r, 7);
	ck_assert_uint_eq(S0->entry->n_own_holds, 2);
	session_begin_cache(S0, S0->cache);
	fixture_drop(S0, ref);
	fixture_drop(S0, keep);
	fixture_check();
}
END_TEST

/* For each offset in a pool: which block of the class begins there, or none. */
START_TEST(block_numbers_are_the_class_s)
{
	const struct class_shape *shape = &class_shapes[_i];

	for (uint32_t off = 0; off < POOL_SIZE; off += 8) {
		uint32_t n = off < shape->first ? UINT32_MAX : (off - shape->first) / shape->size;
		bool is_block = n < shape->n_blocks && off == shape->first + n * shape->size;

		ck_assert_uint_eq(block_numbers[1 + _i][off / 8], is_block ? n + 1 : 0);
		ck_assert_uint_eq(block_numbers[0][off / 8], 0);
	}
}
END_TEST

/*
 * A drop by the pool's hint: of that object alone, once, and not where the session is fenced or the cache was emptied.
 */
START_TEST(dropped_by_hint)
{
	size_t size = 8 * (size_t)(_i + 1);
	uint64_t keep = fixture_bytes(S0, size), ref = fixture_bytes(S0, size), in_pool = POOL_SIZE / 8 - 1;
	uint64_t n_pools = S0->cache->n_pools;
	int r = 7;

	cache_forget(S0->cache, ref);
	for (uint64_t i = 0; i <= in_pool; i++)
		if (i != (ref & in_pool) && i != (keep & in_pool))
			ck_assert(!own_drop_block(S0, (ref & ~in_pool) | i, &r));
	for (uint32_t i = 9; i < 64; i++) /* another pool, or another generation */
		ck_assert(!own_drop_block(S0, ref ^ UINT64_C(1) << i, &r));
	ck_assert(!own_drop_block(S0, 0, &r));
	ck_assert(!own_drop_block(S0, UINT64_MAX, &r));
	ck_assert(!own_drop_block(S1, ref, &r));
	S0->cache->n_pools = 0;
	ck_assert(!own_drop_block(S0, ref, &r));
	S0->cache->n_pools = n_pools;
	ck_assert_int_eq(r, 7);
	ck_assert_uint_eq(S0->entry->activity, ACTIVITY_DONE);
	ck_assert_uint_eq(header_own(ref_header(ref)->word), 1);

	ck_assert(own_drop_block(S0, ref, &r) == !S0->is_fenced);
	if (S0->is_fenced)
		fixture_drop(S0, ref);
	else
		ck_assert_int_eq(r, 0);
	ck_assert(!own_drop_block(S0, ref, &r));
	ck_assert_int_eq(object_decref(S0, ref), -ESTALE);
	fixture_check();
	fixture_drop(S0, keep);
	fixture_check();
}
END_TEST

/* own_drop_block() does not take objects that are held more than once, or by others, or are no bytes. */
START_TEST(not_dropped_by_hint)
{
	uint64_t keep = fixture_bytes(S0, 48), ref = fixture_bytes(S0, 48), list;
	int r = 7;

	ck_assert_int_eq(object_incref(S0, ref), 0);
	ck_assert(!own_drop_block(S0, ref, &r));
	ck_assert_int_eq(object_decref(S0, ref), 0);
	ck_assert_int_eq(CALL(S1, object_incref(S1, ref)), 0);
	ck_assert(!own_drop_block(S0, ref, &r));
	ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_LIST, 48, &list)), 0);
	ck_assert(!own_drop_block(S0, list, &r));
	ck_assert_int_eq(r, 7);
	fixture_drop(S1, ref);
	fixture_drop(S0, ref);
	fixture_drop(S0, list);
	fixture_drop(S0, keep);
	fixture_check();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cache");
	TCase *t = tcase_create("cache");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, made);
	tcase_add_test(t, every_class);
	tcase_add_test(t, two_in_one_line);
	tcase_add_loop_test(t, forgotten_with_the_last_hold, 0, sizeof(ends) / sizeof(ends[0]));
	tcase_add_test(t, of_other_kinds);
	tcase_add_loop_test(t, pool_gone, 0, 2);
	tcase_add_test(t, full_pool_comes_first);
	tcase_add_test(t, generation_begins_anew);
	tcase_add_test(t, damaged_header);
	tcase_add_test(t, damaged_pool);
	tcase_add_test(t, nothing_kept);
	tcase_add_test(t, emptied);
	tcase_add_loop_test(t, block_numbers_are_the_class_s, 0, N_SMALL_CLASSES);
	tcase_add_loop_test(t, dropped_by_hint, 0, N_SMALL_CLASSES);
	tcase_add_test(t, not_dropped_by_hint);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
