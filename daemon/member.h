/* SPDX-License-Identifier: MIT */
#pragma once

/* A session of the heap as the daemon sees it, and the process behind it: see member.c. */

#include "daemon/grant.h"
#include "daemon/idle.h"
#include "daemon/process.h"
#include "daemon/returns.h"
#include "heap/shared/session.h"

#include <event2/event.h>
#include <stdbool.h>
#include <sys/queue.h>

struct client;
struct daemon;

enum member_state {
	MEMBER_NONE = 0,
	MEMBER_LIVE,
	MEMBER_RESUMING, /* its new connection waits for its Welcome */
	MEMBER_DEAD,     /* being cleared up */
	MEMBER_LOST,     /* could not be cleared up: its slot is not used again, unless the heap is repaired */
};

struct member {
	struct daemon *daemon;
	uint32_t index; /* in the session table */
	enum member_state state;
	struct process process;
	struct event *ended;   /* its pidfd is readable; NULL: it has none */
	struct client *client; /* its connection; NULL: it has none now */

	struct grant grant;            /* what it asked for */
	uint32_t n_stats;              /* Stats that it is owed */
	struct stats_walk *stats_walk; /* the first of them, under way; owned */
	struct idleness idleness;      /* what it keeps free, and whether it does anything */
	struct unmapping unmapping;    /* of what was granted to it and is taken back */
	bool has_lock;                 /* while it is resumed: it says that it has the global lock */
	bool has_no_grants;            /* while it is cleared up: all of them were taken back */
	struct session view;           /* of the dead session, for its reclaim */
	uint32_t n_repairs;            /* of the heap, before it was lost */

	bool has_work;
	TAILQ_ENTRY(member) work_entry;
};

/* Session `index` is active and belongs to *process, whose pidfd is taken over where it succeeds. */
int member_start(struct daemon *daemon, uint32_t index, struct process *process);

/* Session `index` is marked dead already: clear up after it. */
void member_start_dead(struct daemon *daemon, uint32_t index);

/* The connection is the session's now; one that it had is closed. */
void member_attach(struct member *member, struct client *client);

/*
 * Take back what was granted and not used, then send the (attached) connection its Welcome. has_lock: the session says
 * that it has the global lock meanwhile.
 */
void member_resume(struct member *member, bool has_lock);

/* The process has ended, for certain, or the session said Goodbye: clear up after it. */
void member_dead(struct member *member, const char *why);

/* Its connection has ended: is the session one that was closed by its process, whose Goodbye was lost? Then as above.
 */
void member_check_closed(struct member *member);

/* A tick: the heap may have been repaired since the member was lost, then it is tried again. */
void member_retry_lost(struct member *member);

/* A bounded step of whatever the member has to be done. 1 there is more, 0 nothing, -EBUSY it waits for the lock. */
int member_step(struct member *member);

/* Forget it; the shared session stays as it is. */
void member_deinit(struct member *member);
