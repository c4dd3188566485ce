/* SPDX-License-Identifier: MIT */
#pragma once

/* What the daemon gives a session in its Welcome. connection.c receives it, registry.c maps the segments. */

#include <stdint.h>

#define HEAP_ID_SIZE 16U
#define TOKEN_SIZE   16U

struct admission {
	uint32_t session;              /* index in the session table */
	uint8_t heap_id[HEAP_ID_SIZE]; /* equal for all sessions of one heap */
	uint8_t token[TOKEN_SIZE];     /* resumes the session at the next daemon; a secret of the process */
	uint64_t heap_size;            /* of the window, bytes */
	int control_fd;                /* owned by the struct's owner, until registry_attach() takes both */
	int heap_fd;
};
