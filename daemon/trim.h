/* SPDX-License-Identifier: MIT */
#pragma once

/* Arenas that nobody uses go back to the system: see trim.c. */

#include "daemon/work.h"
#include "heap/shared/session.h"

#include <stdbool.h>
#include <stdint.h>

#define TRIM_WAITING_MAX 64
#define TRIM_TICK_MS     250 /* the time from tick to tick */
#define DECAY_NEVER      (-1)

/* A run of arenas that is being unmapped, over several steps. All zero: none is. */
struct trim_run {
	uint32_t head1;  /* its first arena, plus one; 0: none */
	uint32_t n_done; /* arenas of it that are unmapped */
	bool is_logged;  /* that it cannot go on */
};

struct trim {
	struct session *self; /* the daemon's view of the heap */
	struct work *work;
	struct work_item item; /* its steps: the background of all other work */
	uint32_t n_spare;      /* --spare-arenas: free arenas that stay, however old */
	int32_t decay_ms;      /* --decay: others stay that long; DECAY_NEVER: for ever */

	struct trim_run run;                /* is returned at this moment */
	uint32_t waiting[TRIM_WAITING_MAX]; /* heads of runs that a session reads without the lock, or that failed */
	uint32_t n_waiting;
	bool retries_waiting;  /* since the last tick: look at those again */
	bool is_adopted;       /* what a daemon before left half returned is returned */
	bool is_wanted;        /* look for more, until there is none */
	uint32_t before;       /* with it: what became free by then can go */
	uint32_t stray_cursor; /* how far the holes were searched, see stray.h; 0: no search is under way */
	bool stray_is_logged;  /* that they cannot be given back */
	uint64_t n_stray;      /* bytes that this search has found */
};

void trim_init(struct trim *trim, struct session *self, struct work *work, uint32_t n_spare, int32_t decay_ms);

/* Unmap a bounded part of a run. 1 there is more, 0 all of it is (or there was none), -EBUSY it cannot go on now. */
int trim_run_step(struct heap *heap, struct trim_run *run);

/* Before all else: return what a daemon before left half returned. -EBUSY the lock is taken, try again. */
int trim_adopt(struct trim *trim);

/*
 * A bounded step towards no free arena at all, for somebody who would get ENOMEM otherwise. 1 there may be more, 0
 * there is nothing to return, -EBUSY.
 */
int trim_step_for_need(struct trim *trim);

/* Is a run being returned at this moment? */
bool trim_is_at_work(const struct trim *trim);

/* It is that time, and the next tick comes TRIM_TICK_MS later. */
void trim_set_clock(struct trim *trim, int64_t now_ms);

/* A tick at that time: look for what can be returned, from the next turn of work on. */
void trim_tick(struct trim *trim, int64_t now_ms);

/* Does more memory stay than will in the end, so that another tick has to come? */
bool trim_needs_tick(const struct trim *trim);

/* The step that its item makes: towards what may stay. */
int trim_turn(struct trim *trim);
