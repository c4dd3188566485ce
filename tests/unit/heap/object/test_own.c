// SPDX-License-Identifier: MIT
/*
 * A session's own pools and runs: objects made, held and dropped without the lock, and what is kept free
 *
 * Remote frees in them: test_block.c, test_own_trim.c. Strangers, which hold an object by its number alone:
 * test_right_stranger.c. A drop that cannot have the lock: test_own_refused.c.
 */
#include "tests/unit/heap/fixture.h"

#include <signal.h>
#include <ucontext.h>

static uint64_t n_locks(void)
{
	return fx.heap->control->lock.n_acquisitions;
}

/* No lock. */

static const size_t sizes[] = {1, 8, 100, 512, 513, POOL_SIZE, POOL_SIZE + 1, SPARE_RUN_MAX *POOL_SIZE};
#define N_SIZES (int)(sizeof(sizes) / sizeof(sizes[0]))

/* Another session has the lock all the while: a call that needed it would never return. */
START_TEST(needs_no_lock)
{
	size_t size = sizes[_i];
	struct object object;
	uint64_t n, ref;

	fixture_warm_up(size);
	ck_assert_int_eq(session_lock(S1), 0);
	n = n_locks();
	for (int round = 0; round < 5; round++) {
		ck_assert_int_eq(object_new(S0, TYPE_BYTES, size, &ref), 0);
		ck_assert_int_eq(object_lookup(S0, ref, &object), 0);
		ck_assert_uint_eq(object.size, size);
		memset(object.data, round, size);
		for (int i = 0; i < 100; i++)
			ck_assert_int_eq(object_incref(S0, ref), 0);
		for (int i = 0; i < 101; i++)
			ck_assert_int_eq(object_decref(S0, ref), 0);
		ck_assert_uint_eq(ref_state(ref), STATE_FREE);
	}
	ck_assert_uint_eq(n_locks(), n);
	ck_assert_int_eq(session_unlock(S1), 0);
	fixture_expect_empty();
}
END_TEST

/* An object with slots is made and held without the lock, too. The drop that frees it needs the lock. */
START_TEST(list_needs_it_to_be_taken_down)
{
	uint64_t list = fixture_list(S0, 8), n;

	fixture_drop(S0, list);
	ck_assert_int_eq(session_lock(S1), 0);
	n = n_locks();
	ck_assert_int_eq(object_new(S0, TYPE_LIST, 64, &list), 0);
	ck_assert_int_eq(object_incref(S0, list), 0);
	ck_assert_int_eq(object_decref(S0, list), 0);
	ck_assert_uint_eq(n_locks(), n);
	ck_assert_int_eq(session_unlock(S1), 0);
	fixture_drop(S0, list);
	ck_assert_uint_eq(ref_state(list), STATE_REMOTE_FREE);
	fixture_expect_empty();
}
END_TEST

/*
 * The lock is taken once for each new pool, and once for SESSION_FREED_MAX pools that become free; the first of these
 * stays.
 */
START_TEST(lock_once_a_pool)
{
	enum { N_POOLS = 2 * SESSION_FREED_MAX + 3 };
	uint32_t n_blocks = class_pool_blocks(63);
	uint64_t refs[N_POOLS * 8], n;

	ck_assert_uint_le(n_blocks, 8);
	for (uint32_t i = 0; i < N_POOLS * n_blocks; i++) /* there are arenas enough */
		refs[i] = fixture_bytes(S1, 512);
	for (uint32_t i = 0; i < N_POOLS * n_blocks; i++)
		ck_assert_int_eq(object_decref(S1, refs[i]), 0);
	fixture_trim_sessions();
	n = n_locks();
	for (uint32_t i = 0; i < N_POOLS * n_blocks; i++) {
		ck_assert_int_eq(object_new(S0, TYPE_BYTES, 512, &refs[i]), 0);
		ck_assert_uint_eq(n_locks(), n + i / n_blocks + 1);
	}
	for (uint32_t i = 0; i < N_POOLS * n_blocks; i++) {
		uint32_t n_free = (i + 1) / n_blocks;

		ck_assert_int_eq(object_decref(S0, refs[i]), 0);
		ck_assert_uint_eq(n_locks(), n + N_POOLS + (n_free ? (n_free - 1) / SESSION_FREED_MAX : 0));
	}
	ck_assert_uint_eq(fixture_n_owned(S0), 3);
	ck_assert_int_eq(session_serve_requests(S0), 0);
	ck_assert_uint_eq(fixture_n_owned(S0), 1);
	fixture_check();
}
END_TEST

