// SPDX-License-Identifier: MIT
/*
 * Lookups of what the session does not hold
 *
 * What is found may be gone, or another object, at any moment. So a lookup reads the identity of the pool again
 * after the header: then only a payload whose 16 bytes are the very header that was seen could be taken for it.
 */

#include "heap/object/lookup.h"

struct lookup lookup_find_other(const struct heap *heap, uint64_t ref)
{
	uint64_t off = ref_position(ref) << 3, p = off >> POOL_SHIFT;
	struct lookup ret = {NULL, 0, 0};
	struct object object;
	uint32_t state, span_index;

	if (object_locate_medium(heap, ref_position(ref), &object, &span_index))
		return (struct lookup){object.header, object.identity, span_index};
	/* relaxed, both: as in object_locate_block() */
	if (off & (POOL_SIZE - 1) || p >= __atomic_load_n(&heap->n_pools_known, __ATOMIC_RELAXED))
		return ret;
	state = arena_state(&heap->arenas[off >> heap->arena_shift]);
	ret.identity = __atomic_load_n(&heap->pools[p].identity, __ATOMIC_RELAXED);
	if ((state == ARENA_POOLS || state == ARENA_RUN) && (ret.identity & 0xff) == POOL_RUN)
		ret.header = &heap->pools[p].header;
	return ret;
}
