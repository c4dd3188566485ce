// SPDX-License-Identifier: MIT
/*
 * Death is certain before it is acted on: processes that look dead and live, and that look alive and are dead
 *
 * A client puts one object that no other session holds. The object stays as long as the client's process lives,
 * whatever became of the socket; it is dropped once the process has ended, also if another has the socket. A test looks
 * whether the object is kept after the daemon has reclaimed another process that died later (settle()): by then the
 * daemon had time to do wrong.
 *
 * Other pid namespaces and pids that are used again: test_death_ns.c.
 */
#include "fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>

/* Between the test and its children. */
struct shared {
	pyheap_ref ref;     /* the client's object */
	uint32_t step;      /* how far the client has come */
	uint32_t may_go_to; /* how far it may go */
	pid_t pid;          /* of a grandchild */
};

static struct shared *shared;
static pyheap *watcher;

static uint32_t step(void)
{
	return __atomic_load_n(&shared->step, __ATOMIC_ACQUIRE);
}

/* In the client: this step is done; go on when the test says so. */
static void step_done(uint32_t number)
{
	__atomic_store_n(&shared->step, number, __ATOMIC_RELEASE);
	fixture_until(__atomic_load_n(&shared->may_go_to, __ATOMIC_ACQUIRE) > number);
}

/* In the test: the client may do step `number`; wait until it is done. */
static void step_do(uint32_t number)
{
	__atomic_store_n(&shared->may_go_to, number, __ATOMIC_RELEASE);
	fixture_until(step() >= number);
}

static void wait_for_ever(void)
{
	for (;;)
		pause();
}

static void setup(void)
{
	fixture_setup();
	watcher = fixture_open(&fx);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
}

static void teardown(void)
{
	watcher = pyheap_close(watcher);
	fixture_teardown();
}

static bool is_gone(pyheap_ref ref)
{
	int64_t n = pyheap_refcount(watcher, ref);

	ck_assert(n == 1 || n == -ESTALE);
	return n < 0;
}

/* In a child: open a session that holds one object more. */
static pyheap *open_and_put(pyheap_ref *ret)
{
	pyheap *heap = fixture_open(&fx);

	ck_ok(pyheap_put(heap, "alive", 6, ret));
	return heap;
}

static void hold_and_wait(void *userdata)
{
	pyheap_ref ref;

	open_and_put(&ref);
	__atomic_store_n((pyheap_ref *)userdata, ref, __ATOMIC_RELEASE);
	wait_for_ever();
}

/* Another process holds an object and dies, and the daemon reclaims it. */
static void settle(void)
{
	pyheap_ref *ref = mmap(NULL, sizeof(*ref), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	for (int i = 0; i < 3; i++) {
		pid_t pid;

		*ref = 0;
		pid = fixture_fork(hold_and_wait, ref);
		fixture_until(__atomic_load_n(ref, __ATOMIC_ACQUIRE));
		fixture_kill(pid);
		fixture_until(is_gone(*ref));
	}
	munmap(ref, sizeof(*ref));
}

static void restart_daemon(void)
{
	fixture_stop(&fx, SIGKILL);
	fixture_start_again(&fx);
}

/* The client lives: its object stays, with this daemon and with the next. */
static void expect_kept(void)
{
	settle();
	ck_assert(!is_gone(shared->ref));
	restart_daemon();
	settle();
	ck_assert(!is_gone(shared->ref));
}

static void expect_dropped(void)
{
	fixture_until(is_gone(shared->ref));
}

/* The socket is gone, the process is not. */

static void close_the_socket(void *userdata)
{
	bool everything = *(int *)userdata;
	pyheap *heap = open_and_put(&shared->ref);
	pyheap_ref ref;

	if (everything)
		closefrom(3);
	else
		close(pyheap_fd(heap));
	step_done(1);
	ck_assert_int_eq(pyheap_refcount(heap, shared->ref), 1);
	ck_assert_str_eq(pyheap_data(heap, shared->ref), "alive");
	ck_ok(pyheap_put(heap, "more", 5, &ref));
	ck_ok(pyheap_decref(heap, ref));
	step_done(2);
	wait_for_ever();
}

START_TEST(closed_its_socket)
{
	pid_t pid = fixture_fork(close_the_socket, &_i);

	step_do(1);
	expect_kept();
	step_do(2);
	expect_kept();
	fixture_kill(pid);
	expect_dropped();
}
END_TEST

/* Another program, the same process. */

static void exec_sleep(void)
{
	execlp("sleep", "sleep", "1000", NULL);
	_exit(127);
}

static void *exec_in_thread(void *userdata)
{
	(void)userdata;
	exec_sleep();
	return NULL;
}

static void exec_another_program(void *userdata)
{
	int way = *(int *)userdata;
	pyheap *heap = open_and_put(&shared->ref);
	pthread_t thread;

	if (way > 0)
		ck_assert_int_eq(fcntl(pyheap_fd(heap), F_SETFD, 0), 0);
	if (way == 3)
		ck_ok(pyheap_lock(heap));
	step_done(1);
	if (way == 2 && pthread_create(&thread, NULL, exec_in_thread, NULL) == 0)
		wait_for_ever();
	exec_sleep();
}

static bool runs(pid_t pid, const char *program)
{
	char path[64], name[32] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	ck_assert_ptr_nonnull(fgets(name, sizeof(name), file));
	fclose(file);
	return strncmp(name, program, strlen(program)) == 0;
}

/* 0: the socket is closed by exec; 1: it is not; 2: the same, and a thread that is not the first; 3: with the lock. */
START_TEST(became_another_program)
{
	pid_t pid = fixture_fork(exec_another_program, &_i);

	step_do(1);
	__atomic_store_n(&shared->may_go_to, 2, __ATOMIC_RELEASE);
	fixture_until(runs(pid, "sleep"));
	expect_kept();
	fixture_kill(pid);
	expect_dropped();
}
END_TEST

/* The process is gone, the socket is not. */

static void use_a_copy(pyheap *heap)
{
	pyheap *own;
	pyheap_ref ref;

	prctl(PR_SET_PDEATHSIG, 0);
	alarm(600);
	shared->pid = getpid();
	step_done(2); /* the parent has gone by now */
	ck_err(pyheap_incref(heap, shared->ref), ECHILD);
	ck_err(pyheap_decref(heap, shared->ref), ECHILD);
	ck_err(pyheap_put(heap, "x", 1, &ref), ECHILD);
	ck_assert_int_eq(pyheap_refcount(heap, shared->ref), -ECHILD);
	ck_assert_ptr_null(pyheap_data(heap, shared->ref));
	ck_assert_int_eq(errno, ECHILD);
	own = open_and_put(&ref);
	step_done(3);
	ck_assert_ptr_null(pyheap_close(heap));
	ck_assert_int_eq(pyheap_refcount(own, ref), 1);
	shared->ref = ref;
	step_done(4);
	wait_for_ever();
}

static void fork_and_go(void *userdata)
{
	int way = *(int *)userdata;
	pyheap *heap = open_and_put(&shared->ref);

	if (fork() == 0) {
		use_a_copy(heap);
		_exit(0);
	}
	fixture_until(step() == 2); /* recorded by the child: this process might record an earlier step after it */
	if (way == 1)
		wait_for_ever();
	_exit(0);
}

/* 0: the parent, who has the session, exits; 1: it is killed. Its child lives, and has the socket all the time. */
START_TEST(left_a_child)
{
	pid_t pid = fixture_fork(fork_and_go, &_i);

	fixture_until(step() == 2);
	if (_i == 1) {
		settle();
		ck_assert(!is_gone(shared->ref));
		fixture_kill(pid);
	} else {
		ck_assert_int_eq(fixture_wait(pid), 0);
	}
	expect_dropped();
	step_do(3);
	step_do(4);
	expect_kept(); /* the child's own object */
	ck_ok(kill(shared->pid, SIGKILL));
	expect_dropped();
}
END_TEST

/* Zombies. */

static bool is_zombie(pid_t pid)
{
	siginfo_t info = {0};

	ck_ok(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT));
	return info.si_pid == pid;
}

