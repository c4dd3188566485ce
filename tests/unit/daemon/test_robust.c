// SPDX-License-Identifier: MIT
/*
 * What a thread has locked, by its robust list
 */
#include "tests/unit/daemon/box.h"

#include "daemon/robust.h"

#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OFF 8192U /* of the mutex in the file */

static int fd;
static pthread_mutex_t *mutex;
static pid_t other_tid;
static pthread_barrier_t barrier;

static void set_up(void)
{
	pthread_mutexattr_t attr;
	uint8_t *p;

	fd = memfd_create("lock", MFD_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, 4 * OFF), 0);
	p = mmap(NULL, 4 * OFF, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	mutex = (pthread_mutex_t *)(void *)(p + OFF);
	ck_assert_int_eq(pthread_mutexattr_init(&attr), 0);
	ck_assert_int_eq(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST), 0);
	ck_assert_int_eq(pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED), 0);
	ck_assert_int_eq(pthread_mutex_init(mutex, &attr), 0);
}

static int has(pid_t tid)
{
	return robust_has(getpid(), (uint32_t)tid, fd, OFF);
}

START_TEST(while_it_is_locked)
{
	set_up();
	ck_assert_int_eq(has(gettid()), 0);
	ck_assert_int_eq(pthread_mutex_lock(mutex), 0);
	ck_assert_int_eq(has(gettid()), 1);
	ck_assert_int_eq(robust_has(getpid(), (uint32_t)gettid(), fd, OFF + 8), 0); /* no lock is there */
	/* of a file that this process has not mapped nobody can tell who has mapped it */
	ck_assert_int_lt(robust_has(getpid(), (uint32_t)gettid(), memfd_create("x", MFD_CLOEXEC), OFF), 0);
	ck_assert_int_eq(pthread_mutex_unlock(mutex), 0);
	ck_assert_int_eq(has(gettid()), 0);
}
END_TEST

static void *other(void *userdata)
{
	other_tid = gettid();
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return userdata;
}

START_TEST(of_another_thread)
{
	pthread_t thread;

	set_up();
	ck_assert_int_eq(pthread_barrier_init(&barrier, NULL, 2), 0);
	ck_assert_int_eq(pthread_mutex_lock(mutex), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, other, NULL), 0);
	pthread_barrier_wait(&barrier);
	*(uint32_t *)(void *)mutex = (uint32_t)other_tid; /* what another client can write */
	ck_assert_int_eq(has(other_tid), 0);
	ck_assert_int_eq(has(gettid()), 1);
	pthread_barrier_wait(&barrier);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_lt(has(other_tid), 0); /* it is gone */
}
END_TEST

/* It is not there is never said where it was not looked for everywhere. */
START_TEST(more_than_is_looked_at)
{
	struct robust_list_head *head = NULL;
	struct robust_list circle = {&circle}, *end;
	size_t size;

	set_up();
	for (int i = 0; i < 100; i++)
		ck_assert_ptr_ne(mmap(NULL, 4 * OFF, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	ck_assert_int_lt(has(gettid()), 0);
	set_up();
	ck_assert_int_eq(has(gettid()), 0);
	ck_assert_int_eq((int)syscall(SYS_get_robust_list, 0, &head, &size), 0);
	end = head->list.next;
	head->list.next = &circle;
	ck_assert_int_lt(has(gettid()), 0);
	head->list.next = end;
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon robust");
	TCase *t = tcase_create("robust");

	tcase_set_timeout(t, 300);
	tcase_add_test(t, while_it_is_locked);
	tcase_add_test(t, of_another_thread);
	tcase_add_test(t, more_than_is_looked_at);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return box_main(suite);
}
