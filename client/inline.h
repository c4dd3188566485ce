/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What programs have inline, and what it corresponds to in heap/
 *
 * pyheap-inline.h describes the beginning of a session, an entry of its cache and the word that counts its holds, in
 * names of its own: a program sees no header of heap/. Here each of its names is compared with heap/'s at compile time.
 * What one hold more or less does to the word is written down twice for that reason, in own_hold() and
 * own_drop_cached() of heap/object/own.h and in pyheap-inline.h; tests/system/test_client_inline.c takes both ways at
 * random and compares.
 */

#include "client/session.h"
#include "heap/object/own.h"

#include <assert.h>

#define INLINE_SEE(what) "see pyheap-inline.h: " what

static_assert(offsetof(struct pyheap, session) == 0, INLINE_SEE("a session begins with it"));
static_assert(offsetof(struct pyheap_inline, cache) == offsetof(struct session, cache), INLINE_SEE("cache"));
static_assert(offsetof(struct pyheap_inline, ended) == offsetof(struct session, ended), INLINE_SEE("ended"));
static_assert(offsetof(struct cache, objects) == 0, INLINE_SEE("the cache begins with its objects"));
static_assert(sizeof(struct pyheap_cached) == sizeof(struct cached_object), INLINE_SEE("an entry"));
static_assert(offsetof(struct pyheap_cached, ref) == offsetof(struct cached_object, ref), INLINE_SEE("ref"));
static_assert(offsetof(struct pyheap_cached, word) == offsetof(struct cached_object, header), INLINE_SEE("word"));
static_assert(offsetof(struct object_header, word) == 0, INLINE_SEE("a header begins with its word"));
static_assert(offsetof(struct pyheap_cached, word1) == offsetof(struct cached_object, word), INLINE_SEE("word1"));
static_assert(offsetof(struct pyheap_cached, data) == offsetof(struct cached_object, data), INLINE_SEE("data"));
static_assert(CACHE_FACTOR == PYHEAP_INLINE_FACTOR, INLINE_SEE("the index of an entry"));
static_assert(CACHE_OBJECTS_SHIFT == 32 - PYHEAP_INLINE_SHIFT, INLINE_SEE("the index of an entry"));
static_assert(CACHE_OBJECTS == 256, INLINE_SEE("the number of entries"));
static_assert(OWN_HOLDS_MAX == PYHEAP_INLINE_HOLDS, INLINE_SEE("how many holds a word counts"));
static_assert(BLOCK_SIZE_MAX == PYHEAP_INLINE_SIZE, INLINE_SEE("the largest block"));
static_assert(BLOCK_ALIGNMENT == PYHEAP_INLINE_CLASS, INLINE_SEE("the distance of two classes"));
static_assert(HEAP_ENDED == UINT64_MAX, INLINE_SEE("no number is larger than `ended`"));

/* A public function that is inline in programs has a second name, which never is: the inline function calls it. */
#define INLINE_WHOLE(name)                                                                                             \
	extern PYHEAP_PUBLIC __typeof__(pyheap_##name) pyheap_whole_##name __attribute__((alias("pyheap_" #name)))
