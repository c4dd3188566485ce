/* SPDX-License-Identifier: MIT */
#pragma once

/* The connection of a session with its daemon. See connection.c. Only grant.c and evict.c use messages beside it. */

#include "client/admission.h"
#include "proto/frame.h"

#include <stdbool.h>
#include <sys/un.h>

struct connection {
	int fd; /* -1: none; its number never changes while the session is open */
	struct sockaddr_un address;
	struct admission admission; /* resumes the session; its descriptors belong to the registry */
	struct frame_buffer buffer;
	int timeout_ms; /* how long the daemon is waited for; -1: for ever */
	bool broken;    /* the stream ended, or was given up */
	bool lost;      /* no daemon will resume the session */

	/* grant.c's */
	uint32_t n_runs;   /* single arenas to ask for next time */
	bool awaits_grant; /* a GrantRequest is not answered yet */
};

/*
 * The address of `socket`; NULL: of the default one. -ENOENT: there is no default, or the path is empty. -ENAMETOOLONG.
 */
int connection_address(const char *socket, struct sockaddr_un *ret);

/*
 * Connect, say Hello, and be admitted. The descriptors in *ret are the caller's. Errors as pyheap_open(). Ended by
 * connection_deinit(), also after an error.
 */
int connection_open(struct connection *connection, const char *socket, struct admission *ret);

/*
 * After the daemon is gone: find its successor and resume the session there. Tries as long as the time-out allows, and
 * once where the session has the global lock, because everybody waits for it. 0: resumed. -ECONNRESET: there is no
 * daemon, or it does not know the session.
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

/* Tell the daemon that the session ends. Waits for nothing: should it fail, the daemon sees the stream end. */
void connection_goodbye(struct connection *connection);

void connection_deinit(struct connection *connection);
