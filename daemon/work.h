/* SPDX-License-Identifier: MIT */
#pragma once

/* Work that takes more than one step, in turns with everything else: see work.c. */

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/* Something that has work to be done. It is part of whatever the work is about, which sets the first two members. */
struct work_item {
	/*
	 * A bounded step. 1 there is more to do, 0 nothing is left, -EBUSY the global lock is taken. The item may be
	 * gone after 0, or added again by its own step.
	 */
	int (*step)(void *owner);
	void *owner;
	bool is_queued;
	TAILQ_ENTRY(work_item) entry;
};
TAILQ_HEAD(work_list, work_item);

struct work {
	struct work_list items;       /* each waits for its next step */
	struct work_item *background; /* makes one step at the end of each turn; NULL: there is none */
	struct event *event;
	bool is_at_once;       /* the event is to come in the next turn of the loop */
	uint64_t n_turns;      /* that were made */
	uint64_t n_turns_seen; /* of them, when work_goes_on() was last asked */
	bool was_waiting;      /* something was queued then */
};

int work_init(struct work *work, struct event_base *base);
void work_deinit(struct work *work);

/* The item has something to be done. Takes one that is queued already. */
void work_add(struct work *work, struct work_item *item);

/* The item has nothing to be done any more. Takes one that is not queued. */
void work_remove(struct work *work, struct work_item *item);

/* The background item has something to be done: see to it that there is a turn. */
void work_wake(struct work *work);

/* There is no background item any more. */
void work_remove_background(struct work *work);

/* For a watchdog: false if something was queued when this was last asked, and no turn has been made since then. */
bool work_goes_on(struct work *work);

/* One turn: a bounded number of steps. 1 there is more to do, 0 nothing is left, -EBUSY all that is left waits for the
 * global lock. */
int work_turn(struct work *work);
