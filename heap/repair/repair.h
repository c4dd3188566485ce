/* SPDX-License-Identifier: MIT */
#pragma once

/* The heap compared with itself, and mended. See repair.c. */

#include "heap/repair/check_report.h"

/*
 * heap_check(), and mend what it finds. Returns the number of faults, which are all mended. -EUCLEAN: some are left,
 * and were reported again. -ENOMEM: nothing was mended.
 */
int64_t heap_repair(struct session *session, check_report report, void *userdata);
