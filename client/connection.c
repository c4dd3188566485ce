// SPDX-License-Identifier: MIT
/*
 * The connection of a session with its daemon
 *
 * A session says Hello once, asks for arenas when the heap has no room (grant.c), and says Goodbye. It has one request
 * open at a time.
 *
 * When the stream ends, or the daemon says Goodbye, the connection is marked broken. Its descriptor stays open, because
 * the application may have it in a poll set, and every call that needs no fresh memory goes on working. The next call
 * that needs the daemon looks for the daemon's successor, with pauses that double up to BACKOFF_MAX_MS, and shows it
 * the session's token. The new socket gets the old descriptor's number. Whether the heap was removed together with the
 * daemon is said in the control segment, not here. What may pass (no descriptors left, no session free, a socket whose
 * rights are not set yet) is tried again, and has its own errno where the time is over. Only what cannot pass is final:
 * a daemon of another version, another heap, a session that the daemon does not know.
 *
 * Each public call has one deadline for all that it does over the socket, whatever signals come meanwhile.
 *
 * A program may close descriptors that it does not know, and open others that get their numbers. So the socket is known
 * by its device and inode, which are compared before anything is done with the number. A number that is another file's
 * is left alone, and the session gets a new one.
 *
 * Each message is sent and received whole within the time-out, or the stream is given up: after half a message nothing
 * else can be said over it. Only a receive that runs into its time-out leaves the connection whole, since the bytes
 * that came so far stay in the buffer.
 */
#include "client/connection.h"

#include "client/address.h"
#include "client/process.h"
#include "client/why.h"
#include "heap/shared/heap.h"
#include "version.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_MS         10000 /* unless pyheap_set_timeout() says otherwise */
#define BACKOFF_MAX_MS     100
#define BACKOFF_REFUSED_MS 500 /* where a daemon answered: it logs each try */
#define GOODBYE_MS         1000
#define PROGRAM_BYTES      63

/* The time of a call */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void connection_begin(struct connection *connection)
{
	connection->deadline_ms = connection->timeout_ms < 0 ? INT64_MAX : now_ms() + connection->timeout_ms;
}

int connection_left(const struct connection *connection, uint32_t more_ms)
{
	int64_t left;

	if (connection->deadline_ms == INT64_MAX)
		return -1;
	left = connection->deadline_ms - now_ms();
	left = (left > 0 ? left : 0) + more_ms;
	return left < INT_MAX ? (int)left : INT_MAX;
}

/* The descriptor */

static bool connection_owns_fd(const struct connection *connection)
{
	struct stat st;

	return connection->fd >= 0 && fstat(connection->fd, &st) == 0 && st.st_dev == connection->device &&
	       st.st_ino == connection->inode;
}

/* Messages */

/* Give the stream up. Returns the error that a call of the session has for it. */
static int connection_fail(struct connection *connection, int error)
{
	connection->broken = true;
	if (error == -EPIPE || error == -ECONNRESET || error == -ENOTCONN)
		return -ECONNRESET;
	return error == -EBADMSG || error == -EMSGSIZE ? -EPROTO : error;
}

int connection_send(struct connection *connection, const Pyheap__ToDaemon *message)
{
	int r = -ECONNRESET;

	if (connection_owns_fd(connection))
		r = frame_send(connection->fd, &message->base, NULL, 0, connection_left(connection, 0));
	return r < 0 ? connection_fail(connection, r) : 0;
}

