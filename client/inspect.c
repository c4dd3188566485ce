// SPDX-License-Identifier: MIT
/*
 * Reading the heap as a whole: figures, sessions, check and repair
 *
 * heap/ has structs of its own for figures and sessions (heap/repair/stats.h), because it is below the public
 * header. They are copied here, member by member: the public structs are part of the ABI, while heap/ may change its
 * own. A few dozen assignments are nothing beside the walk over all pools.
 */
#include "client/session.h"

#include "heap/repair/check.h"
#include "heap/repair/repair.h"
#include "heap/repair/stats.h"

#include <assert.h>
#include <string.h>

static_assert(N_CLASSES == PYHEAP_CLASSES, "pyheap_stats.classes");
static_assert(CLIENT_PROGRAM_SIZE == sizeof(((pyheap_client_info *)NULL)->program), "pyheap_client_info.program");
/* A member that is added to one of them has to be copied, too. */
static_assert(sizeof(struct heap_stats) == sizeof(pyheap_stats), "stats_copy()");
static_assert(sizeof(struct heap_client) == sizeof(pyheap_client_info), "client_copy()");

static void classes_copy(pyheap_stats *ret, const struct heap_stats *from)
{
	for (unsigned int i = 0; i < N_CLASSES; i++)
		ret->classes[i] = (pyheap_class_stats){
			.size = from->classes[i].size,
			.pool_blocks = from->classes[i].pool_blocks,
			.n_pools = from->classes[i].n_pools,
			.n_used = from->classes[i].n_used,
			.n_available = from->classes[i].n_available,
		};
}

static void stats_copy(pyheap_stats *ret, const struct heap_stats *from)
{
	*ret = (pyheap_stats){
		.heap_size = from->heap_size,
		.arena_size = from->arena_size,
		.pool_size = from->pool_size,
		.n_arenas_allocated = from->n_arenas_allocated,
		.n_arenas_reclaimed = from->n_arenas_reclaimed,
		.n_arenas_highwater = from->n_arenas_highwater,
		.n_arenas_current = from->n_arenas_current,
		.bytes_allocated_blocks = from->bytes_allocated_blocks,
		.bytes_available_blocks = from->bytes_available_blocks,
		.bytes_unused_pools = from->bytes_unused_pools,
		.bytes_pool_headers = from->bytes_pool_headers,
		.bytes_quantization = from->bytes_quantization,
		.bytes_medium_objects = from->bytes_medium_objects,
		.bytes_large_objects = from->bytes_large_objects,
		.bytes_records = from->bytes_records,
		.bytes_total = from->bytes_total,
		.n_medium_objects = from->n_medium_objects,
		.n_large_objects = from->n_large_objects,
		.n_names = from->n_names,
		.n_types = from->n_types,
		.n_sessions = from->n_sessions,
		.max_sessions = from->max_sessions,
		.n_lock_acquisitions = from->n_lock_acquisitions,
		.n_lock_recoveries = from->n_lock_recoveries,
		.n_lock_waits = from->n_lock_waits,
		.lock_wait_ns = from->lock_wait_ns,
		.lock_wait_max_ns = from->lock_wait_max_ns,
		.n_locks_timed = from->n_locks_timed,
		.lock_held_ns = from->lock_held_ns,
		.lock_held_max_ns = from->lock_held_max_ns,
		.n_pools_claimed = from->n_pools_claimed,
		.n_blocks_returned = from->n_blocks_returned,
	};
	classes_copy(ret, from);
}

static void client_copy(pyheap_client_info *ret, const struct heap_client *from)
{
	*ret = (pyheap_client_info){
		.session = from->session,
		.pid = from->pid,
		.uid = from->uid,
		.gid = from->gid,
		.n_holds = from->n_holds,
		.start_time = from->start_time,
		.self = from->self,
		.has_lock = from->has_lock,
		.dead = from->dead,
	};
	memcpy(ret->program, from->program, sizeof(ret->program));
}

PYHEAP_PUBLIC int pyheap_get_stats(pyheap *heap, pyheap_stats *ret)
{
	struct heap_stats stats;
	uint32_t cursor = 0;
	int r = session_enter(heap);

	if (r < 0)
		return r;
	if (!ret)
		return -EINVAL;
	while (heap_stats_step(&heap->session, &cursor, &stats))
		;
	stats_copy(ret, &stats);
	return 0;
}

PYHEAP_PUBLIC int pyheap_client_next(pyheap *heap, uint64_t *cursor, pyheap_client_info *ret)
{
	struct heap_client client;
	int r = session_enter(heap);

	if (r < 0)
		return r;
	if (!cursor || !ret)
		return -EINVAL;
	r = heap_client_next(&heap->session, cursor, &client);
	if (r > 0)
		client_copy(ret, &client);
	return r;
}

PYHEAP_PUBLIC int64_t pyheap_check(pyheap *heap, void (*report)(void *userdata, const char *fault), void *userdata)
{
	int r = session_enter(heap);

	return r < 0 ? r : heap_check(&heap->session, report, userdata);
}

PYHEAP_PUBLIC int64_t pyheap_repair(pyheap *heap, void (*report)(void *userdata, const char *fault), void *userdata)
{
	int r = session_enter(heap);

	return r < 0 ? r : heap_repair(&heap->session, report, userdata);
}
