/* SPDX-License-Identifier: MIT */
#pragma once

/* The state of one walk over the whole heap, and the faults that it finds. See check_report.c. */

#include "heap/object/object.h"

typedef void (*check_report)(void *userdata, const char *fault);

#define FAULTS_MAX 1000U /* reported one by one; of more only the number is */

/* Process-local: the faults that one check found. */
struct faults {
	char *lines[FAULTS_MAX];
	uint32_t n_lines;
	uint64_t n_unreported;
};

/*
 * A right that may be in one place or another at this moment, and the queue that may be changing. See
 * check_note_in_flight().
 */
struct in_flight {
	uint64_t ref, queue;
};

/* Process-local: one walk. */
struct check {
	struct heap *heap;
	struct faults *faults; /* NULL: they are counted only */
	int64_t n_faults;
	struct session *mender; /* not NULL: wrong rights are mended, in changes of this session */
	bool out_of_memory;

	uint8_t *pool_marks;   /* a byte per pool: MARK_* */
	uint32_t **rights;     /* per pool: their number, then for each of its objects how many rights the walk found;
				  NULL: none yet */
	uint32_t nowhere;      /* counts what cannot be in its pool */
	struct counters found; /* what the counters should be */
	uint32_t n_free_arenas[N_SPACES];
	struct in_flight *in_flight; /* one per session at most */
	uint32_t n_in_flight;
	uint64_t *n_own_holds; /* per session: objects in its own pools that it holds by their headers */
};

/* Lists on which the walk found a pool. */
#define MARK_USED_LIST   1U /* usedpools, of its owner or of pools that nobody owns */
#define MARK_OWNED_LIST  2U /* owned_pools of its owner */
#define MARK_REMOTE_LIST 4U /* remote_pools of its owner */
#define MARK_SPARE       8U /* spare_runs of its owner */

__attribute__((format(printf, 2, 3))) void check_fault(struct check *check, const char *format, ...);

/* Report and free the faults. The lock is released: the callback may block, or use the heap. */
void check_report_faults(struct faults *faults, check_report report, void *userdata);

/* Call `visit` for every object that is not free, in no particular order. */
typedef void (*check_visit)(struct check *check, const struct object *object);
void check_each_object(struct check *check, check_visit visit);

static inline uint32_t check_n_arenas(const struct heap *heap)
{
	uint32_t n = arenas_known(heap);

	return n < heap->n_arenas ? n : heap->n_arenas;
}

static inline struct arena_entry *check_arena_at1(struct heap *heap, uint32_t index1)
{
	return index1 && index1 <= check_n_arenas(heap) ? &heap->arenas[index1 - 1] : NULL;
}
