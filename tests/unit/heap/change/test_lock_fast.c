// SPDX-License-Identifier: MIT
/*
 * The fast path of the lock
 *
 * Sessions with a process number take the lock by what is known of their thread. Here they meet sessions that ask each
 * time; they are killed, or their threads end, while they have it; and what a thread cached of itself before a fork is
 * not used afterwards.
 */
#include "heap/change/lock_word.h"
#include "tests/unit/heap/fixture_picture.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint32_t futex_word(void)
{
	return __atomic_load_n(&fx.heap->control->lock.word, __ATOMIC_ACQUIRE);
}

/* The futex that this thread is taking or giving back, as the kernel would see it. */
static const void *pending(void)
{
	struct robust_list_head *head = NULL;
	size_t size;

	ck_assert_int_eq((int)syscall(SYS_get_robust_list, 0, &head, &size), 0);
	return head->list_op_pending;
}

static void all_are_of(uint64_t process)
{
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++)
		fx.sessions[i].process = process;
}

/* The thread's id is used: not where the kernel gives no robust list. */
static bool is_done_here(void)
{
	bool is_pending;

	ck_assert_int_eq(change_begin(S0), 0);
	is_pending = S0->is_pending;
	ck_assert_int_eq(change_end(S0, 0), 0);
	return is_pending;
}

START_TEST(taken_and_given_back)
{
	all_are_of(1);
	if (!is_done_here())
		return;
	ck_assert_int_eq(change_begin(S0), 0);
	ck_assert_uint_eq(futex_word(), (uint32_t)gettid());
	ck_assert_ptr_nonnull(pending());
	ck_assert_uint_eq(fx.heap->control->lock.owner1, S0->index + 1);
	ck_assert_int_eq(change_try_begin(S1), -EBUSY);
	ck_assert_int_eq(change_try_begin(&fx.daemon), -EBUSY);
	ck_assert_int_eq(change_end(S0, 0), 0);
	ck_assert(!S0->is_pending);
	ck_assert_uint_eq(futex_word(), 0);
	ck_assert_ptr_null(pending());
	/* In turn with one that asks each time. */
	for (int i = 0; i < 10; i++) {
		ck_assert_int_eq(change_begin(i % 2 ? S0 : &fx.daemon), 0);
		ck_assert_int_eq(change_end(i % 2 ? S0 : &fx.daemon, 0), 0);
	}
	ck_assert_uint_eq(fx.heap->control->lock.n_recoveries, 0);
}
END_TEST

/* The application's mutexes may come and go meanwhile. */
START_TEST(not_between_calls)
{
	all_are_of(1);
	ck_assert_int_eq(session_lock(S0), 0);
	ck_assert(!S0->is_pending);
	ck_assert_ptr_null(pending());
	ck_assert_int_eq(change_begin(S0), 0);
	ck_assert(!S0->is_pending);
	ck_assert_int_eq(change_end(S0, 0), 0);
	ck_assert_uint_eq(futex_word() & FUTEX_TID_MASK, (uint32_t)gettid());
	ck_assert_int_eq(session_unlock(S0), 0);
	ck_assert_uint_eq(futex_word(), 0);
}
END_TEST

/* Take the lock for a change, give it back: each in another way. */
static int change_empty(struct session *session, bool try)
{
	int r = try ? change_try_begin(session) : change_begin(session);

	return r < 0 ? r : change_end(session, 0);
}

/* An owner that died: the kernel's mark is all there is of it. */
START_TEST(marked_word)
{
	const uint32_t marks[] = {FUTEX_OWNER_DIED, FUTEX_OWNER_DIED | FUTEX_WAITERS};

	all_are_of(_i ? 1 : 0);
	fx.daemon.process = 1;
	for (int i = 0; i < 2; i++) {
		__atomic_store_n(&fx.heap->control->lock.word, marks[i], __ATOMIC_RELEASE);
		ck_assert_int_eq(change_empty(i ? S0 : &fx.daemon, i), 0);
		ck_assert_uint_eq(futex_word(), 0);
	}
	ck_assert_uint_eq(fx.heap->control->lock.n_recoveries, 2);
	__atomic_store_n(&fx.heap->control->lock.word, FUTEX_WAITERS, __ATOMIC_RELEASE);
	ck_assert_int_eq(change_empty(S0, false), 0);
	ck_assert_uint_eq(fx.heap->control->lock.n_recoveries, 2);
}
END_TEST

/* The word says that the daemon's thread has the lock, which the daemon knows better. */
START_TEST(daemon_is_not_kept_out_by_a_forged_word)
{
	all_are_of(1);
	fx.daemon.process = 1;
	if (!is_done_here())
		return;
	__atomic_store_n(lock_word(&fx.heap->control->lock), (uint32_t)gettid(), __ATOMIC_RELEASE);
	ck_assert_int_eq(change_empty(&fx.daemon, true), 0);
	ck_assert_uint_eq(futex_word(), 0);
	ck_assert_ptr_null(pending());
	/* A session's thread may keep the lock by another session of its own: it is taken, and stays so. */
	ck_assert_int_eq(session_lock(S1), 0);
	ck_assert_int_eq(change_empty(S0, true), -EBUSY);
	ck_assert_int_eq(change_empty(S0, false), -EDEADLK);
	ck_assert_ptr_null(pending());
	ck_assert_int_eq(session_unlock(S1), 0);
}
END_TEST

