/* SPDX-License-Identifier: MIT */
#pragma once

/* Arenas: the daemon maps and returns them, sessions take them into use and pools from them. See arena.c. */

#include "heap/change/lock.h"

/* ---- daemon: memory comes and goes; no lock unless said -----------------------------------------------------------
 */

/*
 * Reserve `n` adjacent HOLEs for session `index` as one run: the head becomes MAPPING. -ENOMEM there are none that
 * adjoin (other memory may have to be returned first). *ret is the head.
 */
int arena_reserve(struct heap *heap, uint32_t index, uint32_t n, uint32_t *ret);

/*
 * Allocate and map the next `n_step` arenas of the reserved run `head`, of which *n_done are done, at last the pool
 * entries of arenas below it that are missing; bounded work, so that an event loop can go on in between. 1 when the
 * whole run is there: its head is GRANTED then. -ENOMEM (/dev/shm full, or too many mappings): give it up by
 * arena_unmap_step().
 */
int arena_map_step(struct heap *heap, uint32_t head, uint32_t n_step, uint32_t *n_done);

/*
 * Take RETURNING (or MAPPING, or a dead session's GRANTED) run `head` away: munmap, punch the hole, HOLE again, in
 * bounded steps of n_step arenas counted in *n_done. 1 when done, 0 when there is more.
 */
int arena_unmap_step(struct heap *heap, uint32_t head, uint32_t n_step, uint32_t *n_done);

/*
 * Under the lock that it tries to take (-EBUSY): pick one arena that can go (a wholly free one beyond n_spare, or a
 * RETURNABLE run), take it off its list and make it RETURNING. 1 and *ret its head; 0 nothing to return.
 */
int arena_pick_returning(struct session *daemon, uint32_t n_spare, uint32_t *ret);

/*
 * After a restart: take away runs that were MAPPING when the daemon before died, and GRANTED ones of sessions that are
 * FREE. Not bounded; used before clients are served.
 */
int arena_adopt_all(struct heap *heap);

/*
 * Does somebody who has no lock look into a run that was in use and is RETURNING now (count.c)? Then it is not taken
 * away yet. Nobody comes to it any more, so where it was said once that nobody does it stays so.
 */
bool arena_has_lookup(struct heap *heap, uint32_t head);

/*
 * The next run, from *cursor on, that a daemon before has left RETURNING: 1 and *ret its head, which is to be taken
 * away by arena_unmap_step(); 0 there is none any more; at first -EBUSY: the lock, which it tries to take, is taken. To
 * be done before this daemon makes any arena RETURNING itself.
 */
int arena_next_returning(struct session *daemon, uint32_t *cursor, uint32_t *ret);

/*
 * Of a session that is DEAD or waits to be resumed: make RETURNING what was granted to it and never accepted: 1 and
 * *ret a head, 0 none left, -EBUSY the lock is taken (it must be had once, since a dead owner's change may first have
 * to be taken back). has_lock: it is the session to be resumed that has the lock, and waits between two changes.
 */
int arena_pick_granted(struct session *daemon, uint32_t index, bool has_lock, uint32_t *ret);

/* ---- sessions -----------------------------------------------------------------------------------------------------
 */

/*
 * Take what the daemon granted to this session into use: an arena goes onto usable_arenas of the space that wanted it,
 * a run is kept for the next large object (session->wants_run, wants_space). -EPERM it was not granted to
 * this session, -EINVAL no such arena.
 */
int arena_accept(struct session *session, uint32_t head);

/* ---- within a change (the lock is held) ---------------------------------------------------------------------------
 */

/* Take `n` adjacent free pools, at least 1, of a usable arena: one of the fullest that have them, or of the emptiest.
 * *ret is the first. HEAP_WANTS_ARENAS (1 arena). */
int arena_take_pools(struct session *session, enum space_kind space, uint32_t n, uint32_t *ret);

/* Give pools back; the entries must be POOL_FREE already. */
int arena_give_pools(struct session *session, uint32_t first, uint32_t n);

/* Take a run of n arenas for a large object: one that was granted, or a RETURNABLE one. HEAP_WANTS_ARENAS (n). */
int arena_take_run(struct session *session, uint32_t n, enum space_kind space, uint32_t *ret_head);

/* Give it back: RETURNABLE. */
int arena_give_run(struct session *session, uint32_t head);

/* ---- small ones ---------------------------------------------------------------------------------------------------
 */

/* The rank of an arena with that many free pools. */
static inline uint32_t arena_rank(const struct heap *heap, uint32_t n_free_pools)
{
	if (!n_free_pools)
		return 0;
	if (n_free_pools >= heap->pools_per_arena)
		return RANK_FREE;
	return 1 + (n_free_pools << 3 >> (heap->arena_shift - POOL_SHIFT));
}
