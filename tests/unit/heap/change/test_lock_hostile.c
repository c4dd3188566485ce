// SPDX-License-Identifier: MIT
/*
 * The lock while a hostile client writes beside its word, through a mapping of its own
 *
 * What the C library and the kernel follow for a thread that keeps the lock is this process's own: nothing that is
 * written into the file makes the thread follow a pointer, keeps other robust mutexes of the thread from being freed
 * when it ends, or lets two threads use one entry of a list.
 */
#include "heap/change/lock_word.h"
#include "tests/unit/heap/fixture_lock.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <unistd.h>

#define BESIDE 64U /* bytes: as many as a mutex may have */

static uint8_t *theirs_of_file; /* the control segment as the hostile client has it mapped */

static void setup(void)
{
	fixture_open();
	theirs_of_file = mmap(NULL, fx.heap->control_size, PROT_READ | PROT_WRITE, MAP_SHARED, fx.heap->control_fd, 0);
	ck_assert_ptr_ne(theirs_of_file, MAP_FAILED);
}

static void teardown(void)
{
	ck_assert_int_eq(munmap(theirs_of_file, fx.heap->control_size), 0);
	fixture_close();
}

/* Write a word of 8 bytes all over what lies around the word of the lock, but not into that. */
static void scribble_beside(uint64_t value)
{
	uint8_t *word = theirs_of_file + lock_word_offset();

	memcpy(word + 4, (uint8_t *)&value + 4, 4);
	for (uint32_t i = 8; i < BESIDE; i += 8)
		memcpy(word + i, &value, 8);
}

static uint64_t values[4];

static void make_values(void)
{
	values[1] = UINT64_MAX;
	values[2] = UINT64_C(0x4141414141414140);
	values[3] = (uint64_t)(uintptr_t)&values[0]; /* memory that may be written, and must not be */
}

static void robust_init(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attr;

	ck_assert_int_eq(pthread_mutexattr_init(&attr), 0);
	ck_assert_int_eq(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST), 0);
	ck_assert_int_eq(pthread_mutex_init(mutex, &attr), 0);
}

/* The application's own robust mutex: the C library links it with whatever is in the thread's list. */
static void use_a_robust_mutex(void)
{
	pthread_mutex_t mutex;

	robust_init(&mutex);
	ck_assert_int_eq(pthread_mutex_lock(&mutex), 0);
	ck_assert_int_eq(pthread_mutex_unlock(&mutex), 0);
	ck_assert_int_eq(pthread_mutex_destroy(&mutex), 0);
}

START_TEST(scribbled_while_kept)
{
	make_values();
	ck_assert_int_eq(session_lock(S0), 0);
	scribble_beside(values[_i]);
	use_a_robust_mutex();
	ck_assert_int_eq(CALL(S0, name_del(S0, "none")), -ENOENT);
	use_a_robust_mutex();
	ck_assert_int_eq(session_unlock(S0), 0);
	use_a_robust_mutex();
	ck_assert_int_eq(session_lock(S1), 0);
	ck_assert_int_eq(session_unlock(S1), 0);
	ck_assert_uint_eq(values[0], 0);
	fixture_check();
}
END_TEST

/* Scribbled on before: kinds and flags lead nowhere either. */
START_TEST(scribbled_before)
{
	make_values();
	scribble_beside(values[_i]);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(session_lock(S0), 0);
		use_a_robust_mutex();
		ck_assert_int_eq(session_unlock(S0), 0);
		ck_assert_int_eq(change_try_begin(&fx.daemon), 0);
		ck_assert_int_eq(change_end(&fx.daemon, 0), 0);
	}
	ck_assert_uint_eq(values[0], 0);
	fixture_check();
}
END_TEST

static pthread_mutex_t before, after;

static void *end_with_three_locks(void *value)
{
	pthread_mutex_lock(&before);
	if (session_lock(S0))
		return value;
	pthread_mutex_lock(&after);
	scribble_beside(*(uint64_t *)value);
	return NULL;
}

/* A thread ends with the lock and two mutexes of its own: all three are freed. */
START_TEST(scribbled_on_the_dead)
{
	uint64_t n = fx.heap->control->lock.n_recoveries;
	pthread_t thread;
	void *failed;

	make_values();
	robust_init(&before);
	robust_init(&after);
	ck_assert_int_eq(pthread_create(&thread, NULL, end_with_three_locks, &values[_i]), 0);
	ck_assert_int_eq(pthread_join(thread, &failed), 0);
	ck_assert_ptr_null(failed);
	ck_assert_int_eq(pthread_mutex_trylock(&before), EOWNERDEAD);
	ck_assert_int_eq(pthread_mutex_trylock(&after), EOWNERDEAD);
	ck_assert_int_eq(change_try_begin(S1), 0);
	ck_assert_int_eq(change_end(S1, 0), 0);
	ck_assert_uint_eq(fx.heap->control->lock.n_recoveries, n + 1);
	ck_assert_uint_eq(values[0], 0);
	fixture_check();
}
END_TEST

