// SPDX-License-Identifier: MIT
/*
 * What the daemon does for the heap: drops the holds of the dead, unmaps empty arenas, recovers the lock and names its
 * owner, and goes on where a killed daemon stopped
 *
 * Every test ends with pyheap_check() of the whole heap (fixture_teardown).
 */
#include "fixture.h"

#include <fcntl.h>
#include <pyheap.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#define ARENA ((uint64_t)256 << 10)

static pyheap *heap; /* the test's own session */

/* Helpers. */

static void setup(void)
{
	fixture_setup();
	heap = fixture_open(&fx);
}

static void teardown(void)
{
	heap = pyheap_close(heap);
	fixture_teardown();
}

static uint64_t n_objects_of(const pyheap_stats *stats)
{
	uint64_t n = stats->n_medium_objects + stats->n_large_objects;

	for (int i = 0; i < PYHEAP_CLASSES; i++)
		n += stats->classes[i].n_used;
	return n;
}

static uint64_t n_objects(void)
{
	pyheap_stats stats;

	ck_ok(pyheap_stats(heap, &stats));
	return n_objects_of(&stats);
}

static uint64_t n_sessions(void)
{
	pyheap_stats stats;

	ck_ok(pyheap_stats(heap, &stats));
	return stats.n_sessions;
}

/* A child that does its work, reports that, and waits to be killed. */
struct work {
	int pipe[2];
	void (*run)(pyheap *own, void *userdata);
	void *userdata;
};

static void run_work(void *userdata)
{
	struct work *work = userdata;
	pyheap *own = fixture_open(&fx);

	work->run(own, work->userdata);
	ck_assert_int_eq(write(work->pipe[1], "", 1), 1);
	for (;;)
		pause();
}

static pid_t start_work(void (*run)(pyheap *own, void *userdata), void *userdata)
{
	struct work work = {.run = run, .userdata = userdata};
	char byte;
	pid_t pid;

	ck_ok(pipe2(work.pipe, O_CLOEXEC));
	pid = fixture_fork(run_work, &work);
	close(work.pipe[1]);
	ck_assert_int_eq(read(work.pipe[0], &byte, 1), 1);
	close(work.pipe[0]);
	return pid;
}

/* Make objects of many kinds and hold them; the first of them is also held by a name. */
static void make_objects(pyheap *own, void *userdata)
{
	size_t n = *(const size_t *)userdata;
	pyheap_ref list, ref;

	ck_ok(pyheap_list_new(own, n, &list));
	for (size_t i = 0; i < n; i++) {
		ck_ok(pyheap_new(own, PYHEAP_BYTES, i % 700 + 1, &ref));
		ck_ok(pyheap_list_set(own, list, i, ref));
		if (i % 3)
			ck_ok(pyheap_decref(own, ref));
	}
	ck_ok(pyheap_new(own, PYHEAP_BYTES, 3 * ARENA, &ref)); /* large */
	ck_ok(pyheap_new(own, PYHEAP_BYTES, 20000, &ref));     /* medium */
}

/* The dead. */

START_TEST(drops_what_the_dead_held)
{
	size_t n = 20000;
	pyheap_ref mine, its;
	pid_t pid;

	ck_ok(pyheap_put(heap, "mine", 4, &mine));
	ck_ok(pyheap_name_set(heap, "mine", mine));
	pid = start_work(make_objects, &n);
	ck_assert_uint_eq(n_objects(), n + 4);
	fixture_kill(pid);
	fixture_until(n_objects() == 1);
	fixture_until(n_sessions() == 1);
	ck_assert_int_eq(memcmp(pyheap_data(heap, mine), "mine", 4), 0);
	ck_ok(pyheap_name_get(heap, "mine", &its));
	ck_assert_uint_eq(its, mine);
}
END_TEST

