// SPDX-License-Identifier: MIT
/*
 * A heap with a bit of everything, for the tests of repair
 *
 * Full and half-full pools of several sessions and classes, and pools without an owner; remotely freed blocks, pools
 * and runs that are kept free; runs, arenas with different numbers of free pools, large objects and returnable runs,
 * chains of names, a queue, a hold table in a run, a dying list and an object that is being made. What was held in the
 * beginning is held afterwards, with the same contents; and when all sessions have ended nothing is left.
 */
#include "tests/unit/heap/fixture_repair.h"

#include <stdio.h>

struct kept kept[N_KEPT];
uint32_t n_kept, n_names;
uint64_t victim, other, list, child, queue, run, gone, borrowed[3], remotely_freed, orphan, half_dead[N_LISTS], unmade;
uint32_t bucket;

/* A heap with a bit of everything. */

uint64_t make(struct session *session, uint32_t type, uint64_t size)
{
	uint64_t ref;

	if (type == TYPE_BYTES && size > BLOCK_SIZE_MAX && size <= MEDIUM_SIZE_MAX)
		type = fixture_pages_type(session); /* a run */
	ck_assert_int_eq(CALL(session, object_new(session, type, size, &ref)), 0);
	return ref;
}

void drop(struct session *session, uint64_t ref)
{
	ck_assert_int_eq(CALL(session, object_decref(session, ref)), 0);
}

static uint8_t pattern(uint64_t ref, uint64_t i)
{
	return (uint8_t)(ref * 31 + (ref >> 36) * 7 + i);
}

static void keep_this(struct session *session, uint64_t ref, uint64_t size)
{
	ck_assert_uint_lt(n_kept, N_KEPT);
	for (uint64_t i = 0; i < size; i++)
		ref_data(ref)[i] = pattern(ref, i);
	kept[n_kept++] = (struct kept){session, ref, size};
}

static uint64_t keep(struct session *session, uint64_t size)
{
	uint64_t ref = make(session, TYPE_BYTES, size);

	keep_this(session, ref, size);
	return ref;
}

/* One session makes an object, another holds it by its table. */
static uint64_t lend(struct session *from, struct session *to, uint64_t size)
{
	uint64_t ref = make(from, TYPE_BYTES, size);

	ck_assert_int_eq(CALL(to, object_incref(to, ref)), 0);
	drop(from, ref);
	return ref;
}

/* Pools of one class, two of them full and three with room, some of other classes, and one that is kept free. */
static void populate_blocks(void)
{
	uint64_t holes[8];

	for (uint32_t i = 0; i < 140; i++) {
		if (i < 64 && i % 8 == 5)
			holes[i / 8] = make(&fx.sessions[0], TYPE_BYTES, 100);
		else
			keep(&fx.sessions[0], 100);
	}
	for (uint32_t i = 0; i < 8; i++)
		drop(&fx.sessions[0], holes[i]);
	gone = holes[4]; /* freed first in its pool, so it stays free */
	victim = make(&fx.sessions[0], TYPE_BYTES, 100);
	other = make(&fx.sessions[0], TYPE_BYTES, 100);
	for (uint64_t size = 1; size <= 512; size += 27)
		keep(&fx.sessions[1], size);
	drop(&fx.sessions[0], make(&fx.sessions[0], TYPE_BYTES, 300));
	for (uint32_t i = 0; i < 150; i++) /* more holds than its entry has room for */
		keep_this(&fx.sessions[2], lend(&fx.sessions[1], &fx.sessions[2], 40), 40);
	for (uint32_t i = 0; i < 3; i++)
		borrowed[i] = lend(&fx.sessions[1], &fx.sessions[0], 70);
}

/* The session that made them is gone; one of their pools is full, three have room. */
static void populate_unowned(void)
{
	uint32_t n_blocks = class_pool_blocks(CLASS_UNOWNED);
	uint64_t refs[4 * POOL_SIZE / 144];
	struct session s;
	int r;

	ck_assert_int_eq(fixture_admit(fx.heap, &s), 0);
	for (uint32_t i = 0; i < 4 * n_blocks; i++)
		refs[i] = make(&s, TYPE_BYTES, 140);
	for (uint32_t i = 0; i < 4 * n_blocks; i++) {
		if (i >= n_blocks && i % 7 == 3)
			continue;
		ck_assert_int_eq(CALL(&fx.sessions[1], object_incref(&fx.sessions[1], refs[i])), 0);
		keep_this(&fx.sessions[1], refs[i], 140);
	}
	session_mark_dead(fx.heap, s.index);
	while ((r = session_reclaim_step(&s)) == 1)
		;
	ck_assert_int_eq(r, 0);
	orphan = refs[2 * n_blocks];
	ck_assert_uint_eq(ref_pool(orphan)->identity, pool_identity(POOL_BLOCKS, CLASS_UNOWNED, 0));
}

