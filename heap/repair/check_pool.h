/* SPDX-License-Identifier: MIT */
#pragma once

/* Pools and runs compared with their headers. See check_pool.c. */

#include "heap/repair/check_report.h"

void check_block_pool(struct check *check, uint32_t p);
void check_run(struct check *check, uint32_t p);
void check_own_holds(struct check *check, uint32_t index);
