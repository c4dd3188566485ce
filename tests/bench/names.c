// SPDX-License-Identifier: MIT
/*
 * Works on names: publishing and finding
 *
 * There are N_NAMES names, each of an object of 1 KiB; they take turns.
 *
 * name-put-1k: make an object of 1 KiB with given bytes and give it a name that another one has, which goes.
 *
 * name-get-1k: find an object by its name, look at its first byte where it lies, and let go of it.
 */
#include "works.h"
#include <pyheap.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *work_name(size_t i)
{
	static char names[N_NAMES][16];

	if (!names[i][0])
		snprintf(names[i], sizeof(names[i]), "object-%zu", i);
	return names[i];
}

struct name_state {
	pyheap *heap;
	uint64_t next;
	uint8_t bytes[NAMED_SIZE]; /* what every object has */
};

/* ---- both ------------------------------------------------------------------------------------------------------- */

static int name_put(struct name_state *state, const char *name)
{
	pyheap_ref ref;
	int r = pyheap_put(state->heap, state->bytes, sizeof(state->bytes), &ref);

	if (r < 0)
		return r;
	r = pyheap_name_set(state->heap, name, ref);
	if (r < 0)
		return r;
	return pyheap_decref(state->heap, ref);
}

/* Is the whole object there under its name? */
static int name_verify(struct name_state *state, const char *name)
{
	const void *data;
	pyheap_ref ref;
	int r = pyheap_name_get(state->heap, name, &ref);

	if (r < 0)
		return r;
	data = pyheap_data(state->heap, ref);
	if (!data || pyheap_size(state->heap, ref) != NAMED_SIZE || memcmp(data, state->bytes, NAMED_SIZE))
		return -EBADMSG;
	return pyheap_decref(state->heap, ref);
}

static int names_teardown(void *userdata)
{
	struct name_state *state = userdata;
	int r = 0;

	for (size_t i = 0; state->heap && i < N_NAMES; i++) {
		if (!r && state->next)
			r = name_verify(state, work_name(i));
		pyheap_name_del(state->heap, work_name(i));
	}
	pyheap_close(state->heap);
	free(state);
	return r;
}

static int names_setup(void **ret)
{
	struct name_state *state = calloc(1, sizeof(*state));
	int r;

	if (!state)
		return -ENOMEM;
	for (size_t i = 0; i < sizeof(state->bytes); i++)
		state->bytes[i] = (uint8_t)(i * 7 + 1);
	r = pyheap_open(&state->heap, NULL);
	for (size_t i = 0; r >= 0 && i < N_NAMES; i++)
		r = name_put(state, work_name(i));
	if (r < 0) {
		names_teardown(state);
		return r;
	}
	*ret = state;
	return 0;
}

/* ---- name-put-1k ------------------------------------------------------------------------------------------------ */

static int put_run(void *userdata, uint64_t n)
{
	struct name_state *state = userdata;
	int r = 0;

	for (uint64_t i = 0; r >= 0 && i < n; i++)
		r = name_put(state, work_name(state->next++ % N_NAMES));
	return r;
}

/* ---- name-get-1k ------------------------------------------------------------------------------------------------ */

static int get_run(void *userdata, uint64_t n)
{
	struct name_state *state = userdata;
	const uint8_t *data;
	pyheap_ref ref;
	int r;

	for (uint64_t i = 0; i < n; i++) {
		r = pyheap_name_get(state->heap, work_name(state->next++ % N_NAMES), &ref);
		if (r < 0)
			return r;
		data = pyheap_data(state->heap, ref);
		if (!data)
			return -errno;
		if (*data != state->bytes[0])
			return -EBADMSG;
		r = pyheap_decref(state->heap, ref);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct work works[] = {
	{.key = WORK_NAME_PUT,
		.title = "put 1 KiB by name, over an old one",
		.ours = {.how = "pyheap_put, pyheap_name_set, pyheap_decref",
			.setup = names_setup,
			.run = put_run,
			.teardown = names_teardown}},
	{.key = WORK_NAME_GET,
		.title = "get 1 KiB by name, one of 1000",
		.ours = {.how = "pyheap_name_get, pyheap_data, pyheap_decref",
			.setup = names_setup,
			.run = get_run,
			.teardown = names_teardown}},
};

const struct family family_names = {.works = works, .n_works = sizeof(works) / sizeof(*works)};
