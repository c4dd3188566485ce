// SPDX-License-Identifier: MIT
/*
 * What a session asks the daemon for, beside arenas: the end of another session, and what each session has
 *
 * Only the daemon can answer: it alone has the pidfd by which a process can be signalled for certain, and the file that
 * says whose arenas are whose. A request is answered by its own message, or by an Error that leaves the connection as
 * it is.
 */
#include "client/cancel.h"
#include "client/session.h"

#include <errno.h>

static int ask_once(struct connection *connection, const Pyheap__ToDaemon *message, Pyheap__FromDaemon **ret)
{
	int r;

	if (connection->awaits_grant)
		return -ETIMEDOUT; /* an answer before is still due */
	r = connection_send(connection, message);
	if (r == 0)
		r = connection_receive(connection, connection->timeout_ms, ret);
	if (r < 0 || (*ret)->body_case != PYHEAP__FROM_DAEMON__BODY_ERROR)
		return r;
	r = connection_error((*ret)->error);
	pyheap__from_daemon__free_unpacked(*ret, NULL);
	return r;
}

/* The caller frees *ret, which is no Error. */
static int ask(pyheap *heap, const Pyheap__ToDaemon *message, Pyheap__FromDaemon **ret)
{
	int r = heap->connection.broken ? -ECONNRESET : ask_once(&heap->connection, message, ret);

	while (r == -ECONNRESET) {
		r = connection_resume(&heap->connection, heap->session.has_lock);
		if (r < 0)
			return r;
		r = ask_once(&heap->connection, message, ret);
	}
	return r;
}

PYHEAP_PUBLIC int pyheap_evict(pyheap *heap, uint32_t session)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__EvictRequest request = PYHEAP__EVICT_REQUEST__INIT;
	Pyheap__FromDaemon *answer;
	int r = session_enter(heap);

	if (r < 0)
		return r;
	if (session == heap->session.index)
		return -EINVAL;
	request.session = session;
	message.body_case = PYHEAP__TO_DAEMON__BODY_EVICT_REQUEST;
	message.evict_request = &request;
	r = ask(heap, &message, &answer);
	if (r < 0)
		return r;
	r = answer->body_case == PYHEAP__FROM_DAEMON__BODY_EVICTED ? 0 : -EPROTO;
	pyheap__from_daemon__free_unpacked(answer, NULL);
	return r;
}

/* Ask for what sessions from *next on have. *next becomes the first one that is left out; 0: there is none. */
static int ask_usage(pyheap *heap, uint32_t *next, Pyheap__FromDaemon **ret)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__UsageRequest request = PYHEAP__USAGE_REQUEST__INIT;
	uint32_t first = *next;
	int r;

	request.first = first;
	message.body_case = PYHEAP__TO_DAEMON__BODY_USAGE_REQUEST;
	message.usage_request = &request;
	r = ask(heap, &message, ret);
	if (r < 0)
		return r;
	if ((*ret)->body_case == PYHEAP__FROM_DAEMON__BODY_USAGE)
		*next = (*ret)->usage->next;
	if ((*ret)->body_case == PYHEAP__FROM_DAEMON__BODY_USAGE && (*next > first || !*next))
		return 0;
	pyheap__from_daemon__free_unpacked(*ret, NULL);
	return -EPROTO;
}

PYHEAP_PUBLIC int pyheap_get_usage(pyheap *heap, pyheap_usage *ret, size_t n)
{
	Pyheap__FromDaemon *answer;
	uint32_t next = 0;
	int n_found = 0, r = session_enter(heap);
	CANCEL_HELD_OFF;

	if (r < 0)
		return r;
	if (!ret && n)
		return -EINVAL;
	do {
		r = ask_usage(heap, &next, &answer);
		if (r < 0)
			return r;
		for (size_t i = 0; i < answer->usage->n_sessions; i++, n_found++) {
			const Pyheap__SessionUsage *usage = answer->usage->sessions[i];

			if ((size_t)n_found < n)
				ret[n_found] = (pyheap_usage){usage->session, 0, usage->n_arenas, usage->n_bytes};
		}
		pyheap__from_daemon__free_unpacked(answer, NULL);
	} while (next);
	return n_found;
}
