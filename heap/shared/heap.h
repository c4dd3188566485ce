/* SPDX-License-Identifier: MIT */
#pragma once

/* A heap as this process has it attached: made or adopted by the daemon, attached from descriptors by a client. */

#include "heap/shared/accessors.h"
#include "heap/shared/geometry.h"

#include <sys/types.h>

/*
 * What a function returns, beside negative errnos, when it needs memory that only the daemon can map: nothing was
 * changed, session->n_wanted_arenas says how long a run of arenas it wants; after arena_accept() it can be called
 * again.
 */
#define HEAP_WANTS_ARENAS 1

/* Daemon, of a session: which of the pools that it keeps own_trim() looks at next; all 0: the first. See own.c. */
struct trimming {
	uint32_t size_class; /* classes before it were looked at */
	uint32_t pool1;      /* of that class, plus one; 0: the first on its list */
	uint32_t n_examined; /* pools looked at in this round */
};

/* Process-local. The geometry is copied from the segment when it was validated: what a stray write does to the
 * segment's later cannot lead this process outside its mappings. */
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
	uint32_t name_shift;    /* a name's bucket is its hash shifted right by this */
	uint32_t n_pools_known; /* pools whose entries are there, as last looked at: a session's own are among
				  them, and only grows */
	uint32_t first_hole;    /* daemon: arenas before it are no HOLE */
	int control_fd;         /* owned by the daemon; -1 in a client, which needs the mappings only */
	int heap_fd;            /* the same */
	uint8_t *class_hints;   /* of each pool the class of what a session here last made in it or was handed from it,
				   plus one: it says where a header may lie while the pool's entry is fetched, and no more
				 */
	uint32_t abandoned_tid; /* not 0: the thread of this process that the lock was left to; see lock.c */
	uint64_t abandoned_number; /* with it: n_acquisitions since it took it */
	uint32_t n_header_locks;   /* whoever has the lock: entries of the log that are claims */
	bool is_fenced;            /* this process is not registered with membarrier(2): see gate.c */
	uint64_t active[SESSIONS_MAX /
			64]; /* whoever has the lock: a bit for each that critical_block_all() found inside */

	struct trimming *trimming; /* daemon: of each session; NULL: of none yet */

	struct session_entry *sessions;
	struct type_entry *types;
	uint32_t *type_slots;
	uint64_t *name_buckets;
	struct arena_entry *arenas;
	uint64_t *freepools;
	struct pool_entry *pools;
};

/* The inode of this process's pid namespace; 0: it cannot be told. */
uint64_t pid_namespace(void);

/*
 * Daemon: make a new heap in two shared memory files, whatever they held. Allocates the memory of the fixed part of
 * control first, so that no later store there can fail; -ENOMEM where there is no room. Maps the control segment and an
 * empty window (PROT_NONE), which arena_map_step() fills. The magic is written last. Takes the descriptors over where
 * it succeeds. The caller owns *ret.
 */
int heap_create(struct heap **ret, int control_fd, int heap_fd, const char *name, const struct heap_geometry *geometry);

/*
 * Daemon: attach the heap that a daemon before it left, mapping what is there. Errors as heap_attach(). Recovers
 * nothing: arena_adopt_all() and recover.h do.
 */
int heap_adopt(struct heap **ret, int control_fd, int heap_fd);

/*
 * Client: attach a heap from the descriptors that the daemon sent; maps the whole window, reserving nothing.
 * -ENODATA the file is empty or its making was never finished (magic 0), -EMEDIUMTYPE its magic is not a heap's,
 * -EPROTONOSUPPORT another version or layout, -EUCLEAN sizes contradict each other or the files, -ENOMEM, or what fstat
 * and mmap say. Takes the descriptors over where it succeeds, and closes them.
 */
int heap_attach(struct heap **ret, int control_fd, int heap_fd);

/* Memory behind size bytes of a file from offset on. -ENOMEM. */
int heap_allocate(int fd, uint64_t offset, uint64_t size);

/* Unmap and close; takes and returns NULL. Shared state is left alone. */
struct heap *heap_free(struct heap *heap);

/* Take note of what arenas there are by now. */
void heap_refresh_arenas(struct heap *heap);

/* What the daemon stores without the lock. Acquire, all three: with its release. */
static inline uint32_t arenas_known(const struct heap *heap)
{
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

/* Whether arena i has memory behind it, so that reading it is safe. */
static inline bool arena_is_there(const struct heap *heap, uint32_t i)
{
	uint32_t state;

	if (i >= heap->n_arenas || i >= arenas_known(heap))
		return false;
	state = arena_state(&heap->arenas[i]);
	return state != ARENA_HOLE && state != ARENA_MAPPING;
}
