/* SPDX-License-Identifier: MIT */
/*
 * Objects: refs checked, objects made, held, dropped and taken down
 *
 * Who has a right to an object is counted in its header: how often the session that owns its pool holds it in the one
 * word, all others in the other (a session that holds it by its hold table counts once, however often; each slot, queue
 * place and name counts once). The first is the owner's own affair (own.c). The second has two parts that are added:
 * one is changed by claiming it under the lock, here, or by who it is biased to (count.c); to the other the owner alone
 * adds what it gives away (queue.c), so that neither overwrites what the other one does.
 *
 * When nobody has a right any more the object goes at once if it has no slots; else it turns DYING and goes on the
 * dying list of the session that dropped it, linked through the second words. That session takes its list down after
 * the change, in changes of at most DROP_STEP slots each, so that the lock is never held long and no stack grows
 * however deep the lists. What a slot held and is not dropped yet still counts. A session that dies leaves its list to
 * the daemon, which goes on where it stopped.
 *
 * Making an object is one store, of its header's word (own.c). One that is too long for that way is made in one change,
 * or, where slots have to be cleared, in two: the object is MAKING, written down in the session's entry, while its
 * slots are cleared outside of the lock; then it is LIVE and held. Died in between, the daemon frees what the entry
 * names.
 */

#include "heap/object/object.h"
#include "heap/memory/memory.h"
#include "heap/object/header_lock.h"
#include "heap/object/hold.h"

#include <errno.h>
#include <string.h>

#define DROP_STEP   64U /* slots dropped in one change */
#define OBJECT_RARE __attribute__((noinline))

/* ---- refs -------------------------------------------------------------------------------------------------------- */

static int locate_run(const struct heap *heap, struct pool_entry *pool, uint64_t off, struct object *ret)
{
	uint64_t size;

	/* Its owner may be making another object of it. acquire: with the release in own_begin(), so that the size is
	 * not older than the word. */
	ret->word = __atomic_load_n(&pool->header.word, __ATOMIC_ACQUIRE);
	size = __atomic_load_n(&pool->run_size, __ATOMIC_RELAXED);
	if (off & (POOL_SIZE - 1))
		return -ESTALE;
	if (pool->run_n_pools > (heap->heap_size - off) >> POOL_SHIFT || size > (uint64_t)pool->run_n_pools
											 << POOL_SHIFT)
		return -EUCLEAN;
	ret->header = &pool->header;
	ret->size = size;
	ret->is_run = true;
	return 0;
}

static int locate_block(struct heap *heap, struct pool_entry *pool, uint64_t off, struct object *ret)
{
	uint32_t size_class = pool->size_class, block1;

	if (size_class >= N_CLASSES)
		return -EUCLEAN;
	block1 = block_at_position(size_class, off >> 3);
	if (!block1)
		return -ESTALE;
	ret->header = pool_headers(heap, pool) + (block1 - 1);
	ret->is_run = false;
	return 0;
}

int object_locate(struct heap *heap, uint64_t position, struct object *ret)
{
	uint64_t off = position << 3;
	uint32_t state;
	int r;

	if (off >= heap->heap_size || !arena_is_there(heap, (uint32_t)(off >> heap->arena_shift)))
		return -ESTALE;
	/* object_locate_block() was called in vain, perhaps for not knowing it. Relaxed: as there. */
	if (off >> POOL_SHIFT >= __atomic_load_n(&heap->n_pools_known, __ATOMIC_RELAXED))
		heap_refresh_arenas(heap);
	state = arena_state(&heap->arenas[off >> heap->arena_shift]);
	if (state != ARENA_POOLS && state != ARENA_RUN)
		return -ESTALE;
	ret->pool = &heap->pools[off >> POOL_SHIFT];
	ret->position = position;
	ret->data = heap->base + off;
	if (ret->pool->kind == POOL_RUN)
		r = locate_run(heap, ret->pool, off, ret);
	else if (ret->pool->kind == POOL_BLOCKS)
		r = locate_block(heap, ret->pool, off, ret);
	else
		r = -ESTALE;
	if (r)
		return r;
	if (!ret->is_run)
		ret->word = __atomic_load_n(&ret->header->word, __ATOMIC_ACQUIRE); /* as in object_locate_block() */
	ret->type = header_type(ret->word);
	if (ret->is_run)
		return 0;
	/* Of a free block these bits are a link. */
	ret->size = header_state(ret->word) == STATE_FREE ? 0 : header_size(ret->word);
	return ret->size <= class_shapes[ret->pool->size_class & (N_CLASSES - 1)].size ? 0 : -EUCLEAN;
}

