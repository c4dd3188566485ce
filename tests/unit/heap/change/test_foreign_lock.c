// SPDX-License-Identifier: MIT
/*
 * The lock of a session of another pid namespace: the futex word has the session's number, which all its threads share
 */
#include "heap/object/header_lock.h"
#include "tests/unit/heap/fixture_lock.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void *lock_and_change_in_thread(void *in_the_middle)
{
	if (session_lock(S0) || CALL(S0, object_incref(S0, theirs)))
		return (void *)1;
	if (in_the_middle && !change_begin(S0))
		heap_add(fx.heap, spare_word(3), 7);
	return NULL;
}

/* The futex word is the session's: each of its threads owns the lock, also when the thread that took it has ended. */
START_TEST(foreign_lock_of_another_thread)
{
	int results[5] = {0};
	pthread_t thread;
	void *ret;

	theirs = fixture_bytes(S1, 40);
	S0->is_home = false;
	ck_assert_int_eq(pthread_create(&thread, NULL, lock_and_change_in_thread, NULL), 0);
	ck_assert_int_eq(pthread_join(thread, &ret), 0);
	ck_assert_ptr_null(ret);
	ck_assert_int_eq(session_refresh_lock(S0), 1);
	ck_assert_int_eq(session_lock(S0), -EDEADLK);
	ck_assert_int_eq(change_try_begin(S1), -EBUSY);
	ck_assert_int_eq(CALL(S0, object_incref(S0, theirs)), 0);
	ck_assert_int_eq(change_try_begin(S1), -EBUSY);
	if (_i) {
		ck_assert_int_eq(session_unlock(S0), 0);
	} else {
		in_thread(use_in_thread, results);
		ck_assert_int_eq(results[0], 0);
		ck_assert_int_eq(results[1], 0); /* and takes it anew */
		ck_assert_int_eq(results[2], 0);
		ck_assert_int_eq(session_unlock(S0), 0);
	}
	ck_assert_int_eq(session_unlock(S0), -EPERM);
	ck_assert_int_eq(change_try_begin(S1), 0);
	ck_assert_int_eq(change_end(S1, 0), 0);
	ck_assert_uint_eq(fx.heap->control->lock.n_recoveries, 0);
	fixture_check();
}
END_TEST

/* The thread ended within a change: that change is undone, is part of no other, and is not committed by an unlock. */
START_TEST(foreign_thread_ended_in_a_change)
{
	pthread_t thread;
	void *ret;

	theirs = fixture_bytes(S1, 40);
	S0->is_home = false;
	ck_assert_int_eq(pthread_create(&thread, NULL, lock_and_change_in_thread, S0), 0);
	ck_assert_int_eq(pthread_join(thread, &ret), 0);
	ck_assert_ptr_null(ret);
	ck_assert_uint_eq(*spare_word(3), 7);
	if (_i)
		ck_assert_int_eq(CALL(S0, object_incref(S0, theirs)), 0);
	ck_assert_int_eq(session_unlock(S0), 0);
	ck_assert_uint_eq(*spare_word(3), 0);
	ck_assert_uint_eq(fx.heap->control->lock.n_entries, 0);
	ck_assert_uint_eq(hold_find(S0, theirs)->count, 1U + (uint32_t)_i);
	fixture_check();
}
END_TEST

static void *change_in_thread(void *ret)
{
	*(int *)ret = change_begin(S0);
	heap_add(fx.heap, spare_word(3), 7);
	return NULL;
}

/* The thread ended within a call, without session_lock(): the session does not wait for itself. */
START_TEST(foreign_thread_ended_with_the_lock)
{
	int r = -1;

	S0->is_home = false;
	theirs = fixture_bytes(S1, 40);
	in_thread(change_in_thread, &r);
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(change_try_begin(S1), -EBUSY);
	if (_i) {
		ck_assert_int_eq(change_try_begin(S0), 0);
		ck_assert_int_eq(change_end(S0, 0), 0);
	}
	ck_assert_int_eq(CALL(S0, object_incref(S0, theirs)), 0);
	ck_assert_uint_eq(*spare_word(3), 0);
	ck_assert_uint_eq(fx.heap->control->lock.n_recoveries, 1);
	fixture_check();
}
END_TEST

/* A thread without a robust list, of which the kernel would pass nothing on: the word has its session's number. */
START_TEST(thread_without_a_list)
{
	uint64_t n_recoveries = fx.heap->control->lock.n_recoveries;
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (!pid) {
		S0->process = _i ? 2 : 0;
		if (syscall(SYS_set_robust_list, NULL, sizeof(struct robust_list_head)) || change_begin(S0) ||
			lock_word_tid(&control()->lock) != foreign_lock_tid(S0->index) || change_end(S0, 0) ||
			session_lock(S0) || lock_word_tid(&control()->lock) != foreign_lock_tid(S0->index) ||
			change_begin(S0))
			_exit(1);
		heap_add(fx.heap, spare_word(3), 7);
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(change_try_begin(S1), -EBUSY);
	foreign_lock_owner_died(fx.heap, S0->index);
	ck_assert_int_eq(change_try_begin(S1), 0);
	ck_assert_int_eq(change_end(S1, 0), 0);
	ck_assert_uint_eq(*spare_word(3), 0);
	ck_assert_uint_eq(control()->lock.n_recoveries, n_recoveries + 1);
	fixture_check();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("foreign-lock");
	TCase *t = tcase_create("foreign_lock");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, foreign_lock_of_another_thread, 0, 2);
	tcase_add_loop_test(t, foreign_thread_ended_in_a_change, 0, 2);
	tcase_add_loop_test(t, foreign_thread_ended_with_the_lock, 0, 2);
	tcase_add_loop_test(t, thread_without_a_list, 0, 2);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
