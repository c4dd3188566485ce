/* SPDX-License-Identifier: MIT */
/*
 * The global lock and its undo log
 *
 * The lock is a robust process-shared mutex. Whatever is changed under it is written down first: each store to a shared
 * word goes through heap_set(), which appends the word's place and old content to the log in the control segment. A
 * change thus has taken place when the log is emptied, by one store (the commit), and not before. Whoever takes the
 * lock after its owner died finds the log as it was, restores the words from the last to the first, and goes on: the
 * change has not taken place. A change that fails half-way takes itself back in the same way, so failing and dying are
 * one path.
 *
 * Pid namespaces. The kernel knows a dead owner by comparing the thread id in the mutex with the dying thread's, which
 * is a number of the thread's own pid namespace: the first process of every container is 1. So only processes of the
 * heap's home namespace lock by thread id. All others put a number into the mutex that no thread has, made of their
 * session, which the kernel passes by: when their process has ended, the daemon, who knows that by pidfd, marks the
 * mutex as the kernel would have done (foreign_lock_owner_died()); while there is no daemon, all wait for one. The
 * futex protocol is that of robust mutexes, so both kinds wait for each other and wake each other.
 *
 * Quickly. The kernel finds the robust mutexes of a dying thread by a list that glibc keeps for each thread, and by the
 * list's list_op_pending, the one that the thread is locking or unlocking. A client that finds the lock free for a
 * change lets it stand there for the whole change, instead of bringing the mutex into the list and out again: the futex
 * word is what glibc would have stored, only that glibc's bookkeeping beside it is left alone. That takes half of the
 * time. It holds as long as the thread locks no other robust mutex meanwhile, which nothing in a change does; between
 * session_lock() and session_unlock() the application may, so these do it by the list, as do all who have to wait.
 * What is known of a thread is valid in the process that found it out: a forked child's threads have other ids. So a
 * session that may do it says of which process it is, by a number that no process of its ancestors had.
 *
 * Between calls. What session_lock() took is the thread's: glibc's list is, and another thread must touch neither that
 * nor the mutex, whose members are the list's links. So another thread of the session gets -EPERM; when the thread
 * ends, the kernel gives the mutex to the next taker, and the session finds out that it has it no more: by the thread
 * id, and by n_acquisitions, should the id be another thread's by now. In another pid namespace the word is the
 * session's: any thread of it goes by the lock and gives it back, also when the one that took it has ended. What that
 * one was in the middle of is in the log then, and is taken back before the session's next change or its unlocking, or
 * its next taking, where that was no session_lock().
 *
 * A session that is closed gives the lock back, if it may. Where another thread took it, which lives, it is left to
 * that thread (session_abandon_lock()): it gives it back when it next takes the lock for any of its sessions, or
 * detaches from the heap; should it end before, the kernel sees to it. Until then the mapping stays, since the thread's
 * list leads into it.
 *
 * Order of the stores. An entry is complete before n_entries counts it (release), n_entries counts it before the word
 * is overwritten (a release fence before the relaxed store). A killed process's stores reach the next owner in that
 * order, as those of a living one would: the compiler is held by the fences, the processor by the same and by the
 * mutex. The commit is a release store: it comes after all stores of the change, also those that need no log.
 *
 * What needs no log: memory that nobody can reach yet (the payload of a block that is being allocated, the headers of a
 * pool that is being given a class), and the words of which a needless change harms nobody (futexes of queues).
 *
 * Counts that others change without the lock (count.c) are claimed first, by a bit beside them. The entry of a claim is
 * written before it: where the bit is not set it has not been made, and nothing is restored. When the log was emptied,
 * after a commit as after taking back, what it says was claimed is let go of; not before, or taking back once more
 * would undo what others did meanwhile. Who dies before that leaves it claimed until the next claim.
 *
 * A rule that follows: a change never allocates a pool that it has itself given back, since taking it back must find
 * the pool's headers as they were.
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
#define LOCK_TIMED_ONE_IN 64U /* looking at the clock costs as much as the lock */
#define REBUILD_TURNS     1000U
#define REBUILD_NSEC      1000000

/* Most changes find the lock free, change it in peace and commit: what that way leaves out is kept apart from it. */
#define LOCK_RARE        __attribute__((noinline))
#define LOCK_LIKELY(x)   __builtin_expect(!!(x), 1)
#define LOCK_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* ---- quickly ----------------------------------------------------------------------------------------------------- */

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LOCK_NEVER_FAST /* it knows mutexes by their functions */
#endif
#elif defined(__SANITIZE_THREAD__)
#define LOCK_NEVER_FAST
#endif

/* What list_op_pending is while a thread locks the mutex, and how far from that its futex word lies. */
#define PENDING_MEMBER __data.__list.__next
#define PENDING_OFFSET                                                                                                 \
	((long)offsetof(pthread_mutex_t, __data.__lock) - (long)offsetof(pthread_mutex_t, PENDING_MEMBER))

