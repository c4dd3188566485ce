/* SPDX-License-Identifier: MIT */
#pragma once

/* Somebody who keeps the global lock is named: see lock_watch.c. */

#include <stdbool.h>
#include <stdint.h>

struct daemon;

struct lock_watch {
	uint64_t n_acquisitions; /* of the lock, when it was seen taken */
	int64_t since_ms;        /* when that was */
	bool is_taken;
	bool is_said;
};

/* With each tick: take back what a dead owner was changing; say once who keeps the lock for more than a second. */
void lock_watch_tick(struct daemon *daemon, int64_t now_ms);
