/* SPDX-License-Identifier: MIT */
#pragma once

/* pyheapctl: what its subcommands share. See main.c. */

#include <pyheap.h>

#include <stdbool.h>
#include <stdio.h>

enum ctl_exit {
	CTL_OK = 0,
	CTL_FAILED = 1,
	CTL_USAGE = 2,
	CTL_NO_DAEMON = 3,
	CTL_BROKEN_PIPE = -1, /* whoever read stdout went away: main() ends by SIGPIPE */
};

struct ctl {
	pyheap *heap; /* an open session */
	bool json;
	bool repair;
};

/* A subcommand: runs with its arguments (its own name left out) and returns the exit code. */
typedef int (*ctl_run)(struct ctl *ctl, int n_args, char **args);

int run_stats(struct ctl *ctl, int n_args, char **args);
int run_ls(struct ctl *ctl, int n_args, char **args);
int run_rm(struct ctl *ctl, int n_args, char **args);
int run_put(struct ctl *ctl, int n_args, char **args);
int run_get(struct ctl *ctl, int n_args, char **args);
int run_clients(struct ctl *ctl, int n_args, char **args);
int run_check(struct ctl *ctl, int n_args, char **args);

/*
 * Say on stderr, in one line, what could not be done, on what, why, and what to do about it:
 *     pyheapctl: WHAT, on ON: WHY; ADVICE
 * `on` and `advice` may be NULL. Control characters in `on` are escaped. Returns CTL_FAILED.
 */
int ctl_fail(const char *what, const char *on, const char *why, const char *advice);

/* The same for an error of the library (negative errno), with the advice that fits it. */
int ctl_fail_heap(const char *what, const char *on, int error);

/* Objects of all sizes. */
uint64_t stats_n_objects(const pyheap_stats *stats);

/* ---- format.c --------------------------------------------------------------------------------------------------- */

#define NUMBER_MAX 32

/* The number in decimal with a comma between each three digits. Returns ret. */
const char *format_number(uint64_t n, char ret[NUMBER_MAX]);

/* Write s with backslashes and control characters escaped, so that it stays in its line and cannot steer a terminal. */
void print_escaped(FILE *file, const char *s);

/* Columns that print_escaped() takes on a terminal, each character of UTF-8 counted as one. */
size_t escaped_width(const char *s);

/* Write s as a JSON string, with its quotes. */
void print_json(FILE *file, const char *s);
