// SPDX-License-Identifier: MIT
/*
 * The watch on the global lock
 *
 * A process that next takes the lock after its owner died takes the owner's change back. The daemon tries to take it
 * with each tick, so that this happens also when no session comes. A living owner that was stopped, or that computes on
 * and on under pyheap_lock(), holds every other session up. This is visible from outside: the lock is taken, and the
 * number of acquisitions does not move.
 *
 * The owner is named in the log as soon as it has kept the lock from one tick to the next. After --lock-timeout it is
 * evicted: killed by its session's pidfd, so that no process that got its pid is hit. Its death then frees the lock
 * like any other owner's.
 *
 * What is written at the lock any client can have written. So a session is evicted only where all of this is true:
 *
 *   - its process has connected to this daemon, which got its pidfd with that connection; a session that was adopted is
 *     watched for its end, and nothing more, until it has come back;
 *   - the thread that the lock names is one of that process, by /proc, each time that it is asked until the limit;
 *   - that thread has the lock by its own robust list, where the daemon may look at it: its own user's processes it
 * may, and root all (robust.c). So nobody is evicted there because another client has written its thread's number;
 *   - the kernel lets the daemon: it needs CAP_KILL for another user's process.
 *
 * Otherwise the log says whom to end, and that is for an operator to judge. A session that could not be evicted is,
 * once it has connected to this daemon, if it keeps the lock still.
 *
 * An owner that does not exist. The word may name nobody: a client wrote it, or a process without a robust list
 * died. The daemon breaks the lock, as that of a dead owner, where it is certain of that:
 *
 *   - the word has no number of a thread or a session, or that of a thread that does not exist, or of a session that
 *     is none: at once;
 *   - it has a thread that no connected process has, or whose robust list has no such lock: after --lock-timeout, if
 *     that was found each time until then.
 *
 * The word is marked before the daemon asks, so that it is not broken if it changes hands meanwhile (lock_word.c).
 * Where the daemon may not see the list of another user's thread, or is of another pid namespace than the heap's home,
 * it must believe the word. A living thread whose number was forged takes the lock itself when it next comes to it.
 *
 * The owner may be a thread of no session that is known here: it was stopped before it stored who it is, and its thread
 * id is of another pid namespace. Then that number is logged, by which the thread can be found from a namespace in
 * which all processes are seen.
 */
#include "daemon/lock_watch.h"

#include "daemon/damage.h"
#include "daemon/log.h"
#include "daemon/robust.h"
#include "heap/change/foreign_lock.h"
#include "heap/change/lock_report.h"
#include "heap/repair/recover.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LONG_MS 200  /* a tick: much longer than any change takes */
#define LATE_MS 1000 /* four of them */

void lock_watch_init(struct lock_watch *watch, const struct dsessions *sessions, uint32_t limit_s)
{
	*watch = (struct lock_watch){.sessions = sessions, .limit_s = limit_s};
}

static struct heap *heap_of(const struct lock_watch *watch)
{
	return watch->sessions->self->heap;
}

static uint32_t *word_of(const struct lock_watch *watch)
{
	return lock_word(&heap_of(watch)->control->lock);
}

/* The session that has the lock as the heap says, for reports; NULL where it is not known. */
static const struct dsession *find_said(const struct lock_watch *watch)
{
	uint32_t owner1 = lock_owner1(heap_of(watch));

	return owner1 ? dsessions_at(watch->sessions, owner1 - 1) : NULL;
}

/* 0: the thread does not have the lock, though the lock names it. Where nobody may look, what the lock says must do. */
static bool has_lock(const struct dsession *session, uint32_t tid)
{
	const struct heap *heap = session->all->self->heap;

	return robust_has(session->process.pid, tid, heap->control_fd, lock_word_offset()) != 0;
}

static bool is_served(const struct dsession *session)
{
	return session && (session->state == DSESSION_LIVE || session->state == DSESSION_RESUMING);
}

static bool has_thread(const struct dsession *session, uint32_t tid)
{
	return is_served(session) && process_has_thread(&session->process, tid) && has_lock(session, tid) &&
	       process_has_thread(&session->process, tid);
}

/* Is a thread's number in the word one of those that this daemon sees? */
static bool is_home(const struct lock_watch *watch)
{
	return watch->sessions->self->is_home;
}

/* The session of which the thread that has the lock is one, by what the kernel says; NULL: none that is known. */
static const struct dsession *find_owner(const struct lock_watch *watch)
{
	const struct dsession *said = find_said(watch);
	uint32_t tid = lock_owner_tid(heap_of(watch));

	if (!tid || tid > THREAD_ID_MAX || !is_home(watch))
		return NULL;
	if (has_thread(said, tid))
		return said;
	for (uint32_t i = 0; i < heap_of(watch)->n_sessions; i++)
		if (has_thread(dsessions_at(watch->sessions, i), tid))
			return dsessions_at(watch->sessions, i);
	return NULL;
}

