/* SPDX-License-Identifier: MIT */
#pragma once

/* The heap compared with itself. See check.c. */

#include "heap/repair/check_report.h"

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