/* A pool that became free is not disowned where it is in use again, or is another session's by now. */
START_TEST(free_pool_in_use_again)
{
	uint32_t n = class_pool_blocks(63);
	uint64_t refs[3 * 8], again, theirs;
	struct pool_entry *pool;

	for (uint32_t i = 0; i < 3 * n; i++)
		refs[i] = fixture_bytes(S0, 512);
	for (uint32_t i = 0; i < 3 * n; i++)
		fixture_drop(S0, refs[i]);
	ck_assert_uint_eq(S0->n_freed, 2);
	again = fixture_bytes(S0, 512);
	pool = ref_pool(again);
	ck_assert_uint_eq(pool_index(fx.heap, pool), S0->freed[1]);
	ck_assert_int_eq(session_serve_requests(S0), 0);
	ck_assert_uint_eq(S0->n_freed, 0);
	ck_assert_uint_eq(pool->owner1, S0->owner1);
	ck_assert_uint_eq(pool->n_used, 1);
	fixture_check();

	for (uint32_t i = 0; i < 2 * n; i++)
		refs[i] = fixture_bytes(S0, 512);
	for (uint32_t i = 0; i < 2 * n; i++)
		fixture_drop(S0, refs[i]);
	ck_assert_uint_ne(S0->n_freed, 0);
	fixture_trim_sessions(); /* by the daemon, meanwhile */
	theirs = fixture_bytes(S1, 512);
	for (uint32_t i = 1; i < n; i++)
		fixture_bytes(S1, 512);
	fixture_drop(S1, theirs);
	ck_assert_int_eq(session_serve_requests(S0), 0);
	fixture_check();
	fixture_drop(S0, again);
}
END_TEST

START_TEST(each_session_its_own)
{
	uint32_t size_class = class_of_size(40);
	uint64_t mine[10], theirs[10], again;

	for (uint32_t i = 0; i < 10; i++) {
		mine[i] = fixture_bytes(S0, 40);
		theirs[i] = fixture_bytes(S1, 40);
		ck_assert_uint_eq(ref_block(mine[i]), i);
		ck_assert_uint_eq(ref_block(theirs[i]), i);
	}
	ck_assert_uint_eq(ref_pool(mine[0])->owner1, S0->owner1);
	ck_assert_uint_eq(ref_pool(theirs[0])->owner1, S1->owner1);
	ck_assert_uint_eq(S0->entry->usedpools1[size_class], ref_pool_index(mine[0]) + 1);
	ck_assert_uint_eq(S1->entry->usedpools1[size_class], ref_pool_index(theirs[0]) + 1);
	ck_assert_uint_eq(fx.heap->control->spaces[SPACE_OBJECTS].usedpools1[size_class], 0);
	ck_assert_uint_eq(fixture_n_owned(S0), 1);
	ck_assert_uint_eq(fixture_n_owned(S1), 1);
	fixture_drop(S0, mine[4]);
	ck_assert_uint_eq(ref_block(fixture_bytes(S1, 40)), 10);
	again = fixture_bytes(S0, 40);
	ck_assert_uint_eq(ref_position(again), ref_position(mine[4]));
	ck_assert_uint_eq(ref_generation(again), ref_generation(mine[9]) + 1);
}
END_TEST

/* What stays owned. */

START_TEST(one_free_pool_stays)
{
	uint32_t n = class_pool_blocks(63);
	uint64_t refs[64];

	for (uint32_t i = 0; i < 3 * n; i++)
		refs[i] = fixture_bytes(S0, 512);
	ck_assert_uint_eq(fixture_n_owned(S0), 3);
	for (uint32_t i = 0; i < 3 * n; i++)
		fixture_drop(S0, refs[i]);
	ck_assert_uint_eq(fixture_n_owned(S0), 3);
	ck_assert_int_eq(session_serve_requests(S0), 0); /* any other change of its pools */
	ck_assert_uint_eq(fixture_n_owned(S0), 1);
	ck_assert_uint_eq(S0->entry->usedpools1[63], ref_pool_index(refs[0]) + 1);
	ck_assert_uint_eq(ref_pool(refs[0])->kind, POOL_BLOCKS);
	ck_assert_uint_eq(ref_pool(refs[0])->n_used, 0);
	for (uint32_t i = n; i < 3 * n; i += n) {
		ck_assert_uint_eq(ref_pool(refs[i])->kind, POOL_FREE);
		ck_assert_uint_eq(ref_pool(refs[i])->owner1, 0);
	}
	/* where another one has room, a free one goes */
	refs[0] = fixture_bytes(S0, 512);
	ck_assert_uint_eq(ref_block(refs[0]), n - 1); /* the last freed */
	for (uint32_t i = 1; i <= n; i++)
		refs[i] = fixture_bytes(S0, 512);
	fixture_drop(S0, refs[0]);
	fixture_drop(S0, refs[n]);
	ck_assert_int_eq(session_serve_requests(S0), 0);
	ck_assert_uint_eq(ref_pool(refs[n])->kind, POOL_FREE);
	ck_assert_uint_eq(S0->entry->usedpools1[63], ref_pool_index(refs[0]) + 1);
}
END_TEST

