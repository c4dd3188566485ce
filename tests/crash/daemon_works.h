/* SPDX-License-Identifier: MIT */
#pragma once

/* Events that make the daemon work: see daemon_works.c. */

#include "scenario.h"

struct work {
	const char *name;
	const char *entry;              /* the daemon's function in which the work begins */
	void (*setup)(struct actor *);  /* client: before */
	void (*act)(struct actor *);    /* client: the event; NULL: its death is the event */
	void (*verify)(struct actor *); /* client: after the daemon was killed and another one runs */
	bool adopts;                    /* the event is that a fresh daemon starts */
	bool is_of_client; /* entry's second argument is the index of a session: only the client's session counts */
	bool is_one_call;  /* the work ends when entry returns, not when the daemon sleeps again */
	bool goes_on;      /* the client can also verify while there is no daemon */
	bool acts_before;  /* the client has finished act before the work begins */
};

extern const struct work daemon_works[]; /* ended by one without a name */

/* The survivor's objects, and the change in which another client dies. */
extern const struct scenario daemon_scenario;
