// SPDX-License-Identifier: MIT
/*
 * A session as its own process has it
 *
 * What is true of the session is in its entry in shared memory. Here is what only its process needs: pointers,
 * copies at hand for the most frequent calls, hints, and how it has the lock. Losing all of it loses nothing of the
 * heap, so a session that is resumed begins with a fresh one.
 */

#include "heap/shared/session.h"

void session_init(struct session *session, struct heap *heap, uint32_t index)
{
	/* Asked anew for each session: a child cloned into another namespace keeps its parent's mapping. */
	uint64_t home = heap->truth ? heap->truth->head->pid_namespace : read_once(heap->control->pid_namespace);
	bool is_home = home && home == pid_namespace();
	static struct cache none; /* of all sessions without a cache: is_mine is 0, so nothing is ever kept in it */

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
		.process = is_home ? heap->process : 0,
		.owner1 = index + 1,
		.blocks_identity = POOL_BLOCKS | (index + 1) << 16,
		.hinted_identity = (POOL_BLOCKS | (index + 1) << 16) - (1U << 8),
		.is_home = is_home,
	};
}