START_TEST(one_run_of_each_length_stays)
{
	uint64_t refs[SPARE_RUN_MAX + 2], second[SPARE_RUN_MAX + 2], again;

	for (uint32_t n = 1; n <= SPARE_RUN_MAX + 1; n++) {
		refs[n] = fixture_bytes(S0, n * POOL_SIZE - 3);
		second[n] = fixture_bytes(S0, n * POOL_SIZE);
		ck_assert_uint_eq(ref_pool(refs[n])->owner1, S0->owner1);
	}
	ck_assert_uint_eq(fixture_n_owned(S0), 2 * (SPARE_RUN_MAX + 1));
	for (uint32_t n = 1; n <= SPARE_RUN_MAX + 1; n++) {
		fixture_drop(S0, refs[n]);
		fixture_drop(S0, second[n]);
		ck_assert_uint_eq(ref_pool(second[n])->kind, POOL_FREE);
		ck_assert_uint_eq(ref_pool(refs[n])->kind, n <= SPARE_RUN_MAX ? POOL_RUN : POOL_FREE);
		if (n <= SPARE_RUN_MAX)
			ck_assert_uint_eq(S0->entry->spare_runs1[n - 1], ref_pool_index(refs[n]) + 1);
	}
	ck_assert_uint_eq(fixture_n_owned(S0), SPARE_RUN_MAX);
	for (uint32_t n = 1; n <= SPARE_RUN_MAX; n++) {
		again = fixture_bytes(S0, n * POOL_SIZE - 100);
		ck_assert_uint_eq(ref_position(again), ref_position(refs[n]));
		ck_assert_uint_eq(ref_generation(again), ref_generation(refs[n]) + 1);
		ck_assert_uint_eq(ref_pool(again)->run_size, n * POOL_SIZE - 100);
		ck_assert_uint_eq(S0->entry->spare_runs1[n - 1], 0);
		ck_assert_int_eq(object_incref(S0, refs[n]), -ESTALE);
		fixture_drop(S0, again);
	}
	fixture_expect_empty();
	ck_assert_uint_eq(fixture_n_owned(S0), 0);
}
END_TEST

/* In an arena of 16 pools a run of 16 is a whole arena, which a session does not keep. */
START_TEST(run_of_a_whole_arena)
{
	uint64_t ref;

	fixture_close();
	fixture_open_geometry(&(struct heap_geometry){
		.heap_size = UINT64_C(1) << 20, .arena_size = ARENA_SIZE_MIN, .n_sessions = FIXTURE_SESSIONS});
	ck_assert_uint_eq(fx.heap->pools_per_arena, SPARE_RUN_MAX);
	ref = fixture_bytes(S0, ARENA_SIZE_MIN);
	ck_assert_uint_eq(ref_arena(ref)->state, ARENA_RUN);
	fixture_drop(S0, ref);
	ck_assert_uint_eq(ref_arena(ref)->state, ARENA_RETURNABLE);
	ref = fixture_bytes(S0, ARENA_SIZE_MIN - POOL_SIZE);
	fixture_drop(S0, ref);
	ck_assert_uint_eq(S0->entry->spare_runs1[SPARE_RUN_MAX - 2], ref_pool_index(ref) + 1);
	fixture_expect_empty();
}
END_TEST

/* Holds. */

