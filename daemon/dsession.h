/* SPDX-License-Identifier: MIT */
#pragma once

/* A session of the heap as the daemon serves it, and the process behind it: see dsession.c. */

#include "daemon/connection.h"
#include "daemon/full.h"
#include "daemon/grant.h"
#include "daemon/idle.h"
#include "daemon/process.h"
#include "daemon/stats.h"
#include "daemon/usage.h"
#include "daemon/work.h"

#include <event2/event.h>
#include <stdbool.h>

struct dsessions;

enum dsession_state {
	DSESSION_NONE = 0,
	DSESSION_LIVE,
	DSESSION_RESUMING, /* its new connection waits for its Welcome */
	DSESSION_DEAD,     /* being reclaimed */
	DSESSION_LOST,     /* could not be reclaimed: its slot is not used again, unless the heap is repaired */
};

struct dsession {
	struct dsessions *all;
	uint32_t index; /* in the session table */
	enum dsession_state state;
	struct process process;
	struct user *user;           /* whose it is; NULL: it was found dead, and there was no memory for an account */
	bool is_counted;             /* among the user's sessions: it is not being reclaimed */
	struct event *process_ended; /* its pidfd is readable; NULL: it has none */
	struct connection *connection; /* NULL: it has none now. If not, connection->session1 is index + 1 */

	struct grant grant; /* memory that it asks for */
	struct stats stats; /* figures that it asks for */
	struct usage usage; /* what each session has, which it asks for */
	struct idle idle;   /* memory that it keeps free */
	struct work_item work_item;
	bool has_lock;       /* RESUMING: it says that it has the global lock */
	struct session view; /* DEAD: of the session, for its reclaim */
	uint32_t n_repairs;  /* LOST: of the heap, before it was lost */
};

/* All that the session table has room for. */
struct dsessions {
	struct session *self; /* the daemon's view of the heap */
	struct event_base *base;
	struct work *work;
	struct trim *trim;
	struct users *users;
	void (*started)(void *owner); /* a session came */
	void (*freed)(void *owner);   /* a session was reclaimed: its slot is free */
	void *owner;
	struct dsession *entries; /* by index */
	struct full full;         /* what the log says of a full heap */
	uint32_t n_used;          /* of them, those that are not NONE */
};

/* The members from `self` to `owner` are set by the caller. -ENOMEM. */
int dsessions_init(struct dsessions *all);
/* Forget all of them; the shared sessions stay as they are. */
void dsessions_deinit(struct dsessions *all);

/* The session of that index, or NULL where it is none that is in use. */
struct dsession *dsessions_at(const struct dsessions *all, uint32_t index);
/* The session of a connection, or NULL. */
struct dsession *dsessions_of(const struct dsessions *all, const struct connection *connection);

/* Is it in use by its process? */
bool dsession_is_alive(const struct dsession *session);

/* Is any session being reclaimed, so that a slot will be free? */
bool dsessions_any_dead(const struct dsessions *all);

/* How many are in use by their processes. */
uint32_t dsessions_n_alive(const struct dsessions *all);

/* A tick: which sessions are idle, and can those that were lost be reclaimed after all? */
void dsessions_tick(struct dsessions *all);

/* Session `index` is active and belongs to *process, whose pidfd is taken over where it succeeds. */
int dsession_start(struct dsessions *all, uint32_t index, struct process *process);

/* Session `index` is marked dead already: reclaim it. */
void dsession_start_dead(struct dsessions *all, uint32_t index);

/* The connection is the session's from now on. One that it had is closed, and says nothing about the session. */
void dsession_attach(struct dsession *session, struct connection *connection);

/*
 * The session's process has come back by a new connection: attach it, take back what was granted and not used, then
 * send Welcome. has_lock: the session says that it has the global lock meanwhile. -ESTALE the session is over.
 */
int dsession_resume(struct dsession *session, struct connection *connection, bool has_lock);

/* Its connection has ended: reclaim the session if it was closed or never taken. Otherwise it stays. */
void dsession_connection_ended(struct dsession *session);

/* The process has ended, for certain, or the session said Goodbye: reclaim it. Nothing where it is DEAD already. */
void dsession_end(struct dsession *session, const char *why);

/* Its process asks over its connection. */
void dsession_ask_grant(struct dsession *session, uint32_t run_length, uint32_t n_runs);
void dsession_ask_stats(struct dsession *session);
void dsession_ask_usage(struct dsession *session, uint32_t first);

/* A bounded step of whatever the session has to be done. 1 there is more, 0 nothing, -EBUSY it waits for the lock. */
int dsession_step(struct dsession *session);