/* No thread and no session goes by that name. */
static bool is_nobody(const struct lock_watch *watch, uint32_t name)
{
	if (name >> 29)
		return foreign_lock_session(name) != SESSION_DAEMON &&
		       !is_served(dsessions_at(watch->sessions, foreign_lock_session(name)));
	if (name > THREAD_ID_MAX)
		return true;
	return is_home(watch) && syscall(SYS_tkill, name, 0) < 0 && errno == ESRCH;
}

/* Can the thread be one of the session's process, and have the lock? */
static bool may_have_lock(const struct dsession *session, uint32_t tid)
{
	return is_served(session) && process_may_have_thread(&session->process, tid) && has_lock(session, tid);
}

/* There is such a thread, as it seems, but it does not have the lock, for certain. */
static bool is_not_its(const struct lock_watch *watch, uint32_t name)
{
	if (name > THREAD_ID_MAX || !is_home(watch))
		return false;
	for (uint32_t i = 0; i < heap_of(watch)->n_sessions; i++)
		if (may_have_lock(dsessions_at(watch->sessions, i), name))
			return false;
	return true;
}

/* False: the lock has just become free. */
static bool name_thread(const struct lock_watch *watch, int64_t ms)
{
	uint32_t tid = lock_owner_tid(heap_of(watch));

	if (tid)
		log_warning("thread %u, of no process that is connected as it seems, has held the global lock for %lld "
			    "ms; everybody who changes the heap waits for it: continue or kill the process of which a "
			    "line NSpid in /proc/*/task/*/status ends in %u",
			tid, (long long)ms, tid);
	return tid;
}

static const char *program_of(const struct lock_watch *watch, const struct dsession *session)
{
	return heap_of(watch)->truth->sessions[session->index].program;
}

/* False: there is nothing to be named. */
static bool name_owner(const struct lock_watch *watch, int64_t ms)
{
	const struct dsession *owner = find_owner(watch);

	if (!owner)
		owner = find_said(watch);
	if (!owner)
		return name_thread(watch, ms);
	log_warning(
		"session %u (pid %d, %s) has held the global lock for %lld ms; everybody who changes the heap waits "
		"for it: continue or kill it",
		owner->index, (int)owner->process.pid, program_of(watch, owner), (long long)ms);
	return true;
}

/* The heap says that this session has the lock, and nothing else does. */
static void leave_said(const struct lock_watch *watch, const struct dsession *said)
{
	log_error(
		"session %u (pid %d, %s) cannot be evicted: that it has the global lock only the heap says, where any "
		"client can write; everybody waits until its owner is continued or killed",
		said->index, (int)said->process.pid, program_of(watch, said));
}

static const char *reason(int error)
{
	if (error == -ENOTCONN)
		return "it has not come back since pyheapd was restarted";
	if (error == -EPERM)
		return "Operation not permitted (pyheapd needs CAP_KILL for it)";
	return strerror(-error);
}

/* False: it cannot be killed now. */
static bool evict(const struct lock_watch *watch, const struct dsession *owner)
{
	int r = process_kill(&owner->process);

	if (r == 0)
		log_warning("session %u (pid %d, %s) is evicted: it is killed for having kept the global lock for %u s",
			owner->index, (int)owner->process.pid, program_of(watch, owner), watch->limit_s);
	else if (!watch->is_judged)
		log_error("session %u (pid %d, %s) cannot be evicted: %s; everybody waits until it is continued or "
			  "killed",
			owner->index, (int)owner->process.pid, program_of(watch, owner), reason(r));
	return r == 0;
}

/* The owner is no thread of a process that is connected. */
static void leave_unknown(const struct lock_watch *watch)
{
	const struct dsession *said = find_said(watch);

	if (said)
		leave_said(watch, said);
	else
		log_error("thread %u, which has the global lock, is of no session that is known: it cannot be evicted; "
			  "kill it where it is seen",
			lock_owner_tid(heap_of(watch)));
}

/*
 * A process that was killed ends as soon as it runs, which in a frozen cgroup it does not (docker pause), nor in a call
 * that the kernel cannot interrupt. It is told apart from one that was continued by the lock, which is still its own.
 */
static void name_killed(const struct lock_watch *watch, const struct dsession *owner)
{
	log_warning(
		"session %u (pid %d, %s) was killed %u times and has not ended: its state is %c, as of a process in a "
		"frozen cgroup, if that is D; everybody waits until it is thawed or can run",
		owner->index, (int)owner->process.pid, program_of(watch, owner), watch->n_kills,
		process_state(&owner->process));
}

