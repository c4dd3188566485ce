// SPDX-License-Identifier: MIT
/*
 * Peers: allocators within one process
 *
 * glibc's malloc, mimalloc, jemalloc and CPython's pymalloc, a program of each from this one file. They are the limit:
 * private to their process, without counts or types, and lost with it. For two-at-once the second process has a heap of
 * its own; for hand-over it is a thread, and a plain ring lies between the two.
 *
 * PEER_GLIBC, PEER_MIMALLOC, PEER_JEMALLOC or PEER_PYMALLOC is defined.
 */
#include "works.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- which one -------------------------------------------------------------------------------------------------- */

#ifdef PEER_MIMALLOC
#include <mimalloc.h>
#define peer_new  mi_malloc
#define peer_free mi_free

static const char *peer_version(void)
{
	static char version[32];
	int number = mi_version();

	snprintf(version, sizeof(version), "%d.%d.%d", number / 100, number / 10 % 10, number % 10);
	return version;
}
#elif defined(PEER_JEMALLOC)
#include <jemalloc/jemalloc.h>
#define peer_new  malloc /* this program is linked to it */
#define peer_free free

static const char *peer_version(void)
{
	const char *version = "unknown";
	size_t size = sizeof(version);

	mallctl("version", &version, &size, NULL, 0);
	return version;
}
#elif defined(PEER_PYMALLOC)
#include <Python.h>
#define peer_new  PyObject_Malloc
#define peer_free PyObject_Free

static const char *peer_version(void)
{
	static char version[16];

	snprintf(version, sizeof(version), "%.*s", (int)strcspn(Py_GetVersion(), " "), Py_GetVersion());
	return version;
}
#else
#include <gnu/libc-version.h>
#define peer_new     malloc
#define peer_free    free
#define peer_version gnu_get_libc_version
#endif

/* ---- pair and two-at-once --------------------------------------------------------------------------------------- */

struct pair_state {
	size_t size;
	void *other; /* of that size, all the while */
};

static int pair_setup(void **ret, uint64_t argument)
{
	struct pair_state *pair = malloc(sizeof(*pair));

	if (!pair)
		return -ENOMEM;
	pair->size = argument;
	pair->other = peer_new(pair->size);
	*ret = pair;
	return 0;
}

static int pair_loop(void *state, uint64_t n)
{
	const struct pair_state *pair = state;
	size_t size = pair->size;

	for (uint64_t i = 0; i < n; i++) {
		void *object = peer_new(size);

		if (!object)
			return -ENOMEM;
		keep(object);
		peer_free(object);
	}
	return 0;
}

static int pair_teardown(void *state)
{
	struct pair_state *pair = state;

	peer_free(pair->other);
	free(pair);
	return 0;
}

#ifndef PEER_PYMALLOC
static int two_begin(void *userdata, void **ret)
{
	(void)userdata;
	return pair_setup(ret, PAIR_SIZE);
}

static int two_at_once_setup(void **ret, uint64_t argument)
{
	static const struct two_way way = {.begin = two_begin, .loop = pair_loop, .end = pair_teardown};
	struct two *two;
	int r = two_setup(&two, &way, NULL);

	(void)argument;
	if (r >= 0)
		*ret = two;
	return r;
}
#endif

/* ---- bulk-48 and bulk-mixed ------------------------------------------------------------------------------------- */

struct bulk_state {
	size_t n;
	void **objects;
	uint32_t *sizes; /* NULL: all are PAIR_SIZE */
	uint32_t *order; /* of dropping; NULL: that of making */
	int64_t begin_bytes;
	int64_t peak_bytes;
};

/* What the process has of the machine's memory. */
static int64_t resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	long long n_pages = 0;

	if (!file)
		return -errno;
	if (fscanf(file, "%*d %lld", &n_pages) != 1)
		n_pages = 0;
	fclose(file);
	return (int64_t)n_pages * sysconf(_SC_PAGESIZE);
}

/* What the loop needs stands in variables: it is not what is measured. */
static void bulk_drop(const struct bulk_state *bulk)
{
	void *const *objects = bulk->objects;
	const uint32_t *order = bulk->order;
	size_t n = bulk->n;

	if (order) {
		for (size_t i = 0; i < n; i++)
			peer_free(objects[order[i]]);
	} else {
		for (size_t i = 0; i < n; i++)
			peer_free(objects[i]);
	}
}

static int bulk_round(struct bulk_state *bulk, double *ret_new, double *ret_drop)
{
	uint64_t begin = clock_now();

	for (size_t i = 0; i < bulk->n; i++) {
		bulk->objects[i] = peer_new(bulk->sizes ? bulk->sizes[i] : PAIR_SIZE);
		if (!bulk->objects[i])
			return -ENOMEM;
		/* pyheap writes at least a header. */
		*(volatile char *)bulk->objects[i] = 1;
	}
	*ret_new = (double)(clock_now() - begin) / (double)bulk->n;
	bulk->peak_bytes = resident_bytes();
	begin = clock_now();
	bulk_drop(bulk);
	*ret_drop = (double)(clock_now() - begin) / (double)bulk->n;
	return 0;
}

static int bulk_teardown(void *state)
{
	struct bulk_state *bulk = state;

	free(bulk->objects);
	free(bulk->sizes);
	free(bulk->order);
	free(bulk);
	return 0;
}

