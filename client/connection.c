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
 * application may have it in a poll set), and whatever needs no fresh memory goes on working. The next call that needs
 * the daemon looks for its successor, with pauses that double up to BACKOFF_MAX_MS, and shows it the session's token;
 * the new socket takes the old one's number. Whether the heap was taken down with the daemon is said in the control
 * segment, not here.
 *
 * A process that dies between a grant and supply_accept() leaves arenas that are GRANTED to its session: the daemon
 * finds them in the arena table, so nothing here needs to be written down.
 */
#include "client/connection.h"
#include "heap/change/lock.h"
#include "heap/change/supply.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SOCKET_ROOT    "/run/pyheap/pyheap.sock"
#define SOCKET_USER    "pyheap.sock" /* in $XDG_RUNTIME_DIR */
#define TIMEOUT_MS     10000         /* unless pyheap_set_timeout() says otherwise */
#define BACKOFF_MAX_MS 100
#define N_RUNS_MAX     16U /* the round trip is paid rarely, and 4 MiB are not asked for lightly */
#define PROGRAM_BYTES  63

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
	int r = frame_send(connection->fd, &message->base, NULL, 0, connection->timeout_ms);

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

/*
 * Move a descriptor out of the place of stdin, stdout or stderr, where a process that closed these gets it: what it
 * still prints must not go into the socket, let alone the heap. Returns the descriptor, or a negative errno with it
 * closed.
 */
static int fd_above_stdio(int fd)
{
	int above, r;

	if (fd > STDERR_FILENO)
		return fd;
	above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	r = above < 0 ? -errno : above;
	close(fd);
	return r;
}

/* A daemon that is stopped does not accept: connect() then waits for room in its backlog, for as long as sends may. */
static int connection_connect(struct connection *connection)
{
	int64_t timeout_ms = connection->timeout_ms;
	struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
	int r;

	connection->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connection->fd < 0)
		return -errno;
	connection->fd = fd_above_stdio(connection->fd);
	if (connection->fd < 0)
		return connection->fd;
	if (timeout_ms == 0)
		timeout.tv_usec = 1; /* 0 would be for ever */
	if (timeout_ms >= 0 && setsockopt(connection->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0)
		return -errno;
	do {
		r = connect(connection->fd, (struct sockaddr *)&connection->address, sizeof(connection->address));
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return 0;
}

/* `before`: what the session to be resumed was given; NULL: a new one. */
static int connection_hello(struct connection *connection, const struct admission *before, bool has_lock)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__Hello hello = PYHEAP__HELLO__INIT;
	char program[PROGRAM_BYTES + 1];

	snprintf(program, sizeof(program), "%s", program_invocation_short_name);
	hello.protocol = PROTO_VERSION;
	hello.layout_hash = layout_hash();
	hello.program = program;
	if (before) {
		hello.resume_session = before->session;
		hello.has_lock = has_lock;
		hello.resume_token = (ProtobufCBinaryData){TOKEN_SIZE, (uint8_t *)(uintptr_t)before->token};
	}
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
	connection->buffer.n_fds = 0;
	ret->control_fd = fd_above_stdio(connection->buffer.fds[0]);
	ret->heap_fd = fd_above_stdio(connection->buffer.fds[1]);
	if (ret->control_fd >= 0 && ret->heap_fd >= 0)
		return 0;
	if (ret->control_fd >= 0)
		close(ret->control_fd);
	if (ret->heap_fd >= 0)
		close(ret->heap_fd);
	return -EMFILE;
}