/* This thread, as the kernel knows it. In memory that each thread has from its start: found without a call. */
static __thread struct {
	uint64_t process;                /* session->process of when it was looked at; 0: it was not yet */
	struct robust_list_head *robust; /* NULL: it is not to be had, or not as expected */
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

/* For the kernel, which looks at it in this thread's place: the compiler alone has to keep the order. */
static inline void pending_set(struct global_lock *lock)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&this_thread.robust->list_op_pending,
		lock ? (struct robust_list *)(void *)&lock->mutex.PENDING_MEMBER : NULL, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* False: it was not free, or its owner has died, or this thread cannot do it. */
static inline bool fast_take(struct session *session)
{
	struct global_lock *lock = &session->control->lock;
	uint32_t nobody = 0;

	if (LOCK_UNLIKELY(this_thread.process != session->process))
		this_thread_learn(session);
	if (LOCK_UNLIKELY(!this_thread.robust || !session->process))
		return false;
	pending_set(lock);
	/* acquire: with the release of the owner before */
	session->is_fast = __atomic_compare_exchange_n(
		lock_word(lock), &nobody, this_thread.tid, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
	if (LOCK_UNLIKELY(!session->is_fast))
		pending_set(NULL);
	return session->is_fast;
}

static inline void fast_release(struct session *session)
{
	session->is_fast = false;
	foreign_lock_give(lock_word(&session->control->lock));
	pending_set(NULL); /* now, so that the kernel makes up for a wake-up that it died owing */
}

/* ---- the lock ---------------------------------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* One time more, of so many ns. Relaxed: figures for reports. */
static void note_time(uint64_t *n, uint64_t *sum, uint64_t *max, uint64_t ns)
{
	__atomic_store_n(n, *n + 1, __ATOMIC_RELAXED);
	__atomic_store_n(sum, *sum + ns, __ATOMIC_RELAXED);
	if (ns > *max)
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

/* What the mutex said when it was asked for was not plainly that this session has it. */
static LOCK_RARE int lock_answered(struct session *session, int r)
{
	struct global_lock *lock = &session->control->lock;

	if (r == EBUSY)
		return -EBUSY;
	if (r != EOWNERDEAD)
		return -EUCLEAN;
	/* with the one in own.c's put_back(): either it finds the lock gone, or this one what it has put back */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	/* relaxed: as in lock_taken(). First of all, so that a dead owner is not blamed for the living. */
	__atomic_store_n(&lock->owner1, session->owner1, __ATOMIC_RELAXED);
	log_roll_back(session->heap);
	lock->n_recoveries++;
	return session->is_home && pthread_mutex_consistent(&lock->mutex) ? -EUCLEAN : 0;
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

	/* relaxed, both: for reports, which may be a moment late */
	__atomic_store_n(&lock->owner1, session->owner1, __ATOMIC_RELAXED);
	n = lock->n_acquisitions + 1;
	__atomic_store_n(&lock->n_acquisitions, n, __ATOMIC_RELAXED);
	if (LOCK_UNLIKELY(n % LOCK_TIMED_ONE_IN == 0))
		session->lock_taken_ns = now_ns();
	return 0;
}

static LOCK_RARE int lock_take(struct session *session);

/* Somebody who can does it, who comes to the lock for his own sake; the daemon does with each tick. */
static int await_rebuild(struct session *session)
{
	for (uint32_t i = 0; i < REBUILD_TURNS; i++) {
		nanosleep(&(struct timespec){.tv_nsec = REBUILD_NSEC}, NULL);
		/* relaxed: only a hint, it is asked again with the lock */
		if (!__atomic_load_n(&session->control->rebuilding, __ATOMIC_RELAXED))
			return lock_take(session);
	}
	return -EOPNOTSUPP;
}

/* A rebuild was begun by one that died. See rebuild.c. */
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

static inline int lock_taken(struct session *session, int r, bool try)
{
	if (LOCK_UNLIKELY(r)) {
		r = lock_answered(session, r);
		if (r < 0)
			return r;
	}
	/* relaxed, both: set and cleared under the lock */
	if (LOCK_UNLIKELY(__atomic_load_n(&session->control->queues_paused_by1, __ATOMIC_RELAXED)))
		critical_resume_queues(session->heap); /* who had the lock between calls has it no more */
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

/* relaxed: only a hint, the lock is taken by others */
static bool is_taken(const struct global_lock *lock)
{
	return __atomic_load_n(lock_word(lock), __ATOMIC_RELAXED) & FUTEX_TID_MASK;
}

static int lock_take_at_once(struct session *session, bool try)
{
	struct global_lock *lock = &session->control->lock;
	int r;

	if (LOCK_UNLIKELY(!session->is_home))
		r = foreign_lock_take(lock_word(lock), foreign_lock_tid(session->index), try);
	else
		r = try ? pthread_mutex_trylock(&lock->mutex) : pthread_mutex_lock(&lock->mutex);
	return lock_taken(session, r, try);
}

/*
 * Most changes are over sooner than a sleeper would be woken: so the lock is looked at for about as long as falling
 * asleep and being woken costs, which makes waiting at most twice as long as the better of the two would have been.
 * It is not looked at all the time: who has it often takes it again soon, while the cache lines of it and of what it
 * changes are his, so that several changes for one move of the lines are more than one for one.
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

static uint32_t this_tid(const struct session *session)
{
	if (session->process && this_thread.process == session->process)
		return this_thread.tid;
	return (uint32_t)gettid();
}

/* Has that thread the lock, and has had it since it was taken for the n-th time? */
static bool is_held_by(const struct heap *heap, uint32_t tid, uint64_t n)
{
	const struct global_lock *lock = &heap->control->lock;

	/* relaxed, both: of this thread it is what that stored; of one that has ended, what the kernel did before */
	return (__atomic_load_n(lock_word(lock), __ATOMIC_RELAXED) & FUTEX_TID_MASK) == tid &&
	       __atomic_load_n(&lock->n_acquisitions, __ATOMIC_RELAXED) == n;
}

bool lock_is_still_held(const struct session *session)
{
	return session->has_lock && is_held_by(session->heap, session->lock_tid, session->lock_number);
}

/* Is it this thread's, by whatever session? Numbers of threads are this namespace's, and so are those in the mutex. */
static bool is_mine(const struct session *session)
{
	return session->is_home && (__atomic_load_n(lock_word(&session->control->lock), __ATOMIC_RELAXED) &
					   FUTEX_TID_MASK) == this_tid(session);
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
		/* relaxed, both: this thread alone can have left it now; owner1 is for reports */
		__atomic_store_n(&heap->abandoned_tid, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&heap->control->lock.owner1, 0, __ATOMIC_RELAXED);
		pthread_mutex_unlock(&heap->control->lock.mutex);
		return false;
	}
	/* relaxed: if another has been left since, that stays */
	__atomic_compare_exchange_n(&heap->abandoned_tid, &tid, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	return false;
}

void session_abandon_lock(struct session *session)
{
	struct heap *heap = session->heap;

	__atomic_store_n(&heap->abandoned_number, session->lock_number, __ATOMIC_RELAXED);
	/* release: the number before it */
	__atomic_store_n(&heap->abandoned_tid, session->lock_tid, __ATOMIC_RELEASE);
}

/* What was left to it, it gives back. */
static bool would_wait_for_itself(const struct session *session)
{
	if (!is_mine(session))
		return false;
	lock_release_abandoned(session->heap);
	return is_mine(session);
}

static LOCK_RARE int lock_take(struct session *session)
{
	if (!is_taken(&session->control->lock))
		return lock_take_at_once(session, false);
	return would_wait_for_itself(session) ? -EDEADLK : lock_wait(session);
}

/*
 * A mutex is its thread's, and goes to others when that ends, whoever uses the session by then. 0 the session has the
 * lock still, and this thread may go by it; -EPERM another may; 1 the session has it no more.
 */
static LOCK_RARE int still_has_lock(struct session *session)
{
	if (!lock_is_still_held(session)) {
		session->has_lock = false;
		return 1;
	}
	if (session->is_home && session->lock_tid != this_tid(session))
		return -EPERM;
	/* Of another namespace: the thread that took it may have ended in the middle of a change. */
	if (LOCK_UNLIKELY(session->control->lock.n_entries))
		log_roll_back(session->heap);
	return 0;
}

int session_refresh_lock(struct session *session)
{
	int r = session->has_lock ? still_has_lock(session) : 1;

	return r < 0 ? r : !r;
}

int change_begin(struct session *session)
{
	int r;

	if (LOCK_UNLIKELY(session->has_lock)) {
		r = still_has_lock(session);
		if (r <= 0)
			return r;
	}
	return LOCK_LIKELY(fast_take(session)) ? lock_taken(session, 0, false) : lock_take(session);
}

int change_try_begin(struct session *session)
{
	int r;

	if (session->has_lock) {
		r = still_has_lock(session);
		if (r <= 0)
			return r;
	}
	lock_release_abandoned(session->heap); /* to this thread, perhaps, which then has given it back */
	return lock_take_at_once(session, true);
}

void change_commit(struct heap *heap)
{
	log_commit(heap);
}

int change_end(struct session *session, int result)
{
	struct global_lock *lock = &session->control->lock;

	if (LOCK_UNLIKELY(lock->overflowed))
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

	if (session->has_lock && still_has_lock(session) <= 0)
		return -EDEADLK;
	r = lock_take(session);
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
	if (!session->has_lock || still_has_lock(session))
		return -EPERM;
	session->has_lock = false;
	critical_resume_queues(session->heap);
	lock_release(session);
	return 0;
}
