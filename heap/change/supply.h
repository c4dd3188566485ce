/* SPDX-License-Identifier: MIT */
#pragma once

/* How arenas come and go. See supply.c. */

#include "heap/shared/session.h"

/*
 * Reserve `n` adjacent HOLEs for session `index` as one run: the head becomes MAPPING. -ENOMEM there are none that
 * adjoin (other memory may have to be returned first). *ret is the head.
 */
int supply_reserve(struct heap *heap, uint32_t index, uint32_t n, uint32_t *ret);

/*
 * Allocate and map the next `n_step` arenas of the reserved run `head`, of which *n_done are done, at last the pool
 * entries of arenas below it that are missing; bounded work, so that an event loop can go on in between. 1 when the
 * whole run is there: its head is GRANTED then. -ENOMEM (/dev/shm full, or too many mappings): give it up by
 * supply_unmap_step().
 */
int supply_map_step(struct heap *heap, uint32_t head, uint32_t n_step, uint32_t *n_done);

/*
 * Take RETURNING (or MAPPING, or a dead session's GRANTED) run `head` away: munmap, punch the hole, HOLE again, in
 * bounded steps of n_step arenas counted in *n_done. 1 when done, 0 when there is more.
 */
int supply_unmap_step(struct heap *heap, uint32_t head, uint32_t n_step, uint32_t *n_done);

/*
 * Under the lock that it tries to take (-EBUSY): pick one arena that can go (a wholly free one beyond n_spare, or a
 * RETURNABLE run), take it off its list and make it RETURNING. 1 and *ret its head; 0 nothing to return.
 */
int supply_pick_returning(struct session *daemon, uint32_t n_spare, uint32_t *ret);

/*
 * After a restart: take away runs that were MAPPING when the daemon before died, and GRANTED ones of sessions that are
 * FREE. Not bounded; used before clients are served.
 */
int supply_adopt_all(struct heap *heap);

/*
 * Does somebody who has no lock look into a run that was in use and is RETURNING now (count.c)? Then it is not taken
 * away yet. Nobody comes to it any more, so where it was said once that nobody does it stays so.
 */
bool supply_has_lookup(struct heap *heap, uint32_t head);

/*
 * The next run, from *cursor on, that a daemon before has left RETURNING: 1 and *ret its head, which is to be taken
 * away by supply_unmap_step(); 0 there is none any more; at first -EBUSY: the lock, which it tries to take, is taken.
 * To be done before this daemon makes any arena RETURNING itself.
 */
int supply_next_returning(struct session *daemon, uint32_t *cursor, uint32_t *ret);

/*
 * Of a session that is DEAD or waits to be resumed: make RETURNING what was granted to it and never accepted: 1 and
 * *ret a head, 0 none left, -EBUSY the lock is taken (it must be had once, since a dead owner's change may first have
 * to be taken back). has_lock: it is the session to be resumed that has the lock, and waits between two changes.
 */
int supply_pick_granted(struct session *daemon, uint32_t index, bool has_lock, uint32_t *ret);

/*
 * Take what the daemon granted to this session into use: an arena goes onto usable_arenas of the space that wanted it,
 * a run is kept for the next large object (session->wants_run, wants_space). -EPERM it was not granted to
 * this session, -EINVAL no such arena.
 */
int supply_accept(struct session *session, uint32_t head);
