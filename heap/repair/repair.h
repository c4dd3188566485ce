/* SPDX-License-Identifier: MIT */
#pragma once

/* The heap compared with itself, and mended. See repair.c. */

#include "heap/repair/check_report.h"

/*
 * The same, and mend what was found. The number of faults there were, all mended; -EUCLEAN some are left, which were
 * reported once more; -ENOMEM nothing was mended.
 */
int64_t heap_repair(struct session *session, check_report report, void *userdata);
