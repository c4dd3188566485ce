/* SPDX-License-Identifier: MIT */
#pragma once

/* A connection: a socket, the process at its other end, and the messages that pass: see connection.c. */

#include "daemon/process.h"
#include "daemon/stream.h"
#include "daemon/user.h"
#include "daemon/work.h"

#include <event2/event.h>
#include <stdbool.h>
#include <sys/queue.h>

struct connection;
TAILQ_HEAD(connection_list, connection);

enum connection_state {
	CONNECTION_NEW,     /* has not said Hello */
	CONNECTION_WAITING, /* has, and waits for its Welcome: what else it sends is left in the socket */
	CONNECTION_SERVED,  /* has a session */
	CONNECTION_CLOSING, /* nothing is taken from it any more; what is left to be sent may still go */
};

/* What happens to a connection. Each is called with the owner of all of them. */
struct connection_handlers {
	void (*opened)(void *owner, struct connection *connection);
	void (*received)(void *owner, struct connection *connection, const Pyheap__ToDaemon *message);
	void (*ended)(void *owner, struct connection *connection); /* and it had a session */
};

struct connections {
	struct event_base *base;
	struct work *work; /* messages that came together are taken in turns */
	struct users *users;
	const struct connection_handlers *handlers;
	void *owner;
	struct connection_list list; /* the first come first */
	uint32_t n_open;             /* of them, those that are not closing */
	uint32_t n_closing;
};

struct connection {
	struct connections *all;
	TAILQ_ENTRY(connection) entry;
	struct stream stream;
	enum connection_state state;
	struct process process; /* as of connect(); its pidfd goes to the session */
	struct user *user;      /* whose process that is */
	uint32_t session1;      /* of which this is the connection, plus one; 0: of none */
	char program[40];
	bool wants_reset;           /* the heap is emptied for it */
	bool is_busy;               /* a request is being worked on: what else it sends is left in the socket */
	struct work_item work_item; /* the next message that was read already */

	struct event *readable;
	struct event *writable;
	struct event *timer; /* Hello is late; or, closing: that was long enough */
};

void connections_init(struct connections *all, struct event_base *base, struct work *work, struct users *users,
	const struct connection_handlers *handlers, void *owner);
/* Close them all at once. */
void connections_deinit(struct connections *all);

/* A connection that was accepted. Takes fd over, also where it fails. */
int connection_new(struct connections *all, int fd);

/* Close it at once and forget it. Not below its own handlers: connection_close(). */
void connection_free(struct connection *connection);

/* Send a message, with n_fds descriptors that stay open until it is gone. A peer that reads too slowly is closed. */
void connection_send(struct connection *connection, const Pyheap__FromDaemon *message, const int *fds, size_t n_fds);

/* An Error that leaves the connection as it is. */
void connection_refuse(struct connection *connection, int code, const char *text);

/* An Error, a line in the log, and the end of the connection. */
void connection_fail(struct connection *connection, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* As connection_fail(), where its user met a limit: the log says so once in a while. */
void connection_fail_by_limit(struct connection *connection, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The end of the connection, in the next turn of the loop, after what waits to be sent had its chance to go. */
void connection_close(struct connection *connection);

/* Hello came, and its answer takes a while. */
void connection_wait(struct connection *connection);

/* Welcome was sent: go on with what came behind Hello. */
void connection_serve(struct connection *connection);

/* A request came, and its answer takes a while; then it is answered: go on with what came behind it. */
void connection_begin_request(struct connection *connection);
void connection_end_request(struct connection *connection);

/* What the process calls itself; bytes that cannot be printed become '?'. */
void connection_set_program(struct connection *connection, const char *program);

/* For the log: which connection it is. The result is good until the next call. */
const char *connection_name(const struct connection *connection);

/* What the loop calls. 0, or the negative errno by which the connection has ended. */
int connection_read(struct connection *connection);
/* What its item does: take a message that was read already. 1 there is another one. */
int connection_step(struct connection *connection);
int connection_write(struct connection *connection);
/* The timer is over. Where the connection was closing already it is freed: 0. */
int connection_expire(struct connection *connection);
