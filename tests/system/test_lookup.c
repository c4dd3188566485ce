// SPDX-License-Identifier: MIT
/*
 * A client that is stopped in a lookup of a ref, without the lock and without a hold
 *
 * The memory that it looks into stays. All else goes on: other arenas are unmapped, a daemon that is started again
 * adopts the heap, sessions resume, the dead are reclaimed. The client is a session of the test's own; the test stores
 * into its entry what a lookup stores there.
 */
#include "fixture.h"

#include "client/session.h"

#include <stdio.h>
#include <sys/stat.h>

#define ARENA     ((uint64_t)256 << 10)
#define N_OBJECTS 10000U /* of 512 bytes: some twenty arenas */

static pyheap *owner, *looker;
static pyheap_ref refs[N_OBJECTS];

static void setup(void)
{
	fixture_start(&fx, (const char *const[]){"--size", "64M", "--spare-arenas", "0", NULL});
	owner = fixture_open(&fx);
	looker = fixture_open(&fx);
}

static void teardown(void)
{
	looker = pyheap_close(looker);
	owner = pyheap_close(owner);
	fixture_teardown();
}

static uint64_t n_sessions(void)
{
	pyheap_stats stats;

	ck_ok(pyheap_stats(owner, &stats));
	return stats.n_sessions;
}

static void look_at(pyheap_ref ref)
{
	struct session_entry *entry = looker->session.entry;

	entry->intent.ref = ref;
	entry->intent.position = INTENT_UNKNOWN;
	__atomic_store_n(&entry->intent.word, intent_word(1000, INTENT_HOLD), __ATOMIC_RELEASE);
	__atomic_store_n(&entry->activity, ACTIVITY_ACTIVE, __ATOMIC_SEQ_CST);
}

static void look_no_more(void)
{
	struct session_entry *entry = looker->session.entry;

	__atomic_store_n(&entry->intent.word, intent_word(1000, INTENT_NONE), __ATOMIC_RELEASE);
	__atomic_store_n(&entry->activity, ACTIVITY_DONE, __ATOMIC_RELEASE);
}

static void make_and_look(void)
{
	for (size_t i = 0; i < N_OBJECTS; i++)
		ck_ok(pyheap_new(owner, PYHEAP_BYTES, 512, &refs[i]));
	ck_assert_uint_gt(fixture_heap_bytes(), 20 * ARENA);
	look_at(refs[N_OBJECTS / 2]);
	for (size_t i = 0; i < N_OBJECTS; i++)
		ck_ok(pyheap_decref(owner, refs[i]));
}

START_TEST(all_else_is_returned)
{
	pyheap_ref large;

	make_and_look();
	fixture_until(fixture_heap_bytes() == ARENA);
	/* No client gets that memory, and none waits for it. */
	ck_ok(pyheap_new(owner, PYHEAP_BYTES, 20 * ARENA, &large));
	ck_ok(pyheap_decref(owner, large));
	fixture_until(fixture_heap_bytes() == ARENA);
	look_no_more();
	fixture_until(fixture_heap_bytes() == 0);
}
END_TEST

static void hold_and_die(void *unused)
{
	pyheap *heap = fixture_open(&fx);
	pyheap_ref ref;

	(void)unused;
	ck_ok(pyheap_new(heap, PYHEAP_BYTES, 3 * ARENA, &ref));
	kill(getpid(), SIGKILL);
}

START_TEST(next_daemon_goes_on)
{
	pyheap_ref large;

	make_and_look();
	fixture_until(fixture_heap_bytes() == ARENA);
	fixture_stop(&fx, SIGKILL);
	fixture_start_again(&fx);
	/* A call that needs the daemon: the session resumes. */
	ck_ok(pyheap_new(owner, PYHEAP_BYTES, 20 * ARENA, &large));
	fixture_wait(fixture_fork(hold_and_die, NULL));
	fixture_until(n_sessions() == 2);
	ck_ok(pyheap_decref(owner, large));
	fixture_until(fixture_heap_bytes() == ARENA);
	look_no_more();
	fixture_until(fixture_heap_bytes() == 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("lookup");
	TCase *t = tcase_create("looked_at");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, all_else_is_returned);
	tcase_add_test(t, next_daemon_goes_on);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