/* Many die at once, and others go on meanwhile. */
START_TEST(drops_what_many_dead_held)
{
	size_t n = 2000;
	pid_t pids[12];
	pyheap_ref ref;

	for (size_t i = 0; i < 12; i++)
		pids[i] = start_work(make_objects, &n);
	ck_assert_uint_eq(n_sessions(), 13);
	for (size_t i = 0; i < 12; i++)
		ck_ok(kill(pids[i], SIGKILL));
	do {
		pyheap *other = fixture_open(&fx);

		ck_ok(pyheap_put(other, "xyz", 3, &ref));
		ck_ok(pyheap_decref(other, ref));
		pyheap_close(other);
	} while (n_objects() > 0);
	for (size_t i = 0; i < 12; i++)
		fixture_wait(pids[i]);
	fixture_until(n_sessions() == 1);
}
END_TEST

/* Memory comes and goes. */

static void fill_and_drop(void)
{
	enum { N = 5000 };
	static pyheap_ref refs[N];
	pyheap_ref large[4];

	for (size_t i = 0; i < N; i++)
		ck_ok(pyheap_new(heap, PYHEAP_BYTES, i % 2000 + 1, &refs[i]));
	for (size_t i = 0; i < 4; i++)
		ck_ok(pyheap_new(heap, PYHEAP_BYTES, (i + 2) * ARENA + 1, &large[i]));
	ck_assert_uint_gt(fixture_heap_bytes(), 40 * ARENA);
	for (size_t i = 0; i < N; i++)
		ck_ok(pyheap_decref(heap, refs[i]));
	for (size_t i = 0; i < 4; i++)
		ck_ok(pyheap_decref(heap, large[i]));
}

START_TEST(returns_empty_arenas)
{
	uint64_t n_spare = (uint64_t)_i;
	char spare[12];
	const char *const args[] = {"--size", "64M", "--spare-arenas", spare, "--decay", _i % 2 ? "0" : "100", NULL};

	snprintf(spare, sizeof(spare), "%d", _i);
	fixture_start(&fx, args);
	heap = fixture_open(&fx);
	for (int round = 0; round < 3; round++) {
		pyheap_stats stats;

		fill_and_drop();
		/* The session's own records may need an arena beside the spare ones. */
		fixture_until(fixture_heap_bytes() <= (n_spare + 1) * ARENA);
		ck_ok(pyheap_stats(heap, &stats));
		ck_assert_uint_le(stats.n_arenas_current, n_spare + 1);
		ck_assert_uint_eq(stats.n_arenas_allocated - stats.n_arenas_reclaimed, stats.n_arenas_current);
	}
	heap = pyheap_close(heap);
	fixture_until(fixture_heap_bytes() == n_spare * ARENA);
	fixture_teardown();
}
END_TEST

static uint64_t n_faults(void)
{
	struct rusage usage;

	ck_ok(getrusage(RUSAGE_SELF, &usage));
	return (uint64_t)usage.ru_minflt;
}

/*
 * Frames of one size, with ticks of the daemon between them: their memory neither goes to the system nor comes from it
 * again, for objects of several arenas as for those of an arena's pools.
 */
START_TEST(frames_fault_once)
{
	static const char *const rows[][2] = {{"--decay", "-1"}, {"--spare-arenas", "100"}, {"--decay", "3600000"}};
	const char *const args[] = {"--size", "64M", rows[_i % 3][0], rows[_i % 3][1], NULL};
	const uint64_t size = _i < 3 ? 24 * ARENA : ARENA / 2;
	const struct timespec pause = {.tv_nsec = 300000000}; /* more than a tick */
	uint64_t n_before = 0;
	pyheap_stats stats;

	fixture_start(&fx, args);
	heap = fixture_open(&fx);
	for (int i = 0; i < 3; i++) {
		pyheap_ref ref;

		n_before = i == 1 ? n_faults() : n_before;
		ck_ok(pyheap_new(heap, PYHEAP_BYTES, size, &ref));
		memset(pyheap_data(heap, ref), i, size);
		ck_ok(pyheap_decref(heap, ref));
		nanosleep(&pause, NULL);
	}
	ck_assert_uint_lt(n_faults() - n_before, size / 4096);
	ck_ok(pyheap_stats(heap, &stats));
	ck_assert_uint_eq(stats.n_arenas_reclaimed, 0);
	heap = pyheap_close(heap);
	fixture_teardown();
}
END_TEST

