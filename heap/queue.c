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

#define QUEUE_LIKELY(x) __builtin_expect(!!(x), 1)
#define QUEUE_RARE      __attribute__((noinline))

/* What a call has to wait for: *seq to be something else than `value`. */
struct wait {
	uint32_t *seq;
	uint32_t value;
};

/* A queue and how many places it has for certain, whatever a stray write may have made of its own number. */
struct found {
	struct queue *queue;
	uint64_t n;
};

/* Which it is; nothing is said of how full it is. */
static int find_any(struct heap *heap, uint64_t ref, struct object *ret_object, struct found *ret)
{
	int r;

	r = object_find(heap, ref, ret_object);
	if (r < 0)
		return r;
	if (ret_object->type != TYPE_QUEUE)
		return -EINVAL;
	ret->queue = (struct queue *)(void *)ret_object->data;
	ret->n = ret->queue->n;
	return ret_object->size >= sizeof(struct queue) && ret->n &&
			       ret->n <= (ret_object->size - sizeof(struct queue)) / 8
		       ? 0
		       : -EUCLEAN;
}

/* Most often it is one that the session holds and used lately: false, it is not. */
static inline bool find_recent(const struct session *session, uint64_t ref, struct found *ret)
{
	const struct recent_object *recent = recent_object(session, ref);
	uint64_t word;

	if (!QUEUE_LIKELY(recent->ref == ref && !recent->pool && recent->queue))
		return false;
	/* relaxed: it is alive for as long as it is held, unless the heap was damaged and repaired */
	word = __atomic_load_n(&recent->queue_header->word, __ATOMIC_RELAXED);
	*ret = (struct found){recent->queue, recent->n_places};
	/* its own number: a stray write is found out here as it is there */
	return QUEUE_LIKELY(header_is(word, ref_generation(ref), STATE_LIVE) && recent->queue->n == recent->n_places);
}

