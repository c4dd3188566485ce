// SPDX-License-Identifier: MIT
/*
 * Connections
 *
 * A request costs its sender. A connection is read once in a turn of the loop, and hands one message to its handlers.
 * Other messages that were read with it are taken one by one, as an item of work; and none while a request of the
 * connection is being worked on. Until they are taken, nothing more is read. So a peer that sends much fills its
 * socket, and has no more turns than others. The daemon waits for no peer: what a peer does not read is kept for it, up
 * to a limit; then the connection is closed.
 *
 *            Hello                    Welcome was sent
 *   NEW ------------------> WAITING ------------------> SERVED
 *    |                         |                          |
 *    +-------------------------+--------------------------+--> CLOSING ----> freed, by the timer
 *
 * A peer whose connection fails gets an Error with the reason, but may itself be sending at that moment, and would get
 * EPIPE before it reads the reason. So only the daemon's direction ends then (shutdown()), and what still comes is
 * thrown away until the peer closes, too, or for CLOSING_S seconds. That is a courtesy, for CLOSING_MAX connections at
 * a time.
 *
 * A connection is freed by its own timer, from the event loop and nowhere below it, so that no function here or behind
 * a message has to ask after each call whether the connection is still there. Until then it is CLOSING, and inert.
 *
 * A connection knows the number of its session and nothing else about sessions. `ended` is called exactly once for a
 * connection that has a session (session1). A session that is given another connection takes its number from the old
 * one before it closes that: then the end of the old one says nothing about the session.
 */
#include "daemon/connection.h"

#include "daemon/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HELLO_S     10
#define CLOSING_S   5
#define CLOSING_MAX 64U

static void on_readable(evutil_socket_t fd, short events, void *userdata)
{
	(void)fd;
	(void)events;
	connection_read(userdata);
}

static void on_writable(evutil_socket_t fd, short events, void *userdata)
{
	(void)fd;
	(void)events;
	connection_write(userdata);
}

static void on_timer(evutil_socket_t fd, short events, void *userdata)
{
	(void)fd;
	(void)events;
	connection_expire(userdata);
}

static int step_of_item(void *owner)
{
	return connection_step(owner);
}

static void set_timer(struct connection *connection, int seconds)
{
	struct timeval after = {.tv_sec = seconds};

	evtimer_add(connection->timer, &after);
}

const char *connection_name(const struct connection *connection)
{
	static char name[128];
	const char *program = connection->program[0] ? connection->program : "not named";

	if (connection->session1)
		snprintf(name, sizeof(name), "session %u (pid %d, %s)", connection->session1 - 1,
			(int)connection->process.pid, program);
	else
		snprintf(name, sizeof(name), "connection (pid %d, uid %u)", (int)connection->process.pid,
			connection->process.uid);
	return name;
}

void connection_set_program(struct connection *connection, const char *program)
{
	snprintf(connection->program, sizeof(connection->program), "%s", program);
	for (char *p = connection->program; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
}

/* ---- coming and going ------------------------------------------------------------------------------------------ */

void connections_init(struct connections *all, struct event_base *base, struct work *work, struct users *users,
	const struct connection_handlers *handlers, void *owner)
{
	*all = (struct connections){.base = base, .work = work, .users = users, .handlers = handlers, .owner = owner};
	TAILQ_INIT(&all->list);
}

void connections_deinit(struct connections *all)
{
	struct connection *connection, *next;

	for (connection = TAILQ_FIRST(&all->list); connection; connection = next) {
		next = TAILQ_NEXT(connection, entry);
		connection_free(connection);
	}
}

static int open_events(struct connection *connection)
{
	struct event_base *base = connection->all->base;
	int fd = connection->stream.fd;

	connection->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, connection);
	connection->writable = event_new(base, fd, EV_WRITE, on_writable, connection);
	connection->timer = evtimer_new(base, on_timer, connection);
	if (!connection->readable || !connection->writable || !connection->timer)
		return -ENOMEM;
	event_add(connection->readable, NULL);
	set_timer(connection, HELLO_S);
	return 0;
}

static int enter_account(struct connection *connection)
{
	connection->user = user_ref(connection->all->users, connection->process.uid);
	if (!connection->user)
		return -ENOMEM;
	connection->user->n_connections++;
	return 0;
}

/* It does not count any more. */
static void leave_account(struct connection *connection)
{
	if (!connection->user)
		return;
	connection->user->n_connections--;
	connection->user = user_unref(connection->user);
}

