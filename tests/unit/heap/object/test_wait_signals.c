// SPDX-License-Identifier: MIT
/*
 * A signal handler that runs while a call waits for a queue ends the call with -EINTR, whenever the signal comes
 *
 * A handler that runs before the call begins to wait is not the call's: the queue's flag tells, which each wait sets
 * first. A call whose signal is lost ends by its time-out.
 */
#include "heap/object/queue_wait.h"
#include "tests/unit/heap/fixture.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOST_MS    20000 /* a call that is not interrupted ends by this */
#define N_ROUNDS   1000
#define SOON_USEC  300    /* mostly before the first sleep, or in it */
#define LATER_USEC 150000 /* several sleeps later */

static uint64_t queue;
static volatile sig_atomic_t n_early, n_signals; /* handlers that ran before the wait, and during it */

/* The queue's futexes: a call waits. */
static struct queue *shared(void)
{
	return (struct queue *)(uintptr_t)ref_queue(queue);
}

static bool somebody_waits(void)
{
	return (__atomic_load_n(&shared()->pop_wait, __ATOMIC_ACQUIRE) |
		       __atomic_load_n(&shared()->push_wait, __ATOMIC_ACQUIRE)) &
	       QUEUE_WAITING;
}

static void nobody_waits(void)
{
	__atomic_store_n(&shared()->pop_wait, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&shared()->push_wait, 0, __ATOMIC_SEQ_CST);
}

static void arm(long usec)
{
	struct itimerval timer = {.it_value = {.tv_sec = usec / 1000000, .tv_usec = usec % 1000000}};

	ck_assert_int_eq(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

static void on_signal(int number)
{
	if (somebody_waits()) {
		n_signals++;
		return;
	}
	n_early++;
	if (number == SIGALRM)
		arm(1000);
}

static void install(int number, int flags)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};

	ck_assert_int_eq(sigaction(number, &action, NULL), 0);
}

static void setup(void)
{
	fixture_open();
	queue = fixture_queue(1);
	install(SIGALRM, 0);
	install(SIGUSR1, 0);
}

/* Wait until a signal comes. */
static int wait_once(struct session *session)
{
	uint64_t got;

	return queue_pop(session, queue, &got, LOST_MS);
}

static void wait_for_timer(struct session *session, long usec)
{
	n_signals = 0;
	nobody_waits();
	arm(usec);
	ck_assert_int_eq(wait_once(session), -EINTR);
	ck_assert_int_eq(n_signals, 1);
}

START_TEST(timer_of_the_process_itself)
{
	uint64_t n = fixture_ops(N_ROUNDS);

	for (uint64_t i = 0; i < n; i++)
		wait_for_timer(S0, 1 + fixture_below(SOON_USEC));
	for (uint64_t i = 0; i < n / 40; i++)
		wait_for_timer(S0, 1 + fixture_below(LATER_USEC));
	fixture_check();
}
END_TEST

/* fork(); the child dies with this process. */
static pid_t start_child(void)
{
	pid_t parent = getpid(), pid = fork();

	ck_assert_int_ge(pid, 0);
	if (!pid && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent))
		_exit(3);
	return pid;
}

/* A child that says how many waits it has ended, by what it stores in an object. */
static uint64_t progress;

static uint32_t *n_ended(void)
{
	return (uint32_t *)(void *)ref_data(progress);
}

static void wait_again_and_again(uint32_t n)
{
	for (uint32_t i = 1; i <= n; i++) {
		n_signals = 0;
		if (wait_once(S1) != -EINTR || n_signals != 1)
			_exit(1);
		nobody_waits();
		__atomic_store_n(n_ended(), i, __ATOMIC_RELEASE);
	}
	_exit(n_early ? 2 : 0); /* it is sent a signal only while it waits */
}

static void pause_nsec(long nsec)
{
	nanosleep(&(struct timespec){.tv_nsec = nsec}, NULL);
}

START_TEST(signals_of_another_process)
{
	const int options = WEXITED | WNOHANG | WNOWAIT;
	uint32_t n = (uint32_t)fixture_ops(N_ROUNDS);
	siginfo_t end = {0};
	pid_t pid;

	progress = fixture_bytes(S0, sizeof(uint32_t));
	*n_ended() = 0;
	pid = start_child();
	if (!pid)
		wait_again_and_again(n);
	for (uint32_t i = 1; i <= n; i++) {
		while (!somebody_waits())
			pause_nsec(1000);
		for (uint32_t k = fixture_below(3000); k > 0; k--)
			__atomic_signal_fence(__ATOMIC_SEQ_CST);
		ck_assert_int_eq(kill(pid, SIGUSR1), 0);
		while (__atomic_load_n(n_ended(), __ATOMIC_ACQUIRE) < i &&
			waitid(P_PID, (id_t)pid, &end, options) == 0 && end.si_pid == 0)
			pause_nsec(1000);
		if (__atomic_load_n(n_ended(), __ATOMIC_ACQUIRE) < i)
			break; /* it has failed */
	}
	fixture_finish(pid);
	fixture_check();
}
END_TEST