int object_match(struct heap *heap, uint64_t ref, struct object *ret)
{
	int r;

	if (!ref_generation(ref) || ref_position(ref) << 3 >= heap->heap_size)
		return -EINVAL;
	r = object_locate(heap, ref_position(ref), ret);
	if (r < 0)
		return r;
	if (header_generation(ret->word) != ref_generation(ref) || header_state(ret->word) != STATE_LIVE)
		return -ESTALE;
	return ret->type == TYPE_HOLDS || ret->type == TYPE_NAME ? -EINVAL : 0;
}

/* relaxed: who is not sure that it stays alive has the lock; between two stores its owner may be letting go */
static bool has_rights(const struct object *object)
{
	return header_own(object->word) || rights_count(__atomic_load_n(&object->header->rights, __ATOMIC_RELAXED));
}

/* The next most frequent: a run in an arena of pools. False: object_find_block() has said what that means. */
static bool find_run(const struct heap *heap, uint64_t ref, struct object *ret)
{
	uint64_t position = ref_position(ref), off = position << 3;

	/* As in object_locate_block(). */
	if (off & (POOL_SIZE - 1) || off >> POOL_SHIFT >= __atomic_load_n(&heap->n_pools_known, __ATOMIC_RELAXED) ||
		arena_state(&heap->arenas[off >> heap->arena_shift]) != ARENA_POOLS)
		return false;
	ret->pool = &heap->pools[off >> POOL_SHIFT];
	if (ret->pool->kind != POOL_RUN || locate_run(heap, ret->pool, off, ret) < 0)
		return false;
	ret->position = position;
	ret->data = heap->base + off;
	ret->type = header_type(ret->word);
	return ref_generation(ref) && header_is(ret->word, ref_generation(ref), STATE_LIVE) &&
	       ret->type != TYPE_HOLDS && ret->type != TYPE_NAME && has_rights(ret);
}

int object_find_other(struct heap *heap, uint64_t ref, struct object *ret)
{
	int r;

	if (find_run(heap, ref, ret))
		return 0;
	r = object_match(heap, ref, ret);
	return r < 0 || has_rights(ret) ? r : -ESTALE;
}

int object_find(struct heap *heap, uint64_t ref, struct object *ret)
{
	return object_find_block(heap, ref, ret) ? 0 : object_find_other(heap, ref, ret);
}

int object_lookup(struct session *session, uint64_t ref, struct object *ret)
{
	int r;

	if (object_is_held_unlocked(session, ref))
		return object_find_fast(session->heap, ref, ret);
	r = change_begin(session);
	if (r < 0)
		return r;
	return change_end(session, object_find(session->heap, ref, ret));
}

void object_remember(struct session *session, uint64_t ref, const struct object *object)
{
	struct cached_object *cached = cache_object(session->cache, ref);
	struct own_object own;

	if (own_lookup(session, ref, &own) && header_own(own.word))
		own_remember(session, ref, &own);
	else if (hold_find(session, ref))
		session_cache_held(session, ref, object->type != TYPE_QUEUE, object->header);
	if (cached->ref != ref || object->type != TYPE_QUEUE)
		return;
	cached->queue = (struct queue *)(void *)object->data;
	cached->n_cells = cached->queue->n;
	cached->held_header = object->header;
}

bool object_is_held_unlocked(struct session *session, uint64_t ref)
{
	struct own_object own;

	return hold_find(session, ref) || (own_lookup(session, ref, &own) && header_own(own.word));
}

bool object_is_held(const struct session *session, uint64_t ref)
{
	struct own_object own;

	return hold_find(session, ref) || (own_find(session, ref, &own) && header_own(own.word));
}

/* ---- counts ------------------------------------------------------------------------------------------------------ */

/*
 * A right to what its owner may have told nobody of: it frees such an object without the lock, so it has to be made
 * sure that it sees this right, or that this change sees that it let go. See own.c.
 */