/* What stays mapped for the next object goes where another client needs its memory. */
START_TEST(spare_arenas_are_no_reserve)
{
	static const char *const rows[][2] = {{"--spare-arenas", "16"}, {"--decay", "-1"}};
	const char *const args[] = {"--size", "4M", rows[_i][0], rows[_i][1], NULL};
	pyheap_ref refs[64], large;
	size_t n = 0;

	fixture_start(&fx, args);
	heap = fixture_open(&fx);
	while (n < 64 && pyheap_new(heap, PYHEAP_BYTES, ARENA / 2 + 1, &refs[n]) == 0)
		n++;
	ck_assert_uint_ge(n, 10);
	for (size_t i = 0; i < n; i++)
		ck_ok(pyheap_decref(heap, refs[i]));
	ck_ok(pyheap_new(heap, PYHEAP_BYTES, 12 * ARENA, &large));
	ck_ok(pyheap_decref(heap, large));
	heap = pyheap_close(heap);
	fixture_teardown();
}
END_TEST

/* The lock. */

static void take_lock(pyheap *own, void *userdata)
{
	(void)userdata;
	ck_ok(pyheap_lock(own));
}

START_TEST(names_who_keeps_the_lock)
{
	pid_t pid = start_work(take_lock, NULL);
	char who[64];
	pyheap *other;

	snprintf(who, sizeof(who), "(pid %d, ", (int)pid);
	fixture_until(fixture_log_count("has held the global lock"));
	ck_assert(fixture_log_count(who));
	ck_assert(!fixture_log_count("is free again"));
	/* The daemon does not wait for the lock: it admits sessions and sees the dead while a session has it. */
	other = fixture_open(&fx);
	ck_assert_int_ge(pyheap_fd(other), 0);
	fixture_kill(pid);
	pyheap_close(other);
	fixture_until(fixture_log_count("is free again"));
}
END_TEST

/* No session takes the lock: the daemon itself recovers it from the dead owner. */
START_TEST(takes_the_lock_of_the_dead_back)
{
	pyheap_stats stats;

	ck_ok(pyheap_stats(heap, &stats));
	ck_assert_uint_eq(stats.n_lock_recoveries, 0);
	fixture_kill(start_work(take_lock, NULL));
	fixture_until(n_sessions() == 1);
	ck_ok(pyheap_stats(heap, &stats));
	ck_assert_uint_eq(stats.n_lock_recoveries, 1);
}
END_TEST

START_TEST(ends_while_the_lock_is_held)
{
	pid_t pid = start_work(take_lock, NULL);

	ck_assert_int_eq(fixture_stop(&fx, SIGTERM), 0);
	fixture_kill(pid);
}
END_TEST

/* The lock's owner is a session that this daemon adopted. It is named, and not killed: it has not come back. */
START_TEST(adopts_while_the_lock_is_held)
{
	static const char *const args[] = {"--size", "64M", "--lock-timeout", "1", NULL};
	pid_t pid;

	fixture_start(&fx, args);
	pid = start_work(take_lock, NULL);
	fixture_stop(&fx, SIGKILL);
	fixture_start_again(&fx); /* opens and closes a session, which waits for the lock */
	fixture_until(fixture_log_count("cannot be evicted: it has not come back since pyheapd was restarted"));
	ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
	fixture_kill(pid); /* whose end is seen all the same */
	fixture_until(fixture_log_count("is free again"));
	fixture_teardown();
}
END_TEST

/* The daemon is killed. */

