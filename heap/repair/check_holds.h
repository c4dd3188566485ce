/* SPDX-License-Identifier: MIT */
#pragma once

/* What sessions have, counted. See check_holds.c. */

#include "heap/repair/check_report.h"

void check_session(struct check *check, uint32_t index);
