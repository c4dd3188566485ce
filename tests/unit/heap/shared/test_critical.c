// SPDX-License-Identifier: MIT
/* Critical sections: which sessions are active or blocked, requests, and where there is no membarrier(2) */
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

/* Entering and leaving. */

START_TEST(activity_is_recorded)
{
	ck_assert_uint_eq(S0->entry->activity, ACTIVITY_NONE);
	ck_assert(!critical_is_active(fx.heap, 0));
	ck_assert(critical_enter(S0));
	ck_assert_uint_eq(S0->entry->activity, ACTIVITY_ACTIVE);
	ck_assert(critical_is_active(fx.heap, 0));
	ck_assert(!critical_is_active(fx.heap, 1));
	critical_leave(S0, 0);
	ck_assert_uint_eq(S0->entry->activity, ACTIVITY_DONE);
	ck_assert(!critical_is_active(fx.heap, 0));
}
END_TEST

/* critical_poll_idle() reports each call once; a call that is under way is not idle. */
START_TEST(poll_sees_each_call_once)
{
	uint64_t ref;

	ck_assert(critical_poll_idle(S0->entry));
	ref = fixture_bytes(S0, 8);
	ck_assert(!critical_poll_idle(S0->entry));
	ck_assert(critical_poll_idle(S0->entry));
	ck_assert_int_eq(object_decref(S0, ref), 0);
	ck_assert(!critical_poll_idle(S0->entry));
	ck_assert(critical_poll_idle(S0->entry));
	ck_assert(critical_enter(S0));
	ck_assert(!critical_poll_idle(S0->entry));
	ck_assert(!critical_poll_idle(S0->entry));
	ck_assert(critical_is_active(fx.heap, 0));
	critical_leave(S0, 0);
	ck_assert(!critical_poll_idle(S0->entry));
	ck_assert(critical_poll_idle(S0->entry));
}
END_TEST

/* A view of an entry whose session died in a critical section begins outside of it. */
START_TEST(view_of_a_session_that_died_active)
{
	struct session view;

	fixture_bytes(S0, 8);
	ck_assert(critical_enter(S0));
	session_init(&view, fx.heap, 0);
	session_mark_dead(fx.heap, 0);
	while (session_reclaim_step(&view) == 1)
		;
	ck_assert_uint_eq(view.entry->state, SESSION_FREE);
	ck_assert_int_eq(fixture_admit(fx.heap, &view), 0);
	ck_assert_uint_eq(view.index, 0);
	ck_assert(comes_in(&view));
	fixture_check();
}
END_TEST

START_TEST(free_and_dead_sessions_count_as_active)
{
	ck_assert(critical_is_active(fx.heap, FIXTURE_SESSIONS)); /* FREE: its lists are not checked */
	ck_assert(!critical_is_active(fx.heap, 2));
	session_mark_dead(fx.heap, 2);
	ck_assert(critical_is_active(fx.heap, 2));
}
END_TEST

/* One session is blocked. */

START_TEST(blocked_and_unblocked)
{
	lock(S1);
	ck_assert(critical_block(fx.heap, 0));
	ck_assert_uint_eq(requests_of(S0), REQUEST_BLOCK);
	ck_assert(!comes_in(S0));
	ck_assert(comes_in(S1));
	ck_assert(comes_in(S2));
	critical_unblock(fx.heap, 0);
	ck_assert_uint_eq(requests_of(S0), 0);
	ck_assert(comes_in(S0));
	unlock(S1);
}
END_TEST

START_TEST(not_blocked_while_active)
{
	lock(S1);
	ck_assert(critical_enter(S0));
	ck_assert(!critical_block(fx.heap, 0));
	ck_assert_uint_eq(requests_of(S0), 0); /* nor is its next call blocked */
	critical_leave(S0, 0);
	ck_assert(comes_in(S0));
	ck_assert(critical_block(fx.heap, 0));
	critical_unblock(fx.heap, 0);
	unlock(S1);
}
END_TEST

/* Unblocking leaves other requests alone. */
START_TEST(unblocking_keeps_other_requests)
{
	critical_request(fx.heap, 0, REQUEST_STRANGER);
	lock(S1);
	ck_assert(critical_block(fx.heap, 0));
	critical_request(fx.heap, 0, REQUEST_COLLECT);
	ck_assert_uint_eq(requests_of(S0), REQUEST_BLOCK | REQUEST_STRANGER | REQUEST_COLLECT);
	critical_unblock(fx.heap, 0);
	ck_assert_uint_eq(requests_of(S0), REQUEST_STRANGER | REQUEST_COLLECT);
	unlock(S1);
	ck_assert(!comes_in(S0));
	ck_assert_int_eq(session_serve_requests(S0), 0);
	ck_assert_uint_eq(requests_of(S0), 0);
	ck_assert(comes_in(S0));
}
END_TEST

