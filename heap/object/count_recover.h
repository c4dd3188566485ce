/* SPDX-License-Identifier: MIT */
#pragma once

/* Finishing what a dead session had begun with a count. See count_recover.c. */

#include "heap/shared/session.h"

/* Within a change: finish a dead session's intent to hold or drop. */
int count_finish(struct session *session);
