/* SPDX-License-Identifier: MIT */
#pragma once

/* What goes wrong: see storm_weather.c. */

#include "storm.h"

/* A place where one worker comes after the other. */
struct victim {
	pid_t pid;           /* 0: nobody is there */
	bool is_killed;      /* by us: its end is expected */
	uint64_t stopped_ns; /* 0: it runs; else since when it is stopped */
	uint64_t continue_ns;
};

struct weather {
	struct box *box;
	uint64_t random;
	struct victim workers[N_WORKERS]; /* the survivors among them */
	struct victim hog;
	int daemon_signal; /* that we sent for it to end; 0: none */
	bool daemon_is_stopped, is_filled;
	uint64_t next_kill, next_stop, next_long_stop, next_daemon, next_fill, fill_ends; /* ns */
	uint64_t n_grown_before, full_since;
	uint64_t n_calls_seen[N_SURVIVORS], moved_ns[N_SURVIVORS];
	uint64_t n_kills, n_stops, n_evictions, n_daemon_kills, n_daemon_ends, n_daemon_stops, n_fills, n_workers;
};

void weather_begin(struct weather *weather, struct box *box);

/* Whatever is due. */
void weather_step(struct weather *weather);

/* Nothing happens any more, until a signal comes. */
void weather_freeze(struct weather *weather);

/* It clears up: nobody is stopped any more, the daemon is there, and so is memory; workers end. */
void weather_end(struct weather *weather);
