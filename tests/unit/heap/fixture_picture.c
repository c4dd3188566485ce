// SPDX-License-Identifier: MIT
/*
 * A heap with a little of everything, and pictures of it that are compared byte by byte
 */
#include "tests/unit/heap/fixture_picture.h"

#include <sys/mman.h>

uint64_t bytes, inner, list, queue, named, known, run, lent, lent_run, lent_large;
uint64_t unowned, unowned_full, unowned_alone;
uint64_t full[7];

/* A picture of the heap. */

static void *allocate(uint64_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	return p;
}

static void copy_arenas(uint8_t *to, const uint8_t *from)
{
	for (uint32_t i = 0; i < fx.heap->n_arenas; i++)
		if (arena_is_there(fx.heap, i))
			memcpy(to + ((uint64_t)i << fx.heap->arena_shift), from + ((uint64_t)i << fx.heap->arena_shift),
				fx.heap->arena_size);
}

struct picture picture_take(void)
{
	struct picture p = {allocate(fx.heap->control_size), allocate(fx.heap->heap_size)};

	memcpy(p.control, fx.heap->control, fx.heap->control_size);
	copy_arenas(p.window, fx.heap->base);
	return p;
}

void picture_restore(const struct picture *p)
{
	const uint64_t lock = offsetof(struct control, lock), end = lock + sizeof(struct global_lock);

	memcpy(fx.heap->control, p->control, lock);
	memcpy((uint8_t *)fx.heap->control + end, p->control + end, fx.heap->control_size - end);
	copy_arenas(fx.heap->base, p->window);
}

void picture_free(struct picture *p)
{
	munmap(p->control, fx.heap->control_size);
	munmap(p->window, fx.heap->heap_size);
}

static bool is_in(uint64_t i, uint64_t off, uint64_t size)
{
	return i >= off && i < off + size;
}

/* Byte i is of an intent that is over, in the picture and now. */
static bool is_remains_of_intent(const struct picture *p, uint64_t i)
{
	const struct control *c = fx.heap->control;
	uint64_t in_session = (i - c->sessions_off) % sizeof(struct session_entry);
	const struct session_entry *entry = (const void *)((const uint8_t *)c + i - in_session);
	const struct session_entry *then = (const void *)(p->control + i - in_session);

	return intent_kind(entry->intent.word) == INTENT_NONE && intent_kind(then->intent.word) == INTENT_NONE &&
	       (is_in(in_session, offsetof(struct session_entry, intent), sizeof(struct intent)) ||
		       is_in(in_session, offsetof(struct session_entry, intent_before), 8));
}

/*
 * Bytes that an undone change may leave different: when room was made last; the class of a free pool; a session's
 * activity, requests and hints of remote frees; the remains of an intent that is over; is_notified of a pool; the bias
 * of a header; the number of roll-backs, and which sessions read.
 */
static bool control_may_differ(const struct picture *p, uint64_t i)
{
	const struct control *c = fx.heap->control;
	uint64_t pool = (i - c->pools_off) / sizeof(struct pool_entry);
	uint64_t in_session = (i - c->sessions_off) % sizeof(struct session_entry);
	uint64_t in_pool = (i - c->pools_off) % sizeof(struct pool_entry);

	if (i >= c->sessions_off && i < c->types_off &&
		(is_in(in_session, offsetof(struct session_entry, activity), 4) ||
			is_in(in_session, offsetof(struct session_entry, requests), 4) ||
			is_in(in_session, offsetof(struct session_entry, n_remote_frees), 4) ||
			is_in(in_session, offsetof(struct session_entry, done_counting), 8) ||
			is_remains_of_intent(p, i)))
		return true;
	if (i >= offsetof(struct control, lock) && i < offsetof(struct control, lock) + sizeof(struct global_lock))
		return true;
	if (is_in(i, offsetof(struct control, figures), sizeof(struct figures)) ||
		is_in(i, offsetof(struct control, room_number), 8) ||
		is_in(i, offsetof(struct control, n_roll_backs), 8) ||
		is_in(i, offsetof(struct control, readers), SESSIONS_MAX / 8))
		return true;
	if (i >= c->pools_off && (is_in(in_pool, offsetof(struct pool_entry, is_notified), 2) ||
					 is_in(in_pool, offsetof(struct pool_entry, header.biased1), 2)))
		return true;
	if (i < c->pools_off || in_pool != offsetof(struct pool_entry, size_class))
		return false;
	return fx.heap->pools[pool].kind == POOL_FREE && fx.heap->pools[pool].size_class == CLASS_NONE && p->control;
}

void compare_control(const struct picture *p, const char *when, uint32_t k)
{
	const uint8_t *now = (const uint8_t *)fx.heap->control;

	for (uint64_t i = 0; i < fx.heap->control_size; i += 4096) {
		uint64_t n = fx.heap->control_size - i < 4096 ? fx.heap->control_size - i : 4096;

		if (!memcmp(now + i, p->control + i, n))
			continue;
		for (uint64_t j = i; j < i + n; j++)
			if (now[j] != p->control[j] && !control_may_differ(p, j))
				ck_abort_msg("%s %u entries: byte %ju of control differs", when, k, (uintmax_t)j);
	}
}

/* The headers of a pool's blocks, also of a free pool that remembers its class; and payloads of what is alive.
 */
