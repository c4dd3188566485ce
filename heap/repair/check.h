/* SPDX-License-Identifier: MIT */
#pragma once

/* The heap compared with itself. */

#include "heap/repair/check_report.h"

/* Walk everything under the lock; the number of faults, or -ENOMEM. */
int64_t heap_check(struct session *session, check_report report, void *userdata);

/* One walk with the lock held. The number of faults, or -ENOMEM. */
int64_t check_walk(struct heap *heap, struct session *mender, struct faults *faults);
