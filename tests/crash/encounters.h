/* SPDX-License-Identifier: MIT */
#pragma once

/* Two sessions at the same thing: see encounters.c. */

#include "scenario.h"

/* The one that owns the pool in question, and the one that comes to it. */
struct encounter {
	const char *name;
	struct scenario owner; /* the one that is prepared, made ready for and verified */
	struct scenario other; /* made ready when the owner stands before its call */
	void *from;            /* not NULL: the other's instructions count from where this function has returned */
};

extern const struct encounter encounters[]; /* ended by one without a name */

/* In stage->refs: how the other one fared, where that may be so or so. */
#define FARED 60

enum fared { FARED_UNKNOWN, FARED_IN_TIME, FARED_LATE };
