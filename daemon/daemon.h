/* SPDX-License-Identifier: MIT */
#pragma once

/* pyheapd as a whole: what its parts share, and its life. See daemon.c. */

#include "daemon/client.h"
#include "daemon/listener.h"
#include "daemon/lock_watch.h"
#include "daemon/member.h"
#include "daemon/options.h"
#include "daemon/returns.h"
#include "daemon/store.h"
#include "daemon/work.h"

#include <event2/event.h>

struct daemon {
	const struct options *options;
	struct event_base *base;
	struct store store;
	struct heap *heap;
	struct session self; /* the daemon's view of the heap: takes the lock as SESSION_DAEMON */
	struct listener listener;

	struct client_list clients; /* connections, the first come first */
	uint32_t n_clients;         /* of them, those that are not closing */
	uint32_t n_closing;
	struct member *members; /* one per session of the table */
	uint32_t n_members;     /* of them, those in use */
	struct work work;       /* members that have something to be done, in turns */
	struct returns returns;
	struct lock_watch lock_watch;

	struct event *accept_event;
	struct event *accept_pause; /* while there are no descriptors */
	struct event *tick;
	struct event *watchdog;
	struct event *sigterm;
	struct event *sigint;
	bool is_stopping;
};

/* Serve until SIGTERM or SIGINT. 0, or what made it impossible, which the log says. */
int daemon_run(const struct options *options);

/* There is something to look after: see to it that the tick comes. */
void daemon_need_tick(struct daemon *daemon);
