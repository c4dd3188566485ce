/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Atomic operands: shared words that are compared or counted by one instruction, without a load of their own
 *
 * Compilers keep an atomic load apart from its use, so it takes an instruction and a register of its own. Where objects
 * are dropped that are not in the processor's caches, the registers that each drop writes limit how many drops the
 * processor has under way, and so how many of them wait for memory at the same time: each register that a drop writes
 * costs a nanosecond. (Comparisons write only the flags: ten more of them cost no time at all.) So on x86-64 these
 * functions are the one instruction each that they should be. For the thread sanitizer they stay atomics.
 *
 * A comparison orders as an acquire load does, which on x86-64 every load is. Counting orders nothing: it is for words
 * that nobody else writes meanwhile, and in which others read a number and no more.
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
		/* "memory": acquire for the compiler, too */                                                          \
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

/* Subtract one. Is it 0 now? */
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

/* relaxed, both: the caller alone writes the word */
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
