// SPDX-License-Identifier: MIT
/*
 * Connections
 *
 * Bytes are read as they come and cut into frames; each whole frame is one message, handled before the next.
 * Descriptors that a client sends are never received: a plain read() makes the kernel drop them.
 *
 * Nobody waits for a client. What it does not read is kept for it, up to OUT_MAX bytes; then it is closed.
 *
 * A client that is told why it is closed may be just sending, and would get EPIPE before it reads the reason. So only
 * our direction ends then (shutdown()), and what still comes is thrown away until the client closes, too, or for
 * CLOSING_S seconds. That is a courtesy, for CLOSING_MAX connections at a time.
 *
 * A connection is freed by its own timer, from the event loop and nowhere below it, so that no function here or behind
 * a message has to ask after each call whether the client is still there. Until then it is CLIENT_CLOSING, and inert.
 *
 * The end of a connection does not end its session: see member.c.
 */
#include "daemon/client.h"

#include "daemon/admit.h"
#include "daemon/daemon.h"
#include "daemon/grant.h"
#include "daemon/log.h"
#include "daemon/stats.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define OUT_MAX     ((size_t)256 << 10)
#define IN_MIN      ((size_t)1024)
#define HELLO_S     10
#define CLOSING_S   5
#define CLOSING_MAX 64U

static void on_readable(evutil_socket_t fd, short events, void *userdata);
static void on_writable(evutil_socket_t fd, short events, void *userdata);
static void on_timer(evutil_socket_t fd, short events, void *userdata);

static void set_timer(struct client *client, int seconds)
{
	struct timeval after = {.tv_sec = seconds};

	evtimer_add(client->timer, &after);
}

const char *client_name(const struct client *client)
{
	static char name[128];
	const char *program = client->program[0] ? client->program : "not named";

	if (client->member)
		snprintf(name, sizeof(name), "session %u (pid %d, %s)", client->member->index, (int)client->process.pid,
			program);
	else
		snprintf(name, sizeof(name), "client (pid %d, uid %u)", (int)client->process.pid, client->process.uid);
	return name;
}

/* ---- coming and going ------------------------------------------------------------------------------------------ */

int client_new(struct daemon *daemon, int fd)
{
	struct client *client = calloc(1, sizeof(*client));
	int r;

	if (!client) {
		close(fd);
		return -ENOMEM;
	}
	*client = (struct client){.daemon = daemon, .fd = fd, .process = {.pidfd = -1}};
	TAILQ_INSERT_TAIL(&daemon->clients, client, entry);
	daemon->n_clients++;
	r = process_of_socket(&client->process, fd);
	if (r < 0)
		goto fail;
	client->readable = event_new(daemon->base, fd, EV_READ | EV_PERSIST, on_readable, client);
	client->writable = event_new(daemon->base, fd, EV_WRITE, on_writable, client);
	client->timer = evtimer_new(daemon->base, on_timer, client);
	if (!client->readable || !client->writable || !client->timer) {
		r = -ENOMEM;
		goto fail;
	}
	event_add(client->readable, NULL);
	set_timer(client, HELLO_S);
	admit_connection(client);
	return 0;
fail:
	client_free(client);
	return r;
}

static void leave_member(struct client *client)
{
	struct member *member = client->member;

	client->member = NULL;
	if (!member)
		return;
	member->client = NULL;
	member_check_closed(member);
}

void client_free(struct client *client)
{
	struct daemon *daemon = client->daemon;

	leave_member(client);
	TAILQ_REMOVE(&daemon->clients, client, entry);
	*(client->state == CLIENT_CLOSING ? &daemon->n_closing : &daemon->n_clients) -= 1;
	if (client->readable)
		event_free(client->readable);
	if (client->writable)
		event_free(client->writable);
	if (client->timer)
		event_free(client->timer);
	process_deinit(&client->process);
	close(client->fd);
	free(client->in);
	free(client->out);
	free(client);
}

/* From here on the client is inert, and is freed after so many seconds. */
static void begin_closing(struct client *client, int seconds)
{
	client->state = CLIENT_CLOSING;
	client->daemon->n_clients--;
	client->daemon->n_closing++;
	leave_member(client);
	set_timer(client, seconds);
}

void client_close(struct client *client)
{
	if (client->state == CLIENT_CLOSING)
		return;
	event_del(client->readable);
	begin_closing(client, client->n_out > client->n_sent ? CLOSING_S : 0);
}

