/* SPDX-License-Identifier: MIT */
#pragma once

/* A session's own pools: serving requests, collecting, refilling, trimming. See own_trim.c. */

#include "heap/shared/session.h"

/*
 * Returned by functions of own.h and here, beside negative errnos: it is to be done under the lock. Nothing was
 * changed.
 */
#define OWN_NOT 2

#define OWN_COLLECTIONS_MAX 3U /* changes of one call that collect */

/*
 * A change, or a few: make room for own_new() of that size. HEAP_WANTS_ARENAS. OWN_NOT: such an object has no room in
 * pools of its own. The caller sets session->n_collections to 0 before its first own_new() or own_refill().
 */
int own_refill(struct session *session, size_t size, size_t alignment);

/*
 * There is no memory left: collect all remotely freed blocks. 1: there were some, so try again. 0, or a negative errno.
 */
int own_collect_all(struct session *session);

/*
 * One change: serve the session's requests, after waiting for the process that keeps it out. If there is more to
 * collect than fits in one change, the session requests the rest of itself.
 */
int session_serve_requests(struct session *session);

/* Daemon: the session was active, so the next own_trim() begins anew. */
void own_trim_restart(struct heap *heap, uint32_t index);

/*
 * Daemon, one step: take back what an idle session keeps free. 1: there may be more, 0: there is no more. -EBUSY: the
 * lock is taken.
 */
int own_trim(struct session *daemon, uint32_t index);

/* session_serve_requests() for a call that may have collected before: after OWN_COLLECTIONS_MAX it collects no more. */
int own_serve_share(struct session *session);

/* A pool has become wholly free, and is not the only one with room of its class: it goes back, soon. */
void own_note_freed(struct session *session, const struct pool_entry *pool);
