/* SPDX-License-Identifier: MIT */
#pragma once

/* Who may connect, and which session a connection gets: see admit.c. */

#include "daemon/dsession.h"

struct admission {
	struct connections *connections;
	struct dsessions *sessions;
	bool has_group;
	gid_t group;                /* its members may connect, too */
	uint32_t n_kept_sessions;   /* for processes of root and of this daemon's user that have none */
	void (*reset)(void *owner); /* the heap is to be emptied, once the loop has come back */
	void *owner;
};

/* A connection was accepted: may it stay? */
void admit_connection(struct admission *admission, struct connection *connection);

/* Hello: a new session, the one that its process had, or an error. */
void admit_hello(struct admission *admission, struct connection *connection, const Pyheap__Hello *hello);

/* Empty the heap. with_sessions: also where sessions use it. */
void admit_reset(struct admission *admission, struct connection *connection, bool with_sessions);

/* A session became free: a connection may wait for it. */
void admit_waiting(struct admission *admission);
