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

/* The daemon, when its connection has ended: was the session left, or never taken? Then it is over: it cannot be taken
 * now. */
bool session_is_over(struct heap *heap, uint32_t index);

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
