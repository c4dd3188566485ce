// SPDX-License-Identifier: MIT
/*
 * The bystander: an innocent client of a heap that another client scribbles on
 *
 * It makes, holds, drops, names, lists and queues objects, at random by its seed, and counts and times its calls. Any
 * of them may fail, and objects may have wrong bytes; but each call must return, and none may crash.
 */
#include "bystander.h"

#include "scribble_fields.h"

#include <pyheap.h>

#include <string.h>
#include <time.h>
#include <unistd.h>

#define N_PLACES   32U
/* After so many calls, most of which failed, it begins anew, as a program would that is started again. */
#define ERRORS_MAX 20000

static struct bystander_progress *progress;
static uint64_t call_started;

uint64_t bystander_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void call_begin(const char *what)
{
	progress->call = what;
	call_started = bystander_now_us();
}

static int call_end(int64_t r)
{
	uint64_t us = bystander_now_us() - call_started;

	if (us > progress->max_us)
		progress->max_us = us;
	__atomic_fetch_add(&progress->n_calls, 1, __ATOMIC_RELAXED);
	progress->n_errors += r < 0;
	return r < 0 ? (int)r : r > 0;
}

#define CALL(what) (call_begin(#what), call_end(what))

struct bystander {
	struct scribble random; /* its numbers only */
	pyheap *heap;
	pyheap_ref refs[N_PLACES];
	pyheap_ref list, queue;
	pyheap_type type;
	char label[32];
	const char *socket;
};

static void open_session(struct bystander *b)
{
	memset(b->refs, 0, sizeof(b->refs));
	b->list = b->queue = 0;
	while (CALL(pyheap_open(&b->heap, b->socket)) < 0 && !progress->stop)
		usleep(10000);
	progress->n_sessions++;
}

/* What a program does now and then. */
static void call_seldom(struct bystander *b, pyheap_ref ref)
{
	static const size_t slots[] = {0, 8};
	const pyheap_type_spec spec = {.name = "pair", .size = 16, .n_slots = 2, .slots = slots};
	pyheap *heap = b->heap;
	pyheap_ref other = 0;
	pyheap_stats stats;
	pyheap_client_info client;
	uint64_t cursor = 0;
	char one[PYHEAP_NAME_MAX + 1];

	switch (scribble_random(&b->random, 8)) {
	case 0:
		for (int i = 0; i < 100 && CALL(pyheap_name_next(heap, &cursor, one, NULL)) > 0; i++)
			;
		break;
	case 1: /* several calls as one change */
		if (CALL(pyheap_lock(heap)) < 0)
			break;
		CALL(pyheap_name_set(heap, b->label, ref));
		CALL(pyheap_incref(heap, ref));
		CALL(pyheap_decref(heap, ref));
		CALL(pyheap_unlock(heap));
		break;
	case 2:
		CALL(pyheap_get_stats(heap, &stats));
		for (cursor = 0; CALL(pyheap_client_next(heap, &cursor, &client)) > 0;)
			;
		break;
	case 3:
	case 4:
		if (CALL(pyheap_type_register(heap, &spec, &b->type)) < 0 ||
			CALL(pyheap_new(heap, b->type, 16, &other)) < 0)
			break;
		CALL(pyheap_slot_set(heap, other, 8, ref));
		CALL(pyheap_slot_get(heap, other, 8, &ref));
		CALL(pyheap_decref(heap, ref));
		CALL(pyheap_decref(heap, other));
		break;
	case 5:
		CALL(pyheap_queue_pop(heap, b->queue, &other, 3));
		break;
	case 6:
		if (scribble_random(&b->random, 30) == 0)
			CALL(pyheap_check(heap, NULL, NULL));
		break;
	default: /* a large object */
		if (CALL(pyheap_new(heap, PYHEAP_BYTES, 65536 * (1 + scribble_random(&b->random, 4)), &other)) == 0)
			CALL(pyheap_decref(heap, other));
	}
}

static void call_something(struct bystander *b)
{
	struct scribble *random = &b->random;
	pyheap_ref *ref = &b->refs[scribble_random(random, N_PLACES)], other = 0;
	pyheap *heap = b->heap;
	void *data;

	switch (scribble_random(random, 16)) {
	case 0:
	case 1:
	case 2:
		if (*ref)
			CALL(pyheap_decref(heap, *ref));
		*ref = 0;
		if (CALL(pyheap_new(heap, PYHEAP_BYTES,
			    1 + scribble_random(random, scribble_random(random, 12) ? 512 : 100000), ref)) == 0) {
			call_begin("pyheap_data");
			data = pyheap_data(heap, *ref);
			call_end(data ? 0 : -1);
			if (data)
				*(volatile char *)data = 1;
		}
		break;
	case 3:
		CALL(pyheap_incref(heap, *ref));
		CALL(pyheap_decref(heap, *ref));
		break;
	case 4:
		CALL(pyheap_refcount(heap, *ref));
		CALL(pyheap_size(heap, *ref));
		break;
	case 5:
		CALL(pyheap_name_set(heap, b->label, *ref));
		break;
	case 6:
		if (CALL(pyheap_name_get(heap, scribble_random(random, 2) ? b->label : "scribbled 3", &other)) == 0)
			CALL(pyheap_decref(heap, other));
		break;
	case 7:
		if (scribble_random(random, 8) == 0)
			CALL(pyheap_name_del(heap, b->label));
		break;
	case 8:
		if (!b->list)
			CALL(pyheap_list_new(heap, 1 + scribble_random(random, 64), &b->list));
		CALL(pyheap_list_set(heap, b->list, scribble_random(random, 8), *ref));
		break;
	case 9:
		if (CALL(pyheap_list_get(heap, b->list, scribble_random(random, 8), &other)) == 0 && other)
			CALL(pyheap_decref(heap, other));
		break;
	case 10:
		if (scribble_random(random, 8) == 0 && b->list) {
			CALL(pyheap_decref(heap, b->list));
			b->list = 0;
		}
		break;
	case 11:
	case 12:
		if (!b->queue)
			CALL(pyheap_queue_new(heap, 8, &b->queue));
		if (CALL(pyheap_queue_push(heap, b->queue, *ref, 0)) == 0)
			*ref = 0;
		break;
	case 13:
	case 14:
		if (CALL(pyheap_queue_pop(heap, b->queue, &other, 0)) == 0)
			CALL(pyheap_decref(heap, other));
		break;
	default:
		if (scribble_random(random, 20) == 0)
			call_seldom(b, *ref);
		break;
	}
}

void bystander_run(const char *socket, uint64_t seed, struct bystander_progress *shared)
{
	struct bystander b = {.random.random = seed, .label = "bystander", .socket = socket};
	uint64_t errors_before = 0, calls_before = 0;

	progress = shared;
	open_session(&b);
	while (!progress->stop && b.heap) {
		call_something(&b);
		if (progress->n_calls - calls_before < ERRORS_MAX)
			continue;
		if ((progress->n_errors - errors_before) * 10 > (progress->n_calls - calls_before) * 9) {
			call_begin("pyheap_close");
			b.heap = pyheap_close(b.heap);
			call_end(0);
			open_session(&b);
		}
		calls_before = progress->n_calls;
		errors_before = progress->n_errors;
	}
	call_begin("pyheap_close");
	pyheap_close(b.heap);
	call_end(0);
}