static OBJECT_RARE int retain_unshared(struct session *session, struct object what)
{
	struct heap *heap = session->heap;
	uint32_t owner1 = what.pool->owner1;
	uint64_t word;
	int r;

	if (!owner1 || owner1 == session->owner1 || owner1 > heap->n_sessions)
		return 0;
	critical_request(heap, owner1 - 1, REQUEST_STRANGER);
	r = critical_barrier(heap);
	if (r < 0)
		return r;
	word = __atomic_load_n(&what.header->word, __ATOMIC_ACQUIRE);
	if (header_generation(word) != header_generation(what.word) || header_state(word) != STATE_LIVE)
		return -ESTALE;
	/* relaxed: after the word; what the owner gave away before it let go. The right that was just taken is one. */
	return header_own(word) || rights_count(__atomic_load_n(&what.header->rights, __ATOMIC_RELAXED)) > 1 ? 0
													     : -ESTALE;
}

/* Claimed: the log need not be told. */
static inline void counted_store(const struct object *what, uint32_t counted)
{
	__atomic_store_n(&what->header->rights_counted, counted, __ATOMIC_RELAXED);
}

/* Claimed, and the session's own: what it gave away without the lock is counted with the rest before it is too much. */
static OBJECT_RARE void count_given(struct session *session, struct object_header *header)
{
	uint32_t counted = header->rights_counted + header->rights_given * RIGHTS_ONE;

	heap_set(session->heap, &header->rights, counted | RIGHTS_SHARED);
}

OBJECT_INLINE int retain(struct session *session, const struct object *what)
{
	uint64_t rights;
	int r;

	r = header_lock(session, what->header, object_ref(what));
	if (r < 0)
		return r;
	rights = header_rights(what->header);
	if (rights_count(rights) == RIGHTS_MAX)
		return -EOVERFLOW;
	if (rights >> 48 > RIGHTS_GIVEN_MAX / 2 && what->pool->owner1 == session->owner1)
		count_given(session, what->header);
	counted_store(what, rights_more((uint32_t)header_rights(what->header)));
	return rights_are_shared(rights) ? 0 : retain_unshared(session, *what);
}

int object_retain(struct session *session, const struct object *what)
{
	return retain(session, what);
}

static void dying_push(struct session *session, const struct object *what)
{
	struct heap *heap = session->heap;

	heap_set(heap, &what->header->word, header_with_state(header_word(what->header), STATE_DYING));
	heap_set(heap, &what->header->rights, rights_of_dying(session->entry->dying1));
	heap_set(heap, &session->entry->dying1, what->position + 1);
}

int object_end(struct session *session, const struct object *what)
{
	struct type_info type;

	/* Most are bytes, which have no slots. */
	if (what->type == TYPE_BYTES || type_find(session->heap, what->type, &type) < 0 || !object_n_slots(what, &type))
		return memory_give(session, what->position);
	dying_push(session, what);
	return 0;
}

/* By value, as a caller that keeps *what in registers can go on doing so. */
static OBJECT_RARE int end_copy(struct session *session, struct object what)
{
	return object_end(session, &what);
}

/*
 * After a count has fallen. The owner may be letting go at this moment: then it sees that the other count is 0; or
 * giving it away: then its hold or the right that it has given is seen here, as the word is looked at first.
 */
OBJECT_INLINE int end_if_last(struct session *session, const struct object *what)
{
	/* acquire: with the release in own_let_go(), see block_remote_free(), and in queue.c */
	uint64_t word = __atomic_load_n(&what->header->word, __ATOMIC_ACQUIRE);

	if (header_own(word) || rights_count(header_rights(what->header)))
		return 0;
	return end_copy(session, *what);
}

OBJECT_INLINE int drop_right(struct session *session, const struct object *what)
{
	int r = header_lock(session, what->header, object_ref(what));

	if (r < 0)
		return r == -ESTALE ? -EUCLEAN : r; /* there was a right to it */
	if (!rights_count(header_rights(what->header)))
		return -EUCLEAN;
	counted_store(what, rights_less((uint32_t)header_rights(what->header)));
	return end_if_last(session, what);
}

int object_drop(struct session *session, const struct object *what)
{
	return drop_right(session, what);
}

/* Of the session's own object that it holds by the header's word. */
static void own_hold_less(struct session *session, uint64_t ref, struct object_header *header)
{
	struct heap *heap = session->heap;
	uint64_t word = header_word(header);

	heap_set(heap, &header->word, word - 1);
	if (header_own(word) != 1)
		return;
	heap_add(heap, &session->entry->n_own_holds, -1);
	cache_forget(session->cache, ref);
}

