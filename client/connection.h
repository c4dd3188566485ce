/* SPDX-License-Identifier: MIT */
#pragma once

/* Talking with the daemon: see connection.c. Nothing else in client/ knows of sockets and messages. */

#include "client/registry.h"
#include "proto/frame.h"

#include <sys/un.h>

#define TOKEN_SIZE 16U

struct connection {
	int fd; /* -1: none */
	struct frame_buffer buffer;
	uint32_t n_runs;   /* single arenas to ask for next time */
	bool awaits_grant; /* a GrantRequest is not answered yet */
	bool broken;	   /* there is no daemon behind it any more */
};

/* What the daemon gave this session. The descriptors are owned by whoever has the struct. */
struct admission {
	uint32_t session;
	uint8_t heap_id[HEAP_ID_SIZE];
	uint8_t token[TOKEN_SIZE];
	int control_fd;
	int heap_fd;
};

/* The address of `socket`, or of the default one where that is NULL. -ENOENT there is none, -ENAMETOOLONG. */
int connection_address(const char *socket, struct sockaddr_un *ret);

/* Connect, say Hello and be admitted. Errors as pyheap_open(). Ended by connection_deinit(), after an error too. */
int connection_open(struct connection *connection, const char *socket, struct admission *ret);

/*
 * Ask for the arenas that `session` wants and take them into use. 0: the call that wanted them may be tried again.
 * -ENOMEM there are none, -ECONNRESET no daemon, -ETIMEDOUT it does not answer.
 */
int connection_grow(struct connection *connection, struct session *session);

/* Tell the daemon that the session ends. Waits for nothing; what fails here the daemon learns from the socket's end. */
void connection_goodbye(struct connection *connection);

void connection_deinit(struct connection *connection);
