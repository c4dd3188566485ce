/* SPDX-License-Identifier: MIT */
#pragma once

/* The connection of a session with its daemon. See connection.c. Only grant.c and evict.c use messages beside it. */

#include "client/admission.h"
#include "proto/frame.h"

#include <stdbool.h>
#include <sys/un.h>

struct connection {
	int fd;       /* -1: none; its number stays while the session is open, unless the program closed it */
	dev_t device; /* with it: the socket itself. Another file may have got its number */
	ino_t inode;
	struct sockaddr_un address;
	struct admission admission; /* resumes the session; its descriptors belong to the registry */
	struct frame_buffer buffer;
	int timeout_ms;      /* how long the daemon is waited for; -1: for ever */
	int64_t deadline_ms; /* when the current call gives up, of CLOCK_MONOTONIC; INT64_MAX: never */
	bool broken;         /* the stream ended, or was given up */
	int lost;            /* not 0: no daemon will resume the session; the errno that calls return */

	/* grant.c's */
	uint32_t n_runs;   /* single arenas to ask for next time */
	bool awaits_grant; /* a GrantRequest is not answered yet */
};

/* At the beginning of a public call that may need the daemon: set its deadline. */
void connection_begin(struct connection *connection);

/* Milliseconds until then, and more_ms. -1: for ever. */
int connection_left(const struct connection *connection, uint32_t more_ms);

/*
 * Connect, say Hello, and be admitted. The descriptors in *ret are the caller's. Errors as pyheap_open(). Ended by
 * connection_deinit(), also after an error.
 */
int connection_open(struct connection *connection, const char *socket, struct admission *ret);

/*
 * Ask the daemon for an empty heap, over a connection of its own. The number of sessions that it ended, what the daemon
 * says, or errors as connection_open().
 */
int connection_reset(const char *socket, bool with_sessions);

/*
 * After the daemon is gone: find its successor and resume the session there. Tries until the deadline, and once where
 * the session has the global lock, because everybody waits for it. 0: resumed. -ECONNRESET: there is no daemon, or it
 * does not know the session. Others as pyheap_open().
 */
int connection_resume(struct connection *connection, bool has_lock);

/* Take in what the daemon sent unasked, without waiting. 0, or -ECONNRESET: it is gone. */
int connection_poll(struct connection *connection);

/* Send one message. An error gives the stream up. -ECONNRESET: the daemon is gone; -ETIMEDOUT. */
int connection_send(struct connection *connection, const Pyheap__ToDaemon *message);

/*
 * Receive the next message, which the caller frees. -ETIMEDOUT and -ENOMEM leave the connection whole; any other error
 * gives the stream up. -ECONNRESET: the daemon is gone, or has said Goodbye; -EPROTO: what came is no message.
 */
int connection_receive(struct connection *connection, int timeout_ms, Pyheap__FromDaemon **ret);

/* The negative errno of a daemon's Error. A code that is no errno becomes -EPROTO. */
int connection_error(const Pyheap__Error *error);

/*
 * Tell the daemon that the session ends, once its entry says so. Where there is no connection any more, one is tried,
 * for a second at most.
 */
void connection_goodbye(struct connection *connection);

void connection_deinit(struct connection *connection);
