// SPDX-License-Identifier: MIT
/*
 * What a session may die with: a row for each line of the table at the head of heap/repair/recover.c, some in many
 * variants
 *
 * A living session holds some of it, and the dead one holds an object of the living one. After the dead session is
 * reclaimed only what the living one holds is left.
 */
#include "tests/unit/heap/fixture_recover.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* The rows. */

uint64_t kept;

/* What the dead session made and a living one holds: it must stay. */
static uint64_t lent[400];
static uint32_t n_lent;

static uint64_t lend(uint64_t size)
{
	uint64_t ref = fixture_bytes(DEAD, size);

	ck_assert_uint_lt(n_lent, sizeof(lent) / sizeof(lent[0]));
	MUST(S0, object_incref(S0, ref));
	memset(ref_data(ref), (int)n_lent, size);
	return lent[n_lent++] = ref;
}

static void row_nothing(int variant)
{
	(void)variant;
}

static void row_few_objects(int variant)
{
	(void)variant;
	fixture_bytes(DEAD, 10);
	fixture_bytes(DEAD, 5000);
	fixture_bytes(DEAD, 2 * ARENA_SIZE_DEFAULT);
	fixture_bytes(DEAD, 600);
}

/* Of what others made, by its table. */
void row_many_holds(int variant)
{
	uint64_t ref;

	(void)variant;
	for (int i = 0; i < 3000; i++) {
		ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_BYTES, 8, &ref)), 0);
		ck_assert_int_eq(CALL(DEAD, object_incref(DEAD, ref)), 0);
		ck_assert_int_eq(object_decref(S0, ref), 0);
	}
}

static void row_many_objects(int variant)
{
	uint64_t ref;

	(void)variant;
	for (int i = 0; i < 3000; i++)
		ck_assert_int_eq(CALL(DEAD, object_new(DEAD, TYPE_BYTES, 8, &ref)), 0);
}

static void row_held_often(int variant)
{
	uint64_t ref = fixture_bytes(DEAD, 10);

	(void)variant;
	for (int i = 0; i < 100; i++) {
		MUST(DEAD, object_incref(DEAD, ref));
		MUST(DEAD, object_incref(DEAD, kept));
	}
}

/* A list of lists, wide and deep, that only the dead session holds. */
void row_tree(int variant)
{
	uint64_t tree = fixture_list(DEAD, 300), inner = 0, outer, leaf;

	(void)variant;
	for (int i = 0; i < 300; i++) {
		ck_assert_int_eq(CALL(DEAD, object_new(DEAD, TYPE_LIST, 16, &outer)), 0);
		ck_assert_int_eq(CALL(DEAD, object_new(DEAD, TYPE_BYTES, 30, &leaf)), 0);
		ck_assert_int_eq(list_set(DEAD, outer, 1, leaf), 0);
		ck_assert_int_eq(object_decref(DEAD, leaf), 0);
		ck_assert_int_eq(list_set(DEAD, tree, (uint64_t)i, outer), 0);
		if (inner) {
			ck_assert_int_eq(list_set(DEAD, outer, 0, inner), 0);
			ck_assert_int_eq(object_decref(DEAD, inner), 0);
		}
		inner = outer;
	}
	ck_assert_int_eq(list_set(DEAD, inner, 0, kept), 0);
}

static void row_wide_list(int variant)
{
	uint64_t list = fixture_list(DEAD, 2000), leaf;

	(void)variant;
	for (uint64_t i = 0; i < 2000; i++) {
		ck_assert_int_eq(CALL(DEAD, object_new(DEAD, TYPE_BYTES, 8, &leaf)), 0);
		ck_assert_int_eq(list_set(DEAD, list, i, leaf), 0);
		ck_assert_int_eq(object_decref(DEAD, leaf), 0);
	}
}

