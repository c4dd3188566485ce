/* SPDX-License-Identifier: MIT */
#pragma once

/* pyheap as a contender: the families of its works, and what they have in common. See ours.c. */

#include "works.h"
#include <pyheap.h>

extern const struct family family_objects; /* objects.c: making, holding, dropping one */
extern const struct family family_bulk;    /* bulk.c: a million of them */
extern const struct family family_crowd;   /* crowd.c: among many objects, among many sessions */
extern const struct family family_queues;  /* queues.c: handing over */
extern const struct family family_names;   /* names.c: finding */
extern const struct family family_readers; /* readers.c: places that several processes read */
extern const struct family family_memory;  /* memory.c: bringing memory, giving it back */
extern const struct family family_killed;  /* killed.c: a death, and who notices */

/* A session, with one object of `size` bytes (0: none) held until it is closed. */
int ours_open(pyheap **ret, size_t size);

/* Make an object of PAIR_SIZE and drop it, n times. `state` is the session. */
int ours_pairs(void *state, uint64_t n);

/*
 * Bytes of shared memory that the heap takes of the machine now: its arenas; and with its control file, which grows to
 * its full size as the heap does and stays so. Negative errno.
 */
int64_t ours_arena_bytes(void);
int64_t ours_shared_bytes(void);

/* Wait until the arenas take at most `limit`, for `timeout_ms` at most; *ret_ns is how long it took. -ETIMEDOUT. */
int ours_wait_arenas(int64_t limit, int timeout_ms, uint64_t *ret_ns);

/* Polling push and pop, with an end. */
int ours_push(pyheap *heap, pyheap_ref queue, pyheap_ref ref);
int ours_pop(pyheap *heap, pyheap_ref queue, pyheap_ref *ret);
