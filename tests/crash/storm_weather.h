/* SPDX-License-Identifier: MIT */
#pragma once

/* Everything that the storm makes go wrong: see storm_weather.c. */

#include "storm.h"

/* One of the workers; when it has ended, another one takes its number. */
struct victim {
	pid_t pid;           /* 0: none */
	bool is_killed;      /* by the storm: its end is expected */
	uint64_t stopped_ns; /* when it was stopped; 0: it runs */
	uint64_t continue_ns;
};

struct weather {
	struct box *box;
	uint64_t random;
	struct victim workers[N_WORKERS]; /* the survivors among them */
	struct victim hog;
	int daemon_signal; /* sent to end the daemon; 0: none */
	bool daemon_is_stopped, is_filled;
	uint64_t next_kill, next_stop, next_long_stop, next_daemon, next_fill, fill_ends; /* ns */
	uint64_t n_grown_before, full_since;
	uint64_t n_calls_seen[N_SURVIVORS], moved_ns[N_SURVIVORS];
	uint64_t n_kills, n_stops, n_evictions, n_daemon_kills, n_daemon_ends, n_daemon_stops, n_fills, n_workers;
};

void weather_begin(struct weather *weather, struct box *box);

/* Do what is due now. */
void weather_step(struct weather *weather);

/* After a fault: leave everything as it is until a signal comes. */
void weather_freeze(struct weather *weather);

/* Calm weather: no process is stopped, the daemon runs, memory is there; the workers end. */
void weather_end(struct weather *weather);