START_TEST(adopts_what_is_held)
{
	size_t n = 3000;
	pid_t dies = start_work(make_objects, &n), stays = start_work(make_objects, &n);
	pyheap_ref mine, again;

	ck_ok(pyheap_put(heap, "mine", 4, &mine));
	ck_ok(pyheap_name_set(heap, "mine", mine));
	fixture_stop(&fx, SIGKILL);
	fixture_kill(dies);
	ck_ok(pyheap_put(heap, "more", 4, &again)); /* there is room in what it has */
	ck_assert_uint_eq(n_objects(), 2 * (n + 3) + 2);
	fixture_start_again(&fx);
	fixture_until(n_objects() == n + 3 + 2);
	fixture_kill(stays);
	fixture_until(n_objects() == 2);
	ck_assert_int_eq(memcmp(pyheap_data(heap, mine), "mine", 4), 0);
	ck_ok(pyheap_decref(heap, again));
}
END_TEST

/* It is killed while it reclaims the dead, again and again; it gets there in the end. */
START_TEST(adopts_what_was_being_reclaimed)
{
	size_t n = 20000;

	for (int round = 0; round < 8; round++) {
		pid_t pid = start_work(make_objects, &n);

		for (int i = 0; i < 3; i++) {
			if (i == 0)
				fixture_kill(pid);
			usleep((useconds_t)(rand() % 3000)); /* a random moment */
			fixture_stop(&fx, SIGKILL);
			fixture_start_again(&fx);
		}
		fixture_until(n_objects() == 0);
		fixture_until(n_sessions() == 1);
		ck_assert_int_eq(pyheap_check(heap, NULL, NULL), 0);
	}
	fixture_until(fixture_heap_bytes() <= 2 * ARENA);
}
END_TEST

/* A client that makes objects and closes, again and again, also while there is no daemon. */
static void grow_and_shrink(void *userdata)
{
	(void)userdata;
	for (;;) {
		pyheap *session;

		if (pyheap_open(&session, fx.socket) < 0)
			continue;
		for (size_t i = 0; i < 200; i++) {
			pyheap_ref ref;

			if (pyheap_new(session, PYHEAP_BYTES, i * 4096, &ref) < 0)
				break;
		}
		pyheap_close(session);
	}
}

/* It is killed while it maps and returns arenas. */
START_TEST(adopts_what_was_being_mapped)
{
	pid_t pid = fixture_fork(grow_and_shrink, NULL);

	for (int i = 0; i < 20; i++) {
		usleep((useconds_t)(rand() % 20000));
		fixture_stop(&fx, SIGKILL);
		fixture_start_again(&fx);
	}
	fixture_kill(pid);
	fixture_until(n_sessions() == 1);
	ck_assert_uint_eq(n_objects(), 0);
	fixture_until(fixture_heap_bytes() <= 2 * ARENA);
}
END_TEST

/* ---- a full heap ------------------------------------------------------------------------------------------------ */

/* A session need not ask a daemon that has said so: it is stopped here. Where there is room again it is asked. */
START_TEST(full_without_asking)
{
	static const char *const args[] = {"--size", "8M", NULL};
	pyheap_ref refs[31], ref;
	pyheap *first, *second;
	int n = 0;

	fixture_start(&fx, args);
	first = fixture_open(&fx);
	second = fixture_open(&fx);
	while (n < 31 && pyheap_new(first, PYHEAP_BYTES, ARENA, &refs[n]) == 0)
		n++;
	ck_assert_int_ge(n, 28);
	ck_err(pyheap_new(first, PYHEAP_BYTES, 2 * ARENA, &ref), ENOMEM);
	while (pyheap_new(first, PYHEAP_BYTES, ARENA, &ref) == 0)
		;
	fixture_until(fixture_log_count("is refused") == 1 && fixture_log_count("most of the full heap") == 1);
	ck_ok(kill(fx.pid, SIGSTOP));
	for (int i = 0; i < 1000; i++) {
		ck_err(pyheap_new(first, PYHEAP_BYTES, ARENA, &ref), ENOMEM);
		ck_err(pyheap_new(second, PYHEAP_BYTES, 2 * ARENA, &ref), ENOMEM);
	}
	ck_ok(pyheap_decref(first, refs[0]));
	ck_ok(pyheap_new(second, PYHEAP_BYTES, ARENA, &ref)); /* from the heap's lists */
	ck_ok(pyheap_decref(first, refs[2]));
	ck_ok(pyheap_decref(first, refs[3]));
	ck_ok(kill(fx.pid, SIGCONT));
	fixture_until(pyheap_new(second, PYHEAP_BYTES, 2 * ARENA, &ref) == 0);
	ck_assert_int_eq(fixture_log_count("is refused"), 1);
	pyheap_close(first);
	pyheap_close(second);
	ck_assert_int_eq(fixture_stop(&fx, SIGTERM), 0);
}
END_TEST

