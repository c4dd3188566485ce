// SPDX-License-Identifier: MIT
/*
 * The geometry of a heap: three figures from which all sizes and offsets follow
 *
 * A process that attaches a heap computes the sections itself and compares: it never goes by an offset of the segment.
 * layout_hash() stands for what this code was compiled with (versions, sizes, offsets), geometry_hash() for that and
 * the three figures, so that a damaged figure in the header is found.
 */

#include "heap/shared/geometry.h"

#include <errno.h>

static uint64_t page_align(uint64_t n)
{
	return (n + 4095) & ~UINT64_C(4095);
}

static uint64_t hash_step(uint64_t hash, uint64_t n)
{
	for (int i = 0; i < 8; i++, n >>= 8)
		hash = (hash ^ (n & 0xff)) * UINT64_C(0x100000001b3); /* FNV-1a */
	return hash;
}

uint64_t layout_hash(void)
{
	const uint64_t facts[] = {
		LAYOUT_VERSION,
		POOL_SIZE,
		N_CLASSES,
		BLOCK_SIZE_MAX,
		REF_POSITION_BITS,
		LOG_CAPACITY,
		TYPES_MAX,
		TYPE_SLOTS_MAX,
		LOCK_UNIT,
		sizeof(struct object_header),
		sizeof(struct pool_entry),
		sizeof(struct arena_entry),
		sizeof(struct space),
		sizeof(struct hold),
		sizeof(struct session_entry),
		sizeof(struct type_entry),
		sizeof(struct name_entry),
		sizeof(struct queue),
		sizeof(struct cell),
		sizeof(struct counters),
		sizeof(struct control),
		offsetof(struct pool_entry, n_used),
		offsetof(struct pool_entry, next1),
		offsetof(struct pool_entry, header),
		offsetof(struct pool_entry, run_n_pools),
		offsetof(struct pool_entry, owned_next1),
		offsetof(struct arena_entry, n_free_pools),
		offsetof(struct space, usable_arenas1),
		offsetof(struct space, rank2lasta1),
		offsetof(struct session_entry, holds_position1),
		offsetof(struct session_entry, making1),
		offsetof(struct session_entry, n_own_holds),
		offsetof(struct session_entry, activity),
		offsetof(struct session_entry, intent_before),
		offsetof(struct session_entry, waits_at),
		offsetof(struct session_entry, intent),
		offsetof(struct session_entry, usedpools1),
		offsetof(struct session_entry, holds_inline),
		offsetof(struct queue, pop_wait),
		offsetof(struct queue, cells),
		offsetof(struct control, lock),
		offsetof(struct control, lock.word),
		offsetof(struct control, counters),
		offsetof(struct control, spaces),
		offsetof(struct control, returnable_arenas1),
		offsetof(struct control, clock_ms),
		HOLDS_INLINE,
		SPARE_RUN_MAX,
	};
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
		hash = hash_step(hash, facts[i]);
	return hash;
}

uint64_t geometry_hash(const struct heap_geometry *geometry)
{
	uint64_t hash = hash_step(layout_hash(), geometry->heap_size);

	return hash_step(hash_step(hash, geometry->arena_size), geometry->n_sessions);
}

int geometry_check(const struct heap_geometry *geometry)
{
	uint32_t a = geometry->arena_size;

	if (a < ARENA_SIZE_MIN || a > ARENA_SIZE_MAX || (a & (a - 1)))
		return -EINVAL;
	if (!geometry->heap_size || geometry->heap_size > HEAP_SIZE_MAX || geometry->heap_size % a)
		return -EINVAL;
	if (!geometry->n_sessions || geometry->n_sessions > SESSIONS_MAX)
		return -EINVAL;
	return 0;
}

/* A bucket for each page of heap: chains stay short as long as named objects are not much smaller than a page. */
static uint32_t name_buckets_for(uint64_t heap_size)
{
	uint32_t n = 256;

	while (n < 131072 && (uint64_t)n << POOL_SHIFT < heap_size)
		n <<= 1;
	return n;
}

void geometry_sections(struct sections *s, const struct heap_geometry *geometry)
{
	s->n_arenas = (uint32_t)(geometry->heap_size / geometry->arena_size);
	s->pools_per_arena = geometry->arena_size / POOL_SIZE;
	s->pool_words = (s->pools_per_arena + 63) / 64;
	s->n_name_buckets = name_buckets_for(geometry->heap_size);

	s->sessions_off = page_align(sizeof(struct control));
	s->types_off = s->sessions_off + page_align(geometry->n_sessions * sizeof(struct session_entry));
	s->type_slots_off = s->types_off + page_align(TYPES_MAX * sizeof(struct type_entry));
	s->name_buckets_off = s->type_slots_off + page_align(TYPE_SLOTS_MAX * sizeof(uint32_t));
	s->arenas_off = s->name_buckets_off + page_align(s->n_name_buckets * sizeof(uint64_t));
	s->freepools_off = s->arenas_off + page_align(s->n_arenas * sizeof(struct arena_entry));
	s->pools_off = s->freepools_off + page_align((uint64_t)s->n_arenas * s->pool_words * sizeof(uint64_t));
	s->size = s->pools_off + page_align((uint64_t)s->n_arenas * s->pools_per_arena * sizeof(struct pool_entry));
}

bool geometry_matches(const struct control *c, const struct sections *s)
{
	return c->control_size == s->size && c->n_arenas == s->n_arenas && c->pools_per_arena == s->pools_per_arena &&
	       c->n_name_buckets == s->n_name_buckets && c->sessions_off == s->sessions_off &&
	       c->types_off == s->types_off && c->type_slots_off == s->type_slots_off &&
	       c->name_buckets_off == s->name_buckets_off && c->arenas_off == s->arenas_off &&
	       c->freepools_off == s->freepools_off && c->pools_off == s->pools_off;
}
