/* SPDX-License-Identifier: MIT */
#pragma once

/* The heap compared with itself, and its figures. See check.c and stats.c. */

#include "heap/repair/check_report.h"
#include "include/pyheap.h"

/*
 * Walk the whole heap under the lock, and report each fault once the lock is released. Returns the number of faults, or
 * -ENOMEM.
 */
int64_t heap_check(struct session *session, check_report report, void *userdata);

/*
 * Within a change, with all sessions kept out: one walk. With a mender it compares rights only, and mends them.
 * `faults` may be NULL. Returns the number of faults, or -ENOMEM.
 */
int64_t check_walk(struct heap *heap, struct session *mender, struct faults *faults);

/* Count a bounded part of the heap into *ret; *cursor is 0 at first. False: that was all, and *ret is complete. No
 * lock.
 */
bool heap_stats_step(struct session *session, uint32_t *cursor, pyheap_stats *ret);

/* Sessions, for pyheap_client_next(). No lock: each is read as it is. */
int heap_client_next(struct session *session, uint64_t *cursor, pyheap_client_info *ret);