/* It died between the change that dropped a list and those that free its children. */
static void row_dying(int variant)
{
	uint64_t tree = fixture_list(DEAD, 500), leaf;

	(void)variant;
	for (uint64_t i = 0; i < 500; i++) {
		ck_assert_int_eq(CALL(DEAD, object_new(DEAD, TYPE_LIST, 8, &leaf)), 0);
		ck_assert_int_eq(list_set(DEAD, tree, i, leaf), 0);
		ck_assert_int_eq(list_set(DEAD, leaf, 0, kept), 0);
		ck_assert_int_eq(object_decref(DEAD, leaf), 0);
	}
	fixture_give_up(DEAD, tree);
}

static void row_dying_half_done(int variant)
{
	row_dying(variant);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(dying_step(DEAD, false), 1);
	fixture_check();
}

/* A run with slots that was not held yet: its slots are full of rubbish. */
static void row_making(int variant)
{
	uint64_t ref;
	int r;

	(void)variant;
	do {
		ck_assert_int_eq(change_begin(DEAD), 0);
		r = memory_take(DEAD, SPACE_OBJECTS, 5 * POOL_SIZE, POOL_SIZE, TYPE_LIST, STATE_MAKING, 0, &ref);
		if (!r)
			heap_set(fx.heap, &DEAD->entry->making1, ref_position(ref) + 1);
		r = change_end(DEAD, r);
		ck_assert(!r || (r == HEAP_WANTS_ARENAS && !fixture_grant(DEAD)));
	} while (r);
	for (uint64_t i = 0; i < 5 * POOL_SIZE; i += 8)
		memcpy(ref_data(ref) + i, &kept, 8);
	fixture_check();
}

static void row_new_hold_table(int variant)
{
	uint64_t ref;
	int r;

	(void)variant;
	for (int i = 0; i < 100; i++) {
		ref = fixture_bytes(S0, 8);
		MUST(DEAD, object_incref(DEAD, ref));
		fixture_drop(S0, ref);
	}
	do {
		ck_assert_int_eq(change_begin(DEAD), 0);
		r = memory_take(DEAD, SPACE_RECORDS, 8192, 4096, TYPE_HOLDS, STATE_LIVE, RIGHTS_ONE, &ref);
		if (!r)
			heap_set(fx.heap, &DEAD->entry->new_holds_position1, ref_position(ref) + 1);
		r = change_end(DEAD, r);
		ck_assert(!r || (r == HEAP_WANTS_ARENAS && !fixture_grant(DEAD)));
	} while (r);
	memset(ref_data(ref), 0x99, 8192); /* half filled, with rubbish */
	fixture_check();
}

/* What it pushed is the queue's; the queue itself it held alone. */
static void row_queue(int variant)
{
	uint64_t queue, ref;

	(void)variant;
	MUST(DEAD, queue_new(DEAD, 200, &queue));
	for (int i = 0; i < 150; i++) {
		ref = fixture_bytes(DEAD, 8);
		MUST(DEAD, queue_push(DEAD, queue, ref, 0));
	}
	MUST(DEAD, object_incref(DEAD, kept));
	MUST(DEAD, queue_push(DEAD, queue, kept, 0));
}

/* It died with the lock, in the middle of a change. */
static void row_lock(int variant)
{
	pid_t pid;
	int status;

	row_few_objects(variant);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		struct hold *hold = hold_find(DEAD, kept);

		change_begin(DEAD);
		hold_remove(DEAD, hold);
		heap_set(fx.heap, &DEAD->entry->n_holds, 99);
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
}

