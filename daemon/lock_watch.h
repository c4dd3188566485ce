/* SPDX-License-Identifier: MIT */
#pragma once

/* Somebody who keeps the global lock is named, and at last evicted: see lock_watch.c. */

#include <stdbool.h>
#include <stdint.h>

struct daemon;

struct lock_watch {
	uint64_t n_acquisitions; /* of the lock, when it was seen taken */
	int64_t since_ms;        /* when that was */
	int64_t tick_ms;         /* when it was looked at last */
	bool is_taken;
	bool is_said;    /* who it is */
	bool is_evicted; /* and that he was, or cannot be */
};

/* With each tick: take back what a dead owner was changing; say who keeps the lock, and kill him after --lock-timeout.
 */
void lock_watch_tick(struct daemon *daemon, int64_t now_ms);
