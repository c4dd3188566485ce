/* SPDX-License-Identifier: MIT */
#pragma once

/* Pools and runs compared with their headers. See check_pool.c. */

#include "heap/repair/check_report.h"

void check_block_pool(struct check *check, uint32_t p);
/* The pools of the span that begins at pool p, n_left pools before the end of its arena. Returns how many it has. */
uint32_t check_span(struct check *check, uint32_t p, uint32_t n_left);
void check_run(struct check *check, uint32_t p);
void check_own_holds(struct check *check, uint32_t index);
