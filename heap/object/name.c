// SPDX-License-Identifier: MIT
/*
 * Names of objects
 *
 * A hash table of fixed size in the control segment. Its entries are blocks of SPACE_RECORDS. The hash is keyed, so
 * that nobody can choose names that all meet in one bucket. A bucket is given by the top bits of the hash, and its
 * chain ascends by hash. So all names have one order, in which name_next() walks them while others come and go.
 *
 * A name's right to an object and the object's count change in one change.
 */

#include "heap/object/name.h"
#include "heap/change/lock.h"
#include "heap/memory/memory.h"
#include "heap/object/dying.h"
#include "heap/object/hold.h"
#include "heap/object/utf8.h"

#include <errno.h>
#include <string.h>

#define CHAIN_MAX        (UINT32_C(1) << 20) /* a longer chain is damaged */
#define BUCKETS_PER_STEP 1024U               /* that name_next() reads before it lets others have the lock */

#define NAME_LIKELY(x) __builtin_expect(!!(x), 1)
#define NAME_RARE      __attribute__((noinline))

/* A name as a caller gives it. */
struct name {
	const char *bytes;
	size_t length;
	uint64_t hash;
};

/* Bytes i to i + n - 1 (n is 1..8) as the low bytes of a word, without reading any others of the name. */
static inline uint64_t name_chunk(const char *bytes, size_t i, size_t n)
{
	uint64_t chunk = 0, high = 0;

	if (n == 8)
		memcpy(&chunk, bytes + i, 8);
	else if (i) { /* the last bytes: those before them are shifted out */
		memcpy(&chunk, bytes + i + n - 8, 8);
		chunk >>= (8 - n) * 8;
	} else if (n >= 4) { /* two halves that overlap */
		memcpy(&chunk, bytes, 4);
		memcpy(&high, bytes + n - 4, 4);
		chunk |= high << (n - 4) * 8;
	} else
		chunk = (uint64_t)(uint8_t)bytes[0] | (uint64_t)(uint8_t)bytes[n / 2] << n / 2 * 8 |
			(uint64_t)(uint8_t)bytes[n - 1] << (n - 1) * 8;
	return chunk;
}

/*
 * Check and hash a name. Errors as utf8_check(). Two keyed rounds of multiply and fold per 8 bytes. The hash has 63
 * bits, so that a cursor can be one more than any hash.
 */
static int name_read(const struct heap *heap, const char *bytes, struct name *ret)
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

/* length: of the entry, as entry_at() found it. */
static inline bool name_is(const struct name_entry *entry, uint32_t length, const struct name *name)
{
	if (read_once(entry->hash) != name->hash || length != name->length)
		return false;
	for (size_t i = 0, n; i < name->length; i += n) {
		n = name->length - i < 8 ? name->length - i : 8;
		if (name_chunk(entry->name, i, n) != name_chunk(name->bytes, i, n))
			return false;
	}
	return true;
}

/* Of an entry whose header has that word: a block of records is as long as what it was made for. */
static inline uint32_t entry_length(uint64_t word)
{
	return header_size(word) - (uint32_t)offsetof(struct name_entry, name);
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
	entry->next = *link;
	entry->ref = ref;
	entry->hash = name->hash;
	entry->length = (uint16_t)name->length;
	memcpy(entry->name, name->bytes, name->length);
	heap_set(heap, link, ref_position(entry_ref));
	heap_add(heap, &heap->control->counters.n_names, 1);
	return 0;
}

static int set_in_change(struct session *session, const struct name *name, uint64_t ref)
{
	struct heap *heap = session->heap;
	struct object new, old;
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
	return object_find(heap, old_ref, &old) < 0 ? 0 : right_drop(session, &old);
}

int name_set(struct session *session, const char *bytes, uint64_t ref)
{
	struct name name;
	int r;

	r = name_read(session->heap, bytes, &name);
	if (r < 0)
		return r;
	r = change_begin(session);
	if (r < 0)
		return r;
	return dying_free(session, change_end(session, set_in_change(session, &name, ref)));
}

/* May that pool have an object whose header can be read? A large object's header is in the control segment. */
static inline bool is_of_objects(const struct heap *heap, uint64_t pool)
{
	static_assert(ARENA_RUN == ARENA_POOLS + 1, "one comparison");
	return arena_state(&heap->arenas[pool >> (heap->arena_shift - POOL_SHIFT)]) - ARENA_POOLS <= 1U;
}

/* Is that pool in an arena of pools, so that its memory can be read? */
static inline bool is_of_pools(const struct heap *heap, uint64_t pool)
{
	return arena_state(&heap->arenas[pool >> (heap->arena_shift - POOL_SHIFT)]) == ARENA_POOLS;
}

