/* SPDX-License-Identifier: MIT */
#pragma once

/* Talking with the daemon: see connection.c. Nothing else in client/ knows of sockets and messages. */

#include "client/registry.h"
#include "proto/frame.h"

#include <sys/un.h>

#define TOKEN_SIZE 16U

/* What the daemon gave this session. The descriptors are owned by whoever has the struct. */
struct admission {
	uint32_t session;
	uint8_t heap_id[HEAP_ID_SIZE];
	uint8_t token[TOKEN_SIZE];
	int control_fd;
	int heap_fd;
};

struct connection {
	int fd; /* -1: none; its number stays the same as long as the session */
	struct sockaddr_un address;
	struct admission admission; /* without the descriptors: what a session is resumed by */
	struct frame_buffer buffer;
	int timeout_ms;    /* how long the daemon is waited for; -1: for ever */
	uint32_t n_runs;   /* single arenas to ask for next time */
	bool awaits_grant; /* a GrantRequest is not answered yet */
	bool broken;       /* there is no daemon behind it any more */
	bool lost;         /* and none will ever resume the session */
};

/* The address of `socket`, or of the default one where that is NULL. -ENOENT there is none, -ENAMETOOLONG. */
int connection_address(const char *socket, struct sockaddr_un *ret);

/* Connect, say Hello and be admitted. Errors as pyheap_open(). Ended by connection_deinit(), after an error too. */
int connection_open(struct connection *connection, const char *socket, struct admission *ret);

/*
 * Where the daemon is gone: find the next one, for as long as the timeout allows, or with one try where the session has
 * the global lock, and be this session again there. 0: attached. -ECONNRESET no daemon, or one that does not know the
 * session.
 */
int connection_resume(struct connection *connection, bool has_lock);

/* Take in what the daemon said of its own accord, without waiting. 0, or -ECONNRESET: it is gone. */
int connection_look(struct connection *connection);

/*
 * Ask for the arenas that `session` wants and take them into use, resuming the session where the daemon was restarted.
 * 0: the call that wanted them may be tried again. -ENOMEM there are none, -ECONNRESET no daemon, -ETIMEDOUT it does
 * not answer.
 */
int connection_grow(struct connection *connection, struct session *session);

/* Tell the daemon that the session ends. Waits for nothing; what fails here the daemon learns from the socket's end. */
void connection_goodbye(struct connection *connection);

void connection_deinit(struct connection *connection);
