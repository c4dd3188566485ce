// SPDX-License-Identifier: MIT
/*
 * The global lock, and changes made under it
 *
 * The lock is a robust futex word (lock_word.c), and nothing else says who has it. Whatever is changed under it goes
 * through the undo log (log.c): the process that takes the lock after its owner has died rolls the dead owner's change
 * back and goes on. A change that fails half-way is rolled back in the same way.
 *
 * The word lies where every client can write. It is believed for who is to wait, and nothing that is in shared memory
 * leads anywhere: what the kernel and the C library follow for a thread with the lock is the process's own memory
 * (thread_list.c). A forged word may make a session wait until the daemon breaks it, or two sessions change the heap at
 * the same time, which damages it; the daemon waits for nobody, and keeps nothing that it took.
 *
 * For a change. A session names the lock in its thread's list_op_pending for the whole change, instead of putting it
 * into the thread's list and out again, which takes half of the time. It holds as long as the thread takes no other
 * robust mutex meanwhile, which nothing in a change does. What is known of a thread is valid only in the process that
 * found it out, since the threads of a forked child have other ids. So a session names its process by a number that no
 * process of its ancestors had; or (0) the thread is asked each time.
 *
 * By number. Processes of other pid namespaces than the heap's home, and threads without a robust list, have the lock
 * by their session's number, which the daemon removes once they have ended (foreign_lock.c).
 *
 * Between calls. What session_lock() took belongs to the thread, which has the lock in its list then. So another thread
 * of the session gets -EPERM. When the thread ends, the kernel passes the lock on to the next taker, and the session
 * finds out that it has lost the lock (session_refresh_lock()): by the thread id, and by n_acquisitions, should the id
 * belong to another thread by now. A lock by number belongs to the session: any of its threads uses the lock and gives
 * it back, also when the thread that took it has ended. What that thread was in the middle of is in the log then, and
 * is rolled back before the session's next change or its unlocking; or, if the thread had taken the lock for one change
 * only, when the session next takes it.
 *
 * Closing. A session that is closed gives the lock back, if its thread may. If another, living thread took it, the lock
 * is left to that thread (session_abandon_lock()), which gives it back when it next takes the lock for any session, or
 * detaches from the heap; should it end before, the kernel passes the lock on. Until then the mapping stays, since the
 * thread's list leads into it.
 *
 * Died after ...                                the next taker ...
 *   naming the lock, before the word is stored   finds the lock free
 *   the word's store                             sees FUTEX_OWNER_DIED, rolls back and goes on
 *   the word is cleared, before a wake-up        is woken by the kernel: list_op_pending still names the lock
 */

#include "heap/change/lock.h"
#include "heap/change/foreign_lock.h"
#include "heap/change/thread_list.h"
#include "heap/memory/rebuild.h"
#include "heap/shared/critical.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SPINS             300U /* pauses, some 100 cycles each */
#define SPINS_PER_CHECK   8U
#define LOCK_TIMED_ONE_IN 64U /* reading the clock costs as much as the lock does */
#define REBUILD_TURNS     1000U
#define REBUILD_NSEC      1000000

/* Most changes find the lock free, no dead owner and no request, and commit: other code is kept out of their way. */
#define LOCK_RARE        __attribute__((noinline))
#define LOCK_LIKELY(x)   __builtin_expect(!!(x), 1)
#define LOCK_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Is this thread known, without asking, as one that has a list? */
static inline bool fast_is_possible(const struct session *session)
{
	if (LOCK_UNLIKELY(this_thread.process != session->process))
		thread_learn(session->process);
	return LOCK_LIKELY(this_thread.robust && session->process);
}

