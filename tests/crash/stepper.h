/* SPDX-License-Identifier: MIT */
#pragma once

/* A client that is killed or stopped after each instruction of a call: see stepper.c. */

#include "tracee.h"
#include "world.h"

enum plant {
	PLANT_NONE,
	PLANT_SKIP_LOG,     /* an entry of the undo log is missing */
	PLANT_EARLY_COMMIT, /* the log is emptied before the last stores of a change */
	PLANT_EARLY_WORD, /* a new object's header says LIVE before its generation is counted and its slots are clear */
	PLANT_LOST_FREE,  /* a freed block is not on its pool's free list */
	PLANT_OPEN_GATE,  /* a session in a critical section says that it is in none */
};

struct plan {
	bool whole;        /* sample every instruction */
	uint32_t n_points; /* else: number of samples of each call, */
	uint32_t stride;   /* or, where it is not 0, one sample of each `stride` instructions */
	uint64_t seed;     /* chooses the samples */
	bool stops;        /* SIGSTOP first, see that the others go on, then SIGKILL */
	bool foreign;      /* victims lock as processes of another pid namespace do */
	enum plant plant;
	uint32_t plant_entry; /* the first two defects: number of the log's entry, from 1, in the first change that has
				 one */
	bool brief;           /* do not wait at the end until the daemon has trimmed the sessions */
	bool show;            /* print each fault, not only the first few */
};

struct outcome {
	uint64_t n_instructions; /* of the call, when it was last traced */
	uint64_t n_samples;      /* instructions at which the victim was to be killed */
	uint64_t n_missed;       /* samples that were not reached in N_TRIES tries */
	uint64_t n_anew;         /* tries that ended elsewhere, after which the sample was taken anew */
	uint64_t n_kills;        /* all of them, also those elsewhere and those in a trace */
	uint64_t n_with_lock;    /* kills while the victim had the global lock */
	uint64_t n_faults;       /* kills after which something was wrong */
	uint64_t n_false;        /* faults with --plant while no defect had been planted yet */
	uint64_t wait_ns;        /* the longest that the survivor waited for the lock after a kill */
	uint64_t n_blocked;      /* instructions in which the call sleeps until another process acts */
};

/* Is the defect one of those in calls that take no lock, and so have no log? */
static inline bool plant_is_own(enum plant plant)
{
	return plant >= PLANT_EARLY_WORD;
}

/* Run a scenario in a world of its own. 0, or negative where the scenario cannot be run at all. */
int stepper_run(const struct scenario *scenario, const struct plan *plan, struct outcome *ret);

/* For signal handlers: end all processes and remove the heap. */
void stepper_clear_up(void);
