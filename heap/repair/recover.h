/* SPDX-License-Identifier: MIT */
#pragma once

/* Sessions come, and what the dead leave is cleared up. The daemon calls these. See recover.c. */

#include "heap/object/object.h"

struct session_identity {
	int32_t pid;
	uint64_t start_time;
	uint32_t uid, gid;
	uint64_t token[2];
	const char *program; /* cut to fit */
};

/* Make a FREE session ACTIVE. -EUSERS there is none. No lock. */
int session_admit(struct heap *heap, const struct session_identity *claim, uint32_t *ret_index);

/* The session that was admitted with that token: it is in use from now on. False: the daemon gave it up meanwhile. */
bool session_take(struct session *session, const uint64_t token[2]);

/* The session: it has dropped everything, and goes. */
void session_detach(struct session *session);

/*
 * The daemon, when the session's connection has ended: withdraw the offer, if nobody has taken the session. True: the
 * session is over, since it was closed or never taken, and nobody can take it any more.
 */
bool session_withdraw(struct heap *heap, uint32_t index);

/* The daemon: has the session closed itself? Then it is over. */
bool session_is_closed(const struct heap *heap, uint32_t index);

/* What the session table says of a session. */
struct session_record {
	uint32_t state; /* enum session_state */
	int32_t pid;    /* of a process in this process's pid namespace, if is_here */
	bool is_here;
	uint64_t start_time;
	uint32_t uid, gid;
	uint64_t token[2];
	char program[sizeof(((struct session_entry *)0)->program) + 1];
};

/* The daemon: copy what the table says of a session, to decide on the copy. */
void session_read(const struct heap *heap, uint32_t index, struct session_record *ret);

/*
 * The daemon: has the session made no call since it was polled last? Asked with each tick and with each step in which
 * something is taken back from the session. Notes that it was polled.
 */
bool session_poll_idle(struct heap *heap, uint32_t index);

/* The daemon: has the session made a call since it was polled last? */
bool session_was_active(const struct heap *heap, uint32_t index);

/* The daemon: does the session own pools with remote frees that it has not collected; and how often were there any? */
bool session_has_remote_frees(const struct heap *heap, uint32_t index);
uint32_t session_n_remote_frees(const struct heap *heap, uint32_t index);

/* Does a file hold a control segment that is of no use to anybody: it was never finished, or its heap has ended? */
bool control_is_leftover(int control_fd);

/* An ACTIVE session's process was seen anew, by a daemon that may be of another pid namespace. No lock. */
void session_set_process(struct heap *heap, uint32_t index, int32_t pid, uint64_t start_time);

/* The session's process is gone, or it said goodbye: DEAD. No lock. */
void session_mark_dead(struct heap *heap, uint32_t index);

/*
 * Drop a bounded part of what a session has: what it was making and taking down, its holds, at last its tables. 1 there
 * is more to do, 0 nothing is left; -EBUSY where `try` and the lock is taken. The session's own, when it closes, or:
 */
int session_drop_step(struct session *session, bool try);

/* Of a living session, by its own thread: it has nothing that would have to be dropped. Needs no lock. */
bool session_is_empty(const struct session *session);

/*
 * Clear up a bounded part of what a DEAD session left. 1 there is more to do, 0 done: it is FREE again; -EBUSY the lock
 * is taken, try again later; -EUCLEAN what it left is damaged: it stays DEAD. What the daemon granted to it is not
 * touched: supply_pick_granted(), before this.
 */
int session_reclaim_step(struct session *dead);

/* If the owner of the lock died, take back its change. -EBUSY somebody living has it. */
int lock_recover(struct session *any);