/* Under the control of another process: a signal comes after its k-th instruction of a call that waits. */
static void wait_traced(void)
{
	int r;

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	nobody_waits();
	raise(SIGSTOP);
	r = wait_once(S1);
	if (n_early) /* it came before the wait, which goes on */
		_exit(r == -ETIMEDOUT || r == -EINTR ? 0 : 1);
	_exit(r == -EINTR && n_signals == 1 ? 0 : 2);
}

static void expect_stop(pid_t pid, int number)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSTOPPED(status));
	ck_assert_int_eq(WSTOPSIG(status), number);
}

static void interrupt_after(uint32_t n_instructions)
{
	pid_t pid = start_child();

	if (!pid)
		wait_traced();
	expect_stop(pid, SIGSTOP);
	for (uint32_t i = 0; i < n_instructions; i++) {
		ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		expect_stop(pid, SIGTRAP);
	}
	if (!somebody_waits()) { /* it does not wait yet */
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		return;
	}
	ck_assert_int_eq(kill(pid, SIGUSR1), 0);
	ck_assert_int_eq(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
	expect_stop(pid, SIGUSR1);
	ck_assert_int_eq(ptrace(PTRACE_CONT, pid, NULL, (void *)(uintptr_t)SIGUSR1), 0);
	fixture_finish(pid);
}

START_TEST(after_any_instruction)
{
	uint64_t n = fixture_ops(100);

	for (uint64_t i = 0; i < n; i++)
		interrupt_after(fixture_below(1500));
}
END_TEST

/* Whatever flags the handler has, for a push as for a pop; and the thread's signal mask is what it was. */
START_TEST(push_and_flags)
{
	uint64_t ref = fixture_bytes(S0, 1), more = fixture_bytes(S0, 1);
	sigset_t before, after;

	ck_assert_int_eq(sigprocmask(SIG_BLOCK, NULL, &before), 0);
	install(SIGALRM, SA_RESTART);
	wait_for_timer(S0, 10000);
	MUST(S0, queue_push(S0, queue, ref, 0));
	nobody_waits();
	arm(10000);
	EXPECT(S0, -EINTR, queue_push(S0, queue, more, LOST_MS));
	EXPECT(S0, -ETIMEDOUT, queue_push(S0, queue, more, 10));
	ck_assert_int_eq(sigprocmask(SIG_BLOCK, NULL, &after), 0);
	for (int i = 1; i <= SIGRTMAX; i++)
		ck_assert_int_eq(sigismember(&before, i), sigismember(&after, i));
}
END_TEST

/* A signal that the program has blocked or ignores ends no wait. */
START_TEST(signals_that_do_not_count)
{
	uint64_t got;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	ck_assert_int_eq(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	arm(1000);
	EXPECT(S0, -ETIMEDOUT, queue_pop(S0, queue, &got, 200));
	ck_assert_int_eq(n_signals + n_early, 0);
	signal(SIGALRM, SIG_IGN);
	ck_assert_int_eq(sigprocmask(SIG_UNBLOCK, &set, NULL), 0);
	arm(1000);
	EXPECT(S0, -ETIMEDOUT, queue_pop(S0, queue, &got, 200));
}
END_TEST

/* A signal whose action is the default one takes effect in the middle of a wait. */
START_TEST(default_action)
{
	uint64_t got;
	int status;
	pid_t pid;

	nobody_waits();
	pid = start_child();
	if (!pid)
		_exit(queue_pop(S1, queue, &got, -1) != 0);
	while (!somebody_waits())
		pause_nsec(1000);
	ck_assert_int_eq(kill(pid, SIGUSR2), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGUSR2);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("wait-signals");
	TCase *t = tcase_create("wait_signals");

	tcase_add_checked_fixture(t, setup, fixture_close);
	tcase_add_test(t, timer_of_the_process_itself);
	tcase_add_test(t, signals_of_another_process);
	tcase_add_test(t, after_any_instruction);
	tcase_add_test(t, push_and_flags);
	tcase_add_test(t, signals_that_do_not_count);
	tcase_add_test(t, default_action);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