static int bulk_begin(void **ret, uint64_t n, int mixed)
{
	struct bulk_state *bulk = calloc(1, sizeof(*bulk));
	double figures[2];
	int r = 0;

	if (!bulk)
		return -ENOMEM;
	bulk->n = n;
	bulk->objects = malloc(n * sizeof(*bulk->objects));
	for (size_t i = 0; bulk->objects && i < n; i++)
		bulk->objects[i] = bulk; /* its own memory is there before anything is counted */
	if (mixed) {
		bulk->sizes = work_sizes(n);
		bulk->order = work_order(n);
	}
	if (!bulk->objects || (mixed && (!bulk->sizes || !bulk->order)))
		r = -ENOMEM;
	bulk->begin_bytes = resident_bytes();
	if (r >= 0)
		r = bulk_round(bulk, &figures[0], &figures[1]);
	if (r < 0) {
		bulk_teardown(bulk);
		return r;
	}
	*ret = bulk;
	return 0;
}

static int bulk_48_setup(void **ret, uint64_t argument)
{
	return bulk_begin(ret, argument, 0);
}

static int bulk_mixed_setup(void **ret, uint64_t argument)
{
	return bulk_begin(ret, argument, 1);
}

static int bulk_48_measure(void *state, uint64_t n, double ret[FIGURES_MAX])
{
	struct bulk_state *bulk = state;
	int r = bulk_round(bulk, &ret[0], &ret[1]);

	(void)n;
	ret[2] = (double)(bulk->peak_bytes - bulk->begin_bytes) / (double)bulk->n;
	return r < 0 ? r : 3;
}

static int bulk_mixed_measure(void *state, uint64_t n, double ret[FIGURES_MAX])
{
	double drop;
	int r = bulk_round(state, &ret[1], &drop);

	(void)n;
	ret[0] = ret[1] + drop;
	return r < 0 ? r : 2;
}

/* ---- hand-over -------------------------------------------------------------------------------------------------- */

#ifndef PEER_PYMALLOC
struct ring {
	_Alignas(64) atomic_uint_fast64_t n_pushed;
	_Alignas(64) atomic_uint_fast64_t n_popped;
	_Alignas(64) atomic_uint_fast64_t n_ordered; /* what the consumer is to take in all; UINT64_MAX: end */
	_Alignas(64) void *places[QUEUE_SIZE];
	pthread_t consumer;
};

static void *hand_over_consume(void *userdata)
{
	struct ring *ring = userdata;
	uint64_t at = 0;

	cpu_pin(1);
	for (;;) {
		while (atomic_load_explicit(&ring->n_pushed, memory_order_acquire) == at) {
			if (atomic_load_explicit(&ring->n_ordered, memory_order_relaxed) == UINT64_MAX)
				return NULL;
			/* Nothing is on its way: leave the CPU to others. */
			if (atomic_load_explicit(&ring->n_ordered, memory_order_relaxed) == at)
				usleep(50);
		}
		peer_free(ring->places[at % QUEUE_SIZE]);
		atomic_store_explicit(&ring->n_popped, ++at, memory_order_release);
	}
}

static int hand_over_setup(void **ret, uint64_t argument)
{
	struct ring *ring = aligned_alloc(64, sizeof(*ring));

	(void)argument;
	if (!ring)
		return -ENOMEM;
	atomic_init(&ring->n_pushed, 0);
	atomic_init(&ring->n_popped, 0);
	atomic_init(&ring->n_ordered, 0);
	if (pthread_create(&ring->consumer, NULL, hand_over_consume, ring)) {
		free(ring);
		return -EAGAIN;
	}
	*ret = ring;
	return 0;
}

static int hand_over_loop(void *state, uint64_t n)
{
	struct ring *ring = state;
	uint64_t at = atomic_load(&ring->n_pushed), end = at + n;
	struct spin spin = {0};

	atomic_store(&ring->n_ordered, end);
	for (; at < end; at++) {
		void *object = peer_new(PAIR_SIZE);

		if (!object)
			return -ENOMEM;
		while (at - atomic_load_explicit(&ring->n_popped, memory_order_acquire) == QUEUE_SIZE) {
			if (spin_again(&spin) < 0)
				return -ETIMEDOUT;
		}
		ring->places[at % QUEUE_SIZE] = object;
		atomic_store_explicit(&ring->n_pushed, at + 1, memory_order_release);
	}
	while (atomic_load(&ring->n_popped) != end) {
		if (spin_again(&spin) < 0)
			return -ETIMEDOUT;
	}
	return 0;
}

static int hand_over_teardown(void *state)
{
	struct ring *ring = state;

	atomic_store(&ring->n_ordered, UINT64_MAX);
	pthread_join(ring->consumer, NULL);
	free(ring);
	return 0;
}
#endif

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct work works[] = {
	{.key = WORK_PAIR, .setup = pair_setup, .loop = pair_loop, .teardown = pair_teardown},
	{.key = WORK_BULK_48, .setup = bulk_48_setup, .measure = bulk_48_measure, .teardown = bulk_teardown},
	{.key = WORK_BULK_MIXED, .setup = bulk_mixed_setup, .measure = bulk_mixed_measure, .teardown = bulk_teardown},
/* Not of Python, whose allocator has one lock over all. */
#ifndef PEER_PYMALLOC
	{.key = WORK_TWO_AT_ONCE, .setup = two_at_once_setup, .measure = two_measure, .teardown = two_teardown},
	{.key = WORK_HAND_OVER, .setup = hand_over_setup, .loop = hand_over_loop, .teardown = hand_over_teardown},
#endif
};

int main(int argc, char **argv)
{
	static const struct family family = {.works = works, .n_works = sizeof(works) / sizeof(*works)};
	static const struct family *const families[] = {&family};

#ifdef PEER_PYMALLOC
	Py_InitializeEx(0);
#endif
	return contender_main(argc, argv, peer_version(), families, 1);
}
