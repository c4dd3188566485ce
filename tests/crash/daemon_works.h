/* SPDX-License-Identifier: MIT */
#pragma once

/* What makes the daemon work: see daemon_works.c. */

#include "scenario.h"

struct work {
	const char *name;
	const char *entry;              /* where it begins */
	void (*setup)(struct actor *);  /* client: before */
	void (*act)(struct actor *);    /* client: what makes the daemon work; NULL: its death does */
	void (*verify)(struct actor *); /* client: after the daemon was killed and is back */
	bool adopts;                    /* a fresh daemon's work */
	bool is_of_client; /* the entry's second argument says whose session it is about: the client's is meant */
	bool is_one_call;  /* the work is done when the entry returns, not only when the daemon sleeps again */
	bool goes_on;      /* the client can verify while there is no daemon, too */
};

extern const struct work daemon_works[]; /* ended by one without a name */

/* What the survivor has, and the change in which another client dies. */
extern const struct scenario daemon_scenario;