/* False: the lock was not free, or its owner has died, or this thread cannot use the fast path. */
static inline bool fast_take(struct session *session)
{
	struct global_lock *lock = &session->control->lock;
	uint32_t nobody = 0;

	if (LOCK_UNLIKELY(!fast_is_possible(session)))
		return false;
	thread_set_pending(lock);
	/* acquire: with the release of the owner before */
	session->is_pending = __atomic_compare_exchange_n(
		lock_word(lock), &nobody, this_thread.tid, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
	if (LOCK_UNLIKELY(!session->is_pending))
		thread_set_pending(NULL);
	return session->is_pending;
}

static inline void pending_release(struct session *session)
{
	session->is_pending = false;
	lock_word_give(lock_word(&session->control->lock));
	thread_set_pending(NULL); /* last: should this thread die owing a wake-up, the kernel makes up for it */
}

static LOCK_RARE void listed_release(struct session *session)
{
	struct global_lock *lock = &session->control->lock;

	session->is_listed = false;
	if (!thread_know(session->process))
		return;
	thread_set_pending(lock);
	thread_list_remove(lock);
	pending_release(session);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Add one measured time to its figures. Relaxed: for reports. */
static void note_time(uint64_t *n, uint64_t *sum, uint64_t *max, uint64_t ns)
{
	shared_add(*n, 1);
	shared_add(*sum, ns);
	if (ns > read_once(*max))
		__atomic_store_n(max, ns, __ATOMIC_RELAXED);
}

static LOCK_RARE void note_held(struct session *session)
{
	struct figures *f = &session->control->figures;

	note_time(&f->n_locks_timed, &f->lock_held_ns, &f->lock_held_max_ns, now_ns() - session->lock_taken_ns);
	session->lock_taken_ns = 0;
}

static void note_waited(struct session *session, uint64_t since)
{
	struct figures *f = &session->heap->control->figures;

	note_time(&f->n_lock_waits, &f->lock_wait_ns, &f->lock_wait_max_ns, now_ns() - since);
}

/* A dead owner's lock was taken: its change is rolled back. */
static LOCK_RARE void lock_recover_dead(struct session *session)
{
	struct global_lock *lock = &session->control->lock;

	/* With the fence in own.c's put_back(): either that finds the lock gone, or this what was put back. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	/* relaxed: for reports. First of all, so that reports do not name the dead owner. */
	__atomic_store_n(&lock->owner1, session->owner1, __ATOMIC_RELAXED);
	log_roll_back(session->heap);
	shared_add(lock->n_recoveries, 1);
}

static inline void lock_release(struct session *session)
{
	struct global_lock *lock = &session->control->lock;

	if (LOCK_UNLIKELY(session->lock_taken_ns))
		note_held(session);
	__atomic_store_n(&lock->owner1, 0, __ATOMIC_RELAXED);
	if (LOCK_LIKELY(session->is_pending))
		pending_release(session);
	else if (session->is_listed)
		listed_release(session);
	else
		lock_word_give(lock_word(lock));
}

static inline int note_taken(struct session *session)
{
	struct global_lock *lock = &session->control->lock;
	uint64_t n;

	/* relaxed, both: for reports, and for is_held_by() of this thread */
	__atomic_store_n(&lock->owner1, session->owner1, __ATOMIC_RELAXED);
	n = read_once(lock->n_acquisitions) + 1;
	__atomic_store_n(&lock->n_acquisitions, n, __ATOMIC_RELAXED);
	if (LOCK_UNLIKELY(n % LOCK_TIMED_ONE_IN == 0))
		session->lock_taken_ns = now_ns();
	return 0;
}

static LOCK_RARE int lock_take(struct session *session);

/*
 * Wait for a process that can finish it: one that comes to the lock for its own sake, or the daemon at each tick. Not
 * by nanosleep(), in which a thread could be cancelled.
 */
static int await_rebuild(struct session *session)
{
	for (uint32_t i = 0; i < REBUILD_TURNS; i++) {
		syscall(SYS_nanosleep, &(struct timespec){.tv_nsec = REBUILD_NSEC}, NULL);
		/* relaxed: only a hint, since lock_take() reads it again with the lock held */
		if (!__atomic_load_n(&session->control->rebuilding, __ATOMIC_RELAXED))
			return lock_take(session);
	}
	return -EOPNOTSUPP;
}

/* A process died in a rebuild: do it once more, see rebuild.c. */
static LOCK_RARE int finish_rebuild(struct session *session, bool try)
{
	if (critical_block_all_again(session->heap) < 0) {
		lock_release(session);
		return try ? -EBUSY : await_rebuild(session);
	}
	rebuild_request_active(session->heap);
	rebuild_all(session->heap);
	critical_unblock_all(session->heap);
	return note_taken(session);
}

/* The session has the lock: 0, or EOWNERDEAD from a dead owner. */
static inline int lock_taken(struct session *session, int r, bool try)
{
	if (LOCK_UNLIKELY(r))
		lock_recover_dead(session);
	/* relaxed, both: set and cleared under the lock */
	if (LOCK_UNLIKELY(__atomic_load_n(&session->control->queues_paused_by1, __ATOMIC_RELAXED)))
		critical_resume_queues(session->heap); /* an owner that had the lock between its calls has lost it */
	if (LOCK_UNLIKELY(__atomic_load_n(&session->control->rebuilding, __ATOMIC_RELAXED)))
		return finish_rebuild(session, try);
	return note_taken(session);
}

static inline void pause_for(uint32_t n)
{
#if defined(__x86_64__) || defined(__i386__)
	for (uint32_t i = 0; i < n; i++)
		__builtin_ia32_pause();
#else
	(void)n;
#endif
}

/* A hint: it may change at any moment. */
static bool is_taken(const struct global_lock *lock)
{
	return lock_word_tid(lock);
}

static uint32_t this_tid(const struct session *session)
{
	if (session->process && this_thread.process == session->process)
		return this_thread.tid;
	return (uint32_t)gettid();
}

/* Has this thread the lock, by any session? The word alone may have been forged. */
static bool is_mine(const struct session *session)
{
	struct global_lock *lock = &session->control->lock;

	return session->is_home && lock_word_tid(lock) == this_tid(session) && thread_know(session->process) &&
	       (thread_is_pending(lock) || thread_list_has(lock));
}

/* Take it by the thread's id, where it has one that the kernel knows, or by the session's number. */
static int lock_take_at_once(struct session *session, bool try)
{
	struct global_lock *lock = &session->control->lock;
	uint32_t number = foreign_lock_tid(session->index);
	int r;

	if (try && is_mine(session))
		return -EBUSY;
	if (LOCK_UNLIKELY(!session->is_home || !thread_know(session->process))) {
		r = lock_word_take(lock_word(lock), number, number, try);
		return r == EBUSY ? -EBUSY : lock_taken(session, r, try);
	}
	thread_set_pending(lock); /* also while it sleeps: should it die just woken, the kernel wakes another waiter */
	r = lock_word_take(lock_word(lock), this_thread.tid, number, try);
	session->is_pending = r != EBUSY;
	if (session->is_pending)
		return lock_taken(session, r, try);
	thread_set_pending(NULL);
	return -EBUSY;
}

/*
 * Most changes are over sooner than a sleeper would be woken. So this spins for about as long as falling asleep and
 * being woken costs, which makes waiting at most twice as long as the better of the two would have been. It does not
 * read the word all the time: an owner often takes the lock again soon, while the cache lines of the lock and of what
 * it changes are in its processor, so that several changes for one move of the lines are better than one.
 */
static LOCK_RARE int lock_wait(struct session *session)
{
	uint64_t began = now_ns();
	int r = -EBUSY;

	for (uint32_t i = 0; i < SPINS && r == -EBUSY; i += SPINS_PER_CHECK) {
		pause_for(SPINS_PER_CHECK);
		if (!is_taken(&session->control->lock))
			r = lock_take_at_once(session, true);
	}
	if (r == -EBUSY)
		r = lock_take_at_once(session, false);
	if (r == 0)
		note_waited(session, began);
	return r;
}

/* Has the thread of this id the lock, and had it all the time since the n-th acquisition? */
static bool is_held_by(const struct heap *heap, uint32_t tid, uint64_t n)
{
	const struct global_lock *lock = &heap->control->lock;

	/* relaxed, both: this thread's own stores; or, of a thread that has ended, the kernel's store before that */
	return lock_word_tid(lock) == tid && __atomic_load_n(&lock->n_acquisitions, __ATOMIC_RELAXED) == n;
}

bool lock_is_still_held(const struct session *session)
{
	return session->has_lock && is_held_by(session->heap, session->lock_tid, session->lock_number);
}

bool lock_release_abandoned(struct heap *heap)
{
	struct global_lock *lock = &heap->control->lock;
	uint32_t holder = thread_list_holder(lock);

	if (!holder)
		return false;
	if (holder != (uint32_t)gettid() || !thread_list_is_abandoned(lock))
		return true;
	thread_set_pending(lock);
	thread_list_remove(lock);
	__atomic_store_n(&lock->owner1, 0, __ATOMIC_RELAXED); /* relaxed: for reports */
	lock_word_rename(lock_word(lock), holder, 0);
	thread_set_pending(NULL);
	return false;
}

void session_abandon_lock(struct session *session)
{
	if (session->is_listed)
		thread_list_abandon(&session->control->lock, session->list_number);
	session->is_listed = false;
}

/* It has the lock no more: its thread has ended, or the word was forged. Its entry of a list is not used any more. */
static void lock_lose(struct session *session)
{
	struct global_lock *lock = &session->control->lock;

	session->has_lock = false;
	if (!session->is_listed || session->list_number != thread_list_number(lock))
		session->is_listed = false;
	else if (session->lock_tid == this_tid(session) && thread_know(session->process))
		thread_list_remove(lock);
	else
		thread_list_abandon(lock, session->list_number);
	session->is_listed = false;
}

static LOCK_RARE int lock_take(struct session *session)
{
	if (!is_taken(&session->control->lock))
		return lock_take_at_once(session, false);
	if (is_mine(session)) {
		lock_release_abandoned(session->heap);
		if (is_mine(session))
			return -EDEADLK;
	}
	return lock_wait(session);
}

/*
 * The session has the lock, unless the thread that took it has ended since. 0 it has it, and this thread may use it;
 * -EPERM it has it, but another thread may use it; 1 it has lost it.
 */
static LOCK_RARE int refresh_lock(struct session *session)
{
	if (!lock_is_still_held(session)) {
		lock_lose(session);
		return 1;
	}
	if (session->is_listed && session->lock_tid != this_tid(session))
		return -EPERM;
	/* By number: the thread that took it may have ended in the middle of a change. */
	if (LOCK_UNLIKELY(read_once(session->control->lock.n_entries)))
		log_roll_back(session->heap);
	return 0;
}

int session_refresh_lock(struct session *session)
{
	int r = session->has_lock ? refresh_lock(session) : 1;

	return r < 0 ? r : !r;
}

int change_begin(struct session *session)
{
	int r;

	if (LOCK_UNLIKELY(session->has_lock)) {
		r = refresh_lock(session);
		if (r <= 0)
			return r;
	}
	return LOCK_LIKELY(fast_take(session)) ? lock_taken(session, 0, false) : lock_take(session);
}

int change_try_begin(struct session *session)
{
	int r;

	if (session->has_lock) {
		r = refresh_lock(session);
		if (r <= 0)
			return r;
	}
	lock_release_abandoned(session->heap); /* or this thread would find its own lock taken */
	return lock_take_at_once(session, true);
}

void change_commit(struct heap *heap)
{
	log_commit(heap);
}

int change_end(struct session *session, int result)
{
	if (LOCK_UNLIKELY(session->heap->is_log_full))
		result = -EUCLEAN;
	if (LOCK_UNLIKELY(result < 0 || result == HEAP_WANTS_ARENAS))
		log_roll_back(session->heap);
	else
		change_commit(session->heap);
	if (LOCK_LIKELY(!session->has_lock))
		lock_release(session);
	return result;
}

/*
 * A race detector in the program sees the mutexes of the C library, but not atomics of a library that is built without
 * it. So it is told of the lock between calls, under which the program may guard memory of its own.
 */
void __tsan_acquire(void *address) __attribute__((weak, visibility("default")));
void __tsan_release(void *address) __attribute__((weak, visibility("default")));

static void detector_acquire(const struct session *session)
{
	if (__tsan_acquire)
		__tsan_acquire(lock_word(&session->control->lock));
}

static void detector_release(const struct session *session)
{
	if (__tsan_release)
		__tsan_release(lock_word(&session->control->lock));
}

/* The lock was taken for a change: keep it. The name by which the session has it. */
static uint32_t lock_keep(struct session *session)
{
	struct global_lock *lock = &session->control->lock;
	uint32_t number = foreign_lock_tid(session->index);

	if (!session->is_pending)
		return number;
	session->is_pending = false;
	session->is_listed = thread_list_add(lock);
	if (session->is_listed)
		session->list_number = thread_list_number(lock);
	else
		lock_word_rename(lock_word(lock), this_thread.tid, number);
	thread_set_pending(NULL);
	return session->is_listed ? this_thread.tid : number;
}

int session_lock(struct session *session)
{
	int r;

	if (session->has_lock && refresh_lock(session) <= 0)
		return -EDEADLK;
	r = lock_take(session);
	if (r < 0)
		return r;
	session->has_lock = true;
	session->lock_tid = lock_keep(session);
	session->lock_number = session->control->lock.n_acquisitions;
	critical_pause_queues(session);
	detector_acquire(session);
	return 0;
}

int session_unlock(struct session *session)
{
	if (!session->has_lock || refresh_lock(session))
		return -EPERM;
	session->has_lock = false;
	detector_release(session);
	critical_resume_queues(session->heap);
	lock_release(session);
	return 0;
}