int connection_new(struct connections *all, int fd)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	int r;

	if (!connection) {
		close(fd);
		return -ENOMEM;
	}
	connection->all = all;
	connection->process.pidfd = -1;
	connection->work_item = (struct work_item){.step = step_of_item, .owner = connection};
	stream_init(&connection->stream, fd);
	TAILQ_INSERT_TAIL(&all->list, connection, entry);
	all->n_open++;
	r = process_of_socket(&connection->process, fd);
	if (r == 0)
		r = enter_account(connection);
	if (r == 0)
		r = open_events(connection);
	if (r < 0) {
		connection_free(connection);
		return r;
	}
	all->handlers->opened(all->owner, connection);
	return 0;
}

/* Its session, if it has one, hears of its end once. */
static void leave_session(struct connection *connection)
{
	struct connections *all = connection->all;

	if (connection->session1)
		all->handlers->ended(all->owner, connection);
	connection->session1 = 0;
}

void connection_free(struct connection *connection)
{
	struct connections *all = connection->all;

	leave_session(connection);
	leave_account(connection);
	TAILQ_REMOVE(&all->list, connection, entry);
	work_remove(all->work, &connection->work_item);
	*(connection->state == CONNECTION_CLOSING ? &all->n_closing : &all->n_open) -= 1;
	if (connection->readable)
		event_free(connection->readable);
	if (connection->writable)
		event_free(connection->writable);
	if (connection->timer)
		event_free(connection->timer);
	process_deinit(&connection->process);
	stream_deinit(&connection->stream);
	free(connection);
}

/* From here on the connection is inert; it is freed after that many seconds. */
static void begin_closing(struct connection *connection, int seconds)
{
	connection->state = CONNECTION_CLOSING;
	connection->all->n_open--;
	connection->all->n_closing++;
	leave_session(connection);
	leave_account(connection);
	set_timer(connection, seconds);
}

void connection_close(struct connection *connection)
{
	if (connection->state == CONNECTION_CLOSING)
		return;
	event_del(connection->readable);
	begin_closing(connection, stream_has_output(&connection->stream) ? CLOSING_S : 0);
}

int connection_expire(struct connection *connection)
{
	if (connection->state == CONNECTION_CLOSING) {
		connection_free(connection);
		return 0;
	}
	connection_fail(connection, ETIMEDOUT, "%s within %d seconds",
		connection->state == CONNECTION_NEW ? "did not say Hello" : "could not be served", HELLO_S);
	return -ETIMEDOUT;
}

/* ---- sending --------------------------------------------------------------------------------------------------- */

/* Nothing more can be sent. */
static void break_off(struct connection *connection)
{
	stream_drop_output(&connection->stream);
	connection_close(connection);
	event_del(connection->readable);
	set_timer(connection, 0);
}

/* All that a closing connection had to send is gone. */
static void end_output(struct connection *connection)
{
	if (event_pending(connection->readable, EV_READ, NULL))
		shutdown(connection->stream.fd, SHUT_WR); /* it failed, and its peer may still be sending */
	else
		set_timer(connection, 0);
}

int connection_write(struct connection *connection)
{
	int r = stream_flush(&connection->stream);

	if (r == -EAGAIN) {
		event_add(connection->writable, NULL);
		return 0;
	}
	if (r < 0)
		break_off(connection);
	else if (connection->state == CONNECTION_CLOSING)
		end_output(connection);
	return r;
}

void connection_send(struct connection *connection, const Pyheap__FromDaemon *message, const int *fds, size_t n_fds)
{
	int r;

	if (connection->state == CONNECTION_CLOSING)
		return;
	r = stream_add(&connection->stream, message, fds, n_fds);
	if (r < 0) {
		log_warning("%s is disconnected: %s", connection_name(connection),
			r == -ENOBUFS ? "it does not read its answers" : strerror(-r));
		break_off(connection);
		return;
	}
	connection_write(connection);
}

void connection_refuse(struct connection *connection, int code, const char *text)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Error error = PYHEAP__ERROR__INIT;

	error.code = code;
	error.text = (char *)text;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_ERROR;
	message.error = &error;
	connection_send(connection, &message, NULL, 0);
}

