// SPDX-License-Identifier: MIT
/*
 * Who has the lock, as far as can be known
 */
#include "heap/object/header_lock.h"
#include "tests/unit/heap/fixture_picture.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* A thread of another pid namespace was stopped before it stored its session: only its id is known. */
START_TEST(owner_is_unknown)
{
	uint32_t *futex = &fx.heap->control->lock.word;
	const uint32_t nobody = (1 << 22) - 1;

	ck_assert_uint_eq(lock_owner_tid(fx.heap), 0);
	ck_assert_int_eq(session_lock(S1), 0);
	ck_assert_uint_eq(lock_owner_tid(fx.heap), (uint32_t)gettid());
	ck_assert_uint_eq(lock_owner1(fx.heap), S1->owner1);
	ck_assert_int_eq(session_unlock(S1), 0);
	*futex = nobody | 1U << 31; /* somebody waits, too */
	ck_assert_int_eq(lock_recover(&fx.daemon), -EBUSY);
	ck_assert_uint_eq(lock_owner1(fx.heap), 0);
	ck_assert_uint_eq(lock_owner_tid(fx.heap), nobody);
	fx.heap->control->lock.owner1 = S1->owner1; /* once it has stored its session */
	ck_assert_uint_eq(lock_owner1(fx.heap), S1->owner1);
	fx.heap->control->lock.owner1 = 0;
	*futex = 0;
	fixture_check();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("lock-report");
	TCase *t = tcase_create("lock_report");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, owner_is_unknown);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
