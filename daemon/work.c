// SPDX-License-Identifier: MIT
/*
 * Work in turns
 *
 * Granting a large run, dropping a million holds of a dead session, or returning memory takes longer than anybody else
 * should wait. Such work is cut into bounded steps. A turn makes a few steps; then the event loop looks at its
 * descriptors before the next turn. The items take their steps in a circle, so that no item waits for another item's
 * last step. The background item makes one step in each turn, however many others there are.
 *
 * A step that needs the global lock tries to take it and never waits. While all that is left waits for the lock, there
 * is a turn each millisecond; otherwise turns follow at once. When nothing is left there are no turns.
 *
 * A turn that is to be made at once is never put off: adding a timer again takes it off libevent's list of what is to
 * run now, and a descriptor that always has something would keep it off for ever (is_at_once).
 *
 * What a step does is known to the item alone.
 */
#include "daemon/work.h"

#include <errno.h>

#define STEPS_PER_TURN 8
#define TRIES_MAX      50

static void schedule(struct work *work, int r)
{
	struct timeval at_once = {0}, soon = {.tv_usec = 1000};

	if (!r || work->is_at_once)
		return;
	work->is_at_once = r > 0;
	evtimer_add(work->event, r > 0 ? &at_once : &soon);
}

static void on_turn(evutil_socket_t fd, short events, void *userdata)
{
	struct work *work = userdata;

	(void)fd;
	(void)events;
	work->is_at_once = false;
	schedule(work, work_turn(work));
}

int work_init(struct work *work, struct event_base *base)
{
	*work = (struct work){.event = evtimer_new(base, on_turn, work)};
	TAILQ_INIT(&work->items);
	return work->event ? 0 : -ENOMEM;
}

void work_deinit(struct work *work)
{
	if (work->event)
		event_free(work->event);
	work->event = NULL;
}

static void enqueue(struct work *work, struct work_item *item)
{
	if (!item->is_queued)
		TAILQ_INSERT_TAIL(&work->items, item, entry);
	item->is_queued = true;
}

void work_add(struct work *work, struct work_item *item)
{
	enqueue(work, item);
	schedule(work, 1);
}

void work_remove(struct work *work, struct work_item *item)
{
	if (item->is_queued)
		TAILQ_REMOVE(&work->items, item, entry);
	item->is_queued = false;
}

void work_wake(struct work *work)
{
	schedule(work, 1);
}

void work_remove_background(struct work *work)
{
	work->background = NULL;
}

/*
 * A change of the heap takes less than a microsecond, so a lock that is taken is free a moment later, most often. A few
 * more tries take no time; without them a session that does nothing but change the heap would keep this daemon out.
 */
static int step_patiently(struct work_item *item)
{
	int r = item->step(item->owner);

	for (unsigned int i = 0; r == -EBUSY && i < TRIES_MAX; i++)
		r = item->step(item->owner);
	return r;
}

bool work_goes_on(struct work *work)
{
	bool is_stuck = work->was_waiting && work->n_turns_seen == work->n_turns;

	work->was_waiting = !TAILQ_EMPTY(&work->items);
	work->n_turns_seen = work->n_turns;
	return !is_stuck;
}

int work_turn(struct work *work)
{
	bool progress = false, busy = false;
	int r = 0;

	work->n_turns++;
	for (unsigned int i = 0; i < STEPS_PER_TURN && !TAILQ_EMPTY(&work->items); i++) {
		struct work_item *item = TAILQ_FIRST(&work->items);

		work_remove(work, item);
		r = step_patiently(item);
		if (r)
			enqueue(work, item);
		progress |= r >= 0;
		busy |= r < 0;
	}
	r = work->background ? work->background->step(work->background->owner) : 0;
	progress |= r > 0;
	busy |= r < 0;
	if (progress && (r || !TAILQ_EMPTY(&work->items)))
		return 1;
	return busy ? -EBUSY : 0;
}