static const uint32_t bits[] = {REQUEST_BLOCK, REQUEST_STRANGER, REQUEST_COLLECT, REQUEST_REBUILD};

/* A call serves each request first, and clears it: also a request to block that a dead process left. */
START_TEST(served_by_the_next_call)
{
	uint64_t ref = fixture_bytes(S0, 8), n;

	ck_assert_int_eq(object_incref(S0, ref), 0); /* used lately */
	ck_assert_int_eq(object_decref(S0, ref), 0);
	critical_request(fx.heap, 0, bits[_i]);
	ck_assert_uint_eq(requests_of(S0), bits[_i]);
	ck_assert(comes_in(S1));
	n = fx.heap->control->lock.n_acquisitions;
	ck_assert_int_eq(object_incref(S0, ref), 0); /* hold counts are not checked against it */
	ck_assert_uint_eq(fx.heap->control->lock.n_acquisitions, n);
	ck_assert_uint_eq(requests_of(S0), bits[_i]);
	ck_assert_int_eq(object_decref(S0, ref), 0);
	ck_assert_uint_eq(requests_of(S0), bits[_i]);
	ck_assert_int_eq(object_decref(S0, ref), 0);
	ck_assert_uint_eq(requests_of(S0), 0);
	critical_request(fx.heap, 0, bits[_i]);
	fixture_bytes(S0, 8);
	ck_assert_uint_eq(requests_of(S0), 0);
	ck_assert_uint_eq(S0->entry->activity, ACTIVITY_DONE);
}
END_TEST

/* critical_stay(): the session gives up its own lists; it is active for the rest of its life. */
START_TEST(stays_active)
{
	fixture_bytes(S0, 8);
	critical_stay(S0);
	ck_assert_uint_eq(S0->entry->activity, ACTIVITY_ACTIVE);
	critical_stay(S0);
	ck_assert_uint_eq(S0->entry->activity, ACTIVITY_ACTIVE);
	lock(S1);
	ck_assert(!critical_block(fx.heap, 0));
	unlock(S1);
	fixture_check(); /* which does not check its lists, and does not wait for it */
	while (session_drop_step(S0, false) == 1)
		ck_assert_uint_eq(S0->entry->activity, ACTIVITY_ACTIVE);
	ck_assert(critical_is_active(fx.heap, 0));
}
END_TEST

/* All sessions are blocked. */

START_TEST(all_blocked_and_unblocked)
{
	lock(S1);
	ck_assert_int_eq(critical_block_all(fx.heap), 0);
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++) {
		ck_assert(!comes_in(&fx.sessions[i]));
		ck_assert_uint_eq(requests_of(&fx.sessions[i]), REQUEST_BLOCK);
	}
	critical_unblock_all(fx.heap);
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++)
		ck_assert(comes_in(&fx.sessions[i]));
	unlock(S1);
}
END_TEST

/* Blocked by a process that died: the next taker of the lock unblocks all. */
START_TEST(all_blocked_by_a_dead_process)
{
	uint64_t ref = fixture_bytes(S0, 8), n;

	lock(S1);
	ck_assert_int_eq(critical_block_all(fx.heap), 0);
	unlock(S1);
	n = fx.heap->control->lock.n_acquisitions;
	ck_assert_int_eq(object_decref(S0, ref), 0);
	ck_assert_uint_gt(fx.heap->control->lock.n_acquisitions, n);
	ck_assert_uint_eq(requests_of(S0), 0);
	ck_assert(comes_in(S0));
	/* each for itself */
	ck_assert_uint_eq(requests_of(S2), REQUEST_BLOCK);
	ck_assert(!comes_in(S2));
	ck_assert_int_eq(session_serve_requests(S2), 0);
	ck_assert(comes_in(S2));
}
END_TEST

/* A session that is admitted while all are blocked is blocked, too. */
START_TEST(admitted_while_all_are_blocked)
{
	struct session s;

	lock(S1);
	ck_assert_int_eq(critical_block_all(fx.heap), 0);
	ck_assert_int_eq(fixture_admit(fx.heap, &s), 0);
	ck_assert(!comes_in(&s));
	critical_unblock_all(fx.heap);
	ck_assert(comes_in(&s));
	unlock(S1);
}
END_TEST

