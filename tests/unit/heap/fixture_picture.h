/* SPDX-License-Identifier: MIT */
#pragma once

/* A heap with a little of everything, and pictures of it: see fixture_picture.c. */

#include "tests/unit/heap/fixture.h"

#define DEAD (&fx.sessions[2])

/* Session 0 made them; session 1 holds those that are lent. */
extern uint64_t bytes, inner, list, queue, named, known, run, lent, lent_run, lent_large;
extern uint64_t full[7]; /* all of a pool of session 0's */
/* Session 1 holds them, and their pools have no owner: one with room, a full one, one with nothing else in it. */
extern uint64_t unowned, unowned_full, unowned_alone;

/* So that each operation has lists to link into and something to change. */
void populate(void);

/* One session makes it, another holds it. */
uint64_t lend(struct session *from, struct session *to, size_t size);

struct picture {
	uint8_t *control;
	uint8_t *window; /* mapped arenas only; zeroes elsewhere */
};

struct picture picture_take(void);
void picture_free(struct picture *p);

/* Put the heap into the state of the picture. The lock, which this process has, stays as it is. */
void picture_restore(const struct picture *p);

/* The heap, or its control segment, is as in the picture. `when` and k are for the message where it differs. */
void compare(const struct picture *p, const char *when, uint32_t k);
void compare_control(const struct picture *p, const char *when, uint32_t k);
