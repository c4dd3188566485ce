/* SPDX-License-Identifier: MIT */
#pragma once

/* Memory for a session that asks for it: see grant.c. */

#include "daemon/advance.h"
#include "daemon/trim.h"

#include <stdbool.h>
#include <stdint.h>

#define GRANT_RUNS_MAX 16U

/* What a session has asked for. */
struct grant_request {
	bool is_active;
	bool is_within;      /* its user may have what it asks for */
	bool has_no_room;    /* it is the heap that is full, and not the machine */
	bool is_short;       /* there is no more memory: what there is has to do */
	uint32_t run_length; /* arenas, of each run */
	uint32_t n_wanted;   /* runs */
	uint32_t heads[GRANT_RUNS_MAX];
	uint32_t n_heads;   /* runs that are granted */
	uint32_t mapping1;  /* the first arena of the run that is being mapped, plus one; 0: none */
	uint32_t n_mapped;  /* arenas of it */
	int64_t give_up_ms; /* when to stop trying to make room; 0: not begun */
};

/* Of one session. */
struct grant {
	struct trim *trim;
	uint32_t index; /* of the session */

	struct grant_request request; /* the last one */
	uint32_t n_batch;             /* the largest batch of the last time */
	int64_t last_ms;              /* when that was */

	struct advance advance; /* what was granted and is not in use, where its user has a limit */
	struct trim_run run;    /* of what was reserved or granted, and is unmapped */
	bool is_taken_back;     /* nothing is granted that the session has not taken into use */
};

/* What is granted counts in the user's account; NULL: in nobody's. */
void grant_init(struct grant *grant, struct trim *trim, uint32_t index, struct user *user);
void grant_deinit(struct grant *grant);

/* The session, whose request before is answered, asks. -EINVAL for nothing, -ENOMEM for more than the whole heap. */
int grant_begin(struct grant *grant, uint32_t run_length, uint32_t n_runs);

/* Has the session asked, and was not answered? */
bool grant_is_active(const struct grant *grant);

/*
 * A bounded step. 1 there is more; 0 done: request.heads; -ENOMEM done, in vain; -EDQUOT done, the user has as many
 * arenas in advance as it may; -EBUSY it waits for the lock, or for the user's sessions to use what they have.
 */
int grant_step(struct grant *grant);

/* The session is dead, or resumed: the request is forgotten, and all that was granted and not taken into use is to be
 * taken back. */
void grant_cancel(struct grant *grant);

/*
 * After grant_cancel(): a bounded part of what was granted and not taken into use goes back. 1 there is more, 0 all of
 * it did, -EBUSY, or what is wrong with the heap. has_lock: the session lives and keeps the global lock meanwhile.
 */
int grant_take_back(struct grant *grant, bool has_lock);

/* A tick: which of what was granted is in use by now? */
void grant_tick(struct grant *grant);