/* With the lock held. */
static inline int find_queue(struct session *session, uint64_t ref, struct found *ret)
{
	struct object object;
	int r;

	if (!find_recent(session, ref, ret)) {
		r = find_any(session->heap, ref, &object, ret);
		if (r < 0)
			return r;
	}
	return ret->queue->head < ret->n && ret->queue->count <= ret->n ? 0 : -EUCLEAN;
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
static uint64_t *place_after(const struct found *found, uint64_t place, uint64_t n)
{
	uint64_t i = place + n < found->n ? place + n : place + n - found->n;

	return &found->queue->places[i];
}

static int push_in_change(struct session *session, uint64_t queue_ref, uint64_t ref, struct wait *wait)
{
	struct heap *heap = session->heap;
	struct hold *hold = hold_find(session, ref);
	struct queue *queue;
	struct found found;
	struct object object;
	int r;

	r = find_queue(session, queue_ref, &found);
	if (!r)
		r = object_find_fast(heap, ref, &object);
	if (r < 0)
		return r;
	if (!hold && !object_is_held_by_word(session, &object))
		return -EPERM;
	queue = found.queue;
	if (queue->count == found.n)
		return must_wait(&queue->pop_seq, &queue->push_waiting, wait);

	heap_set(heap, place_after(&found, queue->head, queue->count), ref);
	heap_set(heap, &queue->count, queue->count + 1);
	r = object_pass_on(session, ref, &object, hold);
	if (r < 0)
		return r;
	signal(&queue->push_seq, &queue->pop_waiting);
	return 0;
}

/* Empty the first place, where one is filled. */
static uint64_t take_place(struct heap *heap, const struct found *found)
{
	struct queue *queue = found->queue;
	uint64_t head = queue->head, ref = queue->places[head];

	heap_set(heap, &queue->places[head], 0);
	heap_set(heap, &queue->head, head + 1 < found->n ? head + 1 : 0);
	heap_set(heap, &queue->count, queue->count - 1);
	return ref;
}

/*
 * Take what comes first; what a stray write put into a place names nothing and is passed over. 1 *ret is alive, 0 none
 * is left.
 */
static inline int take_first(struct heap *heap, const struct found *found, uint64_t *ret, struct object *ret_object)
{
	for (uint32_t n = 0; found->queue->count; n++) {
		if (n == PASS_OVER_MAX)
			return -EUCLEAN;
		*ret = take_place(heap, found);
		if (QUEUE_LIKELY(object_find_fast(heap, *ret, ret_object) == 0))
			return 1;
	}
	return 0;
}

static int pop_in_change(
	struct session *session, uint64_t queue_ref, uint64_t *ret, uint32_t *ret_type, struct wait *wait)
{
	struct heap *heap = session->heap;
	struct queue *queue;
	struct found found;
	struct object object;
	uint64_t ref = 0;
	bool first;
	int r;

	r = find_queue(session, queue_ref, &found);
	if (!r)
		r = take_first(heap, &found, &ref, &object);
	if (r < 0)
		return r;
	queue = found.queue;
	if (!r)
		return must_wait(&queue->push_seq, &queue->pop_waiting, wait);
	r = hold_put(session, hold_place(session, ref), ref, &first);
	if (!QUEUE_LIKELY(!r && first)) {
		if (!r) /* the session has its right already, the queue's goes */
			r = object_drop(session, &object);
		if (r < 0)
			return r;
	}
	signal(&queue->pop_seq, &queue->push_waiting);
	*ret = ref;
	*ret_type = object.type;
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

static inline int attempt_push(struct session *session, uint64_t queue, uint64_t ref, struct wait *wait)
{
	int r = change_begin(session);

	return r < 0 ? r : change_end(session, push_in_change(session, queue, ref, wait));
}

static inline int attempt_pop(struct session *session, uint64_t queue, uint64_t *ret, struct wait *wait)
{
	uint32_t type;
	int r;

	r = hold_reserve(session);
	if (r)
		return r;
	r = change_begin(session);
	if (r < 0)
		return r;
	r = change_end(session, pop_in_change(session, queue, ret, &type, wait));
	if (!r)
		recent_note_held(session, *ret, type != TYPE_QUEUE);
	return r;
}

/* One of the two, by whether ref_to_push is given. */
static inline int attempt(
	struct session *session, uint64_t queue, uint64_t ref_to_push, uint64_t *ret, struct wait *wait)
{
	return ref_to_push ? attempt_push(session, queue, ref_to_push, wait) : attempt_pop(session, queue, ret, wait);
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

/* A look without the lock, for the first time: where the queue lies. False: the session does not hold it, or nothing
 * is known of it. */
static QUEUE_RARE bool get_to_know(struct session *session, uint64_t ref, struct found *ret)
{
	struct object object;

	if (!object_is_held_unlocked(session, ref) || find_any(session->heap, ref, &object, ret) < 0)
		return false;
	object_remember(session, ref, &object);
	if (recent_object(session, ref)->ref == ref)
		recent_object(session, ref)->n_places = ret->n; /* as it was when it was found good */
	return true;
}

/*
 * A look without the lock, for who polls: is the queue, which this session holds, full (empty) at this moment? Relaxed:
 * the answer is as good as one of a moment ago or later, and a change that is taken back afterwards shows again. What
 * comes first into an empty queue, or is all that is there, is awaited: the other side has nothing else to do.
 */
static inline bool is_vain(struct session *session, uint64_t queue_ref, uint64_t ref_to_push)
{
	struct found found;
	uint64_t count;

	if (!find_recent(session, queue_ref, &found) && !get_to_know(session, queue_ref, &found))
		return false;
	count = __atomic_load_n(&found.queue->count, __ATOMIC_RELAXED);
	if (__atomic_load_n(&found.queue->head, __ATOMIC_RELAXED) >= found.n) /* damaged: the call says so */
		return false;
	session->is_awaited = count == (ref_to_push ? 0 : 1);
	if (!ref_to_push)
		return count == 0;
	return count == found.n && object_is_held_unlocked(session, ref_to_push);
}

static int transfer(struct session *session, uint64_t queue, uint64_t ref_to_push, uint64_t *ret, int timeout_ms)
{
	struct wait wait;
	int r;

	if (!timeout_ms && is_vain(session, queue, ref_to_push))
		return -EAGAIN;
	r = attempt(session, queue, ref_to_push, ret, &wait);
	session->is_awaited = false;
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
