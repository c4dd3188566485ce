/* SPDX-License-Identifier: MIT */
#pragma once

/* A daemon and a survivor of the harness's own: see world.c. */

#include "heap/memory/size_class.h"
#include "heap/shared/accessors.h"
#include "heap/shared/layout.h"
#include "scenario.h"

#include <sys/types.h>

/* What the survivor is asked to do. */
enum command {
	COMMAND_PREPARE = 'P',    /* open a session, make what is shared */
	COMMAND_READY = 'R',      /* what the scenario wants done before its victim begins, */
	COMMAND_BESIDE = 'S',     /* and while it stands before its call */
	COMMAND_BASELINE = 'B',   /* remember the heap's figures */
	COMMAND_VERIFY = 'V',     /* go on with what is shared after a death, look at it, put it back */
	COMMAND_LOOK = 'L',       /* take the lock, so that the dead one's change is taken back, and pyheap_check() */
	COMMAND_CHECK = 'C',      /* compare the figures with the baseline, then pyheap_check() */
	COMMAND_PARTNER = 'W',    /* let the waiting call go on */
	COMMAND_GO_ON = 'G',      /* work on what the victim has nothing to do with, and pyheap_check() */
	COMMAND_NAME_OWNER = 'N', /* tell who has the lock, while it cannot be taken: the victim has */
	COMMAND_QUIT = 'Q',
};

struct world {
	struct stage *stage;
	char folder[32];
	char name[48];
	char log[64];
	pid_t harness;
	pid_t daemon, survivor; /* 0: none */
	int line;               /* to the survivor; -1: none */
	const char *const *daemon_args;
	struct control *control; /* looked at from outside, as a tool may */
	size_t control_size;
	uint8_t *base; /* of the heap segment, the same */
	size_t size;
};

/* The processes that survivor_run() works in. */
void survivor_run(struct stage *stage, int line);

/* Start a daemon with `args` (ended by NULL) and wait until it admits. 0, or a negative errno and a message. */
int world_start(struct world *world, const char *const *args);

/* End and remove everything; any number of times. */
void world_stop(struct world *world);

/* Daemons alone, for those who kill it: start one (waiting for it or not), wait for it, forget one that was killed. */
int world_start_daemon(struct world *world);
int world_fork_daemon(struct world *world);
_Noreturn void world_exec_daemon(void *world); /* become it */
int world_await_daemon(struct world *world);

int world_start_survivor(struct world *world);
void world_kill_survivor(struct world *world);

/* Have the survivor do something. -ETIMEDOUT it hangs, -EPIPE it is gone. */
int world_ask(struct world *world, enum command command);

/* Is the daemon there? */
bool world_daemon_lives(struct world *world);

uint32_t world_count_sessions(const struct world *world);

/* Arenas of which nobody has the memory in use, though it is there: on their way to somebody, or back. */
uint32_t world_count_moving_arenas(const struct world *world);

/* The heap's arenas that something lies in: not those of which all is free, or kept by a session for its next objects.
 */
uint64_t world_count_used_arenas(const struct world *world);

/* Pools and runs that are free and that a session keeps. */
uint32_t world_count_kept(const struct world *world);

/* The session of a living process, NULL: it has none; the session of that index, NULL: there cannot be one; and the
 * header of what a ref names, or named. */
struct session_entry *world_session_of(const struct world *world, pid_t pid);
struct session_entry *world_session_at(const struct world *world, uint32_t index);
struct object_header *world_header_of(const struct world *world, pyheap_ref ref);

/* Bytes of the heap segment that take memory, beyond those of its current arenas. */
int64_t world_excess_bytes(const struct world *world);

/* Does the process have the global lock? */
bool world_has_lock(const struct world *world, pid_t pid);

uint64_t clock_ns(void);
void sleep_ms(unsigned int ms);
