// SPDX-License-Identifier: MIT
/*
 * The lock in a thread's list of robust futexes
 *
 * The kernel frees the robust futexes of a dying thread. It finds them by a list that each thread has in its own
 * memory, of which the C library told it (set_robust_list(2)), and by the list's list_op_pending: the one futex that
 * the thread is taking or giving back. For the time of one change the lock is named there (lock.c). A thread that keeps
 * the lock longer has it in the list, since the application may take robust mutexes of its own meanwhile, and the C
 * library names them in list_op_pending.
 *
 * An entry of the list lies at a fixed distance from its futex, and is followed by the kernel and by the C library. So
 * it must not be shared: it lies behind the word, in memory that is this process's own (struct lock_node). What others
 * write into the file leads nobody anywhere.
 *
 * It is put at the end of the list. The C library puts its own mutexes at the beginning, and stores in the word before
 * an entry's `next` what comes before that entry; so what comes before a mutex is never this one, and only the kernel's
 * rules are relied on. Before it is taken out it is found in the list, so that no pointer of an earlier thread is
 * followed.
 *
 * All threads of a process share the entry. One thread at a time has the lock, and takes the entry out before it gives
 * the lock back; so a thread that has just taken the lock finds the entry free, or with a thread that has ended, whose
 * list the kernel has done with; its number may be there a moment longer. Where the entry is with another, living
 * thread, the word was forged, or that thread has got the number of one that ended. Then the entry is left alone, and
 * the lock is kept by the session's number (foreign_lock.c).
 *
 * Died after ...                          the kernel ...
 *   list_op_pending, before the entry     goes by list_op_pending, which names the word
 *   the entry is in the list              goes by either; once is enough
 *   list_op_pending is cleared            goes by the list
 *   giving back: pending, then taken out  goes by list_op_pending
 */

#include "heap/change/thread_list.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define N_ENTRIES_MAX 2048 /* as many as the kernel follows: ROBUST_LIST_LIMIT */
#define END_TURNS     100  /* from the end of a thread's robust futexes to the end of its number */
#define END_NSEC      50000

/* How far from an entry its futex lies, for all that the C library has in the list. */
#define WORD_OFFSET                                                                                                    \
	((long)offsetof(pthread_mutex_t, __data.__lock) - (long)offsetof(pthread_mutex_t, __data.__list.__next))
static_assert((long)offsetof(struct global_lock, word) - (long)offsetof(struct global_lock, node.next) == WORD_OFFSET,
	"the entry is where the kernel looks for it");
static_assert(offsetof(struct lock_node, next) - offsetof(struct lock_node, prev) == sizeof(void *),
	"what the C library writes to is not used");

__thread struct this_thread this_thread __attribute__((tls_model("initial-exec"), visibility("hidden")));

bool thread_learn(uint64_t process)
{
	struct robust_list_head *robust = NULL;
	size_t size = 0;

	this_thread.process = process;
	this_thread.robust = NULL;
	this_thread.tid = (uint32_t)gettid();
	if (syscall(SYS_get_robust_list, 0, &robust, &size) == 0 && robust && size == sizeof(*robust) &&
		robust->futex_offset == WORD_OFFSET)
		this_thread.robust = robust;
	return this_thread.robust != NULL;
}

/* The lowest bit of a link says that its futex is another kind (PI), and is no part of the address. */
static void *address_of(void *link)
{
	return (void *)((uintptr_t)link & ~(uintptr_t)1);
}

/*
 * The link of this thread's list that leads to `entry`, an entry's `next` or the head: the head is also the end. NULL:
 * there is none. Relaxed: only this thread changes the list.
 */
static void **find_link(const void *entry)
{
	void *head = &this_thread.robust->list;
	void **link = head;

	for (int i = 0; i <= N_ENTRIES_MAX; i++) {
		void *next = address_of(__atomic_load_n(link, __ATOMIC_RELAXED));

		if (next == entry)
			return link;
		if (!next || next == head)
			return NULL;
		link = next;
	}
	return NULL;
}

/* One store, by which the kernel sees the list before or after. */
static void set_link(void **link, void *to)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(link, to, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static bool is_alive(uint32_t tid)
{
	return syscall(SYS_tgkill, getpid(), tid, 0) == 0 || errno != ESRCH;
}

/* The entry becomes this thread's. False: another living thread has it. */
static bool become_holder(struct lock_node *node)
{
	/* acquire: with the release in thread_list_remove(): that thread has done with the entry */
	uint32_t holder = __atomic_load_n(&node->holder, __ATOMIC_ACQUIRE);

	for (int i = 0; holder && holder != this_thread.tid && is_alive(holder); i++) {
		if (i == END_TURNS)
			return false;
		syscall(SYS_nanosleep, &(struct timespec){.tv_nsec = END_NSEC}, NULL); /* no point of cancellation */
	}
	return __atomic_compare_exchange_n(
		&node->holder, &holder, this_thread.tid, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

bool thread_list_add(struct global_lock *lock)
{
	void *end = &this_thread.robust->list;
	struct lock_node *node = &lock->node;
	void **last;

	if (!become_holder(node))
		return false;
	/* relaxed: by the holder alone. An entry that was abandoned before is not abandoned now. */
	__atomic_store_n(&node->number, thread_list_number(lock) + 1, __ATOMIC_RELAXED);
	if (find_link(&node->next))
		return true; /* this thread has lost the lock, by a forged word, and taken it again */
	last = find_link(end);
	if (!last) {
		__atomic_store_n(&node->holder, 0, __ATOMIC_RELEASE);
		return false;
	}
	set_link(&node->next, end);
	set_link(last, &node->next);
	return true;
}

void thread_list_remove(struct global_lock *lock)
{
	struct lock_node *node = &lock->node;
	void **link;

	if (__atomic_load_n(&node->holder, __ATOMIC_RELAXED) != this_thread.tid)
		return;
	link = find_link(&node->next);
	if (link)
		set_link(link, __atomic_load_n(&node->next, __ATOMIC_RELAXED)); /* relaxed: by the holder alone */
	/* release: the entry is in no list, or in that of a thread of this number that ended before */
	__atomic_store_n(&node->holder, 0, __ATOMIC_RELEASE);
}

bool thread_list_has(struct global_lock *lock)
{
	return __atomic_load_n(&lock->node.holder, __ATOMIC_RELAXED) == this_thread.tid &&
	       find_link(&lock->node.next) != NULL;
}

void thread_list_abandon(struct global_lock *lock, uint32_t number)
{
	/* release: after all that the session did whose lock it was */
	__atomic_store_n(&lock->node.abandoned, number, __ATOMIC_RELEASE);
}

bool thread_list_is_abandoned(const struct global_lock *lock)
{
	/* acquire: with the release in thread_list_abandon() */
	return __atomic_load_n(&lock->node.abandoned, __ATOMIC_ACQUIRE) == thread_list_number(lock);
}

uint32_t thread_list_holder(struct global_lock *lock)
{
	uint32_t holder = __atomic_load_n(&lock->node.holder, __ATOMIC_ACQUIRE); /* as in become_holder() */

	if (!holder || !is_alive(holder))
		return 0;
	if (holder == (uint32_t)gettid() && (!thread_learn(0) || !thread_list_has(lock)))
		return 0; /* of an earlier thread of this number */
	return holder;
}
