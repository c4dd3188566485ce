/* SPDX-License-Identifier: MIT */
#pragma once

/* The command line of pyheapd: see options.c. */

#include "daemon/user.h"
#include "heap/shared/heap.h"

#include <stdbool.h>
#include <sys/types.h>

#define NAME_LENGTH_MAX 48
#define LOCK_TIMEOUT_S  10
#define DECAY_MS        1000
#define DECAY_MS_MAX    (24U * 3600 * 1000)

enum exit_code {
	EXIT_OK = 0,
	EXIT_RUNTIME = 1,
	EXIT_USAGE = 2,
	EXIT_SERVED = 3,  /* another daemon serves the name or the socket */
	EXIT_REFUSED = 4, /* the heap that is there is of another version, or damaged */
};

struct options {
	char socket[4096];
	bool socket_is_default;
	char name[NAME_LENGTH_MAX + 1];
	struct heap_geometry geometry; /* heap_size 0: half of what /dev/shm can hold */
	uint32_t n_spare_arenas;
	int32_t decay_ms;        /* -1: for ever */
	int log_level;           /* a syslog priority */
	uint32_t lock_timeout_s; /* 0: a process that keeps the lock is never killed */
	struct user_limits user; /* 0 in it: what users_set_limits() makes of the size */
	uint32_t n_kept_sessions;
	bool has_kept_sessions;
	gid_t group;
	bool has_group;
	pid_t until; /* the daemon ends with this process; 0: with none */
	bool keep;
	bool remove;
	bool done; /* --help or --version: it was printed, there is nothing to do */
};

/* -EINVAL with a line on stderr where the command line is wrong. */
int options_parse(struct options *ret, int argc, char **argv);

/* "12", "64K", "3M", "2G", "1T" in powers of 1024. -EINVAL, -ERANGE. */
int options_parse_size(const char *s, uint64_t *ret);

/* With which status pyheapd ends because of a negative errno (or 0) of serving: never EXIT_USAGE. */
int options_exit_code(int error);
