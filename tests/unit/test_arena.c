// SPDX-License-Identifier: MIT
/*
 * Arenas: their order, where new pools come from, what goes back to the system and how
 *
 * An object of one to sixteen pages stands for as many pools here. A session keeps one of each length that it freed for
 * its next object; where that is not what a test is about, free_now() has it go to its arena at once. Objects are
 * spread over the sessions, each of which owns what it made.
 */
#include "tests/unit/fixture.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define POOLS (ARENA_SIZE_DEFAULT / POOL_SIZE)

static struct session *session_of(uint32_t i)
{
	return &fx.sessions[i % FIXTURE_SESSIONS];
}

static void free_now(struct session *session, uint64_t ref)
{
	fixture_drop(session, ref);
	fixture_collect();
}

/* ---- the order of usable_arenas ---------------------------------------------------------------------------------- */

static uint32_t count_free_pools(uint32_t arena)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < fx.heap->pools_per_arena; i++)
		n += (uint32_t)(fx.heap->freepools[arena * fx.heap->pool_words + i / 64] >> (i % 64)) & 1;
	return n;
}

/* None, by eighths, all. */
static uint32_t rank_of(const struct arena_entry *arena)
{
	return arena->n_free_pools == POOLS ? 9 : arena->n_free_pools ? 1 + arena->n_free_pools * 8 / POOLS : 0;
}

/* Ascending, linked both ways, rank2lasta exact for every rank, and every arena with a free pool is there. */
static void check_order(enum space_kind kind)
{
	const struct space *space = &fx.heap->control->spaces[kind];
	uint32_t last[N_RANKS] = {0}, prev1 = 0, n_linked = 0, n_usable = 0;

	for (uint32_t i1 = space->usable_arenas1; i1; i1 = fx.heap->arenas[i1 - 1].next1) {
		const struct arena_entry *arena = &fx.heap->arenas[i1 - 1];

		ck_assert_uint_eq(arena->state, ARENA_POOLS);
		ck_assert_uint_eq(arena->space, kind);
		ck_assert_uint_eq(arena->prev1, prev1);
		ck_assert_uint_eq(arena->n_free_pools, count_free_pools(i1 - 1));
		ck_assert_uint_gt(arena->n_free_pools, 0);
		if (prev1)
			ck_assert_uint_ge(rank_of(arena), rank_of(&fx.heap->arenas[prev1 - 1]));
		last[rank_of(arena)] = i1;
		prev1 = i1;
		ck_assert_uint_le(++n_linked, fx.heap->n_arenas);
	}
	for (uint32_t rank = 0; rank < N_RANKS; rank++)
		ck_assert_uint_eq(space->rank2lasta1[rank], last[rank]);
	for (uint32_t i = 0; i < fx.heap->control->n_arenas_known; i++)
		n_usable += fx.heap->arenas[i].state == ARENA_POOLS && fx.heap->arenas[i].space == kind &&
			    count_free_pools(i);
	ck_assert_uint_eq(n_usable, n_linked);
}

/* Fill n arenas with objects of one pool each; refs[arena * POOLS + pool]. */
static void fill_arenas(uint64_t *refs, uint32_t n)
{
	for (uint32_t i = 0; i < n * POOLS; i++) {
		ck_assert_int_eq(CALL(session_of(i), object_new(session_of(i), TYPE_BYTES, POOL_SIZE, &refs[i])), 0);
		ck_assert_uint_eq(ref_arena_index(refs[i]), ref_arena_index(refs[i / POOLS * POOLS]));
	}
	fixture_check();
}

START_TEST(new_pools_from_the_fullest)
{
	static const uint32_t free_first[] = {1, 0, 0, 2, 2, 2}; /* arenas, of which as many pools are freed */
	uint64_t refs[3 * POOLS], ref;
	uint32_t arenas[3];

	for (uint32_t i = 0; i < 3 * POOLS; i++)
		MUST(session_of(i), object_new(session_of(i), TYPE_BYTES, POOL_SIZE, &refs[i]));
	for (uint32_t a = 0; a < 3; a++)
		arenas[a] = ref_arena_index(refs[a * POOLS]);
	ck_assert_uint_eq(fx.heap->control->spaces[SPACE_OBJECTS].usable_arenas1, 0);
	for (uint32_t i = 0; i < 6; i++) {
		uint32_t a = free_first[i];

		free_now(session_of(a * POOLS + 7 * i), refs[a * POOLS + 7 * i]);
		check_order(SPACE_OBJECTS);
	}
	for (uint32_t i = 0; i < 6; i++) {
		ref = fixture_bytes(session_of(i), POOL_SIZE);
		ck_assert_uint_eq(ref_arena_index(ref), arenas[free_first[i]]);
		check_order(SPACE_OBJECTS);
	}
	ck_assert_uint_eq(fx.heap->control->spaces[SPACE_OBJECTS].usable_arenas1, 0);
}
END_TEST

