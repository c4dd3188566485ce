/* SPDX-License-Identifier: MIT */
#pragma once

/* A client's call, killed or stopped after each of its instructions: see stepper.c. */

#include "tracee.h"
#include "world.h"

enum plant {
	PLANT_NONE,
	PLANT_SKIP_LOG,     /* an entry of the undo log is left out */
	PLANT_EARLY_COMMIT, /* the log is emptied before the last stores of a change */
	PLANT_EARLY_WORD, /* a new object's header is there before its generation is counted and its slots are clear */
	PLANT_LOST_FREE,  /* a block that is freed does not come on its pool's free list */
	PLANT_OPEN_GATE,  /* a session that is in a call says that it is not */
};

struct plan {
	bool whole;        /* every instruction */
	uint32_t n_points; /* else so many of each call, */
	uint32_t stride;   /* or, where it is not 0, each stride-th */
	uint64_t seed;     /* which of them */
	bool stops;        /* SIGSTOP first, look whether the others go on, then SIGKILL */
	bool foreign;      /* victims lock as processes of another pid namespace do */
	enum plant plant;
	uint32_t plant_entry; /* with the first two: of the log of the call's first change in which there are so many,
				 counted from 1 */
	bool show;            /* each fault, not only the first few */
};

struct outcome {
	uint64_t n_instructions; /* of the call */
	uint64_t n_kills;
	uint64_t n_elsewhere; /* of them, where the call took another way than when it was traced */
	uint64_t n_with_lock; /* of them, with the global lock held */
	uint64_t n_faults;    /* places to be killed at, after which something was wrong */
	uint64_t wait_ns;     /* the survivor's longest */
	uint64_t n_blocked;   /* places at which it sleeps until somebody acts */
};

/* Is it one of those in calls that need no lock, and so no log? */
static inline bool plant_is_own(enum plant plant)
{
	return plant >= PLANT_EARLY_WORD;
}

/* All of it: starts a world of its own for the scenario. 0, or negative where the scenario itself cannot be run. */
int stepper_run(const struct scenario *scenario, const struct plan *plan, struct outcome *ret);

/* Which of n places are tried: the i-th; >= n: there are no more. */
uint64_t plan_place(const struct plan *plan, uint64_t n, uint64_t i);

/* What a signal handler has to call before the harness ends. */
void stepper_clear_up(void);
