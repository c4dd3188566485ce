// SPDX-License-Identifier: MIT
/*
 * Work in turns
 *
 * Granting a large run, dropping a million holds of a dead session, or returning memory takes longer than anybody else
 * should wait. Such work is cut into steps, each bounded; a turn makes a few steps, then the event loop looks at its
 * descriptors before the next one. Members take their steps in a circle, so that none waits for another's last one.
 *
 * A step that needs the global lock only tries it. While whatever is left waits for the lock, turns come each
 * millisecond; otherwise at once. With nothing left there are none.
 */
#include "daemon/daemon.h"

#include <errno.h>

#define STEPS_PER_TURN 8
#define TRIES_MAX      50

static void schedule(struct daemon *daemon, int r)
{
	struct timeval at_once = {0}, soon = {.tv_usec = 1000};

	if (r)
		evtimer_add(daemon->work.event, r > 0 ? &at_once : &soon);
}

static void on_turn(evutil_socket_t fd, short events, void *userdata)
{
	struct daemon *daemon = userdata;

	(void)fd;
	(void)events;
	schedule(daemon, work_turn(daemon));
}

int work_init(struct daemon *daemon)
{
	TAILQ_INIT(&daemon->work.members);
	daemon->work.event = evtimer_new(daemon->base, on_turn, daemon);
	return daemon->work.event ? 0 : -ENOMEM;
}

void work_deinit(struct daemon *daemon)
{
	if (daemon->work.event)
		event_free(daemon->work.event);
}

void work_wake(struct daemon *daemon)
{
	schedule(daemon, 1);
}

void work_add(struct daemon *daemon, struct member *member)
{
	if (!member->has_work) {
		member->has_work = true;
		TAILQ_INSERT_TAIL(&daemon->work.members, member, work_entry);
	}
	work_wake(daemon);
}

void work_remove(struct daemon *daemon, struct member *member)
{
	if (member->has_work)
		TAILQ_REMOVE(&daemon->work.members, member, work_entry);
	member->has_work = false;
}

/*
 * A change takes less than a microsecond, so who finds the lock taken finds it free a moment later, most often. Trying
 * a few times more is no waiting; without it a session that does nothing but change the heap would keep this daemon
 * out.
 */
static int step_patiently(struct member *member)
{
	int r = member_step(member);

	for (unsigned int i = 0; r == -EBUSY && i < TRIES_MAX; i++)
		r = member_step(member);
	return r;
}

int work_turn(struct daemon *daemon)
{
	bool progress = false, busy = false;
	int r;

	for (unsigned int i = 0; i < STEPS_PER_TURN && !TAILQ_EMPTY(&daemon->work.members); i++) {
		struct member *member = TAILQ_FIRST(&daemon->work.members);

		work_remove(daemon, member);
		r = step_patiently(member);
		if (r && !member->has_work) {
			member->has_work = true;
			TAILQ_INSERT_TAIL(&daemon->work.members, member, work_entry);
		}
		progress |= r >= 0;
		busy |= r < 0;
	}
	r = returns_turn(daemon);
	progress |= r > 0;
	busy |= r < 0;
	if (progress && (r || !TAILQ_EMPTY(&daemon->work.members)))
		return 1;
	return busy ? -EBUSY : 0;
}
