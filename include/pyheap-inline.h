/* SPDX-License-Identifier: MIT */
/*
 * The most frequent calls of pyheap.h, inline
 *
 * Included by pyheap.h. Programs call nothing that is declared here by name. It is part of the library's ABI and
 * changes with its soname.
 *
 * As with Py_INCREF(): where GCC or Clang optimizes, a program does the most frequent work of pyheap_data(),
 * pyheap_incref() and pyheap_decref() itself. It finds the payload of an object that the session used lately, and it
 * holds once more, or once less, an object that the session made and goes on holding. pyheap_new() checks its arguments
 * in the program where the type is a constant. All other cases go into the library, which has the four functions whole:
 * for other languages, and for pointers to them.
 *
 * Define PYHEAP_NO_INLINE before pyheap.h to leave the inline functions out: for bindings that are made from the
 * header, and for programs that replace the calls (LD_PRELOAD, --wrap, a mock of a test).
 *
 * The inline functions read a cache of objects, which is the session's own: an array of 256 entries in memory that the
 * kernel empties in a forked child. Index of the entry of a ref: the top 8 bits of its low 32 bits times
 * PYHEAP_INLINE_FACTOR. An entry is the ref's where it says so.
 *
 * An object in a pool of the session's own counts the session's holds in its header word. With one hold the word is
 * `word1`, with n holds word1 + n - 1, up to PYHEAP_INLINE_HOLDS. So `*word - word1` is the number of holds beyond the
 * first; for any other word, as of an object that was freed, the difference is very large. While the session holds the
 * object, nobody else stores to the word.
 */
#ifndef PYHEAP_INLINE_H
#define PYHEAP_INLINE_H

#ifndef PYHEAP_H
#error "include pyheap.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define PYHEAP_INLINE_FACTOR 0xea956e0dU
#define PYHEAP_INLINE_SHIFT  24  /* leaves 8 of 32 bits */
#define PYHEAP_INLINE_HOLDS  127 /* holds that a header word can count */
#define PYHEAP_INLINE_SIZE   512 /* bytes of the largest block */
#define PYHEAP_INLINE_CLASS  8   /* bytes from one size class to the next */

/* An entry of the cache. The session writes it. */
struct pyheap_cached {
	pyheap_ref ref; /* whose entry it is */
	uint64_t *word; /* the header word of an object in a pool of the session's own; else NULL */
	uint64_t word1; /* with `word`: what it says while the session holds the object once */
	void *reserved0;
	void *data; /* the payload; NULL: not known, or the object has none */
	uint64_t reserved1[3];
};

/* The beginning of a session. It never changes while the session is open. */
struct pyheap_inline {
	struct pyheap_cached *cache;
	const uint64_t *ended; /* in shared memory, written by the daemon: 0; all bits set once the heap was removed */
};

/* The four functions by names that are never inline. */
int pyheap_whole_new(pyheap *heap, pyheap_type type, size_t size, pyheap_ref *ret);
void *pyheap_whole_data(pyheap *heap, pyheap_ref ref);
int pyheap_whole_incref(pyheap *heap, pyheap_ref ref);
int pyheap_whole_decref(pyheap *heap, pyheap_ref ref);

/* pyheap_new() of 1 to 512 bytes, whose size class is given. Neither pointer is NULL. */
int pyheap_new_bytes(pyheap *heap, size_t size_class, size_t size, pyheap_ref *ret);

/* pyheap_decref() of the object of a cache entry whose word is word1. Neither pointer is NULL. */
int pyheap_decref_last(pyheap *heap, pyheap_ref ref, struct pyheap_cached *cached);

/* pyheap_decref() of an object that is not in the cache. `heap` is not NULL. */
int pyheap_decref_other(pyheap *heap, pyheap_ref ref);

#if defined(__GNUC__) && !defined(PYHEAP_NO_INLINE)

#define PYHEAP_EXTERN_INLINE extern __inline__ __attribute__((__gnu_inline__))
#define PYHEAP_ALWAYS_INLINE PYHEAP_EXTERN_INLINE __attribute__((__always_inline__))

/* Casts that C++ compilers are quiet about: of a number, of a pointer to a number, of a session to its beginning. */
#ifdef __cplusplus
#define PYHEAP_INLINE_LOW32(n)   static_cast<uint32_t>(n)
#define PYHEAP_INLINE_ADDRESS(p) reinterpret_cast<uintptr_t>(p)
#define PYHEAP_INLINE_HEAD(heap) reinterpret_cast<const struct pyheap_inline *>(heap)
#if __cplusplus >= 201103L
#define PYHEAP_INLINE_NULL nullptr
#else
#define PYHEAP_INLINE_NULL NULL
#endif
#else
#define PYHEAP_INLINE_LOW32(n)   ((uint32_t)(n))
#define PYHEAP_INLINE_ADDRESS(p) ((uintptr_t)(p))
#define PYHEAP_INLINE_HEAD(heap) ((const struct pyheap_inline *)(const void *)(heap))
#define PYHEAP_INLINE_NULL       NULL
#endif

