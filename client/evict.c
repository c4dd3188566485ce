// SPDX-License-Identifier: MIT
/*
 * Ending another session
 *
 * Only the daemon may: it alone has the pidfd by which a process can be signalled for certain. So the session asks, and
 * the daemon answers by Evicted, or by an Error that leaves the connection as it is.
 */
#include "client/session.h"

#include <errno.h>

static int evict_once(struct connection *connection, uint32_t session)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__EvictRequest request = PYHEAP__EVICT_REQUEST__INIT;
	Pyheap__FromDaemon *answer;
	int r;

	if (connection->awaits_grant)
		return -ETIMEDOUT; /* an answer before is still due */
	request.session = session;
	message.body_case = PYHEAP__TO_DAEMON__BODY_EVICT_REQUEST;
	message.evict_request = &request;
	r = connection_send(connection, &message);
	if (r == 0)
		r = connection_receive(connection, connection->timeout_ms, &answer);
	if (r < 0)
		return r;
	if (answer->body_case == PYHEAP__FROM_DAEMON__BODY_ERROR)
		r = connection_error(answer->error);
	else if (answer->body_case != PYHEAP__FROM_DAEMON__BODY_EVICTED)
		r = -EPROTO;
	pyheap__from_daemon__free_unpacked(answer, NULL);
	return r;
}

PYHEAP_PUBLIC int pyheap_evict(pyheap *heap, uint32_t session)
{
	int r = session_enter(heap);

	if (r < 0)
		return r;
	if (session == heap->session.index)
		return -EINVAL;
	r = heap->connection.broken ? -ECONNRESET : evict_once(&heap->connection, session);
	while (r == -ECONNRESET) {
		r = connection_resume(&heap->connection, heap->session.has_lock);
		if (r < 0)
			return r;
		r = evict_once(&heap->connection, session);
	}
	return r;
}
