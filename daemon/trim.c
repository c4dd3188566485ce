// SPDX-License-Identifier: MIT
/*
 * Returning memory
 *
 * A session leaves an arena that became empty on the heap's lists, where the next session may take it; it does not
 * notify the daemon. What was freed just now is asked for again soon, so free arenas stay for --decay. The session that
 * frees one notes the time on it, by a clock that the daemon sets: it is ahead by a tick, so that nothing is older than
 * it seems. With each tick the daemon looks for what has been free for longer than --decay, beyond --spare-arenas. It
 * takes arenas off the lists, neighbours at once (under the lock, which it only tries to take), unmaps them and punches
 * their hole (without the lock), and so on until there are none. All go at once where somebody else would get ENOMEM.
 *
 * One run is returned at a time. If this daemon dies in the middle, the next one finds the run RETURNING and ends it.
 *
 * A session may be reading an arena without the lock (heap/object/count.c). That arena waits, cut out of its run, until
 * a tick finds that nobody reads it any more: a session that was stopped there keeps no other from being returned.
 *
 * Behind all of that it gives back pages that clients have made in holes (heap/change/stray.c).
 */
#include "daemon/trim.h"

#include "daemon/damage.h"
#include "daemon/log.h"
#include "heap/change/stray.h"
#include "heap/change/supply.h"

#include <errno.h>
#include <string.h>

#define ARENAS_PER_STEP 16

static int step_of_item(void *owner)
{
	return trim_turn(owner);
}

void trim_init(struct trim *trim, struct session *self, struct work *work, uint32_t n_spare, int32_t decay_ms)
{
	*trim = (struct trim){
		.self = self,
		.work = work,
		.item = {.step = step_of_item, .owner = trim},
		.n_spare = n_spare,
		.decay_ms = decay_ms,
	};
	work->background = &trim->item;
}

int trim_run_step(struct heap *heap, struct trim_run *run)
{
	int r;

	if (!run->head1)
		return 0;
	r = supply_unmap_step(heap, run->head1 - 1, ARENAS_PER_STEP, &run->n_done);
	if (r < 0) {
		/* Nothing is lost: the run stays as it is, and is tried again. */
		if (!run->is_logged)
			log_warning("cannot return the memory of arena %u yet: %s; pyheapd tries again", run->head1 - 1,
				strerror(-r));
		run->is_logged = true;
		return -EBUSY;
	}
	if (r == 0)
		return 1;
	*run = (struct trim_run){0};
	return 0;
}

/* The run waits until nobody reads it. False: too many runs wait, try again later. */
static bool wait_for(struct trim *trim, uint32_t head)
{
	for (uint32_t i = 0; i < trim->n_waiting; i++)
		if (trim->waiting[i] == head)
			return true;
	if (trim->n_waiting == TRIM_WAITING_MAX)
		return false;
	trim->waiting[trim->n_waiting++] = head;
	return true;
}

/* The part of the run that is read waits until nobody reads it, and the others for their turn. */
static bool wait_in_parts(struct trim *trim, uint32_t head)
{
	uint32_t parts[3], n;

	if (trim->n_waiting > TRIM_WAITING_MAX - 3)
		return wait_for(trim, head);
	n = supply_cut_lookup(trim->self->heap, head, parts);
	for (uint32_t i = 0; i < n; i++)
		wait_for(trim, parts[i]);
	trim->retries_waiting |= n > 1;
	return true;
}

/* Take a run that waited and that nobody reads any more. */
static bool take_waiting(struct trim *trim, uint32_t *ret)
{
	for (uint32_t i = 0; trim->retries_waiting && i < trim->n_waiting; i++) {
		if (supply_has_lookup(trim->self->heap, trim->waiting[i]))
			continue;
		*ret = trim->waiting[i];
		trim->waiting[i] = trim->waiting[--trim->n_waiting];
		return true;
	}
	trim->retries_waiting = false;
	return false;
}

/* Return all of them, but for those that somebody reads, or that cannot be returned now. */
static int return_leftovers(struct trim *trim)
{
	uint32_t cursor = 0, head, n_done;
	int r;

	while ((r = supply_next_returning(trim->self, &cursor, &head)) > 0) {
		n_done = 0;
		if (!supply_has_lookup(trim->self->heap, head))
			r = supply_unmap_step(trim->self->heap, head, UINT32_MAX, &n_done);
		else
			r = -EAGAIN;
		if (r < 0 && !wait_for(trim, head))
			return -EBUSY;
	}
	return r;
}