/* ---- memory in holes -------------------------------------------------------------------------------------------- */

#ifndef HAS_SANITIZER
static void lock_memory(void *userdata)
{
	pyheap *session = fixture_open(&fx);
	pyheap_ref ref;

	(void)userdata;
	if (mlockall(MCL_CURRENT) < 0)
		_exit(77);
	ck_ok(pyheap_put(session, "locked", 7, &ref));
	ck_ok(pyheap_name_set(session, "locked", ref));
	for (;;)
		pause();
}

/* A client locks its memory after it has opened its session: what the kernel makes of the holes goes back. */
START_TEST(gives_back_what_is_locked)
{
	pid_t pid = fixture_fork(lock_memory, NULL);
	pyheap_ref ref;
	int status = 0;

	fixture_until(pyheap_name_get(heap, "locked", &ref) == 0 || waitpid(pid, &status, WNOHANG) == pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		printf("skipped: this user may not lock as much memory (RLIMIT_MEMLOCK)\n");
		return;
	}
	fixture_until(fixture_heap_bytes() <= 3 * ARENA);
	fixture_until(fixture_log_count("touched outside all arenas") > 0);
	fixture_kill(pid);
	fixture_until(n_sessions() == 1);
	ck_assert_int_le((int)(fixture_heap_bytes() / ARENA), 3);
}
END_TEST
#endif

/* A stray access of a client, with and without a daemon. */
START_TEST(gives_back_what_was_touched)
{
	pyheap_ref ref;
	char *p;

	ck_ok(pyheap_put(heap, "here", 5, &ref));
	p = pyheap_data(heap, ref);
	for (size_t i = 20; i < 200; i += 3)
		p[i * ARENA] = 1;
	fixture_until(fixture_heap_bytes() <= 3 * ARENA);
	fixture_stop(&fx, SIGKILL);
	for (size_t i = 20; i < 200; i += 3)
		p[i * ARENA] = 1;
	ck_assert_int_gt((int)(fixture_heap_bytes() / 4096), 60);
	fixture_start_again(&fx);
	fixture_until(fixture_heap_bytes() <= 3 * ARENA);
	ck_assert_str_eq(p, "here");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("daemon heap");
	TCase *each = tcase_create("each with a daemon"), *own = tcase_create("each with its own kind of daemon");

	tcase_add_checked_fixture(each, setup, teardown);
	tcase_add_test(each, drops_what_the_dead_held);
	tcase_add_test(each, drops_what_many_dead_held);
	tcase_add_test(each, names_who_keeps_the_lock);
	tcase_add_test(each, takes_the_lock_of_the_dead_back);
	tcase_add_test(each, ends_while_the_lock_is_held);
	tcase_add_test(each, adopts_what_is_held);
	tcase_add_test(each, adopts_what_was_being_reclaimed);
	tcase_add_test(each, adopts_what_was_being_mapped);
#ifndef HAS_SANITIZER
	tcase_add_test(each, gives_back_what_is_locked);
#endif
	tcase_add_test(each, gives_back_what_was_touched);
	tcase_add_loop_test(own, returns_empty_arenas, 0, 3);
	tcase_add_loop_test(own, frames_fault_once, 0, 4);
	tcase_add_loop_test(own, spare_arenas_are_no_reserve, 0, 2);
	tcase_add_test(own, adopts_while_the_lock_is_held);
	tcase_add_test(own, full_without_asking);
	suite_add_tcase(suite, each);
	suite_add_tcase(suite, own);
	return fixture_main(suite);
}
