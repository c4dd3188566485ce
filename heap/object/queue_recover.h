/* SPDX-License-Identifier: MIT */
#pragma once

/* What the dead had begun with a queue. See queue_recover.c. */

#include "heap/shared/heap.h"

/* Within a change: of a dead session, what it had begun has taken place, or has not: its intent is over. */
int queue_finish(struct session *dead);
/* The same where that fails, what it names being damaged: it is over, whatever a repair will find. */
int queue_forget(struct session *dead);
