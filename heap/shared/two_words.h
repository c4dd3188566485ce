/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Compare-and-swap of 16 bytes, for what must change as a whole: object headers and the cells of queues
 *
 * A full barrier, changed or not. p is aligned to 16.
 */

#include <stdbool.h>
#include <stdint.h>

__extension__ typedef unsigned __int128 two_words;

/*
 * Under ThreadSanitizer the compiler's compare-and-swap of 16 bytes is two plain loads and two plain stores under a
 * lock of the sanitizer's, so a store of another thread to one half could get lost in between. There the instruction
 * is given as such, and the sanitizer is told what it orders.
 */
#if defined(__SANITIZE_THREAD__) && defined(__x86_64__)
void __tsan_acquire(void *);
void __tsan_release(void *);

static inline bool two_words_change(two_words *p, two_words old, two_words new)
{
	uint64_t low = (uint64_t)old, high = (uint64_t)(old >> 64);
	bool is_changed;

	__tsan_release(p);
	__tsan_release((uint64_t *)p + 1);
	__asm__ volatile("lock cmpxchg16b %1"
			 : "=@ccz"(is_changed), "+m"(*p), "+a"(low), "+d"(high)
			 : "b"((uint64_t) new), "c"((uint64_t)(new >> 64))
			 : "memory");
	__tsan_acquire(p);
	__tsan_acquire((uint64_t *)p + 1);
	return is_changed;
}
#else
static inline bool two_words_change(two_words *p, two_words old, two_words new)
{
	return __sync_bool_compare_and_swap(p, old, new);
}
#endif
