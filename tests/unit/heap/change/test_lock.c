// SPDX-License-Identifier: MIT
/*
 * The global lock: owners that are killed, threads that end, and session_lock()
 *
 * Killed owners are real processes, killed by SIGKILL while they have the lock.
 */
#include "heap/change/thread_list.h"
#include "heap/object/header_lock.h"
#include "tests/unit/heap/fixture_lock.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* Owners that die. */

/* Run f in a child that dies by its own SIGKILL at the end of it. */
static void in_killed_child(void (*f)(void))
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (!pid) {
		f();
		kill(getpid(), SIGKILL);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGKILL);
}

static void die_idle_owner(void)
{
	change_begin(&fx.sessions[1]);
}

static void die_in_change(void)
{
	struct session *s = &fx.sessions[1];
	uint64_t ref;
	bool first;

	change_begin(s);
	pool_own(s, class_of_size(40));
	memory_take(s, SPACE_OBJECTS, 2 * POOL_SIZE, POOL_SIZE, TYPE_BYTES, STATE_LIVE, RIGHTS_ONE, &ref);
	hold_add(s, ref, &first);
	memory_take(s, SPACE_RECORDS, 40, 0, TYPE_NAME, STATE_LIVE, RIGHTS_ONE, &ref);
	memory_give(s, ref_position(run));
}

static void die_before_commit(void)
{
	die_in_change();
	log_word(fx.heap, spare_word(3)); /* logged, and then not stored */
}

static void die_after_overflow(void)
{
	change_begin(&fx.sessions[1]);
	for (uint32_t i = 0; i < LOG_CAPACITY + 5; i++)
		heap_add(fx.heap, spare_word(i % 50), 1);
}

static void (*const deaths[])(void) = {die_idle_owner, die_in_change, die_before_commit, die_after_overflow};

START_TEST(owner_killed)
{
	struct global_lock *lock = &fx.heap->control->lock;
	uint64_t n_recoveries = lock->n_recoveries, ref;
	struct picture before;

	populate();
	before = picture_take();
	in_killed_child(deaths[_i]);
	/* The next taker, one that waits or one that tries, finds the heap as it was. */
	if (_i % 2)
		ck_assert_int_eq(change_begin(&fx.sessions[2]), 0);
	else
		ck_assert_int_eq(change_try_begin(&fx.daemon), 0);
	ck_assert_uint_eq(lock->n_recoveries, n_recoveries + 1);
	compare(&before, "killed", 0);
	ck_assert_int_eq(change_end(_i % 2 ? &fx.sessions[2] : &fx.daemon, 0), 0);
	fixture_check();
	for (int i = 0; i < 20; i++) {
		ref = fixture_bytes(&fx.sessions[2], 40);
		fixture_drop(&fx.sessions[2], ref);
	}
	ck_assert_uint_eq(lock->n_recoveries, n_recoveries + 1);
	picture_free(&before);
}
END_TEST

START_TEST(owners_killed_in_a_row)
{
	struct global_lock *lock = &fx.heap->control->lock;
	uint64_t n_recoveries = lock->n_recoveries;

	populate();
	for (uint32_t i = 0; i < 10; i++)
		in_killed_child(deaths[i % 3]);
	fixture_check();
	ck_assert_uint_eq(lock->n_recoveries, n_recoveries + 10);
}
END_TEST

START_TEST(owner_killed_seen_by_daemon)
{
	struct global_lock *lock = &fx.heap->control->lock;
	struct picture before;

	populate();
	before = picture_take();
	ck_assert_int_eq(lock_recover(&fx.daemon), 0);
	ck_assert_uint_eq(lock->n_recoveries, 0);
	in_killed_child(die_in_change);
	ck_assert_int_eq(lock_recover(&fx.daemon), 0);
	ck_assert_uint_eq(lock->n_recoveries, 1);
	compare(&before, "recovered", 0);
	ck_assert_int_eq(session_lock(&fx.sessions[0]), 0);
	ck_assert_int_eq(lock_recover(&fx.daemon), -EBUSY);
	ck_assert_int_eq(session_unlock(&fx.sessions[0]), 0);
	picture_free(&before);
}
END_TEST

/* session_lock(). */