/* The heap has ended: no session enters a critical section any more, whatever requests it serves. */
START_TEST(blocked_by_the_end_of_the_heap)
{
	uint64_t ref = fixture_bytes(S0, 8), got;

	critical_end(fx.heap);
	for (int i = 0; i < 2; i++) {
		ck_assert(!comes_in(S0));
		ck_assert_int_eq(session_serve_requests(S0), -EPIPE);
		ck_assert_uint_eq(requests_of(S0), REQUEST_ENDED);
	}
	ck_assert_int_eq(object_new(S0, TYPE_BYTES, 8, &got), -EPIPE);
	ck_assert_int_eq(object_decref(S0, ref), -EPIPE);
	ck_assert_uint_eq(ref_own(ref), 1);
	fx.heap->control->ended = 0;
	fixture_drop(S0, ref); /* the request alone, as of a stray write, does not stay */
	ck_assert_uint_eq(requests_of(S0), 0);
}
END_TEST

/* A session that is stopped in a critical section is not waited for. */
START_TEST(all_blocked_but_an_active_one)
{
	ck_assert(critical_enter(S0));
	lock(S1);
	ck_assert_int_eq(critical_block_all(fx.heap), 0);
	ck_assert(critical_is_active(fx.heap, 0));
	critical_unblock_all(fx.heap);
	unlock(S1);
	critical_leave(S0, 0);
	fixture_check();
}
END_TEST

/* Two processes. */

/*
 * A call that needs no lock waits for it while its session is blocked, and goes on afterwards. _i: bit 0 all are
 * blocked, bit 1 the call is a drop.
 */
START_TEST(waits_while_blocked)
{
	bool is_all = _i & 1, is_drop = _i & 2;
	uint64_t ref = fixture_bytes(S0, 8), keep = fixture_bytes(S0, 8);
	pid_t pid;

	lock(S1);
	if (is_all)
		ck_assert_int_eq(critical_block_all(fx.heap), 0);
	else
		ck_assert(critical_block(fx.heap, 0));
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid)
		_exit(is_drop ? object_decref(S0, ref) != 0 : object_new(S0, TYPE_BYTES, 8, &ref) != 0);
	while (!fixture_lock_is_awaited()) {
		ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0); /* it does not go on */
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	ck_assert(!critical_is_active(fx.heap, 0));
	ck_assert_uint_eq(S0->entry->n_own_holds, 2);
	ck_assert_uint_eq(ref_pool(ref)->n_used, 2);
	if (is_all)
		critical_unblock_all(fx.heap);
	else
		critical_unblock(fx.heap, 0);
	unlock(S1);
	fixture_finish(pid);
	ck_assert_uint_eq(S0->entry->n_own_holds, is_drop ? 1 : 3);
	fixture_drop(S0, keep);
}
END_TEST

static int make_and_drop(const uint8_t *is_enough)
{
	uint64_t ref;

	while (!__atomic_load_n(is_enough, __ATOMIC_RELAXED)) {

		if (object_new(S0, TYPE_BYTES, 40, &ref) || object_decref(S0, ref))
			return 1;
	}
	return 0;
}

/* While one session makes and drops as fast as it can, others check the whole heap and trim it. */
START_TEST(blocked_again_and_again)
{
	uint8_t *is_enough;
	pid_t pid;
	int r;

	fixture_drop(S0, fixture_bytes(S0, 40));
	is_enough = ref_data(fixture_bytes(S2, 8));
	*is_enough = 0;
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(make_and_drop(is_enough));
	}
	for (uint64_t i = 0; i < fixture_ops(500); i++) {
		ck_assert_int_eq(heap_check(S1, NULL, NULL), 0);
		r = own_trim(&fx.daemon, 0);
		ck_assert(r >= 0 || r == -EBUSY);
	}
	__atomic_store_n(is_enough, 1, __ATOMIC_RELAXED);
	fixture_finish(pid);
	fixture_check();
	fixture_trim_sessions();
	ck_assert_uint_eq(S0->entry->owned_pools1, 0);
}
END_TEST

/* No barrier. */

/* Without membarrier() it is enough that every living session executes its own barriers. */
START_TEST(barrier_of_the_fenced)
{
	fence(0);
	ck_assert_int_eq(critical_barrier(fx.heap), 0);
	no_membarrier = true;
	ck_assert_int_eq(critical_barrier(fx.heap), -EOPNOTSUPP);
	fence(FIXTURE_SESSIONS - 1);
	ck_assert_int_eq(critical_barrier(fx.heap), -EOPNOTSUPP);
	session_mark_dead(fx.heap, FIXTURE_SESSIONS - 1); /* it makes no call any more */
	ck_assert_int_eq(critical_barrier(fx.heap), 0);
	fence(FIXTURE_SESSIONS);
	ck_assert_int_eq(critical_barrier(fx.heap), 0);
	no_membarrier = false;
	fence(0);
	ck_assert_int_eq(critical_barrier(fx.heap), 0);
}
END_TEST