/*
 * The name is in the cache, and neither its entry nor its object has changed: *ret has what right_hold() needs. An
 * entry that is alive with the same generation is the same entry, whose name never changes; and it keeps the object
 * alive where it was. False: search for it.
 */
static inline bool find_cached(
	const struct session *session, const struct cached_name *cached, const struct name *name, struct object *ret)
{
	const struct heap *heap = session->heap;

	if (!cached->ref || cached->hash != name->hash || !NAME_LIKELY(is_of_pools(heap, cached->entry_pool)) ||
		!NAME_LIKELY(is_of_objects(heap, ref_position(cached->ref) >> (POOL_SHIFT - 3))))
		return false;
	if (!NAME_LIKELY(heap->pools[cached->entry_pool].identity == cached->entry_identity &&
			 cached->entry_header->word == cached->entry_word &&
			 name_is(cached->entry, entry_length(cached->entry_word), name) &&
			 cached->entry->ref == cached->ref))
		return false;
	ret->header = cached->header;
	ret->pool = cached->pool;
	ret->position = ref_position(cached->ref);
	ret->word = header_word(ret->header);
	ret->type = header_type(ret->word);
	return NAME_LIKELY(header_is(ret->word, ref_generation(cached->ref), STATE_LIVE) &&
			   /* relaxed: the owner may be giving rights away */
			   rights_count(__atomic_load_n(&ret->header->rights, __ATOMIC_RELAXED)));
}

/* Put a name and its object into the cache. `position` is that of the entry. */
static NAME_RARE void remember(
	const struct session *session, uint64_t position, const struct name *name, struct object object)
{
	const struct heap *heap = session->heap;
	struct object entry;

	if (!session->cache->is_mine || !is_of_objects(heap, pool_index(heap, object.pool)) ||
		!object_locate_block(heap, position, &entry))
		return;
	*cache_name(session->cache, name->hash) = (struct cached_name){
		.hash = name->hash,
		.entry = (const struct name_entry *)(const void *)entry.data,
		.entry_header = entry.header,
		.entry_word = entry.word,
		.ref = ref_make(object.position, header_generation(object.word)),
		.header = object.header,
		.pool = object.pool,
		.entry_pool = pool_index(heap, entry.pool),
		.entry_identity = entry.pool->identity,
	};
}

static inline int search(struct session *session, const struct name *name, uint64_t *ret, struct object *ret_object)
{
	struct name_entry *entry;
	uint64_t *link;
	int r;

	r = find_entry(session->heap, name, &link, &entry);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*ret = entry->ref;
	r = object_find_fast(session->heap, *ret, ret_object);
	if (!r)
		remember(session, *link, name, *ret_object);
	return r;
}

static inline int get_in_change(struct session *session, const struct name *name, uint64_t *ret, uint32_t *ret_type)
{
	const struct cached_name *cached = cache_name(session->cache, name->hash);
	struct object object;
	int r;

	if (NAME_LIKELY(find_cached(session, cached, name, &object)))
		*ret = cached->ref;
	else {
		r = search(session, name, ret, &object);
		if (r)
			return r;
	}
	*ret_type = object.type;
	return right_hold(session, *ret, &object);
}

int name_get(struct session *session, const char *bytes, uint64_t *ret)
{
	struct name name;
	uint64_t ref = 0;
	uint32_t type = TYPE_NONE;
	int r;

	r = name_read(session->heap, bytes, &name);
	if (r < 0)
		return r;
	r = hold_reserve(session);
	if (r)
		return r;
	r = change_begin(session);
	if (r < 0)
		return r;
	r = change_end(session, get_in_change(session, &name, &ref, &type));
	if (r)
		return r;
	session_cache_held(session, ref, type != TYPE_QUEUE, NULL);
	*ret = ref;
	return 0;
}

static int del_in_change(struct session *session, const struct name *name)
{
	struct heap *heap = session->heap;
	struct object object;
	struct name_entry *entry;
	uint64_t *link, position, ref;
	int r;

	r = find_entry(heap, name, &link, &entry);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	ref = entry->ref;
	position = *link;
	heap_set(heap, link, entry->next);
	heap_add(heap, &heap->control->counters.n_names, -1);
	r = memory_give(session, position);
	if (!r && !object_find(heap, ref, &object))
		r = right_drop(session, &object);
	return r;
}

int name_del(struct session *session, const char *bytes)
{
	struct name name;
	int r;

	r = name_read(session->heap, bytes, &name);
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