START_TEST(more_holds_than_the_header_counts)
{
	const uint64_t n = OWN_HOLDS_MAX, n_more = 5;
	uint64_t ref = fixture_bytes(S0, sizes[_i]);

	for (uint64_t i = 1; i < n + n_more; i++) {
		ck_assert_uint_eq(ref_own(ref), i);
		ck_assert_ptr_null(hold_find(S0, ref));
		if (i == n)
			break;
		MUST(S0, object_incref(S0, ref));
	}
	for (uint64_t i = 1; i <= n_more; i++) {
		MUST(S0, object_incref(S0, ref));
		ck_assert_uint_eq(ref_own(ref), n);
		ck_assert_uint_eq(ref_rights(ref), 1);
		ck_assert_uint_eq(hold_find(S0, ref)->count, i);
		ck_assert_int_eq(object_refcount(S1, ref), (int64_t)(n + i));
	}
	ck_assert_uint_eq(S0->entry->n_own_holds, 1);
	ck_assert_uint_eq(S0->entry->n_holds, 1);
	/* Drops take the header's holds first but for one, then the table's, then that one. */
	for (uint64_t left = n + n_more; left > 0; left--) {
		ck_assert_int_eq(object_refcount(S1, ref), (int64_t)left);
		ck_assert_uint_eq(ref_own(ref), left > n_more ? left - n_more : 1);
		ck_assert(object_is_held(S0, ref));
		fixture_drop(S0, ref);
	}
	ck_assert_int_eq(object_decref(S0, ref), -ESTALE);
	ck_assert_uint_eq(S0->entry->n_own_holds, 0);
	ck_assert_uint_eq(S0->entry->n_holds, 0);
	fixture_expect_empty();
}
END_TEST

/*
 * The owner dropped its object, which a list still has, and gets it from the list: it holds it by its table, as other
 * sessions do.
 */
START_TEST(holds_again_by_its_table)
{
	uint64_t ref = fixture_bytes(S0, 8), list = fixture_list(S0, 1), got;

	MUST(S0, list_set(S0, list, 0, ref));
	fixture_drop(S0, ref);
	ck_assert(!object_is_held(S0, ref));
	EXPECT(S0, -EPERM, object_decref(S0, ref));
	ck_assert_uint_eq(S0->entry->n_own_holds, 1);
	MUST(S0, list_get(S0, list, 0, &got));
	ck_assert_uint_eq(got, ref);
	ck_assert_uint_eq(ref_own(ref), 0);
	ck_assert_uint_eq(hold_find(S0, ref)->count, 1);
	MUST(S0, object_incref(S0, ref));
	ck_assert_uint_eq(hold_find(S0, ref)->count, 2);
	fixture_drop(S0, list);
	ck_assert_int_eq(object_refcount(S1, ref), 2);
	fixture_drop(S0, ref);
	fixture_drop(S0, ref);
	EXPECT(S0, -ESTALE, object_decref(S0, ref));
	fixture_expect_empty();
}
END_TEST

/* Objects that it holds by their headers, of whatever size and type. */
START_TEST(own_holds_are_counted)
{
	static const size_t lengths[] = {1, 64, 500, 8 * 1024, 16 * 1024, 100000};
	uint64_t bytes[6], lists[6], n = 0;

	for (int i = 0; i < 6; i++) {
		bytes[i] = fixture_bytes(S0, 8 * lengths[i]);
		ck_assert_uint_eq(S0->entry->n_own_holds, ++n);
		lists[i] = fixture_list(S0, lengths[i]);
		ck_assert_uint_eq(S0->entry->n_own_holds, ++n);
		ck_assert_uint_eq(ref_own(bytes[i]), 1);
		ck_assert_uint_eq(ref_own(lists[i]), 1);
		MUST(S0, object_incref(S0, bytes[i]));
		MUST(S1, object_incref(S1, bytes[i]));
		ck_assert_uint_eq(S0->entry->n_own_holds, n);
	}
	for (int i = 0; i < 6; i++) {
		fixture_drop(S0, bytes[i]);
		ck_assert_uint_eq(S0->entry->n_own_holds, n);
		fixture_drop(S0, bytes[i]);
		ck_assert_uint_eq(S0->entry->n_own_holds, --n);
		fixture_drop(S0, lists[i]);
		ck_assert_uint_eq(S0->entry->n_own_holds, --n);
		fixture_drop(S1, bytes[i]);
	}
	ck_assert_uint_eq(S0->entry->n_holds, 0);
	fixture_expect_empty();
}
END_TEST

/* Memory that is used again. */

