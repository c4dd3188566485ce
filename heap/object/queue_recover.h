/* SPDX-License-Identifier: MIT */
#pragma once

/* Finishing what a dead session had begun with a queue. See queue_recover.c. */

#include "heap/shared/session.h"

/*
 * Within a change: find out whether the push or pop of a dead session has taken place, drop its right if nobody else
 * has it, and end its intent.
 */
int queue_finish(struct session *session);
/* Within a change, if queue_finish() fails because what the intent names is damaged: end the intent. */
int queue_forget(struct session *session);
/* Within a change: wake another session where the dead one waited. */
void queue_pass_on(struct session *dead);
