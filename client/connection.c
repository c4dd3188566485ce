// SPDX-License-Identifier: MIT
/*
 * Talking with the daemon
 *
 * A session talks rarely: Hello once, a request for arenas when the heap has no room, Goodbye. There is one request at
 * a time. The daemon is waited for, but not for ever: when it does not answer in time the request stays open, and
 * whoever needs arenas next first takes in what comes late (the arenas are good whenever they come), so that questions
 * and answers never get out of step.
 *
 * When the connection ends the daemon is gone: the connection is marked broken, its descriptor stays open (the
 * application may have it in a poll set), and whatever needs no fresh memory goes on working. Whether the heap was
 * taken down with the daemon is said in the control segment, not here.
 *
 * A process that dies between a grant and arena_accept() leaves arenas that are GRANTED to its session: the daemon
 * finds them in the arena table, so nothing here needs to be written down.
 */
#include "client/connection.h"

#include "heap/arena.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define SOCKET_ROOT   "/run/pyheap/pyheap.sock"
#define SOCKET_USER   "pyheap.sock" /* in $XDG_RUNTIME_DIR */
#define TIMEOUT_MS    10000
#define N_RUNS_MAX    16U /* the round trip is paid rarely, and 4 MiB are not asked for lightly */
#define PROGRAM_BYTES 63

/* ---- address ---------------------------------------------------------------------------------------------------- */

static int address_fill(struct sockaddr_un *address, const char *folder, const char *name)
{
	int n;

	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	n = snprintf(address->sun_path, sizeof(address->sun_path), "%s%s%s", folder, *folder ? "/" : "", name);
	return n < 0 || (size_t)n >= sizeof(address->sun_path) ? -ENAMETOOLONG : 0;
}

int connection_address(const char *socket, struct sockaddr_un *ret)
{
	const char *folder;

	if (!socket)
		socket = secure_getenv("PYHEAP_SOCKET");
	if (socket)
		return *socket ? address_fill(ret, "", socket) : -ENOENT;
	if (geteuid() == 0)
		return address_fill(ret, "", SOCKET_ROOT);
	folder = secure_getenv("XDG_RUNTIME_DIR");
	return folder && *folder ? address_fill(ret, folder, SOCKET_USER) : -ENOENT;
}

/* ---- messages --------------------------------------------------------------------------------------------------- */

/* What a failed transfer means to the session; nothing can be said over a stream that stopped in the middle. */
static int connection_fail(struct connection *connection, int error)
{
	connection->broken = true;
	if (error == -EPIPE || error == -ECONNRESET || error == -ENOTCONN)
		return -ECONNRESET;
	return error == -EBADMSG || error == -EMSGSIZE ? -EPROTO : error;
}

static int connection_send(struct connection *connection, const Pyheap__ToDaemon *message)
{
	int r = frame_send(connection->fd, &message->base, NULL, 0, TIMEOUT_MS);

	return r < 0 ? connection_fail(connection, r) : 0;
}

/* The next message. A Goodbye is as good as the connection's end; -ETIMEDOUT leaves the connection whole. */
static int connection_receive(struct connection *connection, int timeout_ms, Pyheap__FromDaemon **ret)
{
	Pyheap__FromDaemon *message;
	int r;

	r = frame_receive(connection->fd, &connection->buffer, timeout_ms, &message);
	if (r == -ETIMEDOUT || r == -ENOMEM)
		return r;
	if (r < 0)
		return connection_fail(connection, r);
	if (message->body_case == PYHEAP__FROM_DAEMON__BODY_GOODBYE) {
		pyheap__from_daemon__free_unpacked(message, NULL);
		return connection_fail(connection, -ECONNRESET);
	}
	*ret = message;
	return 0;
}

