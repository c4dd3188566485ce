/* SPDX-License-Identifier: MIT */
#pragma once

/* The heap compared with itself. */

#include "heap/object/object.h"

typedef void (*check_report)(void *userdata, const char *fault);

/* Walk everything under the lock; the number of faults, or -ENOMEM. */
int64_t heap_check(struct session *session, check_report report, void *userdata);

/*
 * The same, and mend what was found. The number of faults there were, all mended; -EUCLEAN some are left, which were
 * reported once more; -ENOMEM nothing was mended.
 */
int64_t heap_repair(struct session *session, check_report report, void *userdata);
