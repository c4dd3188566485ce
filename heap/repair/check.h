/* SPDX-License-Identifier: MIT */
#pragma once

/* The heap compared with itself, and its figures. */

#include "heap/object/object.h"
#include "include/pyheap.h"

typedef void (*check_report)(void *userdata, const char *fault);

/* Walk everything under the lock; the number of faults, or -ENOMEM. */
int64_t heap_check(struct session *session, check_report report, void *userdata);

/*
 * The same, and mend what was found. The number of faults there were, all mended; -EUCLEAN some are left, which were
 * reported once more; -ENOMEM nothing was mended.
 */
int64_t heap_repair(struct session *session, check_report report, void *userdata);

/* Count a bounded part of the heap into *ret; *cursor is 0 at first. False: that was all, and *ret is complete. No
 * lock.
 */
bool heap_stats_step(struct session *session, uint32_t *cursor, pyheap_stats *ret);

/* Sessions, for pyheap_client_next(). No lock: each is read as it is. */
int heap_client_next(struct session *session, uint64_t *cursor, pyheap_client_info *ret);
