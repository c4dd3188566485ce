/* SPDX-License-Identifier: MIT */
#pragma once

/* Two sessions that work on one pool, queue or object at the same time: see encounters.c. */

#include "scenario.h"

/* A session that owns the pool in question, and another one that comes to it. */
struct encounter {
	const char *name;
	struct scenario owner; /* with the survivor's part: prepare, ready, verify */
	struct scenario other; /* is set up when the owner is before its call */
	/* Where the other's instructions are counted from, if not from its call: */
	void *after; /* the return of this function, */
	void *at;    /* or the first instruction of this one */
};

extern const struct encounter encounters[]; /* ended by one without a name */

/* Index in stage->refs: whether the other session found the object still there, where both may happen. */
#define FARED 60

enum fared { FARED_UNKNOWN, FARED_IN_TIME, FARED_LATE };
