// SPDX-License-Identifier: MIT
/*
 * heap_repair() against random damage, and killed in the middle of it
 *
 * What is derived may be damaged in any way, all at once: it is mended, and nothing that is held is lost. The truth may
 * be damaged, too: then something is lost, but no process crashes, and the heap is whole afterwards or the repair
 * reports that it is not.
 *
 * The repairer is killed at any moment, many times: the next taker of the lock does again what it left half-done.
 */
#include "tests/unit/heap/fixture_repair.h"

#include "heap/memory/rebuild.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

struct field {
	void *p;
	uint32_t size;
	uint32_t first_bit, n_bits; /* that may be damaged */
};

static struct field fields[200000];
static uint32_t n_fields;

static void add_bits(void *p, uint32_t size, uint32_t first_bit, uint32_t n_bits)
{
	ck_assert_uint_lt(n_fields, sizeof(fields) / sizeof(fields[0]));
	fields[n_fields++] = (struct field){p, size, first_bit, n_bits};
}

static void add_array(void *p, size_t length, uint32_t size)
{
	for (size_t i = 0; i + size <= length; i += size)
		add_bits((uint8_t *)p + i, size, 0, 8 * size);
}

#define ADD(lvalue) add_bits(&(lvalue), sizeof(lvalue), 0, 8 * sizeof(lvalue))

/*
 * A header's second word, and the link of a free block. The rest of the first word is the truth, also the owner's
 * holds.
 */
static void add_header(struct object_header *header)
{
	ADD(header->rights);
	if (header->word && header_state(header->word) == STATE_FREE)
		add_bits(&header->word, 8, 10, 26);
}

static void add_pool(struct pool_entry *pool)
{
	struct object_header *headers = pool_headers(fx.heap, pool);

	ADD(pool->n_used);
	ADD(pool->n_carved);
	ADD(pool->freeblock1);
	ADD(pool->next1);
	ADD(pool->prev1);
	ADD(pool->owned_next1);
	ADD(pool->owned_prev1);
	if (pool->kind == POOL_RUN)
		add_header(&pool->header);
	if (pool->kind != POOL_BLOCKS)
		return;
	ADD(pool->remote_next1);
	ADD(pool->remote_prev1);
	ADD(pool->is_on_remote_list);
	for (uint32_t i = 0; i < class_shapes[pool->size_class].n_blocks; i++)
		add_header(&headers[i]);
}

static void add_session(struct session_entry *entry)
{
	ADD(entry->n_holds);
	ADD(entry->dying1);
	ADD(entry->making1);
	ADD(entry->owned_pools1);
	ADD(entry->remote_pools1);
	ADD(entry->n_own_holds);
	add_array(entry->usedpools1, sizeof(entry->usedpools1), 4);
	add_array(entry->spare_runs1, sizeof(entry->spare_runs1), 4);
}

static void add_arena(uint32_t a)
{
	struct arena_entry *arena = &fx.heap->arenas[a];

	ADD(arena->n_free_pools);
	ADD(arena->next1);
	ADD(arena->prev1);
	add_array(&fx.heap->freepools[a * fx.heap->pool_words], fx.heap->pool_words * 8, 8);
	if (arena->state == ARENA_RUN)
		add_pool(&fx.heap->pools[a * fx.heap->pools_per_arena]);
	if (arena->state != ARENA_POOLS)
		return;
	for (uint32_t i = 0; i < fx.heap->pools_per_arena; i++)
		add_pool(&fx.heap->pools[a * fx.heap->pools_per_arena + i]);
}

/* Sizes in the headers of sessions' objects: they are the truth, but no size that does not fit is believed. */
static void find_sizes(void)
{
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++) {
		for (uint32_t p1 = fx.sessions[i].entry->owned_pools1; p1; p1 = fx.heap->pools[p1 - 1].owned_next1) {
			struct pool_entry *pool = &fx.heap->pools[p1 - 1];
			struct object_header *headers = pool_headers(fx.heap, pool);

			if (pool->kind == POOL_RUN)
				ADD(pool->run_size);
			if (pool->kind == POOL_RUN && header_state(pool->header.word) == STATE_DYING)
				ADD(pool->run_n_dropped);
			if (pool->kind == POOL_RUN && pool->run_n_pools >= fx.heap->pools_per_arena)
				ADD(pool->run_n_pools);
			for (uint32_t b = 0; pool->kind == POOL_BLOCKS && b < class_shapes[pool->size_class].n_blocks;
				b++)
				if (header_state(headers[b].word) != STATE_FREE)
					add_bits(&headers[b].word, 8, 10, 15); /* its size */
			for (uint32_t b = 0; pool->kind == POOL_BLOCKS && b < class_shapes[pool->size_class].n_blocks;
				b++)
				if (header_state(headers[b].word) == STATE_DYING)
					add_bits(&headers[b].rights, 8, 48, 16); /* how many of its slots are dropped */
		}
	}
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
		add_bits(fx.heap->base + (uint64_t)first * POOL_SIZE + 8 * fixture_below(fx.heap->arena_size / 8), 8, 0,
			64);
}

