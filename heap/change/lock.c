// SPDX-License-Identifier: MIT
/*
 * The global lock, and changes made under it
 *
 * The lock is a robust process-shared mutex. Whatever is changed under it goes through the undo log (log.c): the
 * process that takes the lock after its owner has died rolls the dead owner's change back and goes on. A change that
 * fails half-way is rolled back in the same way. Only processes of the heap's home pid namespace own the mutex by
 * thread id; the others are in foreign_lock.c.
 *
 * The fast path. The kernel finds the robust mutexes of a dying thread by a list that glibc keeps for each thread, and
 * by the list's list_op_pending, the one mutex that the thread is locking or unlocking. A session that takes the lock
 * for a change names it there for the whole change, instead of linking the mutex into the list and out again; the futex
 * word is what glibc would have stored, and glibc's bookkeeping beside it is neither read nor written. That takes half
 * of the time. And it follows no pointer and no kind that a client may have written into the mutex: the daemon, which
 * takes the lock for changes only, believes nothing of the mutex but the word. It holds as long as the thread locks no
 * other robust mutex meanwhile, which nothing in a change does. Between session_lock() and session_unlock() the
 * application may, so these use the list. What is known of a thread is valid only in the process that found it out,
 * since the threads of a forked child have other ids. So a session that uses the fast path names its process by a
 * number that no process of its ancestors had.
 *
 * Between calls. What session_lock() took belongs to the thread, since glibc's list does: another thread must touch
 * neither the list nor the mutex, whose members are the list's links. So another thread of the session gets -EPERM.
 * When the thread ends, the kernel passes the mutex on to the next taker, and the session finds out that it has lost
 * the lock (session_refresh_lock()): by the thread id, and by n_acquisitions, should the id belong to another thread by
 * now. In another pid namespace the word names the session: any of its threads uses the lock and gives it back, also
 * when the thread that took it has ended. What that thread was in the middle of is in the log then, and is rolled back
 * before the session's next change or its unlocking; or, if the thread had taken the lock for one change only, when the
 * session next takes it.
 *
 * Closing. A session that is closed gives the lock back, if its thread may. If another, living thread took it, the lock
 * is left to that thread (session_abandon_lock()), which gives it back when it next takes the lock for any session, or
 * detaches from the heap; should it end before, the kernel passes the lock on. Until then the mapping stays, since the
 * thread's list leads into it.
 *
 * Died after ...                                the next taker ...
 *   naming the lock, before the word is stored   finds the lock free
 *   the word's store                             is told by the kernel (EOWNERDEAD), rolls back and goes on
 *   the word is cleared, before a wake-up        is woken by the kernel: list_op_pending still names the lock
 */

#include "heap/change/lock.h"
#include "heap/change/foreign_lock.h"
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

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LOCK_NEVER_FAST /* the sanitizer knows mutexes by their functions */
#endif
#elif defined(__SANITIZE_THREAD__)
#define LOCK_NEVER_FAST
#endif

/* What list_op_pending points to while a thread locks the mutex, and how far from there the futex word lies. */
#define PENDING_MEMBER __data.__list.__next
#define PENDING_OFFSET                                                                                                 \
	((long)offsetof(pthread_mutex_t, __data.__lock) - (long)offsetof(pthread_mutex_t, PENDING_MEMBER))

/* This thread, as the kernel knows it. In memory that each thread has from its start, so found without a call. */
static __thread struct {
	uint64_t process;                /* session->process when the rest was found out; 0: not yet */
	struct robust_list_head *robust; /* NULL: not to be had, or not as expected */
	uint32_t tid;
} this_thread __attribute__((tls_model("initial-exec")));

static LOCK_RARE void this_thread_learn(const struct session *session)
{
	struct robust_list_head *robust = NULL;
	size_t size = 0;

	this_thread.process = session->process;
	this_thread.robust = NULL;
	this_thread.tid = (uint32_t)gettid();
#ifndef LOCK_NEVER_FAST
	if (syscall(SYS_get_robust_list, 0, &robust, &size) == 0 && robust && size == sizeof(*robust) &&
		robust->futex_offset == PENDING_OFFSET)
		this_thread.robust = robust;
#endif
}

/* The kernel reads it after this thread has ended, so the compiler alone has to keep the order. */
static inline void pending_set(struct global_lock *lock)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&this_thread.robust->list_op_pending,
		lock ? (struct robust_list *)(void *)&lock->mutex.PENDING_MEMBER : NULL, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* May this thread take the lock by its word alone? */
static inline bool fast_is_possible(const struct session *session)
{
	if (LOCK_UNLIKELY(this_thread.process != session->process))
		this_thread_learn(session);
	return LOCK_LIKELY(this_thread.robust && session->process);
}

