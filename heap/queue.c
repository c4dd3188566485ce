/* SPDX-License-Identifier: MIT */
/*
 * Queues of refs: handing an object over with no moment unheld
 *
 * Pushing moves a right from the sender's hold table to a place of the queue, popping moves it from there to the
 * receiver's hold table, each in one change: whoever is killed when, exactly one of the three has it.
 *
 * Waiting is a futex in the queue. Whoever finds the queue full (empty) sets the waiting flag and reads the sequence
 * number under the lock, and sleeps for as long as the number is still that. Whoever empties (fills) a place moves the
 * number and, where the flag is set, wakes all sleepers *before* the commit: if it dies before the wake-up the change
 * has not taken place, so there is nothing to wake anybody for; if it dies after, the sleepers look for nothing and
 * sleep again. So no wake-up is ever owed by the dead. A dead sleeper costs one needless wake-up.
 *
 * A sleeper holds the queue meanwhile, so that the futex stays where it is. It wakes once a second to see whether the
 * heap has ended.
 */

#include "heap/queue.h"
#include "heap/hold.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NSEC_PER_SEC  INT64_C(1000000000)
#define SLICE_NSEC    NSEC_PER_SEC
#define PASS_OVER_MAX 1024U /* spoilt places passed over in one change */

/* What a call has to wait for: *seq to be something else than `value`. */
struct wait {
	uint32_t *seq;
	uint32_t value;
};

static int find_queue(struct heap *heap, uint64_t ref, struct queue **ret)
{
	struct object object;
	struct queue *queue;
	int r;

	r = object_find(heap, ref, &object);
	if (r < 0)
		return r;
	if (object.type != TYPE_QUEUE)
		return -EINVAL;
	queue = (struct queue *)(void *)object.data;
	if (!queue->n || queue->n > (object.size - sizeof(*queue)) / 8 || queue->head >= queue->n ||
		queue->count > queue->n)
		return -EUCLEAN;
	*ret = queue;
	return 0;
}

/* The number moves and sleepers are woken. Relaxed: the lock orders all but the sleeper's compare, which the kernel
 * does. */
