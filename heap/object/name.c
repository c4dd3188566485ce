// SPDX-License-Identifier: MIT
/*
 * Names of objects
 *
 * A hash table of fixed size in the control segment. Its entries are blocks of SPACE_RECORDS. The hash is keyed, so
 * that nobody can choose names that all meet in one bucket. A bucket is given by the top bits of the hash, and its
 * chain ascends by hash. So all names have one order, in which name_next() walks them while others come and go.
 *
 * A name's right to an object and the object's count change in one change; the right to the object before, and the
 * entry of a deleted name, go in a second one (displaced.c). A deleted entry names nothing (0) from the first one on.
 */

#include "heap/object/name.h"
#include "heap/change/lock.h"
#include "heap/memory/memory.h"
#include "heap/object/displaced.h"
#include "heap/object/dying.h"
#include "heap/object/hold.h"
#include "heap/object/name_entry.h"
#include "heap/object/utf8.h"

#include <errno.h>
#include <string.h>

#define BUCKETS_PER_STEP 1024U /* that name_next() reads before it lets others have the lock */

/*
 * Two keyed rounds of multiply and fold per 8 bytes. The hash has 63
 * bits, so that a cursor can be one more than any hash.
 */
int name_parse(const struct heap *heap, const char *bytes, struct name *ret)
{
	uint64_t key[2], hash, seen = 0;
	size_t length = strnlen(bytes, NAME_MAX_LENGTH + 1), n;

	if (!length || length > NAME_MAX_LENGTH)
		return utf8_check(bytes, NAME_MAX_LENGTH);
	memcpy(key, heap->control->name_key, sizeof(key));
	hash = key[0] ^ length;
	for (size_t i = 0; i < length; i += n) {
		__extension__ unsigned __int128 product;
		uint64_t chunk;

		n = length - i < 8 ? length - i : 8;
		chunk = name_chunk(bytes, i, n);
		seen |= chunk;
		product = (unsigned __int128)(hash ^ chunk) * (key[1] | 1);
		hash = (uint64_t)product ^ (uint64_t)(product >> 64) ^ key[0];
	}
	if (seen & UINT64_C(0x8080808080808080)) { /* not only ASCII */
		int r = utf8_check(bytes, NAME_MAX_LENGTH);

		if (r < 0)
			return r;
	}
	hash *= UINT64_C(0x9e3779b97f4a7c15);
	*ret = (struct name){bytes, length, (hash ^ hash >> 29) >> 1};
	return 0;
}

/* The entry at a position, with the length of its name, which has room there; NULL: the chain is damaged. */
static inline struct name_entry *entry_at(struct heap *heap, uint64_t position, uint32_t *ret_length)
{
	struct name_entry *entry;
	struct object object;
	uint32_t length;

	if (object_locate_fast(heap, position, &object) < 0)
		return NULL;
	if (object.type != TYPE_NAME || header_state(object.word) != STATE_LIVE ||
		object.size < offsetof(struct name_entry, name))
		return NULL;
	entry = (struct name_entry *)(void *)object.data;
	length = __atomic_load_n(&entry->length, __ATOMIC_RELAXED);
	if (length > NAME_MAX_LENGTH || length != entry_length(object.word))
		return NULL;
	*ret_length = length;
	return entry;
}

/*
 * Walk a chain to the first entry that does not come before the name. *ret_link is what links to it; *ret is the
 * entry, NULL at the end of the chain. 1: it is that name, 0: it is not. -EUCLEAN.
 */
static inline int find_entry(struct heap *heap, const struct name *name, uint64_t **ret_link, struct name_entry **ret)
{
	uint64_t *link = &heap->name_buckets[name->hash >> heap->name_shift], position;
	uint32_t length;

	for (uint32_t i = 0; (position = read_once(*link)) != 0; i++) {
		struct name_entry *entry = entry_at(heap, position, &length);

		if (!entry || i > CHAIN_MAX)
			return -EUCLEAN;
		*ret = entry;
		*ret_link = link;
		if (name_is(entry, length, name))
			return 1;
		if (read_once(entry->hash) > name->hash)
			return 0;
		link = &entry->next;
	}
	*ret = NULL;
	*ret_link = link;
	return 0;
}

