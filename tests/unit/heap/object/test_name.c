// SPDX-License-Identifier: MIT
/*
 * Names of objects
 */
#include "tests/unit/heap/fixture.h"

#include "heap/object/queue.h"

#include <stdio.h>

START_TEST(set_get_del)
{
	uint64_t a = fixture_bytes(S0, 1), got = 7;

	EXPECT(S0, -ENOENT, name_get(S0, "a", &got));
	EXPECT(S0, -ENOENT, name_del(S0, "a"));
	ck_assert_uint_eq(got, 7);
	MUST(S0, name_set(S0, "a", a));
	ck_assert_int_eq(object_refcount(S0, a), 2);
	EXPECT(S0, -ENOENT, name_get(S0, "A", &got));
	EXPECT(S0, -ENOENT, name_get(S0, "aa", &got));
	MUST(S1, name_get(S1, "a", &got));
	ck_assert_uint_eq(got, a);
	ck_assert_int_eq(object_refcount(S0, a), 3);
	MUST(S1, name_del(S1, "a"));
	EXPECT(S0, -ENOENT, name_get(S0, "a", &got));
	ck_assert_int_eq(object_refcount(S0, a), 2);
	ck_assert_uint_eq(fx.heap->control->counters.n_names, 0);
}
END_TEST

/* The name's is the only right to the object. */
START_TEST(name_keeps_its_object)
{
	uint64_t list = fixture_list(S0, 1), leaf = fixture_bytes(S0, 100), got;

	MUST(S0, list_set(S0, list, 0, leaf));
	MUST(S0, name_set(S0, "root", list));
	fixture_drop(S0, leaf);
	fixture_drop(S0, list);
	MUST(S1, name_get(S1, "root", &got));
	ck_assert_uint_eq(got, list);
	fixture_drop(S1, list);
	ck_assert_int_eq(object_refcount(S1, leaf), 1);
	MUST(S1, name_del(S1, "root"));
	ck_assert_int_eq((int)object_refcount(S1, list), -ESTALE);
	ck_assert_int_eq((int)object_refcount(S1, leaf), -ESTALE);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

START_TEST(replaced)
{
	uint64_t a = fixture_bytes(S0, 1), b = fixture_bytes(S0, 2), got;

	MUST(S0, name_set(S0, "n", a));
	MUST(S0, name_set(S0, "n", a)); /* by itself */
	ck_assert_int_eq(object_refcount(S0, a), 2);
	MUST(S0, name_set(S0, "n", b));
	ck_assert_int_eq(object_refcount(S0, a), 1);
	ck_assert_int_eq(object_refcount(S0, b), 2);
	ck_assert_uint_eq(fx.heap->control->counters.n_names, 1);
	/* also where the name's was the only right */
	fixture_drop(S0, b);
	MUST(S0, name_set(S0, "n", a));
	ck_assert_int_eq((int)object_refcount(S0, b), -ESTALE);
	MUST(S0, name_get(S0, "n", &got));
	ck_assert_uint_eq(got, a);
}
END_TEST

START_TEST(several_names_of_one_object)
{
	uint64_t a = fixture_bytes(S0, 1);

	MUST(S0, name_set(S0, "one", a));
	MUST(S0, name_set(S0, "two", a));
	fixture_drop(S0, a);
	MUST(S0, name_del(S0, "one"));
	ck_assert_int_eq(object_refcount(S0, a), 1);
	MUST(S0, name_del(S0, "two"));
	ck_assert_int_eq((int)object_refcount(S0, a), -ESTALE);
}
END_TEST

START_TEST(bad_names)
{
	static const char *const malformed[] = {
		"",
		"\x80",
		"a\xff",
		"\xc0\x80",
		"\xe0\x80\x80",
		"\xed\xa0\x80",
		"\xf4\x90\x80\x80",
		"\xc2",
		"x\xe2\x82",
		"\xc3(",
	};
	char name[300];
	uint64_t a = fixture_bytes(S0, 1), got = 7;

	for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
		EXPECT(S0, -EINVAL, name_set(S0, malformed[i], a));
		EXPECT(S0, -EINVAL, name_get(S0, malformed[i], &got));
		EXPECT(S0, -EINVAL, name_del(S0, malformed[i]));
	}
	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	EXPECT(S0, -ENAMETOOLONG, name_set(S0, name, a));
	EXPECT(S0, -ENAMETOOLONG, name_get(S0, name, &got));
	EXPECT(S0, -ENAMETOOLONG, name_del(S0, name));
	ck_assert_uint_eq(got, 7);
	ck_assert_int_eq(object_refcount(S0, a), 1);
	name[255] = '\0';
	MUST(S0, name_set(S0, name, a));
	MUST(S0, name_get(S0, name, &got));
	ck_assert_uint_eq(got, a);
	MUST(S0, name_del(S0, name));
}
END_TEST

