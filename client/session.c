// SPDX-License-Identifier: MIT
/*
 * Sessions: opening, closing, and the way through every call
 *
 * A public call is a function of heap/ with three things around it: whose session it is, and whether there still is a
 * heap, is asked first (session_enter()); when the heap has no room the daemon is asked for arenas and the function is
 * called again (session_again()). The functions of heap/ are whole changes or nothing, so calling one again is no harm.
 *
 * Closing drops the holds in bounded changes, so that nobody waits for a session with a million of them. A process that
 * dies in the middle leaves the rest to the daemon, like one that dies without closing; that is also why nothing that
 * fails in closing matters, as when another thread of the session has the global lock: then the daemon does it all,
 * once that thread has given it back (lock.c). A forked child's copy only gives back what the process has: memory and
 * descriptors.
 *
 * A session belongs to the process that opened it. What it keeps of the objects that it used lately (recent.h) lies in
 * memory of its own that the kernel empties in every child (MADV_WIPEONFORK), whatever made the child: so a single load
 * tells a session its owner, without a system call and without trusting that anybody ran a handler. A child that shares
 * its parent's memory (vfork, CLONE_VM) is the same process here, as it is for every other variable.
 */
#include "client/session.h"

#include "client/process.h"
#include "heap/change/lock.h"
#include "heap/object/own.h"
#include "heap/repair/recover.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GRANTS_MAX 1000U /* in one call */

/* ---- opening ---------------------------------------------------------------------------------------------------- */

/* What heap_attach() says of a segment, in the words of pyheap_open(). */
static int attach_error(int error)
{
	switch (error) {
	case -ENODATA:
	case -EMEDIUMTYPE:
		return -EUCLEAN;
	case -EPROTONOSUPPORT:
		return -EPROTO;
	default:
		return error;
	}
}

static int recent_new(struct cache **ret)
{
	void *p;
	int r;

	p = mmap(NULL, sizeof(struct cache), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	if (madvise(p, sizeof(struct cache), MADV_WIPEONFORK) < 0) {
		r = -errno;
		munmap(p, sizeof(struct cache));
		return r;
	}
	*ret = p;
	return 0;
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

	r = registry_attach(&heap->mapping, admission->heap_id, admission->control_fd, admission->heap_fd);
	if (r < 0)
		return attach_error(r);
	shared = heap->mapping->heap;
	if (admission->session >= shared->n_sessions)
		return -EUCLEAN;
	session_init(&heap->session, shared, admission->session);
	session_begin_cache(&heap->session, heap->cache);
	if (heap->session.is_home) /* else its thread ids are not those that the kernel looks for */
		heap->session.process = process_number();
	memcpy(token, admission->token, sizeof(token));
	return session_take(&heap->session, token) ? 0 : -ECONNRESET;
}

PYHEAP_PUBLIC int pyheap_open(pyheap **ret, const char *socket)
{
	struct admission admission;
	pyheap *heap;
	int r;

	if (!ret)
		return -EINVAL;
	heap = calloc(1, sizeof(*heap));
	if (!heap)
		return -ENOMEM;
	r = recent_new(&heap->cache);
	if (r < 0) {
		free(heap);
		return r;
	}
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

/* ---- every call ------------------------------------------------------------------------------------------------- */

bool session_grow(pyheap *heap, int *r)
{
	/* Others may take what was granted to this one; but where nothing ever helps, the heap cannot find it. */
	if (heap->n_grants++ == GRANTS_MAX) {
		heap->n_grants = 0;
		*r = -EUCLEAN;
		return false;
	}
	*r = connection_grow(&heap->connection, &heap->session);
	if (*r == -ENOMEM && own_collect_all(&heap->session) > 0)
		*r = 0; /* it had some itself */
	if (*r == -ECONNRESET && session_ended(heap))
		*r = -EPIPE;
	return *r == 0;
}

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

	if (r < 0)
		return r;
	r = connection_look(&heap->connection);
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

/* ---- closing ---------------------------------------------------------------------------------------------------- */

static void session_drop_all(pyheap *heap)
{
	struct session *session = &heap->session;

	if (session->has_lock && session_unlock(session) < 0 && session_refresh_lock(session) < 0)
		session_abandon_lock(session);
	if (session_is_empty(session)) /* who only looked does not wait for the lock: its owner may be stopped */
		return;
	while (!session_ended(heap) && session_drop_step(session, false) > 0)
		;
}

PYHEAP_PUBLIC pyheap *pyheap_close(pyheap *heap)
{
	if (!heap)
		return NULL;
	if (session_is_mine(heap)) {
		session_drop_all(heap);
		/* Should there be no daemon now, the next one knows by this. */
		session_detach(&heap->session);
		connection_goodbye(&heap->connection);
	}
	session_free(heap);
	return NULL;
}