/* _i: a small block, a medium one, a kept run; then the same remotely freed and collected. */
START_TEST(slots_are_empty_in_reused_memory)
{
	static const size_t lengths[] = {8, 1000, 5000};
	size_t length = lengths[_i % 3];
	bool by_another = _i / 3;
	uint64_t dirty = fixture_new(S0, TYPE_BYTES, 8 * length), list;

	memset(ref_data(dirty), 0xff, 8 * length);
	if (by_another)
		MUST(S1, object_incref(S1, dirty));
	fixture_drop(S0, dirty);
	if (by_another)
		fixture_drop(S1, dirty);
	critical_request(fx.heap, S0->index, REQUEST_COLLECT);
	list = fixture_list(S0, length);
	ck_assert_uint_eq(ref_position(list), ref_position(dirty));
	for (size_t i = 0; i < 8 * length; i++)
		ck_assert_uint_eq(ref_data(list)[i], 0);
	fixture_drop(S0, list);
	fixture_expect_empty();
}
END_TEST

/* Only the slots of a struct are emptied: its other bytes are as malloc's. */
START_TEST(slots_of_a_struct_are_empty_in_reused_memory)
{
	static const size_t slots[] = {8, 24};
	uint64_t dirty = fixture_bytes(S0, 40), object;
	uint32_t type;

	MUST(S0, type_register(S0, &(struct type_spec){"pair", 40, 0, 2, slots}, &type));
	memset(ref_data(dirty), 0xff, 40);
	fixture_drop(S0, dirty);
	object = fixture_new(S0, type, 0);
	ck_assert_uint_eq(ref_position(object), ref_position(dirty));
	for (size_t i = 0; i < 40; i++)
		ck_assert_uint_eq(ref_data(object)[i], i / 8 == 1 || i / 8 == 3 ? 0 : 0xff);
	fixture_drop(S0, object);
	fixture_expect_empty();
}
END_TEST

/* Generations of a pool and of a kept run go from the last one to 1 and are never 0; old refs stay stale. */
START_TEST(generations_wrap)
{
	static const uint32_t want[] = {GENERATION_MAX - 1, GENERATION_MAX, 1, 2};
	uint64_t refs[4];

	refs[0] = fixture_bytes(S0, sizes[_i]);
	ref_pool(refs[0])->generation = GENERATION_MAX - 2;
	fixture_drop(S0, refs[0]);
	for (int i = 0; i < 4; i++) {
		refs[i] = fixture_bytes(S0, sizes[_i]);
		ck_assert_uint_eq(ref_position(refs[i]), ref_position(refs[0]));
		ck_assert_uint_eq(ref_generation(refs[i]), want[i]);
		ck_assert_uint_eq(ref_pool(refs[i])->generation, want[i]);
		for (int k = 0; k < i; k++) {
			ck_assert_int_eq(object_incref(S0, refs[k]), -ESTALE);
			ck_assert_int_eq(object_incref(S1, refs[k]), -ESTALE);
			ck_assert_int_eq(object_decref(S0, refs[k]), -ESTALE);
		}
		fixture_drop(S0, refs[i]);
	}
	fixture_expect_empty();
}
END_TEST

/* Damage. */

/* Links that lead elsewhere are noticed and not followed; once they are mended the session goes on. */
START_TEST(damaged_lists)
{
	uint64_t ref = fixture_bytes(S0, 100), other = fixture_bytes(S0, 8), theirs = fixture_bytes(S1, 100), got = 7;
	uint32_t *used1 = &S0->entry->usedpools1[class_of_size(100)], *spare1 = &S0->entry->spare_runs1[2];
	uint32_t pages = fixture_pages_type(S0);
	uint32_t good = *used1;
	uint16_t freeblock1;
	const uint32_t bad[] = {UINT32_MAX, ref_pool_index(other) + 1, ref_pool_index(theirs) + 1,
		ref_pool_index(theirs) + 9, fx.heap->pools_per_arena + 1};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		*used1 = bad[i];
		cache_forget_pool(S0->cache, class_of_size(100)); /* it would not look there */
		ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_BYTES, 100, &got)), -EUCLEAN);
		*used1 = good;
		*spare1 = bad[i];
		ck_assert_int_eq(CALL(S0, object_new(S0, pages, 3 * POOL_SIZE, &got)), -EUCLEAN);
		*spare1 = 0;
		S0->entry->remote_pools1 = i == 1 ? UINT32_MAX - 1 : bad[i];
		critical_request(fx.heap, S0->index, REQUEST_COLLECT);
		ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_BYTES, 100, &got)), -EUCLEAN);
		S0->entry->remote_pools1 = 0;
		fixture_check();
	}
	freeblock1 = ref_pool(ref)->freeblock1;
	ref_pool(ref)->freeblock1 = (uint16_t)(class_pool_blocks(class_of_size(100)) + 1);
	ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_BYTES, 100, &got)), -EUCLEAN);
	ref_pool(ref)->freeblock1 = freeblock1;
	ck_assert_uint_eq(got, 7);
	fixture_bytes(S0, 100);
	fixture_bytes(S0, 3 * POOL_SIZE);
}
END_TEST

