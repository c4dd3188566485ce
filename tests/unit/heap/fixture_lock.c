// SPDX-License-Identifier: MIT
/*
 * Threads that use session 0 while another thread has its lock
 */
#include "tests/unit/heap/fixture_lock.h"

#include <pthread.h>

uint64_t theirs;

void *use_in_thread(void *ret)
{
	uint64_t ref = 0;
	int *results = ret;

	results[0] = session_unlock(S0);
	results[1] = session_lock(S0);
	results[2] = object_incref(S0, theirs);
	results[3] = change_try_begin(S0);
	results[4] = object_new(S0, TYPE_BYTES, 8, &ref); /* needs no lock */
	return NULL;
}

void in_thread(void *(*what)(void *), void *ret)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, what, ret), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
