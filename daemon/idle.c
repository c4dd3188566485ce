// SPDX-License-Identifier: MIT
/*
 * What sessions keep free
 *
 * A session keeps a pool of each class that it uses, and a run or two, for its next objects, and gathers what others
 * returned when it needs it (heap/object/own.c). One that does nothing any more would keep that memory for ever. So
 * each tick looks whether a session has made calls: where it has made none since the tick before, what it keeps free is
 * taken back, once, and again only when it has done something or somebody has returned blocks to it. One that is busy
 * with other things is asked to gather what was returned; it does so before its next call.
 */
#include "daemon/idle.h"

#include "daemon/daemon.h"
#include "daemon/log.h"
#include "heap/object/own.h"

#include <errno.h>
#include <string.h>

/* Relaxed, all loads here: what is missed now is seen at the next tick. */
static uint32_t look(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void idle_look(struct daemon *daemon, struct member *member)
{
	struct session_entry *entry = &daemon->heap->sessions[member->index];
	struct idleness *idleness = &member->idleness;

	if (!critical_poll_idle(entry)) {
		idleness->is_collected = false;
		idleness->is_wanted = false;
		own_trim_restart(daemon->heap, member->index);
		if (look(&entry->remote_pools1))
			critical_request(daemon->heap, member->index, REQUEST_COLLECT);
		return;
	}
	if (idleness->is_collected && look(&entry->n_remote_frees) == idleness->n_returns_collected)
		return;
	idleness->is_wanted = true;
	work_add(daemon, member);
}

void idle_tick(struct daemon *daemon)
{
	for (uint32_t i = 0; i < daemon->heap->n_sessions; i++)
		if (daemon->members[i].state == MEMBER_LIVE)
			idle_look(daemon, &daemon->members[i]);
}

int idle_step(struct daemon *daemon, struct member *member)
{
	const struct session_entry *entry = &daemon->heap->sessions[member->index];
	struct idleness *idleness = &member->idleness;
	uint32_t n_remote_frees = look(&entry->n_remote_frees);
	int r;

	/* One that does something again is not idle: its lists change, and going over them would never end. */
	if (look(&entry->activity) != ACTIVITY_NONE)
		idleness->is_wanted = false;
	if (!idleness->is_wanted)
		return 0;
	r = own_trim(&daemon->self, member->index);
	if (r > 0 || r == -EBUSY)
		return r;
	if (r < 0)
		log_error("session %u: what it keeps free cannot be taken back: %s; look at pyheapctl check",
			member->index, strerror(-r));
	idleness->is_wanted = false;
	idleness->is_collected = true; /* a call meanwhile is seen at the next tick */
	idleness->n_returns_collected = n_remote_frees;
	returns_again(daemon);
	return 0;
}
