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
 * fails in closing matters. A forked child's copy only gives back what the process has: memory and descriptors.
 */
#include "client/session.h"

#include "heap/recover.h"

#include <stdlib.h>
#include <string.h>
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
	heap->process = process_number();
	if (heap->session.is_home) /* else its thread ids are not those that the kernel looks for */
		heap->session.process = heap->process;
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
	r = connection_open(&heap->connection, socket, &admission);
	if (r < 0)
		goto fail;
	r = session_attach(heap, &admission);
	if (r < 0)
		goto fail;
	*ret = heap;
	return 0;
fail:
	registry_detach(heap->mapping);
	connection_deinit(&heap->connection);
	free(heap);
	return r;
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
	return r < 0 ? connection_resume(&heap->connection, heap->session.has_lock) : 0;
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

	if (session->has_lock)
		session_unlock(session);
	if (session_is_empty(session)) /* who only looked does not wait for the lock: its owner may be stopped */
		return;
	while (!session_ended(heap) && session_drop_step(session, false) > 0)
		;
}

PYHEAP_PUBLIC pyheap *pyheap_close(pyheap *heap)
{
	if (!heap)
		return NULL;
	if (process_number() == heap->process) {
		session_drop_all(heap);
		/* Should there be no daemon now, the next one knows by this. */
		session_leave(&heap->session);
		connection_goodbye(&heap->connection);
	}
	connection_deinit(&heap->connection);
	registry_detach(heap->mapping);
	free(heap);
	return NULL;
}