/*
 * Session 1 drops blocks of session 0 last, so they are remotely freed. Session 0 makes nothing afterwards, so it does
 * not collect them.
 */
static void populate_remote_frees(void)
{
	struct session *s0 = &fx.sessions[0], *s1 = &fx.sessions[1];
	uint32_t n_blocks = class_pool_blocks(CLASS_REMOTE);
	uint64_t refs[3 * POOL_SIZE / 200];

	for (uint32_t i = 0; i < 3 * n_blocks; i++)
		refs[i] = make(s0, TYPE_BYTES, 200);
	drop(s0, refs[3 * n_blocks - 1]); /* so that one of the three has room */
	for (uint32_t i = 0; i < 3 * n_blocks - 1; i++)
		if (i % n_blocks < 4)
			ck_assert_int_eq(CALL(s1, object_incref(s1, refs[i])), 0);
		else
			keep_this(s0, refs[i], 200);
	/* Before the others drop theirs: the owner's next call collects remote frees. */
	for (uint32_t i = 0; i < 3 * n_blocks; i++)
		if (i % n_blocks < 4)
			drop(s0, refs[i]);
	for (uint32_t i = 0; i < 3 * n_blocks; i++)
		if (i % n_blocks < 4)
			drop(s1, refs[i]);
	remotely_freed = refs[n_blocks + 1];
	ck_assert_uint_eq(ref_state(remotely_freed), STATE_REMOTE_FREE);
	ck_assert_uint_eq(pool_count_remote(fx.heap, ref_pool(remotely_freed)), 4);
}

static void populate_runs(void)
{
	static const uint32_t n_pools[] = {
		30, 3, 60, 55, 50, 41, 37}; /* from the third on they want arenas of their own */
	uint64_t returnable[2];

	for (uint32_t i = 0; i < sizeof(n_pools) / sizeof(n_pools[0]); i++)
		keep(&fx.sessions[0], n_pools[i] * POOL_SIZE - 100);
	drop(&fx.sessions[0], make(&fx.sessions[0], TYPE_BYTES, 2 * POOL_SIZE));
	drop(&fx.sessions[0], make(&fx.sessions[0], TYPE_BYTES, 7 * POOL_SIZE));
	run = make(&fx.sessions[0], TYPE_BYTES, 5 * POOL_SIZE);
	keep(&fx.sessions[1], 2 * ARENA_SIZE_DEFAULT);
	for (uint32_t i = 0; i < 2; i++)
		returnable[i] = make(&fx.sessions[1], TYPE_BYTES, (2 + i) * ARENA_SIZE_DEFAULT);
	for (uint32_t i = 0; i < 2; i++)
		drop(&fx.sessions[1], returnable[i]);
}

static uint32_t chain_length(uint32_t i)
{
	uint32_t n = 0;

	for (uint64_t p = fx.heap->name_buckets[i]; p; n++)
		p = ((struct name_entry *)(void *)(fx.heap->base + p * 8))->next;
	return n;
}

uint64_t *name_link(uint32_t i)
{
	uint64_t *link = &fx.heap->name_buckets[bucket];

	for (; i > 0; i--)
		link = &((struct name_entry *)(void *)(fx.heap->base + *link * 8))->next;
	ck_assert_uint_ne(*link, 0);
	return link;
}

static void populate_names(void)
{
	char name[32];

	for (bucket = 0; chain_length(bucket) < CHAIN;) {
		for (int i = 0; i < 20; i++, n_names++) {
			snprintf(name, sizeof(name), "name %u", n_names);
			ck_assert_int_eq(CALL(REPAIRER, name_set(REPAIRER, name, kept[n_names % n_kept].ref)), 0);
		}
		for (bucket = 0; bucket + 1 < fx.heap->n_name_buckets && chain_length(bucket) < CHAIN; bucket++)
			;
	}
}

/* Lists whose last hold is dropped and that are not freed yet, as of a session that is at it or was killed. */
static void populate_dying(void)
{
	struct session *s = &fx.sessions[1];

	for (uint32_t i = 0; i < N_LISTS; i++) {
		half_dead[i] = make(s, TYPE_LIST, 8 * (i + 1) * 40);
		ck_assert_int_eq(list_set(s, half_dead[i], 1, kept[i].ref), 0);
	}
	for (uint32_t i = 0; i < N_LISTS; i++)
		fixture_give_up(s, half_dead[i]);
}

static void populate_making(void)
{
	struct session *s = &fx.sessions[2];
	int r;

	do {
		ck_assert_int_eq(change_begin(s), 0);
		r = memory_take(s, SPACE_OBJECTS, 3 * POOL_SIZE, POOL_SIZE, TYPE_LIST, STATE_MAKING, 0, &unmade);
		if (!r)
			heap_set(fx.heap, &s->entry->making1, ref_position(unmade) + 1);
		r = change_end(s, r);
	} while (r == HEAP_WANTS_ARENAS && !fixture_grant(s));
	ck_assert_int_eq(r, 0);
}