int connection_receive(struct connection *connection, int timeout_ms, Pyheap__FromDaemon **ret)
{
	Pyheap__FromDaemon *message;
	int r;

	if (!connection_owns_fd(connection))
		return connection_fail(connection, -ECONNRESET);
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

int connection_error(const Pyheap__Error *error)
{
	return error->code > 0 && error->code < 4096 ? -error->code : -EPROTO;
}

/* Opening */

/*
 * A process that closed stdin, stdout or stderr gets these numbers for its next descriptors. What it still prints must
 * not go into the socket or the heap, so such a descriptor is moved up. Returns it, or a negative errno: then it is
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

static int connection_socket(struct connection *connection)
{
	struct stat st;

	connection->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connection->fd < 0)
		return -errno;
	connection->fd = fd_above_stdio(connection->fd);
	if (connection->fd < 0)
		return connection->fd;
	if (fstat(connection->fd, &st) < 0)
		return -errno;
	connection->device = st.st_dev;
	connection->inode = st.st_ino;
	return 0;
}

/*
 * A stopped daemon accepts no connection. connect() then waits for room in its backlog, as long as SO_SNDTIMEO says:
 * that begins anew after each signal, and so is set to what is left.
 */
static int connection_connect(struct connection *connection)
{
	int r = connection_socket(connection);

	if (r < 0)
		return r;
	do {
		int left = connection_left(connection, 0);
		struct timeval timeout = {.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};

		if (left == 0)
			timeout.tv_usec = 1; /* 0 means for ever here */
		if (left >= 0 && setsockopt(connection->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0)
			return -errno;
		r = connect(connection->fd, (struct sockaddr *)&connection->address, sizeof(connection->address));
		if (r < 0 && errno == EINTR && left == 0)
			return -ETIMEDOUT;
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return address_check_server(connection->fd, &connection->address);
}

/* `before` is the admission of the session to resume; NULL asks for a new session. */
static int connection_hello(struct connection *connection, const struct admission *before, bool has_lock)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__Hello hello = PYHEAP__HELLO__INIT;
	char program[PROGRAM_BYTES + 1];

	snprintf(program, sizeof(program), "%s", program_invocation_short_name);
	hello.protocol = PROTO_VERSION;
	hello.layout_hash = layout_hash();
	hello.program = program;
	hello.image = process_image();
	if (before) {
		hello.resume_session = before->session;
		hello.has_lock = has_lock;
		hello.resume_token = (ProtobufCBinaryData){TOKEN_SIZE, (uint8_t *)(uintptr_t)before->token};
	}
	message.body_case = PYHEAP__TO_DAEMON__BODY_HELLO;
	message.hello = &hello;
	return connection_send(connection, &message);
}

/* Check the Welcome, then take its two descriptors out of the buffer. */
static int admission_take(struct connection *connection, const Pyheap__Welcome *welcome, struct admission *ret)
{
	if (welcome->protocol != PROTO_VERSION || welcome->layout_hash != layout_hash()) {
		why_set("the daemon is pyheapd %s with protocol %u%s, this library is pyheap %s with protocol %u",
			*welcome->version ? welcome->version : "of an unknown version", welcome->protocol,
			welcome->protocol == PROTO_VERSION ? " and another layout of the heap" : "", PYHEAP_VERSION,
			PROTO_VERSION);
		return -EPROTO;
	}
	if (welcome->heap_id.len != HEAP_ID_SIZE || welcome->token.len != TOKEN_SIZE || connection->buffer.n_fds != 2)
		return -EPROTO;
	ret->session = welcome->session;
	ret->heap_size = welcome->heap_size;
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

static int admission_refused(const Pyheap__Error *error)
{
	why_set("the daemon says: %s (this library is pyheap %s with protocol %u)", error->text, PYHEAP_VERSION,
		PROTO_VERSION);
	return connection_error(error);
}

static int connection_welcome(struct connection *connection, struct admission *ret)
{
	Pyheap__FromDaemon *message;
	int r;

	r = connection_receive(connection, connection_left(connection, 0), &message);
	if (r < 0)
		return r;
	if (message->body_case == PYHEAP__FROM_DAEMON__BODY_WELCOME)
		r = admission_take(connection, message->welcome, ret);
	else if (message->body_case == PYHEAP__FROM_DAEMON__BODY_ERROR)
		r = admission_refused(message->error);
	else
		r = -EPROTO;
	pyheap__from_daemon__free_unpacked(message, NULL);
	return r;
}

/* A daemon may refuse before it reads the Hello. Sending that fails then, and the daemon's Error can still be read. */
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
	connection_begin(connection);
	r = address_find(socket, &connection->address);
	if (r < 0)
		return r;
	r = connection_admit(connection, NULL, false, ret);
	if (r == 0)
		connection->admission = *ret;
	return r;
}

/* Without a session, so that it works where none can be had. */
static int reset_ask(struct connection *connection, bool with_sessions)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__ResetRequest request = PYHEAP__RESET_REQUEST__INIT;
	Pyheap__FromDaemon *answer;
	int r;

	request.with_sessions = with_sessions;
	message.body_case = PYHEAP__TO_DAEMON__BODY_RESET_REQUEST;
	message.reset_request = &request;
	r = connection_send(connection, &message);
	if (r < 0 && r != -ECONNRESET) /* as connection_admit() */
		return r;
	connection->broken = false;
	r = connection_receive(connection, connection_left(connection, 0), &answer);
	if (r < 0)
		return r;
	if (answer->body_case == PYHEAP__FROM_DAEMON__BODY_RESET_DONE)
		r = (int)(answer->reset_done->n_sessions & INT_MAX);
	else if (answer->body_case == PYHEAP__FROM_DAEMON__BODY_ERROR)
		r = admission_refused(answer->error);
	else
		r = -EPROTO;
	pyheap__from_daemon__free_unpacked(answer, NULL);
	return r;
}

int connection_reset(const char *socket, bool with_sessions)
{
	struct connection connection = {.fd = -1, .timeout_ms = TIMEOUT_MS};
	int r;

	connection_begin(&connection);
	r = address_find(socket, &connection.address);
	if (r == 0)
		r = connection_connect(&connection);
	if (r == 0)
		r = reset_ask(&connection, with_sessions);
	connection_deinit(&connection);
	return r;
}

/* The daemon's successor */

static bool is_same(const struct admission *a, const struct admission *b)
{
	return a->session == b->session && memcmp(a->heap_id, b->heap_id, HEAP_ID_SIZE) == 0;
}

/*
 * The connection takes over the socket of `next`, under its own number. Where the number is another file's by now, it
 * gets another one.
 */
static int connection_replace(struct connection *connection, struct connection *next)
{
	int fd = next->fd;

	if (connection_owns_fd(connection))
		fd = dup3(next->fd, connection->fd, O_CLOEXEC);
	else if (next->fd == connection->fd) /* it was free, and the next socket was given it */
		next->fd = -1;
	else
		fd = fcntl(next->fd, F_DUPFD_CLOEXEC, connection->fd); /* that number, if it is free */
	if (fd < 0)
		return -errno;
	connection->fd = fd;
	connection->device = next->device;
	connection->inode = next->inode;
	frame_buffer_deinit(&connection->buffer);
	connection->awaits_grant = false;
	connection->broken = false;
	return 0;
}

/* One try. The heap is mapped already, so the descriptors of the Welcome are closed. */
static int resume_once(struct connection *connection, bool has_lock)
{
	struct connection next = {
		.fd = -1,
		.address = connection->address,
		.timeout_ms = connection->timeout_ms,
		.deadline_ms = connection->deadline_ms,
	};
	struct admission admission;
	int r;

	r = connection_admit(&next, &connection->admission, has_lock, &admission);
	if (r == 0) {
		close(admission.control_fd);
		close(admission.heap_fd);
		r = is_same(&admission, &connection->admission) ? connection_replace(connection, &next) : -ESTALE;
	}
	connection_deinit(&next);
	return r;
}

/* Is no daemon there, or not yet? */
static bool is_away(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -ECONNRESET || error == -ETIMEDOUT;
}

/* Is it another daemon than the session's, and will stay that? */
static bool is_final(int error)
{
	return error == -ESTALE || error == -EPROTO;
}

int connection_resume(struct connection *connection, bool has_lock)
{
	int64_t pause_ms = 1;
	int r;

	if (connection->lost)
		return connection->lost;
	for (;;) {
		r = resume_once(connection, has_lock);
		if (r == 0)
			return 0;
		if (is_final(r))
			return connection->lost = r == -ESTALE ? -ECONNRESET : r;
		if (has_lock || connection->deadline_ms - now_ms() < pause_ms)
			return is_away(r) ? -ECONNRESET : r;
		poll(NULL, 0, (int)pause_ms);
		if (pause_ms < (is_away(r) ? BACKOFF_MAX_MS : BACKOFF_REFUSED_MS))
			pause_ms *= 2;
	}
}

int connection_poll(struct connection *connection)
{
	struct pollfd pollfd = {.fd = connection->fd, .events = POLLIN};
	Pyheap__FromDaemon *message;

	/* While a grant is awaited, what can be read belongs to it. */
	if (!connection_owns_fd(connection))
		connection->broken = true;
	while (!connection->broken && !connection->awaits_grant && poll(&pollfd, 1, 0) > 0) {
		if (connection_receive(connection, 0, &message) < 0)
			break;
		pyheap__from_daemon__free_unpacked(message, NULL); /* unasked, a daemon says nothing but Goodbye */
	}
	return connection->broken ? -ECONNRESET : 0;
}

/* Closing */

static int goodbye_send(struct connection *connection)
{
	Pyheap__ToDaemon message = PYHEAP__TO_DAEMON__INIT;
	Pyheap__Goodbye goodbye = PYHEAP__GOODBYE__INIT;

	if (connection->broken || !connection_owns_fd(connection))
		return -ECONNRESET;
	message.body_case = PYHEAP__TO_DAEMON__BODY_GOODBYE;
	message.goodbye = &goodbye;
	return frame_send(connection->fd, &message.base, NULL, 0, 0);
}

void connection_goodbye(struct connection *connection)
{
	int64_t end = now_ms() + GOODBYE_MS;

	if (goodbye_send(connection) >= 0)
		return;
	/*
	 * A daemon that has the session without a connection does not look at its entry. One that is asked to resume it
	 * does, and ends it.
	 */
	connection_begin(connection);
	if (connection->deadline_ms > end)
		connection->deadline_ms = end;
	resume_once(connection, false);
}

void connection_deinit(struct connection *connection)
{
	frame_buffer_deinit(&connection->buffer);
	if (connection_owns_fd(connection))
		close(connection->fd);
	connection->fd = -1;
}
