/* SPDX-License-Identifier: MIT */
/*
 * heap_repair(): whatever is derived is damaged on purpose, reported by its name, mended, and then the heap works
 *
 * Each test begins with a heap that has a bit of everything in it: full and half-full pools of several classes, runs,
 * arenas with different numbers of free pools, large objects and what is left of some, chains of names, a queue, a hold
 * table of its own, a dying list and an object that is being made. What was held then is held afterwards, with the same
 * contents, and when it is dropped in the end nothing is left.
 *
 * The repairer itself is killed, at any moment, many times: what it left half-done is done again by the next one who
 * takes the lock.
 */
#include "tests/unit/fixture.h"

#include "heap/rebuild.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_KEPT   400U
#define CHAIN    3U /* names in one bucket */
#define N_LISTS  3U /* on the dying list */
#define REPAIRER (&fx.sessions[3])

struct kept {
	struct session *session;
	uint64_t ref;
	uint64_t size;
};

static struct kept kept[N_KEPT];
static uint32_t n_kept, n_names;
static uint64_t victim, other, list, child, queue, run, gone, half_dead[N_LISTS], unmade;
static uint32_t bucket; /* with a chain of names */

static struct control *control(void)
{
	return fx.heap->control;
}

static struct space *space(void)
{
	return &fx.heap->control->spaces[SPACE_OBJECTS];
}

/* ---- a heap with a bit of everything ----------------------------------------------------------------------------- */

static uint64_t make(struct session *session, uint32_t type, uint64_t size)
{
	uint64_t ref;

	ck_assert_int_eq(CALL(session, object_new(session, type, size, &ref)), 0);
	return ref;
}

static void drop(struct session *session, uint64_t ref)
{
	ck_assert_int_eq(CALL(session, object_decref(session, ref)), 0);
}

static uint8_t pattern(uint64_t ref, uint64_t i)
{
	return (uint8_t)(ref * 31 + (ref >> 36) * 7 + i);
}

static uint64_t keep(struct session *session, uint64_t size)
{
	uint64_t ref = make(session, TYPE_BYTES, size);

	ck_assert_uint_lt(n_kept, N_KEPT);
	for (uint64_t i = 0; i < size; i++)
		ref_data(ref)[i] = pattern(ref, i);
	kept[n_kept++] = (struct kept){session, ref, size};
	return ref;
}

/* Pools of one class, two of them full and three with room, and some of other classes. */
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
	for (uint32_t i = 0; i < 150; i++) /* more holds than its entry has room for */
		keep(&fx.sessions[2], 40);
}