void populate(void)
{
	struct session *s = &fx.sessions[0];

	n_kept = n_names = 0;
	populate_blocks();
	populate_unowned();
	populate_runs();
	child = make(s, TYPE_BYTES, 60);
	list = make(s, TYPE_LIST, 8 * 4);
	ck_assert_int_eq(list_set(s, list, 1, child), 0);
	ck_assert_int_eq(CALL(s, queue_new(s, 4, &queue)), 0);
	for (uint32_t i = 0; i < 3; i++) {
		ck_assert_int_eq(object_incref(s, kept[i].ref), 0);
		ck_assert_int_eq(queue_push(s, queue, kept[i].ref, 0), 0);
	}
	populate_remote_frees();
	populate_names();
	populate_dying();
	populate_making();
	fixture_check();
}

/* Checks of what is left. */

void verify_kept(void)
{
	struct object object;

	for (uint32_t i = 0; i < n_kept; i++) {
		ck_assert_int_eq(object_find(fx.heap, kept[i].ref, &object), 0);
		ck_assert_uint_eq(object.size, kept[i].size);
		ck_assert(object_is_held(kept[i].session, kept[i].ref));
		for (uint64_t j = 0; j < kept[i].size; j += 1 + j / 64)
			ck_assert_uint_eq(object.data[j], pattern(kept[i].ref, j));
	}
}

void verify_names(uint32_t n_lost)
{
	uint64_t cursor = 0, ref;
	uint32_t n = 0, number;
	char name[256];

	while (name_next(REPAIRER, &cursor, name, &ref) == 1) {
		ck_assert_int_eq(sscanf(name, "name %u", &number), 1);
		ck_assert_uint_eq(ref, kept[number % n_kept].ref);
		ck_assert_int_eq(CALL(REPAIRER, name_get(REPAIRER, name, &ref)), 0);
		drop(REPAIRER, ref);
		n++;
	}
	ck_assert_uint_eq(n, n_names - n_lost);
}

/* Allocate, hand over and free a lot, of all sizes and in all sessions, so that all lists are used. */
void work(void)
{
	enum { N = 200 };
	struct session *holder[N];
	uint64_t refs[N] = {0};
	uint64_t n_ops = fixture_ops(400000) / 100; /* after each of many damages: fewer under valgrind */

	for (uint64_t i = 0; i < n_ops; i++) {
		uint32_t k = fixture_below(N), kind = fixture_below(100);
		uint64_t size = kind < 90   ? fixture_below(513)
				: kind < 99 ? 513 + fixture_below(20 * POOL_SIZE)
					    : ARENA_SIZE_DEFAULT;
		struct session *s = &fx.sessions[fixture_below(3)], *next = &fx.sessions[fixture_below(3)];
		int r;

		if (refs[k])
			drop(holder[k], refs[k]);
		holder[k] = s;
		r = CALL(s, object_new(s, TYPE_BYTES, size, &refs[k]));
		if (r == -ENOMEM) {
			refs[k] = 0;
			continue;
		}
		ck_assert_int_eq(r, 0);
		if (next == s)
			continue;
		ck_assert_int_eq(CALL(next, object_incref(next, refs[k])), 0);
		drop(s, refs[k]);
		holder[k] = next;
	}
	for (uint32_t k = 0; k < N; k++)
		if (refs[k])
			drop(holder[k], refs[k]);
	fixture_check();
}

/* All sessions are reclaimed, and nothing is left. */
void end_all(void)
{
	uint64_t cursor = 0, ref;
	struct heap_stats stats;
	char name[256];
	int r;

	while (name_next(REPAIRER, &cursor, name, &ref) == 1)
		ck_assert_int_eq(name_del(REPAIRER, name), 0);
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++) {
		session_mark_dead(fx.heap, i);
		while ((r = session_reclaim_step(&fx.sessions[i])) == 1)
			;
		ck_assert_int_eq(r, 0);
	}
	ck_assert_int_eq(heap_check(&fx.daemon, NULL, NULL), 0);
	fixture_trim(0);
	stats = fixture_stats();
	for (uint32_t i = 0; i < N_CLASSES; i++)
		ck_assert_uint_eq(stats.classes[i].n_used + stats.classes[i].n_pools, 0);
	ck_assert_uint_eq(stats.n_medium_objects + stats.n_large_objects + stats.n_names + stats.bytes_records, 0);
	ck_assert_uint_eq(stats.n_arenas_current, 0);
	ck_assert_uint_eq(control()->counters.n_arenas_current, 0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
	ck_assert_int_eq(heap_check(&fx.daemon, NULL, NULL), 0);
}
