// SPDX-License-Identifier: MIT
/*
 * A signal handler that runs while a call waits for a queue ends the call with -EINTR, at whatever moment the signal
 * comes
 *
 * Many processes wait at the same time, each with a timer of its own. Half of the timers end close to a whole second of
 * waiting, when a waiting call looks around; the others end at any moment.
 */
#include "fixture.h"

#include <stdio.h>
#include <sys/time.h>
#include <time.h>

#define N_PROCESSES 50
#define N_NEAR      16    /* of each process: around a whole second */
#define N_ANYWHERE  64    /* of each process: within 50 ms */
#define LOST_MS     20000 /* a call that is not interrupted ends by this */

static volatile sig_atomic_t n_signals;

static void on_alarm(int signal_number)
{
	(void)signal_number;
	n_signals++;
}

static void install(int flags)
{
	struct sigaction action = {.sa_handler = on_alarm, .sa_flags = flags};

	ck_ok(sigaction(SIGALRM, &action, NULL));
}

static void arm(int usec)
{
	struct itimerval timer = {.it_value = {.tv_sec = usec / 1000000, .tv_usec = usec % 1000000}};

	ck_ok(setitimer(ITIMER_REAL, &timer, NULL));
}

/* A timer that ends before the call begins to wait is not the call's: such a round is made again. */
static void ck_interrupted(pyheap *heap, pyheap_ref queue, int usec)
{
	pyheap_ref ref;

	n_signals = 0;
	arm(usec);
	if (n_signals > 0)
		return;
	ck_err(pyheap_queue_pop(heap, queue, &ref, LOST_MS), EINTR);
	ck_assert_int_eq(n_signals, 1);
}

static void wait_again_and_again(void *userdata)
{
	pyheap *heap = fixture_open(&fx);
	pyheap_ref queue;

	(void)userdata;
	install(0);
	srandom((unsigned int)getpid());
	ck_ok(pyheap_queue_new(heap, 1, &queue));
	for (int i = 0; i < N_NEAR; i++)
		ck_interrupted(heap, queue, 1000000 - 300 + (int)(random() % 600));
	for (int i = 0; i < N_ANYWHERE; i++)
		ck_interrupted(heap, queue, 500 + (int)(random() % 50000));
	pyheap_close(heap);
}

START_TEST(test_whenever_it_comes)
{
	pid_t pids[N_PROCESSES];

	for (int i = 0; i < N_PROCESSES; i++)
		pids[i] = fixture_fork(wait_again_and_again, NULL);
	for (int i = 0; i < N_PROCESSES; i++)
		ck_assert_int_eq(fixture_wait(pids[i]), 0);
}
END_TEST

/* Whatever flags the handler has, for a push as for a pop, and the thread's signal mask is what it was. */
START_TEST(test_push_and_flags)
{
	pyheap *heap = fixture_open(&fx);
	sigset_t before, after;
	pyheap_ref queue, ref;

	ck_ok(sigprocmask(SIG_BLOCK, NULL, &before));
	ck_ok(pyheap_queue_new(heap, 1, &queue));
	ck_ok(pyheap_put(heap, "x", 1, &ref));
	install(SA_RESTART);
	ck_interrupted(heap, queue, 100000);
	ck_ok(pyheap_queue_push(heap, queue, ref, 0));
	ck_ok(pyheap_put(heap, "y", 1, &ref));
	arm(100000);
	ck_err(pyheap_queue_push(heap, queue, ref, LOST_MS), EINTR);
	ck_err(pyheap_queue_push(heap, queue, ref, 10), ETIMEDOUT);
	ck_ok(sigprocmask(SIG_BLOCK, NULL, &after));
	for (int i = 1; i <= SIGRTMAX; i++)
		ck_assert_int_eq(sigismember(&before, i), sigismember(&after, i));
	pyheap_close(heap);
}
END_TEST

/* A signal that the program has blocked, or that has no handler, ends no call. */
START_TEST(test_other_signals)
{
	pyheap *heap = fixture_open(&fx);
	pyheap_ref queue, ref;
	sigset_t set;

	ck_ok(pyheap_queue_new(heap, 1, &queue));
	install(0);
	ck_ok(sigemptyset(&set));
	ck_ok(sigaddset(&set, SIGALRM));
	ck_ok(sigprocmask(SIG_BLOCK, &set, NULL));
	arm(10000);
	ck_err(pyheap_queue_pop(heap, queue, &ref, 200), ETIMEDOUT);
	ck_assert_int_eq(n_signals, 0);
	signal(SIGALRM, SIG_IGN);
	ck_ok(sigprocmask(SIG_UNBLOCK, &set, NULL));
	arm(10000);
	ck_err(pyheap_queue_pop(heap, queue, &ref, 200), ETIMEDOUT);
	pyheap_close(heap);
}
END_TEST

static void wait_for_ever(void *userdata)
{
	pyheap *heap = fixture_open(&fx);
	pyheap_ref ref;

	install(0);
	pyheap_queue_pop(heap, *(pyheap_ref *)userdata, &ref, -1);
	abort();
}

/* A signal whose action is the default one takes effect in the middle of a wait. */
START_TEST(test_default_action)
{
	pyheap *heap = fixture_open(&fx);
	pyheap_ref queue;
	pid_t pid;

	ck_ok(pyheap_queue_new(heap, 1, &queue));
	pid = fixture_fork(wait_for_ever, &queue);
	fixture_until(pyheap_refcount(heap, queue) == 2); /* a waiter holds what it waits at */
	ck_ok(kill(pid, SIGUSR1));
	ck_assert_int_eq(fixture_wait(pid), SIGUSR1);
	pyheap_close(heap);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_signal");
	TCase *tcase = tcase_create("signal");

	tcase_set_timeout(tcase, 900);
	tcase_add_checked_fixture(tcase, fixture_setup, fixture_teardown);
	tcase_add_test(tcase, test_whenever_it_comes);
	tcase_add_test(tcase, test_push_and_flags);
	tcase_add_test(tcase, test_other_signals);
	tcase_add_test(tcase, test_default_action);
	suite_add_tcase(suite, tcase);
	return fixture_main(suite);
}
