/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The words of the layout, read and made: refs, headers, rights, a pool's counts, intents
 *
 * These are computations on values; layout.h says what the bits mean. Shared memory is read by read_once(),
 * shared_add() and header_word() alone.
 */

#include "heap/shared/layout.h"

/*
 * Load a shared word, once: what is checked is what is used, also if it changes meanwhile. Code that the daemon runs
 * has no plain loads of shared memory (tests/reads.py). Relaxed: where the order matters an __atomic_load_n() says so.
 */
#define read_once(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)

/* Add to a shared number, by a load and a store, without the log. Relaxed. */
#define shared_add(x, n) __atomic_store_n(&(x), (__typeof__(x))(read_once(x) + (__typeof__(x))(n)), __ATOMIC_RELAXED)

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

/* Relaxed: the owner of the header's pool changes it without the lock. */
static inline uint64_t header_word(const struct object_header *header)
{
	return __atomic_load_n(&header->word, __ATOMIC_RELAXED);
}

/* How many holds the pool's owner has, without its hold table. */
static inline uint64_t header_own(uint64_t word)
{
	return word & OWN_HOLDS_MAX;
}
static inline uint32_t header_state(uint64_t word)
{
	return (uint32_t)(word >> 7 & 7);
}
#define HEADER_SIZE_MAX UINT64_C(0x7fff) /* what the word has bits for */
/* Of a block that is not free. */
static inline uint32_t header_size(uint64_t word)
{
	return (uint32_t)(word >> 10 & HEADER_SIZE_MAX);
}
/* Of a block or run that is not free. */
static inline uint32_t header_type(uint64_t word)
{
	return (uint32_t)(word >> 25 & 0x7ff);
}
static inline uint32_t header_generation(uint64_t word)
{
	return (uint32_t)(word >> REF_POSITION_BITS);
}
/* Of a free block: the next one of the free list, plus one. */
static inline uint32_t header_link(uint64_t word)
{
	return (uint32_t)(word >> 20 & UINT16_MAX);
}
static inline uint64_t header_live(uint32_t generation, uint32_t type, uint64_t block_size, uint32_t state)
{
	return (uint64_t)generation << REF_POSITION_BITS | (uint64_t)type << 25 | block_size << 10 |
	       (uint64_t)state << 7;
}
/* In another state, and without holds of the pool's owner. */
static inline uint64_t header_with_state(uint64_t word, uint32_t state)
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
/* Bits that are 0 in the word of a free block: the owner's holds, the state and the size. */
#define HEADER_FREE_MASK ((UINT64_C(1) << 20) - 1)

/* pool_entry.counts: n_used, n_carved and freeblock1 in one word. */
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
/* The link in a free block's word becomes freeblock1: the word's other bits are 0 or shifted out. */
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
static inline bool intent_is_read(uint32_t kind)
{
	return kind == INTENT_READ || kind == INTENT_UNREAD;
}

/* The number of rights that others have to the object. */
static inline uint64_t rights_count(uint64_t rights)
{
	return ((uint32_t)rights / RIGHTS_ONE + (uint32_t)(rights >> 48)) & RIGHTS_MAX;
}
/* The session that the header is biased to, plus one; 0; or BIAS_READERS, BIAS_UNCOUNTED. */
static inline uint32_t rights_biased1(uint64_t rights)
{
	return (uint32_t)(rights >> 32 & UINT16_MAX);
}
static inline bool rights_are_for_readers(uint64_t rights)
{
	return rights_biased1(rights) >= BIAS_UNCOUNTED;
}
static inline uint64_t rights_with_bias(uint64_t rights, uint32_t biased1)
{
	return (rights & ~((uint64_t)UINT16_MAX << 32)) | (uint64_t)biased1 << 32;
}
/* Do others know the object, or did they? */
static inline bool rights_are_shared(uint64_t rights)
{
	return rights & ((uint64_t)RIGHTS_GIVEN_MAX << 48 | RIGHTS_SHARED);
}
/*
 * Has anybody a right to it, beside its pool's owner? Also while the last counted right has just gone, and the tables
 * are being asked for uncounted holds: so who holds it uncounted never finds it without a right.
 */
static inline bool rights_are_any(uint64_t rights)
{
	return rights_count(rights) || rights_are_for_readers(rights);
}
/* rights_counted with one right more. */
static inline uint32_t rights_more(uint32_t counted)
{
	return (counted + RIGHTS_ONE) | RIGHTS_SHARED;
}
/* rights_counted with one right less. */
static inline uint32_t rights_less(uint32_t counted)
{
	return (counted - RIGHTS_ONE) | RIGHTS_SHARED;
}
/* Of a dying object: the position of the next one plus one, with the bits at 0 that have a meaning in its life. */
static inline uint64_t rights_of_dying(uint64_t next1)
{
	return next1 * RIGHTS_ONE;
}
static inline uint64_t rights_next_dying1(uint64_t rights)
{
	return (rights << 16 >> 16) / RIGHTS_ONE;
}
/* How many slots of a dying block are dropped. */
static inline uint64_t rights_n_dropped(uint64_t rights)
{
	return rights >> 48;
}
static inline uint64_t rights_with_n_dropped(uint64_t rights, uint64_t n_dropped)
{
	return (rights << 16 >> 16) | n_dropped << 48;
}