static void forge(uint32_t word)
{
	__atomic_store_n(lock_word(&fx.heap->control->lock), word, __ATOMIC_RELEASE);
}

static sem_t locked, go_on;

static void *keep_lock(void *ret)
{
	int *results = ret;

	results[0] = session_lock(S1);
	sem_post(&locked);
	while (sem_wait(&go_on))
		;
	use_a_robust_mutex();
	results[1] = session_unlock(S1);
	use_a_robust_mutex();
	return NULL;
}

/*
 * The word is forged while one thread has the lock, and another thread takes it, too. Both lists stay whole, and both
 * threads give back what they have.
 */
START_TEST(two_threads_believe_that_they_have_it)
{
	int results[2] = {-1, -1};
	pthread_t thread;
	int r;

	ck_assert_int_eq(sem_init(&locked, 0, 0) | sem_init(&go_on, 0, 0), 0);
	ck_assert_int_eq(session_lock(S0), 0);
	use_a_robust_mutex();
	forge(_i % 2 ? FUTEX_OWNER_DIED : 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, keep_lock, results), 0);
	ck_assert_int_eq(sem_wait(&locked), 0);
	ck_assert_int_eq(results[0], 0);
	if (_i >= 2) /* this one first, or the other */
		sem_post(&go_on);
	if (_i >= 2)
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
	use_a_robust_mutex();
	r = session_unlock(S0);
	ck_assert_int_eq(r, -EPERM); /* it is lost */
	use_a_robust_mutex();
	if (_i < 2) {
		sem_post(&go_on);
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
	}
	ck_assert_int_eq(results[1], 0);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(session_lock(S0), 0);
		use_a_robust_mutex();
		ck_assert_int_eq(session_unlock(S0), 0);
	}
	ck_assert_uint_eq(lock_word_tid(&fx.heap->control->lock), 0);
	fixture_check();
}
END_TEST

/* One thread of two sessions, of which the first has lost the lock by a forged word. */
START_TEST(one_thread_believes_it_twice)
{
	ck_assert_int_eq(session_lock(S0), 0);
	forge(0);
	ck_assert_int_eq(session_lock(S1), 0);
	use_a_robust_mutex();
	ck_assert_int_eq(session_unlock(_i ? S0 : S1), _i ? -EPERM : 0);
	use_a_robust_mutex();
	ck_assert_int_eq(session_unlock(_i ? S1 : S0), _i ? 0 : -EPERM);
	use_a_robust_mutex();
	ck_assert_int_eq(session_lock(S0), 0);
	use_a_robust_mutex();
	ck_assert_int_eq(session_unlock(S0), 0);
	ck_assert_uint_eq(lock_word_tid(&fx.heap->control->lock), 0);
	fixture_check();
}
END_TEST

/* The word names this very thread, or its session, which knows better: the lock is taken as from a dead owner. */
START_TEST(word_names_who_takes_it)
{
	const uint32_t marks[] = {0, FUTEX_WAITERS, FUTEX_OWNER_DIED, FUTEX_OWNER_DIED | FUTEX_WAITERS};

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		forge((_i % 2 ? foreign_lock_tid(S0->index) : (uint32_t)gettid()) | marks[i]);
		if (_i / 2 == 0) {
			ck_assert_int_eq(change_begin(S0), 0);
			ck_assert_int_eq(change_end(S0, 0), 0);
		} else if (_i / 2 == 1) {
			ck_assert_int_eq(change_try_begin(S0), 0);
			ck_assert_int_eq(change_end(S0, 0), 0);
		} else {
			ck_assert_int_eq(session_lock(S0), 0);
			use_a_robust_mutex();
			ck_assert_int_eq(session_unlock(S0), 0);
		}
		ck_assert_uint_eq(*lock_word(&fx.heap->control->lock), 0);
	}
	fixture_check();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("lock-hostile");
	TCase *t = tcase_create("quick");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, scribbled_while_kept, 0, 4);
	tcase_add_loop_test(t, scribbled_before, 0, 4);
	tcase_add_loop_test(t, scribbled_on_the_dead, 0, 4);
	tcase_add_loop_test(t, two_threads_believe_that_they_have_it, 0, 4);
	tcase_add_loop_test(t, one_thread_believes_it_twice, 0, 2);
	tcase_add_loop_test(t, word_names_who_takes_it, 0, 6);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
