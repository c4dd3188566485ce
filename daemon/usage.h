/* SPDX-License-Identifier: MIT */
#pragma once

/* What memory each session has, for a session that asks: see usage.c. */

#include "heap/repair/usage.h"

#include <stdbool.h>
#include <stdint.h>

/* Of the session that asks. */
struct usage {
	const struct heap *heap;
	bool is_owed;                   /* the session waits for an answer */
	uint32_t first;                 /* the sessions that it asked for: from this one on */
	uint32_t cursor;                /* how far the walk has come */
	struct session_usage *sessions; /* of the heap; owned; NULL: the walk has not begun */
};

void usage_init(struct usage *usage, const struct heap *heap);

/* The session, whose request before is answered, asks. */
void usage_ask(struct usage *usage, uint32_t first);

/* While an answer is owed: count a bounded part. 1 there is more, 0 usage->sessions is complete, -ENOMEM. */
int usage_step(struct usage *usage);

/* The session is owed nothing any more. */
void usage_cancel(struct usage *usage);