static void on_timer(evutil_socket_t fd, short events, void *userdata)
{
	struct client *client = userdata;

	(void)fd;
	(void)events;
	if (client->state == CLIENT_CLOSING)
		client_free(client);
	else
		client_fail(client, ETIMEDOUT, "%s within %d seconds",
			client->state == CLIENT_NEW ? "did not say Hello" : "could not be served", HELLO_S);
}

/* ---- sending --------------------------------------------------------------------------------------------------- */

/* Nothing more can be sent. */
static void out_broken(struct client *client)
{
	client->n_out = client->n_sent = 0;
	client->n_out_fds = 0;
	client_close(client);
	event_del(client->readable);
	set_timer(client, 0);
}

/* All that a closing client is to be told has gone. */
static void out_end(struct client *client)
{
	if (event_pending(client->readable, EV_READ, NULL))
		shutdown(client->fd, SHUT_WR); /* a failed one, who may be sending yet */
	else
		set_timer(client, 0);
}

static void out_flush(struct client *client)
{
	while (client->n_sent < client->n_out) {
		ssize_t n = frame_write(client->fd, client->out + client->n_sent, client->n_out - client->n_sent,
			client->out_fds, client->n_out_fds);

		if (n == -EAGAIN) {
			event_add(client->writable, NULL);
			return;
		}
		if (n < 0) {
			out_broken(client);
			return;
		}
		client->n_sent += (size_t)n;
		client->n_out_fds = 0;
	}
	client->n_out = client->n_sent = 0;
	if (client->state == CLIENT_CLOSING)
		out_end(client);
}

static void on_writable(evutil_socket_t fd, short events, void *userdata)
{
	(void)fd;
	(void)events;
	out_flush(userdata);
}

static int out_append(struct client *client, const uint8_t *bytes, size_t n)
{
	if (client->n_sent) {
		memmove(client->out, client->out + client->n_sent, client->n_out - client->n_sent);
		client->n_out -= client->n_sent;
		client->n_sent = 0;
	}
	if (client->n_out + n > OUT_MAX)
		return -ENOBUFS;
	if (client->n_out + n > client->n_out_allocated) {
		uint8_t *out = realloc(client->out, client->n_out + n);

		if (!out)
			return -ENOMEM;
		client->out = out;
		client->n_out_allocated = client->n_out + n;
	}
	memcpy(client->out + client->n_out, bytes, n);
	client->n_out += n;
	return 0;
}

void client_send(struct client *client, Pyheap__FromDaemon *message, const int *fds, size_t n_fds)
{
	uint8_t *bytes;
	size_t n;
	int r;

	if (client->state == CLIENT_CLOSING)
		return;
	r = frame_pack(&message->base, &bytes, &n);
	if (r == 0) {
		r = out_append(client, bytes, n);
		free(bytes);
	}
	if (r < 0) {
		log_warning("%s is disconnected: %s", client_name(client),
			r == -ENOBUFS ? "it does not read its answers" : strerror(-r));
		out_broken(client);
		return;
	}
	for (size_t i = 0; i < n_fds; i++) /* only Welcome has any, and nothing is sent before it */
		client->out_fds[i] = fds[i];
	client->n_out_fds += n_fds;
	out_flush(client);
}

void client_refuse(struct client *client, int code, const char *text)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Error error = PYHEAP__ERROR__INIT;

	error.code = code;
	error.text = (char *)text;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_ERROR;
	message.error = &error;
	client_send(client, &message, NULL, 0);
}

void client_fail(struct client *client, int code, const char *format, ...)
{
	char text[256];
	va_list arguments;

	if (client->state == CLIENT_CLOSING)
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	log_warning("%s is disconnected: %s", client_name(client), text);
	if (client->daemon->n_closing >= CLOSING_MAX) {
		client_refuse(client, code, text);
		client_close(client);
		return;
	}
	event_add(client->readable, NULL);
	client_refuse(client, code, text);
	if (client->state == CLIENT_CLOSING)
		return; /* it could not be told */
	begin_closing(client, CLOSING_S);
	if (client->n_out == client->n_sent)
		out_end(client);
}

/* ---- receiving ------------------------------------------------------------------------------------------------- */