/* Every length, so that entries of many classes come and go; also names with any byte that is UTF-8. */
START_TEST(every_length)
{
	char name[256];
	uint64_t a = fixture_bytes(S0, 1), got;

	for (size_t n = 1; n <= 255; n++) {
		memset(name, 'a', n);
		name[n] = '\0';
		MUST(S0, name_set(S0, name, a));
	}
	for (size_t n = 1; n <= 255; n++) {
		memset(name, 'a', n);
		name[n] = '\0';
		ck_assert_int_eq(CALL(S0, name_get(S0, name, &got)), 0);
	}
	ck_assert_int_eq(object_refcount(S0, a), 511);
	for (size_t n = 1; n <= 255; n += 2) {
		memset(name, 'a', n);
		name[n] = '\0';
		MUST(S0, name_del(S0, name));
	}
	for (size_t n = 1; n <= 255; n++) {
		memset(name, 'a', n);
		name[n] = '\0';
		ck_assert_int_eq(CALL(S0, name_get(S0, name, &got)), n % 2 ? -ENOENT : 0);
	}
	MUST(S0, name_set(S0, "/a path/\xc3\xbc and \xf0\x9f\x98\x80\n\t", a));
}
END_TEST

START_TEST(ten_thousand)
{
	enum { N = 10000 };
	uint64_t a = fixture_bytes(S0, 1), n = fixture_ops(N), n_known = 0, cursor = 0, ref;
	static bool seen[N];
	char name[256];
	unsigned int i;

	for (i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "name/%u", i);
		ck_assert_int_eq(CALL(S0, name_set(S0, name, a)), 0);
	}
	fixture_check();
	ck_assert_uint_eq(fx.heap->control->counters.n_names, n);
	while (name_next(S1, &cursor, name, &ref) == 1) {
		ck_assert_uint_eq(ref, a);
		ck_assert_int_eq(sscanf(name, "name/%u", &i), 1);
		ck_assert(i < n && !seen[i]);
		seen[i] = true;
		n_known++;
	}
	ck_assert_uint_eq(n_known, n);
	for (i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "name/%u", i);
		ck_assert_int_eq(CALL(S0, name_del(S0, name)), 0);
	}
	fixture_check();
	fixture_drop(S0, a);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

START_TEST(walk_nothing)
{
	uint64_t cursor = 0, ref = 7;
	char name[256] = "untouched";

	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(name_next(S0, &cursor, name, &ref), 0);
	cursor = UINT64_MAX; /* a cursor that is none ends the walk */
	ck_assert_int_eq(name_next(S0, &cursor, name, &ref), 0);
	ck_assert_uint_eq(ref, 7);
	ck_assert_str_eq(name, "untouched");
}
END_TEST

/* Names that stay are seen exactly once, whatever names come and go meanwhile, also the one just seen. */
START_TEST(walk_while_it_changes)
{
	enum { N = 400 };
	uint64_t a = fixture_bytes(S0, 1), cursor = 0, ref;
	uint32_t seen[N] = {0};
	char name[256], other[32];
	unsigned int i, n_steps = 0;

	for (i = 0; i < N; i++) {
		snprintf(other, sizeof(other), "%s%u", i % 2 ? "stays" : "goes", i);
		MUST(S0, name_set(S0, other, a));
	}
	while (name_next(S1, &cursor, name, &ref) == 1) {
		if (sscanf(name, "stays%u", &i) == 1)
			ck_assert_uint_eq(++seen[i], 1);
		else
			ck_assert_int_eq(CALL(S0, name_del(S0, name)), 0);
		snprintf(other, sizeof(other), "goes%u", 2 * (n_steps % (N / 2)));
		(void)CALL(S0, name_del(S0, other));
		snprintf(other, sizeof(other), "new%u", n_steps);
		if (n_steps < 500)
			ck_assert_int_eq(CALL(S0, name_set(S0, other, a)), 0);
		fixture_check();
		ck_assert_uint_lt(++n_steps, 5000);
	}
	for (i = 1; i < N; i += 2)
		ck_assert_uint_eq(seen[i], 1);
}
END_TEST