START_TEST(lock_and_unlock)
{
	struct session *s = &fx.sessions[0];
	struct global_lock *lock = &fx.heap->control->lock;
	uint64_t ref, other;

	ck_assert_int_eq(session_unlock(s), -EPERM);
	ck_assert_int_eq(session_lock(s), 0);
	ck_assert_uint_eq(lock->owner1, s->index + 1);
	ck_assert_int_eq(session_lock(s), -EDEADLK);
	ck_assert_int_eq(change_try_begin(&fx.sessions[1]), -EBUSY);
	ck_assert_int_eq(CALL(s, object_new(s, TYPE_BYTES, 10, &ref)), 0);
	ck_assert_int_eq(CALL(s, object_new(s, TYPE_LIST, 80, &other)), 0);
	ck_assert_int_eq(list_set(s, other, 0, ref), 0);
	ck_assert_int_eq(list_set(s, other, 100, ref), -ERANGE);
	ck_assert_int_eq(change_try_begin(&fx.sessions[1]), -EBUSY);
	ck_assert_int_eq(object_decref(s, ref), 0);
	ck_assert_int_eq(object_refcount(s, ref), 1);
	ck_assert_int_eq(session_unlock(s), 0);
	ck_assert_uint_eq(lock->owner1, 0);
	ck_assert_int_eq(session_unlock(s), -EPERM);
	ck_assert_int_eq(object_refcount(&fx.sessions[1], ref), 1);
	fixture_check();
}
END_TEST

static void die_between_calls(void)
{
	struct session *s = &fx.sessions[1];
	struct object object;

	session_lock(s);
	list_set(s, list, 5, bytes);
	name_set(s, "kept", inner);
	/* and in the middle of a third */
	change_begin(s);
	object_find(fx.heap, bytes, &object);
	right_retain(s, &object);
}

START_TEST(finished_calls_are_kept)
{
	struct session *s = &fx.sessions[2];
	uint64_t ref;

	populate();
	ck_assert_int_eq(object_refcount(s, bytes), 1);
	in_killed_child(die_between_calls);
	ck_assert_int_eq(object_refcount(s, bytes), 2); /* its maker and slot 5 */
	ck_assert_uint_eq(fx.heap->control->lock.n_recoveries, 1);
	MUST(s, list_get(s, list, 5, &ref));
	ck_assert_uint_eq(ref, bytes);
	MUST(s, name_get(s, "kept", &ref));
	ck_assert_uint_eq(ref, inner);
}
END_TEST

/* Threads. */

static void *lock_in_thread(void *ret)
{
	*(int *)ret = session_lock(S0);
	return NULL;
}

/* The lock is the thread's that took it: another thread of the session can neither unlock it nor change the heap. */
START_TEST(lock_of_another_thread)
{
	int results[5] = {0};

	theirs = fixture_bytes(S1, 40);
	fixture_drop(S0, fixture_bytes(S0, 8));
	fixture_bytes(S0, 8);
	ck_assert_int_eq(session_lock(S0), 0);
	in_thread(use_in_thread, results);
	ck_assert_int_eq(results[0], -EPERM);
	ck_assert_int_eq(results[1], -EDEADLK);
	ck_assert_int_eq(results[2], -EPERM);
	ck_assert_int_eq(results[3], -EPERM);
	ck_assert_int_eq(results[4], 0);
	ck_assert_int_eq(change_try_begin(S1), -EBUSY);
	ck_assert_int_eq(CALL(S0, object_incref(S0, theirs)), 0);
	ck_assert_int_eq(session_unlock(S0), 0);
	ck_assert_int_eq(session_unlock(S0), -EPERM);
	MUST(S1, object_incref(S1, theirs));
}
END_TEST

/* The thread ends with the lock: the lock is free, and the session goes on without it, as any other. */
START_TEST(lock_of_a_thread_that_ended)
{
	uint64_t n_recoveries = fx.heap->control->lock.n_recoveries;
	int r = -1;

	theirs = fixture_bytes(S1, 40);
	in_thread(lock_in_thread, &r);
	ck_assert_int_eq(r, 0);
	ck_assert(S0->has_lock);
	if (_i) { /* the session is the first to find out, or another */
		MUST(S0, object_incref(S0, theirs));
		ck_assert_uint_eq(fx.heap->control->lock.n_recoveries, n_recoveries + 1);
		ck_assert_int_eq(session_unlock(S0), -EPERM);
	} else {
		ck_assert_int_eq(session_lock(S1), 0);
		ck_assert_uint_eq(fx.heap->control->lock.n_recoveries, n_recoveries + 1);
		ck_assert_int_eq(change_try_begin(S0), -EBUSY);
		ck_assert_int_eq(session_unlock(S0), -EPERM);
		ck_assert_int_eq(session_unlock(S1), 0);
	}
	ck_assert_int_eq(session_lock(S0), 0);
	ck_assert_int_eq(session_unlock(S0), 0);
	MUST(S1, object_incref(S1, theirs));
	fixture_check();
}
END_TEST

