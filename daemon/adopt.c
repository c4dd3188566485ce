// SPDX-License-Identifier: MIT
/*
 * Going on where another daemon stopped
 *
 * That daemon may have been killed anywhere. Each step needs the one before it:
 *
 *   1. the lock    The daemon before is dead for certain, since its name is free. A change that the lock's owner did
 * not finish is taken back. If the owner was the dead daemon, an arena that it was just taking off the lists is on them
 * again.
 *   2. arenas      Those that were on their way to a session that is gone go back (supply_adopt_all()). Those that were
 * on their way to the system go back once the lock was had (trim_adopt()): until then it is not certain which those
 * are.
 *   3. sessions    Each active session gets a pidfd, if the process of its pid started when the daemon before has
 *                  noted that it did. Otherwise that process is gone, or has closed the session: it is dead, and
 *                  reclaimed as any other.
 *
 * All of it is decided by the truth (heap/shared/truth.c), which no client can write. A pid in the session table is
 * what clients read; nobody is watched, or signalled, because of what is there. An adopted session is watched for its
 * end only, until its process has come back by a connection of its own.
 *
 * A session whose process cannot be found (it is of another pid namespace, or /proc does not show it) stays until it is
 * resumed: nothing that may live is ever dropped.
 */
#include "daemon/adopt.h"

#include "daemon/log.h"
#include "heap/change/foreign_lock.h"
#include "heap/change/supply.h"
#include "heap/repair/recover.h"

#include <errno.h>
#include <string.h>

static int adopt_active(struct dsessions *sessions, uint32_t index, const struct session_record *record)
{
	struct heap *heap = sessions->self->heap;
	struct process process;
	int r;

	/* A pid of another namespace, the daemon's before this one, says nothing here. */
	r = session_withdraw(heap, index)
		    ? -ESRCH
		    : process_find(&process, record->is_here ? record->pid : 0, record->start_time);
	if (r == -ESRCH) {
		session_mark_dead(heap, index);
		dsession_start_dead(sessions, index);
		return 0;
	}
	if (r < 0) {
		log_error("cannot find out about process %d of session %u: %s", record->pid, index, strerror(-r));
		return r;
	}
	process.image = record->image;
	process.uid = record->uid;
	process.gid = record->gid;
	if (process.pidfd < 0)
		log_warning("session %u (%s) has no pid here: it stays until it is resumed", index, record->program);
	r = dsession_start(sessions, index, &process);
	process_deinit(&process);
	return r;
}

static int adopt_sessions(struct dsessions *sessions)
{
	struct session_record record;
	int r = 0;

	for (uint32_t i = 0; i < sessions->self->heap->n_sessions && r == 0; i++) {
		session_read(sessions->self->heap, i, &record);
		switch (record.state) {
		case SESSION_FREE:
			break;
		case SESSION_ACTIVE:
			r = adopt_active(sessions, i, &record);
			break;
		default:
			dsession_start_dead(sessions, i);
		}
	}
	return r;
}

int adopt_heap(struct dsessions *sessions, const char *name)
{
	struct heap *heap = sessions->self->heap;
	int r;

	foreign_lock_owner_died(heap, SESSION_DAEMON);
	/*
	 * Whatever it answers: a living session may have it, and takes back what a dead one left. What a client has
	 * written there must not keep the daemon from adopting.
	 */
	(void)lock_recover(sessions->self);
	supply_adopt_all(heap);
	r = adopt_sessions(sessions);
	if (r < 0) {
		log_error("cannot adopt the heap \"%s\": %s; if it stays so, remove it by pyheapd --name %s --remove",
			name, strerror(-r), name);
		return r;
	}
	log_notice("adopted the heap \"%s\" with %u sessions", name, sessions->n_used);
	return 0;
}