static void populate_runs(void)
{
	static const uint32_t n_pools[] = {30, 3, 60, 55, 50}; /* the last three want arenas of their own */
	uint64_t returnable[2];

	for (uint32_t i = 0; i < sizeof(n_pools) / sizeof(n_pools[0]); i++)
		keep(&fx.sessions[0], n_pools[i] * POOL_SIZE - 100);
	drop(&fx.sessions[0], make(&fx.sessions[0], TYPE_BYTES, 2 * POOL_SIZE));
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

static void populate_names(void)
{
	char name[32];

	for (bucket = 0; chain_length(bucket) < CHAIN; n_names++) {
		snprintf(name, sizeof(name), "name %u", n_names);
		ck_assert_int_eq(CALL(REPAIRER, name_set(REPAIRER, name, kept[n_names % n_kept].ref)), 0);
		for (bucket = 0; bucket + 1 < fx.heap->n_name_buckets && chain_length(bucket) < CHAIN; bucket++)
			;
	}
}

/* Lists whose last hold is gone and that nobody has taken down yet, as one finds them of who is at it or was killed. */
static void populate_dying(void)
{
	struct session *s = &fx.sessions[1];
	struct object object;

	for (uint32_t i = 0; i < N_LISTS; i++) {
		half_dead[i] = make(s, TYPE_LIST, 8 * (i + 1) * 40);
		ck_assert_int_eq(list_set(s, half_dead[i], 1, kept[i].ref), 0);
	}
	for (uint32_t i = 0; i < N_LISTS; i++) {
		ck_assert_int_eq(change_begin(s), 0);
		ck_assert_int_eq(object_find(fx.heap, half_dead[i], &object), 0);
		ck_assert(hold_remove(s, hold_find(s, half_dead[i])));
		ck_assert_int_eq(change_end(s, object_drop(s, &object)), 0);
	}
}

static void populate_making(void)
{
	struct session *s = &fx.sessions[2];
	int r;

	do {
		ck_assert_int_eq(change_begin(s), 0);
		r = memory_take(s, SPACE_OBJECTS, 3 * POOL_SIZE, 0, TYPE_LIST, STATE_MAKING, 0, &unmade);
		if (!r)
			heap_set(fx.heap, &s->entry->making1, ref_position(unmade) + 1);
		r = change_end(s, r);
	} while (r == HEAP_WANTS_ARENAS && !fixture_grant(s));
	ck_assert_int_eq(r, 0);
}

static void populate(void)
{
	struct session *s = &fx.sessions[0];

	n_kept = n_names = 0;
	populate_blocks();
	populate_runs();
	child = make(s, TYPE_BYTES, 60);
	list = make(s, TYPE_LIST, 8 * 4);
	ck_assert_int_eq(list_set(s, list, 1, child), 0);
	ck_assert_int_eq(CALL(s, queue_new(s, 4, &queue)), 0);
	for (uint32_t i = 0; i < 3; i++) {
		ck_assert_int_eq(object_incref(s, kept[i].ref), 0);
		ck_assert_int_eq(queue_push(s, queue, kept[i].ref, 0), 0);
	}
	populate_names();
	populate_dying();
	populate_making();
	fixture_check();
}

/* ---- and what is left of it -------------------------------------------------------------------------------------- */

static void verify_kept(void)
{
	struct object object;

	for (uint32_t i = 0; i < n_kept; i++) {
		ck_assert_int_eq(object_find(fx.heap, kept[i].ref, &object), 0);
		ck_assert_uint_eq(object.size, kept[i].size);
		ck_assert_ptr_nonnull(hold_find(kept[i].session, kept[i].ref));
		for (uint64_t j = 0; j < kept[i].size; j += 1 + j / 64)
			ck_assert_uint_eq(object.data[j], pattern(kept[i].ref, j));
	}
}

static void verify_names(uint32_t n_lost)
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

/* Allocate and free a lot, of any size. */
static void work(void)
{
	enum { N = 200 };
	struct session *s = &fx.sessions[1];
	uint64_t refs[N] = {0};

	for (uint32_t i = 0; i < 4000; i++) {
		uint32_t k = fixture_below(N), kind = fixture_below(100);
		uint64_t size = kind < 90   ? fixture_below(513)
				: kind < 99 ? 513 + fixture_below(20 * POOL_SIZE)
					    : ARENA_SIZE_DEFAULT;
		int r;

		if (refs[k])
			drop(s, refs[k]);
		r = CALL(s, object_new(s, TYPE_BYTES, size, &refs[k]));
		if (r == -ENOMEM)
			refs[k] = 0;
		else
			ck_assert_int_eq(r, 0);
	}
	for (uint32_t k = 0; k < N; k++)
		if (refs[k])
			drop(s, refs[k]);
	fixture_check();
}

/* Everybody is gone, and so is everything. */
static void end_all(void)
{
	const struct counters *c = &control()->counters;
	uint64_t cursor = 0, ref;
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
	for (uint32_t i = 0; i < N_CLASSES; i++)
		ck_assert_uint_eq(c->classes[i].n_used + c->classes[i].n_pools, 0);
	ck_assert_uint_eq(c->n_medium_objects + c->n_large_objects + c->n_names + c->n_record_pools, 0);
	ck_assert_uint_eq(c->n_arenas_current, 0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
	ck_assert_int_eq(heap_check(&fx.daemon, NULL, NULL), 0);
}

/* ---- damages ----------------------------------------------------------------------------------------------------- */

#define DAMAGE(name, ...)                                                                                              \
	static void name(void)                                                                                         \
	{                                                                                                              \
		__VA_ARGS__;                                                                                           \
	}

#define POOL     ref_pool(victim)
#define CLASS    12U /* of the victim */
#define QUEUE    ((struct queue *)(void *)ref_data(queue))
#define FREEHEAD (ref_header(victim) - ref_block(victim) + POOL->freeblock1 - 1)

static uint32_t full_pool(void)
{
	for (uint32_t i = 0; i < n_kept; i++)
		if (ref_pool(kept[i].ref)->size_class == CLASS && !ref_pool(kept[i].ref)->freeblock1 &&
			ref_pool(kept[i].ref)->n_carved == class_pool_blocks(CLASS))
			return ref_pool_index(kept[i].ref);
	ck_abort_msg("no pool is full");
	return 0;
}

/* The i-th of usedpools; of usable_arenas; of the chain of names. */
static struct pool_entry *used_pool(uint32_t i)
{
	uint32_t p1 = space()->usedpools1[CLASS];

	for (; i > 0 && p1; i--)
		p1 = fx.heap->pools[p1 - 1].next1;
	ck_assert_uint_ne(p1, 0);
	return &fx.heap->pools[p1 - 1];
}

static struct arena_entry *usable_arena(uint32_t i)
{
	uint32_t a1 = space()->usable_arenas1;

	for (; i > 0 && a1; i--)
		a1 = fx.heap->arenas[a1 - 1].next1;
	ck_assert_uint_ne(a1, 0);
	return &fx.heap->arenas[a1 - 1];
}

static uint64_t *name_link(uint32_t i)
{
	uint64_t *link = &fx.heap->name_buckets[bucket];

	for (; i > 0; i--)
		link = &((struct name_entry *)(void *)(fx.heap->base + *link * 8))->next;
	ck_assert_uint_ne(*link, 0);
	return link;
}

static struct name_entry *name_entry(uint32_t i)
{
	return (struct name_entry *)(void *)(fx.heap->base + *name_link(i) * 8);
}

static struct arena_entry *returnable(void)
{
	return &fx.heap->arenas[control()->returnable_arenas1 - 1];
}

/* The hold is gone, and the object's count does not follow. */
static void forget(uint64_t ref)
{
	struct session *s = &fx.sessions[0];

	ck_assert_int_eq(change_begin(s), 0);
	ck_assert(hold_remove(s, hold_find(s, ref)));
	ck_assert_int_eq(change_end(s, 0), 0);
}

/* Behind the next gap, where no search for it comes. */
static void misplace(struct session *session, uint64_t ref)
{
	uint32_t n, i, n_gaps = 0;
	struct hold *table = hold_table(fx.heap, session->entry, &n), *hold = hold_find(session, ref), moved = *hold;

	for (i = (uint32_t)(hold - table); n_gaps < 2; i = (i + 1) % n)
		n_gaps += table[i].ref == HOLD_EMPTY;
	forget(ref);
	i = (i + n - 1) % n;
	ck_assert_uint_eq(table[i].ref, HOLD_EMPTY);
	table[i] = moved;
	session->entry->n_holds++;
}

DAMAGE(freeblock_cut, POOL->freeblock1 = 0)
DAMAGE(freeblock_of_live, POOL->freeblock1 = (uint16_t)(ref_block(victim) + 1))
DAMAGE(freeblock_wild, POOL->freeblock1 = 60000)
DAMAGE(freeblock_circle, FREEHEAD->info = (uint64_t)POOL->freeblock1 << 26)
DAMAGE(freeblock_link_cut, FREEHEAD->info = 0)
DAMAGE(freeblock_link_wild, FREEHEAD->info = UINT64_MAX)
DAMAGE(n_used_high, POOL->n_used++)
DAMAGE(n_used_zero, POOL->n_used = 0)
DAMAGE(n_carved_low, POOL->n_carved = 3)
DAMAGE(n_carved_high, used_pool(2)->n_carved++)
DAMAGE(n_carved_wild, POOL->n_carved = 500)
DAMAGE(usedpools_empty, space()->usedpools1[CLASS] = 0)
DAMAGE(usedpools_wrong_class, space()->usedpools1[3] = ref_pool_index(victim) + 1)
DAMAGE(usedpools_wild, space()->usedpools1[CLASS] = UINT32_MAX)
DAMAGE(usedpools_cut, used_pool(0)->next1 = 0)
DAMAGE(usedpools_circle, used_pool(2)->next1 = space()->usedpools1[CLASS])
DAMAGE(usedpools_prev, used_pool(1)->prev1 = 9)
DAMAGE(usedpools_full_pool, used_pool(2)->next1 = full_pool() + 1;
	fx.heap->pools[full_pool()].prev1 = (uint32_t)(used_pool(2) - fx.heap->pools) + 1)
DAMAGE(bitmap_says_free,
	fx.heap->freepools[ref_arena_index(victim) * fx.heap->pool_words] |= UINT64_C(1) << ref_pool_index(victim) % 64)
DAMAGE(bitmap_says_taken, fx.heap->freepools[(uint32_t)(usable_arena(0) - fx.heap->arenas) * fx.heap->pool_words] = 0)
DAMAGE(n_free_pools_high, ref_arena(victim)->n_free_pools++)
DAMAGE(n_free_pools_wild, usable_arena(0)->n_free_pools = 100000)
DAMAGE(usable_empty, space()->usable_arenas1 = 0)
DAMAGE(usable_wild, space()->usable_arenas1 = 4000000000)
DAMAGE(usable_cut, usable_arena(0)->next1 = 0)
DAMAGE(usable_circle, usable_arena(1)->next1 = space()->usable_arenas1)
DAMAGE(usable_prev, usable_arena(1)->prev1 = 0)
DAMAGE(usable_of_run, usable_arena(1)->next1 = (uint32_t)(returnable() - fx.heap->arenas) + 1)

static void usable_misordered(void) /* two neighbours with different numbers change places */
{
	struct arena_entry *first, *second, *behind;
	uint32_t i = 0, first1, second1;

	while (usable_arena(i)->n_free_pools == usable_arena(i + 1)->n_free_pools)
		i++;
	first = usable_arena(i);
	second = usable_arena(i + 1);
	first1 = (uint32_t)(first - fx.heap->arenas) + 1;
	second1 = first->next1;
	behind = second->next1 ? &fx.heap->arenas[second->next1 - 1] : NULL;
	*(i ? &usable_arena(i - 1)->next1 : &space()->usable_arenas1) = second1;
	second->prev1 = first->prev1;
	first->next1 = second->next1;
	second->next1 = first1;
	first->prev1 = second1;
	if (behind)
		behind->prev1 = first1;
}

DAMAGE(nfp2lasta_missing, space()->nfp2lasta1[usable_arena(0)->n_free_pools] = 0)
DAMAGE(nfp2lasta_too_much, space()->nfp2lasta1[7] = 1)
DAMAGE(nfp2lasta_wild, space()->nfp2lasta1[usable_arena(1)->n_free_pools] = UINT32_MAX)
DAMAGE(n_free_arenas, space()->n_free_arenas++)
DAMAGE(n_free_arenas_of_records, control()->spaces[SPACE_RECORDS].n_free_arenas = 5)
DAMAGE(returnable_empty, control()->returnable_arenas1 = 0)
DAMAGE(returnable_cut, returnable()->next1 = 0)
DAMAGE(returnable_circle, returnable()->next1 = control()->returnable_arenas1)
DAMAGE(returnable_of_live, control()->returnable_arenas1 = ref_arena_index(victim) + 1)
DAMAGE(returnable_prev, returnable()->prev1 = 3)

DAMAGE(n_holds, fx.sessions[0].entry->n_holds++)
DAMAGE(n_holds_of_table, fx.sessions[2].entry->n_holds = 0)
DAMAGE(hold_of_dead, hold_find(&fx.sessions[0], victim)->ref = gone)
DAMAGE(hold_zero_times, hold_find(&fx.sessions[0], victim)->count = 0)
DAMAGE(hold_misplaced, misplace(&fx.sessions[0], victim))
DAMAGE(holds_misplaced, misplace(&fx.sessions[0], victim); misplace(&fx.sessions[0], kept[0].ref);
	misplace(&fx.sessions[0], kept[1].ref))
DAMAGE(new_table_of_live, fx.sessions[0].entry->new_holds_position1 = ref_position(run) + 1)
DAMAGE(new_table_wild, fx.sessions[0].entry->new_holds_position1 = UINT64_MAX)
DAMAGE(dying_cut, fx.sessions[1].entry->dying1 = 0)
DAMAGE(dying_of_live, fx.sessions[1].entry->dying1 = ref_position(victim) + 1)
DAMAGE(dying_wild, fx.sessions[1].entry->dying1 = UINT64_MAX)
DAMAGE(dying_circle, ref_header(half_dead[0])->info |= (ref_position(half_dead[2]) + 1) << 26)
DAMAGE(dying_link_cut, ref_header(half_dead[2])->info &= (1 << 26) - 1)
DAMAGE(dying_link_wild, ref_header(half_dead[1])->info |= UINT64_MAX << 26)
DAMAGE(dying_twice, fx.sessions[0].entry->dying1 = ref_position(half_dead[1]) + 1)
DAMAGE(dying_counted, ref_header(half_dead[1])->word += 2)
DAMAGE(making_lost, fx.sessions[2].entry->making1 = 0)
DAMAGE(making_of_live, fx.sessions[1].entry->making1 = ref_position(victim) + 1)
DAMAGE(making_wild, fx.sessions[1].entry->making1 = UINT64_MAX)
DAMAGE(making_twice, fx.sessions[1].entry->making1 = ref_position(unmade) + 1)

DAMAGE(count_too_high, ref_header(victim)->word += 3)
DAMAGE(count_too_low, ref_header(kept[0].ref)->word--)
DAMAGE(count_zero, ref_header(victim)->word--)
DAMAGE(count_of_run, ref_header(run)->word += 1000)
DAMAGE(leaked, forget(victim))
DAMAGE(leaked_run, forget(run))
DAMAGE(leaked_list, forget(list))
DAMAGE(slot_of_dead, memcpy(ref_data(list) + 16, &gone, 8))
DAMAGE(slot_wild, memset(ref_data(list) + 16, 0xee, 8))
DAMAGE(slot_too_many, memcpy(ref_data(list) + 16, &victim, 8))
DAMAGE(place_of_dead, memcpy(ref_data(queue) + offsetof(struct queue, places), &gone, 8))
DAMAGE(queue_head_wild, QUEUE->head = 1000)
DAMAGE(queue_head_off, QUEUE->head++)
DAMAGE(queue_count_low, QUEUE->count = 0)
DAMAGE(queue_count_wild, QUEUE->count = UINT64_MAX)
DAMAGE(queue_n_wild, QUEUE->n = 1 << 20)
DAMAGE(queue_gap, QUEUE->places[2] = QUEUE->places[1]; QUEUE->places[1] = 0)
DAMAGE(name_of_dead, name_entry(0)->ref = gone)

DAMAGE(bucket_cut, fx.heap->name_buckets[bucket] = 0)
DAMAGE(bucket_wild, fx.heap->name_buckets[bucket] = UINT64_MAX)
DAMAGE(bucket_of_live, fx.heap->name_buckets[bucket] = ref_position(victim))
DAMAGE(bucket_moved, fx.heap->name_buckets[bucket ^ 1] = fx.heap->name_buckets[bucket];
	fx.heap->name_buckets[bucket] = 0)
DAMAGE(chain_cut, *name_link(1) = 0)
DAMAGE(chain_wild, *name_link(2) = 12345)
DAMAGE(chain_circle, name_entry(2)->next = *name_link(0))
DAMAGE(chain_misordered, uint64_t *link = name_link(0), first = *link, second = name_entry(0)->next;
	name_entry(0)->next = name_entry(1)->next; *link = second; name_entry(0)->next = first)

static const struct {
	void (*damage)(void);
	const char *fault;     /* what the report must speak of */
	uint32_t n_names_lost; /* beside what is broken, nothing may be lost */
	bool in_holds;         /* of session 0, which stores there without the lock: nobody else moves them */
} damages[] = {
	{freeblock_cut, "freeblock list", 0, false},
	{freeblock_of_live, "freeblock list", 0, false},
	{freeblock_wild, "freeblock list", 0, false},
	{freeblock_circle, "freeblock list", 0, false},
	{freeblock_link_cut, "freeblock list", 0, false},
	{freeblock_link_wild, "freeblock list", 0, false},
	{n_used_high, "blocks are in use", 0, false},
	{n_used_zero, "blocks are in use", 0, false},
	{n_carved_low, "nextoffset", 0, false},
	{n_carved_high, "freeblock list", 0, false},
	{n_carved_wild, "blocks carved", 0, false},
	{usedpools_empty, "usedpools[12]", 0, false},
	{usedpools_wrong_class, "usedpools[3]", 0, false},
	{usedpools_wild, "usedpools[12]", 0, false},
	{usedpools_cut, "usedpools[12]", 0, false},
	{usedpools_circle, "usedpools[12]", 0, false},
	{usedpools_prev, "usedpools[12]", 0, false},
	{usedpools_full_pool, "usedpools[12]", 0, false},
	{bitmap_says_free, "freepools", 0, false},
	{bitmap_says_taken, "freepools", 0, false},
	{n_free_pools_high, "nfreepools", 0, false},
	{n_free_pools_wild, "nfreepools", 0, false},
	{usable_empty, "usable_arenas", 0, false},
	{usable_wild, "usable_arenas", 0, false},
	{usable_cut, "usable_arenas", 0, false},
	{usable_circle, "usable_arenas", 0, false},
	{usable_prev, "usable_arenas", 0, false},
	{usable_of_run, "usable_arenas", 0, false},
	{usable_misordered, "stands behind", 0, false},
	{nfp2lasta_missing, "nfp2lasta", 0, false},
	{nfp2lasta_too_much, "nfp2lasta[7]", 0, false},
	{nfp2lasta_wild, "nfp2lasta", 0, false},
	{n_free_arenas, "n_free_arenas of objects", 0, false},
	{n_free_arenas_of_records, "n_free_arenas of records", 0, false},
	{returnable_empty, "returnable_arenas", 0, false},
	{returnable_cut, "returnable_arenas", 0, false},
	{returnable_circle, "returnable_arenas", 0, false},
	{returnable_of_live, "returnable_arenas", 0, false},
	{returnable_prev, "returnable_arenas", 0, false},
	{n_holds, "session 0: says that it has", 0, false},
	{n_holds_of_table, "session 2: says that it has 0 holds", 0, false},
	{hold_of_dead, "a hold of session 0", 0, true},
	{hold_zero_times, "0 times", 0, false},
	{hold_misplaced, "not found where it is", 0, true},
	{holds_misplaced, "not found where it is", 0, true},
	{new_table_of_live, "the new hold table of session 0", 0, true},
	{new_table_wild, "the new hold table of session 0", 0, true},
	{dying_cut, "dying for 0 sessions", 0, false},
	{dying_of_live, "dying list", 0, false},
	{dying_wild, "dying list", 0, false},
	{dying_circle, "dying list", 0, false},
	{dying_link_cut, "dying for 0 sessions", 0, false},
	{dying_link_wild, "dying list", 0, false},
	{dying_twice, "dying list", 0, false},
	{dying_counted, "dying and its count is 2", 0, false},
	{making_lost, "being made for 0 sessions", 0, false},
	{making_of_live, "not being made", 0, false},
	{making_wild, "not being made", 0, false},
	{making_twice, "being made for 2 sessions", 0, false},
	{count_too_high, "its count is 4, 1 have a right to it", 0, false},
	{count_too_low, "have a right to it", 0, false},
	{count_zero, "its count is 0, 1 have a right to it", 0, false},
	{count_of_run, "its count is 1001, 1 have a right to it", 0, false},
	{leaked, "has leaked", 0, false},
	{leaked_run, "has leaked", 0, false},
	{leaked_list, "has leaked", 0, false},
	{slot_of_dead, "a slot of object", 0, false},
	{slot_wild, "a slot of object", 0, false},
	{slot_too_many, "2 have a right to it", 0, false},
	{place_of_dead, "a slot of object", 0, false},
	{queue_head_wild, "its head and count", 0, false},
	{queue_head_off, "its head and count", 0, false},
	{queue_count_low, "its head and count", 0, false},
	{queue_count_wild, "its head and count", 0, false},
	{queue_n_wild, "its head and count", 0, false},
	{queue_gap, "its head and count", 0, false},
	{name_of_dead, "a name of bucket", 1, false},
	{bucket_cut, "n_names", 0, false},
	{bucket_wild, "name bucket", 0, false},
	{bucket_of_live, "name bucket", 0, false},
	{bucket_moved, "does not belong there", 0, false},
	{chain_cut, "n_names", 0, false},
	{chain_wild, "name bucket", 0, false},
	{chain_circle, "name bucket", 0, false},
	{chain_misordered, "name bucket", 0, false},
};

/* ---- reported, mended -------------------------------------------------------------------------------------------- */

struct report {
	const char *wanted;
	bool found;
	int64_t n_faults;
	char all[8192];
};

static void note_fault(void *userdata, const char *fault)
{
	struct report *report = userdata;
	size_t length = strlen(report->all);

	report->n_faults++;
	report->found |= report->wanted && strstr(fault, report->wanted) != NULL;
	snprintf(report->all + length, sizeof(report->all) - length, "%s\n", fault);
}

static void expect_reported_and_mended(struct session *repairer, const char *fault)
{
	struct report checked = {.wanted = fault}, repaired = {.wanted = fault};
	int64_t n = heap_check(REPAIRER, note_fault, &checked);

	ck_assert_int_gt(n, 0);
	ck_assert_int_eq(n, checked.n_faults);
	ck_assert_msg(checked.found, "nothing says \"%s\" in:\n%s", fault, checked.all);
	n = heap_repair(repairer, note_fault, &repaired);
	ck_assert_msg(n == checked.n_faults, "repair gives %d after:\n%s", (int)n, repaired.all);
	ck_assert_str_eq(checked.all, repaired.all);
	fixture_check();
	ck_assert_int_eq(heap_repair(REPAIRER, NULL, NULL), 0);
}

START_TEST(damage_is_mended)
{
	populate();
	damages[_i].damage();
	if (damages[_i].in_holds) {
		ck_assert_int_eq(heap_repair(REPAIRER, NULL, NULL), -EUCLEAN);
		expect_reported_and_mended(&fx.sessions[0], damages[_i].fault);
	} else {
		expect_reported_and_mended(REPAIRER, damages[_i].fault);
	}
	verify_kept();
	verify_names(damages[_i].n_names_lost);
	work();
	verify_kept();
	end_all();
}
END_TEST

/* What only the session itself mends in its table goes with it, too. */
START_TEST(holds_of_the_dead)
{
	int r;

	populate();
	hold_of_dead();
	misplace(&fx.sessions[0], kept[0].ref);
	new_table_of_live();
	ck_assert_int_eq(heap_repair(REPAIRER, NULL, NULL), -EUCLEAN);
	session_mark_dead(fx.heap, 0);
	ck_assert_int_gt(heap_repair(REPAIRER, NULL, NULL), 0);
	fixture_check();
	while ((r = session_reclaim_step(&fx.sessions[0])) == 1)
		;
	ck_assert_int_eq(r, 0);
	fixture_check();
	end_all();
}
END_TEST

#define COUNTER(member)                                                                                                \
	{                                                                                                              \
#member, offsetof(struct counters, member)                                                             \
	}

static const struct {
	const char *name;
	size_t off;
} counters[] = {
	COUNTER(classes[12].n_pools),
	COUNTER(classes[12].n_used),
	COUNTER(classes[63].n_used),
	COUNTER(n_arenas_allocated),
	COUNTER(n_arenas_reclaimed),
	COUNTER(n_arenas_current),
	COUNTER(n_free_pools),
	COUNTER(n_medium_pools),
	COUNTER(n_large_arenas),
	COUNTER(n_record_pools),
	COUNTER(n_record_arenas),
	COUNTER(n_medium_objects),
	COUNTER(n_large_objects),
	COUNTER(n_names),
};

START_TEST(counter_is_mended)
{
	static const uint64_t change[] = {1, UINT64_MAX, UINT64_C(1) << 40};
	const size_t n = sizeof(change) / sizeof(change[0]);
	uint8_t *counter = (uint8_t *)&control()->counters + counters[(size_t)_i / n].off;
	uint64_t value;

	populate();
	memcpy(&value, counter, sizeof(value));
	value += change[(size_t)_i % n];
	memcpy(counter, &value, sizeof(value));
	expect_reported_and_mended(REPAIRER, counters[(size_t)_i / n].name);
	work();
	verify_kept();
	end_all();
}
END_TEST

START_TEST(highwater_is_mended)
{
	populate();
	control()->counters.n_arenas_highwater = 0;
	expect_reported_and_mended(REPAIRER, "n_arenas_highwater");
	end_all();
}
END_TEST

/* Under the lock that the session has for several calls already. */
START_TEST(mended_under_the_lock)
{
	populate();
	usable_empty();
	ck_assert_int_eq(session_lock(REPAIRER), 0);
	ck_assert_int_gt(heap_repair(REPAIRER, NULL, NULL), 0);
	ck_assert_int_eq(change_try_begin(&fx.sessions[0]), -EBUSY);
	ck_assert_int_eq(session_unlock(REPAIRER), 0);
	fixture_check();
	verify_kept();
	end_all();
}
END_TEST

/* ---- random damage ----------------------------------------------------------------------------------------------- */

struct field {
	void *p;
	uint32_t size;
	uint32_t n_bits; /* that may be damaged, from the lowest on */
};

static struct field fields[200000];
static uint32_t n_fields;

static void add_bits(void *p, uint32_t size, uint32_t n_bits)
{
	ck_assert_uint_lt(n_fields, sizeof(fields) / sizeof(fields[0]));
	fields[n_fields++] = (struct field){p, size, n_bits};
}

static void add_array(void *p, size_t length, uint32_t size)
{
	for (size_t i = 0; i + size <= length; i += size)
		add_bits((uint8_t *)p + i, size, 8 * size);
}

#define ADD(lvalue) add_bits(&(lvalue), sizeof(lvalue), 8 * sizeof(lvalue))

static void add_pool(struct pool_entry *pool)
{
	struct object_header *headers = (void *)(fx.heap->base + ((uint64_t)(pool - fx.heap->pools) << POOL_SHIFT));

	ADD(pool->n_used);
	ADD(pool->n_carved);
	ADD(pool->freeblock1);
	ADD(pool->next1);
	ADD(pool->prev1);
	if (pool->kind == POOL_RUN)
		add_bits(&pool->header.word, 8, 34);
	if (pool->kind != POOL_BLOCKS)
		return;
	for (uint32_t i = 0; i < pool->n_carved; i++) {
		if (header_state(headers[i].word) == STATE_FREE)
			ADD(headers[i].info);
		else
			add_bits(&headers[i].word, 8, 34); /* the count */
	}
}

static void add_arena(uint32_t a)
{
	struct arena_entry *arena = &fx.heap->arenas[a];

	ADD(arena->n_free_pools);
	ADD(arena->next1);
	ADD(arena->prev1);
	add_array(&fx.heap->freepools[a * fx.heap->pool_words], fx.heap->pool_words * 8, 8);
	if (arena->state != ARENA_POOLS)
		return;
	for (uint32_t i = 0; i < fx.heap->pools_per_arena; i++)
		add_pool(&fx.heap->pools[a * fx.heap->pools_per_arena + i]);
}

/* States, kinds, sizes, headers, slots and contents. */
static void add_truth(uint32_t a)
{
	uint32_t first = a * fx.heap->pools_per_arena;

	add_array(&fx.heap->arenas[a], sizeof(struct arena_entry), 4);
	add_array(&fx.heap->pools[first], fx.heap->pools_per_arena * sizeof(struct pool_entry), 8);
	if (!arena_is_there(fx.heap, a))
		return;
	for (uint32_t i = 0; i < 500; i++)
		add_bits(fx.heap->base + (uint64_t)first * POOL_SIZE + 8 * fixture_below(fx.heap->arena_size / 8), 8,
			64);
}

/* Everything that follows from something else. */
static void find_fields(void)
{
	n_fields = 0;
	add_array(&control()->counters, sizeof(struct counters), 8);
	add_array(control()->spaces, sizeof(control()->spaces), 4);
	ADD(control()->returnable_arenas1);
	for (uint32_t a = 0; a < control()->n_arenas_seen; a++)
		add_arena(a);
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++) {
		ADD(fx.sessions[i].entry->n_holds);
		ADD(fx.sessions[i].entry->dying1);
		ADD(fx.sessions[i].entry->making1);
	}
	for (uint32_t i = 0; i < CHAIN; i++)
		add_bits(name_link(i), 8, 64);
	for (uint32_t i = 0; i < 200; i++)
		ADD(fx.heap->name_buckets[fixture_below(fx.heap->n_name_buckets)]);
}

static uint64_t read_field(const struct field *field)
{
	uint64_t value = 0;

	memcpy(&value, field->p, field->size);
	return value;
}

static void damage_field(const struct field *field)
{
	uint64_t mask = field->n_bits == 64 ? UINT64_MAX : (UINT64_C(1) << field->n_bits) - 1;
	uint64_t before = read_field(field), value = 0;

	switch (fixture_below(8)) {
	case 0:
		break;
	case 1:
		value = UINT64_MAX;
		break;
	case 2:
		value = before ^ UINT64_C(1) << fixture_below(field->n_bits);
		break;
	case 3:
		value = before + 1;
		break;
	case 4:
		value = before - 1;
		break;
	case 5:
		value = fixture_below(70);
		break;
	case 6:
		value = fixture_random();
		break;
	case 7:
		value = read_field(&fields[fixture_below(n_fields)]);
		break;
	}
	value = (before & ~mask) | (value & mask);
	memcpy(field->p, &value, field->size);
}

START_TEST(random_damage_is_mended)
{
	uint64_t n_rounds = fixture_ops(300);

	fixture_seed();
	populate();
	for (uint64_t round = 0; round < n_rounds; round++) {
		struct report report = {0};
		uint32_t n = 1 + fixture_below(round % 10 ? 20 : 2000);
		int64_t r;

		find_fields();
		while (n-- > 0)
			damage_field(&fields[fixture_below(n_fields)]);
		r = heap_check(&fx.sessions[0], NULL, NULL);
		ck_assert_int_ge(r, 0);
		ck_assert_int_eq(heap_repair(&fx.sessions[0], note_fault, &report), r);
		ck_assert_int_eq(report.n_faults, r);
		fixture_check();
		verify_kept();
	}
	verify_names(0);
	work();
	end_all();
}
END_TEST

/*
 * Whatever a stray write hits, the truth included: nobody crashes. Each round has a heap of its own, since the damage
 * stays.
 */
START_TEST(any_damage_is_survived)
{
	uint64_t n_rounds = fixture_ops(200);

	fixture_seed();
	for (uint64_t round = 0; round < n_rounds; round++) {
		uint32_t n_bytes = (uint32_t)(fx.heap->control_size - offsetof(struct control, counters));
		uint32_t n = 1 + fixture_below(round % 10 ? 20 : 2000);
		int64_t r;

		populate();
		n_fields = 0;
		add_array(&control()->counters, sizeof(struct control) - offsetof(struct control, counters), 4);
		for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++)
			add_array(fx.sessions[i].entry, sizeof(struct session_entry), 4);
		for (uint32_t i = 0; i < 200; i++)
			add_bits((uint8_t *)&control()->counters + fixture_below(n_bytes / 8) * 8, 8, 64);
		for (uint32_t a = 0; a < control()->n_arenas_seen; a++)
			add_truth(a);
		while (n-- > 0)
			damage_field(&fields[fixture_below(n_fields)]);
		r = heap_check(&fx.sessions[0], NULL, NULL);
		ck_assert(r >= 0 || r == -EUCLEAN);
		r = heap_repair(&fx.sessions[0], NULL, NULL);
		ck_assert(r >= 0 || r == -EUCLEAN);
		if (r >= 0) /* then it has said that all is mended */
			fixture_check();
		fixture_close();
		fixture_open();
	}
}
END_TEST

