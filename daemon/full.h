/* SPDX-License-Identifier: MIT */
#pragma once

/* A full heap is logged, with the session that has most: see full.c. */

#include "daemon/usage.h"
#include "daemon/work.h"
#include "heap/shared/session.h"

struct full {
	struct heap *heap;
	struct work *work;
	struct work_item item;
	struct usage usage; /* what each session has, while it is being counted */
	int64_t last_ms;    /* it was logged then; 0: never */
};

void full_init(struct full *full, struct heap *heap, struct work *work);
void full_deinit(struct full *full);

/*
 * A session was refused so many bytes, for want of room in the heap (has_no_room) or in the machine's memory. Logged
 * once a minute at most.
 */
void full_refused(struct full *full, uint32_t index, uint64_t size, bool has_no_room);
