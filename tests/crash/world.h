/* SPDX-License-Identifier: MIT */
#pragma once

/* The daemon, the heap and the survivor that one program of the crash tests starts for itself: see world.c. */

#include "heap/memory/size_class.h"
#include "heap/shared/accessors.h"
#include "heap/shared/layout.h"
#include "scenario.h"

#include <sys/types.h>

/*
 * How long the harness waits for an event before it says that the event never comes. It is long, so that a busy machine
 * does not make a test fail; nothing is measured by it.
 */
#define WATCHDOG_S 180U

/* What the survivor is asked to do. */
enum command {
	COMMAND_PREPARE = 'P',    /* open a session, make what is shared */
	COMMAND_READY = 'R',      /* what the scenario wants done before its victim begins, */
	COMMAND_BESIDE = 'S',     /* and while it is before its call */
	COMMAND_BASELINE = 'B',   /* remember the heap's figures */
	COMMAND_VERIFY = 'V',     /* after a death: use the shared objects, compare their contents, put them back */
	COMMAND_LOOK = 'L',       /* take the lock, which rolls the dead session's change back, and pyheap_check() */
	COMMAND_CHECK = 'C',      /* compare the figures with the baseline, then pyheap_check() */
	COMMAND_PARTNER = 'W',    /* do what the victim's call waits for */
	COMMAND_GO_ON = 'G',      /* work on objects that the victim does not use, and pyheap_check() */
	COMMAND_NAME_OWNER = 'N', /* ask the library who has the lock, while the victim has it */
	COMMAND_QUIT = 'Q',
};

struct world {
	struct stage *stage;
	char folder[32];
	char name[48];
	char log[64];
	pid_t harness;
	pid_t daemon, survivor; /* 0: none */
	int line;               /* socket to the survivor; -1: none */
	const char *const *daemon_args;
	struct control *control; /* mapped to be read without a session */
	size_t control_size;
	uint8_t *base; /* of the heap segment, mapped likewise */
	size_t size;
};

/* The survivor's main loop: one command after the other from `line`. */
void survivor_run(struct stage *stage, int line);

/* Start a daemon with `args` (ended by NULL) and wait until it admits. 0, or a negative errno and a message. */
int world_start(struct world *world, const char *const *args);

/* End and remove everything; any number of times. */
void world_stop(struct world *world);

/* The daemon alone, for tests that kill it. world_start_daemon() forks it and waits until it admits. */
int world_start_daemon(struct world *world);
int world_fork_daemon(struct world *world);
_Noreturn void world_exec_daemon(void *world); /* the calling process becomes the daemon */
int world_await_daemon(struct world *world);

int world_start_survivor(struct world *world);
void world_kill_survivor(struct world *world);

/* Have the survivor obey a command. -ETIMEDOUT: it hangs; -EPIPE: it is gone. */
int world_ask(struct world *world, enum command command);

/* Does the daemon run? Says so on stderr where it has ended. */
bool world_daemon_lives(struct world *world);

uint32_t world_count_sessions(const struct world *world);

/* Arenas that are being mapped, granted or returned: their memory is there, and nobody uses it. */
uint32_t world_count_moving_arenas(const struct world *world);

/* Arenas with an object in them; free arenas and those that a session keeps for its next objects do not count. */
uint64_t world_count_used_arenas(const struct world *world);

/* Free pools and runs that sessions keep for their next objects. */
uint32_t world_count_kept(const struct world *world);

/*
 * The session of a living process (NULL: it has none), the entry of that index (NULL: beyond the table), and the header
 * of the object that a ref names or named.
 */
struct session_entry *world_session_of(const struct world *world, pid_t pid);
struct session_entry *world_session_at(const struct world *world, uint32_t index);
struct object_header *world_header_of(const struct world *world, pyheap_ref ref);

/* Bytes of memory that the heap segment takes beyond its current arenas. */
int64_t world_excess_bytes(const struct world *world);

/* Does the process have the global lock? */
bool world_has_lock(const struct world *world, pid_t pid);

uint64_t clock_ns(void);
uint64_t watchdog_ns(void); /* when a wait that begins now gives up */
void sleep_ms(unsigned int ms);
