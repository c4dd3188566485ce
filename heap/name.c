/* SPDX-License-Identifier: MIT */
/*
 * Names of objects
 *
 * A hash table of fixed size in the control segment, whose entries are blocks of SPACE_RECORDS. The hash is keyed, so
 * that nobody can choose names that all meet in one bucket. A bucket's chain ascends by hash, and a bucket is the top
 * bits of the hash: so all names are in one order, in which name_next() walks them whatever comes and goes meanwhile.
 */

#include "heap/name.h"
#include "heap/hold.h"

#include <errno.h>
#include <string.h>

#define NAME_MAX_LENGTH  255U
#define CHAIN_MAX        (UINT32_C(1) << 20) /* a longer chain is a damaged one */
#define BUCKETS_PER_STEP 1024U               /* looked at by name_next() before it lets others have the lock */

/* 63 bits, so that one more than any hash is a cursor. Two keyed rounds of multiply and fold per 8 bytes. */
static uint64_t name_hash(const struct heap *heap, const char *name, size_t length)
{
	uint64_t key[2], chunk, hash;

	memcpy(key, heap->control->name_key, sizeof(key));
	hash = key[0] ^ length;
	for (size_t i = 0; i < length; i += 8) {
		__extension__ unsigned __int128 product;

		chunk = 0;
		memcpy(&chunk, name + i, length - i < 8 ? length - i : 8);
		product = (unsigned __int128)(hash ^ chunk) * (key[1] | 1);
		hash = (uint64_t)product ^ (uint64_t)(product >> 64) ^ key[0];
	}
	hash *= UINT64_C(0x9e3779b97f4a7c15);
	return (hash ^ hash >> 29) >> 1;
}

/* The entry at a position, or NULL where a stray write has spoilt the chain. */
static struct name_entry *entry_at(struct heap *heap, uint64_t position)
{
	struct name_entry *entry;
	struct object object;

	if (object_locate(heap, position, &object) < 0 || object.type != TYPE_NAME ||
		header_state(object.word) != STATE_LIVE || object.size < offsetof(struct name_entry, name))
		return NULL;
	entry = (struct name_entry *)(void *)object.data;
	if (entry->length > NAME_MAX_LENGTH || entry->length != object.size - offsetof(struct name_entry, name))
		return NULL;
	return entry;
}

/*
 * Walk a chain to the first entry that is not before (hash, name): *ret_link is what points to it, *ret the entry or
 * NULL at the end. 1 it is that name, 0 it is not; -EUCLEAN.
 */
static int find(
	struct heap *heap, uint64_t hash, const char *name, size_t length, uint64_t **ret_link, struct name_entry **ret)
{
	uint64_t *link = &heap->name_buckets[hash >> heap->name_shift];

	for (uint32_t i = 0; *link; i++) {
		struct name_entry *entry = entry_at(heap, *link);

		if (!entry || i > CHAIN_MAX)
			return -EUCLEAN;
		*ret = entry;
		*ret_link = link;
		if (entry->hash == hash && entry->length == length && !memcmp(entry->name, name, length))
			return 1;
		if (entry->hash > hash)
			return 0;
		link = &entry->next;
	}
	*ret = NULL;
	*ret_link = link;
	return 0;
}

static int add_entry(
	struct session *session, uint64_t *link, uint64_t hash, const char *name, size_t length, uint64_t ref)
{
	struct heap *heap = session->heap;
	struct name_entry *entry;
	uint64_t entry_ref;
	int r;

	r = memory_take(session, SPACE_RECORDS, offsetof(struct name_entry, name) + length, 0, TYPE_NAME, STATE_LIVE, 1,
		&entry_ref);
	if (r)
		return r;
	/* Nobody reaches the entry before it is linked, so it needs no log. */
	entry = (struct name_entry *)(void *)(heap->base + (ref_position(entry_ref) << 3));
	entry->next = *link;
	entry->ref = ref;
	entry->hash = hash;
	entry->length = (uint16_t)length;
	memcpy(entry->name, name, length);
	heap_set(heap, link, ref_position(entry_ref));
	heap_add(heap, &heap->control->counters.n_names, 1);
	return 0;
}