/* The thread's id is another thread's by now, which has the lock: the session does not take that for its own lock. */
START_TEST(lock_of_a_thread_whose_number_is_used_again)
{
	int r = -1;

	in_thread(lock_in_thread, &r);
	ck_assert_int_eq(r, 0);
	S0->lock_tid = (uint32_t)gettid();
	ck_assert_int_eq(session_lock(S1), 0);
	ck_assert_int_eq(session_refresh_lock(S0), 0);
	ck_assert(!S0->has_lock);
	S0->has_lock = true;
	ck_assert_int_eq(session_unlock(S0), -EPERM);
	ck_assert_int_eq(session_refresh_lock(S1), 1);
	ck_assert_int_eq(session_unlock(S1), 0);
}
END_TEST

/* A thread that has the lock by one session would wait for itself by another. */
START_TEST(lock_of_another_session_of_the_thread)
{
	uint64_t ref;

	theirs = fixture_bytes(S1, 40);
	ck_assert_int_eq(session_lock(S1), 0);
	ck_assert_int_eq(session_lock(S0), -EDEADLK);
	ck_assert_int_eq(object_incref(S0, theirs), -EDEADLK);
	ck_assert_int_eq(change_try_begin(S0), -EBUSY);
	ck_assert_int_eq(CALL(S1, object_new(S1, TYPE_LIST, 8, &ref)), 0);
	ck_assert_int_eq(session_unlock(S1), 0);
	MUST(S0, object_incref(S0, theirs));
}
END_TEST

/* A thread that the lock is abandoned to. */

static sem_t locked, go_on;
static enum keeping { ENDS, TAKES, TRIES, DETACHES } keeper_does;

static void *keep_lock(void *ret)
{
	int *results = ret;

	results[0] = session_lock(S0);
	sem_post(&locked);
	while (sem_wait(&go_on))
		;
	if (keeper_does == TAKES)
		results[1] = object_incref(S1, theirs);
	else if (keeper_does == TRIES)
		results[1] = change_try_begin(S1) || change_end(S1, 0);
	else if (keeper_does == DETACHES)
		results[1] = lock_release_abandoned(fx.heap);
	return NULL;
}

/* The session is closed by another thread. The thread that took the lock releases it, or the next taker recovers it. */
START_TEST(lock_is_abandoned_to_a_thread)
{
	uint64_t n_recoveries = fx.heap->control->lock.n_recoveries;
	int results[2] = {-1, -1};
	pthread_t thread;

	keeper_does = (enum keeping)_i;
	theirs = fixture_bytes(S2, 40);
	ck_assert_int_eq(sem_init(&locked, 0, 0) | sem_init(&go_on, 0, 0), 0);
	ck_assert(!lock_release_abandoned(fx.heap));
	ck_assert_int_eq(pthread_create(&thread, NULL, keep_lock, results), 0);
	ck_assert_int_eq(sem_wait(&locked), 0);
	ck_assert_int_eq(results[0], 0);
	ck_assert_int_eq(session_refresh_lock(S0), -EPERM);
	ck_assert(lock_is_still_held(S0));
	session_abandon_lock(S0);
	ck_assert(lock_release_abandoned(fx.heap));
	ck_assert_int_eq(change_try_begin(S2), -EBUSY);
	sem_post(&go_on);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert(!lock_release_abandoned(fx.heap));
	ck_assert(!lock_is_still_held(S0));
	ck_assert_int_eq(results[1], keeper_does == ENDS ? -1 : 0);
	ck_assert_int_eq(change_begin(S2), 0);
	ck_assert_int_eq(change_end(S2, 0), 0);
	ck_assert_uint_eq(fx.heap->control->lock.n_recoveries, n_recoveries + (keeper_does == ENDS));
	ck_assert_uint_eq(thread_list_holder(&fx.heap->control->lock), 0);
	fixture_check();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("lock");
	TCase *t = tcase_create("lock");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, owner_killed, 0, (int)(sizeof(deaths) / sizeof(deaths[0])));
	tcase_add_test(t, owners_killed_in_a_row);
	tcase_add_test(t, owner_killed_seen_by_daemon);
	tcase_add_test(t, lock_and_unlock);
	tcase_add_test(t, finished_calls_are_kept);
	tcase_add_test(t, lock_of_another_thread);
	tcase_add_loop_test(t, lock_of_a_thread_that_ended, 0, 2);
	tcase_add_test(t, lock_of_a_thread_whose_number_is_used_again);
	tcase_add_test(t, lock_of_another_session_of_the_thread);
	tcase_add_loop_test(t, lock_is_abandoned_to_a_thread, ENDS, DETACHES + 1);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
