// SPDX-License-Identifier: MIT
/*
 * Asking the daemon for arenas
 *
 * A request says how many arenas one object needs in a row (run_length), and how many such runs are welcome (n_runs).
 * A session that makes small objects asks for twice as many each time, up to N_RUNS_MAX, so that a session that needs
 * much memory pays few round trips, and one that needs little is not given much.
 *
 * There is one request at a time. When its answer does not come in time the request stays open, and the next call that
 * needs arenas waits for that answer first; its arenas are as good then. So requests and answers never get out of step.
 *
 * A process that dies between the daemon's grant and supply_accept() leaves arenas in the state GRANTED. The daemon
 * finds them in the arena table, so nothing is written down here.
 */
#include "client/grant.h"

#include "heap/change/supply.h"

#include <errno.h>

#define N_RUNS_MAX 16U /* 4 MiB of arenas */

static int grant_send(struct connection *connection, const struct session *session)
{
	/* A large object needs exactly one run, and the heap's own records few arenas; only pools of objects grow. */
	bool grows = !session->wants_run && session->wants_space == SPACE_OBJECTS;
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__GrantRequest request = PYHEAP__GRANT_REQUEST__INIT;
	int r;

	request.run_length = session->n_wanted_arenas;
	request.n_runs = grows ? connection->n_runs : 1;
	message.body_case = PYHEAP__TO_DAEMON__BODY_GRANT_REQUEST;
	message.grant_request = &request;
	r = connection_send(connection, &message);
	if (r < 0)
		return r;
	connection->awaits_grant = true;
	if (grows && connection->n_runs < N_RUNS_MAX)
		connection->n_runs *= 2;
	return 0;
}

static int grant_accept(struct session *session, const Pyheap__FromDaemon *message)
{
	const Pyheap__Grant *grant = message->grant;

	if (message->body_case == PYHEAP__FROM_DAEMON__BODY_ERROR)
		return connection_error(message->error);
	if (message->body_case != PYHEAP__FROM_DAEMON__BODY_GRANT || grant->n_heads == 0)
		return -EPROTO;
	for (size_t i = 0; i < grant->n_heads; i++) {
		int r = supply_accept(session, grant->heads[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static int grant_receive(struct connection *connection, struct session *session)
{
	/* The daemon allocates and clears the arenas. One millisecond more for each is ten times what that takes. */
	int timeout_ms = connection_left(connection, session->n_wanted_arenas);
	Pyheap__FromDaemon *message;
	int r;

	r = connection_receive(connection, timeout_ms, &message);
	if (r < 0)
		return r;
	connection->awaits_grant = false;
	r = grant_accept(session, message);
	pyheap__from_daemon__free_unpacked(message, NULL);
	return r;
}

static int grant_once(struct connection *connection, struct session *session)
{
	int r;

	if (connection->awaits_grant) {
		r = grant_receive(connection, session);
		/* -ENOMEM answers an old request: there may be memory now; or room within the user's limit, -EDQUOT. */
		if (r != -ENOMEM && r != -EDQUOT)
			return r;
	}
	r = grant_send(connection, session);
	return r < 0 ? r : grant_receive(connection, session);
}

int grant_request(struct connection *connection, struct session *session)
{
	int r = -ECONNRESET;

	if (!connection->broken)
		r = grant_once(connection, session);
	while (r == -ECONNRESET) {
		r = connection_resume(connection, session->has_lock);
		if (r < 0)
			return r;
		r = grant_once(connection, session);
	}
	return r;
}
