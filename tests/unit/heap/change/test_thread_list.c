// SPDX-License-Identifier: MIT
/*
 * The lock in a thread's list of robust futexes, among mutexes that the C library has there
 */
#include "heap/change/thread_list.h"
#include "tests/unit/heap/fixture.h"

#include <pthread.h>
#include <unistd.h>

#define N_MUTEXES 3U

static pthread_mutex_t mutexes[N_MUTEXES];

static struct global_lock *lock(void)
{
	return &fx.heap->control->lock;
}

static void setup(void)
{
	pthread_mutexattr_t attr;

	fixture_open();
	ck_assert_int_eq(pthread_mutexattr_init(&attr), 0);
	ck_assert_int_eq(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST), 0);
	for (uint32_t i = 0; i < N_MUTEXES; i++)
		ck_assert_int_eq(pthread_mutex_init(&mutexes[i], &attr), 0);
}

/* How many futexes the kernel would find, by going through the list as it does. */
static uint32_t n_listed(void)
{
	struct robust_list *head = &this_thread.robust->list, *entry = head->next;
	uint32_t n = 0;

	for (; entry != head; entry = entry->next) {
		ck_assert_uint_lt(n, N_MUTEXES + 1);
		n++;
	}
	return n;
}

/* Taken and given back in every order: step k of four takes or gives back mutex 0, 1, 2 or the lock. */
static void toggle(uint32_t which, bool *has)
{
	if (which < N_MUTEXES)
		ck_assert_int_eq(*has ? pthread_mutex_unlock(&mutexes[which]) : pthread_mutex_lock(&mutexes[which]), 0);
	else if (*has)
		thread_list_remove(lock());
	else
		ck_assert(thread_list_add(lock()));
	*has = !*has;
}

START_TEST(any_order)
{
	bool has[N_MUTEXES + 1] = {false};
	uint32_t n = 0;

	ck_assert(thread_learn(1));
	fixture_seed();
	for (uint64_t i = fixture_ops(20000); i-- > 0;) {
		uint32_t which = fixture_below(N_MUTEXES + 1);

		n += has[which] ? -1U : 1U;
		toggle(which, &has[which]);
		ck_assert_uint_eq(n_listed(), n);
		ck_assert_int_eq(thread_list_has(lock()), has[N_MUTEXES]);
		ck_assert_uint_eq(thread_list_holder(lock()), has[N_MUTEXES] ? (uint32_t)gettid() : 0);
	}
	for (uint32_t i = 0; i <= N_MUTEXES; i++)
		if (has[i])
			toggle(i, &has[i]);
	ck_assert_uint_eq(n_listed(), 0);
}
END_TEST

static void *add_and_end(void *ret)
{
	*(bool *)ret = thread_learn(1) && thread_list_add(lock());
	return NULL;
}

static void *try_to_add(void *ret)
{
	*(bool *)ret = thread_learn(1) && thread_list_add(lock());
	if (*(bool *)ret)
		thread_list_remove(lock());
	return NULL;
}

static bool by_thread(void *(*what)(void *))
{
	pthread_t thread;
	bool r = false;

	ck_assert_int_eq(pthread_create(&thread, NULL, what, &r), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	while (thread_list_holder(lock()) && thread_list_holder(lock()) != (uint32_t)gettid())
		; /* its number is there a little longer */
	return r;
}

/* One thread at a time; a thread that has ended is none. */
START_TEST(one_thread_at_a_time)
{
	uint32_t number;

	ck_assert(thread_learn(1));
	ck_assert(thread_list_add(lock()));
	number = thread_list_number(lock());
	ck_assert(!by_thread(try_to_add));
	ck_assert(thread_list_add(lock())); /* itself: it stays there, once */
	ck_assert_uint_ne(thread_list_number(lock()), number);
	ck_assert_uint_eq(n_listed(), 1);
	thread_list_remove(lock());
	thread_list_remove(lock());
	ck_assert_uint_eq(n_listed(), 0);
	ck_assert(by_thread(add_and_end));
	ck_assert_uint_eq(thread_list_holder(lock()), 0);
	ck_assert(by_thread(add_and_end));
	ck_assert(thread_list_add(lock()));
	ck_assert_uint_eq(n_listed(), 1);
	thread_list_remove(lock());
}
END_TEST

/* This thread has the number of one that has ended with the entry: where that one's list led is not followed. */
START_TEST(number_used_again)
{
	ck_assert(thread_learn(1));
	ck_assert(by_thread(add_and_end));
	lock()->node.holder = (uint32_t)gettid();
	lock()->node.next = lock()->node.prev = (void *)16;
	ck_assert(!thread_list_has(lock()));
	ck_assert_uint_eq(thread_list_holder(lock()), 0);
	if (_i) {
		thread_list_remove(lock());
		ck_assert_uint_eq(lock()->node.holder, 0);
	} else {
		ck_assert(thread_list_add(lock()));
		ck_assert_uint_eq(n_listed(), 1);
		thread_list_remove(lock());
	}
	ck_assert_uint_eq(n_listed(), 0);
}
END_TEST

START_TEST(abandoned_for_once)
{
	ck_assert(thread_learn(1));
	ck_assert(thread_list_add(lock()));
	ck_assert(!thread_list_is_abandoned(lock()));
	thread_list_abandon(lock(), thread_list_number(lock()));
	ck_assert(thread_list_is_abandoned(lock()));
	ck_assert(thread_list_add(lock()));
	ck_assert(!thread_list_is_abandoned(lock()));
	thread_list_remove(lock());
}
END_TEST

/* A list without an end, as a stray write of the application may leave it, is no list to be in. */
START_TEST(list_without_an_end)
{
	struct robust_list *head, circle[2] = {{&circle[1]}, {&circle[0]}};

	ck_assert(thread_learn(1));
	head = &this_thread.robust->list;
	head->next = _i ? &circle[0] : NULL;
	ck_assert(!thread_list_add(lock()));
	ck_assert(!thread_list_has(lock()));
	head->next = head;
	ck_assert_uint_eq(thread_list_holder(lock()), 0);
	ck_assert(thread_list_add(lock()));
	thread_list_remove(lock());
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("thread-list");
	TCase *t = tcase_create("list");

	tcase_add_checked_fixture(t, setup, fixture_close);
	tcase_add_test(t, any_order);
	tcase_add_test(t, one_thread_at_a_time);
	tcase_add_loop_test(t, number_used_again, 0, 2);
	tcase_add_test(t, abandoned_for_once);
	tcase_add_loop_test(t, list_without_an_end, 0, 2);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
