/* SPDX-License-Identifier: MIT */
#pragma once

/* Lists compared with what they should have. See check_list.c. */

#include "heap/repair/check_report.h"

void check_lists(struct check *check);
