/* SPDX-License-Identifier: MIT */
#pragma once

/* Memory that sessions keep for their next objects, and that goes back when they do nothing: see idle.c. */

#include <stdbool.h>
#include <stdint.h>

struct daemon;
struct member;

struct idleness {
	bool is_collected;            /* all that it kept free was taken back, and it has made no call since */
	uint32_t n_returns_collected; /* its n_remote_frees then */
	bool is_wanted;               /* take back what it keeps */
};

/* A tick: who has done nothing since the one before? */
void idle_tick(struct daemon *daemon);

/* A bounded part of what the member keeps free goes back. 1 there is more, 0 it is done, -EBUSY the lock is taken. */
int idle_step(struct daemon *daemon, struct member *member);
