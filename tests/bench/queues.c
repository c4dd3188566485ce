// SPDX-License-Identifier: MIT
/*
 * Works on queues: handing over
 *
 * push-pop: one process puts something into a queue and takes it out again.
 *
 * there-and-back: two processes, two queues: one puts an object's ref into the first queue, the other one takes it from
 * there and puts it into the second, where the first one awaits it. Both poll. A round trip is one operation.
 *
 * asleep: as there-and-back, and the process that waits sleeps.
 *
 * hand-over: one process makes objects of 48 bytes and hands them over, the other one gives them up. Both poll, the one
 * where the queue is full, the other where it is empty. An object's whole way is one operation.
 */
#include "ours.h"
#include "partner.h"

#include <errno.h>
#include <stdlib.h>

struct queue_state {
	pyheap *heap;
	struct partner partner;
	pyheap_ref there, back; /* the queues; push-pop has only the first */
	pyheap_ref object;      /* that goes round */
};

/* ---- both sides ------------------------------------------------------------------------------------------------- */

static int queue_teardown(void *state)
{
	struct queue_state *queue = state;
	int r;

	/* First the partner: it still uses the queues that this session holds. */
	r = partner_stop(&queue->partner);
	pyheap_close(queue->heap);
	free(queue);
	return r;
}

/* A session with two queues and an object; serve: NULL or the partner's part, which is told the queues. */
static int queue_begin(void **ret, int (*serve)(void *userdata, int fd))
{
	struct queue_state *queue = calloc(1, sizeof(*queue));
	int r = 0;

	if (!queue)
		return -ENOMEM;
	if (serve)
		r = partner_start(&queue->partner, serve, NULL);
	if (r >= 0)
		r = pyheap_open(&queue->heap, NULL);
	if (r >= 0)
		r = pyheap_queue_new(queue->heap, QUEUE_SIZE, &queue->there);
	if (r >= 0)
		r = pyheap_queue_new(queue->heap, QUEUE_SIZE, &queue->back);
	if (r >= 0)
		r = pyheap_new(queue->heap, PYHEAP_BYTES, PAIR_SIZE, &queue->object);
	if (r >= 0 && serve)
		r = partner_say(queue->partner.fd, queue->there);
	if (r >= 0 && serve)
		r = partner_say(queue->partner.fd, queue->back);
	if (r < 0) {
		queue_teardown(queue);
		return r;
	}
	*ret = queue;
	return 0;
}

/* The partner: do `part` as often as told, until the other side ends. It holds the queues, as a user of one should.
 */
static int queue_serve(int fd, int (*part)(pyheap *heap, pyheap_ref there, pyheap_ref back))
{
	pyheap *heap;
	pyheap_ref there, back;
	uint64_t n;
	int r = pyheap_open(&heap, NULL);

	if (r < 0)
		return r;
	r = partner_hear(fd, &there);
	if (r >= 0)
		r = partner_hear(fd, &back);
	if (r >= 0)
		r = pyheap_incref(heap, there);
	if (r >= 0)
		r = pyheap_incref(heap, back);
	while (r >= 0 && (r = partner_wait(fd, &n)) >= 0) {
		for (uint64_t i = 0; r >= 0 && i < n; i++)
			r = part(heap, there, back);
		if (r >= 0)
			r = partner_say(fd, n);
	}
	pyheap_close(heap);
	return r == -ECONNRESET ? 0 : r;
}

/* ---- push-pop --------------------------------------------------------------------------------------------------- */

static int push_pop_setup(void **ret, uint64_t argument)
{
	(void)argument;
	return queue_begin(ret, NULL);
}

static int push_pop_loop(void *state, uint64_t n)
{
	struct queue_state *queue = state;
	pyheap_ref got;
	int r;

	for (uint64_t i = 0; i < n; i++) {
		r = pyheap_queue_push(queue->heap, queue->there, queue->object, 0);
		if (r < 0)
			return r;
		r = pyheap_queue_pop(queue->heap, queue->there, &got, 0);
		if (r < 0)
			return r;
		if (got != queue->object)
			return -EBADMSG;
	}
	return 0;
}

/* ---- there-and-back --------------------------------------------------------------------------------------------- */