/* Send the Error, and leave its client some time to read it. */
static void fail(struct connection *connection, int code, const char *text)
{
	if (connection->all->n_closing >= CLOSING_MAX) {
		connection_refuse(connection, code, text);
		connection_close(connection);
		return;
	}
	event_add(connection->readable, NULL);
	connection_refuse(connection, code, text);
	if (connection->state == CONNECTION_CLOSING)
		return;                        /* its Error could not be sent */
	event_add(connection->readable, NULL); /* so that what still comes is thrown away */
	begin_closing(connection, CLOSING_S);
	if (!stream_has_output(&connection->stream))
		end_output(connection);
}

void connection_fail(struct connection *connection, int code, const char *format, ...)
{
	char text[256];
	va_list arguments;

	if (connection->state == CONNECTION_CLOSING)
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	log_warning("%s is disconnected: %s", connection_name(connection), text);
	fail(connection, code, text);
}

void connection_fail_by_limit(struct connection *connection, int code, const char *format, ...)
{
	char text[256];
	va_list arguments;

	if (connection->state == CONNECTION_CLOSING)
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (user_note_limit(connection->user))
		log_warning("%s is disconnected: %s", connection_name(connection), text);
	else
		log_debug("%s is disconnected: %s", connection_name(connection), text);
	fail(connection, code, text);
}

/* ---- receiving ------------------------------------------------------------------------------------------------- */

static bool takes_messages(const struct connection *connection)
{
	return !connection->is_busy && (connection->state == CONNECTION_NEW || connection->state == CONNECTION_SERVED);
}

/* Hand over the next whole message, if there is one: 1 there was, 0 there is none yet. */
static int take_message(struct connection *connection)
{
	struct connections *all = connection->all;
	Pyheap__ToDaemon *message;
	int r = stream_next(&connection->stream, &message);

	if (r > 0) {
		all->handlers->received(all->owner, connection, message);
		pyheap__to_daemon__free_unpacked(message, NULL);
	} else if (r == -EMSGSIZE) {
		connection_fail(connection, EMSGSIZE, "sent a frame of more than %u bytes", FRAME_MAX);
	} else if (r < 0) {
		connection_fail(connection, EBADMSG, "sent a malformed message");
	}
	return r;
}

/* See to it that what comes next is taken: what was read already in turns with others, then what is in the socket. */
static void await_messages(struct connection *connection)
{
	if (connection->state == CONNECTION_CLOSING)
		return;
	if (!takes_messages(connection)) {
		event_del(connection->readable);
	} else if (stream_has_input(&connection->stream)) {
		event_del(connection->readable);
		work_add(connection->all->work, &connection->work_item);
	} else {
		event_add(connection->readable, NULL);
	}
}

int connection_step(struct connection *connection)
{
	int r = takes_messages(connection) ? take_message(connection) : 0;

	if (!takes_messages(connection))
		return 0;
	if (r > 0 && stream_has_input(&connection->stream))
		return 1;
	event_add(connection->readable, NULL); /* there is a part of a frame at most */
	return 0;
}

static int discard(struct connection *connection)
{
	int r = stream_discard(&connection->stream);

	if (r < 0) {
		event_del(connection->readable);
		set_timer(connection, 0);
	}
	return r;
}

static int receive(struct connection *connection)
{
	int r = stream_read(&connection->stream);

	if (r == -EAGAIN || r == -EINTR)
		return 0;
	if (r == -ECONNRESET && stream_has_input(&connection->stream))
		connection_fail(connection, EBADMSG, "ended in the middle of a frame");
	else if (r < 0)
		connection_close(connection);
	if (r < 0)
		return r;
	r = take_message(connection);
	if (r > 0)
		await_messages(connection);
	return r < 0 ? r : 0;
}

int connection_read(struct connection *connection)
{
	if (connection->state == CONNECTION_CLOSING)
		return discard(connection);
	if (takes_messages(connection) && !connection->work_item.is_queued)
		return receive(connection);
	event_del(connection->readable);
	return 0;
}

void connection_wait(struct connection *connection)
{
	connection->state = CONNECTION_WAITING;
}

void connection_serve(struct connection *connection)
{
	if (connection->state == CONNECTION_CLOSING)
		return;
	connection->state = CONNECTION_SERVED;
	evtimer_del(connection->timer);
	await_messages(connection);
}

void connection_begin_request(struct connection *connection)
{
	connection->is_busy = true;
}

void connection_end_request(struct connection *connection)
{
	connection->is_busy = false;
	await_messages(connection);
}
