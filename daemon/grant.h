/* SPDX-License-Identifier: MIT */
#pragma once

/* Memory for a session that asks for it: see grant.c. */

#include "proto/frame.h"

#include <stdbool.h>
#include <stdint.h>

#define GRANT_RUNS_MAX 16U

struct client;
struct daemon;
struct member;

struct grant {
	bool is_active;
	bool is_short;       /* there is no more memory: what there is has to do */
	uint32_t run_length; /* arenas, of each run */
	uint32_t n_wanted;   /* runs */
	uint32_t heads[GRANT_RUNS_MAX];
	uint32_t n_heads;   /* runs that are granted */
	uint32_t mapping1;  /* the run that is being mapped, plus one; 0: none */
	uint32_t n_mapped;  /* arenas of it */
	int64_t give_up_ms; /* when to stop trying to make room; 0: not begun */

	uint32_t n_batch; /* the largest batch of the last time */
	int64_t last_ms;  /* when that was */
};

/* A GrantRequest: answered at once if it is wrong or hopeless, else by and by. */
void grant_request(struct client *client, const Pyheap__GrantRequest *request);

/* A bounded step. 1 there is more, 0 it was answered, -EBUSY it waits for the lock. */
int grant_step(struct daemon *daemon, struct member *member);

/* The session is dead: nothing more is granted. What was being mapped becomes member->unmapping. */
void grant_cancel(struct member *member);