/* A process that cannot have a barrier blocks no session, and its call fails. */
START_TEST(no_barrier_blocks_nobody)
{
	uint64_t ref = fixture_bytes(S0, 8), keep = fixture_bytes(S0, 8);
	uint64_t list = fixture_list(S1, 1);

	fence(0);
	no_membarrier = true;
	lock(S1);
	ck_assert(!critical_block(fx.heap, 0));
	ck_assert_uint_eq(requests_of(S0), 0);
	ck_assert_int_eq(critical_block_all(fx.heap), -EOPNOTSUPP);
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++)
		ck_assert_uint_eq(requests_of(&fx.sessions[i]), 0);
	unlock(S1);
	ck_assert(comes_in(S0));
	ck_assert_int_eq(own_trim(&fx.daemon, 0), 0);
	ck_assert_int_lt(heap_check(S1, NULL, NULL), 0);
	/* Nor can a stranger hold an object that it was not given. */
	ck_assert_int_eq(object_incref(S1, ref), -EOPNOTSUPP);
	ck_assert_int_eq(list_set(S1, list, 0, ref), -EOPNOTSUPP);
	ck_assert_int_eq(CALL(S1, name_set(S1, "n", ref)), -EOPNOTSUPP);
	ck_assert_uint_eq(ref_header(ref)->rights, 0);
	ck_assert_ptr_null(hold_find(S1, ref));
	/* What its owner gives away needs no barrier. */
	ck_assert_int_eq(CALL(S0, name_set(S0, "n", ref)), 0);
	ck_assert_int_eq(object_incref(S1, ref), 0);
	no_membarrier = false;
	fixture_check();
	fixture_drop(S1, ref);
	fixture_drop(S0, ref);
	MUST(S0, name_del(S0, "n"));
	fixture_drop(S0, keep);
	fixture_drop(S1, list);
}
END_TEST

/* A process that cannot be registered for membarrier() has its sessions fenced, and then all works. */
START_TEST(all_goes_on_fenced)
{
	static const uint64_t token[2] = {1, 2};
	uint64_t ref, keep;

	fixture_close();
	no_membarrier = true;
	fixture_open();
	ck_assert(fx.heap->is_fenced);
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++) {
		fx.sessions[i].entry->is_fenced = 0;
		ck_assert(session_take(&fx.sessions[i], token));
		ck_assert_uint_eq(fx.sessions[i].entry->is_fenced, 1);
	}
	ck_assert_int_eq(critical_barrier(fx.heap), 0);
	keep = fixture_bytes(S0, 40);
	ref = fixture_bytes(S0, 40);
	MUST(S1, object_incref(S1, ref));
	fixture_drop(S0, ref);
	fixture_drop(S1, ref);
	ck_assert_uint_eq(ref_state(ref), STATE_REMOTE_FREE);
	lock(S1);
	ck_assert(critical_block(fx.heap, 0));
	ck_assert(!comes_in(S0));
	critical_unblock(fx.heap, 0);
	unlock(S1);
	fixture_drop(S0, keep);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

/* Where the process is registered, a session is not fenced once it is taken. */
START_TEST(not_fenced_where_registered)
{
	static const uint64_t token[2] = {1, 2};

	if (fx.heap->is_fenced)
		return;
	S0->entry->is_fenced = 1;
	ck_assert(session_take(S0, token));
	ck_assert_uint_eq(S0->entry->is_fenced, 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("critical");
	TCase *t = tcase_create("critical");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, activity_is_recorded);
	tcase_add_test(t, poll_sees_each_call_once);
	tcase_add_test(t, view_of_a_session_that_died_active);
	tcase_add_test(t, free_and_dead_sessions_count_as_active);
	tcase_add_test(t, blocked_and_unblocked);
	tcase_add_test(t, not_blocked_while_active);
	tcase_add_test(t, unblocking_keeps_other_requests);
	tcase_add_loop_test(t, served_by_the_next_call, 0, 4);
	tcase_add_test(t, stays_active);
	tcase_add_test(t, all_blocked_and_unblocked);
	tcase_add_test(t, all_blocked_by_a_dead_process);
	tcase_add_test(t, all_blocked_but_an_active_one);
	tcase_add_test(t, admitted_while_all_are_blocked);
	tcase_add_test(t, blocked_by_the_end_of_the_heap);
	tcase_add_loop_test(t, waits_while_blocked, 0, 4);
	tcase_add_test(t, blocked_again_and_again);
	tcase_add_test(t, barrier_of_the_fenced);
	tcase_add_test(t, no_barrier_blocks_nobody);
	tcase_add_test(t, all_goes_on_fenced);
	tcase_add_test(t, not_fenced_where_registered);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
