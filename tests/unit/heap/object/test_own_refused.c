// SPDX-License-Identifier: MIT
/*
 * A session drops its own object, which is shared, and cannot have the lock: the drop is undone
 *
 * The lock is another thread's of the session, or this thread's by another session. Meanwhile, at any instruction, that
 * thread may end, and others may hold, drop or die.
 */
#include "tests/unit/heap/fixture.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static sem_t locked, go_on;
static pthread_t keeper;

/* Another thread of session 0 has the lock. */
static void *keep_lock(void *unlock)
{
	if (session_lock(S0) < 0)
		abort();
	sem_post(&locked);
	while (sem_wait(&go_on))
		;
	if (unlock)
		session_unlock(S0);
	return NULL;
}

static void keeper_begin(bool unlocks)
{
	ck_assert_int_eq(sem_init(&locked, 0, 0) | sem_init(&go_on, 0, 0), 0);
	ck_assert_int_eq(pthread_create(&keeper, NULL, keep_lock, unlocks ? S0 : NULL), 0);
	ck_assert_int_eq(sem_wait(&locked), 0);
}

static void keeper_end(void)
{
	sem_post(&go_on);
	pthread_join(keeper, NULL);
}

/* The owner is in a drop: it has stored that it holds the object no more, and needs the lock now. */
static void let_go(uint64_t ref)
{
	struct own_object object;

	ck_assert(critical_enter(S0));
	ck_assert(own_find(S0, ref, &object));
	own_let_go(S0->entry, &object, S0->is_fenced);
	ck_assert_uint_eq(ref_own(ref), 0);
}

/* The drop fails, and the session holds the object as before. */
START_TEST(refused_holds_it_still)
{
	bool is_deadlock = _i & 1, is_shared = _i & 2;
	uint64_t ref = fixture_bytes(S0, _i & 4 ? 3 * POOL_SIZE : 40);

	if (is_shared)
		MUST(S1, object_incref(S1, ref));
	ck_assert_int_eq(session_serve_requests(S0), 0);
	if (is_deadlock)
		ck_assert_int_eq(session_lock(S1), 0);
	else
		keeper_begin(true);
	let_go(ref);
	ck_assert_int_eq(own_settle(S0, ref), is_deadlock ? -EDEADLK : -EPERM);
	ck_assert_uint_eq(ref_own(ref), 1);
	ck_assert_uint_eq(S0->entry->n_own_holds, 1);
	ck_assert(!critical_is_active(fx.heap, S0->index));
	if (is_deadlock)
		ck_assert_int_eq(session_unlock(S1), 0);
	else
		keeper_end();
	fixture_check();
	ck_assert_int_eq(object_refcount(S2, ref), 1 + is_shared);
	fixture_drop(S0, ref);
	if (is_shared)
		fixture_drop(S1, ref);
	ck_assert_int_eq((int)object_refcount(S2, ref), -ESTALE);
	fixture_expect_empty();
}
END_TEST

/*
 * After so many instructions the thread with the lock ends, and session 1 holds the object, drops it, or dies in a
 * drop.
 */
static struct {
	uint64_t n, at;
	uint64_t ref;
	int does; /* 0 drops, 1 holds, 2 both, 3 dies having freed it, 4 nothing */
	int result;
	bool is_done;
} cut;

/* S1 drops its hold, and frees the object unless the owner holds it; the change is never committed. */
static void die_having_freed_it(void)
{
	pid_t pid = fork();
	struct object object;

	if (!pid) {
		if (change_begin(S1) == 0 && object_find(fx.heap, cut.ref, &object) == 0 &&
			hold_remove(S1, hold_find(S1, cut.ref)))
			right_drop(S1, &object);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	if (cut.is_done || cut.n++ < cut.at)
		return;
#ifdef __x86_64__
	((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100LL;
#endif
	(void)context;
	cut.is_done = true;
	keeper_end();
	if (cut.does == 3)
		die_having_freed_it();
	else if (cut.does != 4 && cut.does != 1)
		cut.result = object_decref(S1, cut.ref);
	if (cut.does == 1 || cut.does == 2)
		cut.result = object_incref(S1, cut.ref);
}

/* S1 holds it. */
static bool is_held_after_cut(void)
{
	switch (cut.does) {
	case 0:
		return false;
	case 1:
	case 2:
		return cut.result == 0;
	default:
		return true;
	}
}

static bool refused_and_cut_at(int does, uint64_t at, size_t size)
{
	uint64_t ref = fixture_bytes(S0, size);
	int r;

	if (does != 1)
		MUST(S1, object_incref(S1, ref));
	ck_assert_int_eq(session_serve_requests(S0), 0);
	keeper_begin(false);
	let_go(ref);
	cut = (typeof(cut)){.at = at, .ref = ref, .does = does};
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* stored before the handler runs */
	trap_each_instruction(true);
	r = own_settle(S0, ref);
	trap_each_instruction(false);
	if (!cut.is_done)
		keeper_end();
	ck_assert(r == 0 || r == -EPERM);
	ck_assert(cut.result == 0 || cut.result == -ESTALE);
	ck_assert_uint_eq(S0->entry->activity, ACTIVITY_DONE);
	fixture_check();
	if (!cut.is_done) {
		ck_assert_int_eq(r, -EPERM);
		if (does != 1)
			fixture_drop(S1, ref);
	} else {
		ck_assert_int_eq(is_held_after_cut(), object_is_held(S1, ref));
		if (is_held_after_cut())
			fixture_drop(S1, ref);
	}
	/* The owner's hold is left where the drop failed, and nothing else. */
	if (r < 0) {
		ck_assert_int_eq(object_refcount(S2, ref), 1);
		fixture_drop(S0, ref);
	}
	ck_assert_int_eq((int)object_refcount(S2, ref), -ESTALE);
	ck_assert_uint_eq(S0->entry->n_own_holds, 0);
	return cut.is_done;
}

START_TEST(refused_while_the_other_thread_ends)
{
	struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
	uint64_t at = 0;

	fixture_seed();
	ck_assert_int_eq(sigaction(SIGTRAP, &action, NULL), 0);
	while (refused_and_cut_at(_i / 2, at, _i & 1 ? 3 * POOL_SIZE : 40))
		at += 1 + fixture_below(12);
	fixture_expect_empty();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("own-refused");
	TCase *t = tcase_create("refused");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, refused_holds_it_still, 0, 8);
	tcase_add_loop_test(t, refused_while_the_other_thread_ends, 0, 10);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