/* A negative errno of the daemon's Error. It comes from outside: what is no errno becomes one. */
static int error_code(const Pyheap__Error *error)
{
	return error->code > 0 && error->code < 4096 ? -error->code : -EPROTO;
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

/* A daemon that is stopped does not accept: connect() then waits for room in its backlog, for as long as sends may. */
static int connection_connect(struct connection *connection, const char *socket_path)
{
	struct timeval timeout = {.tv_sec = TIMEOUT_MS / 1000};
	struct sockaddr_un address;
	int r;

	r = connection_address(socket_path, &address);
	if (r < 0)
		return r;
	connection->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connection->fd < 0)
		return -errno;
	if (setsockopt(connection->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0)
		return -errno;
	do {
		r = connect(connection->fd, (struct sockaddr *)&address, sizeof(address));
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return 0;
}

static int connection_hello(struct connection *connection)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__Hello hello = PYHEAP__HELLO__INIT;
	char program[PROGRAM_BYTES + 1];

	snprintf(program, sizeof(program), "%s", program_invocation_short_name);
	hello.protocol = PROTO_VERSION;
	hello.layout_hash = layout_hash();
	hello.program = program;
	message.body_case = PYHEAP__TO_DAEMON__BODY_HELLO;
	message.hello = &hello;
	return connection_send(connection, &message);
}

/* Take the descriptors over from the buffer once everything about the Welcome is right. */
static int admission_take(struct connection *connection, const Pyheap__Welcome *welcome, struct admission *ret)
{
	if (welcome->protocol != PROTO_VERSION || welcome->layout_hash != layout_hash())
		return -EPROTO;
	if (welcome->heap_id.len != HEAP_ID_SIZE || welcome->token.len != TOKEN_SIZE || connection->buffer.n_fds != 2)
		return -EPROTO;
	ret->session = welcome->session;
	memcpy(ret->heap_id, welcome->heap_id.data, HEAP_ID_SIZE);
	memcpy(ret->token, welcome->token.data, TOKEN_SIZE);
	ret->control_fd = connection->buffer.fds[0];
	ret->heap_fd = connection->buffer.fds[1];
	connection->buffer.n_fds = 0;
	return 0;
}

static int connection_welcome(struct connection *connection, struct admission *ret)
{
	Pyheap__FromDaemon *message;
	int r;

	r = connection_receive(connection, TIMEOUT_MS, &message);
	if (r < 0)
		return r;
	if (message->body_case == PYHEAP__FROM_DAEMON__BODY_WELCOME)
		r = admission_take(connection, message->welcome, ret);
	else if (message->body_case == PYHEAP__FROM_DAEMON__BODY_ERROR)
		r = error_code(message->error);
	else
		r = -EPROTO;
	pyheap__from_daemon__free_unpacked(message, NULL);
	return r;
}

int connection_open(struct connection *connection, const char *socket, struct admission *ret)
{
	int r;

	*connection = (struct connection){.fd = -1, .n_runs = 1};
	r = connection_connect(connection, socket);
	if (r < 0)
		return r;
	/* A daemon that refuses may do so before it reads the Hello: then its Error is there all the same. */
	r = connection_hello(connection);
	if (r < 0 && r != -ECONNRESET)
		return r;
	r = connection_welcome(connection, ret);
	if (r == 0)
		connection->broken = false;
	return r;
}

/* ---- arenas ----------------------------------------------------------------------------------------------------- */

/* Whole arenas for one large object are counted exactly; for pools, the more a session needs the more it asks for. */
static int grow_send(struct connection *connection, const struct session *session)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__GrantRequest request = PYHEAP__GRANT_REQUEST__INIT;
	int r;

	request.run_length = session->n_wanted_arenas;
	request.n_runs = session->wants_run ? 1 : connection->n_runs;
	message.body_case = PYHEAP__TO_DAEMON__BODY_GRANT_REQUEST;
	message.grant_request = &request;
	r = connection_send(connection, &message);
	if (r < 0)
		return r;
	connection->awaits_grant = true;
	if (!session->wants_run && connection->n_runs < N_RUNS_MAX)
		connection->n_runs *= 2;
	return 0;
}

static int grow_take(struct session *session, const Pyheap__FromDaemon *message)
{
	const Pyheap__Grant *grant = message->grant;

	if (message->body_case == PYHEAP__FROM_DAEMON__BODY_ERROR)
		return error_code(message->error);
	if (message->body_case != PYHEAP__FROM_DAEMON__BODY_GRANT || grant->n_heads == 0)
		return -EPROTO;
	for (size_t i = 0; i < grant->n_heads; i++) {
		int r = arena_accept(session, grant->heads[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static int grow_receive(struct connection *connection, struct session *session)
{
	/* The daemon allocates and clears what it grants: a millisecond an arena is ten times what that takes. */
	int64_t timeout_ms = TIMEOUT_MS + (int64_t)session->n_wanted_arenas;
	Pyheap__FromDaemon *message;
	int r;

	r = connection_receive(connection, (int)timeout_ms, &message);
	if (r < 0)
		return r;
	connection->awaits_grant = false;
	r = grow_take(session, message);
	pyheap__from_daemon__free_unpacked(message, NULL);
	return r;
}

int connection_grow(struct connection *connection, struct session *session)
{
	int r;

	if (connection->broken)
		return -ECONNRESET;
	if (connection->awaits_grant) {
		r = grow_receive(connection, session);
		if (r != -ENOMEM) /* that was how things stood then */
			return r;
	}
	r = grow_send(connection, session);
	return r < 0 ? r : grow_receive(connection, session);
}

/* ---- closing ---------------------------------------------------------------------------------------------------- */

void connection_goodbye(struct connection *connection)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__Goodbye goodbye = PYHEAP__GOODBYE__INIT;

	if (connection->broken)
		return;
	message.body_case = PYHEAP__TO_DAEMON__BODY_GOODBYE;
	message.goodbye = &goodbye;
	frame_send(connection->fd, &message.base, NULL, 0, 0);
}

void connection_deinit(struct connection *connection)
{
	frame_buffer_deinit(&connection->buffer);
	if (connection->fd >= 0)
		close(connection->fd);
	connection->fd = -1;
}
