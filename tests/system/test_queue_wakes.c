// SPDX-License-Identifier: MIT
/*
 * Many consumers sleep at one queue: each push wakes one of them, and not all
 *
 * What counts is how often a consumer gives up the processor by itself. A look at the queue once a second is allowed. A
 * process with signal handlers looks more often, so the consumers have none.
 */
#include "fixture.h"

#include <stdio.h>
#include <time.h>

#define N_CONSUMERS 60
#define N_OBJECTS   300

static pyheap_ref queue;

static void consume(void *userdata)
{
	pyheap *heap = fixture_open(&fx);
	pyheap_ref ref;

	(void)userdata;
	for (int i = 1; i <= SIGRTMAX; i++)
		signal(i, SIG_DFL);
	ck_ok(pyheap_incref(heap, queue));
	for (;;) {
		ck_ok(pyheap_queue_pop(heap, queue, &ref, -1));
		ck_ok(pyheap_decref(heap, ref));
	}
}

/* A figure of /proc/PID/status. */
static long figure(pid_t pid, const char *name)
{
	char path[48], line[256];
	long n = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	while (n < 0 && fgets(line, sizeof(line), file))
		if (strncmp(line, name, strlen(name)) == 0)
			n = atol(line + strlen(name));
	fclose(file);
	ck_assert_int_ge(n, 0);
	return n;
}

static long n_sleeps(const pid_t *pids)
{
	long n = 0;

	for (int i = 0; i < N_CONSUMERS; i++)
		n += figure(pids[i], "voluntary_ctxt_switches:");
	return n;
}

static long now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

START_TEST(test_one_wake_per_push)
{
	pyheap *heap = fixture_open(&fx);
	pid_t pids[N_CONSUMERS];
	long before, begin, n_allowed;

	ck_ok(pyheap_queue_new(heap, 16, &queue));
	for (int i = 0; i < N_CONSUMERS; i++)
		pids[i] = fixture_fork(consume, NULL);
	fixture_until(pyheap_refcount(heap, queue) == 1 + 2 * N_CONSUMERS); /* a call that waits holds it, too */
	usleep(100000); /* mostly enough for all of them to sleep; the others sleep once more than is counted for */
	before = n_sleeps(pids);
	begin = now_s();
	for (int i = 0; i < N_OBJECTS; i++) {
		pyheap_ref ref;

		ck_ok(pyheap_put(heap, "work", 5, &ref));
		ck_ok(pyheap_queue_push(heap, queue, ref, -1));
		fixture_until(pyheap_refcount(heap, ref) == -ESTALE);
	}
	n_allowed = 2 * N_OBJECTS + N_CONSUMERS * (2 + now_s() - begin);
	ck_assert_int_le(n_sleeps(pids) - before, n_allowed);
	for (int i = 0; i < N_CONSUMERS; i++)
		fixture_kill(pids[i]);
	pyheap_close(heap);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("queue wakes");
	TCase *tcase = tcase_create("wakes");

	tcase_add_checked_fixture(tcase, fixture_setup, fixture_teardown);
	tcase_add_test(tcase, test_one_wake_per_push);
	suite_add_tcase(suite, tcase);
	return fixture_main(suite);
}
