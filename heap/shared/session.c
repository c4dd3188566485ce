/* SPDX-License-Identifier: MIT */
/* The view on whose behalf functions run */

#include "heap/shared/session.h"

void session_init(struct session *session, struct heap *heap, uint32_t index)
{
	static struct cache none; /* nothing is ever kept in it, see cached.h */

	heap_refresh_arenas(heap);
	*session = (struct session){
		.heap = heap,
		.entry = index == SESSION_DAEMON ? NULL : &heap->sessions[index],
		.control = heap->control,
		.pools = heap->pools,
		.base = heap->base,
		.class_hints = heap->class_hints,
		.cache = &none,
		.ended = &heap->control->ended,
		.is_fenced = heap->is_fenced,
		.index = index,
		.owner1 = index + 1,
		.blocks_identity = POOL_BLOCKS | (index + 1) << 16,
		.hinted_identity = (POOL_BLOCKS | (index + 1) << 16) - (1U << 8),
		/* Not of the heap: a child that was cloned into another namespace keeps its parent's mapping. */
		.is_home = heap->control->pid_namespace && heap->control->pid_namespace == pid_namespace(),
	};
}
