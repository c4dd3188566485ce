/* SPDX-License-Identifier: MIT */
#pragma once

/* What takes more than one step, in turns with everything else: see work.c. */

#include <event2/event.h>
#include <stdbool.h>
#include <sys/queue.h>

struct daemon;
struct member;
TAILQ_HEAD(member_list, member);

struct work {
	struct member_list members; /* who waits for its next step */
	struct event *event;
};

int work_init(struct daemon *daemon);
void work_deinit(struct daemon *daemon);

/* The member has something to be done (again). */
void work_add(struct daemon *daemon, struct member *member);

/* There is something to be done that is no member's: returns. */
void work_wake(struct daemon *daemon);

/* It has not any more. Takes one that is not there. */
void work_remove(struct daemon *daemon, struct member *member);

/* One turn: a bounded number of bounded steps. 1 there is more, 0 nothing is left, -EBUSY all that is left waits for
 * the lock. */
int work_turn(struct daemon *daemon);
