// SPDX-License-Identifier: MIT
/*
 * Works on very many objects
 *
 * bulk-48: make objects of 48 bytes, then drop them in the order in which they were made. Figures: making one, dropping
 * one, and the bytes of shared memory that one took, with all of the heap's own that came with it.
 *
 * bulk-mixed: the same with random sizes and a random order of dropping. Figures: making and dropping one; making one.
 *
 * A round is all of them. It was done once before, so that the memory is there.
 */
#include "ours.h"

#include <errno.h>
#include <stdlib.h>

struct bulk_state {
	pyheap *heap;
	size_t n;
	pyheap_ref *refs;
	uint32_t *sizes; /* NULL: all are PAIR_SIZE */
	uint32_t *order; /* of dropping; NULL: that of making */
	int64_t begin_bytes;
	int64_t peak_bytes;
};

static int bulk_teardown(void *state)
{
	struct bulk_state *bulk = state;

	pyheap_close(bulk->heap);
	free(bulk->refs);
	free(bulk->sizes);
	free(bulk->order);
	free(bulk);
	return 0;
}

static int bulk_make(struct bulk_state *bulk)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < bulk->n; i++)
		r = pyheap_new(bulk->heap, PYHEAP_BYTES, bulk->sizes ? bulk->sizes[i] : PAIR_SIZE, &bulk->refs[i]);
	return r;
}

/* What the loops need stands in variables, as it does in the other contenders': it is not what is measured. */
static int bulk_drop(const struct bulk_state *bulk)
{
	pyheap *heap = bulk->heap;
	const pyheap_ref *refs = bulk->refs;
	const uint32_t *order = bulk->order;
	size_t n = bulk->n;
	int r = 0;

	if (order) {
		for (size_t i = 0; r >= 0 && i < n; i++)
			r = pyheap_decref(heap, refs[order[i]]);
	} else {
		for (size_t i = 0; r >= 0 && i < n; i++)
			r = pyheap_decref(heap, refs[i]);
	}
	return r;
}

/* What making and dropping one took, nanoseconds. */
static int bulk_round(struct bulk_state *bulk, double *ret_new, double *ret_drop)
{
	uint64_t begin = clock_now(), made;
	int r = bulk_make(bulk);

	made = clock_now();
	if (r < 0)
		return r;
	*ret_new = (double)(made - begin) / (double)bulk->n;
	bulk->peak_bytes = ours_shared_bytes();
	begin = clock_now();
	r = bulk_drop(bulk);
	*ret_drop = (double)(clock_now() - begin) / (double)bulk->n;
	return r;
}

static int bulk_setup(struct bulk_state **ret, uint64_t argument)
{
	struct bulk_state *bulk = calloc(1, sizeof(*bulk));

	if (!bulk)
		return -ENOMEM;
	bulk->n = argument;
	bulk->refs = calloc(bulk->n, sizeof(*bulk->refs));
	if (!bulk->refs) {
		bulk_teardown(bulk);
		return -ENOMEM;
	}
	*ret = bulk;
	return 0;
}

/* Open the session and do it once. */
static int bulk_warm(struct bulk_state *bulk)
{
	double figures[2];
	int r = ours_open(&bulk->heap, 0);

	bulk->begin_bytes = ours_shared_bytes();
	return r < 0 ? r : bulk_round(bulk, &figures[0], &figures[1]);
}

static int bulk_48_setup(void **ret, uint64_t argument)
{
	struct bulk_state *bulk;
	int r = bulk_setup(&bulk, argument);

	if (r < 0)
		return r;
	r = bulk_warm(bulk);
	if (r < 0) {
		bulk_teardown(bulk);
		return r;
	}
	*ret = bulk;
	return 0;
}

static int bulk_48_measure(void *state, uint64_t n, double ret[FIGURES_MAX])
{
	struct bulk_state *bulk = state;
	int r = bulk_round(bulk, &ret[0], &ret[1]);

	(void)n;
	if (r < 0 || bulk->begin_bytes < 0 || bulk->peak_bytes < 0)
		return r < 0 ? r : -ENOENT;
	ret[2] = (double)(bulk->peak_bytes - bulk->begin_bytes) / (double)bulk->n;
	return 3;
}

static int bulk_mixed_setup(void **ret, uint64_t argument)
{
	struct bulk_state *bulk;
	int r = bulk_setup(&bulk, argument);

	if (r < 0)
		return r;
	bulk->sizes = work_sizes(bulk->n);
	bulk->order = work_order(bulk->n);
	r = bulk->sizes && bulk->order ? bulk_warm(bulk) : -ENOMEM;
	if (r < 0) {
		bulk_teardown(bulk);
		return r;
	}
	*ret = bulk;
	return 0;
}

static int bulk_mixed_measure(void *state, uint64_t n, double ret[FIGURES_MAX])
{
	double drop;
	int r = bulk_round(state, &ret[1], &drop);

	(void)n;
	ret[0] = ret[1] + drop;
	return r < 0 ? r : 2;
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct work works[] = {
	{.key = WORK_BULK_48, .setup = bulk_48_setup, .measure = bulk_48_measure, .teardown = bulk_teardown},
	{.key = WORK_BULK_MIXED, .setup = bulk_mixed_setup, .measure = bulk_mixed_measure, .teardown = bulk_teardown},
};

const struct family family_bulk = {.works = works, .n_works = sizeof(works) / sizeof(*works)};