START_TEST(order_after_every_operation)
{
	uint64_t refs[200] = {0};
	uint64_t n_ops = fixture_ops(4000);

	fixture_seed();
	for (uint64_t op = 0; op < n_ops; op++) {
		uint32_t i = fixture_below(200);

		if (refs[i]) {
			ck_assert_int_eq(object_decref(session_of(i), refs[i]), 0);
			refs[i] = 0;
		} else {
			size_t size = (1 + fixture_below(4) * fixture_below(4)) * POOL_SIZE;

			ck_assert_int_eq(CALL(session_of(i), object_new(session_of(i), TYPE_BYTES, size, &refs[i])), 0);
		}
		check_order(SPACE_OBJECTS);
		check_order(SPACE_RECORDS);
		if (op % 500 == 0)
			fixture_trim(fixture_below(3));
		if (!fixture_below(10))
			fixture_collect();
		if (op % 16 == 0)
			fixture_check();
	}
	for (uint32_t i = 0; i < 200; i++)
		if (refs[i])
			fixture_drop(session_of(i), refs[i]);
	check_order(SPACE_OBJECTS);
}
END_TEST

/* ---- what goes back ---------------------------------------------------------------------------------------------- */

START_TEST(only_wholly_free_ones_return)
{
	uint64_t refs[3 * POOLS], bytes;
	uint32_t kept;

	fill_arenas(refs, 3);
	bytes = fixture_heap_bytes();
	for (uint32_t i = 0; i < 3 * POOLS; i++)
		if (i != POOLS + 5) /* one object keeps the second arena */
			ck_assert_int_eq(object_decref(session_of(i), refs[i]), 0);
	fixture_check();
	kept = ref_arena_index(refs[POOLS]);
	fixture_collect();

	ck_assert_uint_eq(fixture_trim(1), 1);
	fixture_check();
	ck_assert_uint_eq(fx.heap->control->spaces[SPACE_OBJECTS].n_free_arenas, 1);
	ck_assert_uint_eq(fixture_heap_bytes(), bytes - ARENA_SIZE_DEFAULT);
	ck_assert_uint_eq(fixture_trim(1), 0);
	ck_assert_uint_eq(fixture_trim(0), 1);
	fixture_check();
	ck_assert_uint_eq(fixture_heap_bytes(), ARENA_SIZE_DEFAULT);
	ck_assert_uint_eq(fx.heap->arenas[kept].state, ARENA_POOLS);
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_current, 1);
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_reclaimed, 2);
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_highwater, 3);
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_allocated, 3);

	fixture_drop(session_of(POOLS + 5), refs[POOLS + 5]);
	ck_assert_uint_eq(fixture_trim(0), 1);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
	check_order(SPACE_OBJECTS);
	fixture_check();
}
END_TEST

/* The memory is gone for others who have the window mapped, too: they read zeroes where the object's bytes were. */
START_TEST(returned_memory_is_gone)
{
	struct heap *client = fixture_attach();
	uint64_t ref = fixture_bytes(session_of(0), 5 * POOL_SIZE), other;

	memset(ref_data(ref), 0xee, 5 * POOL_SIZE);
	ck_assert_uint_eq(client->base[ref_offset(ref)], 0xee);
	fixture_drop(session_of(0), ref);
	ck_assert_uint_eq(fixture_trim(0), 1);
	ck_assert_uint_eq(fx.heap->arenas[ref_arena_index(ref)].state, ARENA_HOLE);
	other = fixture_bytes(session_of(1), 5 * POOL_SIZE);
	ck_assert_uint_eq(ref_position(other), ref_position(ref));
	for (uint32_t i = 0; i < 5 * POOL_SIZE; i++)
		ck_assert_uint_eq(client->base[ref_offset(ref) + i], 0);
	heap_free(client);
}
END_TEST