static void row_session_lock(int variant)
{
	pid_t pid = fork();

	(void)variant;
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		session_lock(DEAD);
		object_incref(DEAD, kept);
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

/* With pools of its own. */

/* Full pools and pools with room, a free one and free runs that it kept, long runs, an object of whole arenas. */
void row_pools(int variant)
{
	uint64_t refs[40];

	(void)variant;
	for (int i = 0; i < 40; i++)
		refs[i] = fixture_bytes(DEAD, 512);
	for (int i = 0; i < 20; i++)
		fixture_drop(DEAD, refs[2 * i]);
	fixture_drop(DEAD, fixture_bytes(DEAD, 100));
	fixture_drop(DEAD, fixture_bytes(DEAD, POOL_SIZE));
	fixture_drop(DEAD, fixture_bytes(DEAD, 9 * POOL_SIZE));
	fixture_bytes(DEAD, 2 * POOL_SIZE);
	fixture_bytes(DEAD, 20 * POOL_SIZE);
	fixture_bytes(DEAD, 2 * ARENA_SIZE_DEFAULT);
	ck_assert_uint_ne(DEAD->entry->spare_runs1[0], 0);
}

/* Others hold objects in its pools, too: those pools go on without an owner. */
void row_pools_lent(int variant)
{
	(void)variant;
	for (int i = 0; i < 30; i++) {
		lend(200);
		fixture_bytes(DEAD, 200);
	}
	for (int i = 0; i < 18; i++) /* a full pool of which nothing goes */
		lend(208);
	lend(3 * POOL_SIZE);
	lend(18 * POOL_SIZE);
	lend(ARENA_SIZE_DEFAULT);
	MUST(DEAD, object_incref(DEAD, lent[3]));
	fixture_drop(DEAD, lent[5]);
	fixture_drop(DEAD, lent[n_lent - 2]);
}

/* It died before it collected remote frees, in pools where it still holds objects and in one where it does not. */
void row_pools_remote_frees(int variant)
{
	uint64_t refs[60];

	(void)variant;
	for (int i = 0; i < 60; i++) {
		refs[i] = fixture_bytes(DEAD, 200);
		MUST(S0, object_incref(S0, refs[i]));
	}
	for (int i = 0; i < 60; i++)
		if (i % 5 || i < 36)
			fixture_drop(DEAD, refs[i]);
	for (int i = 0; i < 60; i++)
		if (i % 7 < 6)
			fixture_drop(S0, refs[i]);
		else
			lent[n_lent++] = refs[i];
	ck_assert_uint_ne(DEAD->entry->remote_pools1, 0);
	ck_assert_uint_ne(pool_count_remote(fx.heap, ref_pool(refs[59])), 0);
}

/* It freed blocks of another session's pool, and held others of that pool. */
static void row_remote_frees(int variant)
{
	uint64_t refs[40];

	(void)variant;
	for (int i = 0; i < 40; i++) {
		refs[i] = fixture_bytes(S0, 200);
		MUST(DEAD, object_incref(DEAD, refs[i]));
	}
	for (int i = 0; i < 40; i++)
		fixture_drop(S0, refs[i]);
	for (int i = 0; i < 20; i++)
		fixture_drop(DEAD, refs[i]);
}

/* In a call that needs no lock. */

/*
 * The first so many of the call's stores were made, in the order of own.c; or any subset of them, since compiler and
 * processor may reorder all but the first ones.
 */

enum { SIZE = 512, N_BLOCKS = 7, N_IN_ORDER = 16, N_STOPPED = N_IN_ORDER + 6 };

static uint32_t stores; /* a bit for each store that is made, the first is the lowest */

#define STORE(p, v)                                                                                                    \
	do {                                                                                                           \
		if (stores & 1)                                                                                        \
			*(p) = (__typeof__(*(p)))(v);                                                                  \
		stores >>= 1;                                                                                          \
	} while (0)

static struct pool_entry *pool_of_index1(uint32_t index1)
{
	ck_assert_uint_ne(index1, 0);
	return &fx.heap->pools[index1 - 1];
}

static void enter_for(int variant, uint32_t n_first)
{
	ck_assert(critical_enter(DEAD));
	if (variant < N_IN_ORDER) {
		stores = (1U << variant) - 1;
		return;
	}
	fixture_seed();
	stores = (uint32_t)fixture_random() | ((1U << n_first) - 1);
}

/* Full pools of which somebody else holds blocks; *ret_refs are not held by others. */
static void fill_pools(uint32_t n_pools, uint64_t *ret_refs)
{
	for (uint32_t i = 0; i < n_pools * N_BLOCKS; i++)
		if (i % N_BLOCKS < 4)
			*ret_refs++ = fixture_bytes(DEAD, SIZE);
		else
			lend(SIZE);
	/* No request is pending from here on. */
	ck_assert_int_eq(session_serve_requests(DEAD), 0);
}

/* The block that is made is the last of its pool, which stood on usedpools before another one. */
static void row_making_own(int variant)
{
	uint32_t *head1 = &DEAD->entry->usedpools1[class_of_size(SIZE)];
	struct pool_entry *pool, *next;
	struct object_header *header;
	uint64_t refs[8];
	uint32_t link;

	fill_pools(2, refs);
	fixture_drop(DEAD, refs[1]);
	fixture_drop(DEAD, refs[5]);
	pool = pool_of_index1(*head1);
	next = pool_of_index1(pool->next1);
	header = pool_headers(fx.heap, pool) + pool->freeblock1 - 1;
	link = header_link(header->word);
	enter_for(variant, 1);
	STORE(&pool->generation, pool->generation + 1);
	STORE(&header->word, header_live(pool->generation, TYPE_BYTES, SIZE, STATE_LIVE) | 1);
	STORE(&DEAD->entry->n_own_holds, DEAD->entry->n_own_holds + 1);
	STORE(&pool->freeblock1, link);
	STORE(&pool->n_used, pool->n_used + 1);
	STORE(head1, pool->next1);
	STORE(&next->prev1, 0);
	STORE(&pool->next1, 0);
	STORE(&pool->prev1, 0);
}

/* Making a block in a pool that was never touched: all its blocks are put on the free list first. */
static void row_carving_own(int variant)
{
	struct pool_entry *pool;
	struct object_header *headers;
	uint64_t ref;

	lend(100);
	ck_assert_int_eq(session_serve_requests(DEAD), 0);
	ck_assert_int_eq(CALL(DEAD, own_refill(DEAD, SIZE, 0)), 0);
	pool = pool_of_index1(DEAD->entry->usedpools1[class_of_size(SIZE)]);
	headers = pool_headers(fx.heap, pool);
	ck_assert_uint_eq(pool->counts, 0);
	enter_for(variant, 1);
	for (uint32_t i = 0; i < N_BLOCKS; i++)
		STORE(&headers[i].word, header_free(0, i + 1 < N_BLOCKS ? i + 2 : 0));
	STORE(&pool->n_carved, N_BLOCKS);
	STORE(&pool->freeblock1, 1);
	STORE(&pool->counts, counts_with_freeblock1(pool->counts, 2) + COUNTS_ONE_USED);
	STORE(&pool->generation, pool->generation + 1);
	if (!pool->generation) /* before the word that has it */
		return;
	STORE(&headers[0].word, header_live(pool->generation, TYPE_BYTES, SIZE, STATE_LIVE) | 1);
	STORE(&DEAD->entry->n_own_holds, DEAD->entry->n_own_holds + 1);
	if (header_state(headers[0].word) != STATE_LIVE || variant % 2)
		return;
	/* the object exists, so any session may hold it by its ref */
	ref = ref_make(block_position(fx.heap, pool, 0), pool->generation);
	MUST(S0, object_incref(S0, ref));
	memset(ref_data(ref), 1, SIZE);
	lent[n_lent++] = ref;
}

/* The block that is freed was in a full pool, which goes before another one. */
static void row_dropping_own(int variant)
{
	uint32_t *head1 = &DEAD->entry->usedpools1[class_of_size(SIZE)];
	struct pool_entry *pool, *next;
	struct object_header *header;
	uint64_t refs[8];

	fill_pools(2, refs);
	fixture_drop(DEAD, refs[5]);
	header = ref_header(refs[1]);
	pool = ref_pool(refs[1]);
	next = pool_of_index1(*head1);
	ck_assert(!pool_has_room(pool));
	enter_for(variant, 2);
	STORE(&DEAD->entry->n_own_holds, DEAD->entry->n_own_holds - 1);
	STORE(&header->word, header->word - 1);
	STORE(&header->word, header_free(header->word, pool->freeblock1));
	STORE(&pool->freeblock1, ref_block(refs[1]) + 1);
	STORE(&pool->n_used, pool->n_used - 1);
	STORE(&pool->next1, *head1);
	STORE(&next->prev1, ref_pool_index(refs[1]) + 1);
	STORE(head1, ref_pool_index(refs[1]) + 1);
}

static void row_making_own_run(int variant)
{
	uint32_t *spare1 = &DEAD->entry->spare_runs1[1];
	struct pool_entry *pool;

	fixture_drop(DEAD, fixture_bytes(DEAD, 2 * POOL_SIZE));
	pool = pool_of_index1(*spare1);
	enter_for(variant, 3);
	STORE(spare1, 0);
	STORE(&pool->run_size, 2 * POOL_SIZE - 5);
	STORE(&pool->generation, pool->generation + 1);
	STORE(&pool->header.word, header_live(pool->generation, TYPE_BYTES, 0, STATE_LIVE) | 1);
}

static void row_dropping_own_run(int variant)
{
	uint64_t ref = fixture_bytes(DEAD, 2 * POOL_SIZE);
	struct pool_entry *pool = ref_pool(ref);

	enter_for(variant, 2);
	STORE(&DEAD->entry->n_own_holds, DEAD->entry->n_own_holds - 1);
	STORE(&pool->header.word, pool->header.word - 1);
	STORE(&pool->header.word, header_free(pool->header.word, 0));
	STORE(&DEAD->entry->spare_runs1[1], ref_pool_index(ref) + 1);
}

/*
 * It has dropped its last hold of a shared object, and has not settled yet whether that was the last right. 0: the
 * others had dropped theirs before. 1: they do now, and free the object. 2: they still hold it. 3: it died with the
 * lock, half-way through freeing it. 4, 5: as 0 and 1, of a run.
 */
enum { N_SETTLING = 6 };

static void row_settling(int variant)
{
	uint64_t ref = fixture_bytes(DEAD, variant < 4 ? 100 : 3 * POOL_SIZE), rest = fixture_bytes(DEAD, 100);
	pid_t pid;

	(void)rest;
	MUST(S0, object_incref(S0, ref));
	if (variant != 1 && variant != 2 && variant != 5)
		fixture_drop(S0, ref);
	ck_assert_int_eq(session_serve_requests(DEAD), 0);
	enter_for(2, 2);
	STORE(&DEAD->entry->n_own_holds, DEAD->entry->n_own_holds - 1);
	STORE(&ref_header(ref)->word, ref_header(ref)->word - 1);
	if (variant == 1 || variant == 5)
		fixture_drop(S0, ref);
	if (variant == 1)
		ck_assert_uint_eq(ref_state(ref), STATE_REMOTE_FREE);
	if (variant == 2)
		lent[n_lent++] = ref;
	if (variant != 3)
		return;
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		change_begin(DEAD);
		memory_give(DEAD, ref_position(ref));
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

/* Killed with the lock before the commit of a change: taking a pool or a run, collecting, disowning a pool. */
enum { N_HALF_CHANGES = 4 };

static void half_own(void)
{
	pool_own(DEAD, class_of_size(300));
}

static void half_own_run(void)
{
	run_own(DEAD, 4, &(uint32_t){0});
}

static void half_collect(void)
{
	pool_collect(fx.heap, pool_of_index1(DEAD->entry->remote_pools1));
}

static void half_disown(void)
{
	pool_disown(DEAD, pool_of_index1(DEAD->entry->owned_pools1));
}

static void (*const half_changes[N_HALF_CHANGES])(void) = {half_own, half_own_run, half_collect, half_disown};

static void row_half_change(int variant)
{
	pid_t pid;

	row_pools_remote_frees(0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		change_begin(DEAD);
		half_changes[variant]();
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_uint_gt(fx.heap->control->lock.n_entries, 0);
}

/* It died while it closed, after some of the steps. */
enum { N_CLOSING = 12 };

static void row_closing(int variant)
{
	row_dying(0);
	row_pools_lent(0);
	row_new_hold_table(0);
	row_making(0);
	for (int i = 0; i < variant * variant; i++)
		ck_assert_int_ge(session_drop_step(DEAD, false), 0);
	fixture_check();
}

/* All rows. */

static const struct {
	const char *name;
	void (*prepare)(int variant);
	int n_variants;
} rows[] = {
	{"nothing", row_nothing, 1},
	{"few objects", row_few_objects, 1},
	{"many holds", row_many_holds, 1},
	{"many objects", row_many_objects, 1},
	{"held often", row_held_often, 1},
	{"a tree", row_tree, 1},
	{"a wide list", row_wide_list, 1},
	{"dying", row_dying, 1},
	{"dying, half done", row_dying_half_done, 1},
	{"making", row_making, 1},
	{"a new hold table", row_new_hold_table, 1},
	{"a queue", row_queue, 1},
	{"the lock, in a change", row_lock, 1},
	{"the lock, between changes", row_session_lock, 1},
	{"pools and runs", row_pools, 1},
	{"pools and runs that others need", row_pools_lent, 1},
	{"pools with returned blocks", row_pools_remote_frees, 1},
	{"returned blocks of others", row_remote_frees, 1},
	{"making a block", row_making_own, N_STOPPED},
	{"carving a block", row_carving_own, N_STOPPED},
	{"dropping a block", row_dropping_own, N_STOPPED},
	{"making a run", row_making_own_run, N_STOPPED},
	{"dropping a run", row_dropping_own_run, N_STOPPED},
	{"settling", row_settling, N_SETTLING},
	{"half a change of pools", row_half_change, N_HALF_CHANGES},
	{"closing", row_closing, N_CLOSING},
};

int n_rows(void)
{
	int n = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		n += rows[i].n_variants;
	return n;
}

void prepare(int row)
{
	size_t i = 0;

	kept = fixture_bytes(S0, 40);
	MUST(DEAD, object_incref(DEAD, kept));
	for (; row >= rows[i].n_variants; i++)
		row -= rows[i].n_variants;
	rows[i].prepare(row);
	session_mark_dead(fx.heap, DEAD->index);
}

void expect_lent(void)
{
	struct object object;
	uint64_t refs[400];
	uint32_t n = 0;

	for (uint32_t i = 0; i < n_lent; i++) {
		ck_assert_int_eq(object_refcount(S0, lent[i]), 1);
		ck_assert_uint_eq(ref_pool(lent[i])->owner1, 0);
		ck_assert_int_eq(object_lookup(S0, lent[i], &object), 0);
		for (uint64_t j = 1; j < object.size; j++)
			ck_assert_uint_eq(object.data[j], object.data[0]);
	}
	for (uint32_t i = 0; i < n_lent; i++)
		if (ref_pool(lent[i])->kind == POOL_BLOCKS)
			refs[n++] = fixture_bytes(S0, class_block_size(ref_pool(lent[i])->size_class));
	for (uint32_t i = 0; i < n; i++)
		fixture_drop(S0, refs[i]);
	for (uint32_t i = 0; i < n_lent; i++)
		fixture_drop(S0, lent[i]);
	n_lent = 0;
}

void expect_cleared(void)
{
	struct heap_stats stats;

	ck_assert_uint_eq(DEAD->entry->state, SESSION_FREE);
	fixture_check();
	expect_lent();
	ck_assert_int_eq(object_refcount(S0, kept), 1);
	ck_assert_uint_eq(fixture_blocks_used(), 1);
	while (S0->entry->holds_position1) /* its own table shrinks when it drops something */
		fixture_drop(S0, fixture_bytes(S0, 8));
	stats = fixture_stats();
	ck_assert_uint_eq(stats.bytes_records, 0);
	ck_assert_uint_eq(stats.n_medium_objects + stats.n_large_objects, 0);
	fixture_drop(S0, kept);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
