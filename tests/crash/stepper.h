/* SPDX-License-Identifier: MIT */
#pragma once

/* A client's call, killed or stopped after each of its instructions: see stepper.c. */

#include "tracee.h"
#include "world.h"

enum plant {
	PLANT_NONE,
	PLANT_SKIP_LOG,     /* an entry of the undo log is left out */
	PLANT_EARLY_COMMIT, /* the log is emptied before the last stores of a change */
};

struct plan {
	bool whole;        /* every instruction */
	uint32_t n_points; /* else so many of each call, */
	uint32_t stride;   /* or, where it is not 0, each stride-th */
	uint64_t seed;     /* which of them */
	bool stops;        /* SIGSTOP first, look whether the others go on, then SIGKILL */
	bool foreign;      /* victims lock as processes of another pid namespace do */
	enum plant plant;
	uint32_t plant_entry; /* of the log of the call's first change in which there are so many: counted from 1 */
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

/* All of it: starts a world of its own for the scenario. 0, or negative where the scenario itself cannot be run. */
int stepper_run(const struct scenario *scenario, const struct plan *plan, struct outcome *ret);

/* Which of n places are tried: the i-th; >= n: there are no more. */
uint64_t plan_place(const struct plan *plan, uint64_t n, uint64_t i);

/* What a signal handler has to call before the harness ends. */
void stepper_clear_up(void);
