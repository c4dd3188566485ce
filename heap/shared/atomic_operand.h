/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared words that are only compared, or counted, where they lie
 *
 * Compilers keep an atomic load apart from what it is for: it takes an instruction and a register of its own. Where
 * objects are dropped of which nothing is in the cache it is the CPU's registers that limit how many drops it has under
 * way, and so how many of them wait for memory at the same time: each register that a drop writes takes a nanosecond.
 * (Comparisons write none but the flags: ten more of them take no time at all.) So on x86-64 these are given as the one
 * instruction that they are. To the sanitizer of threads they stay atomics.
 *
 * Comparing orders like an acquire load, which each load is there. Counting orders nothing: it is of words that nobody
 * else writes meanwhile, and of which nobody else reads more than some number.
 */

#include <stdbool.h>
#include <stdint.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define OPERAND_ATOMIC
#endif
#elif defined(__SANITIZE_THREAD__)
#define OPERAND_ATOMIC
#endif

#if defined(__x86_64__) && !defined(OPERAND_ATOMIC)

#define OPERAND_EQUALS(cmp, p, n)                                                                                      \
	({                                                                                                             \
		bool is_;                                                                                              \
		/* memory: to the compiler, too */                                                                     \
		__asm__ volatile(cmp " %2, %1" : "=@cce"(is_) : "m"(*(p)), "er"(n) : "memory");                        \
		is_;                                                                                                   \
	})

static inline bool word32_is(const uint32_t *p, uint32_t n)
{
	return OPERAND_EQUALS("cmpl", p, n);
}

static inline bool word64_is(const uint64_t *p, uint64_t n)
{
	return OPERAND_EQUALS("cmpq", p, n);
}
#undef OPERAND_EQUALS

static inline void word64_add(uint64_t *p, uint64_t n)
{
	__asm__ volatile("addq %1, %0" : "+m"(*p) : "er"(n) : "cc");
}

/* One less; is it 0 now? */
static inline bool word16_count_down(uint16_t *p)
{
	bool is_zero;

	__asm__ volatile("subw $1, %1" : "=@cce"(is_zero), "+m"(*p));
	return is_zero;
}

#else

static inline bool word32_is(const uint32_t *p, uint32_t n)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE) == n;
}

static inline bool word64_is(const uint64_t *p, uint64_t n)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE) == n;
}

/* relaxed, both */
static inline void word64_add(uint64_t *p, uint64_t n)
{
	__atomic_store_n(p, __atomic_load_n(p, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

static inline bool word16_count_down(uint16_t *p)
{
	uint16_t n = (uint16_t)(__atomic_load_n(p, __ATOMIC_RELAXED) - 1);

	__atomic_store_n(p, n, __ATOMIC_RELAXED);
	return n == 0;
}

#endif
