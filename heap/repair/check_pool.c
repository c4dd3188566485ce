// SPDX-License-Identifier: MIT
/*
 * Pools and runs compared with their headers
 *
 * The headers of a pool say which of its blocks are in use; n_used, n_carved and the free list must agree with them. A
 * pool is also compared with the lists on which the walk has found it (check_list.c comes first).
 *
 * Between two stores of its owner these numbers do not agree. So they are compared only if the owner was not active,
 * and the headers only if it was not active or is dead.
 */

#include "heap/repair/check_pool.h"
#include "heap/repair/check_count.h"
#include "heap/shared/critical.h"

/* Owners */

/* The session that owns the pool. NULL: there is none, or none that can be, which is a fault. */
static struct session_entry *owner_of(struct check *check, uint32_t p)
{
	struct heap *heap = check->heap;
	uint32_t owner1 = heap->pools[p].owner1;

	if (!owner1)
		return NULL;
	if (owner1 <= heap->n_sessions && session_state(&heap->sessions[owner1 - 1]) != SESSION_FREE &&
		heap->arenas[p / heap->pools_per_arena].space != SPACE_RECORDS)
		return &heap->sessions[owner1 - 1];
	check_fault(check, "pool %u: is owned by session %u, which cannot be", p, owner1 - 1);
	return NULL;
}

static bool owner_is_active(const struct check *check, const struct session_entry *owner)
{
	return owner && critical_was_active(check->heap, (uint32_t)(owner - check->heap->sessions));
}

/*
 * Does nobody change the headers of its pools? True also of a dead session, whose lists and counts may be half changed.
 */
static bool headers_are_still(const struct check *check, const struct session_entry *owner)
{
	return !owner_is_active(check, owner) || session_state(owner) == SESSION_DEAD;
}

static void check_owned(struct check *check, uint32_t p, const struct session_entry *owner)
{
	if (owner && !(check->pool_marks[p] & MARK_OWNED_LIST))
		check_fault(check, "pool %u: is not on the list owned_pools of its owner, session %u", p,
			(uint32_t)(owner - check->heap->sessions));
}

/* Pools of blocks */

static void check_free_list(
	struct check *check, uint32_t p, const struct pool_entry *pool, const struct object_header *headers)
{
	uint32_t n_carved = __atomic_load_n(&pool->n_carved, __ATOMIC_RELAXED), n = 0;
	uint32_t n_free = n_carved - read_once(pool->n_used);
	uint32_t n_blocks = class_shapes[read_once(pool->size_class)].n_blocks;

	for (uint32_t i1 = read_once(pool->freeblock1); i1; n++) {
		if (i1 > n_carved || i1 > n_blocks || n > n_free || n > n_blocks ||
			header_state(header_word(&headers[i1 - 1])) != STATE_FREE) {
			check_fault(check, "pool %u: its freeblock list is broken at its entry %u", p, n);
			return;
		}
		i1 = header_link(header_word(&headers[i1 - 1]));
	}
	if (n != n_free)
		check_fault(check, "pool %u: its freeblock list has %u blocks, %u are free", p, n, n_free);
}

/* Counted from the headers. */
struct block_count {
	uint32_t n_used, n_remote;
};

static void check_header(
	struct check *check, uint32_t p, uint32_t i, uint64_t word, uint64_t rights, const struct session_entry *owner)
{
	uint32_t state = header_state(word);

	if (state == STATE_FREE && rights)
		check_fault(check, "pool %u: block %u is free and somebody has a right to it", p, i);
	if (state == STATE_REMOTE_FREE && !owner && !check_pool_is_in_flight(check, p))
		check_fault(check, "pool %u: block %u waits to be collected and the pool has no owner", p, i);
	if (state == STATE_REMOTE_FREE && rights != RIGHTS_SHARED)
		check_fault(check,
			"pool %u: block %u waits to be collected and its rights are not those of a freed block", p, i);
	if (state != STATE_FREE && header_size(word) > class_shapes[check->heap->pools[p].size_class].size)
		check_fault(check, "pool %u: block %u is too short for the %u bytes of its object", p, i,
			header_size(word));
	if (state > STATE_REMOTE_FREE)
		check_fault(check, "pool %u: block %u is in the unknown state %u", p, i, state);
	if (owner && state == STATE_LIVE && header_own(word))
		check->n_own_holds[owner - check->heap->sessions]++;
}

static struct block_count check_headers(struct check *check, uint32_t p, const struct session_entry *owner)
{
	const struct pool_entry *pool = &check->heap->pools[p];
	const struct object_header *headers = pool_headers(check->heap, pool);
	struct block_count count = {0};
	bool is_touched =
		owner_is_active(check, owner); /* reported once: if nextoffset is wrong, many blocks may be touched */

