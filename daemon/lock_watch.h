/* SPDX-License-Identifier: MIT */
#pragma once

/* A session that keeps the global lock is named, and at last evicted: see lock_watch.c. */

#include "daemon/dsession.h"

#include <stdbool.h>
#include <stdint.h>

struct lock_watch {
	const struct dsessions *sessions;
	uint32_t limit_s; /* --lock-timeout; 0: none */

	uint64_t n_acquisitions; /* of the lock, when it was seen taken */
	int64_t since_ms;        /* when that was */
	int64_t tick_ms;         /* the last one */
	uint32_t owner;          /* by which name the word had it at the last tick */
	uint32_t owner1;         /* the session, plus one, of whose process that is a thread; 0: none */
	int64_t owner_since_ms;  /* since when both were so at each tick */
	bool is_taken;
	bool is_named;    /* the log says which session keeps it */
	uint32_t n_kills; /* SIGKILLs that were sent to it */
	int64_t retry_ms; /* when the next one is due */
	bool is_judged;   /* that session was killed, or cannot be */
};

void lock_watch_init(struct lock_watch *watch, const struct dsessions *sessions, uint32_t limit_s);

/*
 * With each tick: take back what a dead owner was changing; name the session that keeps the lock, and kill its process
 * after the limit; break the lock of an owner that does not exist.
 */
void lock_watch_tick(struct lock_watch *watch, int64_t now_ms);

/* The heap has ended: its lock is broken at once where its owner does not have it, so that nobody waits for it. */
void lock_watch_end(struct lock_watch *watch);