/* A ref from before stays stale: while its arena is a hole, and when another object lies there. */
START_TEST(generations_survive_return)
{
	static const size_t sizes[] = {8, 512, 9000, ARENA_SIZE_DEFAULT, 2 * ARENA_SIZE_DEFAULT};
	size_t size = sizes[_i];
	uint64_t old[20], ref;
	struct object object;

	for (int round = 0; round < 20; round++) {
		ref = fixture_bytes(session_of(0), size);
		for (int i = 0; i < round; i++) {
			ck_assert_uint_eq(ref_position(old[i]), ref_position(ref));
			ck_assert_int_eq(object_lookup(session_of(0), old[i], &object), -ESTALE);
			ck_assert_int_eq(object_incref(session_of(0), old[i]), -ESTALE);
		}
		old[round] = ref;
		fixture_drop(session_of(0), ref);
		ck_assert_uint_eq(fixture_trim(0), 1);
		for (int i = 0; i <= round; i++)
			ck_assert_int_eq(object_lookup(session_of(0), old[i], &object), -ESTALE);
		fixture_check();
	}
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

/* The emptier of two arenas is not used for new pools, and so becomes free and can go. */
START_TEST(emptier_arena_drains)
{
	uint64_t refs[2 * POOLS];
	uint32_t emptier;

	fill_arenas(refs, 2);
	emptier = ref_arena_index(refs[POOLS]);
	for (uint32_t i = 0; i < 2 * POOLS; i++)
		if (i < POOLS / 2 || i > POOLS)
			free_now(session_of(i), refs[i]);
	for (uint32_t i = 0; i < POOLS / 2; i++)
		ck_assert_uint_ne(ref_arena_index(fixture_bytes(session_of(i), POOL_SIZE)), emptier);
	fixture_drop(session_of(POOLS), refs[POOLS]);
	ck_assert_uint_eq(fixture_trim(0), 1);
	ck_assert_uint_eq(fx.heap->arenas[emptier].state, ARENA_HOLE);
}
END_TEST

/* ---- few mappings ------------------------------------------------------------------------------------------------ */

#define SPREAD_ARENA (UINT32_C(64) << 10)
#define SPREAD       256U

static const struct heap_geometry spread_geometry = {
	.heap_size = (uint64_t)SPREAD * SPREAD_ARENA, .arena_size = SPREAD_ARENA, .n_sessions = 8};

static void set_up_spread(void)
{
	fixture_open_geometry(&spread_geometry);
}

/* Take all of the mappings that this process may have but n: pages that the kernel cannot put together. */
static void leave_mappings(unsigned int n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n_pages = 1 << 18, i;
	uint8_t *p = mmap(NULL, n_pages * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	for (i = 1; i < n_pages && mprotect(p + i * page, page, PROT_READ) == 0; i += 2)
		;
	ck_assert_int_eq(errno, ENOMEM); /* there was nothing of it for a machine that allows more */
	for (; n > 0; n--, i -= 2)
		ck_assert_int_eq(munmap(p + (i - 2) * page, 2 * page), 0);
}

static uint32_t map_one(uint32_t session)
{
	uint32_t head, n_done = 0;

	ck_assert_int_eq(supply_reserve(fx.heap, session, 1, &head), 0);
	ck_assert_int_eq(supply_map_step(fx.heap, head, 1, &n_done), 1);
	return head;
}

/* What is granted to the session goes back, however it lies. */
static void take_back(uint32_t session, uint32_t n_expected)
{
	uint32_t head, n_done, n = 0;

	while (supply_pick_granted(&fx.daemon, session, false, &head) > 0) {
		n_done = 0;
		ck_assert_int_eq(supply_unmap_step(fx.heap, head, 1, &n_done), 1);
		n++;
	}
	ck_assert_uint_eq(n, n_expected);
}

/* Every second arena goes and comes again, when nearly no mapping more is allowed: all of the memory goes back. */
START_TEST(returned_without_mappings)
{
	for (uint32_t i = 0; i < SPREAD; i++)
		ck_assert_uint_eq(map_one(i % 2), i);
	leave_mappings(20);
	take_back(1, SPREAD / 2);
	ck_assert_uint_eq(fixture_heap_bytes(), SPREAD / 2 * SPREAD_ARENA);
	for (uint32_t i = 0; i < SPREAD / 2; i++) {
		uint32_t head = map_one(1);

		ck_assert_uint_eq(head, 2 * i + 1);
		ck_assert_uint_eq(fx.heap->base[(uint64_t)head * SPREAD_ARENA], 0);
		fx.heap->base[(uint64_t)head * SPREAD_ARENA] = 1;
	}
	take_back(0, SPREAD / 2);
	take_back(1, SPREAD / 2);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

/* The next daemon may have as few. */
START_TEST(adopted_without_mappings)
{
	struct heap *heap;
	int control_fd, heap_fd;

	for (uint32_t i = 0; i < SPREAD; i++)
		map_one(i % 2);
	take_back(1, SPREAD / 2);
	for (uint32_t i = 0; i < SPREAD; i += 2)
		fx.heap->base[(uint64_t)i * SPREAD_ARENA] = (uint8_t)i;
	control_fd = dup(fx.heap->control_fd);
	heap_fd = dup(fx.heap->heap_fd);
	leave_mappings(20);
	ck_assert_int_eq(heap_adopt(&heap, control_fd, heap_fd), 0);
	for (uint32_t i = 0; i < SPREAD; i += 2)
		ck_assert_uint_eq(heap->base[(uint64_t)i * SPREAD_ARENA], (uint8_t)i);
	heap_free(heap);
}
END_TEST

/* ---- runs of pools ----------------------------------------------------------------------------------------------- */

START_TEST(runs_first_fit)
{
	static const uint32_t lengths[] = {3, 5, 2, 7, 1, 6};
	uint64_t refs[6], ref;
	uint32_t first = 0;

	for (uint32_t i = 0; i < 6; i++) {
		refs[i] = fixture_bytes(session_of(i), lengths[i] * POOL_SIZE);
		ck_assert_uint_eq(ref_pool_index(refs[i]) % POOLS, first);
		first += lengths[i];
	}
	free_now(session_of(1), refs[1]); /* 3..7 are free, and from 24 on */
	free_now(session_of(3), refs[3]); /* and 10..16 */
	ref = fixture_bytes(session_of(0), 6 * POOL_SIZE);
	ck_assert_uint_eq(ref_pool_index(ref) % POOLS, 10);
	ref = fixture_bytes(session_of(0), 3 * POOL_SIZE);
	ck_assert_uint_eq(ref_pool_index(ref) % POOLS, 3);
	ref = fixture_bytes(session_of(0), 3 * POOL_SIZE);
	ck_assert_uint_eq(ref_pool_index(ref) % POOLS, 24);
	ref = fixture_bytes(session_of(0), 2 * POOL_SIZE);
	ck_assert_uint_eq(ref_pool_index(ref) % POOLS, 6);
	ref = fixture_bytes(session_of(0), 1 * POOL_SIZE);
	ck_assert_uint_eq(ref_pool_index(ref) % POOLS, 16);
}
END_TEST

/* Of an arena that fill_arenas() has filled: free n pools, each stride-th. */
static void free_some(const uint64_t *refs, uint32_t arena, uint32_t n, uint32_t stride)
{
	for (uint32_t i = arena * POOLS; n-- > 0; i += stride)
		free_now(session_of(i), refs[i]);
}

/* Arenas that are as full as one which has room, but have none, hide it from nobody; nor do those that have room by
 * their number, and none by what is adjacent, hide the emptiest. */
START_TEST(run_among_many)
{
	static const struct {
		uint32_t n, stride;  /* of pools that are free in 17 arenas */
		uint32_t n_adjacent; /* and in the next one */
	} rows[] = {{1, 1, 7}, {10, 2, 12}};
	static uint64_t refs[19 * POOLS];
	uint64_t ref;

	fill_arenas(refs, 19);
	for (uint32_t a = 0; a < 17; a++)
		free_some(refs, a, rows[_i].n, rows[_i].stride);
	free_some(refs, 17, rows[_i].n_adjacent, 1);
	free_some(refs, 18, rows[_i].n, rows[_i].stride);
	check_order(SPACE_OBJECTS);
	ref = fixture_bytes(session_of(0), 4 * POOL_SIZE);
	ck_assert_uint_eq(ref_arena_index(ref), ref_arena_index(refs[17 * POOLS]));
	check_order(SPACE_OBJECTS);
}
END_TEST

/* Each length, each placed beside the others and with its bytes its own. */
START_TEST(runs_of_each_length)
{
	uint64_t refs[POOLS];

	for (uint32_t n = 1; n < POOLS; n++) {
		refs[n] = fixture_bytes(session_of(n), n * POOL_SIZE);
		ck_assert_uint_eq(ref_pool_index(refs[n]) / POOLS, (ref_pool_index(refs[n]) + n - 1) / POOLS);
		memset(ref_data(refs[n]), (int)n, n * POOL_SIZE);
	}
	for (uint32_t n = 1; n < POOLS; n++) {
		for (uint32_t i = 0; i < n * POOL_SIZE; i += 512)
			ck_assert_uint_eq(ref_data(refs[n])[i], n);
		fixture_drop(session_of(n), refs[n]);
	}
	ck_assert_uint_eq(fixture_stats().bytes_medium_objects, 0);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

START_TEST(runs_fragmented)
{
	uint64_t refs[POOLS], ref;

	fill_arenas(refs, 1);
	for (uint32_t i = 0; i < POOLS; i += 2)
		free_now(session_of(i), refs[i]);
	/* half of the pools are free, and no two of them adjoin */
	ref = fixture_bytes(session_of(0), 2 * POOL_SIZE);
	ck_assert_uint_ne(ref_arena_index(ref), ref_arena_index(refs[1]));
	free_now(session_of(1), refs[1]);
	ref = fixture_bytes(session_of(0), 3 * POOL_SIZE);
	ck_assert_uint_eq(ref_pool_index(ref), ref_pool_index(refs[0]));
}
END_TEST

/* ---- runs of arenas ---------------------------------------------------------------------------------------------- */

START_TEST(arena_runs_of_each_length)
{
	for (uint32_t n = 1; n <= fx.heap->n_arenas; n++) {
		uint64_t ref = fixture_bytes(session_of(n), (uint64_t)n * ARENA_SIZE_DEFAULT - (n > 1 ? 4096 : 4095));
		uint32_t head = ref_arena_index(ref);

		ck_assert_uint_eq(ref_offset(ref) % ARENA_SIZE_DEFAULT, 0);
		ck_assert_uint_eq(ref_arena(ref)->state, ARENA_RUN);
		ck_assert_uint_eq(ref_arena(ref)->n_arenas, n);
		for (uint32_t i = 1; i < n; i++)
			ck_assert_uint_eq(fx.heap->arenas[head + i].state, ARENA_BODY);
		ref_data(ref)[(uint64_t)n * ARENA_SIZE_DEFAULT - 4097] = 1;
		ck_assert_uint_eq(fixture_heap_bytes(), (uint64_t)n * ARENA_SIZE_DEFAULT);
		fixture_drop(session_of(n), ref);
		ck_assert_uint_eq(fx.heap->arenas[head].state, ARENA_RETURNABLE);
		ck_assert_uint_eq(fx.heap->control->counters.n_arenas_current, n);
		/* it goes whatever may be spared: spare arenas are for pools */
		ck_assert_uint_eq(fixture_trim(UINT32_MAX), 1);
		for (uint32_t i = 0; i < n; i++)
			ck_assert_uint_eq(fx.heap->arenas[head + i].state, ARENA_HOLE);
		ck_assert_uint_eq(fixture_heap_bytes(), 0);
		fixture_check();
	}
}
END_TEST

START_TEST(arena_run_reused)
{
	uint64_t ref = fixture_bytes(session_of(0), 3 * ARENA_SIZE_DEFAULT), other;

	fixture_drop(session_of(0), ref);
	other = fixture_bytes(session_of(1), 3 * ARENA_SIZE_DEFAULT - 100);
	ck_assert_uint_eq(ref_position(other), ref_position(ref));
	ck_assert_uint_ne(other, ref);
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_allocated, 3);
	ck_assert_int_eq(object_decref(session_of(0), ref), -ESTALE);
	/* one of another length does not fit, and takes fresh memory */
	fixture_drop(session_of(1), other);
	other = fixture_bytes(session_of(1), 2 * ARENA_SIZE_DEFAULT);
	ck_assert_uint_ne(ref_arena_index(other), ref_arena_index(ref));
	ck_assert_uint_eq(ref_arena(ref)->state, ARENA_RETURNABLE);
	ck_assert_uint_eq(fixture_trim(0), 1);
}
END_TEST

START_TEST(arena_run_needs_adjacent_holes)
{
	uint32_t n = fx.heap->n_arenas;
	uint64_t refs[64], ref = 7;

	ck_assert_uint_eq(n, 64);
	for (uint32_t i = 0; i < n; i++)
		refs[i] = fixture_bytes(session_of(i), ARENA_SIZE_DEFAULT);
	EXPECT(session_of(0), -ENOMEM, object_new(session_of(0), TYPE_BYTES, 1, &ref));
	for (uint32_t i = 0; i < n; i++)
		if (ref_arena_index(refs[i]) % 2)
			fixture_drop(session_of(i), refs[i]);
	fixture_trim(0);
	EXPECT(session_of(0), -ENOMEM, object_new(session_of(0), TYPE_BYTES, 2 * ARENA_SIZE_DEFAULT, &ref));
	ck_assert_uint_eq(ref, 7);
	ref = fixture_bytes(session_of(0), ARENA_SIZE_DEFAULT);
	fixture_drop(session_of(0), ref);
	for (uint32_t i = 0; i < n; i++)
		if (ref_arena_index(refs[i]) % 2 == 0)
			fixture_drop(session_of(i), refs[i]);
	/* and now there is room for one object as large as the heap */
	ref = fixture_bytes(session_of(0), FIXTURE_HEAP_SIZE);
	ref_data(ref)[FIXTURE_HEAP_SIZE - 1] = 1;
	fixture_drop(session_of(0), ref);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

/* ---- records ----------------------------------------------------------------------------------------------------- */

START_TEST(records_live_apart)
{
	uint64_t refs[300];

	for (uint32_t i = 0; i < 300; i++) {
		char name[32];

		snprintf(name, sizeof(name), "object %u", i);
		refs[i] = fixture_bytes(session_of(0), 1 + i * 7);
		MUST(session_of(0), name_set(session_of(0), name, refs[i]));
		MUST(session_of(1), object_incref(session_of(1), refs[i])); /* who has not made it needs a table */
	}
	for (uint32_t i = 0; i < 300; i++)
		ck_assert_uint_eq(ref_arena(refs[i])->space, SPACE_OBJECTS);
	ck_assert_uint_ne(session_of(1)->entry->holds_position1, 0);
	ck_assert_uint_eq(ref_arena(session_of(1)->entry->holds_position1 - 1)->space, SPACE_RECORDS);
	ck_assert_uint_gt(fixture_stats().bytes_records, 0);
	for (uint32_t b = 0; b < fx.heap->n_name_buckets; b++)
		if (fx.heap->name_buckets[b])
			ck_assert_uint_eq(ref_arena(fx.heap->name_buckets[b])->space, SPACE_RECORDS);
}
END_TEST

/* A wholly free arena serves the other space before fresh memory is asked for. */
START_TEST(free_arena_changes_sides)
{
	uint64_t ref = fixture_bytes(session_of(0), 100), list = fixture_list(session_of(0), 1);

	MUST(session_of(0), name_set(session_of(0), "n", list));
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_current, 2);
	MUST(session_of(0), name_del(session_of(0), "n"));
	ck_assert_uint_eq(fx.heap->control->spaces[SPACE_RECORDS].n_free_arenas, 1);
	for (uint32_t i = 0; i < POOLS; i++) {
		uint64_t one;

		MUST(session_of(i), object_new(session_of(i), TYPE_BYTES, POOL_SIZE, &one));
	}
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_current, 2);
	ck_assert_uint_eq(fx.heap->control->spaces[SPACE_RECORDS].usable_arenas1, 0);
	fixture_drop(session_of(0), ref);
}
END_TEST

/* Reserve and map a run for a session, which has not accepted it yet. */
static uint32_t map_run(uint32_t session, uint32_t n)
{
	uint32_t head, n_done = 0;

	ck_assert_int_eq(supply_reserve(fx.heap, session, n, &head), 0);
	ck_assert_uint_eq(fx.heap->arenas[head].state, ARENA_MAPPING);
	for (uint32_t i = 0; i + 1 < n; i++) {
		ck_assert_int_eq(supply_map_step(fx.heap, head, 1, &n_done), 0);
		ck_assert_uint_eq(n_done, i + 1);
		ck_assert_uint_eq(fx.heap->arenas[head].state, ARENA_MAPPING);
	}
	ck_assert_int_eq(supply_map_step(fx.heap, head, 1, &n_done), 1);
	ck_assert_uint_eq(fx.heap->arenas[head].state, ARENA_GRANTED);
	return head;
}

/* So it does where the other space has free pools, but too few that adjoin. */
START_TEST(free_arena_changes_sides_for_a_run)
{
	struct session *session = session_of(0);
	uint64_t refs[POOLS], run, n_current;

	for (uint32_t i = 0; i < POOLS; i++)
		refs[i] = fixture_bytes(session, POOL_SIZE);
	for (uint32_t i = 0; i < POOLS; i += 2)
		fixture_drop(session, refs[i]);
	session->n_wanted_arenas = 1;
	session->wants_run = false;
	session->wants_space = SPACE_RECORDS;
	ck_assert_int_eq(supply_accept(session, map_run(0, 1)), 0);
	ck_assert_uint_eq(fx.heap->control->spaces[SPACE_RECORDS].n_free_arenas, 1);
	n_current = fx.heap->control->counters.n_arenas_current;
	ck_assert_int_eq(object_new(session, TYPE_BYTES, 3 * POOL_SIZE, &run), 0);
	ck_assert_uint_eq(fx.heap->control->spaces[SPACE_RECORDS].n_free_arenas, 0);
	fixture_check();
	memset(ref_data(run), 1, 3 * POOL_SIZE);
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_current, n_current);
	fixture_drop(session, run);
	for (uint32_t i = 1; i < POOLS; i += 2)
		fixture_drop(session, refs[i]);
}
END_TEST

static uint64_t control_bytes(void)
{
	struct stat st;

	ck_assert_int_eq(fstat(fx.heap->control_fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* ---- granting ---------------------------------------------------------------------------------------------------- */

START_TEST(accept_what_was_granted)
{
	uint32_t head = map_run(1, 1);

	ck_assert_int_eq(supply_accept(session_of(0), head), -EPERM);
	ck_assert_int_eq(supply_accept(session_of(1), head + 1), -EINVAL);
	ck_assert_int_eq(supply_accept(session_of(1), fx.heap->n_arenas), -EINVAL);
	ck_assert_int_eq(supply_accept(session_of(1), UINT32_MAX), -EINVAL);
	fixture_check();
	ck_assert_int_eq(supply_accept(session_of(1), head), 0);
	fixture_check();
	ck_assert_int_eq(supply_accept(session_of(1), head), -EPERM);
	check_order(SPACE_OBJECTS);
	/* Granted in advance, it is used by whoever needs it. */
	ck_assert_int_eq(object_new(session_of(2), TYPE_BYTES, 5, &(uint64_t){0}), 0);
}
END_TEST

START_TEST(reserve_refused)
{
	uint32_t head = 77;

	ck_assert_int_eq(supply_reserve(fx.heap, 0, fx.heap->n_arenas + 1, &head), -ENOMEM);
	ck_assert_int_eq(supply_reserve(fx.heap, 0, UINT32_MAX, &head), -ENOMEM);
	ck_assert_int_eq(supply_reserve(fx.heap, 0, 0, &head), -ENOMEM);
	ck_assert_uint_eq(head, 77);
	ck_assert_int_eq(supply_reserve(fx.heap, 0, fx.heap->n_arenas, &head), 0);
	ck_assert_int_eq(supply_reserve(fx.heap, 0, 1, &head), -ENOMEM);
	fixture_check();
}
END_TEST

/*
 * An arena far up is there before those below it, which are being mapped for somebody else. The pool entries of all
 * below are there when it is granted, and were allocated a part at a time.
 */
START_TEST(entries_below_in_steps)
{
	const struct heap_geometry geometry = {
		.heap_size = 160 * (uint64_t)ARENA_SIZE_MAX, .arena_size = ARENA_SIZE_MAX, .n_sessions = 4};
	const uint64_t step = UINT64_C(4) << 20,
		       below = step / (ARENA_SIZE_MAX / POOL_SIZE * sizeof(struct pool_entry));
	uint32_t below_head, head, n_done = 0, n = 0;
	uint64_t bytes;
	int r;

	fixture_close();
	fixture_open_geometry(&geometry);
	ck_assert_int_eq(supply_reserve(fx.heap, 0, 150, &below_head), 0);
	ck_assert_int_eq(supply_reserve(fx.heap, 1, 1, &head), 0);
	ck_assert_uint_eq(head, 150);
	do {
		bytes = control_bytes();
		r = supply_map_step(fx.heap, head, 1, &n_done);
		ck_assert_uint_eq(n_done, 1);
		ck_assert_int_eq(r, ++n * below > head);
		ck_assert_uint_eq(fx.heap->arenas[head].state, r ? ARENA_GRANTED : ARENA_MAPPING);
		ck_assert_uint_eq(fx.heap->control->n_arenas_mapped, r ? head + 1 : n * below);
		ck_assert_uint_gt(control_bytes(), bytes);
		ck_assert_uint_le(
			control_bytes() - bytes, step + ARENA_SIZE_MAX / POOL_SIZE * sizeof(struct pool_entry));
		fixture_check();
	} while (r == 0);
	ck_assert_int_eq(supply_accept(session_of(1), head), 0);
	fixture_check();
	/* What lies there is looked at, and is nothing, without that anything has to be allocated. */
	bytes = control_bytes();
	for (uint32_t i = 0; i < head; i++)
		ck_assert_int_lt(
			object_incref(session_of(1), ref_make((uint64_t)i * ARENA_SIZE_MAX / BLOCK_ALIGNMENT, 1)), 0);
	ck_assert_uint_eq(control_bytes(), bytes);
	n_done = 0;
	ck_assert_int_eq(supply_unmap_step(fx.heap, below_head, 150, &n_done), 1);
	/* They are there once and for all. */
	n_done = 0;
	ck_assert_int_eq(supply_reserve(fx.heap, 0, 9, &below_head), 0);
	ck_assert_int_eq(supply_map_step(fx.heap, below_head, 9, &n_done), 1);
	ck_assert_uint_eq(control_bytes(), bytes);
	fixture_check();
}
END_TEST

/* What is reserved can be given up half-way, as when /dev/shm is full. */
START_TEST(mapping_given_up)
{
	uint32_t head, n_done = 0;

	ck_assert_int_eq(supply_reserve(fx.heap, 0, 5, &head), 0);
	ck_assert_int_eq(supply_map_step(fx.heap, head, 2, &n_done), 0);
	ck_assert_uint_eq(fixture_heap_bytes(), 2 * ARENA_SIZE_DEFAULT);
	fixture_check();
	n_done = 0;
	ck_assert_int_eq(supply_unmap_step(fx.heap, head, 4, &n_done), 0);
	ck_assert_int_eq(supply_unmap_step(fx.heap, head, 4, &n_done), 1);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
	ck_assert_int_eq(supply_reserve(fx.heap, 1, fx.heap->n_arenas, &head), 0);
}
END_TEST

START_TEST(dead_sessions_grants_are_taken_back)
{
	uint32_t head = map_run(1, 2), other = map_run(2, 1), picked, n_done = 0;

	session_mark_dead(fx.heap, 1);
	ck_assert_int_eq(supply_pick_granted(&fx.daemon, 1, false, &picked), 1);
	ck_assert_uint_eq(picked, head);
	ck_assert_uint_eq(fx.heap->arenas[head].state, ARENA_RETURNING);
	ck_assert_int_eq(supply_unmap_step(fx.heap, picked, 2, &n_done), 1);
	ck_assert_int_eq(supply_pick_granted(&fx.daemon, 1, false, &picked), 0);
	fixture_check();
	ck_assert_uint_eq(fixture_heap_bytes(), ARENA_SIZE_DEFAULT);
	ck_assert_int_eq(supply_accept(session_of(2), other), 0);
}
END_TEST

START_TEST(pick_waits_for_nobody)
{
	uint32_t head;

	free_now(session_of(0), fixture_bytes(session_of(0), 10));
	ck_assert_int_eq(session_lock(session_of(0)), 0);
	ck_assert_int_eq(supply_pick_returning(&fx.daemon, 0, &head), -EBUSY);
	ck_assert_int_eq(supply_pick_granted(&fx.daemon, 1, false, &head), -EBUSY);
	ck_assert_int_eq(
		supply_pick_granted(&fx.daemon, 0, true, &head), 0); /* of the owner itself no change is pending */
	ck_assert_int_eq(session_unlock(session_of(0)), 0);
	ck_assert_int_eq(supply_pick_returning(&fx.daemon, 0, &head), 1);
}
END_TEST

/* ---- another daemon -------------------------------------------------------------------------------------------- */

/* The daemon is gone, with all that only it had in mind, and another one adopts the heap. */
static void restart_daemon(void)
{
	struct heap *heap;
	int control_fd = dup(fx.heap->control_fd), heap_fd = dup(fx.heap->heap_fd);

	heap_free(fx.heap);
	ck_assert_int_eq(heap_adopt(&heap, control_fd, heap_fd), 0);
	fx.heap = heap;
	session_init(&fx.daemon, heap, SESSION_DAEMON);
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++)
		session_init(&fx.sessions[i], heap, fx.sessions[i].index);
	ck_assert_int_eq(supply_adopt_all(heap), 0);
	fixture_adopt_returning();
	fixture_check();
}

START_TEST(adopted_with_everything)
{
	uint64_t small = fixture_bytes(session_of(0), 100),
		 large = fixture_bytes(session_of(0), 2 * ARENA_SIZE_DEFAULT);
	uint64_t bytes = fixture_heap_bytes();

	memset(ref_data(small), 1, 100);
	memset(ref_data(large), 2, 2 * ARENA_SIZE_DEFAULT);
	restart_daemon();
	ck_assert_uint_eq(fixture_heap_bytes(), bytes);
	ck_assert_uint_eq(ref_data(small)[99], 1);
	ck_assert_uint_eq(ref_data(large)[2 * ARENA_SIZE_DEFAULT - 1], 2);
	fixture_drop(session_of(0), small);
	fixture_drop(session_of(0), large);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

START_TEST(adopt_takes_what_was_half_way)
{
	uint64_t ref = fixture_bytes(session_of(0), 3 * ARENA_SIZE_DEFAULT);
	uint32_t mapping, granted, lost, returning, n_done = 0;

	fixture_drop(session_of(0), ref);
	ck_assert_int_eq(supply_reserve(fx.heap, 0, 4, &mapping), 0);
	ck_assert_int_eq(supply_map_step(fx.heap, mapping, 2, &n_done), 0);
	granted = map_run(0, 2);
	lost = map_run(fx.heap->n_sessions - 1, 2); /* of a session that is free */
	n_done = 0;
	ck_assert_int_eq(supply_pick_returning(&fx.daemon, 0, &returning), 1);
	ck_assert_int_eq(supply_unmap_step(fx.heap, returning, 1, &n_done), 0);

	restart_daemon();
	ck_assert_uint_eq(fx.heap->arenas[mapping].state, ARENA_HOLE);
	ck_assert_uint_eq(fx.heap->arenas[lost].state, ARENA_HOLE);
	ck_assert_uint_eq(fx.heap->arenas[returning].state, ARENA_HOLE);
	ck_assert_uint_eq(fx.heap->arenas[granted].state, ARENA_GRANTED);
	ck_assert_uint_eq(fixture_heap_bytes(), 2 * ARENA_SIZE_DEFAULT);
	restart_daemon(); /* again changes nothing */
	ck_assert_uint_eq(fixture_heap_bytes(), 2 * ARENA_SIZE_DEFAULT);
}
END_TEST

/* While a run is returned arena by arena, what is a hole already may be in use again when the daemon dies. */
START_TEST(return_interrupted)
{
	uint64_t ref = fixture_bytes(session_of(0), 4 * ARENA_SIZE_DEFAULT), other;
	uint32_t head, n_done = 0;

	fixture_drop(session_of(0), ref);
	ck_assert_int_eq(supply_pick_returning(&fx.daemon, 0, &head), 1);
	ck_assert_int_eq(supply_unmap_step(fx.heap, head, 2, &n_done), 0);
	other = fixture_bytes(session_of(0), 5000);
	memset(ref_data(other), 0x77, 5000);

	restart_daemon();
	ck_assert_uint_eq(fx.heap->arenas[head].state, ARENA_HOLE);
	ck_assert_uint_eq(ref_arena(other)->state, ARENA_POOLS);
	for (uint32_t i = 0; i < 5000; i++)
		ck_assert_uint_eq(ref_data(other)[i], 0x77);
	fixture_drop(session_of(0), other);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("arena");
	TCase *t = tcase_create("arena");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_set_timeout(t, 300);
	tcase_add_test(t, new_pools_from_the_fullest);
	tcase_add_test(t, order_after_every_operation);
	tcase_add_test(t, only_wholly_free_ones_return);
	tcase_add_test(t, returned_memory_is_gone);
	tcase_add_loop_test(t, generations_survive_return, 0, 5);
	tcase_add_test(t, emptier_arena_drains);
	tcase_add_test(t, runs_first_fit);
	tcase_add_loop_test(t, run_among_many, 0, 2);
	tcase_add_test(t, runs_of_each_length);
	tcase_add_test(t, runs_fragmented);
	tcase_add_test(t, arena_runs_of_each_length);
	tcase_add_test(t, arena_run_reused);
	tcase_add_test(t, arena_run_needs_adjacent_holes);
	tcase_add_test(t, records_live_apart);
	tcase_add_test(t, free_arena_changes_sides);
	tcase_add_test(t, free_arena_changes_sides_for_a_run);
	tcase_add_test(t, accept_what_was_granted);
	tcase_add_test(t, reserve_refused);
	tcase_add_test(t, entries_below_in_steps);
	tcase_add_test(t, mapping_given_up);
	tcase_add_test(t, dead_sessions_grants_are_taken_back);
	tcase_add_test(t, pick_waits_for_nobody);
	tcase_add_test(t, adopted_with_everything);
	tcase_add_test(t, adopt_takes_what_was_half_way);
	tcase_add_test(t, return_interrupted);
	suite_add_tcase(s, t);
	t = tcase_create("few mappings");
	tcase_add_checked_fixture(t, set_up_spread, fixture_close);
	tcase_set_timeout(t, 300);
	tcase_add_test(t, returned_without_mappings);
	tcase_add_test(t, adopted_without_mappings);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
