// SPDX-License-Identifier: MIT
/*
 * Figures of the heap and of its sessions
 *
 * Pools and blocks are counted when somebody asks, from the entries of arenas and pools, without the lock: the process
 * that makes or frees an object pays nothing, and nobody waits. Each pool is counted as what it is at the moment it is
 * read, and in one figure only, so the figures add up to the arenas that were seen. A pool is free, or of one class, or
 * part of a span or run. A pool or span of a class is made of headers, blocks allocated, blocks available, and a rest
 * that is too small for a block. A run is an object and the rest of its last page, or, if its owner keeps it for its
 * next object, free pools. A remotely freed block is available.
 *
 * Remotely freed blocks are found by their headers, so the arena must be there: a client keeps it there as a hold
 * without the lock does (count.c).
 *
 * Each pool takes some time, so the counting is done in steps.
 */

#include "heap/repair/stats.h"

#include "heap/change/lock_report.h"
#include "heap/memory/pool.h"
#include "heap/object/count.h"

#include <errno.h>
#include <string.h>

#define POOLS_PER_STEP 1024U /* as many as are read in a millisecond or so, whatever the size of arenas */

static uint32_t min(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* All loads here are relaxed: each figure is that of the moment at which it was read. */
/*
 * Remotely freed blocks that are not collected yet. If the pool takes another class meanwhile this reads some payload,
 * to which others store as they like: the sanitizer must not mind.
 */
static __attribute__((noinline, no_sanitize_thread)) uint32_t count_remote(
	const struct heap *heap, const struct pool_entry *pool, uint32_t n_blocks)
{
	const struct object_header *headers = pool_headers(heap, pool);
	uint32_t n = 0;

	for (uint32_t i = 0; i < n_blocks; i++)
		n += (__atomic_load_n(&headers[i].word, __ATOMIC_RELAXED) >> 7 & 7) == STATE_REMOTE_FREE;
	return n;
}

/* can_read: its headers may be read. */
static void count_blocks(const struct heap *heap, const struct pool_entry *pool, uint32_t size_class, bool can_read,
	struct heap_stats *ret)
{
	const struct class_shape *shape = &class_shapes[size_class];
	struct class_stats *c = &ret->classes[size_class];
	uint32_t n_used = min(__atomic_load_n(&pool->n_used, __ATOMIC_RELAXED), shape->n_blocks);
	uint32_t n_headers = shape->n_blocks * (uint32_t)sizeof(struct object_header);

	if (can_read && __atomic_load_n(&pool->owner1, __ATOMIC_RELAXED) &&
		__atomic_load_n(&pool->is_on_remote_list, __ATOMIC_RELAXED))
		n_used -= min(count_remote(heap, pool, shape->n_blocks), n_used);
	c->n_pools++;
	c->n_used += n_used;
	c->n_available += shape->n_blocks - n_used;
	ret->bytes_allocated_blocks += (uint64_t)n_used * shape->size;
	ret->bytes_available_blocks += (uint64_t)(shape->n_blocks - n_used) * shape->size;
	ret->bytes_pool_headers += n_headers;
	ret->bytes_quantization +=
		(uint64_t)shape->n_pools * POOL_SIZE - n_headers - (uint64_t)shape->n_blocks * shape->size;
}

/* Count an object of whole pools, which take n_bytes: its payload, and what is left of the last page. */
static void count_run(const struct pool_entry *pool, uint64_t n_bytes, uint64_t *bytes, struct heap_stats *ret)
{
	uint64_t size = __atomic_load_n(&pool->run_size, __ATOMIC_RELAXED);

	size = size < n_bytes ? size : n_bytes;
	*bytes += size;
	ret->bytes_quantization += n_bytes - size;
}

/* Count what begins at this pool; n_left pools are left in the arena. Returns how many pools it takes. */
static uint32_t count_pool(const struct heap *heap, const struct pool_entry *pool, uint32_t n_left, bool is_record,
	bool can_read, struct heap_stats *ret)
{
	uint32_t identity = __atomic_load_n(&pool->identity, __ATOMIC_RELAXED);
	uint32_t size_class = identity >> 8 & 0xff, n = 1;

	switch (identity & 0xff) {
	case POOL_BLOCKS:
		n = class_shapes[size_class].n_pools;
		if (!n || n > n_left) { /* it is changing hands */
			ret->bytes_unused_pools += POOL_SIZE;
			return 1;
		}
		if (is_record)
			ret->bytes_records += (uint64_t)n * POOL_SIZE;
		else
			count_blocks(heap, pool, size_class, can_read, ret);
		return n;
	case POOL_RUN:
		n = min(__atomic_load_n(&pool->run_n_pools, __ATOMIC_RELAXED), n_left);
		n = n ? n : 1;
		if (is_record) {
			ret->bytes_records += (uint64_t)n * POOL_SIZE;
		} else if (header_state(__atomic_load_n(&pool->header.word, __ATOMIC_RELAXED)) == STATE_FREE) {
			ret->bytes_unused_pools += (uint64_t)n * POOL_SIZE;
		} else {
			count_run(pool, (uint64_t)n * POOL_SIZE, &ret->bytes_medium_objects, ret);
			ret->n_medium_objects++;
		}
		return n;
	default:
		ret->bytes_unused_pools += POOL_SIZE;
		return 1;
	}
}

/* Count what begins at this arena. Returns how many arenas it takes. */
static uint32_t count_arena(struct session *session, uint32_t a, uint32_t n_left, struct heap_stats *ret)
{
	const struct heap *heap = session->heap;
	const struct arena_entry *arena = &heap->arenas[a];
	uint32_t state = arena_state(arena);
	bool is_record = __atomic_load_n(&arena->space, __ATOMIC_RELAXED) == SPACE_RECORDS;
	uint32_t n = 1;

	if (!arena_is_there(heap, a))
		return 1;
	if (state == ARENA_POOLS) {
		uint32_t before = ACTIVITY_NONE;
		bool can_read = count_begin_lookup(session, a, &before);

		for (uint32_t i = 0; i < heap->pools_per_arena;)
			i += count_pool(heap, &heap->pools[a * heap->pools_per_arena + i], heap->pools_per_arena - i,
				is_record, can_read, ret);
		count_end_lookup(session, before);
	} else if (state == ARENA_RUN || state == ARENA_RETURNABLE) {
		n = min(heap_run_length(heap, a), n_left);
		if (state == ARENA_RETURNABLE)
			ret->bytes_unused_pools += (uint64_t)n * heap->arena_size;
		else if (is_record)
			ret->bytes_records += (uint64_t)n * heap->arena_size;
		else
			count_run(&heap->pools[(uint64_t)a * heap->pools_per_arena], (uint64_t)n * heap->arena_size,
				&ret->bytes_large_objects, ret);
		ret->n_large_objects += state == ARENA_RUN && !is_record;
	} else {
		return 1;
	}
	ret->n_arenas_current += n;
	return n;
}

static void begin(const struct heap *heap, struct heap_stats *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->heap_size = heap->heap_size;
	ret->arena_size = heap->arena_size;
	ret->pool_size = POOL_SIZE;
	for (uint32_t i = 0; i < N_CLASSES; i++) {
		ret->classes[i].size = class_shapes[i].size;
		ret->classes[i].pool_blocks = class_shapes[i].n_blocks;
	}
}

static void end(const struct heap *heap, struct heap_stats *ret)
{
	const struct counters *c = &heap->control->counters;
	const struct global_lock *lock = &heap->control->lock;
	const struct figures *f = &heap->control->figures;

	ret->bytes_total = ret->n_arenas_current * heap->arena_size;
	ret->n_arenas_allocated = __atomic_load_n(&c->n_arenas_allocated, __ATOMIC_RELAXED);
	ret->n_arenas_reclaimed = __atomic_load_n(&c->n_arenas_reclaimed, __ATOMIC_RELAXED);
	ret->n_arenas_highwater = __atomic_load_n(&c->n_arenas_highwater, __ATOMIC_RELAXED);
	ret->n_names = __atomic_load_n(&c->n_names, __ATOMIC_RELAXED);
	ret->n_types = __atomic_load_n(&heap->control->n_types, __ATOMIC_RELAXED);
	ret->n_lock_acquisitions = __atomic_load_n(&lock->n_acquisitions, __ATOMIC_RELAXED);
	ret->n_lock_recoveries = __atomic_load_n(&lock->n_recoveries, __ATOMIC_RELAXED);
	ret->n_lock_waits = __atomic_load_n(&f->n_lock_waits, __ATOMIC_RELAXED);
	ret->lock_wait_ns = __atomic_load_n(&f->lock_wait_ns, __ATOMIC_RELAXED);
	ret->lock_wait_max_ns = __atomic_load_n(&f->lock_wait_max_ns, __ATOMIC_RELAXED);
	ret->n_locks_timed = __atomic_load_n(&f->n_locks_timed, __ATOMIC_RELAXED);
	ret->lock_held_ns = __atomic_load_n(&f->lock_held_ns, __ATOMIC_RELAXED);
	ret->lock_held_max_ns = __atomic_load_n(&f->lock_held_max_ns, __ATOMIC_RELAXED);
	ret->n_pools_claimed = __atomic_load_n(&f->n_pools_claimed, __ATOMIC_RELAXED);
	ret->n_blocks_returned = __atomic_load_n(&f->n_blocks_returned, __ATOMIC_RELAXED);
	ret->max_sessions = heap->n_sessions;
	for (uint32_t i = 0; i < heap->n_sessions; i++) {
		ret->n_sessions += __atomic_load_n(&heap->sessions[i].state, __ATOMIC_RELAXED) != SESSION_FREE;
		ret->n_blocks_returned += __atomic_load_n(&heap->sessions[i].n_blocks_returned, __ATOMIC_RELAXED);
	}
}

bool heap_stats_step(struct session *session, uint32_t *cursor, struct heap_stats *ret)
{
	const struct heap *heap = session->heap;
	uint32_t n_known = min(arenas_known(heap), heap->n_arenas);
	uint32_t n_step = heap->pools_per_arena < POOLS_PER_STEP ? POOLS_PER_STEP / heap->pools_per_arena : 1;

	if (!*cursor)
		begin(heap, ret);
	for (uint32_t i = 0; i < n_step && *cursor < n_known; i++)
		*cursor += count_arena(session, *cursor, n_known - *cursor, ret);
	if (*cursor < n_known)
		return true;
	end(heap, ret);
	return false;
}

/* The name that the process gives itself. */
static void read_program(const struct session_entry *entry, char *ret, size_t size)
{
	for (size_t i = 0; i < size - 1; i++) /* *ret was zeroed, so it ends in a NUL */
		ret[i] = __atomic_load_n(&entry->program[i], __ATOMIC_RELAXED);
}

/* relaxed, all loads: the daemon may give the entry to another session meanwhile */
int heap_client_next(struct session *session, uint64_t *cursor, struct heap_client *ret)
{
	const struct heap *heap = session->heap;
	uint32_t owner1 = lock_owner1(heap);

	for (uint64_t i = *cursor; i < heap->n_sessions; i++) {
		const struct session_entry *entry = &heap->sessions[i];
		uint32_t state = session_state(entry);

		if (state == SESSION_FREE)
			continue;
		*ret = (struct heap_client){
			.session = (uint32_t)i,
			.pid = __atomic_load_n(&entry->pid, __ATOMIC_RELAXED),
			.uid = __atomic_load_n(&entry->uid, __ATOMIC_RELAXED),
			.gid = __atomic_load_n(&entry->gid, __ATOMIC_RELAXED),
			.n_holds = __atomic_load_n(&entry->n_holds, __ATOMIC_RELAXED) +
				   __atomic_load_n(&entry->n_own_holds, __ATOMIC_RELAXED),
			.start_time = __atomic_load_n(&entry->start_time, __ATOMIC_RELAXED),
			.self = i == session->index,
			.has_lock = i + 1 == owner1,
			.dead = state == SESSION_DEAD,
		};
		read_program(entry, ret->program, sizeof(ret->program));
		*cursor = i + 1;
		return 1;
	}
	return 0;
}