static void compare_pool(const struct picture *p, uint32_t index, const char *when, uint32_t k)
{
	const struct pool_entry *pool = &fx.heap->pools[index];
	uint64_t off = (uint64_t)index * POOL_SIZE;
	const struct object_header *old = (const struct object_header *)(const void *)(p->window + off);

	if (pool->kind == POOL_RUN && memcmp(fx.heap->base + off, p->window + off, pool->run_size))
		ck_abort_msg("%s %u entries: the payload of run %u differs", when, k, index);
	if (pool->kind == POOL_RUN || pool->kind == POOL_BODY || pool->size_class >= N_CLASSES)
		return;
	if (memcmp(fx.heap->base + off, old, class_shapes[pool->size_class].n_blocks * sizeof(*old)))
		ck_abort_msg("%s %u entries: the headers of pool %u differ", when, k, index);
	for (uint32_t i = 0; i < pool->n_carved && pool->kind == POOL_BLOCKS; i++) {
		const struct class_shape *shape = &class_shapes[pool->size_class];
		uint64_t at = off + shape->first + (uint64_t)i * shape->size, skip = 0;

		if (header_state(old[i].word) != STATE_LIVE)
			continue;
		if (header_type(old[i].word) == TYPE_QUEUE) /* its futex words are not logged */
			skip = sizeof(struct queue);
		if (memcmp(fx.heap->base + at + skip, p->window + at + skip, header_size(old[i].word) - skip))
			ck_abort_msg("%s %u entries: the payload of block %u of pool %u differs", when, k, i, index);
		if (skip && memcmp(fx.heap->base + at, p->window + at, offsetof(struct queue, push_wait)))
			ck_abort_msg("%s %u entries: queue %u of pool %u differs", when, k, i, index);
	}
}

void compare(const struct picture *p, const char *when, uint32_t k)
{
	compare_control(p, when, k);
	for (uint32_t i = 0; i < fx.heap->n_arenas * fx.heap->pools_per_arena; i++) {
		const struct arena_entry *arena = &fx.heap->arenas[i / fx.heap->pools_per_arena];

		if (arena->state == ARENA_POOLS || (arena->state == ARENA_RUN && i % fx.heap->pools_per_arena == 0))
			compare_pool(p, i, when, k);
	}
}

/* A little of everything. */

uint64_t lend(struct session *from, struct session *to, size_t size)
{
	uint64_t ref = fixture_bytes(from, size);

	MUST(to, object_incref(to, ref));
	fixture_drop(from, ref);
	return ref;
}

/* Pools whose owner is gone: a full one, two with room, one with a single block in use. */
static void populate_unowned(void)
{
	struct session gone;

	ck_assert_int_eq(fixture_admit(fx.heap, &gone), 0);
	for (uint32_t i = 0; i < class_pool_blocks(63); i++)
		unowned_full = lend(&gone, S1, 512);
	for (int i = 0; i < 4; i++)
		unowned = lend(&gone, S1, 144);
	lend(&gone, S1, 480);
	unowned_alone = lend(&gone, S1, 496);
	fixture_drop(&gone, fixture_bytes(&gone, 496));
	session_mark_dead(fx.heap, gone.index);
	while (session_reclaim_step(&gone) == 1)
		;
	ck_assert_uint_eq(gone.entry->state, SESSION_FREE);
	ck_assert_uint_eq(ref_pool(unowned)->owner1, 0);
	ck_assert(!pool_has_room(ref_pool(unowned_full)));
}

/* A little of everything, so that each operation has lists to link into and something to change. */
void populate(void)
{
	struct session *s = &fx.sessions[0];
	uint64_t ref;

	bytes = fixture_bytes(s, 33);
	inner = fixture_bytes(s, 34);
	list = fixture_list(s, 10);
	for (uint64_t i = 0; i < 10; i += 3)
		MUST(s, list_set(s, list, i, inner));
	ref = fixture_bytes(s, 48);
	MUST(s, list_set(s, list, 9, ref));
	fixture_drop(s, ref);
	MUST(s, queue_new(s, 3, &queue));
	for (int i = 0; i < 2; i++) {
		ref = fixture_bytes(s, 20);
		MUST(s, queue_push(s, queue, ref, 0));
	}
	named = fixture_bytes(s, 100);
	MUST(s, name_set(s, "name", named));
	fixture_drop(s, named);
	run = fixture_bytes(s, 5 * POOL_SIZE);
	ck_assert_uint_eq(class_pool_blocks(63), 7);
	for (uint32_t i = 0; i < 7; i++)
		full[i] = fixture_bytes(s, 512);
	fixture_bytes(s, 512);
	/* a pool and two runs that it keeps free */
	fixture_drop(s, fixture_bytes(s, 300));
	fixture_drop(s, fixture_bytes(s, POOL_SIZE));
	fixture_drop(s, fixture_bytes(s, 8 * POOL_SIZE));
	known = fixture_bytes(s, 100);
	MUST(S1, object_incref(S1, known));
	fixture_drop(S1, known);
	lent = lend(s, S1, 100);
	lent_run = lend(s, S1, 7 * POOL_SIZE);
	lent_large = lend(s, S1, ARENA_SIZE_DEFAULT);
	populate_unowned();
	/* a large run that can go */
	ref = fixture_bytes(s, 2 * ARENA_SIZE_DEFAULT);
	fixture_drop(s, ref);
	/* no request is pending when a test begins */
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++)
		ck_assert_int_eq(session_serve_requests(&fx.sessions[i]), 0);
}