	for (uint32_t i = 0; i < class_shapes[pool->size_class].n_blocks; i++) {
		uint64_t word = header_word(&headers[i]);
		uint32_t state = header_state(word);

		count.n_used += state != STATE_FREE;
		count.n_remote += state == STATE_REMOTE_FREE;
		if (headers_are_still(check, owner))
			check_header(check, p, i, word, headers[i].rights, owner);
		if (word && i >= pool->n_carved && !is_touched) {
			check_fault(check, "pool %u: block %u is %s and nextoffset says it is untouched", p, i,
				state != STATE_FREE ? "in use" : "as one that was freed");
			is_touched = true;
		}
	}
	return count;
}

/* Compare what only the owner changes or, of a pool without one, the owner of the lock. */
static void check_own_side(struct check *check, uint32_t p, const struct block_count *count)
{
	const struct pool_entry *pool = &check->heap->pools[p];
	bool has_room = pool_has_room(pool);

	if (pool->n_carved > class_shapes[pool->size_class].n_blocks) {
		check_fault(check, "pool %u: class %u with %u blocks carved cannot be", p, pool->size_class,
			pool->n_carved);
		return;
	}
	if (count->n_used != pool->n_used)
		check_fault(check, "pool %u: says that %u blocks are in use, %u are", p, pool->n_used, count->n_used);
	else
		check_free_list(check, p, pool, pool_headers(check->heap, pool));
	if (!count->n_used && !pool->owner1)
		check_fault(check, "pool %u: has no block in use and is not free", p);
	if (has_room != !!(check->pool_marks[p] & MARK_USED_LIST))
		check_fault(check, "pool %u: has %s room and is %s usedpools[%u]", p, has_room ? "some" : "no",
			has_room ? "not on" : "on", pool->size_class);
}

void check_block_pool(struct check *check, uint32_t p)
{
	struct heap *heap = check->heap;
	const struct pool_entry *pool = &heap->pools[p];
	const struct session_entry *owner = owner_of(check, p);
	struct block_count count;

	if (pool->size_class >= N_CLASSES) {
		check_fault(check, "pool %u: class %u cannot be", p, pool->size_class);
		return;
	}
	count = check_headers(check, p, owner);
	check_owned(check, p, owner);
	if (!owner_is_active(check, owner))
		check_own_side(check, p, &count);
	if (!owner)
		return;
	if (pool->is_on_remote_list != !!(check->pool_marks[p] & MARK_REMOTE_LIST))
		check_fault(check, "pool %u: says that it is %s remote_pools, which it is%s", p,
			pool->is_on_remote_list ? "on" : "not on", pool->is_on_remote_list ? " not" : "");
	if (!!count.n_remote != !!(check->pool_marks[p] & MARK_REMOTE_LIST) && !check_pool_is_in_flight(check, p))
		check_fault(check, "pool %u: has %u remotely freed blocks and is %s remote_pools", p, count.n_remote,
			count.n_remote ? "not on" : "on");
}

uint32_t check_span(struct check *check, uint32_t p, uint32_t n_left)
{
	const struct pool_entry *pool = &check->heap->pools[p];
	uint32_t identity = pool->identity, n_pools = class_shapes[identity >> 8 & 0xff].n_pools;

	if (n_pools > n_left) {
		check_fault(check, "pool %u: a span of %u pools does not fit in its arena", p, n_pools);
		return n_left;
	}
	for (uint32_t i = 1; i < n_pools; i++)
		if (pool[i].identity != pool_identity(POOL_BODY, identity >> 8 & 0xff, identity >> 16) ||
			pool[i].span_index != i)
			check_fault(check, "pool %u: is not pool %u of the span that begins at pool %u", p + i, i, p);
	return n_pools ? n_pools : 1;
}

/* Runs of pools */

void check_run(struct check *check, uint32_t p)
{
	const struct pool_entry *pool = &check->heap->pools[p];
	const struct session_entry *owner = owner_of(check, p);
	uint64_t word = header_word(&pool->header);
	uint32_t state = header_state(word);

	check_owned(check, p, owner);
	if (!headers_are_still(check, owner))
		return;
	if (state == STATE_FREE && !(check->pool_marks[p] & MARK_SPARE) && !owner_is_active(check, owner))
		check_fault(check, "pool %u: starts a run whose header says that it is free", p);
	if (state == STATE_FREE && pool->header.rights)
		check_fault(check, "pool %u: starts a free run and somebody has a right to it", p);
	if (state != STATE_FREE && pool->run_size > (uint64_t)pool->run_n_pools << POOL_SHIFT)
		check_fault(check, "pool %u: a run of %u pools is too short for the %llu bytes of its object", p,
			pool->run_n_pools, (unsigned long long)pool->run_size);
	if (owner && state == STATE_LIVE && header_own(word))
		check->n_own_holds[owner - check->heap->sessions]++;
}

void check_own_holds(struct check *check, uint32_t index)
{
	/* relaxed: a session that is just being kept out stores the value that was there */
	uint64_t n_said = __atomic_load_n(&check->heap->sessions[index].n_own_holds, __ATOMIC_RELAXED);

	if (!critical_was_active(check->heap, index) && n_said != check->n_own_holds[index])
		check_fault(check, "session %u: says that it holds %llu objects of its own, it holds %llu", index,
			(unsigned long long)n_said, (unsigned long long)check->n_own_holds[index]);
}
