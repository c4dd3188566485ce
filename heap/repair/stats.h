/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Figures of the heap and of its sessions. See stats.c.
 *
 * These are heap/'s own structs: heap/ does not include the public header. client/inspect.c copies them into the public
 * ones, which keep their layout for programs that were built long ago.
 */

#include "heap/shared/session.h"

struct class_stats {
	uint32_t size;        /* bytes of a block */
	uint32_t pool_blocks; /* blocks of a pool */
	uint64_t n_pools;
	uint64_t n_used;      /* blocks that are an object */
	uint64_t n_available; /* blocks that are not */
};

struct heap_stats {
	uint64_t heap_size; /* bytes that the heap may grow to */
	uint64_t arena_size;
	uint64_t pool_size;
	struct class_stats classes[N_CLASSES];

	uint64_t n_arenas_allocated; /* ever taken into use */
	uint64_t n_arenas_reclaimed; /* ever given back */
	uint64_t n_arenas_highwater; /* most in use at one time */
	uint64_t n_arenas_current;   /* in use now */

	/* Each byte of the current arenas is counted in exactly one of these eight. */
	uint64_t bytes_allocated_blocks;
	uint64_t bytes_available_blocks;
	uint64_t bytes_unused_pools;
	uint64_t bytes_pool_headers;
	uint64_t bytes_quantization; /* the end of a pool, which no block fits into */
	uint64_t bytes_medium_objects;
	uint64_t bytes_large_objects;
	uint64_t bytes_records; /* hold tables and names */
	uint64_t bytes_total;   /* the sum of the eight: n_arenas_current * arena_size */

	uint64_t n_medium_objects;
	uint64_t n_large_objects;
	uint64_t n_names;
	uint64_t n_types; /* registered ones */
	uint64_t n_sessions;
	uint64_t max_sessions;

	uint64_t n_lock_acquisitions;
	uint64_t n_lock_recoveries; /* times that the lock's owner was found dead and its change was taken back */
	uint64_t n_lock_waits;
	uint64_t lock_wait_ns; /* all waits together */
	uint64_t lock_wait_max_ns;
	uint64_t n_locks_timed; /* times that the lock's holding was timed, one in 64 */
	uint64_t lock_held_ns;  /* those together */
	uint64_t lock_held_max_ns;

	uint64_t n_pools_claimed;   /* pools, and runs of pools, that became a session's own */
	uint64_t n_blocks_returned; /* remote frees: blocks freed by another session than their owner */
};

#define CLIENT_PROGRAM_SIZE 40U

/* A session, and the process that has it. */
struct heap_client {
	uint32_t session; /* its index in the session table */
	int32_t pid;      /* 0: of another pid namespace than the daemon's */
	uint32_t uid;
	uint32_t gid;
	uint64_t n_holds;    /* objects that it holds, each counted once */
	uint64_t start_time; /* of the process, in clock ticks since boot */
	bool self;           /* it is the session that asks */
	bool has_lock;
	bool dead;                         /* it is being reclaimed */
	char program[CLIENT_PROGRAM_SIZE]; /* NUL-terminated */
};

/*
 * Count a bounded part of the heap into *ret; *cursor is 0 at first. Returns false when that was the last part: *ret is
 * complete. Takes no lock.
 */
bool heap_stats_step(struct session *session, uint32_t *cursor, struct heap_stats *ret);

/*
 * Walk the sessions: *cursor is 0 at first. 1: *ret is the next one; 0: there are no more. Takes no lock: each field is
 * as it was when it was read.
 */
int heap_client_next(struct session *session, uint64_t *cursor, struct heap_client *ret);
