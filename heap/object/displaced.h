/* SPDX-License-Identifier: MIT */
#pragma once

/* What a slot or name had before: dropped in a change of its own. See displaced.c. */

#include "heap/shared/session.h"

/*
 * Within a change that took `ref` (0: none) out of a place, and unlinked the name at position name1 - 1 (0: none): ends
 * that change, as one that has taken place, and drops them in the next one. Errors as right_drop(), of the second
 * change alone.
 */
int displaced_drop(struct session *session, uint64_t ref, uint64_t name1);

/* Within a change: drop what a session left there that died between the two. */
int displaced_finish(struct session *session);
