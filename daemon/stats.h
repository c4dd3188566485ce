/* SPDX-License-Identifier: MIT */
#pragma once

/* The heap's figures for a session that asks for them: see stats.c. */

#include "heap/repair/stats.h"

#include <stdbool.h>
#include <stdint.h>

/* Of one session. */
struct stats {
	struct session *self;    /* the daemon's view of the heap */
	bool is_owed;            /* the session waits for an answer */
	struct stats_walk *walk; /* which is under way; owned */
};

void stats_init(struct stats *stats, struct session *self);

/* The session, whose request before is answered, asks. */
void stats_ask(struct stats *stats);

/* While an answer is owed: count a bounded part of the heap. 1 there is more, 0 *ret is the answer, -ENOMEM. */
int stats_step(struct stats *stats, struct heap_stats *ret);

/* The session is owed nothing any more. */
void stats_cancel(struct stats *stats);
