/* SPDX-License-Identifier: MIT */
#pragma once

/* A connection: bytes in, bytes out, and what its messages ask for. See client.c. */

#include "daemon/process.h"
#include "proto/frame.h"

#include <event2/event.h>
#include <stdbool.h>
#include <sys/queue.h>

struct daemon;
struct member;
TAILQ_HEAD(client_list, client);

enum client_state {
	CLIENT_NEW,     /* has not said Hello */
	CLIENT_WAITING, /* has, and waits for its Welcome: what else it sends is left in the socket */
	CLIENT_SERVED,  /* is a session */
	CLIENT_CLOSING, /* nothing is taken from it any more; what is left to be sent may still go */
};

struct client {
	struct daemon *daemon;
	TAILQ_ENTRY(client) entry;
	int fd;
	enum client_state state;
	struct process process; /* as of connect(); its pidfd goes to the member */
	struct member *member;  /* the session that this is the connection of */
	char program[40];

	struct event *readable;
	struct event *writable;
	struct event *timer; /* Hello is late; or, closing: that was long enough */

	uint8_t *in; /* received and not understood yet */
	size_t n_in, n_in_allocated;
	uint8_t *out; /* to be sent */
	size_t n_out, n_sent, n_out_allocated;
	int out_fds[2]; /* to go with the next byte; the heap's */
	size_t n_out_fds;
};

/* A connection that was accepted. Takes fd over, also where it fails. */
int client_new(struct daemon *daemon, int fd);

/* Close it at once and forget it; its session, if any, stays. Not from within its own callbacks: client_close(). */
void client_free(struct client *client);

/* Send a message, with n_fds descriptors that stay open until it is gone. A client that reads too slowly is closed. */
void client_send(struct client *client, Pyheap__FromDaemon *message, const int *fds, size_t n_fds);

/* An Error that leaves the connection as it is. */
void client_refuse(struct client *client, int code, const char *text);

/* An Error, a line in the log, and the end of the connection. */
void client_fail(struct client *client, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The end of the connection, in the next turn of the loop, after what is waiting to be sent had its chance to go. */
void client_close(struct client *client);

/* Hello came, and its answer takes a while. */
void client_wait(struct client *client);

/* Welcome was sent: go on with what came behind Hello. */
void client_serve(struct client *client);

/* For the log: who it is. The result is good until the next call. */
const char *client_name(const struct client *client);
