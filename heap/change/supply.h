/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Supply: how arenas come from the system and go back. See supply.c.
 *
 * All but supply_accept() are the daemon's, and need no lock unless it is said.
 */

#include "heap/shared/session.h"

/*
 * Reserve n adjacent HOLEs for session `index` as one run: its head becomes MAPPING. *ret is the head. -ENOMEM no n
 * HOLEs are adjacent, so other memory may have to be unmapped first.
 */
int supply_reserve(struct heap *heap, uint32_t index, uint32_t n, uint32_t *ret);

/*
 * Allocate and map the next n_step arenas of the reserved run `head`, of which *n_done are done, and at the end the
 * missing pool entries of arenas below it. Bounded, so that an event loop goes on in between. 1 all is there, and the
 * head is GRANTED; 0 there is more. -ENOMEM /dev/shm is full, or there are too many mappings: give the run up by
 * supply_unmap_step().
 */
int supply_map_step(struct heap *heap, uint32_t head, uint32_t n_step, uint32_t *n_done);

/*
 * Unmap run `head`, which is RETURNING, or MAPPING, or GRANTED to a dead session, and punch its hole: it becomes HOLE
 * again, in bounded steps of n_step arenas that *n_done counts. 1 done; 0 there is more.
 */
int supply_unmap_step(struct heap *heap, uint32_t head, uint32_t n_step, uint32_t *n_done);

/*
 * Under the lock, which it tries to take: pick free arenas that can go, beyond n_spare, those that have been free for
 * longest; take them off their lists as one run, and make it RETURNING. Neighbours go together. 1 and *ret its head; 0
 * nothing can go; -EBUSY the lock is taken; -EUCLEAN. supply_pick_old() picks only what became free by the time
 * `before`, see supply_set_clock().
 */
int supply_pick_returning(struct session *daemon, uint32_t n_spare, uint32_t *ret);
int supply_pick_old(struct session *daemon, uint32_t n_spare, uint32_t before, uint32_t *ret);

/* How many arenas are free, at about this moment. */
uint32_t supply_n_free(const struct heap *heap);

/* Is it known that the daemon has no room for a run of n arenas? Then it need not be asked. */
bool supply_is_full(const struct heap *heap, uint32_t n);

/* What becomes free from now on became so at this time, in milliseconds modulo 2^32. */
void supply_set_clock(struct heap *heap, uint32_t clock_ms);

/*
 * After a restart: unmap runs that the daemon before has left MAPPING, and those GRANTED to sessions that are FREE.
 * What the system does not take back now is RETURNING afterwards. Not bounded; used before clients are served.
 */
void supply_adopt_all(struct heap *heap);

/*
 * Is a session without the lock reading a run that was in use and is RETURNING now (count.c)? Then it is not unmapped
 * yet. No session begins to read it any more, so an answer of false stays true.
 */
bool supply_has_lookup(struct heap *heap, uint32_t head);

/*
 * Cut a run that is RETURNING, and not being unmapped yet, so that the one arena that a session is reading is a run of
 * its own. The heads of the parts, at least one; returns how many there are.
 */
uint32_t supply_cut_lookup(struct heap *heap, uint32_t head, uint32_t ret[3]);

/*
 * The next run, from *cursor on, that a daemon before has left RETURNING: 1 and *ret its head, to be unmapped by
 * supply_unmap_step(); 0 there is none any more. The first call tries to take the lock: -EBUSY it is taken. Used before
 * this daemon makes any arena RETURNING itself.
 */
int supply_next_returning(struct session *daemon, uint32_t *cursor, uint32_t *ret);

/*
 * Make a run RETURNING that was granted to a session which is DEAD or waits to be resumed, and was never accepted. 1
 * and *ret its head; 0 there is none; -EBUSY the lock is taken. It must be had once, since a change of a dead owner may
 * have to be rolled back first. has_lock: the session to be resumed has the lock itself, and waits between two changes.
 */
int supply_pick_granted(struct session *daemon, uint32_t index, bool has_lock, uint32_t *ret);

/*
 * A session: take what the daemon has granted to it into use. An arena of pools goes onto usable_arenas of
 * session->wants_space; a run (session->wants_run) is kept for the next large object. -EPERM it was not granted to this
 * session; -EINVAL no such arena.
 */
int supply_accept(struct session *session, uint32_t head);