/* ---- the repairer dies ------------------------------------------------------------------------------------------- */

/* Whoever is killed in the middle of the rebuild has set the mark, and next to nothing else need be right. */
START_TEST(half_rebuilt)
{
	uint64_t n_recoveries = control()->lock.n_recoveries;
	pid_t pid;

	fixture_seed();
	populate();
	find_fields();
	pid = fork();
	if (pid == 0) {
		if (change_begin(REPAIRER) < 0)
			_exit(1);
		control()->rebuilding = 1;
		memset(control()->spaces, 0, sizeof(control()->spaces));
		memset(fx.heap->name_buckets, 0, fx.heap->n_name_buckets * sizeof(*fx.heap->name_buckets));
		memset(&control()->counters, 0, sizeof(control()->counters));
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_uint_eq(control()->rebuilding, 1);
	fixture_check(); /* takes the lock, and so rebuilds */
	ck_assert_uint_eq(control()->rebuilding, 0);
	ck_assert_uint_eq(control()->lock.n_recoveries, n_recoveries + 1);
	verify_kept();
	verify_names(0);
	work();
	end_all();
}
END_TEST

static void repair_for_ever(bool only_rebuild)
{
	struct session *s = &fx.sessions[0];

	for (;;) {
		if (change_begin(s) < 0)
			_exit(1);
		for (uint32_t i = 0; i < 50; i++)
			damage_field(&fields[fixture_below(n_fields)]);
		if (only_rebuild) /* most of the time is spent there then */
			heap_rebuild(s->heap);
		change_end(s, 0);
		if (!only_rebuild && heap_repair(s, NULL, NULL) < 0)
			_exit(2);
	}
}

START_TEST(repairer_is_killed)
{
	uint64_t n_rounds = fixture_ops(300);
	uint32_t n_rebuilding = 0;
	int status;

	fixture_seed();
	populate();
	for (uint64_t round = 0; round < n_rounds; round++) {
		pid_t pid;

		find_fields();
		pid = fork();
		if (pid == 0)
			repair_for_ever(round % 2);
		usleep(fixture_below(3000));
		(void)fixture_random(); /* the next child's numbers are others */
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status));
		n_rebuilding += control()->rebuilding;
		ck_assert_int_ge(heap_repair(&fx.sessions[1], NULL, NULL), 0);
		ck_assert_uint_eq(control()->rebuilding, 0);
		fixture_check();
		verify_kept();
	}
	printf("repairer killed %u times, %u times in the middle of the rebuild\n", (unsigned)n_rounds, n_rebuilding);
	ck_assert(n_rebuilding > 0 || n_rounds < 300);
	verify_names(0);
	work();
	end_all();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("repair");
	TCase *t = tcase_create("repair");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_set_timeout(t, 300);
	tcase_add_loop_test(t, damage_is_mended, 0, (int)(sizeof(damages) / sizeof(damages[0])));
	tcase_add_loop_test(t, counter_is_mended, 0, 3 * (int)(sizeof(counters) / sizeof(counters[0])));
	tcase_add_test(t, highwater_is_mended);
	tcase_add_test(t, holds_of_the_dead);
	tcase_add_test(t, mended_under_the_lock);
	tcase_add_test(t, random_damage_is_mended);
	tcase_add_test(t, any_damage_is_survived);
	tcase_add_test(t, half_rebuilt);
	tcase_add_test(t, repairer_is_killed);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