static int connection_welcome(struct connection *connection, struct admission *ret)
{
	Pyheap__FromDaemon *message;
	int r;

	r = connection_receive(connection, connection->timeout_ms, &message);
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

/* A daemon that refuses may do so before it reads the Hello: then its Error is there all the same. */
static int connection_admit(
	struct connection *connection, const struct admission *before, bool has_lock, struct admission *ret)
{
	int r;

	r = connection_connect(connection);
	if (r == 0)
		r = connection_hello(connection, before, has_lock);
	if (r < 0 && r != -ECONNRESET)
		return r;
	connection->broken = false;
	return connection_welcome(connection, ret);
}

int connection_open(struct connection *connection, const char *socket, struct admission *ret)
{
	int r;

	*connection = (struct connection){.fd = -1, .n_runs = 1, .timeout_ms = TIMEOUT_MS};
	r = connection_address(socket, &connection->address);
	if (r < 0)
		return r;
	r = connection_admit(connection, NULL, false, ret);
	if (r == 0)
		connection->admission = *ret;
	return r;
}

/* ---- a daemon's successor ---------------------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static bool is_same(const struct admission *a, const struct admission *b)
{
	return a->session == b->session && memcmp(a->heap_id, b->heap_id, HEAP_ID_SIZE) == 0;
}

/* One try. The mapping is there already, so what came with the Welcome is closed again. */
static int resume_once(struct connection *connection, bool has_lock)
{
	struct connection next = {.fd = -1, .address = connection->address, .timeout_ms = connection->timeout_ms};
	struct admission admission;
	int r;

	r = connection_admit(&next, &connection->admission, has_lock, &admission);
	if (r == 0) {
		close(admission.control_fd);
		close(admission.heap_fd);
		r = is_same(&admission, &connection->admission) ? 0 : -ESTALE;
	}
	if (r == 0 && dup3(next.fd, connection->fd, O_CLOEXEC) < 0)
		r = -errno;
	connection_deinit(&next);
	if (r < 0)
		return r;
	frame_buffer_deinit(&connection->buffer);
	connection->awaits_grant = false;
	connection->broken = false;
	return 0;
}

/* Is it worth while to try again? There is nobody yet, or he has just gone. */
static bool may_come(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -ECONNRESET || error == -ETIMEDOUT;
}

int connection_resume(struct connection *connection, bool has_lock)
{
	int64_t end = connection->timeout_ms < 0 ? INT64_MAX : now_ms() + connection->timeout_ms;
	int64_t pause_ms = 1;
	int r;

	if (connection->lost)
		return -ECONNRESET;
	for (;;) {
		r = resume_once(connection, has_lock);
		if (r == 0)
			return 0;
		connection->lost = !may_come(r);
		if (connection->lost || has_lock || now_ms() + pause_ms > end)
			return -ECONNRESET;
		poll(NULL, 0, (int)pause_ms);
		if (pause_ms < BACKOFF_MAX_MS)
			pause_ms *= 2;
	}
}

int connection_look(struct connection *connection)
{
	struct pollfd pollfd = {.fd = connection->fd, .events = POLLIN};
	Pyheap__FromDaemon *message;

	/* While an answer is awaited what can be read is that, or a part of it. */
	while (!connection->broken && !connection->awaits_grant && poll(&pollfd, 1, 0) > 0) {
		if (connection_receive(connection, 0, &message) < 0)
			break;
		pyheap__from_daemon__free_unpacked(message, NULL); /* it says nothing else unasked */
	}
	return connection->broken ? -ECONNRESET : 0;
}

/* ---- arenas ----------------------------------------------------------------------------------------------------- */

/*
 * Whole arenas for one large object are counted exactly, and records need few; for pools of objects, the more a session
 * needs the more it asks for.
 */
static int grow_send(struct connection *connection, const struct session *session)
{
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

static int grow_take(struct session *session, const Pyheap__FromDaemon *message)
{
	const Pyheap__Grant *grant = message->grant;

	if (message->body_case == PYHEAP__FROM_DAEMON__BODY_ERROR)
		return error_code(message->error);
	if (message->body_case != PYHEAP__FROM_DAEMON__BODY_GRANT || grant->n_heads == 0)
		return -EPROTO;
	for (size_t i = 0; i < grant->n_heads; i++) {
		int r = supply_accept(session, grant->heads[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static int grow_receive(struct connection *connection, struct session *session)
{
	/* The daemon allocates and clears what it grants: a millisecond an arena is ten times what that takes. */
	int64_t timeout_ms =
		connection->timeout_ms < 0 ? -1 : connection->timeout_ms + (int64_t)session->n_wanted_arenas;
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

static int grow_once(struct connection *connection, struct session *session)
{
	int r;

	if (connection->awaits_grant) {
		r = grow_receive(connection, session);
		if (r != -ENOMEM) /* that was how things stood then */
			return r;
	}
	r = grow_send(connection, session);
	return r < 0 ? r : grow_receive(connection, session);
}

int connection_grow(struct connection *connection, struct session *session)
{
	int r = -ECONNRESET;

	if (!connection->broken)
		r = grow_once(connection, session);
	/* Who has the global lock lets everybody wait, so he does not. */
	while (r == -ECONNRESET) {
		r = connection_resume(connection, session->has_lock);
		if (r < 0)
			return r;
		r = grow_once(connection, session);
	}
	return r;
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
