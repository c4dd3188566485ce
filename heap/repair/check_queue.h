/* SPDX-License-Identifier: MIT */
#pragma once

/* Queues compared with their cells. See check_queue.c. */

#include "heap/repair/check_report.h"

void check_queue(struct check *check, const struct object *object);
