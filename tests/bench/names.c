// SPDX-License-Identifier: MIT
/*
 * Works on names: finding
 *
 * name-get: find an object of 48 bytes by its name and let go of it, where there are so many names. N_NAMES_USED of
 * them take turns, spread over all, so that what is seen is the finding and not how many names the CPU's cache has room
 * for. name-get-all: all of them take turns.
 *
 * name-size: find an object of that size by its name, look at its first and last byte where it lies, let go of it.
 * N_NAMES_SIZED of them take turns. name-read: the same, and every byte is read.
 */
#include "ours.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct names_state {
	pyheap *heap;
	size_t size;
	size_t n_names; /* that there are */
	size_t n_used;  /* of the next, in turn */
	char (*used)[WORK_NAME_BYTES];
};

static uint8_t mark(size_t i)
{
	return (uint8_t)(i * 7 + 1);
}

/* Make the i-th object, with its mark at either end, and let only its name hold it. */
static int names_put(struct names_state *names, size_t i)
{
	char name[WORK_NAME_BYTES];
	uint8_t *data;
	pyheap_ref ref;
	int r = pyheap_new(names->heap, PYHEAP_BYTES, names->size, &ref);

	if (r < 0)
		return r;
	data = pyheap_data(names->heap, ref);
	if (!data)
		return -errno;
	memset(data, 0, names->size);
	data[0] = data[names->size - 1] = mark(i);
	work_name(name, i);
	r = pyheap_name_set(names->heap, name, ref);
	return r < 0 ? r : pyheap_decref(names->heap, ref);
}

static int names_teardown(void *state)
{
	struct names_state *names = state;
	char name[WORK_NAME_BYTES];
	pyheap_ref ref;
	int r = 0;

	for (size_t i = 0; names->heap && i < names->n_names; i++) {
		work_name(name, i);
		if (r >= 0)
			r = pyheap_name_get(names->heap, name, &ref);
		/* Its name's right and this hold: nothing was left by the works. */
		if (r >= 0 && pyheap_refcount(names->heap, ref) != 2)
			r = -EBADMSG;
		pyheap_name_del(names->heap, name);
	}
	pyheap_close(names->heap);
	free(names->used);
	free(names);
	return r;
}

static int names_begin(void **ret, size_t size, size_t n_names, size_t n_used)
{
	struct names_state *names = calloc(1, sizeof(*names));
	int r;

	if (!names)
		return -ENOMEM;
	*names = (struct names_state){.size = size, .n_names = n_names, .n_used = n_used < n_names ? n_used : n_names};
	names->used = calloc(names->n_used, sizeof(*names->used));
	r = names->used ? ours_open(&names->heap, 0) : -ENOMEM;
	for (size_t i = 0; r >= 0 && i < names->n_used; i++)
		work_name(names->used[i], i * (names->n_names / names->n_used));
	for (size_t i = 0; r >= 0 && i < names->n_names; i++)
		r = names_put(names, i);
	if (r < 0) {
		names->n_names = 0;
		names_teardown(names);
		return r;
	}
	*ret = names;
	return 0;
}

/* ---- name-get and name-get-all ---------------------------------------------------------------------------------- */

static int get_setup(void **ret, uint64_t argument)
{
	return names_begin(ret, PAIR_SIZE, argument, N_NAMES_USED);
}

static int get_all_setup(void **ret, uint64_t argument)
{
	return names_begin(ret, PAIR_SIZE, argument, argument);
}

static int get_loop(void *state, uint64_t n)
{
	const struct names_state *names = state;
	pyheap_ref ref;
	size_t next = 0;
	int r;

	for (uint64_t i = 0; i < n; i++) {
		r = pyheap_name_get(names->heap, names->used[next], &ref);
		if (r < 0)
			return r;
		r = pyheap_decref(names->heap, ref);
		if (r < 0)
			return r;
		if (++next == names->n_used)
			next = 0;
	}
	return 0;
}

/* ---- name-size and name-read ------------------------------------------------------------------------------------ */

/* Of an object that has its mark in its first and last byte, and nothing else. */
static uint64_t sum_of(uint8_t mark)
{
	return (uint64_t)mark + ((uint64_t)mark << 56);
}

static int size_setup(void **ret, uint64_t argument)
{
	return names_begin(ret, argument, N_NAMES_SIZED, N_NAMES_SIZED);
}

static inline int sized_loop(const struct names_state *names, uint64_t n, bool read)
{
	const uint8_t *data;
	pyheap_ref ref;
	int r;

	for (uint64_t i = 0; i < n; i++) {
		size_t next = i % N_NAMES_SIZED;

		r = pyheap_name_get(names->heap, names->used[next], &ref);
		if (r < 0)
			return r;
		data = pyheap_data(names->heap, ref);
		if (!data)
			return -errno;
		if (data[0] != mark(next) || data[names->size - 1] != mark(next))
			return -EBADMSG;
		if (read && work_sum(data, names->size) != sum_of(mark(next)))
			return -EBADMSG;
		r = pyheap_decref(names->heap, ref);
		if (r < 0)
			return r;
	}
	return 0;
}

static int size_loop(void *state, uint64_t n)
{
	return sized_loop(state, n, false);
}

static int read_loop(void *state, uint64_t n)
{
	return sized_loop(state, n, true);
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct work works[] = {
	{.key = WORK_NAME_GET, .setup = get_setup, .loop = get_loop, .teardown = names_teardown},
	{.key = WORK_NAME_GET_ALL, .setup = get_all_setup, .loop = get_loop, .teardown = names_teardown},
	{.key = WORK_NAME_SIZE, .setup = size_setup, .loop = size_loop, .teardown = names_teardown},
	{.key = WORK_NAME_READ, .setup = size_setup, .loop = read_loop, .teardown = names_teardown},
};

const struct family family_names = {.works = works, .n_works = sizeof(works) / sizeof(*works)};
