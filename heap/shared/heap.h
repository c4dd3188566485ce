/* SPDX-License-Identifier: MIT */
#pragma once

/* A heap as this process has it mapped: created or adopted by the daemon, attached by a client. See heap.c. */

#include "heap/shared/accessors.h"
#include "heap/shared/geometry.h"
#include "heap/shared/truth.h"

#include <sys/types.h>

/*
 * What a function answers, beside negative errnos, when it needs memory that only the daemon can map. Nothing has
 * changed; session->n_wanted_arenas is the length of the run of arenas that it wants. It can be called again after
 * supply_accept().
 */
#define HEAP_WANTS_ARENAS 1

/* Daemon: how far own_trim() has come in a round through a session's pools; all 0: at the start. See own_trim.c. */
struct trimming {
	uint32_t size_class; /* classes below it are done */
	uint32_t pool1;      /* the next pool of that class, plus one; 0: the first on its list */
	uint32_t n_examined; /* pools examined in this round */
};

/*
 * Process-local. The geometry is a copy, taken when the segment was validated: a later stray write to the segment
 * cannot lead this process outside its mappings.
 */
struct heap {
	struct control *control;
	uint8_t *base; /* the window: the heap segment from 0 to heap_size */
	uint64_t control_size;
	uint64_t heap_size;
	uint32_t arena_size;
	uint32_t arena_shift; /* log2 of arena_size */
	uint32_t n_arenas;
	uint32_t pools_per_arena;
	uint32_t pool_words; /* 64-bit words of an arena's freepools */
	uint32_t n_sessions;
	uint32_t n_name_buckets;
	uint32_t name_shift;    /* the bucket of a name is its hash shifted right by this */
	uint32_t n_pools_known; /* pools that had entries when last asked; only grows. A session's own are among them */
	uint32_t first_hole;    /* daemon: no arena before it is a HOLE */
	uint32_t first_free;    /* daemon: no session before it is FREE */
	bool is_mapped_whole;   /* daemon: its window is one mapping: heap_map_arenas() */
	bool was_cut;           /* daemon: its files had other sizes when it was adopted */
	int control_fd;         /* of the daemon, which owns it; -1 in a client, which needs the mappings only */
	int heap_fd;            /* as control_fd */
	uint8_t *class_hints;   /* per pool: the class, plus one, of the last object that a session of this process
				   made in it or got from it. Says where a header may lie before the pool's entry is
				   read, and nothing more */
	uint32_t n_header_locks; /* owner of the lock: how many entries of the log are header locks */
	bool is_log_full;        /* owner of the lock: the log was full, so the change must be rolled back */
	uint64_t process; /* what session->process begins as: a program that never forks may say 1; 0: not known */
	bool is_fenced;   /* this process is not registered with membarrier(2): see critical.c */
	uint64_t active[SESSIONS_MAX / 64]; /* owner of the lock: bit i: critical_block_all() found session i active */

	struct trimming *trimming; /* daemon: per session; NULL: of no session yet */
	struct truth *truth;       /* daemon: what it decides on; NULL in a client */
	uint64_t full_number;      /* daemon: as it has stored it in control; see heap/change/full.c */
	uint32_t full_length;      /* daemon: as that */
	uint32_t n_arenas_here;    /* daemon: how many arenas it has mapped */
	uint8_t *is_mapped;        /* daemon: per arena: has this process mapped it? NULL in a client */

	struct session_entry *sessions;
	struct type_entry *types;
	uint32_t *type_slots;
	uint64_t *name_buckets;
	struct arena_entry *arenas;
	uint64_t *freepools;
	struct pool_entry *pools;
};

/* The inode of this process's pid namespace; 0: it is not to be found out. */
uint64_t pid_namespace(void);

/*
 * Daemon: make a new heap in two shared memory files, whatever they held. The fixed part of control gets its memory
 * first, so that no later store there can fail; -ENOMEM: there is no room. Maps the control segment and an empty window
 * (private memory that only reads as 0), which supply_map_step() fills. The magic is written last. The daemon's truth
 * is in truth_fd, or (-1) in memory that ends with this process. On success the heap owns the descriptors. The caller
 * owns *ret.
 */
int heap_create_kept(struct heap **ret, int control_fd, int heap_fd, int truth_fd, const char *name,
	const struct heap_geometry *geometry);
static inline int heap_create(
	struct heap **ret, int control_fd, int heap_fd, const char *name, const struct heap_geometry *geometry)
{
	return heap_create_kept(ret, control_fd, heap_fd, -1, name, geometry);
}

/*
 * Daemon: go on with a heap that another daemon has left, by the truth in truth_fd alone, and map the arenas that are
 * there. What the control segment says of itself, of arenas and of sessions is written anew from the truth. Errors of
 * truth_open(). A segment that is not of its size gets it again, and what was cut off is lost; -ENOMEM there is no room
 * for it.
 */
int heap_adopt_kept(struct heap **ret, int control_fd, int heap_fd, int truth_fd);

