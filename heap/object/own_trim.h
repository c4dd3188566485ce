/* SPDX-License-Identifier: MIT */
#pragma once

/* A session's own pools: collecting, refilling, trimming. See own_trim.c. */

#include "heap/change/lock.h"

/* What a function here returns, beside negative errnos, when the thing goes under the lock. Nothing was changed. */
#define OWN_NOT 2

#define OWN_COLLECTIONS_MAX 3U /* changes of one call that collect */

/*
 * A change, or a few: see to it that own_new() of that size finds room. HEAP_WANTS_ARENAS; OWN_NOT it is none for such
 * pools. Before the first of both the caller sets session->n_collections to 0.
 */
int own_refill(struct session *session, size_t size, size_t alignment);

/* There is no memory for what the session wants: gather all that was returned to it. 1 there was something: try it
 * again. */
int own_collect_all(struct session *session);

/* Somebody wants something of the session: wait until he is done, and see to what he asks for. Where that is to gather
 * more than one change can, he asks for the rest still. */
int session_serve_requests(struct session *session);

/* Daemon: the session has done something: what was gone through so far of what it keeps free is gone through anew. */
void own_trim_restart(struct heap *heap, uint32_t index);

/* Daemon, one step: take back what an idle session keeps free. 1 there may be more, 0 done, -EBUSY the lock is taken.
 */
int own_trim(struct session *daemon, uint32_t index);

int own_serve_share(struct session *session);
void own_note_freed(struct session *session, const struct pool_entry *pool);
