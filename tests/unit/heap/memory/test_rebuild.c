// SPDX-License-Identifier: MIT
/*
 * A rebuild that was begun and not finished: by a process that was killed, or where critical sections cannot be blocked
 */
#include "tests/unit/heap/fixture_critical.h"

#include <dlfcn.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What a process that is killed early in a rebuild leaves, but for the lock. */
static void rebuild_begin(void)
{
	ck_assert_int_eq(critical_block_all(fx.heap), 0);
	fx.heap->control->rebuilding = 1;
	memset(fx.heap->control->spaces, 0, sizeof(fx.heap->control->spaces));
	memset(S0->entry->usedpools1, 0, sizeof(S0->entry->usedpools1));
}

static void die_rebuilding(void)
{
	int status;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (!pid) {
		lock(S2);
		rebuild_begin();
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	ck_assert_uint_eq(control()->rebuilding, 1);
}

static void expect_rebuilt(void)
{
	ck_assert_uint_eq(control()->rebuilding, 0);
	ck_assert_uint_eq(requests_of(S0) | requests_of(S1), 0);
	ck_assert_uint_ne(S0->entry->usedpools1[class_of_size(8)], 0);
	ck_assert(comes_in(S0));
	fixture_check();
}

/* Every taker of the lock looks for a rebuild to finish, not only one that finds the owner dead. */
START_TEST(rebuild_is_finished_by_the_next)
{
	uint64_t n_recoveries = control()->lock.n_recoveries;
	int r;

	fixture_bytes(S0, 8);
	lock(S2);
	rebuild_begin();
	unlock(S2);
	if (_i == 0)
		S1->process = 1; /* quickly */
	if (_i < 2) {
		ck_assert_int_eq(change_begin(S1), 0);
		ck_assert_uint_eq(control()->lock.owner1, S1->owner1);
		r = change_end(S1, 0);
	} else {
		r = _i == 2 ? lock_recover(&fx.daemon) : session_serve_requests(S0);
	}
	ck_assert_int_eq(r, 0);
	ck_assert_uint_eq(control()->lock.n_recoveries, n_recoveries);
	expect_rebuilt();
}
END_TEST

/*
 * A process that cannot block critical sections leaves the rebuild to one that can: its call returns -EOPNOTSUPP, and
 * sessions stay blocked.
 */
START_TEST(rebuild_is_left_to_one_who_can)
{
	uint64_t theirs = fixture_bytes(S0, 8), ref;

	MUST(S2, object_incref(S2, theirs)); /* so that no more than the lock is needed */
	ck_assert_int_eq(session_serve_requests(S0), 0);
	die_rebuilding();
	fence(0);
	no_membarrier = true;
	ck_assert_int_eq(change_try_begin(S1), -EBUSY);
	ck_assert_int_eq(lock_recover(&fx.daemon), -EBUSY);
	ck_assert_int_eq(object_incref(S1, theirs), -EOPNOTSUPP);
	ck_assert_int_eq(object_new(S0, TYPE_BYTES, 8, &ref), -EOPNOTSUPP);
	ck_assert_int_eq(session_lock(S1), -EOPNOTSUPP);
	ck_assert_uint_eq(control()->rebuilding, 1);
	ck_assert_uint_eq(requests_of(S0), REQUEST_BLOCK);
	ck_assert(!comes_in(S0));
	ck_assert_uint_eq(S0->entry->usedpools1[0], 0);
	ck_assert_uint_eq(control()->lock.word, 0);
	ck_assert_int_eq(hold_find(S1, theirs) != NULL, 0);
	no_membarrier = false;
	if (_i)
		ck_assert_int_eq(lock_recover(&fx.daemon), 0);
	MUST(S1, object_incref(S1, theirs));
	expect_rebuilt();
}
END_TEST

/* A call that waits for a process that can rebuild goes on when that has done it. */
START_TEST(rebuild_is_awaited)
{
	uint64_t theirs = fixture_bytes(S0, 8);
	pid_t pid;

	MUST(S2, object_incref(S2, theirs));
	ck_assert_int_eq(session_serve_requests(S0), 0);
	die_rebuilding();
	fence(0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		usleep(20000);
		_exit(lock_recover(&fx.daemon) != 0);
	}
	no_membarrier = true;
	ck_assert_int_eq(object_incref(S1, theirs), 0);
	no_membarrier = false;
	fixture_finish(pid);
	expect_rebuilt();
}
END_TEST

/*
 * A session was blocked when the rebuild was begun. It is stopped on its way into a critical section, before it looks
 * for requests, while the rebuild is done again, so its own lists stay half made. It rebuilds them before it works with
 * them.
 */
START_TEST(rebuild_without_one_on_its_way_in)
{
	uint64_t refs[12], freed = fixture_bytes(S0, 3 * POOL_SIZE), ref;
	struct pool_entry *pool;

	for (int i = 0; i < 12; i++)
		refs[i] = fixture_bytes(S0, 512); /* a full pool and part of another */
	fixture_drop(S0, freed);
	fixture_drop(S0, refs[8]);
	fixture_bytes(S0, 8);
	MUST(S1, object_incref(S1, refs[9]));
	ck_assert_int_eq(session_serve_requests(S0), 0);
	pool = ref_pool(refs[8]);
	lock(S2);
	rebuild_begin();
	memset(S0->entry->spare_runs1, 0, sizeof(S0->entry->spare_runs1));
	pool->n_used = 1;
	pool->freeblock1 = 0;
	unlock(S2);
	S0->entry->activity = ACTIVITY_ACTIVE;
	ck_assert_int_eq(lock_recover(&fx.daemon), 0);
	ck_assert_uint_eq(control()->rebuilding, 0);
	ck_assert_uint_eq(requests_of(S0), REQUEST_REBUILD);
	ck_assert_uint_eq(requests_of(S1), 0);
	if (_i == 0) { /* it goes on and sees the request */
		ck_assert(critical_is_active(fx.heap, 0));
		S0->entry->activity = ACTIVITY_DONE;
		ck_assert(!comes_in(S0));
	}
	/* Until it has done so no other session checks its own lists or takes anything of it. */
	ck_assert(critical_is_active(fx.heap, 0));
	fixture_check();
	ck_assert_int_eq(own_trim(&fx.daemon, 0), 0);
	ck_assert_uint_eq(S0->entry->usedpools1[class_of_size(512)], 0);
	if (_i == 1) { /* it is killed there */
		session_mark_dead(fx.heap, 0);
		while (session_reclaim_step(S0) == 1)
			;
		ck_assert_uint_eq(S0->entry->state, SESSION_FREE);
		ck_assert_int_eq(object_refcount(S1, refs[9]), 1);
		ck_assert_int_eq(heap_check(S1, NULL, NULL), 0);
		return;
	}
	ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_BYTES, 512, &ref)), 0);
	ck_assert_uint_eq(requests_of(S0), 0);
	expect_rebuilt();
	ck_assert_uint_eq(ref_position(ref), ref_position(refs[8]));
	ck_assert_uint_eq(S0->entry->spare_runs1[2], ref_pool_index(freed) + 1);
	ck_assert_uint_eq(S0->entry->n_own_holds, 13);
	fixture_drop(S0, ref);
	for (int i = 0; i < 12; i++)
		if (i != 8)
			fixture_drop(S0, refs[i]);
	fixture_drop(S1, refs[9]);
}
END_TEST

/*
 * All living sessions are fenced. The dead one, which was not, does not keep the rebuild that it began from being
 * finished.
 */
START_TEST(rebuild_after_the_only_one_who_could)
{
	fixture_bytes(S0, 8);
	die_rebuilding();
	fence(FIXTURE_SESSIONS);
	S2->entry->is_fenced = 0;
	no_membarrier = true;
	ck_assert_int_eq(lock_recover(&fx.daemon), -EBUSY);
	session_mark_dead(fx.heap, S2->index);
	ck_assert_int_eq(lock_recover(&fx.daemon), 0);
	expect_rebuilt();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("rebuild");
	TCase *t = tcase_create("rebuild");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, rebuild_is_finished_by_the_next, 0, 4);
	tcase_add_loop_test(t, rebuild_is_left_to_one_who_can, 0, 2);
	tcase_add_test(t, rebuild_is_awaited);
	tcase_add_test(t, rebuild_after_the_only_one_who_could);
	tcase_add_loop_test(t, rebuild_without_one_on_its_way_in, 0, 2);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