/*
 * Daemon: go on with a heap that has no truth, made by a daemon of before there was one: the truth is made of what the
 * control segment says, in truth_fd or (-1) in memory that ends with this process. Errors as heap_attach(). Recovers
 * nothing: supply_adopt_all() and recover.h do.
 */
int heap_adopt_older(struct heap **ret, int control_fd, int heap_fd, int truth_fd);
static inline int heap_adopt(struct heap **ret, int control_fd, int heap_fd)
{
	return heap_adopt_older(ret, control_fd, heap_fd, -1);
}

/*
 * Client: attach a heap by the descriptors that the daemon has sent; maps the whole window and reserves nothing.
 * -ENODATA the file is empty or its making was never finished (magic 0), -EMEDIUMTYPE the magic is not a heap's,
 * -EPROTONOSUPPORT another version or layout, -EUCLEAN sizes contradict each other or the files, -ENOMEM, or an errno
 * of fstat() or mmap(). On success the descriptors are closed.
 */
int heap_attach(struct heap **ret, int control_fd, int heap_fd);

/* Daemon: map n arenas from the first one on, which have memory, in its window. -ENOMEM. */
int heap_map_arenas(struct heap *heap, uint32_t first, uint32_t n);

/* Daemon: the memory of these arenas goes back to the system; they are unmapped where they can be. Negative errno. */
int heap_return_arenas(struct heap *heap, uint32_t first, uint32_t n);

/* Unmap and close, and leave shared state alone. heap may be NULL; returns NULL. */
struct heap *heap_free(struct heap *heap);

/* Notice which arenas have pool entries by now: n_pools_known. */
void heap_refresh_arenas(struct heap *heap);

/*
 * What the daemon stores without the lock, by a release; so all of them acquire. The daemon goes by its truth, and a
 * client by what the daemon has stored.
 */
static inline uint32_t arenas_known(const struct heap *heap)
{
	if (heap->truth)
		return __atomic_load_n(&heap->truth->head->n_arenas_known, __ATOMIC_ACQUIRE);
	return __atomic_load_n(&heap->control->n_arenas_known, __ATOMIC_ACQUIRE);
}
static inline uint32_t arena_state(const struct arena_entry *arena)
{
	return __atomic_load_n(&arena->state, __ATOMIC_ACQUIRE);
}
static inline uint32_t session_state(const struct session_entry *entry)
{
	return __atomic_load_n(&entry->state, __ATOMIC_ACQUIRE);
}
static inline uint32_t session_state_at(const struct heap *heap, uint32_t index)
{
	return heap->truth ? heap->truth->sessions[index].state : session_state(&heap->sessions[index]);
}

/*
 * The length of the run of arenas that begins at `head`, an arena that is known. At least 1, and within the heap. Of a
 * run that it maps or unmaps the daemon goes by its truth.
 */
static inline uint32_t heap_run_length(const struct heap *heap, uint32_t head)
{
	uint32_t n = 0, n_max = heap->n_arenas - head;

	if (heap->truth)
		n = truth_run_length(heap->truth, head);
	if (!n)
		n = __atomic_load_n(&heap->arenas[head].n_arenas, __ATOMIC_ACQUIRE);
	return n < 1 ? 1 : n < n_max ? n : n_max;
}

/* The time by which the age of what is free is counted, in milliseconds modulo 2^32. relaxed: of one moment */
static inline uint32_t heap_clock(const struct heap *heap)
{
	return __atomic_load_n(&heap->control->clock_ms, __ATOMIC_RELAXED);
}

/* What the daemon asks of the heap. Relaxed, but for the first: each is of one moment. */
static inline bool heap_is_ended(const struct heap *heap)
{
	if (heap->truth)
		return heap->truth->head->ended != 0;
	return __atomic_load_n(&heap->control->ended, __ATOMIC_ACQUIRE) != 0;
}
static inline uint64_t heap_n_arenas_current(const struct heap *heap)
{
	return __atomic_load_n(&heap->control->counters.n_arenas_current, __ATOMIC_RELAXED);
}
/* How often the heap was repaired. */
static inline uint32_t heap_n_repairs(const struct heap *heap)
{
	return __atomic_load_n(&heap->control->n_repairs, __ATOMIC_RELAXED);
}
/* How often the global lock was taken: while the lock is taken and this stays, one owner has it. */
static inline uint64_t heap_n_acquisitions(const struct heap *heap)
{
	return __atomic_load_n(&heap->control->lock.n_acquisitions, __ATOMIC_RELAXED);
}

/* Has arena i memory behind it, so that reading it is safe? The daemon knows what it has mapped. */
static inline bool arena_is_there(const struct heap *heap, uint32_t i)
{
	uint32_t state;

	if (heap->is_mapped)
		return i < heap->n_arenas && __atomic_load_n(&heap->is_mapped[i], __ATOMIC_ACQUIRE);
	if (i >= heap->n_arenas || i >= arenas_known(heap))
		return false;
	state = arena_state(&heap->arenas[i]);
	return state != ARENA_HOLE && state != ARENA_MAPPING;
}
