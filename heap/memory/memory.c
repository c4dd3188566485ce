// SPDX-License-Identifier: MIT
/*
 * Room for one object of any size
 *
 * Up to BLOCK_SIZE_MAX bytes take a block of a small class in a pool, up to MEDIUM_SIZE_MAX one of a medium class in a
 * span of pools, more take whole pools of one arena, an arena and more take whole arenas. So does what is to be aligned
 * to more than a block is, what has no span in arenas as short as this heap's, and records. A block's place says its
 * class; a run begins with its first pool, whose entry has header and size.
 */

#include "heap/memory/memory.h"
#include "heap/memory/block.h"
#include "heap/memory/run.h"

#include <errno.h>

/* Small blocks of a size that is a multiple of 16 are aligned to it. */
static bool is_small(size_t *size, size_t alignment)
{
	if (alignment == 16 && *size <= BLOCK_SIZE_MAX)
		*size = *size ? (*size + 15) & ~(size_t)15 : 16;
	return *size <= BLOCK_SIZE_MAX && alignment <= 16;
}

uint32_t memory_class(
	const struct heap *heap, enum space_kind space, size_t size, size_t alignment, uint64_t *ret_n_pools)
{
	size_t room = size;
	uint32_t size_class;

	if (is_small(&room, alignment))
		return class_of_size(room);
	*ret_n_pools = size ? (size - 1) / POOL_SIZE + 1 : 1;
	if (space == SPACE_RECORDS || size > MEDIUM_SIZE_MAX || alignment > MEDIUM_ALIGNMENT)
		return CLASS_NONE;
	size_class = class_of_size(size > BLOCK_SIZE_MAX ? size : BLOCK_SIZE_MAX + 1);
	return class_shapes[size_class].n_pools <= heap->pools_per_arena ? size_class : CLASS_NONE;
}

int memory_take(struct session *session, enum space_kind space, size_t size, size_t alignment, uint32_t type,
	uint32_t state, uint64_t rights, uint64_t *ret)
{
	uint64_t n_pools;
	uint32_t size_class;

	if (size > session->heap->heap_size)
		return -ENOMEM;
	size_class = memory_class(session->heap, space, size, alignment, &n_pools);
	if (size_class == CLASS_NONE)
		return run_take(session, space, size, type, state, rights, ret);
	if (space == SPACE_OBJECTS)
		return -EINVAL;
	return block_take(session, space, size, size_class, type, state, rights, ret);
}

int memory_give(struct session *session, uint64_t position)
{
	struct pool_entry *pool = pool_at_position(session->heap, position);

	if (!pool)
		return -EUCLEAN;
	if (read_once(pool->kind) == POOL_RUN)
		return run_give(session, pool);
	return block_give(session, pool, position);
}