/* Many names in one bucket's chain. */
START_TEST(long_chains)
{
	uint64_t a, cursor = 0, ref, n = 0;
	char name[256];

	fixture_close();
	fixture_open_geometry(&(struct heap_geometry){
		.heap_size = 1 << 20, .arena_size = ARENA_SIZE_MIN, .n_sessions = FIXTURE_SESSIONS});
	ck_assert_uint_eq(fx.heap->n_name_buckets, 256);
	a = fixture_bytes(S0, 1);
	for (unsigned int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "%u", i * 7919);
		ck_assert_int_eq(CALL(S0, name_set(S0, name, a)), 0);
	}
	for (unsigned int i = 0; i < 3000; i += 3) {
		snprintf(name, sizeof(name), "%u", i * 7919);
		ck_assert_int_eq(CALL(S0, name_del(S0, name)), 0);
	}
	fixture_check();
	for (unsigned int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "%u", i * 7919);
		ck_assert_int_eq(CALL(S0, name_get(S0, name, &ref)), i % 3 ? 0 : -ENOENT);
	}
	while (name_next(S0, &cursor, name, &ref) == 1)
		n++;
	ck_assert_uint_eq(n, 2000);
}
END_TEST

/* A damaged chain is noticed, and no wild link is followed. */
START_TEST(damaged_chain)
{
	static const uint64_t rubbish[] = {1, UINT64_MAX, UINT64_C(1) << 60, FIXTURE_HEAP_SIZE / 8, 12345};
	uint64_t a = fixture_bytes(S0, 1), *bucket = NULL, good, got, cursor;
	char name[256];

	MUST(S0, name_set(S0, "n", a));
	for (uint32_t b = 0; b < fx.heap->n_name_buckets; b++)
		if (fx.heap->name_buckets[b])
			bucket = &fx.heap->name_buckets[b];
	ck_assert_ptr_nonnull(bucket);
	good = *bucket;
	for (size_t i = 0; i < sizeof(rubbish) / sizeof(rubbish[0]); i++) {
		*bucket = rubbish[i];
		ck_assert_int_eq(CALL(S0, name_get(S0, "n", &got)), -EUCLEAN);
		ck_assert_int_eq(CALL(S0, name_set(S0, "n", a)), -EUCLEAN);
		ck_assert_int_eq(CALL(S0, name_del(S0, "n")), -EUCLEAN);
		cursor = 0;
		ck_assert_int_eq(name_next(S0, &cursor, name, &got), -EUCLEAN);
	}
	*bucket = ref_position(a); /* an object, but no name */
	ck_assert_int_eq(CALL(S0, name_get(S0, "n", &got)), -EUCLEAN);
	*bucket = good;
	MUST(S0, name_get(S0, "n", &got));
}
END_TEST