int object_hold(struct session *session, uint64_t ref, const struct object *what)
{
	bool first;
	int r;

	if (object_is_held_by_word(session, what) && header_own(header_word(what->header)) < OWN_HOLDS_MAX) {
		r = header_lock(session, what->header, ref); /* the word is logged, and others change it, too */
		if (!r)
			heap_set(session->heap, &what->header->word, header_word(what->header) + 1);
		return r;
	}
	r = hold_put(session, hold_probe(session, ref), ref, &first);
	return !r && first ? retain(session, what) : r;
}

int object_pass_on(struct session *session, uint64_t ref, const struct object *what, struct hold *hold)
{
	int r;

	if (hold && hold_remove(session, hold)) /* the right that it had by its table is the one that is passed on */
		return 0;
	r = retain(session, what);
	if (!r && !hold)
		own_hold_less(session, ref, what->header);
	return r;
}

int object_drop_held(struct session *session, uint64_t ref, struct hold *hold)
{
	struct object object;
	int r;

	r = object_find_fast(session->heap, ref, &object);
	if (r < 0)
		return r;
	if (hold)
		return hold_remove(session, hold) ? drop_right(session, &object) : 0;
	if (!object_is_held_by_word(session, &object))
		return -EPERM;
	r = header_lock(session, object.header, ref);
	if (r < 0)
		return r;
	own_hold_less(session, ref, object.header);
	return end_if_last(session, &object);
}

/* ---- taking down ------------------------------------------------------------------------------------------------- */

static int drop_slot(struct session *session, const uint64_t *slot)
{
	uint64_t ref = __atomic_load_n(slot, __ATOMIC_RELAXED);
	struct object child;

	/* What a stray write put there names nothing and is passed over. */
	if (!ref || object_find(session->heap, ref, &child) < 0)
		return 0;
	return object_drop(session, &child);
}

/* The next slots of the first dying object; when they are the last, it comes off the list before its children come on.
 */
static int deferred_free_some(struct session *session)
{
	struct heap *heap = session->heap;
	struct object object;
	struct type_info type;
	uint64_t i, n, end;
	int r;

	r = object_locate(heap, session->entry->dying1 - 1, &object);
	if (r < 0 || header_state(header_word(object.header)) != STATE_DYING || type_find(heap, object.type, &type) < 0)
		return -EUCLEAN;
	n = object_n_slots(&object, &type);
	i = object.is_run ? object.pool->run_n_dropped : 0;
	if (i > n)
		i = n; /* a stray write was there */
	end = object.is_run && n - i > DROP_STEP ? i + DROP_STEP : n;
	if (end == n)
		heap_set(heap, &session->entry->dying1, rights_next_dying1(object.header->rights));
	else
		heap_set(heap, &object.pool->run_n_dropped, end);
	for (; i < end; i++) {
		r = drop_slot(session, object_slot(&object, &type, i));
		if (r < 0)
			return r;
	}
	return end == n ? memory_give(session, object.position) : 0;
}

int dying_step(struct session *session, bool try)
{
	int r;

	if (!session->entry->dying1)
		return 0;
	r = try ? change_try_begin(session) : change_begin(session);
	if (r < 0)
		return r;
	r = session->entry->dying1 ? deferred_free_some(session) : 0;
	r = change_end(session, r);
	return r < 0 ? r : 1;
}

void deferred_free_all(struct session *session)
{
	while (session->entry->dying1 && dying_step(session, false) > 0)
		;
}

/* ---- making: what is too long for own.c -------------------------------------------------------------------------- */

/* In one change. */
static int make_at_once(
	struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret)
{
	struct object object;
	uint64_t ref;
	int r;

	r = memory_take(session, SPACE_OBJECTS, size, info->alignment, type, STATE_LIVE, 0, &ref);
	if (r)
		return r;
	r = object_locate(session->heap, ref_position(ref), &object);
	if (r < 0)
		return r;
	heap_set(session->heap, &object.header->word, header_word(object.header) + 1);
	heap_add(session->heap, &session->entry->n_own_holds, 1);
	*ret = ref;
	return 0;
}

