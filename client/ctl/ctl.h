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
	CTL_BROKEN_PIPE = -1, /* the reader of stdout went away: main() ends by SIGPIPE */
};

struct ctl {
	pyheap *heap; /* an open session; NULL where the command needs none */
	bool json;
	bool repair;
	bool yes;
	const char *size;   /* as given; NULL: by default */
	const char *socket; /* as given; NULL: by default */
};

/* A subcommand's function gets its arguments without its own name, and returns the exit code. */
typedef int (*ctl_run)(struct ctl *ctl, int n_args, char **args);

int run_stats(struct ctl *ctl, int n_args, char **args);
int run_ls(struct ctl *ctl, int n_args, char **args);
int run_rm(struct ctl *ctl, int n_args, char **args);
int run_put(struct ctl *ctl, int n_args, char **args);
int run_get(struct ctl *ctl, int n_args, char **args);
int run_clients(struct ctl *ctl, int n_args, char **args);
int run_evict(struct ctl *ctl, int n_args, char **args);
int run_reset(struct ctl *ctl, int n_args, char **args);
int run_run(struct ctl *ctl, int n_args, char **args);
int run_check(struct ctl *ctl, int n_args, char **args);

/* The number of objects of all sizes. */
uint64_t stats_n_objects(const pyheap_stats *stats);

/* command.c: the table of subcommands, and the help that is made of it. */

struct command {
	const char *name;
	const char *arguments; /* as the help shows them; an array of them is marked by ... */
	const char *info;      /* one line */
	ctl_run run;           /* NULL: help, which needs no session */
	int min_args;
	int max_args;          /* -1: any number */
	const char *json_keys; /* what --json prints; NULL: the command does not have --json */
	bool has_repair;       /* it has --repair */
	bool has_yes;          /* it has --yes */
	bool has_size;         /* it has --size */
	bool needs_no_session;
};

/* NULL: there is none of that name. */
const struct command *command_find(const char *name);

/* The help of one subcommand; NULL: of all. */
void help_print(const struct command *command);

/* error.c: each function says on stderr, in one line, what failed and what to do about it. */

/*
 *     pyheapctl: WHAT, on ON: WHY; ADVICE
 *
 * `on` and `advice` may be NULL. Control characters in `on` are escaped. Returns CTL_FAILED.
 */
int ctl_fail(const char *what, const char *on, const char *why, const char *advice);

/* For a negative errno of the library, with the advice that fits it. Returns CTL_FAILED. */
int ctl_fail_heap(const char *what, const char *on, int error);

/* For wrong usage. Returns CTL_USAGE. */
int ctl_fail_usage(const char *what, const char *on, const char *why);

/* For a session that could not be opened. `socket` is as given, NULL: by default. Returns CTL_NO_DAEMON. */
int ctl_fail_connect(const char *socket, int error);

/* format.c: numbers and names. */

#define NUMBER_MAX 32

/* The number in decimal, with a comma between each three digits. Returns ret. */
const char *format_number(uint64_t n, char ret[NUMBER_MAX]);

/* Write s with backslashes and control characters escaped, so that it stays in its line and cannot steer a terminal. */
void print_escaped(FILE *file, const char *s);

/* Columns that print_escaped() takes on a terminal. Each character of UTF-8 counts as one. */
size_t escaped_width(const char *s);

/* Write s as a JSON string, with its quotes. */
void print_json(FILE *file, const char *s);