/* False: the lock was not free, or its owner has died, or this thread cannot use the fast path. */
static inline bool fast_take(struct session *session)
{
	struct global_lock *lock = &session->control->lock;
	uint32_t nobody = 0;

	if (LOCK_UNLIKELY(!fast_is_possible(session)))
		return false;
	pending_set(lock);
	/* acquire: with the release of the owner before */
	session->is_fast = __atomic_compare_exchange_n(
		lock_word(lock), &nobody, this_thread.tid, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
	if (LOCK_UNLIKELY(!session->is_fast))
		pending_set(NULL);
	return session->is_fast;
}

/*
 * The same, but it waits unless `try`, and takes a dead owner's lock. Returns what pthread_mutex_lock() would. The word
 * may have this thread's id already: another session of the thread keeps the lock between calls; in the daemon, which
 * never does, a stray write put it there, and the lock is taken as from a dead owner.
 */
static LOCK_RARE int fast_wait(struct session *session, bool try)
{
	struct global_lock *lock = &session->control->lock;
	int r;

	if (try && lock_word_tid(lock) == this_thread.tid && session->index != SESSION_DAEMON)
		return EBUSY;
	pending_set(lock); /* also while it sleeps: should it die just woken, the kernel wakes another waiter */
	r = foreign_lock_take(lock_word(lock), this_thread.tid, try);
	session->is_fast = r != EBUSY;
	if (!session->is_fast)
		pending_set(NULL);
	return r;
}

static inline void fast_release(struct session *session)
{
	session->is_fast = false;
	foreign_lock_give(lock_word(&session->control->lock));
	pending_set(NULL); /* last: should this thread die owing a wake-up, the kernel makes up for it */
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

/* The mutex answered r, which is not 0. 0: the session has the lock all the same, and a dead owner is recovered. */
static LOCK_RARE int lock_recover(struct session *session, int r)
{
	struct global_lock *lock = &session->control->lock;

	if (r == EBUSY)
		return -EBUSY;
	if (r != EOWNERDEAD)
		return -EUCLEAN;
	/* With the fence in own.c's put_back(): either that finds the lock gone, or this what was put back. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	/* relaxed: for reports. First of all, so that reports do not name the dead owner. */
	__atomic_store_n(&lock->owner1, session->owner1, __ATOMIC_RELAXED);
	log_roll_back(session->heap);
	shared_add(lock->n_recoveries, 1);
	return session->is_home && !session->is_fast && pthread_mutex_consistent(&lock->mutex) ? -EUCLEAN : 0;
}

static inline void lock_release(struct session *session)
{
	struct global_lock *lock = &session->control->lock;

	if (LOCK_UNLIKELY(session->lock_taken_ns))
		note_held(session);
	__atomic_store_n(&lock->owner1, 0, __ATOMIC_RELAXED);
	if (LOCK_LIKELY(session->is_fast))
		fast_release(session);
	else if (session->is_home)
		pthread_mutex_unlock(&lock->mutex);
	else
		foreign_lock_give(lock_word(lock));
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

static LOCK_RARE int lock_take(struct session *session, bool listed);

/* Wait for a process that can finish it: one that comes to the lock for its own sake, or the daemon at each tick. */
static int await_rebuild(struct session *session, bool listed)
{
	for (uint32_t i = 0; i < REBUILD_TURNS; i++) {
		nanosleep(&(struct timespec){.tv_nsec = REBUILD_NSEC}, NULL);
		/* relaxed: only a hint, since lock_take() reads it again with the lock held */
		if (!__atomic_load_n(&session->control->rebuilding, __ATOMIC_RELAXED))
			return lock_take(session, listed);
	}
	return -EOPNOTSUPP;
}

/* A process died in a rebuild: do it once more, see rebuild.c. */
static LOCK_RARE int finish_rebuild(struct session *session, bool try, bool listed)
{
	if (critical_block_all_again(session->heap) < 0) {
		lock_release(session);
		return try ? -EBUSY : await_rebuild(session, listed);
	}
	rebuild_request_active(session->heap);
	rebuild_all(session->heap);
	critical_unblock_all(session->heap);
	return note_taken(session);
}

static inline int lock_taken(struct session *session, int r, bool try, bool listed)
{
	if (LOCK_UNLIKELY(r)) {
		r = lock_recover(session, r);
		if (r < 0)
			return r;
	}
	/* relaxed, both: set and cleared under the lock */
	if (LOCK_UNLIKELY(__atomic_load_n(&session->control->queues_paused_by1, __ATOMIC_RELAXED)))
		critical_resume_queues(session->heap); /* an owner that had the lock between its calls has lost it */
	if (LOCK_UNLIKELY(__atomic_load_n(&session->control->rebuilding, __ATOMIC_RELAXED)))
		return finish_rebuild(session, try, listed);
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

/*
 * Take the mutex by glibc, which lists it. Sleeping is done here, as glibc sleeps until it is woken, which may be
 * never: see foreign_lock_sleep().
 */
static LOCK_RARE int listed_take(struct global_lock *lock, bool try)
{
	bool has_slept = false;
	int r;

	while ((r = pthread_mutex_trylock(&lock->mutex)) == EBUSY && !try) {
		foreign_lock_sleep(lock_word(lock));
		has_slept = true;
	}
	if (has_slept && (r == 0 || r == EOWNERDEAD)) /* others may sleep still: relaxed, for the next release */
		__atomic_fetch_or(lock_word(lock), FUTEX_WAITERS, __ATOMIC_RELAXED);
	return r;
}

/* listed: the lock is kept between calls, so the thread's robust list has to have it. */
static int lock_take_at_once(struct session *session, bool try, bool listed)
{
	struct global_lock *lock = &session->control->lock;
	int r;

	if (LOCK_UNLIKELY(!session->is_home))
		r = foreign_lock_take(lock_word(lock), foreign_lock_tid(session->index), try);
	else if (!listed && fast_is_possible(session))
		r = fast_wait(session, try);
	else
		r = listed_take(lock, try);
	return lock_taken(session, r, try, listed);
}

/*
 * Most changes are over sooner than a sleeper would be woken. So this spins for about as long as falling asleep and
 * being woken costs, which makes waiting at most twice as long as the better of the two would have been. It does not
 * read the word all the time: an owner often takes the lock again soon, while the cache lines of the lock and of what
 * it changes are in its processor, so that several changes for one move of the lines are better than one.
 */
static LOCK_RARE int lock_wait(struct session *session, bool listed)
{
	uint64_t began = now_ns();
	int r = -EBUSY;

	for (uint32_t i = 0; i < SPINS && r == -EBUSY; i += SPINS_PER_CHECK) {
		pause_for(SPINS_PER_CHECK);
		if (!is_taken(&session->control->lock))
			r = lock_take_at_once(session, true, listed);
	}
	if (r == -EBUSY)
		r = lock_take_at_once(session, false, listed);
	if (r == 0)
		note_waited(session, began);
	return r;
}

static uint32_t this_tid(const struct session *session)
{
	if (session->process && this_thread.process == session->process)
		return this_thread.tid;
	return (uint32_t)gettid();
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

/* Has this thread the lock, by any session? Thread ids, of this process and in the mutex, are of this namespace. */
static bool is_mine(const struct session *session)
{
	return session->is_home && lock_word_tid(&session->control->lock) == this_tid(session);
}

bool lock_release_abandoned(struct heap *heap)
{
	/* acquire: with the release in session_abandon_lock() */
	uint32_t tid = __atomic_load_n(&heap->abandoned_tid, __ATOMIC_ACQUIRE);

	if (!tid)
		return false;
	if (is_held_by(heap, tid, __atomic_load_n(&heap->abandoned_number, __ATOMIC_RELAXED))) {
		if (tid != (uint32_t)gettid())
			return true;
		/* relaxed, both: while this thread has the lock, no session can leave one; owner1 is for reports */
		__atomic_store_n(&heap->abandoned_tid, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&heap->control->lock.owner1, 0, __ATOMIC_RELAXED);
		pthread_mutex_unlock(&heap->control->lock.mutex);
		return false;
	}
	/* relaxed: a lock that was left since then stays noted */
	__atomic_compare_exchange_n(&heap->abandoned_tid, &tid, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	return false;
}

void session_abandon_lock(struct session *session)
{
	struct heap *heap = session->heap;

	__atomic_store_n(&heap->abandoned_number, session->lock_number, __ATOMIC_RELAXED);
	/* release: after the number */
	__atomic_store_n(&heap->abandoned_tid, session->lock_tid, __ATOMIC_RELEASE);
}

static LOCK_RARE int lock_take(struct session *session, bool listed)
{
	if (!is_taken(&session->control->lock))
		return lock_take_at_once(session, false, listed);
	if (is_mine(session)) {
		lock_release_abandoned(session->heap);
		if (is_mine(session))
			return -EDEADLK;
	}
	return lock_wait(session, listed);
}

/*
 * The session has the lock, unless the thread that took it has ended since. 0 it has it, and this thread may use it;
 * -EPERM it has it, but another thread may use it; 1 it has lost it.
 */
static LOCK_RARE int refresh_lock(struct session *session)
{
	if (!lock_is_still_held(session)) {
		session->has_lock = false;
		return 1;
	}
	if (session->is_home && session->lock_tid != this_tid(session))
		return -EPERM;
	/* Of another namespace: the thread that took it may have ended in the middle of a change. */
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
	return LOCK_LIKELY(fast_take(session)) ? lock_taken(session, 0, false, false) : lock_take(session, false);
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
	return lock_take_at_once(session, true, false);
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

int session_lock(struct session *session)
{
	int r;

	if (session->has_lock && refresh_lock(session) <= 0)
		return -EDEADLK;
	r = lock_take(session, true);
	if (r < 0)
		return r;
	session->has_lock = true;
	session->lock_tid = session->is_home ? this_tid(session) : foreign_lock_tid(session->index);
	session->lock_number = session->control->lock.n_acquisitions;
	critical_pause_queues(session);
	return 0;
}

int session_unlock(struct session *session)
{
	if (!session->has_lock || refresh_lock(session))
		return -EPERM;
	session->has_lock = false;
	critical_resume_queues(session->heap);
	lock_release(session);
	return 0;
}
