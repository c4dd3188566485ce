/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The cache of recently used objects
 *
 * Each session has one, in the memory of its own process: objects that it made or used last, names that it got last,
 * and for each class the pool that it makes objects in. So the most frequent calls find by one comparison what other
 * calls compute and check anew.
 *
 * The cache is a hint. Whatever is changed on the strength of it is checked first, in shared memory. Only `data` is
 * used unchecked, since an object leaves the cache together with the session's last hold of it.
 *
 * A client keeps its cache in memory that the kernel empties in every forked child (MADV_WIPEONFORK). A child that uses
 * its parent's session finds nothing here and goes the long way, which refuses it; so the short way need not ask.
 */

#include "heap/shared/layout.h"

#include <assert.h>
#include <string.h>

#define CACHE_OBJECTS_SHIFT 8U
#define CACHE_OBJECTS       (1U << CACHE_OBJECTS_SHIFT)
#define CACHE_NAMES         64U
#define CACHE_FACTOR        UINT32_C(0xea956e0d) /* odd; see cache_object() */

/* An object that the session holds. Programs read it by the inline calls of pyheap.h. */
struct cached_object {
	uint64_t ref;                 /* 0: none yet; a ref that belongs to another line: forgotten */
	struct object_header *header; /* of an object in a pool of the session's own; else NULL */
	uint64_t word;                /* with a header: its word while the session holds the object once */
	struct pool_entry *pool;      /* of bytes in a block of the session's own, which own_drop() knows; else NULL */
	uint8_t *data;                /* NULL: not known yet, or not to be handed out (of a queue) */
	union {
		uint64_t block1;     /* with a pool: the block's number in it, from 1 */
		struct queue *queue; /* without a pool: NULL, or the queue that the object was used as */
	};
	uint64_t n_cells;                  /* with a queue */
	struct object_header *held_header; /* without `header`: of an object held by the table; NULL: not known */
};

/*
 * Per class the pool that was first on usedpools when the session last made an object of the class the long way. While
 * the pool's entry has this `identity` the pool is the session's own and of the class; while a block is free in it, the
 * pool is on usedpools.
 */
struct cached_pool {
	struct pool_entry *pool;       /* NULL: none */
	struct object_header *header0; /* header of a block of number 0, since blocks count from 1 */
	uint64_t position0;            /* position of that block's payload */
	uint64_t stride;               /* from one payload to the next */
	uint64_t n_blocks;
	uint32_t identity;
	uint32_t reserved0;
	uint64_t reserved1[2];
};

/*
 * The entry of a name that the session got. All of it is checked in shared memory; these addresses are known at once,
 * so that the checks need not wait for each other as steps along a bucket do.
 */
struct cached_name {
	uint64_t hash;
	const struct name_entry *entry;           /* has this name while its header has entry_word; NULL: none */
	const struct object_header *entry_header; /* in a pool of records */
	uint64_t entry_word;
	uint64_t entry_position;
	uint32_t entry_identity; /* of the entry's pool */
	uint32_t reserved0;
	uint64_t reserved1[2];
};

struct cache {
	struct cached_object objects[CACHE_OBJECTS];
	struct cached_name names[CACHE_NAMES];
	struct cached_pool pools[N_CLASSES];
	uint64_t is_mine; /* 0 in a forked child, and in a session without a cache */
	uint64_t n_pools; /* own_drop_block() drops in pools below this index; 0 as is_mine, and in a fenced session */
};

static_assert(sizeof(struct cached_object) == 64, "found by a shift");
static_assert(sizeof(struct cached_pool) == 64, "found by a shift");
static_assert(sizeof(struct cached_name) == 64, "found by a shift");

/*
 * The line of a ref: the top 8 bits of its position times CACHE_FACTOR. So an object that is made in another's block
 * takes its line. Of many factors this one most often gives neighbours in memory, whatever their size, and pages
 * different lines; two positions of which only bit 0 differs always have different lines.
 */
static inline struct cached_object *cache_object(struct cache *cache, uint64_t ref)
{
	return &cache->objects[(uint32_t)ref * CACHE_FACTOR >> (32 - CACHE_OBJECTS_SHIFT)];
}

/* The line of a name with that hash. */
static inline struct cached_name *cache_name(struct cache *cache, uint64_t hash)
{
	return &cache->names[hash & (CACHE_NAMES - 1)];
}

/* The session has dropped its last hold of ref. */
static inline void cache_forget(struct cache *cache, uint64_t ref)
{
	struct cached_object *object = cache_object(cache, ref);

	if (object->ref == ref)
		object->ref ^= 1; /* a ref of another line: no lookup finds it here, that of 0 included */
}

/* The heap was repaired, so nothing here is certain. */
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
