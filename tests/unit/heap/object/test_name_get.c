// SPDX-License-Identifier: MIT
/*
 * Names read without the lock: along chains, while the lock is taken, and while a change is under way
 *
 * What one session has begun and another finds is stored by hand here, as it is between two stores.
 */
#include "heap/object/name_entry.h"
#include "heap/object/right.h"
#include "tests/unit/heap/fixture_count.h"

#include <stdio.h>

/* While the lock is taken: the call would answer -EDEADLK if it wanted it. */
static void get_now(struct session *session, const char *name, uint64_t want)
{
	uint64_t got = 7;

	ck_assert_int_eq(name_get(session, name, &got), want ? 0 : -ENOENT);
	ck_assert_uint_eq(got, want ? want : 7);
	if (want)
		ck_assert_int_eq(object_decref(session, want), 0);
	expect_through(session);
}

static struct name parsed(const char *bytes)
{
	struct name name;

	ck_assert_int_eq(name_parse(fx.heap, bytes, &name), 0);
	return name;
}

/* What links to the entry of a name, and the entry. */
static struct name_entry *entry_of(const char *bytes, uint64_t **ret_link)
{
	struct name name = parsed(bytes);
	struct name_entry *entry;

	for (*ret_link = &fx.heap->name_buckets[name.hash >> fx.heap->name_shift]; **ret_link;
		*ret_link = &entry->next) {
		entry = (struct name_entry *)(void *)(fx.heap->base + (**ret_link << 3));
		if (name_is(entry, entry->length, &name))
			return entry;
	}
	ck_abort_msg("no entry of %s", bytes);
}

START_TEST(without_the_lock)
{
	static const char *const names[] = {"a", "ab", "abcdef", "abcdefg", "abcdefgh", "abcdefghijklmn",
		"abcdefghijklmno", "\xc3\xa4", "a name of some length that has more than a few words"};
	uint64_t refs[9], got;

	for (size_t i = 0; i < 9; i++) {
		refs[i] = fixture_bytes(S0, 40);
		MUST(S0, name_set(S0, names[i], refs[i]));
	}
	for (int n = 0; n < 2; n++) /* then from the cache */
		for (size_t i = 0; i < 9; i++) {
			WITHOUT_LOCK(name_get(S1, names[i], &got));
			ck_assert_uint_eq(got, refs[i]);
			WITHOUT_LOCK(object_decref(S1, got));
		}
	get_now(S1, "abcdefghijklm", 0);
	get_now(S1, "b", 0);
}
END_TEST

/* Names of one bucket, so many that deleted ones stand everywhere in its chain. */
START_TEST(one_chain)
{
	enum { N = 24 };
	char names[N][16];
	uint64_t ref = fixture_bytes(S0, 40), bucket = parsed("0").hash >> fx.heap->name_shift;
	unsigned int n = 0;

	for (unsigned int i = 0; n < N; i++) {
		snprintf(names[n], sizeof(names[n]), "%u", i);
		n += parsed(names[n]).hash >> fx.heap->name_shift == bucket;
	}
	for (n = 0; n < N; n++)
		ck_assert_int_eq(CALL(S0, name_set(S0, names[n], ref)), 0);
	fixture_check();
	for (unsigned int gone = 0; gone < N; gone++) {
		for (n = 0; n < N; n++)
			get_now(S1, names[n], n < gone ? 0 : ref);
		MUST(S0, name_del(S0, names[gone]));
	}
}
END_TEST

START_TEST(while_the_lock_is_taken)
{
	uint64_t ref = fixture_bytes(S0, 40);

	MUST(S0, name_set(S0, "name", ref));
	ck_assert_int_eq(change_begin(S2), 0);
	for (int i = 0; i < 2; i++) {
		get_now(S1, "name", ref);
		get_now(S1, "none", 0);
	}
	ck_assert_int_eq(change_end(S2, 0), 0);
	ck_assert_int_eq(session_lock(S1), 0); /* its own it uses */
	get_now(S1, "name", ref);
	ck_assert_int_eq(session_unlock(S1), 0);
}
END_TEST

/* The name gets another object, and is deleted; neither has taken place. */
START_TEST(reads_what_was_committed)
{
	uint64_t old = fixture_bytes(S0, 40), new = fixture_bytes(S0, 48), *link;
	struct name_entry *entry;
	struct object object;

	MUST(S0, name_set(S0, "name", old));
	if (_i)
		get_now(S1, "name", old);
	entry = entry_of("name", &link);
	ck_assert_int_eq(change_begin(S0), 0);
	ck_assert_int_eq(object_find(fx.heap, new, &object), 0);
	ck_assert_int_eq(right_retain(S0, &object), 0);
	heap_set(fx.heap, &entry->ref, new);
	get_now(S1, "name", old);
	ck_assert_int_eq(change_end(S0, -EIO), -EIO);
	get_now(S1, "name", old);
	ck_assert_int_eq(change_begin(S0), 0);
	heap_set(fx.heap, link, entry->next);
	heap_set(fx.heap, &entry->ref, 0);
	get_now(S1, "name", old);
	ck_assert_int_eq(change_end(S0, -EIO), -EIO);
	get_now(S1, "name", old);
	fixture_check();
}
END_TEST

/* It has, and the session died before the entry was freed. */
START_TEST(deleted_by_the_dead)
{
	uint64_t ref = fixture_bytes(S0, 40), *link, position;
	struct name_entry *entry;

	MUST(S0, name_set(S0, "name", ref));
	fixture_drop(S0, ref);
	if (_i)
		get_now(S1, "name", ref);
	entry = entry_of("name", &link);
	position = *link;
	ck_assert_int_eq(change_begin(S2), 0);
	heap_set(fx.heap, link, entry->next);
	heap_set(fx.heap, &entry->ref, 0);
	heap_add(fx.heap, &control()->counters.n_names, -1);
	heap_set(fx.heap, &S2->entry->displaced, ref);
	heap_set(fx.heap, &S2->entry->displaced_name1, position + 1);
	ck_assert_int_eq(change_end(S2, 0), 0);
	fixture_check();
	get_now(S1, "name", 0);
	fixture_bury(S2);
	fixture_expect_count(-ESTALE, ref);
	get_now(S1, "name", 0);
	fixture_expect_empty();
}
END_TEST

/* The entry's block is another name's; the cache still leads to it. */
START_TEST(entry_used_again)
{
	uint64_t a = fixture_bytes(S0, 40), b = fixture_bytes(S0, 40);

	MUST(S0, name_set(S0, "name", a));
	get_now(S1, "name", a);
	MUST(S0, name_del(S0, "name"));
	MUST(S0, name_set(S0, "eman", b));
	get_now(S1, "name", 0);
	get_now(S1, "eman", b);
	MUST(S0, name_del(S0, "eman"));
	MUST(S0, name_set(S0, "name", b));
	get_now(S1, "name", b);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("name-get");
	TCase *t = tcase_create("name_get");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, without_the_lock);
	tcase_add_test(t, one_chain);
	tcase_add_test(t, while_the_lock_is_taken);
	tcase_add_loop_test(t, reads_what_was_committed, 0, 2);
	tcase_add_loop_test(t, deleted_by_the_dead, 0, 2);
	tcase_add_test(t, entry_used_again);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
