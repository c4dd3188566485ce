// SPDX-License-Identifier: MIT
/*
 * Names read without the lock
 *
 * A chain is walked hand over hand: an entry is good if its header still has the word that was read before, so it is
 * the same entry, and if what links to it still does after that. A deleted entry's header stays until its deletion has
 * taken place, and so do its links (displaced.c); what comes into its block later has another word. So each entry was
 * the next one of the one before at some moment of the walk, while that one stood in the chain; and as entries keep
 * their order, a name that was there all the time cannot be missed. Its place is then read as a slot is (read.c), with
 * the entry's header as what must not change.
 *
 * Links may be stores of a change under way. A name that is not found, and one whose object is being changed, is
 * therefore searched for once more by committed links alone (log_committed()).
 *
 * The intent names the two entries whose memory is read (uncounted.c). A walk that is overtaken too often takes the
 * lock; it is never one that waits for somebody who has stopped.
 *
 * Most names are in the session's cache, where an entry is found without a walk; it is checked as a walk would.
 */

#include "heap/object/name.h"
#include "heap/object/name_entry.h"
#include "heap/object/read.h"

#define NAME_LIKELY(x) __builtin_expect(!!(x), 1)
#define NAME_RARE      __attribute__((noinline))
#define TRIES_MAX      16
#define TRIES_FAST     2 /* then by the log */

/* An entry, as it was read. */
struct found {
	const struct name_entry *entry;
	const struct object_header *header; /* NULL: the bucket, before the first entry */
	uint64_t word, position;
	uint32_t identity;
};

static inline uint64_t read_link(const struct heap *heap, const uint64_t *link, bool by_log)
{
	/* acquire: the entry was written before it was linked */
	return by_log ? log_committed(heap, link) : __atomic_load_n(link, __ATOMIC_ACQUIRE);
}

static inline bool is_same(const struct found *found)
{
	/* the fence: after what was read of it */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return !found->header || __atomic_load_n(&found->header->word, __ATOMIC_ACQUIRE) == found->word;
}

/* The entry at a position. False: there is none now, or the chain is damaged. */
static inline bool read_entry(struct session *session, uint64_t position, uint64_t before, struct found *ret)
{
	struct object object;

	if (!uncounted_read_at(session, position, before) || !object_locate_block(session->heap, position, &object) ||
		!lookup_is_still(session, position, &(struct lookup){NULL, object.identity, 0}))
		return false;
	*ret = (struct found){
		.entry = (const struct name_entry *)(const void *)object.data,
		.header = object.header,
		.word = object.word,
		.position = position,
		.identity = object.identity,
	};
	return object.type == TYPE_NAME && header_state(object.word) == STATE_LIVE &&
	       object.size > offsetof(struct name_entry, name);
}

/* 1: *ret is the entry; 0: the name is not there. READ_CHANGED; READ_NOT: the chain is too long. */
static int walk(struct session *session, const struct name *name, bool by_log, struct found *ret)
{
	struct heap *heap = session->heap;
	const uint64_t *link = &heap->name_buckets[name->hash >> heap->name_shift];
	struct found before = {.header = NULL};
	uint64_t position = read_link(heap, link, by_log), hash;

	for (uint32_t n = 0; n < CHAIN_MAX; n++) {
		if (position && !read_entry(session, position, before.position, ret))
			return READ_CHANGED;
		if (!is_same(&before) || read_link(heap, link, by_log) != position)
			return READ_CHANGED;
		if (!position)
			return 0;
		hash = read_once(ret->entry->hash);
		if (name_is(ret->entry, entry_length(ret->word), name))
			return 1;
		if (!is_same(ret))
			return READ_CHANGED;
		if (hash > name->hash)
			return 0;
		before = *ret;
		link = &before.entry->next;
		position = read_link(heap, link, by_log);
	}
	return READ_NOT;
}

static NAME_RARE void remember(const struct session *session, const struct name *name, const struct found *found)
{
	if (!session->cache->is_mine)
		return;
	*cache_name(session->cache, name->hash) = (struct cached_name){
		.hash = name->hash,
		.entry = found->entry,
		.entry_header = found->header,
		.entry_word = found->word,
		.entry_position = found->position,
		.entry_identity = found->identity,
	};
}

/* The cache has the entry, and it is the same still. An entry's name never changes. */
static inline bool find_cached(struct session *session, const struct name *name, struct found *ret)
{
	const struct cached_name *cached = cache_name(session->cache, name->hash);

	if (!cached->entry || cached->hash != name->hash)
		return false;
	*ret = (struct found){
		.entry = cached->entry,
		.header = cached->entry_header,
		.word = cached->entry_word,
		.position = cached->entry_position,
		.identity = cached->entry_identity,
	};
	return NAME_LIKELY(uncounted_read_at(session, ret->position, 0) &&
			   lookup_is_still(session, ret->position, &(struct lookup){NULL, ret->identity, 0}) &&
			   is_same(ret) && name_is(ret->entry, entry_length(ret->word), name));
}

/* One attempt. 0, -ENOENT; READ_CHANGED, READ_NOT. */
static inline int attempt(struct session *session, const struct name *name, bool by_log, uint64_t *ret)
{
	uint64_t roll_backs = log_n_roll_backs(session->heap), ref = 0;
	struct found found;
	struct place place;
	int r;

	if (!uncounted_begin(session))
		return READ_NOT;
	r = !by_log && find_cached(session, name, &found);
	if (!r) {
		r = walk(session, name, by_log, &found);
		if (r == 1)
			remember(session, name, &found);
	}
	if (r != 1) {
		uncounted_end(session);
		if (r == READ_NOT)
			return r;
		return !r && by_log && log_n_roll_backs(session->heap) == roll_backs ? -ENOENT : READ_CHANGED;
	}
	place = (struct place){&found.entry->ref, found.header, found.word, found.position};
	r = read_place(session, &place, by_log, &ref);
	if (!r && !ref)
		return READ_CHANGED;
	if (!r)
		*ret = ref;
	return r;
}

int name_get(struct session *session, const char *bytes, uint64_t *ret)
{
	struct name name;
	int r;

	r = name_parse(session->heap, bytes, &name);
	if (r < 0)
		return r;
	r = hold_reserve(session);
	if (r)
		return r;
	for (int n = 0; n < TRIES_MAX; n++) {
		if (n == 1) /* what is there may be in an arena that this process has not noticed yet */
			heap_refresh_arenas(session->heap);
		r = attempt(session, &name, n >= TRIES_FAST, ret);
		if (r == READ_NOT && !n)
			continue;
		if (NAME_LIKELY(r != READ_CHANGED))
			break;
	}
	return r == READ_CHANGED || r == READ_NOT ? name_get_locked(session, &name, ret) : r;
}