int trim_adopt(struct trim *trim)
{
	int r;

	if (trim->is_adopted)
		return 0;
	r = return_leftovers(trim);
	if (r < 0 && r != -EBUSY)
		log_error("cannot return the memory that the daemon before was returning: %s; pyheapd tries again",
			strerror(-r));
	trim->is_adopted = r == 0;
	return r < 0 ? -EBUSY : 0;
}

static int pick(struct trim *trim, bool is_needed, uint32_t *ret)
{
	if (is_needed)
		return supply_pick_returning(trim->self, 0, ret);
	return trim->decay_ms == DECAY_NEVER ? 0 : supply_pick_old(trim->self, trim->n_spare, trim->before, ret);
}

/* Choose the run that is returned next. 1 one was chosen, 0 there is none, 2 there is one that waits. */
static int choose_run(struct trim *trim, bool is_needed)
{
	uint32_t head;
	int r;

	if (!take_waiting(trim, &head)) {
		r = pick(trim, is_needed, &head);
		if (r <= 0)
			return r;
		if (supply_has_lookup(trim->self->heap, head) && wait_in_parts(trim, head))
			return 2;
	}
	trim->run = (struct trim_run){.head1 = head + 1};
	return 1;
}

static int trim_step(struct trim *trim, bool is_needed)
{
	uint32_t head;
	int r = trim_adopt(trim);

	if (r < 0)
		return r;
	if (!trim->run.head1) {
		r = choose_run(trim, is_needed);
		if (r != 1)
			return r == 2 ? 1 : r;
	}
	if (!trim->run.n_done && supply_has_lookup(trim->self->heap, trim->run.head1 - 1))
		return -EBUSY; /* too many wait for it to wait among them */
	head = trim->run.head1 - 1;
	r = trim_run_step(trim->self->heap, &trim->run);
	if (r < 0 && !wait_for(trim, head))
		return r;
	if (r < 0)
		trim->run = (struct trim_run){0}; /* the next tick tries it again; the others go on */
	return 1;
}

bool trim_is_at_work(const struct trim *trim)
{
	return trim->run.head1 != 0;
}

void trim_set_clock(struct trim *trim, int64_t now_ms)
{
	supply_set_clock(trim->self->heap, (uint32_t)now_ms + TRIM_TICK_MS);
}

void trim_tick(struct trim *trim, int64_t now_ms)
{
	trim_set_clock(trim, now_ms);
	trim->retries_waiting = true;
	trim->is_wanted = true; /* also what is RETURNING already */
	trim->before = (uint32_t)now_ms - (uint32_t)trim->decay_ms;
	if (!trim->decay_ms) /* what became free since the last tick, too */
		trim->before += TRIM_TICK_MS;
	work_wake(trim->work);
}

bool trim_needs_tick(const struct trim *trim)
{
	return trim->decay_ms != DECAY_NEVER && supply_n_free(trim->self->heap) > trim->n_spare;
}

int trim_step_for_need(struct trim *trim)
{
	return trim_step(trim, true);
}

/* When there is nothing else to return: pages that clients have made in holes, as by mlockall(). 1 there may be more.
 */
static int stray_turn(struct trim *trim)
{
	int r = stray_step(trim->self->heap, &trim->stray_cursor, &trim->n_stray);

	if (r > 0)
		return 1;
	if (r < 0 && !trim->stray_is_logged)
		log_warning("cannot give back %s that a client has touched outside all arenas: %s",
			log_size(trim->n_stray), strerror(-r));
	else if (r == 0 && trim->n_stray)
		log_notice("gave back %s that clients have touched outside all arenas (mlockall, or a stray access)",
			log_size(trim->n_stray));
	trim->stray_is_logged = r < 0;
	trim->stray_cursor = 0;
	trim->n_stray = 0;
	return 0;
}

int trim_turn(struct trim *trim)
{
	int r;

	if (!trim->is_wanted)
		return 0;
	r = trim_step(trim, false);
	if (r < 0 && r != -EBUSY) {
		damage_log(trim->self->heap, 0, r, "empty arenas cannot be looked for");
		r = 0;
	}
	if (r == 0)
		r = stray_turn(trim);
	if (r == 0)
		trim->is_wanted = false;
	return r;
}
