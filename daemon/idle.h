/* SPDX-License-Identifier: MIT */
#pragma once

/* Memory that sessions keep for their next objects goes back when they do nothing: see idle.c. */

#include "daemon/trim.h"

#include <stdbool.h>
#include <stdint.h>

/* Of one session. */
struct idle {
	struct trim *trim;
	uint32_t index;          /* of the session */
	bool is_trimmed;         /* all that it kept free was taken back, and it has made no call since */
	uint32_t n_remote_frees; /* of the session, when that began */
	bool is_wanted;          /* take back what it keeps free */
};

void idle_init(struct idle *idle, struct trim *trim, uint32_t index);

/* A tick: has the session done nothing since the last one? True: there are steps to be made. */
bool idle_tick(struct idle *idle);

/* A bounded part of what the session keeps free goes back. 1 there is more, 0 it is done, -EBUSY the lock is taken. */
int idle_step(struct idle *idle);