static int add_entry(struct session *session, uint64_t *link, const struct name *name, uint64_t ref)
{
	struct heap *heap = session->heap;
	struct name_entry *entry;
	uint64_t entry_ref;
	int r;

	r = memory_take(session, SPACE_RECORDS, offsetof(struct name_entry, name) + name->length, 0, TYPE_NAME,
		STATE_LIVE, RIGHTS_ONE, &entry_ref);
	if (r)
		return r;
	/* Nobody can reach the entry before it is linked, so these stores need no log. */
	entry = (struct name_entry *)(void *)(heap->base + (ref_position(entry_ref) << 3));
	/* relaxed, all: a reader may be looking at what was there before, and finds its header changed */
	__atomic_store_n(&entry->next, *link, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->ref, ref, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->hash, name->hash, __ATOMIC_RELAXED);
	for (size_t k = 0; k < name_n_words(name->length); k++)
		__atomic_store_n((uint64_t *)(void *)&entry->length + k, name_word(name, k), __ATOMIC_RELAXED);
	heap_set(heap, link, ref_position(entry_ref));
	heap_add(heap, &heap->control->counters.n_names, 1);
	return 0;
}

static int set_in_change(struct session *session, const struct name *name, uint64_t ref)
{
	struct heap *heap = session->heap;
	struct object new;
	struct name_entry *entry;
	uint64_t *link, old_ref;
	int r;

	r = object_find(heap, ref, &new);
	if (!r)
		r = right_retain(session, &new);
	if (r < 0)
		return r;
	r = find_entry(heap, name, &link, &entry);
	if (r < 0)
		return r;
	if (!r)
		return add_entry(session, link, name, ref);
	old_ref = entry->ref;
	heap_set(heap, &entry->ref, ref);
	return displaced_drop(session, old_ref, 0);
}

int name_set(struct session *session, const char *bytes, uint64_t ref)
{
	struct name name;
	int r;

	r = name_parse(session->heap, bytes, &name);
	if (r < 0)
		return r;
	r = change_begin(session);
	if (r < 0)
		return r;
	return dying_free(session, change_end(session, set_in_change(session, &name, ref)));
}

static int get_in_change(struct session *session, const struct name *name, uint64_t *ret)
{
	struct name_entry *entry;
	struct object object;
	uint64_t *link;
	int r;

	r = find_entry(session->heap, name, &link, &entry);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*ret = read_once(entry->ref);
	r = object_find(session->heap, *ret, &object);
	return r ? r : right_hold(session, *ret, &object);
}

int name_get_locked(struct session *session, const struct name *name, uint64_t *ret)
{
	uint64_t ref = 0;
	int r;

	r = change_begin(session);
	if (r < 0)
		return r;
	r = change_end(session, get_in_change(session, name, &ref));
	if (!r)
		*ret = ref;
	return r;
}

static int del_in_change(struct session *session, const struct name *name)
{
	struct heap *heap = session->heap;
	struct name_entry *entry;
	uint64_t *link, position, ref;
	int r;

	r = find_entry(heap, name, &link, &entry);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	ref = entry->ref;
	position = *link;
	heap_set(heap, link, entry->next);
	heap_set(heap, &entry->ref, 0);
	heap_add(heap, &heap->control->counters.n_names, -1);
	return displaced_drop(session, ref, position + 1);
}

int name_del(struct session *session, const char *bytes)
{
	struct name name;
	int r;

	r = name_parse(session->heap, bytes, &name);
	if (r < 0)
		return r;
	r = change_begin(session);
	if (r < 0)
		return r;
	return dying_free(session, change_end(session, del_in_change(session, &name)));
}

/*
 * The first name with a hash of at least *cursor, in the next BUCKETS_PER_STEP buckets. 1: found, 0: not yet, and
 * *cursor has moved. -ENOENT: there is none.
 */
static int next_in_change(struct heap *heap, uint64_t *cursor, char name[256], uint64_t *ret)
{
	uint64_t first = *cursor >> heap->name_shift;

	uint64_t n = 0; /* of all buckets: in an undamaged heap only the first has entries before the cursor */

	for (uint64_t b = first; b < first + BUCKETS_PER_STEP; b++) {
		struct name_entry *entry = NULL;
		uint64_t position, hash;
		uint32_t length;

		if (b >= heap->n_name_buckets)
			return -ENOENT;
		for (position = read_once(heap->name_buckets[b]); position; position = read_once(entry->next)) {
			entry = entry_at(heap, position, &length);
			if (!entry || n++ > CHAIN_MAX)
				return -EUCLEAN;
			hash = __atomic_load_n(&entry->hash, __ATOMIC_RELAXED);
			if (hash < *cursor)
				continue;
			if (hash >> heap->name_shift != b)
				return -EUCLEAN; /* the walk would never end */
			memcpy(name, entry->name, length);
			name[length] = '\0';
			*ret = entry->ref;
			*cursor = hash + 1;
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
