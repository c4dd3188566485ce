/* SPDX-License-Identifier: MIT */
#pragma once

/* Lists, bitmaps and numbers made anew from the truth. See rebuild.c. */

#include "heap/shared/session.h"

/* With the lock held, and the gate closed for all sessions (gate.h). Stores without the log: whoever dies in it leaves
 * `rebuilding` set, and the next taker who can begins again. */
void rebuild_all(struct heap *heap);

/* With the lock held, and before rebuild_all() is done again: those who are inside will do the next. */
void rebuild_request_active(struct heap *heap);

/* Within a change, by the session itself: its lists and numbers are made anew. By stores without the log: should it die
 * in it nobody looks at them any more. -EUCLEAN. */
int rebuild_own(struct session *session);