/* All that is derived. */
static void find_fields(void)
{
	n_fields = 0;
	add_array(&control()->counters, sizeof(struct counters), 8);
	add_array(control()->spaces, sizeof(control()->spaces), 4);
	ADD(control()->returnable_arenas1);
	for (uint32_t a = 0; a < control()->n_arenas_known; a++)
		add_arena(a);
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++)
		add_session(fx.sessions[i].entry);
	for (uint32_t i = 0; i < CHAIN; i++)
		add_bits(name_link(i), 8, 0, 64);
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
	uint64_t whole = read_field(field), before = whole >> field->first_bit & mask, value = 0;

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
	value = (whole & ~(mask << field->first_bit)) | (value & mask) << field->first_bit;
	memcpy(field->p, &value, field->size);
}

static void count_fault(void *userdata, const char *fault)
{
	(void)fault;
	++*(int64_t *)userdata;
}

START_TEST(random_damage_is_mended)
{
	uint64_t n_rounds = fixture_ops(300000) / 1000;

	fixture_seed();
	populate();
	for (uint64_t round = 0; round < n_rounds; round++) {
		int64_t n_faults = 0;
		uint32_t n = 1 + fixture_below(round % 10 ? 20 : 2000);
		int64_t r;

		find_fields();
		while (n-- > 0)
			damage_field(&fields[fixture_below(n_fields)]);
		r = heap_check(&fx.sessions[0], NULL, NULL);
		ck_assert_int_ge(r, 0);
		ck_assert_int_eq(heap_repair(&fx.sessions[0], count_fault, &n_faults), r);
		ck_assert_int_eq(n_faults, r);
		fixture_check();
		verify_kept();
	}
	verify_names(0);
	work();
	end_all();
}
END_TEST

/* Sessions that are dead and not reclaimed yet do not prevent the repair, and are reclaimed afterwards. */
START_TEST(damage_of_the_dead_is_mended)
{
	uint64_t n_rounds = fixture_ops(100000) / 5000;

	fixture_seed();
	for (uint64_t round = 0; round < n_rounds; round++) {
		uint32_t n = 1 + fixture_below(round % 10 ? 20 : 2000);
		int64_t r;

		populate();
		find_fields();
		if (round % 2)
			n_fields = 0;
		find_sizes();
		for (uint32_t i = 0; i < 3; i++) {
			if (fixture_below(2))
				critical_stay(&fx.sessions[i]);
			session_mark_dead(fx.heap, i);
		}
		while (n-- > 0)
			damage_field(&fields[fixture_below(n_fields)]);
		r = heap_check(REPAIRER, NULL, NULL);
		ck_assert_int_ge(r, 0);
		ck_assert_int_eq(heap_repair(REPAIRER, NULL, NULL), r);
		fixture_check();
		end_all();
		fixture_close();
		fixture_open();
	}
}
END_TEST

/*
 * Whatever a stray write hits, the truth included: no call crashes. Each round has a heap of its own, since the damage
 * stays.
 */
START_TEST(any_damage_is_survived)
{
	uint64_t n_rounds = fixture_ops(100000) / 1000;

	fixture_seed();
	for (uint64_t round = 0; round < n_rounds; round++) {
		uint32_t n_bytes = (uint32_t)(fx.heap->control_size - sizeof(struct control));
		uint32_t n = 1 + fixture_below(round % 10 ? 20 : 2000);
		int64_t r;

		populate();
		n_fields = 0;
		add_array(&control()->counters, offsetof(struct control, lock) - offsetof(struct control, counters), 4);
		for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++)
			add_array(fx.sessions[i].entry, sizeof(struct session_entry), 4);
		for (uint32_t i = 0; i < 200; i++)
			add_bits((uint8_t *)(control() + 1) + fixture_below(n_bytes / 8) * 8, 8, 0, 64);
		for (uint32_t a = 0; a < control()->n_arenas_known; a++)
			add_truth(a);
		while (n-- > 0)
			damage_field(&fields[fixture_below(n_fields)]);
		r = heap_check(&fx.sessions[0], NULL, NULL);
		ck_assert(r >= 0 || r == -EUCLEAN);
		r = heap_repair(&fx.sessions[0], NULL, NULL);
		ck_assert(r >= 0 || r == -EUCLEAN);
		if (r >= 0) /* then the repair has mended all */
			fixture_check();
		fixture_close();
		fixture_open();
	}
}
END_TEST

/* The repairer dies. */

/*
 * A process that is killed in a rebuild has set control's `rebuilding`; then next to nothing that is derived need be
 * right.
 */
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
			rebuild_all(s->heap);
		change_end(s, 0);
		if (!only_rebuild && heap_repair(s, NULL, NULL) < 0)
			_exit(2);
	}
}

START_TEST(repairer_is_killed)
{
	uint64_t n_rounds = fixture_ops(300000) / 1000;
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
		(void)fixture_random(); /* so that the next child has other random numbers */
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
	Suite *s = suite_create("repair-random");
	TCase *t = tcase_create("repair-random");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, random_damage_is_mended);
	tcase_add_test(t, damage_of_the_dead_is_mended);
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
