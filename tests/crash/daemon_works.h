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
};

extern const struct work daemon_works[]; /* ended by one without a name */

/* What the survivor has, and the change in which another client dies. */
extern const struct scenario daemon_scenario;
