/* SPDX-License-Identifier: MIT */
#pragma once

/* What reads and makes the words of the layout: refs, headers, rights, a pool's counts, intents. */

#include "heap/shared/layout.h"

static inline uint64_t ref_make(uint64_t position, uint32_t generation)
{
	return (uint64_t)generation << REF_POSITION_BITS | position;
}
static inline uint64_t ref_position(uint64_t ref)
{
	return ref & REF_POSITION_MASK;
}
static inline uint32_t ref_generation(uint64_t ref)
{
	return (uint32_t)(ref >> REF_POSITION_BITS);
}

/* Of a header's word. */
static inline uint64_t header_own(uint64_t word) /* how often the pool's owner holds it */
{
	return word & OWN_HOLDS_MAX;
}
static inline uint32_t header_state(uint64_t word)
{
	return (uint32_t)(word >> 7 & 7);
}
static inline uint32_t header_size(uint64_t word) /* of a block that is not free */
{
	return (uint32_t)(word >> 10 & 0x3ff);
}
static inline uint32_t header_type(uint64_t word) /* of what is not free */
{
	return (uint32_t)(word >> 20 & 0xffff);
}
static inline uint32_t header_generation(uint64_t word)
{
	return (uint32_t)(word >> REF_POSITION_BITS);
}
static inline uint32_t header_link(uint64_t word) /* of a free block */
{
	return (uint32_t)(word >> 20 & UINT16_MAX);
}
static inline uint64_t header_live(uint32_t generation, uint32_t type, uint64_t block_size, uint32_t state)
{
	return (uint64_t)generation << REF_POSITION_BITS | (uint64_t)type << 20 | block_size << 10 |
	       (uint64_t)state << 7;
}
static inline uint64_t header_with_state(uint64_t word, uint32_t state) /* held by its owner no more */
{
	return (word & ~UINT64_C(0x3ff)) | (uint64_t)state << 7;
}
static inline uint64_t header_free(uint64_t word, uint32_t link)
{
	return (word >> REF_POSITION_BITS) << REF_POSITION_BITS | (uint64_t)link << 20;
}

static inline bool header_is(uint64_t word, uint32_t generation, uint32_t state)
{
	return (word & (~REF_POSITION_MASK | UINT64_C(7) << 7)) ==
	       ((uint64_t)generation << REF_POSITION_BITS | (uint64_t)state << 7);
}
/* What is 0 in the word of a free block: nobody holds it, its state, and no size. */
#define HEADER_FREE_MASK ((UINT64_C(1) << 20) - 1)

/* Of a pool's three numbers in one word. */
#define COUNTS_ONE_USED UINT64_C(1)
static inline uint32_t counts_used(uint64_t counts)
{
	return (uint32_t)(counts & UINT16_MAX);
}
static inline uint32_t counts_freeblock1(uint64_t counts)
{
	return (uint32_t)(counts >> 48);
}
static inline uint64_t counts_carved(uint64_t n_used, uint64_t n_carved, uint64_t freeblock1)
{
	return n_used | n_carved << 16 | freeblock1 << 48;
}
static inline uint64_t counts_with_freeblock1(uint64_t counts, uint64_t freeblock1)
{
	return (counts << 16 >> 16) + (freeblock1 << 48);
}
/* The link of a free block's header becomes freeblock: all else in the word is 0, or falls off. */
static inline uint64_t counts_with_link(uint64_t counts, uint64_t word)
{
	return (counts << 16 >> 16) + (word << 28);
}

static inline uint32_t intent_kind(uint64_t word)
{
	return (uint32_t)(word & 15);
}
static inline uint64_t intent_word(uint64_t number, uint32_t kind)
{
	return number << 4 | kind;
}
static inline uint64_t intent_number(uint64_t word)
{
	return word >> 4;
}
static inline bool intent_is_push(uint32_t kind)
{
	return kind >= INTENT_PUSH && kind <= INTENT_PUSH_OWN;
}
static inline bool intent_is_pop(uint32_t kind)
{
	return kind == INTENT_POP || kind == INTENT_POP_RIGHT;
}
static inline bool intent_is_count(uint32_t kind)
{
	return kind == INTENT_HOLD || kind == INTENT_DROP;
}

/* How many have a right to it by its second word. */
static inline uint64_t rights_count(uint64_t rights)
{
	return ((uint32_t)rights / RIGHTS_ONE + (uint32_t)(rights >> 48)) & RIGHTS_MAX;
}
/* Do others know it, or did they? */
static inline bool rights_are_shared(uint64_t rights)
{
	return rights & ((uint64_t)RIGHTS_GIVEN_MAX << 48 | RIGHTS_SHARED);
}
/* Of rights_counted: a right more, and one less. */
static inline uint32_t rights_more(uint32_t counted)
{
	return (counted + RIGHTS_ONE) | RIGHTS_SHARED;
}
static inline uint32_t rights_less(uint32_t counted)
{
	return (counted - RIGHTS_ONE) | RIGHTS_SHARED;
}
/* Of a dying object: the next one's position plus one, and none of the bits that have a meaning while it lives. */
static inline uint64_t rights_of_dying(uint64_t next1)
{
	return next1 * RIGHTS_ONE;
}
static inline uint64_t rights_next_dying1(uint64_t rights)
{
	return rights / RIGHTS_ONE;
}

/* Relaxed: the owner of its pool changes it without the lock. */
static inline uint64_t header_word(const struct object_header *header)
{
	return __atomic_load_n(&header->word, __ATOMIC_RELAXED);
}