/* The entry that ref has where it is in the cache. */
PYHEAP_ALWAYS_INLINE struct pyheap_cached *pyheap_inline_entry(const struct pyheap_inline *head, pyheap_ref ref)
{
	return &head->cache[PYHEAP_INLINE_LOW32(ref) * PYHEAP_INLINE_FACTOR >> PYHEAP_INLINE_SHIFT];
}

/* The entry of ref in the cache; NULL: it is not there. */
PYHEAP_ALWAYS_INLINE struct pyheap_cached *pyheap_inline_find(const struct pyheap_inline *head, pyheap_ref ref)
{
	struct pyheap_cached *cached;

	if (__builtin_expect(!head, 0))
		return PYHEAP_INLINE_NULL;
	cached = pyheap_inline_entry(head, ref);
	return __builtin_expect(cached->ref == ref, 1) ? cached : PYHEAP_INLINE_NULL;
}

/* Is n at most max, and does the heap still exist? relaxed: no other load depends on it */
PYHEAP_ALWAYS_INLINE int pyheap_inline_may(const struct pyheap_inline *head, uint64_t n, uint64_t max)
{
	return (n | __atomic_load_n(head->ended, __ATOMIC_RELAXED)) <= max;
}

PYHEAP_EXTERN_INLINE int pyheap_new(pyheap *heap, pyheap_type type, size_t size, pyheap_ref *ret)
{
	/* size - 1: a size of 0 becomes very large */
	if (__builtin_constant_p(type) && type == PYHEAP_BYTES &&
		__builtin_expect(heap && ret && size - 1 < PYHEAP_INLINE_SIZE, 1))
		return pyheap_new_bytes(heap, (size - 1) / PYHEAP_INLINE_CLASS, size, ret);
	return pyheap_whole_new(heap, type, size, ret);
}

PYHEAP_EXTERN_INLINE void *pyheap_data(pyheap *heap, pyheap_ref ref)
{
	const struct pyheap_inline *head = PYHEAP_INLINE_HEAD(heap);
	const struct pyheap_cached *cached = pyheap_inline_find(head, ref);

	/* Is data known (not NULL), and does the heap still exist? `ended` is 0, or larger than any address. relaxed:
	 * as in pyheap_inline_may() */
	if (__builtin_expect(
		    cached && PYHEAP_INLINE_ADDRESS(cached->data) > __atomic_load_n(head->ended, __ATOMIC_RELAXED), 1))
		return cached->data;
	return pyheap_whole_data(heap, ref);
}

PYHEAP_EXTERN_INLINE int pyheap_incref(pyheap *heap, pyheap_ref ref)
{
	const struct pyheap_inline *head = PYHEAP_INLINE_HEAD(heap);
	const struct pyheap_cached *cached = pyheap_inline_find(head, ref);
	uint64_t word;

	if (__builtin_expect(!cached || !cached->word, 0))
		return pyheap_whole_incref(heap, ref);
	/* relaxed, load and store: nobody else stores to the word, and nobody depends on how often the object is held
	 * beyond once */
	word = __atomic_load_n(cached->word, __ATOMIC_RELAXED);
	if (__builtin_expect(!pyheap_inline_may(head, word - cached->word1, PYHEAP_INLINE_HOLDS - 2), 0))
		return pyheap_whole_incref(heap, ref);
	__atomic_store_n(cached->word, word + 1, __ATOMIC_RELAXED);
	return 0;
}

PYHEAP_EXTERN_INLINE int pyheap_decref(pyheap *heap, pyheap_ref ref)
{
	const struct pyheap_inline *head = PYHEAP_INLINE_HEAD(heap);
	struct pyheap_cached *cached;
	uint64_t word, n_more;

	if (__builtin_expect(!heap, 0))
		return pyheap_whole_decref(heap, ref);
	cached = pyheap_inline_entry(head, ref);
	if (cached->ref != ref)
		return pyheap_decref_other(heap, ref);
	if (__builtin_expect(!cached->word, 0))
		return pyheap_whole_decref(heap, ref);
	/* relaxed, load and store: as in pyheap_incref() */
	word = __atomic_load_n(cached->word, __ATOMIC_RELAXED);
	n_more = word - cached->word1;
	if (!n_more)
		return pyheap_decref_last(heap, ref, cached);
	if (__builtin_expect(!pyheap_inline_may(head, n_more, PYHEAP_INLINE_HOLDS - 1), 0))
		return pyheap_whole_decref(heap, ref);
	__atomic_store_n(cached->word, word - 1, __ATOMIC_RELAXED);
	return 0;
}

#undef PYHEAP_INLINE_LOW32
#undef PYHEAP_INLINE_ADDRESS
#undef PYHEAP_INLINE_HEAD
#undef PYHEAP_INLINE_NULL
#undef PYHEAP_EXTERN_INLINE
#undef PYHEAP_ALWAYS_INLINE
#endif

#ifdef __cplusplus
}
#endif

#endif
