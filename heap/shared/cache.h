/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a session used lately, in its own process's memory
 *
 * Where the objects lie that the session made or looked at last, what it found by name, and the pool of each class that
 * it makes objects in: so the most frequent calls find by one comparison what else is computed and checked anew each
 * time. What is changed
 * on the strength of it is still looked at first, in shared memory; only `data` is trusted as it is, for an object is
 * forgotten here together with the session's last hold of it.
 *
 * The client keeps this in memory that the kernel empties in every forked child (MADV_WIPEONFORK): a child that uses
 * its parent's session finds nothing here, goes the long way and is told off there. No call asks for it on the short
 * one.
 */

#include "heap/shared/layout.h"

#include <assert.h>
#include <string.h>

#define CACHE_OBJECTS_SHIFT 8U
#define CACHE_OBJECTS       (1U << CACHE_OBJECTS_SHIFT)
#define CACHE_NAMES         64U
#define CACHE_FACTOR        UINT32_C(0xea956e0d) /* odd; see cache_object() */

/* An object that the session holds. Programs read it, too: the inline calls of pyheap.h. */
struct cached_object {
	uint64_t ref;                 /* 0: none yet; one of another place: forgotten */
	struct object_header *header; /* of one in a pool of the session's own; else NULL */
	uint64_t word;                /* with a header: what its word is where the session holds it once */
	struct pool_entry *pool;      /* NULL: it is none of those that own_drop() knows: bytes in a block of its own */
	uint8_t *data;                /* NULL: none yet, or nothing to be handed out (a queue's) */
	union {
		uint64_t block1;     /* with a pool: its number in it, from 1 */
		struct queue *queue; /* without one: NULL, or the queue that it was used as */
	};
	uint64_t n_cells;                  /* with a queue */
	struct object_header *held_header; /* without `header`: held by the table, and here; NULL: not known */
};

/*
 * A pool with room of each class, the first of usedpools when the session made an object of the class the long way. It
 * is its own and of that class as long as `identity` is the same, and as long as a block is free in it, it is on
 * usedpools.
 */
struct cached_pool {
	struct pool_entry *pool;       /* NULL: none */
	struct object_header *header0; /* where a block of the number 0 would have its header: they count from 1 */
	uint64_t position0;            /* where it would have its payload */
	uint64_t stride;               /* from one payload to the next */
	uint64_t n_blocks;
	uint32_t identity;
	uint32_t reserved0;
	uint64_t reserved1[2];
};

/*
 * A name that the session asked for, and what it names. All of it is looked at again, with the lock held, where it
 * lies: but each thing without waiting for another one, as when the chain of a bucket is followed.
 */
struct cached_name {
	uint64_t hash;
	const struct name_entry *entry;           /* that has this name, while its header is still the same */
	const struct object_header *entry_header; /* in a pool of the heap's own records */
	uint64_t entry_word;                      /* what that header says */
	uint64_t ref;                             /* 0: none; what it names, while the entry says the same */
	struct object_header *header;
	struct pool_entry *pool;
	uint32_t entry_pool; /* its index, and the identity that it has */
	uint32_t entry_identity;
};

struct cache {
	struct cached_object objects[CACHE_OBJECTS];
	struct cached_name names[CACHE_NAMES];
	struct cached_pool pools[N_CLASSES];
	uint64_t is_mine; /* 0 in a forked child, and in a session that keeps nothing */
	uint64_t n_pools; /* those that own_drop_block() drops in come before; 0 as above, and in a fenced session */
};

static_assert(sizeof(struct cached_object) == 64, "found by a shift");
static_assert(sizeof(struct cached_pool) == 64, "the same");
static_assert(sizeof(struct cached_name) == 64, "the same");

/*
 * Where ref would stand, by its position: an object that is made where another was takes its place. Of many factors
 * this is the one by which neighbours in memory, whatever their size, and pages most often stand in places of their
 * own; two positions of which only bit 0 differs always do.
 */
static inline struct cached_object *cache_object(struct cache *cache, uint64_t ref)
{
	return &cache->objects[(uint32_t)ref * CACHE_FACTOR >> (32 - CACHE_OBJECTS_SHIFT)];
}

/* Where a name of that hash would stand. */
static inline struct cached_name *cache_name(struct cache *cache, uint64_t hash)
{
	return &cache->names[hash & (CACHE_NAMES - 1)];
}

/* It holds ref no more. */
static inline void cache_forget(struct cache *cache, uint64_t ref)
{
	struct cached_object *object = cache_object(cache, ref);

	if (object->ref == ref)
		object->ref ^= 1; /* that of another place: no number finds it here, nor does 0 */
}

/* Nothing of what it used is certain any more: the heap was mended. */
static inline void cache_forget_all(struct cache *cache)
{
	if (cache->is_mine) {
		memset(cache->objects, 0, sizeof(cache->objects));
		memset(cache->names, 0, sizeof(cache->names));
		memset(cache->pools, 0, sizeof(cache->pools));
	}
}

/* The next object of the class is to be made in another pool. */
static inline void cache_forget_pool(struct cache *cache, uint32_t size_class)
{
	if (cache->is_mine)
		cache->pools[size_class].pool = NULL;
}
