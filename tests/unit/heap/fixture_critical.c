// SPDX-License-Identifier: MIT
/*
 * Sessions kept out of their critical sections, and membarrier(2) that fails
 *
 * heap/ calls membarrier(2) by syscall(), of which a test program with this file has its own.
 */
#include "tests/unit/heap/fixture_critical.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

bool no_membarrier;

long syscall(long number, ...)
{
	static long (*libc_syscall)(long, ...);
	long a[6];
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_membarrier && no_membarrier) {
		errno = EPERM;
		return -1;
	}
	if (!libc_syscall)
		*(void **)&libc_syscall = dlsym(RTLD_NEXT, "syscall");
	return libc_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

uint32_t requests_of(const struct session *session)
{
	return session->entry->requests;
}

bool comes_in(struct session *session)
{
	bool is_in = critical_enter(session);

	ck_assert_int_eq(session->entry->activity == ACTIVITY_ACTIVE, is_in);
	if (is_in)
		critical_leave(session, 0);
	ck_assert_uint_eq(session->entry->activity, ACTIVITY_DONE);
	return is_in;
}

void lock(struct session *session)
{
	ck_assert_int_eq(session_lock(session), 0);
}

void unlock(struct session *session)
{
	ck_assert_int_eq(session_unlock(session), 0);
}

void fence(uint32_t n_sessions)
{
	for (uint32_t i = 0; i < fx.heap->n_sessions; i++)
		fx.heap->sessions[i].is_fenced = i < n_sessions;
}
