/* SPDX-License-Identifier: MIT */
#pragma once

/* The heap compared with itself, and its figures. */

#include "heap/repair/check_report.h"
#include "include/pyheap.h"

/* Walk everything under the lock; the number of faults, or -ENOMEM. */
int64_t heap_check(struct session *session, check_report report, void *userdata);

/* One walk with the lock held. The number of faults, or -ENOMEM. */
int64_t check_walk(struct heap *heap, struct session *mender, struct faults *faults);

/* Count a bounded part of the heap into *ret; *cursor is 0 at first. False: that was all, and *ret is complete. No
 * lock.
 */
bool heap_stats_step(struct session *session, uint32_t *cursor, pyheap_stats *ret);

/* Sessions, for pyheap_client_next(). No lock: each is read as it is. */
int heap_client_next(struct session *session, uint64_t *cursor, pyheap_client_info *ret);