static void *change_often(void *userdata)
{
	for (int i = 0; i < 2000; i++)
		if (change_empty(userdata, false) < 0)
			return userdata;
	return NULL;
}

/* Two threads wait for each other's changes. */
START_TEST(threads_take_turns)
{
	pthread_t thread;
	void *failed;

	all_are_of(1);
	if (!is_done_here())
		return;
	ck_assert_int_eq(pthread_create(&thread, NULL, change_often, S1), 0);
	ck_assert_ptr_null(change_often(S0));
	ck_assert_int_eq(pthread_join(thread, &failed), 0);
	ck_assert_ptr_null(failed);
	ck_assert_uint_eq(futex_word(), 0);
}
END_TEST

/* Owners that died. */

static void begin_and_change(struct session *session)
{
	ck_assert_int_eq(change_begin(session), 0);
	heap_add(fx.heap, &fx.heap->pools[0].reserved2, 1);
	heap_add(fx.heap, &session->entry->n_holds, 1);
}

static void expect_recovered(const struct picture *before, uint64_t n_recoveries)
{
	/* The next taker knows its thread, or asks, or only tries. */
	struct session *next = n_recoveries % 3 == 0 ? S0 : n_recoveries % 3 == 1 ? &fx.daemon : S1;

	if (n_recoveries % 2)
		ck_assert_int_eq(change_begin(next), 0);
	else
		ck_assert_int_eq(change_try_begin(next), 0);
	ck_assert(next->is_pending);
	ck_assert_uint_eq(fx.heap->control->lock.n_recoveries, n_recoveries);
	compare(before, "gone", (uint32_t)n_recoveries);
	ck_assert_int_eq(change_end(next, 0), 0);
	ck_assert_uint_eq(futex_word(), 0);
}

START_TEST(process_killed)
{
	struct picture before;

	populate();
	all_are_of(1);
	ck_assert_int_eq(change_begin(S0), 0); /* this thread has cached its id, which is wrong in the child */
	ck_assert_int_eq(change_end(S0, 0), 0);
	before = picture_take();
	for (uint64_t i = 1; i <= 6; i++) {
		pid_t pid = fork();

		ck_assert_int_ge(pid, 0);
		if (!pid) {
			all_are_of(i % 2 ? 1 + i : 0); /* as a child's own sessions, or by asking */
			begin_and_change(DEAD);
			kill(getpid(), futex_word() == (uint32_t)gettid() ? SIGKILL : SIGABRT);
		}
		int status;
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status));
		ck_assert_int_eq(WTERMSIG(status), SIGKILL);
		expect_recovered(&before, i);
	}
	fixture_check();
	picture_free(&before);
}
END_TEST

static void *end_in_change(void *userdata)
{
	(void)userdata;
	begin_and_change(DEAD);
	return NULL;
}

/* A thread that ends, too; the next one, of another id, likely gets the memory of the one before. */
START_TEST(thread_ended)
{
	struct picture before;
	pthread_t thread;

	populate();
	all_are_of(1);
	before = picture_take();
	for (uint64_t i = 1; i <= 6; i++) {
		ck_assert_int_eq(pthread_create(&thread, NULL, end_in_change, NULL), 0);
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
		DEAD->is_pending = false; /* the next round uses the session anew */
		expect_recovered(&before, i);
	}
	picture_free(&before);
}
END_TEST

/* Waiting. */

/*
 * Processes that all change the heap at once do so one after the other; all sleep now and then, and none forever. 0:
 * all ask each time; 1: two of three know their thread.
 */
START_TEST(many_processes)
{
	uint64_t n_ops = fixture_ops(3000), shared = fixture_bytes(S0, 8);
	pid_t pids[FIXTURE_SESSIONS];

	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++) {
		struct session *session = &fx.sessions[i];

		pids[i] = fork();
		ck_assert_int_ge(pids[i], 0);
		if (pids[i])
			continue;
		all_are_of(_i && i % 3 ? 2 : 0);
		for (uint64_t op = 0; op < n_ops; op++)
			if (change_begin(session) || (op % 64 == 0 && usleep(200)) || change_end(session, 0) ||
				object_incref(session, shared))
				_exit(1);
		for (uint64_t op = 0; op + 1 < n_ops; op++)
			if (object_decref(session, shared))
				_exit(2);
		_exit(0);
	}
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++)
		fixture_finish(pids[i]);
	fixture_check();
	ck_assert_int_eq(object_refcount(S0, shared), FIXTURE_SESSIONS + 1);
	ck_assert_uint_eq(fx.heap->control->lock.n_recoveries, 0);
	ck_assert_uint_eq(futex_word(), 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("lock-fast");
	TCase *t = tcase_create("quick");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, taken_and_given_back);
	tcase_add_test(t, not_between_calls);
	tcase_add_loop_test(t, marked_word, 0, 2);
	tcase_add_test(t, daemon_is_not_kept_out_by_a_forged_word);
	tcase_add_test(t, threads_take_turns);
	tcase_add_test(t, process_killed);
	tcase_add_test(t, thread_ended);
	tcase_add_loop_test(t, many_processes, 0, 2);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