static int make_begin(struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret)
{
	int r;

	r = memory_take(session, SPACE_OBJECTS, size, info->alignment, type, STATE_MAKING, 0, ret);
	if (r)
		return r;
	heap_set(session->heap, &session->entry->making1, ref_position(*ret) + 1);
	return 0;
}

static int make_finish(struct session *session, const struct object *object)
{
	struct heap *heap = session->heap;

	heap_set(heap, &object->header->word, header_with_state(header_word(object->header), STATE_LIVE) + 1);
	heap_set(heap, &session->entry->making1, 0);
	heap_add(heap, &session->entry->n_own_holds, 1);
	return 0;
}

static int make_in_two(struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret)
{
	struct object object;
	uint64_t ref;
	int r;

	r = change_begin(session);
	if (r < 0)
		return r;
	r = change_end(session, make_begin(session, type, info, size, &ref));
	if (r)
		return r;
	/* Nobody else can reach it now, so neither lock nor log. */
	r = object_locate(session->heap, ref_position(ref), &object);
	if (r < 0)
		return r;
	type_clear_slots(info, object.data, object.size);
	r = change_begin(session);
	if (r < 0)
		return r;
	r = change_end(session, make_finish(session, &object));
	if (!r)
		*ret = ref;
	return r;
}

int making_drop(struct session *session)
{
	uint64_t position = session->entry->making1 - 1;
	struct object object;

	heap_set(session->heap, &session->entry->making1, 0);
	if (object_locate(session->heap, position, &object) < 0 ||
		header_state(header_word(object.header)) != STATE_MAKING)
		return 0;
	return memory_give(session, position);
}

/* Only where the heap is damaged can a making before this one have failed between its two changes. */
static int make_room_for_making(struct session *session)
{
	int r;

	if (!session->entry->making1)
		return 0;
	r = change_begin(session);
	return r < 0 ? r : change_end(session, making_drop(session));
}

static int make_long(struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret)
{
	int r;

	r = make_room_for_making(session);
	if (r)
		return r;
	if (info->stride || info->n_slots)
		return make_in_two(session, type, info, size, ret);
	r = change_begin(session);
	if (r < 0)
		return r;
	return change_end(session, make_at_once(session, type, info, size, ret));
}

static int make(struct session *session, uint32_t type, const struct type_info *info, size_t size, uint64_t *ret)
{
	int r;

	session->n_collections = 0;
	while ((r = own_new(session, type, info, size, ret)) == OWN_NOT) {
		r = own_refill(session, size, info->alignment);
		if (r == OWN_NOT)
			return make_long(session, type, info, size, ret);
		if (r)
			return r;
	}
	return r;
}

int object_new(struct session *session, uint32_t type, size_t size, uint64_t *ret)
{
	struct type_info info;
	int r;

	if (type == TYPE_BYTES && size - 1 < BLOCK_SIZE_MAX && /* 0 is very large */
		own_new_bytes(session, (size - 1) >> 3, size, ret, &r))
		return r;
	if (type == TYPE_QUEUE)
		return -EINVAL;
	r = type_find(session->heap, type, &info);
	if (r < 0)
		return r;
	if (type == TYPE_LIST && size % 8)
		return -EINVAL;
	if (!size)
		size = info.size;
	if (size < info.size)
		return -EINVAL;
	if (size > session->heap->heap_size)
		return -ENOMEM;
	return make(session, type, &info, size, ret);
}

int queue_new(struct session *session, size_t n, uint64_t *ret)
{
	struct type_info info;
	struct object object;
	uint64_t ref;
	int r;

	if (!n)
		return -EINVAL;
	if (n > session->heap->heap_size / sizeof(struct cell))
		return -ENOMEM;
	r = type_find(session->heap, TYPE_QUEUE, &info);
	if (r < 0)
		return r;
	/* Until it has its number of places it is a queue of none: an all-zero payload, harmless to whoever finds it.
	 */
	r = make(session, TYPE_QUEUE, &info, sizeof(struct queue) + n * sizeof(struct cell), &ref);
	if (r)
		return r;
	r = object_find(session->heap, ref, &object);
	if (r < 0)
		return r;
	__atomic_store_n(&((struct queue *)(void *)object.data)->n, n, __ATOMIC_RELEASE);
	*ret = ref;
	return 0;
}
