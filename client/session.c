// SPDX-License-Identifier: MIT
/*
 * Sessions: opening, closing, and what concerns the session itself
 *
 * A session is opened in three steps: the daemon admits it (connection.c), the process maps the heap or finds it mapped
 * (registry.c), and the session takes its entry in the session table, by which the daemon knows that it arrived.
 *
 * Closing drops the holds in bounded changes, so that nobody waits long for a session with a million of them. A process
 * that dies in the middle leaves the rest to the daemon, as does one that dies without closing. For that reason a step
 * of closing may fail: where another thread of the session has the global lock, for one, the daemon drops everything
 * once that thread has given it back (heap/change/lock.c).
 *
 * A session belongs to the process that opened it. Its cache of objects lies in memory that the kernel empties in every
 * forked child (process.c), so one load tells a session whether it is used by its owner, without a system call and
 * whatever made the child. A child's copy only gives back what the child itself has: memory and descriptors.
 */
#include "client/session.h"

#include "client/cancel.h"
#include "client/process.h"
#include "client/why.h"
#include "heap/change/lock.h"
#include "heap/repair/recover.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

/* Opening */

/* The kernel does not map the window: which limit says so? */
static int attach_no_room(const struct admission *admission, int error)
{
	struct rlimit space = {.rlim_cur = RLIM_INFINITY}, locked = {.rlim_cur = RLIM_INFINITY};
	unsigned long long mib = admission->heap_size >> 20;

	getrlimit(RLIMIT_AS, &space);
	getrlimit(RLIMIT_MEMLOCK, &locked);
	if (error == -EAGAIN || error == -EPERM)
		why_set("cannot map the window of %llu MiB: the process locks its memory (mlockall), and its limit of "
			"locked memory (RLIMIT_MEMLOCK, ulimit -l) is %llu KiB",
			mib, (unsigned long long)locked.rlim_cur >> 10);
	else if (space.rlim_cur != RLIM_INFINITY)
		why_set("cannot map the window of %llu MiB: the process's address space is limited to %llu MiB "
			"(RLIMIT_AS, ulimit -v)",
			mib, (unsigned long long)space.rlim_cur >> 20);
	else
		why_set("cannot map the window of %llu MiB: the process's address space has no such room", mib);
	return -ENOMEM;
}

/* An error of heap_attach(), as pyheap_open() reports it. */
static int attach_error(const struct admission *admission, int error)
{
	switch (error) {
	case -ENODATA:
	case -EMEDIUMTYPE:
		return -EUCLEAN;
	case -EPROTONOSUPPORT:
		return -EPROTO;
	case -EAGAIN:
	case -EINVAL:
	case -ENOMEM:
	case -EPERM:
		return attach_no_room(admission, error);
	default:
		return error;
	}
}

static void session_free(pyheap *heap)
{
	connection_deinit(&heap->connection);
	registry_detach(heap->mapping);
	munmap(heap->cache, sizeof(*heap->cache));
	free(heap);
}

static int session_attach(pyheap *heap, const struct admission *admission)
{
	uint64_t token[2];
	struct heap *shared;
	int r;

	r = registry_attach(&heap->mapping, admission);
	if (r < 0)
		return attach_error(admission, r);
	shared = heap->mapping->heap;
	if (admission->session >= shared->n_sessions)
		return -EUCLEAN;
	session_init(&heap->session, shared, admission->session);
	session_begin_cache(&heap->session, heap->cache);
	/* In another pid namespace than the heap's, thread ids are not those that the kernel compares. */
	if (heap->session.is_home)
		heap->session.process = process_number();
	memcpy(token, admission->token, sizeof(token));
	return session_take(&heap->session, token) ? 0 : -ECONNRESET;
}

PYHEAP_PUBLIC int pyheap_open(pyheap **ret, const char *socket)
{
	struct admission admission;
	void *memory;
	pyheap *heap;
	int r;
	CANCEL_HELD_OFF;

	why_clear();
	if (!ret)
		return -EINVAL;
	heap = calloc(1, sizeof(*heap));
	if (!heap)
		return -ENOMEM;
	r = process_map(&memory, sizeof(*heap->cache));
	if (r < 0) {
		free(heap);
		return r;
	}
	heap->cache = memory;
	r = connection_open(&heap->connection, socket, &admission);
	if (r == 0)
		r = session_attach(heap, &admission);
	if (r < 0) {
		session_free(heap);
		return r;
	}
	*ret = heap;
	return 0;
}

PYHEAP_PUBLIC int pyheap_reset(const char *socket, int with_sessions)
{
	CANCEL_HELD_OFF;

	why_clear();
	return connection_reset(socket, with_sessions != 0);
}

PYHEAP_PUBLIC const char *pyheap_open_error(void)
{
	return why_last();
}

/* The connection and the global lock */

PYHEAP_PUBLIC int pyheap_set_timeout(pyheap *heap, int timeout_ms)
{
	int r = session_enter(heap);

	if (r < 0)
		return r;
	if (timeout_ms < -1)
		return -EINVAL;
	heap->connection.timeout_ms = timeout_ms;
	return 0;
}

PYHEAP_PUBLIC int pyheap_dispatch(pyheap *heap)
{
	int r = session_enter(heap);
	CANCEL_HELD_OFF;

	if (r < 0)
		return r;
	connection_begin(&heap->connection);
	r = connection_poll(&heap->connection);
	if (session_ended(heap))
		return -EPIPE;
	if (r == 0)
		return 0;
	r = session_refresh_lock(&heap->session);
	return r < 0 ? r : connection_resume(&heap->connection, r);
}

PYHEAP_PUBLIC int pyheap_fd(pyheap *heap)
{
	int r = session_enter(heap);

	return r < 0 ? r : heap->connection.fd;
}

PYHEAP_PUBLIC int pyheap_lock(pyheap *heap)
{
	int r = session_enter(heap);

	return r < 0 ? r : session_lock(&heap->session);
}

PYHEAP_PUBLIC int pyheap_unlock(pyheap *heap)
{
	int r = session_enter(heap);

	return r < 0 ? r : session_unlock(&heap->session);
}

/* Closing */

static void session_drop_all(pyheap *heap)
{
	struct session *session = &heap->session;

	if (session->has_lock && session_unlock(session) < 0 && session_refresh_lock(session) < 0)
		session_abandon_lock(session);
	/* A session that holds nothing does not wait for the lock: its owner may be stopped. */
	if (session_is_empty(session))
		return;
	while (!session_ended(heap) && session_drop_step(session, false) > 0)
		;
}

PYHEAP_PUBLIC pyheap *pyheap_close(pyheap *heap)
{
	CANCEL_HELD_OFF;

	if (!heap)
		return NULL;
	if (session_is_mine(heap)) {
		session_drop_all(heap);
		/* In the session table first: a daemon that starts later reads it there. */
		session_detach(&heap->session);
		if (!session_ended(heap))
			connection_goodbye(&heap->connection);
	}
	session_free(heap);
	return NULL;
}
