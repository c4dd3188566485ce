/* SPDX-License-Identifier: MIT */
#pragma once

/* Sessions come, and dead ones are reclaimed. See recover.c. */

#include "heap/object/object.h"

struct session_identity {
	int32_t pid;
	uint64_t start_time;
	uint64_t image; /* of the process, differs after each execve(); 0: not known */
	uint32_t uid, gid;
	uint64_t token[2];
	const char *program; /* cut to fit */
	uint32_t max_types;  /* that its user may register; 0: no limit */
};

/* Daemon: make a FREE session ACTIVE. Needs no lock. -EUSERS: there is none. */
int session_admit(struct heap *heap, const struct session_identity *identity, uint32_t *ret_index);

/* The session that was admitted with that token is in use from now on. False: the daemon gave it up meanwhile. */
bool session_take(struct session *session, const uint64_t token[2]);

/* The session has dropped everything, and ends. */
void session_detach(struct session *session);

/*
 * The daemon, when the session's connection has ended: withdraw the offer, if nobody has taken the session. True: the
 * session is over, since it was closed or never taken, and nobody can take it any more.
 */
bool session_withdraw(struct heap *heap, uint32_t index);

/* The daemon: has the session closed itself? Then it is over. */
bool session_is_closed(const struct heap *heap, uint32_t index);

/* What the daemon knows of a session. */
struct session_record {
	uint32_t state; /* enum session_state */
	int32_t pid;    /* of a process in this process's pid namespace, if is_here */
	bool is_here;
	uint64_t start_time;
	uint64_t image;
	uint32_t uid, gid;
	uint64_t token[2];
	char program[sizeof(((struct session_entry *)0)->program) + 1];
};

/* The daemon: copy what its truth says of a session. */
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

/*
 * Daemon: the process of an ACTIVE session, as this daemon sees it, which may be of another pid namespace than the one
 * before. Needs no lock.
 */
void session_set_process(struct heap *heap, uint32_t index, int32_t pid, uint64_t start_time);

/* Daemon: the process has ended, or the session was closed. Needs no lock. */
void session_mark_dead(struct heap *heap, uint32_t index);

/*
 * Drop a bounded part of what a session has: what it is making, what is dying, its pools, its holds, at last its
 * tables. 1: there is more, 0: nothing is left. -EBUSY: `try` is set and the lock is taken. Called by the session
 * itself when it closes, and by session_reclaim_step().
 */
int session_drop_step(struct session *session, bool try);

/* The session's own thread: has it nothing to drop? Needs no lock. */
bool session_is_empty(const struct session *session);

/*
 * Daemon: reclaim a bounded part of what a DEAD session has. 1: there is more, 0: done, and it is FREE. -EBUSY: the
 * lock is taken. -EUCLEAN: what it has is damaged, and it stays DEAD. Arenas that were granted to it go back before
 * this, by supply_pick_granted().
 */
int session_reclaim_step(struct session *dead);

/* If the owner of the lock died, roll its change back. -EBUSY: a living one has it. */
int lock_recover(struct session *any);
