// SPDX-License-Identifier: MIT
/*
 * The watch on the global lock
 *
 * Whoever next takes the lock after its owner died takes its change back; the daemon tries it with each tick so that
 * this happens also when nobody else comes. A living owner that was stopped, or computes on and on under pyheap_lock(),
 * holds everybody up. It can be seen from outside: the lock is taken, and the number of acquisitions does not move.
 *
 * Who that is, is said as soon as it has lasted from one tick to the next. After --lock-timeout he is evicted: killed,
 * by his session's pidfd, so that it is him and nobody who got his pid. His death then frees the lock as any other.
 *
 * He may be one who cannot be told: stopped before he said who he is, his thread id being of a pid namespace that is
 * not this daemon's. Then that number is said, by which he can be found from where all processes are seen.
 */
#include "daemon/lock_watch.h"
#include "heap/change/lock_report.h"

#include "daemon/daemon.h"
#include "daemon/log.h"
#include "heap/repair/recover.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LONG_MS 200  /* a tick: much longer than any change takes */
#define LATE_MS 1000 /* four of them */

/* The member that has the lock, or NULL where it cannot be told. */
static struct member *find_owner(struct daemon *daemon)
{
	uint32_t owner1 = lock_owner1(daemon->heap);

	if (!owner1 || owner1 > daemon->heap->n_sessions)
		return NULL;
	return daemon->members[owner1 - 1].state == MEMBER_NONE ? NULL : &daemon->members[owner1 - 1];
}

/* False: the lock has just become free. */
static bool name_unknown(struct daemon *daemon, int64_t ms)
{
	uint32_t tid = lock_owner_tid(daemon->heap);

	if (tid)
		log_warning("thread %u, of another pid namespace as it seems, has held the global lock for %lld ms; "
			    "everybody who changes the heap waits for it: continue or kill the process of which a line "
			    "NSpid in /proc/*/task/*/status ends in %u",
			tid, (long long)ms, tid);
	return tid;
}

/* False: there is nobody to be named. */
static bool name_owner(struct daemon *daemon, int64_t ms)
{
	const struct member *owner = find_owner(daemon);
	const struct session_entry *entry;

	if (!owner)
		return name_unknown(daemon, ms);
	entry = &daemon->heap->sessions[owner->index];
	log_warning(
		"session %u (pid %d, %.*s) has held the global lock for %lld ms; everybody who changes the heap waits "
		"for it: continue or kill it",
		owner->index, entry->pid, (int)sizeof(entry->program), entry->program, (long long)ms);
	return true;
}

static void evict_owner(struct daemon *daemon)
{
	const struct member *owner = find_owner(daemon);
	const struct session_entry *entry;
	int error = 0;

	if (!owner) {
		log_error(
			"thread %u, which has the global lock, is of no session that can be told: it cannot be evicted",
			lock_owner_tid(daemon->heap));
		return;
	}
	entry = &daemon->heap->sessions[owner->index];
	if (owner->process.pidfd < 0)
		error = ESRCH;
	else if (syscall(SYS_pidfd_send_signal, owner->process.pidfd, SIGKILL, NULL, 0) < 0)
		error = errno;
	if (error)
		log_error("session %u (pid %d, %.*s) cannot be evicted: %s; everybody waits until it is continued or "
			  "killed",
			owner->index, entry->pid, (int)sizeof(entry->program), entry->program, strerror(error));
	else
		log_warning(
			"session %u (pid %d, %.*s) is evicted: it was killed for having kept the global lock for %u s",
			owner->index, entry->pid, (int)sizeof(entry->program), entry->program,
			daemon->options->lock_timeout_s);
}

void lock_watch_tick(struct daemon *daemon, int64_t now_ms)
{
	struct lock_watch *watch = &daemon->lock_watch;
	struct global_lock *lock = &daemon->heap->control->lock;
	uint64_t n = __atomic_load_n(&lock->n_acquisitions, __ATOMIC_RELAXED);
	int64_t limit_ms = (int64_t)daemon->options->lock_timeout_s * 1000;
	int r = lock_recover(&daemon->self);

	if (r != -EBUSY) {
		if (watch->is_said)
			log_notice("the global lock is free again");
		if (r < 0)
			log_error("the global lock is damaged: %s", strerror(-r));
		*watch = (struct lock_watch){0};
		return;
	}
	/* A tick that comes late says that the daemon itself was stopped, and nothing about the lock. */
	if (watch->is_taken && now_ms - watch->tick_ms > LATE_MS)
		watch->is_taken = false;
	watch->tick_ms = now_ms;
	if (!watch->is_taken || watch->n_acquisitions != n) {
		if (watch->is_said && watch->n_acquisitions != n) /* another has it just now */
			log_notice("the global lock is free again");
		*watch = (struct lock_watch){
			.n_acquisitions = n, .since_ms = now_ms, .tick_ms = now_ms, .is_taken = true};
		return;
	}
	if (!watch->is_said && now_ms - watch->since_ms >= LONG_MS)
		watch->is_said = name_owner(daemon, now_ms - watch->since_ms);
	if (!watch->is_evicted && limit_ms && now_ms - watch->since_ms >= limit_ms) {
		watch->is_evicted = true;
		evict_owner(daemon);
	}
}
