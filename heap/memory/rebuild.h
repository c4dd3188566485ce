/* SPDX-License-Identifier: MIT */
#pragma once

/* Derived state made anew from the truth: lists, bitmaps, counts. See rebuild.c. */

#include "heap/shared/session.h"

/*
 * With the lock held and all sessions kept out (critical_block_all()): make all of it anew, without the log. A process
 * that dies in the middle leaves control->rebuilding set, and the next owner of the lock begins again.
 */
void rebuild_all(struct heap *heap);

/* With the lock held, before rebuild_all() is done once more: request REQUEST_REBUILD of the active sessions. */
void rebuild_request_active(struct heap *heap);

/*
 * Within a change, by the session itself: make its own lists and counts anew, without the log: should it die in the
 * middle, nobody reads them any more. -EUCLEAN.
 */
int rebuild_own(struct session *session);