static void signal(uint32_t *seq, uint32_t *waiting)
{
	__atomic_store_n(seq, *seq + 1, __ATOMIC_RELAXED);
	if (!*waiting)
		return;
	syscall(SYS_futex, seq, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	__atomic_store_n(waiting, 0, __ATOMIC_RELAXED); /* after it: killed in between, the next one wakes again */
}

static int must_wait(uint32_t *seq, uint32_t *waiting, struct wait *ret)
{
	__atomic_store_n(waiting, 1, __ATOMIC_RELAXED);
	*ret = (struct wait){seq, *seq};
	return -EAGAIN;
}

/* n places on, at most a round. */
static uint64_t place_after(const struct queue *queue, uint64_t place, uint64_t n)
{
	return place + n < queue->n ? place + n : place + n - queue->n;
}

static int push_in_change(struct session *session, uint64_t queue_ref, uint64_t ref, struct wait *wait)
{
	struct heap *heap = session->heap;
	struct queue *queue;
	struct object object;
	int r;

	r = find_queue(heap, queue_ref, &queue);
	if (!r)
		r = object_find(heap, ref, &object);
	if (r < 0)
		return r;
	if (!object_is_held(session, ref))
		return -EPERM;
	if (queue->count == queue->n)
		return must_wait(&queue->pop_seq, &queue->push_waiting, wait);

	heap_set(heap, &queue->places[place_after(queue, queue->head, queue->count)], ref);
	heap_set(heap, &queue->count, queue->count + 1);
	r = object_pass_on(session, ref, &object);
	if (r < 0)
		return r;
	signal(&queue->push_seq, &queue->pop_waiting);
	return 0;
}

/* Empty the first place; what a stray write put there names nothing and is passed over. 1 *ret is alive, 0 none is
 * left. */
static int take_first(struct heap *heap, struct queue *queue, uint64_t *ret, struct object *ret_object)
{
	bool alive = false;

	for (uint32_t n = 0; queue->count && !alive; n++) {
		if (n == PASS_OVER_MAX)
			return -EUCLEAN;
		*ret = queue->places[queue->head];
		alive = object_find(heap, *ret, ret_object) == 0;
		heap_set(heap, &queue->places[queue->head], 0);
		heap_set(heap, &queue->head, place_after(queue, queue->head, 1));
		heap_set(heap, &queue->count, queue->count - 1);
	}
	return alive;
}

static int pop_in_change(struct session *session, uint64_t queue_ref, uint64_t *ret, struct wait *wait)
{
	struct heap *heap = session->heap;
	struct queue *queue;
	struct object object;
	uint64_t ref = 0;
	bool first;
	int r;

	r = find_queue(heap, queue_ref, &queue);
	if (!r)
		r = take_first(heap, queue, &ref, &object);
	if (r < 0)
		return r;
	if (!r)
		return must_wait(&queue->push_seq, &queue->pop_waiting, wait);
	r = hold_add(session, ref, &first);
	if (!r && !first) /* the session has its right already, the queue's goes */
		r = object_drop(session, &object);
	if (r < 0)
		return r;
	signal(&queue->pop_seq, &queue->push_waiting);
	*ret = ref;
	return 0;
}

static int64_t now_nsec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/* Sleep until woken, or the deadline (-1: none), or the end of a slice. -ETIMEDOUT, -EINTR, -EPIPE. */
static int wait_for(struct heap *heap, const struct wait *wait, int64_t deadline)
{
	int64_t left = SLICE_NSEC;
	struct timespec ts;

	if (deadline >= 0) {
		left = deadline - now_nsec();
		if (left <= 0)
			return -ETIMEDOUT;
		if (left > SLICE_NSEC)
			left = SLICE_NSEC;
	}
	ts = (struct timespec){.tv_sec = left / NSEC_PER_SEC, .tv_nsec = left % NSEC_PER_SEC};
	if (syscall(SYS_futex, wait->seq, FUTEX_WAIT, wait->value, &ts, NULL, 0) < 0 && errno == EINTR)
		return -EINTR;
	return __atomic_load_n(&heap->control->ended, __ATOMIC_RELAXED) ? -EPIPE : 0;
}

/* One of the two above, by whether ref_to_push is given. */
static int attempt(struct session *session, uint64_t queue, uint64_t ref_to_push, uint64_t *ret, struct wait *wait)
{
	int r;

	if (!ref_to_push) {
		r = hold_reserve(session);
		if (r)
			return r;
	}
	r = change_begin(session);
	if (r < 0)
		return r;
	r = ref_to_push ? push_in_change(session, queue, ref_to_push, wait) : pop_in_change(session, queue, ret, wait);
	return change_end(session, r);
}

static int attempt_and_wait(
	struct session *session, uint64_t queue, uint64_t ref_to_push, uint64_t *ret, int timeout_ms)
{
	int64_t deadline = timeout_ms < 0 ? -1 : now_nsec() + (int64_t)timeout_ms * 1000000;
	struct wait wait;
	int r;

	r = object_incref(session, queue);
	if (r)
		return r;
	do {
		r = attempt(session, queue, ref_to_push, ret, &wait);
		if (r != -EAGAIN)
			break;
		r = wait_for(session->heap, &wait, deadline);
	} while (!r);
	(void)object_decref(session, queue);
	return r;
}

/*
 * A look without the lock, for who polls: is the queue, which this session holds, full (empty) at this moment? Relaxed:
 * the answer is as good as one of a moment ago or later, and a change that is taken back afterwards shows again.
 */
static bool is_vain(struct session *session, uint64_t queue_ref, uint64_t ref_to_push)
{
	struct queue *queue;
	uint64_t count;

	if (!object_is_held_unlocked(session, queue_ref) || find_queue(session->heap, queue_ref, &queue) < 0)
		return false;
	count = __atomic_load_n(&queue->count, __ATOMIC_RELAXED);
	if (!ref_to_push)
		return count == 0;
	return count == queue->n && object_is_held_unlocked(session, ref_to_push);
}

static int transfer(struct session *session, uint64_t queue, uint64_t ref_to_push, uint64_t *ret, int timeout_ms)
{
	struct wait wait;
	int r;

	if (!timeout_ms && is_vain(session, queue, ref_to_push))
		return -EAGAIN;
	r = attempt(session, queue, ref_to_push, ret, &wait);
	if (r != -EAGAIN || !timeout_ms)
		return r;
	if (session->has_lock)
		return -EDEADLK;
	return attempt_and_wait(session, queue, ref_to_push, ret, timeout_ms);
}

int queue_push(struct session *session, uint64_t queue, uint64_t ref, int timeout_ms)
{
	return ref ? transfer(session, queue, ref, NULL, timeout_ms) : -EINVAL;
}

int queue_pop(struct session *session, uint64_t queue, uint64_t *ret, int timeout_ms)
{
	return transfer(session, queue, 0, ret, timeout_ms);
}
