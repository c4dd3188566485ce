// SPDX-License-Identifier: MIT
/*
 * The watch on the global lock
 *
 * Whoever next takes the lock after its owner died takes its change back; the daemon tries it with each tick so that
 * this happens also when nobody else comes. A living owner that was stopped, or computes on and on under pyheap_lock(),
 * holds everybody up. It can be seen from outside: the lock is taken, and the number of acquisitions does not move.
 */
#include "daemon/lock_watch.h"

#include "daemon/daemon.h"
#include "daemon/log.h"
#include "heap/recover.h"

#include <errno.h>
#include <string.h>

#define LONG_MS 1000

static void name_owner(struct daemon *daemon, uint32_t owner1, int64_t ms)
{
	struct heap *heap = daemon->heap;
	const struct session_entry *entry;

	if (!owner1 || owner1 > heap->n_sessions) {
		log_warning("the global lock has been held for %lld ms, by a process that has not said who it is; "
			    "everybody who changes the heap waits for it",
			(long long)ms);
		return;
	}
	entry = &heap->sessions[owner1 - 1];
	log_warning(
		"session %u (pid %d, %.*s) has held the global lock for %lld ms; everybody who changes the heap waits "
		"for it: continue or kill it",
		owner1 - 1, entry->pid, (int)sizeof(entry->program), entry->program, (long long)ms);
}

void lock_watch_tick(struct daemon *daemon, int64_t now_ms)
{
	struct lock_watch *watch = &daemon->lock_watch;
	struct global_lock *lock = &daemon->heap->control->lock;
	uint64_t n = __atomic_load_n(&lock->n_acquisitions, __ATOMIC_RELAXED);
	int r = lock_recover(&daemon->self);

	if (r != -EBUSY) {
		if (watch->is_said)
			log_notice("the global lock is free again");
		if (r < 0)
			log_error("the global lock is damaged: %s", strerror(-r));
		*watch = (struct lock_watch){0};
		return;
	}
	if (!watch->is_taken || watch->n_acquisitions != n) {
		*watch = (struct lock_watch){.n_acquisitions = n, .since_ms = now_ms, .is_taken = true};
		return;
	}
	if (!watch->is_said && now_ms - watch->since_ms >= LONG_MS) {
		watch->is_said = true;
		name_owner(daemon, __atomic_load_n(&lock->owner1, __ATOMIC_RELAXED), now_ms - watch->since_ms);
	}
}