static int round_trip_part(pyheap *heap, pyheap_ref there, pyheap_ref back)
{
	pyheap_ref ref;
	int r = ours_pop(heap, there, &ref);

	return r < 0 ? r : ours_push(heap, back, ref);
}

static int round_trip_serve(void *userdata, int fd)
{
	(void)userdata;
	return queue_serve(fd, round_trip_part);
}

static int round_trip_setup(void **ret, uint64_t argument)
{
	(void)argument;
	return queue_begin(ret, round_trip_serve);
}

static int round_trip_loop(void *state, uint64_t n)
{
	struct queue_state *queue = state;
	pyheap_ref got;
	uint64_t n_done;
	int r = partner_say(queue->partner.fd, n);

	for (uint64_t i = 0; r >= 0 && i < n; i++) {
		r = ours_push(queue->heap, queue->there, queue->object);
		if (r >= 0)
			r = ours_pop(queue->heap, queue->back, &got);
		if (r >= 0 && got != queue->object)
			r = -EBADMSG;
	}
	return r < 0 ? r : partner_hear(queue->partner.fd, &n_done);
}

/* ---- asleep ----------------------------------------------------------------------------------------------------- */

static int asleep_part(pyheap *heap, pyheap_ref there, pyheap_ref back)
{
	pyheap_ref ref;
	int r = pyheap_queue_pop(heap, there, &ref, WATCH_DOG_MS);

	return r < 0 ? r : pyheap_queue_push(heap, back, ref, WATCH_DOG_MS);
}

static int asleep_serve(void *userdata, int fd)
{
	(void)userdata;
	return queue_serve(fd, asleep_part);
}

static int asleep_setup(void **ret, uint64_t argument)
{
	(void)argument;
	return queue_begin(ret, asleep_serve);
}

static int asleep_loop(void *state, uint64_t n)
{
	struct queue_state *queue = state;
	pyheap_ref got;
	uint64_t n_done;
	int r = partner_say(queue->partner.fd, n);

	for (uint64_t i = 0; r >= 0 && i < n; i++) {
		r = pyheap_queue_push(queue->heap, queue->there, queue->object, 0);
		if (r >= 0)
			r = pyheap_queue_pop(queue->heap, queue->back, &got, WATCH_DOG_MS);
		if (r >= 0 && got != queue->object)
			r = -EBADMSG;
	}
	return r < 0 ? r : partner_hear(queue->partner.fd, &n_done);
}

/* ---- hand-over -------------------------------------------------------------------------------------------------- */

static int hand_over_part(pyheap *heap, pyheap_ref there, pyheap_ref back)
{
	pyheap_ref ref;
	int r = ours_pop(heap, there, &ref);

	(void)back;
	return r < 0 ? r : pyheap_decref(heap, ref);
}

static int hand_over_serve(void *userdata, int fd)
{
	(void)userdata;
	return queue_serve(fd, hand_over_part);
}

static int hand_over_setup(void **ret, uint64_t argument)
{
	(void)argument;
	return queue_begin(ret, hand_over_serve);
}

static int hand_over_loop(void *state, uint64_t n)
{
	struct queue_state *queue = state;
	pyheap_ref ref;
	uint64_t n_done;
	int r = partner_say(queue->partner.fd, n);

	for (uint64_t i = 0; r >= 0 && i < n; i++) {
		r = pyheap_new(queue->heap, PYHEAP_BYTES, PAIR_SIZE, &ref);
		if (r >= 0)
			r = ours_push(queue->heap, queue->there, ref);
	}
	/* The last ones are still on their way: they count. */
	return r < 0 ? r : partner_hear(queue->partner.fd, &n_done);
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct work works[] = {
	{.key = WORK_PUSH_POP, .setup = push_pop_setup, .loop = push_pop_loop, .teardown = queue_teardown},
	{.key = WORK_THERE_AND_BACK, .setup = round_trip_setup, .loop = round_trip_loop, .teardown = queue_teardown},
	{.key = WORK_ASLEEP, .setup = asleep_setup, .loop = asleep_loop, .teardown = queue_teardown},
	{.key = WORK_HAND_OVER, .setup = hand_over_setup, .loop = hand_over_loop, .teardown = queue_teardown},
};

const struct family family_queues = {.works = works, .n_works = sizeof(works) / sizeof(*works)};
