/* SPDX-License-Identifier: MIT */
#pragma once

/* Asking the daemon for arenas. See grant.c. */

#include "client/connection.h"
#include "heap/shared/session.h"

/*
 * Ask for the arenas that `session` wants, and take them into use. Where the daemon was restarted, the session is
 * resumed first. All of it ends by the connection's deadline. 0: arenas have come, the change that wanted them may be
 * tried again. -ENOMEM: there are none; -ECONNRESET: there is no daemon; -ETIMEDOUT: it does not answer.
 */
int grant_request(struct connection *connection, struct session *session);