/*
 * The header of a block that was never handed out is damaged. Each call finds that and carves nothing; once it is
 * mended all blocks are handed out.
 */
START_TEST(damaged_untouched)
{
	struct pool_entry *pool;
	struct object_header *headers;
	uint64_t got = 7;

	ck_assert_int_eq(CALL(S0, own_refill(S0, 320, 8)), 0);
	pool = &fx.heap->pools[S0->entry->usedpools1[class_of_size(320)] - 1];
	headers = pool_headers(fx.heap, pool);
	ck_assert_uint_eq(pool->n_carved, 0);
	headers[3].word = header_free(ref_make(0, 5), 2);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_BYTES, 320, &got)), -EUCLEAN);
		ck_assert_uint_eq(pool->n_carved, 0);
	}
	ck_assert_uint_eq(got, 7);
	ck_assert_int_gt(heap_repair(S1, NULL, NULL), 0);
	fixture_check();
	for (uint32_t i = 0; i < class_pool_blocks(class_of_size(320)); i++)
		ck_assert_uint_eq(ref_pool_index(fixture_bytes(S0, 320)), (uint32_t)(pool - fx.heap->pools));
	fixture_check();
}
END_TEST

/* Blocked. */

/* The session is blocked, and is unblocked after so many instructions of its drop. */
static struct {
	uint64_t n, at;
} opening;

static void on_trap_open(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	if (opening.n++ < opening.at)
		return;
#ifdef __x86_64__
	((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100LL;
#endif
	(void)context;
	critical_unblock(fx.heap, S0->index);
}

/* Whichever way the last hold is dropped, the object is in the cache no more. */
START_TEST(forgotten_while_unblocked)
{
	struct sigaction action = {.sa_sigaction = on_trap_open, .sa_flags = SA_SIGINFO};
	uint64_t keep = fixture_bytes(S0, 40), ref;
	bool was_opened = true;

	ck_assert_int_eq(sigaction(SIGTRAP, &action, NULL), 0);
	for (uint64_t at = 0; was_opened && at < 400; at++) { /* then it waits for the lock */
		ref = fixture_bytes(S0, 40);
		ck_assert_int_eq(object_incref(S0, ref), 0);
		ck_assert_int_eq(object_decref(S0, ref), 0);
		ck_assert_uint_eq(cache_object(S0->cache, ref)->ref, ref);
		critical_request(fx.heap, S0->index, REQUEST_BLOCK);
		opening = (typeof(opening)){.at = at};
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
		trap_each_instruction(true);
		ck_assert_int_eq(object_decref(S0, ref), 0);
		trap_each_instruction(false);
		was_opened = opening.n > at;
		ck_assert_uint_ne(cache_object(S0->cache, ref)->ref, ref);
		ck_assert_uint_eq(S0->entry->n_own_holds, 1);
	}
	fixture_drop(S0, keep);
	fixture_expect_empty();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("own");
	TCase *t = tcase_create("own");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, needs_no_lock, 0, N_SIZES);
	tcase_add_test(t, list_needs_it_to_be_taken_down);
	tcase_add_test(t, lock_once_a_pool);
	tcase_add_test(t, free_pool_in_use_again);
	tcase_add_test(t, each_session_its_own);
	tcase_add_test(t, one_free_pool_stays);
	tcase_add_test(t, one_run_of_each_length_stays);
	tcase_add_test(t, run_of_a_whole_arena);
	tcase_add_test(t, forgotten_while_unblocked);
	tcase_add_loop_test(t, more_holds_than_the_header_counts, 0, N_SIZES);
	tcase_add_test(t, holds_again_by_its_table);
	tcase_add_test(t, own_holds_are_counted);
	tcase_add_loop_test(t, slots_are_empty_in_reused_memory, 0, 6);
	tcase_add_test(t, slots_of_a_struct_are_empty_in_reused_memory);
	tcase_add_loop_test(t, generations_wrap, 0, N_SIZES);
	tcase_add_test(t, damaged_lists);
	tcase_add_test(t, damaged_untouched);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