static int set_in_change(struct session *session, const char *name, size_t length, uint64_t ref)
{
	struct heap *heap = session->heap;
	uint64_t hash = name_hash(heap, name, length);
	struct object new, old;
	struct name_entry *entry;
	uint64_t *link, old_ref;
	int r;

	r = object_find(heap, ref, &new);
	if (!r)
		r = object_retain(session, &new);
	if (r < 0)
		return r;
	r = find(heap, hash, name, length, &link, &entry);
	if (r < 0)
		return r;
	if (!r)
		return add_entry(session, link, hash, name, length, ref);
	old_ref = entry->ref;
	heap_set(heap, &entry->ref, ref);
	return object_find(heap, old_ref, &old) < 0 ? 0 : object_drop(session, &old);
}

int name_set(struct session *session, const char *name, uint64_t ref)
{
	int length, r;

	length = utf8_check(name, NAME_MAX_LENGTH);
	if (length < 0)
		return length;
	r = change_begin(session);
	if (r < 0)
		return r;
	return take_down(session, change_end(session, set_in_change(session, name, (size_t)length, ref)));
}

static int get_in_change(struct session *session, const char *name, size_t length, uint64_t *ret)
{
	struct object object;
	struct name_entry *entry;
	uint64_t *link;
	int r;

	r = find(session->heap, name_hash(session->heap, name, length), name, length, &link, &entry);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	r = object_find(session->heap, entry->ref, &object);
	if (!r)
		r = object_hold(session, entry->ref, &object);
	*ret = entry->ref;
	return r;
}

int name_get(struct session *session, const char *name, uint64_t *ret)
{
	uint64_t ref = 0;
	int length, r;

	length = utf8_check(name, NAME_MAX_LENGTH);
	if (length < 0)
		return length;
	r = hold_reserve(session);
	if (r)
		return r;
	r = change_begin(session);
	if (r < 0)
		return r;
	r = change_end(session, get_in_change(session, name, (size_t)length, &ref));
	if (!r)
		*ret = ref;
	return r;
}

static int del_in_change(struct session *session, const char *name, size_t length)
{
	struct heap *heap = session->heap;
	struct object object;
	struct name_entry *entry;
	uint64_t *link, position, ref;
	int r;

	r = find(heap, name_hash(heap, name, length), name, length, &link, &entry);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	ref = entry->ref;
	position = *link;
	heap_set(heap, link, entry->next);
	heap_add(heap, &heap->control->counters.n_names, -1);
	r = memory_give(session, position);
	if (!r && !object_find(heap, ref, &object))
		r = object_drop(session, &object);
	return r;
}

int name_del(struct session *session, const char *name)
{
	int length, r;

	length = utf8_check(name, NAME_MAX_LENGTH);
	if (length < 0)
		return length;
	r = change_begin(session);
	if (r < 0)
		return r;
	return take_down(session, change_end(session, del_in_change(session, name, (size_t)length)));
}

/* The first name whose hash is *cursor or more, among so many buckets: 1 found, 0 not yet (*cursor moves), -ENOENT
 * none. */
static int next_in_change(struct heap *heap, uint64_t *cursor, char name[256], uint64_t *ret)
{
	uint64_t first = *cursor >> heap->name_shift;

	for (uint64_t b = first; b < first + BUCKETS_PER_STEP; b++) {
		struct name_entry *entry = NULL;
		uint64_t position, n = 0;

		if (b >= heap->n_name_buckets)
			return -ENOENT;
		for (position = heap->name_buckets[b]; position; position = entry->next) {
			entry = entry_at(heap, position);
			if (!entry || n++ > CHAIN_MAX)
				return -EUCLEAN;
			if (entry->hash < *cursor)
				continue;
			memcpy(name, entry->name, entry->length);
			name[entry->length] = '\0';
			*ret = entry->ref;
			*cursor = entry->hash + 1;
			return 1;
		}
		*cursor = (b + 1) << heap->name_shift;
	}
	return 0;
}

int name_next(struct session *session, uint64_t *cursor, char name[256], uint64_t *ret)
{
	int r, found;

	do {
		r = change_begin(session);
		if (r < 0)
			return r;
		found = next_in_change(session->heap, cursor, name, ret);
		r = change_end(session, 0);
	} while (!found && !r);
	return r < 0 ? r : found == -ENOENT ? 0 : found;
}