/* 0: with the daemon, 1: while it is away. */
START_TEST(nobody_waits_for_it)
{
	pid_t pid = fixture_fork(hold_and_wait, &shared->ref);

	fixture_until(__atomic_load_n(&shared->ref, __ATOMIC_ACQUIRE));
	if (_i == 1)
		fixture_stop(&fx, SIGKILL);
	ck_ok(kill(pid, SIGKILL));
	fixture_until(is_zombie(pid));
	if (_i == 1)
		fixture_start_again(&fx);
	expect_dropped();
	ck_assert(is_zombie(pid));
	fixture_wait(pid);
}
END_TEST

/* Threads. */

static void *work_on(void *userdata)
{
	pyheap *heap = userdata;
	pyheap_ref ref;

	step_done(1);
	ck_assert_str_eq(pyheap_data(heap, shared->ref), "alive");
	/* new memory, which only the daemon has: the session is still this process's */
	ck_ok(pyheap_new(heap, PYHEAP_BYTES, 1 << 20, &ref));
	ck_ok(pyheap_decref(heap, ref));
	step_done(2);
	wait_for_ever();
	return NULL;
}

static void leave_it_to_a_thread(void *userdata)
{
	pyheap *heap = open_and_put(&shared->ref);
	pthread_t thread;

	(void)userdata;
	ck_assert_int_eq(pthread_create(&thread, NULL, work_on, heap), 0);
	pthread_exit(NULL);
}

/* The first thread has ended, as /proc shows a zombie then; but the process lives. */
START_TEST(first_thread_ended)
{
	char path[64], line[256];
	pid_t pid = fixture_fork(leave_it_to_a_thread, NULL);
	char state = 0;

	step_do(1);
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	while (state != 'Z') {
		FILE *file = fopen(path, "re");

		ck_assert_ptr_nonnull(file);
		ck_assert_ptr_nonnull(fgets(line, sizeof(line), file));
		state = *(strrchr(line, ')') + 2);
		fclose(file);
	}
	expect_kept();
	step_do(2);
	expect_kept();
	fixture_kill(pid);
	expect_dropped();
}
END_TEST

static void *open_and_end(void *userdata)
{
	pyheap *heap = open_and_put(&shared->ref);

	if (*(int *)userdata)
		ck_ok(pyheap_lock(heap));
	return NULL;
}

static void let_a_thread_open(void *userdata)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, open_and_end, userdata), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	step_done(1);
	wait_for_ever();
}

/* A thread that opened a session has ended without closing it; 1: and had the global lock, which is free then. */
START_TEST(thread_ended)
{
	pid_t pid = fixture_fork(let_a_thread_open, &_i);

	step_do(1);
	expect_kept();
	fixture_kill(pid);
	expect_dropped();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("death");
	TCase *t = tcase_create("death");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, closed_its_socket, 0, 2);
	tcase_add_loop_test(t, became_another_program, 0, 4);
	tcase_add_loop_test(t, left_a_child, 0, 2);
	tcase_add_loop_test(t, nobody_waits_for_it, 0, 2);
	tcase_add_test(t, first_thread_ended);
	tcase_add_loop_test(t, thread_ended, 0, 2);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
