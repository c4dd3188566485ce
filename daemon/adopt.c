// SPDX-License-Identifier: MIT
/*
 * Going on where another daemon stopped
 *
 * It may have been killed anywhere. In this order, since each step needs the one before:
 *
 *   1. the lock    the daemon before is dead for certain, since its name is free; a change that its owner did not
 * finish is taken back; if that was the dead daemon, an arena that it was just taking off the lists is on them again
 *   2. arenas      those that were on their way to a session that is gone go back (supply_adopt_all()); those on their
 * way to the system once the lock was had (returns_adopt()), since until then it is not certain that they were
 *   3. sessions    each that is active gets a pidfd, if the process of its pid started when the table says that it did.
 *                  Otherwise that process is gone, or has closed the session: it is dead, and cleared up as any other
 *
 * A session whose process cannot be told (it is of another pid namespace, or /proc does not show it) stays until it is
 * resumed: nothing that may live is ever dropped.
 */
#include "daemon/adopt.h"
#include "heap/change/foreign_lock.h"
#include "heap/change/supply.h"

#include "daemon/daemon.h"
#include "daemon/log.h"
#include "heap/repair/recover.h"

#include <errno.h>
#include <string.h>

static int adopt_active(struct daemon *daemon, uint32_t index)
{
	struct session_entry *entry = &daemon->heap->sessions[index];
	bool is_here = entry->pid_namespace && entry->pid_namespace == pid_namespace();
	struct process process;
	int r;

	/* A pid of another namespace, the daemon's before this one, says nothing here. */
	r = session_is_over(daemon->heap, index) ? -ESRCH
						 : process_find(&process, is_here ? entry->pid : 0, entry->start_time);
	if (r == -ESRCH) {
		session_mark_dead(daemon->heap, index);
		member_start_dead(daemon, index);
		return 0;
	}
	if (r < 0) {
		log_error("cannot find out about process %d of session %u: %s", entry->pid, index, strerror(-r));
		return r;
	}
	process.uid = entry->uid;
	process.gid = entry->gid;
	if (process.pidfd < 0)
		log_warning("session %u (%.*s) has no pid here: it stays until it is resumed", index,
			(int)sizeof(entry->program), entry->program);
	r = member_start(daemon, index, &process);
	process_deinit(&process);
	return r;
}

static int adopt_sessions(struct daemon *daemon)
{
	int r = 0;

	for (uint32_t i = 0; i < daemon->heap->n_sessions && r == 0; i++) {
		switch (daemon->heap->sessions[i].state) {
		case SESSION_FREE:
			break;
		case SESSION_ACTIVE:
			r = adopt_active(daemon, i);
			break;
		case SESSION_DEAD:
			member_start_dead(daemon, i);
			break;
		default:
			r = -EUCLEAN;
		}
	}
	return r;
}

int adopt_heap(struct daemon *daemon)
{
	int r;

	foreign_lock_owner_died(daemon->heap, SESSION_DAEMON);
	r = lock_recover(&daemon->self);
	if (r == 0 || r == -EBUSY) /* busy: a living session has it, and takes back what a dead one left */
		r = supply_adopt_all(daemon->heap);
	if (r == 0)
		r = adopt_sessions(daemon);
	if (r < 0) {
		log_error("cannot adopt the heap \"%s\": %s; if it stays so, remove it by pyheapd --name %s --remove",
			daemon->options->name, strerror(-r), daemon->options->name);
		return r;
	}
	daemon_need_tick(daemon); /* there may be arenas to return, also without a session */
	log_notice("adopted the heap \"%s\" with %u sessions", daemon->options->name, daemon->n_members);
	return 0;
}
