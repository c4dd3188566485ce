// SPDX-License-Identifier: MIT
/*
 * The futex word of the lock: any value that it may have, and who takes it then
 */
#include "heap/change/lock_word.h"
#include "tests/unit/heap/fixture.h"

#include <pthread.h>

#define ME     1000U
#define MY_SEC UINT32_C(0x20000005) /* the other name */
#define THEM   2000U
#define DIED   FUTEX_OWNER_DIED
#define WAITS  FUTEX_WAITERS

START_TEST(taken_where_nobody_else_has_it)
{
	static const struct {
		uint32_t before;
		int r;
		uint32_t after;
	} rows[] = {
		{0, 0, ME},
		{WAITS, 0, ME | WAITS},
		{DIED, EOWNERDEAD, ME},
		{DIED | WAITS, EOWNERDEAD, ME | WAITS},
		{ME, EOWNERDEAD, ME},
		{ME | DIED, EOWNERDEAD, ME},
		{ME | DIED | WAITS, EOWNERDEAD, ME | WAITS},
		{MY_SEC, EOWNERDEAD, ME},
		{MY_SEC | DIED, EOWNERDEAD, ME},
		{THEM, EBUSY, THEM},
		{THEM | DIED, EBUSY, THEM | DIED},
		{THEM | WAITS | DIED, EBUSY, THEM | WAITS | DIED},
		{FUTEX_TID_MASK, EBUSY, FUTEX_TID_MASK},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint32_t word = rows[i].before;

		ck_assert_int_eq(lock_word_take(&word, ME, MY_SEC, true), rows[i].r);
		ck_assert_uint_eq(word, rows[i].after);
		word = rows[i].before;
		if (rows[i].r == EBUSY)
			continue;
		ck_assert_int_eq(lock_word_take(&word, ME, MY_SEC, false), rows[i].r);
		ck_assert_uint_eq(word, rows[i].after);
		lock_word_give(&word);
		ck_assert_uint_eq(word, 0);
	}
}
END_TEST

START_TEST(renamed)
{
	uint32_t word = ME | WAITS | DIED;

	lock_word_rename(&word, THEM, MY_SEC); /* not theirs */
	ck_assert_uint_eq(word, ME | WAITS | DIED);
	lock_word_rename(&word, ME, MY_SEC);
	ck_assert_uint_eq(word, MY_SEC | WAITS);
	lock_word_rename(&word, MY_SEC, 0);
	ck_assert_uint_eq(word, WAITS);
}
END_TEST

START_TEST(owner_died)
{
	uint32_t word = ME | WAITS;

	lock_word_owner_died(&word, THEM);
	ck_assert_uint_eq(word, ME | WAITS);
	lock_word_owner_died(&word, ME);
	ck_assert_uint_eq(word, DIED | WAITS);
	lock_word_owner_died(&word, ME);
	ck_assert_uint_eq(word, DIED | WAITS);
}
END_TEST

/* Only what was marked before is broken, and each way in which the lock changes hands removes the mark. */
START_TEST(broken_with_its_mark_alone)
{
	uint32_t word = ME;

	ck_assert(!lock_word_break(&word, ME));
	ck_assert(!lock_word_suspect(&word, THEM));
	ck_assert_uint_eq(word, ME);
	ck_assert(lock_word_suspect(&word, ME));
	ck_assert(lock_word_suspect(&word, ME));
	ck_assert_uint_eq(word, ME | DIED);
	lock_word_give(&word);
	ck_assert_uint_eq(word, 0);
	ck_assert_int_eq(lock_word_take(&word, ME, ME, true), 0);
	ck_assert(!lock_word_break(&word, ME)); /* another thread of that number, for all that anybody knows */
	ck_assert(lock_word_suspect(&word, ME));
	ck_assert_int_eq(lock_word_take(&word, ME, ME, true), EOWNERDEAD);
	ck_assert(!lock_word_break(&word, ME));
	ck_assert(lock_word_suspect(&word, ME));
	word |= WAITS;
	ck_assert(lock_word_break(&word, ME));
	ck_assert_uint_eq(word, DIED | WAITS);
	ck_assert(!lock_word_break(&word, ME));
	ck_assert(!lock_word_suspect(&word, ME));
}
END_TEST

static uint32_t contested;

static void *change_it_always(void *stop)
{
	while (!__atomic_load_n((bool *)stop, __ATOMIC_RELAXED))
		__atomic_fetch_xor(&contested, FUTEX_WAITERS, __ATOMIC_RELAXED);
	return NULL;
}

/* Who only tries comes back, though a hostile client writes there all the time. */
START_TEST(trying_ends)
{
	pthread_t thread;
	bool stop = false;

	ck_assert_int_eq(pthread_create(&thread, NULL, change_it_always, &stop), 0);
	for (int i = 0; i < 20000; i++) {
		int r = lock_word_take(&contested, ME, ME, true);

		ck_assert(r == 0 || r == EBUSY);
		if (r == 0)
			lock_word_rename(&contested, ME, 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

static void *wait_for_it(void *word)
{
	return (void *)(intptr_t)lock_word_take(word, ME, ME, false);
}

/* A waiter goes on once the word is free, though nobody wakes it, and its mark of a waiter was removed. */
START_TEST(waiting_ends)
{
	static uint32_t word;
	pthread_t thread;
	void *r;

	word = THEM;
	ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_it, &word), 0);
	while (!(__atomic_load_n(&word, __ATOMIC_RELAXED) & WAITS))
		;
	__atomic_store_n(&word, _i ? FUTEX_TID_MASK : 0, __ATOMIC_RELAXED);
	if (_i)
		__atomic_store_n(&word, DIED, __ATOMIC_RELAXED);
	ck_assert_int_eq(pthread_join(thread, &r), 0);
	ck_assert_int_eq((int)(intptr_t)r, _i ? EOWNERDEAD : 0);
	ck_assert_uint_eq(word & FUTEX_TID_MASK, ME);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("lock-word");
	TCase *t = tcase_create("word");

	tcase_add_test(t, taken_where_nobody_else_has_it);
	tcase_add_test(t, renamed);
	tcase_add_test(t, owner_died);
	tcase_add_test(t, broken_with_its_mark_alone);
	tcase_add_test(t, trying_ends);
	tcase_add_loop_test(t, waiting_ends, 0, 2);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
