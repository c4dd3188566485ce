/* SPDX-License-Identifier: MIT */
/*
 * Figures of the heap and of its sessions
 *
 * All bytes of the current arenas are in exactly one of the figures: a pool is free, or of one class, or part of a run;
 * a pool of a class is headers, blocks allocated, blocks available and a rest that no block fits into.
 */

#include "heap/check.h"
#include "heap/pool.h"

#include <errno.h>
#include <string.h>

static void class_figures(const struct heap *heap, uint32_t size_class, pyheap_stats *ret)
{
	const struct class_counters *counters = &heap->control->counters.classes[size_class];
	pyheap_class_stats *c = &ret->classes[size_class];
	uint64_t headers, blocks;

	c->size = class_block_size(size_class);
	c->pool_blocks = class_pool_blocks(size_class);
	c->n_pools = counters->n_pools;
	c->n_used = counters->n_used;
	c->n_available = c->n_pools * c->pool_blocks - c->n_used;
	headers = c->n_pools * c->pool_blocks * sizeof(struct object_header);
	blocks = c->n_pools * c->pool_blocks * c->size;
	ret->bytes_allocated_blocks += c->n_used * c->size;
	ret->bytes_available_blocks += c->n_available * c->size;
	ret->bytes_pool_headers += headers;
	ret->bytes_quantization += c->n_pools * POOL_SIZE - headers - blocks;
}

static void figures(const struct heap *heap, pyheap_stats *ret)
{
	const struct counters *c = &heap->control->counters;

	for (uint32_t i = 0; i < N_CLASSES; i++)
		class_figures(heap, i, ret);
	ret->n_arenas_allocated = c->n_arenas_allocated;
	ret->n_arenas_reclaimed = c->n_arenas_reclaimed;
	ret->n_arenas_highwater = c->n_arenas_highwater;
	ret->n_arenas_current = c->n_arenas_current;
	ret->bytes_unused_pools = c->n_free_pools * POOL_SIZE;
	ret->bytes_medium_objects = c->n_medium_pools * POOL_SIZE;
	ret->bytes_large_objects = c->n_large_arenas * heap->arena_size;
	ret->bytes_records = c->n_record_pools * POOL_SIZE + c->n_record_arenas * heap->arena_size;
	ret->bytes_total = c->n_arenas_current * heap->arena_size;
	ret->n_medium_objects = c->n_medium_objects;
	ret->n_large_objects = c->n_large_objects;
	ret->n_names = c->n_names;
	ret->n_types = heap->control->n_types;
	ret->n_lock_acquisitions = heap->control->lock.n_acquisitions;
	ret->n_lock_recoveries = heap->control->lock.n_recoveries;
}

int heap_stats(struct session *session, bool try, pyheap_stats *ret)
{
	const struct heap *heap = session->heap;
	int r;

	r = try ? change_try_begin(session) : change_begin(session);
	if (r < 0)
		return r;
	memset(ret, 0, sizeof(*ret));
	ret->heap_size = heap->heap_size;
	ret->arena_size = heap->arena_size;
	ret->pool_size = POOL_SIZE;
	figures(heap, ret);
	ret->max_sessions = heap->n_sessions;
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		ret->n_sessions += heap->sessions[i].state != SESSION_FREE;
	return change_end(session, 0);
}

int heap_client_next(struct session *session, uint64_t *cursor, pyheap_client_info *ret)
{
	const struct heap *heap = session->heap;
	uint32_t owner1 = lock_owner1(heap);

	for (uint64_t i = *cursor; i < heap->n_sessions; i++) {
		const struct session_entry *entry = &heap->sessions[i];
		uint32_t state = __atomic_load_n(&entry->state, __ATOMIC_ACQUIRE); /* the entry before its state */

		if (state == SESSION_FREE)
			continue;
		*ret = (pyheap_client_info){
			.session = (uint32_t)i,
			.pid = entry->pid,
			.uid = entry->uid,
			.gid = entry->gid,
			.n_holds = __atomic_load_n(&entry->n_holds, __ATOMIC_RELAXED),
			.start_time = entry->start_time,
			.self = i == session->index,
			.has_lock = i + 1 == owner1,
			.dead = state == SESSION_DEAD,
		};
		memcpy(ret->program, entry->program, sizeof(ret->program) - 1); /* *ret was zeroed: NUL-terminated */
		*cursor = i + 1;
		return 1;
	}
	return 0;
}
