// SPDX-License-Identifier: MIT
/*
 * Works on places that several processes read
 *
 * list-get: hold what a list's slot has, and let go of it; so many slots take turns.
 *
 * list-get-two, name-get-two: two processes at once read the same slots of one list, or the same names: how many times
 * the work of one they get done.
 */
#include "ours.h"

#include <errno.h>
#include <stdlib.h>

/* What the works read: made by a session that stays open, named, and removed at the end. */
#define LIST_NAME "readers"

struct shelf {
	pyheap *heap;
	size_t n_used; /* slots or names that take turns */
	struct two *two;
	void *reader; /* without `two` */
};

/* A process that reads. */
struct reader {
	pyheap *heap;
	pyheap_ref list;
	size_t n;
	char names[N_SHARED][WORK_NAME_BYTES];
};

static int reader_end(void *state)
{
	struct reader *reader = state;

	pyheap_close(reader->heap);
	free(reader);
	return 0;
}

static int reader_begin(void *userdata, void **ret)
{
	const struct shelf *shelf = userdata;
	struct reader *reader = calloc(1, sizeof(*reader));
	int r;

	if (!reader)
		return -ENOMEM;
	reader->n = shelf->n_used;
	for (size_t i = 0; i < reader->n; i++)
		work_name(reader->names[i], i);
	r = pyheap_open(&reader->heap, NULL);
	if (r >= 0)
		r = pyheap_name_get(reader->heap, LIST_NAME, &reader->list);
	if (r < 0) {
		reader_end(reader);
		return r;
	}
	*ret = reader;
	return 0;
}

static int shelf_fill(pyheap *heap, pyheap_ref list)
{
	char name[WORK_NAME_BYTES];
	pyheap_ref ref;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < N_SHARED; i++) {
		r = pyheap_new(heap, PYHEAP_BYTES, PAIR_SIZE, &ref);
		if (r < 0)
			break;
		work_name(name, i);
		r = pyheap_list_set(heap, list, i, ref);
		if (r >= 0)
			r = pyheap_name_set(heap, name, ref);
		pyheap_decref(heap, ref);
	}
	return r;
}

static int shelf_teardown(void *state)
{
	struct shelf *shelf = state;
	char name[WORK_NAME_BYTES];
	pyheap_ref ref;
	int r = shelf->two ? two_teardown(shelf->two) : 0;

	if (shelf->reader)
		reader_end(shelf->reader);

	for (size_t i = 0; i < N_SHARED; i++) {
		work_name(name, i);
		/* Its name's right, its slot's and this hold: nothing was left by the works. */
		if (r >= 0)
			r = pyheap_name_get(shelf->heap, name, &ref);
		if (r >= 0 && pyheap_refcount(shelf->heap, ref) != 3)
			r = -EBADMSG;
		pyheap_name_del(shelf->heap, name);
	}
	pyheap_name_del(shelf->heap, LIST_NAME);
	pyheap_close(shelf->heap);
	free(shelf);
	return r;
}

static int shelf_setup(void **ret, uint64_t argument)
{
	struct shelf *shelf = calloc(1, sizeof(*shelf));
	pyheap_ref list;
	int r;

	if (!shelf)
		return -ENOMEM;
	shelf->n_used = argument;
	r = pyheap_open(&shelf->heap, NULL);
	if (r >= 0)
		r = pyheap_list_new(shelf->heap, N_SHARED, &list);
	if (r >= 0)
		r = shelf_fill(shelf->heap, list);
	if (r >= 0)
		r = pyheap_name_set(shelf->heap, LIST_NAME, list);
	if (r < 0) {
		pyheap_close(shelf->heap);
		free(shelf);
		return r;
	}
	pyheap_decref(shelf->heap, list);
	*ret = shelf;
	return 0;
}

static int list_loop(void *state, uint64_t n)
{
	const struct reader *reader = state;
	pyheap_ref ref;
	int r;

	for (uint64_t i = 0; i < n; i++) {
		r = pyheap_list_get(reader->heap, reader->list, i % reader->n, &ref);
		if (r >= 0)
			r = pyheap_decref(reader->heap, ref);
		if (r < 0)
			return r;
	}
	return 0;
}

static int name_loop(void *state, uint64_t n)
{
	const struct reader *reader = state;
	pyheap_ref ref;
	int r;

	for (uint64_t i = 0; i < n; i++) {
		r = pyheap_name_get(reader->heap, reader->names[i % reader->n], &ref);
		if (r >= 0)
			r = pyheap_decref(reader->heap, ref);
		if (r < 0)
			return r;
	}
	return 0;
}

static int one_loop(void *state, uint64_t n)
{
	const struct shelf *shelf = state;

	return list_loop(shelf->reader, n);
}

static int one_setup(void **ret, uint64_t argument)
{
	struct shelf *shelf;
	void *state;
	int r = shelf_setup(&state, argument);

	if (r < 0)
		return r;
	shelf = state;
	r = reader_begin(shelf, &shelf->reader);
	if (r < 0)
		shelf_teardown(shelf);
	else
		*ret = shelf;
	return r;
}

static int two_readers_setup(void **ret, uint64_t argument, const struct two_way *way)
{
	struct shelf *shelf;
	void *state;
	int r = shelf_setup(&state, argument);

	if (r < 0)
		return r;
	shelf = state;
	r = two_setup(&shelf->two, way, shelf);
	if (r < 0)
		shelf_teardown(shelf);
	else
		*ret = shelf;
	return r;
}

static int two_lists_setup(void **ret, uint64_t argument)
{
	static const struct two_way way = {.begin = reader_begin, .loop = list_loop, .end = reader_end};

	return two_readers_setup(ret, argument, &way);
}

static int two_names_setup(void **ret, uint64_t argument)
{
	static const struct two_way way = {.begin = reader_begin, .loop = name_loop, .end = reader_end};

	return two_readers_setup(ret, argument, &way);
}

static int readers_measure(void *state, uint64_t n, double ret[FIGURES_MAX])
{
	const struct shelf *shelf = state;

	return two_measure(shelf->two, n, ret);
}

static const struct work works[] = {
	{.key = WORK_LIST_GET, .setup = one_setup, .loop = one_loop, .teardown = shelf_teardown},
	{.key = WORK_LIST_GET_TWO, .setup = two_lists_setup, .measure = readers_measure, .teardown = shelf_teardown},
	{.key = WORK_NAME_GET_TWO, .setup = two_names_setup, .measure = readers_measure, .teardown = shelf_teardown},
};

const struct family family_readers = {.works = works, .n_works = sizeof(works) / sizeof(*works)};