static void handle(struct client *client, const Pyheap__ToDaemon *message)
{
	bool is_hello = message->body_case == PYHEAP__TO_DAEMON__BODY_HELLO;

	if (is_hello != (client->state == CLIENT_NEW)) {
		client_fail(client, EBADMSG, is_hello ? "said Hello twice" : "did not say Hello first");
		return;
	}
	switch (message->body_case) {
	case PYHEAP__TO_DAEMON__BODY_HELLO:
		admit_hello(client, message->hello);
		break;
	case PYHEAP__TO_DAEMON__BODY_GRANT_REQUEST:
		grant_request(client, message->grant_request);
		break;
	case PYHEAP__TO_DAEMON__BODY_STATS_REQUEST:
		stats_request(client);
		break;
	case PYHEAP__TO_DAEMON__BODY_GOODBYE:
		member_dead(client->member, "it said goodbye");
		break;
	default: /* frame_unpack_to_daemon() lets no other through */
		client_fail(client, EBADMSG, "sent an unknown message");
		break;
	}
}

static bool takes_frames(const struct client *client)
{
	return client->state == CLIENT_NEW || client->state == CLIENT_SERVED;
}

/* Handle every whole frame that there is, as long as the client takes them. */
static void in_process(struct client *client)
{
	size_t n_done = 0;

	if (!client->n_in)
		return; /* there may be no buffer yet */
	while (takes_frames(client)) {
		Pyheap__ToDaemon *message;
		ssize_t n = frame_peek(client->in + n_done, client->n_in - n_done);

		if (n == -EMSGSIZE) {
			client_fail(client, EMSGSIZE, "sent a frame of more than %u bytes", FRAME_MAX);
			return;
		}
		if (n == 0)
			break;
		if (frame_unpack_to_daemon(client->in + n_done, (size_t)n, &message) < 0) {
			client_fail(client, EBADMSG, "sent a malformed message");
			return;
		}
		n_done += (size_t)n;
		handle(client, message);
		pyheap__to_daemon__free_unpacked(message, NULL);
	}
	client->n_in -= n_done;
	memmove(client->in, client->in + n_done, client->n_in);
}

/* Room for the rest of the frame that has begun; it is not more than a frame can be, since frame_peek() looked. */
static int in_reserve(struct client *client)
{
	size_t n = client->n_in_allocated;
	uint8_t *in;

	if (client->n_in < n)
		return 0;
	n = n ? 2 * n : IN_MIN;
	if (n > FRAME_PREFIX + FRAME_MAX)
		n = FRAME_PREFIX + FRAME_MAX;
	in = realloc(client->in, n);
	if (!in)
		return -ENOMEM;
	client->in = in;
	client->n_in_allocated = n;
	return 0;
}

/* Read once: a client that sends much has no more turns than others. */
static int in_read(struct client *client)
{
	ssize_t n;
	int r = in_reserve(client);

	if (r < 0)
		return r;
	n = read(client->fd, client->in + client->n_in, client->n_in_allocated - client->n_in);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -ECONNRESET;
	client->n_in += (size_t)n;
	return 0;
}

/* Of a closing client, until it closes, too. */
static void in_discard(struct client *client)
{
	uint8_t bytes[4096];
	ssize_t n = read(client->fd, bytes, sizeof(bytes));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		event_del(client->readable);
		set_timer(client, 0);
	}
}

static void on_readable(evutil_socket_t fd, short events, void *userdata)
{
	struct client *client = userdata;
	int r;

	(void)fd;
	(void)events;
	if (client->state == CLIENT_CLOSING) {
		in_discard(client);
		return;
	}
	in_process(client); /* what came before Welcome was sent; this also makes room */
	if (!takes_frames(client))
		goto out;
	r = in_read(client);
	if (r == -EAGAIN || r == -EINTR)
		return;
	if (r == -ECONNRESET && client->n_in)
		client_fail(client, EBADMSG, "ended in the middle of a frame");
	else if (r < 0)
		client_close(client);
	else
		in_process(client);
out:
	if (client->state == CLIENT_WAITING)
		event_del(client->readable);
}

void client_wait(struct client *client)
{
	client->state = CLIENT_WAITING;
}

void client_serve(struct client *client)
{
	if (client->state == CLIENT_CLOSING)
		return;
	client->state = CLIENT_SERVED;
	evtimer_del(client->timer);
	event_add(client->readable, NULL);
	event_active(client->readable, EV_READ, 0); /* what came behind Hello may be in the buffer already */
}