/* The limit is over, for the first time or again: evict the owner, or say why that cannot be. */
static void judge_owner(struct lock_watch *watch, int64_t now_ms)
{
	const struct dsession *owner = watch->owner1 ? dsessions_at(watch->sessions, watch->owner1 - 1) : NULL;
	uint32_t n_shift;

	if (!owner && !watch->is_judged)
		leave_unknown(watch);
	else if (owner && watch->n_kills && process_kill(&owner->process) == 0 && ++watch->n_kills)
		name_killed(watch, owner);
	else if (owner && !watch->n_kills)
		watch->n_kills = evict(watch, owner);
	n_shift = watch->n_kills > 1 ? watch->n_kills - 1 : 0;
	watch->retry_ms = now_ms + ((int64_t)watch->limit_s * 1000 << (n_shift < 6 ? n_shift : 6));
	watch->is_judged = true;
}

static void watch_restart(struct lock_watch *watch)
{
	lock_watch_init(watch, watch->sessions, watch->limit_s);
}

/* The word names an owner that does not have the lock. True: it was broken, and what a dead owner left is taken back.
 */
static bool break_lock(struct lock_watch *watch, uint32_t name, const char *why)
{
	if (!lock_word_break(word_of(watch), name))
		return false;
	log_warning("the global lock was marked as number %u's, which %s: it is broken, as a dead owner's would be; a "
		    "stray write, as it seems: look at pyheapctl check",
		name, why);
	if (lock_recover(watch->sessions->self) == 0 && watch->is_named)
		log_notice("the global lock is free again");
	watch_restart(watch);
	return true;
}

/* The word is marked before it is asked whose it is. */
static bool break_if_nobodys(struct lock_watch *watch)
{
	uint32_t name = lock_owner_tid(heap_of(watch));

	return name && lock_word_suspect(word_of(watch), name) && is_nobody(watch, name) &&
	       break_lock(watch, name, "does not exist");
}

/* At each tick until the limit it was no thread's that can have the lock; now that is asked for the last time. */
static bool break_if_not_its(struct lock_watch *watch)
{
	return !watch->owner1 && is_not_its(watch, watch->owner) && break_lock(watch, watch->owner, "does not have it");
}

/* Who has the lock is asked with each tick. Each of them gets the whole limit for itself. */
static void observe_owner(struct lock_watch *watch, int64_t now_ms)
{
	const struct dsession *owner = find_owner(watch);
	uint32_t owner1 = owner ? owner->index + 1 : 0, name = lock_owner_tid(heap_of(watch));

	if (watch->owner == name && watch->owner1 == owner1)
		return;
	watch->owner = name;
	watch->owner1 = owner1;
	watch->owner_since_ms = now_ms;
	watch->is_judged = false;
	watch->n_kills = 0;
}

/* The lock is taken: note since when. True: its owner is the one that it had at the last tick. */
static bool observe(struct lock_watch *watch, int64_t now_ms)
{
	uint64_t n = heap_n_acquisitions(heap_of(watch));
	bool is_another = watch->n_acquisitions != n;

	/* A tick that comes late says that the daemon itself was stopped, and nothing about the lock. */
	if (watch->is_taken && now_ms - watch->tick_ms > LATE_MS)
		watch->is_taken = false;
	watch->tick_ms = now_ms;
	if (watch->is_taken && !is_another)
		return true;
	if (watch->is_named && is_another)
		log_notice("the global lock is free again");
	watch_restart(watch);
	watch->n_acquisitions = n;
	watch->since_ms = watch->tick_ms = now_ms;
	watch->is_taken = true;
	return false;
}

void lock_watch_tick(struct lock_watch *watch, int64_t now_ms)
{
	int64_t limit_ms = (int64_t)watch->limit_s * 1000;
	int r = lock_recover(watch->sessions->self);
	bool is_due;

	if (r != -EBUSY) {
		if (watch->is_named)
			log_notice("the global lock is free again");
		if (r < 0)
			damage_log(
				heap_of(watch), 0, r, "the global lock, and no session can change the heap any more");
		watch_restart(watch);
		return;
	}
	if (break_if_nobodys(watch) || !observe(watch, now_ms))
		return;
	observe_owner(watch, now_ms);
	is_due = limit_ms && now_ms - watch->owner_since_ms >= limit_ms;
	if (is_due && break_if_not_its(watch))
		return;
	if (!watch->is_named && now_ms - watch->since_ms >= LONG_MS)
		watch->is_named = name_owner(watch, now_ms - watch->since_ms);
	if (is_due && (!watch->is_judged || now_ms >= watch->retry_ms))
		judge_owner(watch, now_ms);
}

void lock_watch_end(struct lock_watch *watch)
{
	if (lock_recover(watch->sessions->self) != -EBUSY || break_if_nobodys(watch))
		return;
	observe_owner(watch, 0);
	(void)break_if_not_its(watch);
}