/* A session caches names that it looked up. It never gets what a name meant before, whichever session changed it. */
START_TEST(asked_again)
{
	uint64_t a = fixture_bytes(S0, 1), b = fixture_bytes(S0, 2), got;
	struct object object;

	MUST(S0, name_set(S0, "n", a));
	MUST(S1, name_get(S1, "n", &got));
	MUST(S1, name_get(S1, "n", &got)); /* from here on it is known */
	ck_assert_uint_eq(got, a);
	ck_assert_uint_eq(hold_find(S1, a)->count, 2);
	MUST(S0, name_set(S0, "n", b));
	MUST(S1, name_get(S1, "n", &got));
	ck_assert_uint_eq(got, b);
	MUST(S0, name_del(S0, "n"));
	EXPECT(S1, -ENOENT, name_get(S1, "n", &got));
	MUST(S0, name_set(S0, "n", a)); /* in the block that the entry before had */
	MUST(S1, name_get(S1, "n", &got));
	ck_assert_uint_eq(got, a);
	ck_assert_uint_eq(hold_find(S1, a)->count, 3);

	/* A stray write has freed the object or cleared its count: the call fails as without the cache. */
	MUST(S1, name_get(S1, "n", &got));
	ck_assert_int_eq(object_locate(fx.heap, ref_position(a), &object), 0);
	object.header->word ^= UINT64_C(1) << REF_POSITION_BITS;
	ck_assert_int_eq((int)CALL(S1, name_get(S1, "n", &got)), -ESTALE);
	object.header->word ^= UINT64_C(1) << REF_POSITION_BITS;
	MUST(S1, name_get(S1, "n", &got));
}
END_TEST

/* The entries' pools go, and come again for entries of another length. */
START_TEST(asked_again_when_the_entries_are_gone)
{
	enum { N = 400 };
	uint64_t ref = fixture_bytes(S0, 1), got;
	char name[N][64];

	for (int length = 20; length < 60; length += 8) {
		for (int i = 0; i < N; i++) {
			snprintf(name[i], sizeof(name[i]), "%0*d", length, i);
			MUST(S0, name_set(S0, name[i], ref));
			MUST(S1, name_get(S1, name[i], &got));
			MUST(S1, name_get(S1, name[i], &got));
			ck_assert_uint_eq(got, ref);
		}
		for (int i = 0; i < N; i++) {
			MUST(S0, name_del(S0, name[i]));
			EXPECT(S1, -ENOENT, name_get(S1, name[i], &got));
		}
		ck_assert_uint_eq(hold_find(S1, ref)->count, 2 * N);
		for (int i = 0; i < 2 * N; i++)
			MUST(S1, object_decref(S1, ref));
		fixture_trim(0); /* also the arenas, whose memory the cache must not read */
		for (int i = 0; i < N; i++)
			EXPECT(S1, -ENOENT, name_get(S1, name[i], &got));
	}
	fixture_check();
}
END_TEST

/* The name is of a run, a queue, an own object: the second lookup gives what the first gave. */
START_TEST(asked_again_of_each_kind)
{
	uint64_t refs[4], got;

	refs[0] = fixture_bytes(S0, 1);
	refs[1] = fixture_bytes(S0, 3 * POOL_SIZE);
	refs[2] = fixture_bytes(S0, fx.heap->arena_size * UINT64_C(2));
	MUST(S0, queue_new(S0, 3, &refs[3]));
	for (int i = 0; i < 4; i++) {
		MUST(S0, name_set(S0, "n", refs[i]));
		for (int n = 1; n <= 3; n++) {
			MUST(S0, name_get(S0, "n", &got));
			ck_assert_uint_eq(got, refs[i]);
			ck_assert_uint_eq(ref_own(refs[i]), (uint64_t)n + 1);
			MUST(S1, name_get(S1, "n", &got));
			ck_assert_uint_eq(got, refs[i]);
			ck_assert_uint_eq(hold_find(S1, refs[i])->count, (uint32_t)n);
			ck_assert_ptr_eq(cache_object(S1->cache, got)->data, i == 3 ? NULL : ref_data(got));
		}
	}
	fixture_check();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("name");
	TCase *t = tcase_create("name");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, set_get_del);
	tcase_add_test(t, name_keeps_its_object);
	tcase_add_test(t, replaced);
	tcase_add_test(t, several_names_of_one_object);
	tcase_add_test(t, bad_names);
	tcase_add_test(t, every_length);
	tcase_add_test(t, ten_thousand);
	tcase_add_test(t, walk_nothing);
	tcase_add_test(t, walk_while_it_changes);
	tcase_add_test(t, long_chains);
	tcase_add_test(t, damaged_chain);
	tcase_add_test(t, asked_again);
	tcase_add_test(t, asked_again_when_the_entries_are_gone);
	tcase_add_test(t, asked_again_of_each_kind);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
