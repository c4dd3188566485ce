/* SPDX-License-Identifier: MIT */
#pragma once

/* What follows from a heap's geometry: sizes, offsets, hashes. */

#include "heap/shared/layout.h"

struct heap_geometry {
	uint64_t heap_size;  /* a multiple of arena_size, at most HEAP_SIZE_MAX */
	uint32_t arena_size; /* a power of two, ARENA_SIZE_MIN..ARENA_SIZE_MAX */
	uint32_t n_sessions; /* 1..SESSIONS_MAX */
};

/* Where everything lies in a control segment, and how many there are. */
struct sections {
	uint64_t sessions_off, types_off, type_slots_off, name_buckets_off, arenas_off, freepools_off, pools_off, size;
	uint32_t n_arenas, pools_per_arena, pool_words, n_name_buckets;
};

/* 0, or -EINVAL: no heap can have that geometry. */
int geometry_check(const struct heap_geometry *geometry);

/* Compute the sections of a geometry that passes geometry_check(). */
void geometry_sections(struct sections *s, const struct heap_geometry *geometry);

/* Does a control segment say of itself what its geometry says? */
bool geometry_matches(const struct control *c, const struct sections *s);

/* Identifies the layout that this code was compiled with. */
uint64_t layout_hash(void);

/* Of the layout and the geometry. */
uint64_t geometry_hash(const struct heap_geometry *geometry);
