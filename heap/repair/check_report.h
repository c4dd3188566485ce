/* SPDX-License-Identifier: MIT */
#pragma once

/* One walk over the whole heap, with the lock held. */

#include "heap/object/object.h"

typedef void (*check_report)(void *userdata, const char *fault);

#define FAULTS_MAX 1000U /* that are told one by one */

/* Process-local: what the walks of one check found. It is told after the lock was given back, since telling may block.
 */
struct faults {
	char *lines[FAULTS_MAX];
	uint32_t n_lines;
	uint64_t n_unnotified;
};

/* An object of which one right may be here or there, and a queue that may be changing. */
struct doubt {
	uint64_t ref, queue;
};

/* Process-local, made anew for each walk. */
struct check {
	struct heap *heap;
	struct faults *faults; /* NULL: nobody is told */
	int64_t n_faults;
	struct session *mender; /* not NULL: what is wrong with rights is mended, in changes of this session */
	bool out_of_memory;

	uint8_t *pool_marks;   /* a byte per pool: MARK_* */
	uint32_t **rights;     /* per pool: how many rights each of its objects was found to have; NULL: none */
	struct counters found; /* what the counters ought to be */
	uint32_t n_free_arenas[N_SPACES];
	struct doubt *in_flight; /* at most one per session */
	uint32_t n_in_flight;
	uint64_t *n_own_holds; /* per session: objects found that it holds by their headers */
};

/* Where a pool was found. */
#define MARK_USED_LIST   1U /* on usedpools, its owner's or that of pools nobody owns */
#define MARK_OWNED_LIST  2U /* on its owner's owned_pools */
#define MARK_REMOTE_LIST 4U /* on its owner's remote_pools */
#define MARK_SPARE       8U /* a run that its owner keeps */

__attribute__((format(printf, 2, 3))) void check_fault(struct check *check, const char *format, ...);

/* With the lock given back: the callback may block, or use the heap. */
void check_tell(struct faults *faults, check_report report, void *userdata);

/* Every object of the heap that is not free, in no order that matters. */
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
