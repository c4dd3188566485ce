/* SPDX-License-Identifier: MIT */
#pragma once

/* The files of a named heap: found, made, adopted, removed. See store.c. */

#include "daemon/options.h"

struct store {
	char control_path[80]; /* in /dev/shm */
	char heap_path[80];
	char truth_path[80];
	dev_t device; /* of the heap's file, with inode; 0: whatever is there goes with the name */
	ino_t inode;
	int guard_fd; /* this daemon serves the name; -1: it does not */
	int older_fd; /* of the control segment, for daemons of older builds; -1: none */
};

/*
 * Become the daemon of options->name and make its heap, or adopt the one that is there (*ret_adopted). Says in the log
 * what is wrong: -EADDRINUSE another daemon serves it, -EUCLEAN, -EMEDIUMTYPE or -EPROTONOSUPPORT what is there is
 * refused. The caller owns *ret_heap, and the store until store_close().
 */
int store_open(struct store *store, const struct options *options, struct heap **ret_heap, bool *ret_adopted);

/* Become the daemon of options->name and remove its heap, whatever it is. */
int store_remove(const struct options *options);

/* Could store_reset() make a heap now? Says in the log what is wrong: -ENOSPC, -ENOMEM, -ESTALE. */
int store_can_reset(const struct store *store, const struct options *options);

/* The heap that was there has ended and is unmapped: remove it and make another one of the name. */
int store_reset(struct store *store, const struct options *options, struct heap **ret_heap);

/*
 * Remove the shared memory objects; a process that has them mapped keeps them. Not where they are another daemon's by
 * now: somebody may have removed this one's.
 */
void store_unlink(const struct store *store);

/* Give the name up. */
void store_close(struct store *store);
