// SPDX-License-Identifier: MIT
/*
 * Returning memory
 *
 * Sessions never tell the daemon that an arena became empty: they leave it on the heap's lists, where the next session
 * may take it. With each tick the daemon looks for empty ones beyond the spare arenas, takes one off the lists (under
 * the lock, which it only tries), and unmaps it and punches its hole (without the lock), until there are none.
 *
 * What was granted since the tick before counts as spare: whoever is growing has asked for more than it needs at once,
 * and would ask again.
 *
 * One run is being returned at a time. Should this daemon die in the middle, the next one finds it RETURNING and ends
 * it. One that is looked into without the lock (heap/object/count.c) waits: who was stopped there keeps that run from
 * being returned, and no other.
 */
#include "daemon/returns.h"
#include "heap/change/supply.h"

#include "daemon/daemon.h"
#include "daemon/log.h"

#include <errno.h>
#include <string.h>

#define ARENAS_PER_STEP 16

int unmapping_step(struct daemon *daemon, struct unmapping *unmapping)
{
	int r;

	if (!unmapping->head1)
		return 0;
	r = supply_unmap_step(daemon->heap, unmapping->head1 - 1, ARENAS_PER_STEP, &unmapping->n_done);
	if (r < 0) {
		/* Nothing is lost: the run stays as it is, and is tried again. */
		if (!unmapping->is_said)
			log_warning("cannot return the memory of arena %u yet: %s", unmapping->head1 - 1, strerror(-r));
		unmapping->is_said = true;
		return -EBUSY;
	}
	if (r == 0)
		return 1;
	*unmapping = (struct unmapping){0};
	return 0;
}

/* False: too many wait, it is to be tried again. */
static bool wait_for(struct returns *returns, uint32_t head)
{
	for (uint32_t i = 0; i < returns->n_waiting; i++)
		if (returns->waiting[i] == head)
			return true;
	if (returns->n_waiting == RETURNS_WAITING_MAX)
		return false;
	returns->waiting[returns->n_waiting++] = head;
	return true;
}

/* One of those that waited, into which nobody looks any more. */
static bool take_waiting(struct daemon *daemon, uint32_t *ret)
{
	struct returns *returns = &daemon->returns;

	for (uint32_t i = 0; returns->looks_again && i < returns->n_waiting; i++) {
		if (supply_has_lookup(daemon->heap, returns->waiting[i]))
			continue;
		*ret = returns->waiting[i];
		returns->waiting[i] = returns->waiting[--returns->n_waiting];
		return true;
	}
	returns->looks_again = false;
	return false;
}

/* All of them, or those that nobody looks into. */
static int adopt(struct daemon *daemon)
{
	uint32_t cursor = 0, head, n_done;
	int r;

	while ((r = supply_next_returning(&daemon->self, &cursor, &head)) > 0) {
		n_done = 0;
		if (!supply_has_lookup(daemon->heap, head))
			r = supply_unmap_step(daemon->heap, head, UINT32_MAX, &n_done);
		else if (!wait_for(&daemon->returns, head))
			r = -EBUSY;
		if (r < 0)
			return r;
	}
	return r;
}

int returns_adopt(struct daemon *daemon)
{
	int r;

	if (daemon->returns.is_adopted)
		return 0;
	r = adopt(daemon);
	if (r < 0 && r != -EBUSY)
		log_error("cannot return what the daemon before was returning: %s", strerror(-r));
	daemon->returns.is_adopted = r == 0;
	return r < 0 ? -EBUSY : 0;
}

int returns_step(struct daemon *daemon, uint32_t n_spare)
{
	struct unmapping *unmapping = &daemon->returns.unmapping;
	uint32_t head;
	int r;

	r = returns_adopt(daemon);
	if (r < 0)
		return r;
	if (!unmapping->head1) {
		if (!take_waiting(daemon, &head)) {
			r = supply_pick_returning(&daemon->self, n_spare, &head);
			if (r <= 0)
				return r;
			if (supply_has_lookup(daemon->heap, head) && wait_for(&daemon->returns, head))
				return 1;
		}
		*unmapping = (struct unmapping){.head1 = head + 1};
	}
	if (!unmapping->n_done && supply_has_lookup(daemon->heap, unmapping->head1 - 1))
		return -EBUSY; /* so many wait */
	r = unmapping_step(daemon, unmapping);
	return r < 0 ? r : 1;
}

void returns_want(struct daemon *daemon)
{
	struct returns *returns = &daemon->returns;

	returns->wanted = true;
	returns->looks_again = true;
	returns->n_spare = daemon->options->n_spare_arenas;
	if (returns->n_granted < INT32_MAX - returns->n_spare)
		returns->n_spare += returns->n_granted;
	returns->n_granted = 0;
	work_wake(daemon);
}

void returns_again(struct daemon *daemon)
{
	daemon->returns.wanted = true;
	work_wake(daemon);
}

int returns_turn(struct daemon *daemon)
{
	int r;

	if (!daemon->returns.wanted)
		return 0;
	r = returns_step(daemon, daemon->returns.n_spare);
	if (r < 0 && r != -EBUSY) {
		log_error("cannot look for empty arenas: %s", strerror(-r));
		r = 0;
	}
	if (r == 0)
		daemon->returns.wanted = false;
	return r;
}
