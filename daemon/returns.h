/* SPDX-License-Identifier: MIT */
#pragma once

/* Arenas that nobody uses go back to the system: see returns.c. */

#include <stdbool.h>
#include <stdint.h>

struct daemon;

/* A run of arenas that is being unmapped, over several steps. */
struct unmapping {
	uint32_t head1; /* plus one; 0: none */
	uint32_t n_done;
	bool is_said; /* that it cannot go on */
};

#define RETURNS_WAITING_MAX 64

struct returns {
	struct unmapping unmapping;
	uint32_t waiting[RETURNS_WAITING_MAX]; /* heads of runs that somebody looks into still */
	uint32_t n_waiting;
	bool looks_again;   /* whether somebody does: once a tick */
	bool is_adopted;    /* what a daemon before left half returned is returned */
	bool wanted;        /* look for more, until there is none */
	uint32_t n_spare;   /* empty arenas that are left alone meanwhile */
	uint32_t n_granted; /* arenas granted since the tick before */
};

/* A bounded step. 1 there is more, 0 it is done (or there was none), -EBUSY it cannot go on now. */
int unmapping_step(struct daemon *daemon, struct unmapping *unmapping);

/* First of all: return what a daemon before left half returned. -EBUSY. */
int returns_adopt(struct daemon *daemon);

/* A bounded step towards having no more than n_spare empty arenas. 1 there may be more, 0 there is nothing to return,
 * -EBUSY. */
int returns_step(struct daemon *daemon, uint32_t n_spare);

/* A tick: look for what can be returned, from the next turn of work on. */
void returns_want(struct daemon *daemon);

/* Between two ticks: pools came back to their arenas, look again. */
void returns_again(struct daemon *daemon);

/* A step if one is wanted, down to the spare ones. As returns_step(). */
int returns_turn(struct daemon *daemon);
