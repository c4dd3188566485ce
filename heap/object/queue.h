/* SPDX-License-Identifier: MIT */
#pragma once

/* Queues of refs: handing over with no moment unheld. See queue.c. Returns as the public functions, or
 * HEAP_WANTS_ARENAS. */

#include "heap/object/object.h"

int queue_push(struct session *session, uint64_t queue, uint64_t ref, int timeout_ms);
int queue_pop(struct session *session, uint64_t queue, uint64_t *ret, int timeout_ms);

/* Within a change: of a dead session, what it had begun has taken place, or has not: its intent is over. */
int queue_finish(struct session *dead);
/* The same where that fails, what it names being damaged: it is over, whatever a repair will find. */
int queue_forget(struct session *dead);
