// SPDX-License-Identifier: MIT
/*
 * Dispatch: which message goes where
 *
 * A connection says Hello first and once. What comes then is the session's. One that wants the heap to be emptied says
 * so instead of Hello, and has no session.
 */
#include "daemon/dispatch.h"

#include "daemon/evict.h"

#include <errno.h>

static void dispatch_opened(void *owner, struct connection *connection)
{
	admit_connection(owner, connection);
}

static void dispatch_to_session(
	struct dsession *session, struct connection *connection, const Pyheap__ToDaemon *message)
{
	switch (message->body_case) {
	case PYHEAP__TO_DAEMON__BODY_GRANT_REQUEST:
		dsession_ask_grant(session, message->grant_request->run_length, message->grant_request->n_runs);
		break;
	case PYHEAP__TO_DAEMON__BODY_STATS_REQUEST:
		dsession_ask_stats(session);
		break;
	case PYHEAP__TO_DAEMON__BODY_USAGE_REQUEST:
		dsession_ask_usage(session, message->usage_request->first);
		break;
	case PYHEAP__TO_DAEMON__BODY_EVICT_REQUEST:
		evict_ask(session, message->evict_request->session);
		break;
	case PYHEAP__TO_DAEMON__BODY_GOODBYE:
		dsession_end(session, "it said goodbye");
		break;
	default: /* frame_unpack_to_daemon() lets no other through */
		connection_fail(connection, EBADMSG, "sent an unknown message");
		break;
	}
}

static void dispatch_received(void *owner, struct connection *connection, const Pyheap__ToDaemon *message)
{
	struct admission *admission = owner;
	bool is_hello = message->body_case == PYHEAP__TO_DAEMON__BODY_HELLO;
	bool is_reset = message->body_case == PYHEAP__TO_DAEMON__BODY_RESET_REQUEST;
	bool is_new = connection->state == CONNECTION_NEW;

	if ((is_hello || is_reset) != is_new)
		connection_fail(connection, EBADMSG,
			is_new ? "did not say Hello first" : "said Hello, or asked for a reset, behind Hello");
	else if (is_hello)
		admit_hello(admission, connection, message->hello);
	else if (is_reset)
		admit_reset(admission, connection, message->reset_request->with_sessions);
	else
		dispatch_to_session(dsessions_of(admission->sessions, connection), connection, message);
}

static void dispatch_ended(void *owner, struct connection *connection)
{
	struct admission *admission = owner;

	dsession_connection_ended(dsessions_of(admission->sessions, connection));
}

const struct connection_handlers dispatch_handlers = {
	.opened = dispatch_opened,
	.received = dispatch_received,
	.ended = dispatch_ended,
};
