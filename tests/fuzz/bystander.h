/* SPDX-License-Identifier: MIT */
#pragma once

/* An innocent client beside the scribbler: see bystander.c. */

#include <stdint.h>

/* In memory that it shares with the driver. */
struct bystander_progress {
	uint64_t n_calls, n_errors, n_sessions;
	uint64_t max_us;           /* the longest call */
	const char *volatile call; /* the one that it is in: a string constant */
	uint32_t stop;             /* the driver: it is to end */
};

/* Work until it is told to stop. It opens its session anew where most calls fail. */
void bystander_run(const char *socket, uint64_t seed, struct bystander_progress *shared);

/* Microseconds of CLOCK_MONOTONIC. */
uint64_t bystander_now_us(void);
