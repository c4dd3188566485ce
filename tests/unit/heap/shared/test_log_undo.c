// SPDX-License-Identifier: MIT
/*
 * Undo at every log length
 *
 * An operation is made, and from the log that it leaves behind this test works out what memory looked like when its
 * owner had written k entries, for each k, with and without the store that entry k announces. From each of these states
 * the heap must come back to what it was before, byte by byte.
 */
#include "tests/unit/heap/fixture_picture.h"

#include "heap/object/displaced.h"

#define SENTINEL UINT64_C(0x1111111111111111) /* odd: no log entry's place looks so */

/* Operations, one change each. */

static int op_refill_new_class(void)
{
	return own_refill(S0, 200, 8);
}
static int op_refill_unowned(void)
{
	int r = own_refill(S0, 144, 8);

	ck_assert_uint_eq(ref_pool(unowned)->owner1, S0->owner1);
	return r;
}
static int op_refill_run(void)
{
	return own_refill(S0, 6 * POOL_SIZE, 8);
}

/* The pool that the next one takes is free and had that very class before. */
static int emptied_prepare(void)
{
	uint64_t ref;

	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 0);
	ref = fixture_bytes(S0, 400);
	fixture_drop(S0, ref);
	ck_assert_int_eq(own_trim(&fx.daemon, S0->index), 0);
	ck_assert_uint_eq(ref_pool(ref)->kind, POOL_FREE);
	ck_assert_uint_eq(ref_pool(ref)->size_class, class_of_size(400));
	return 0;
}
static int op_refill_emptied(void)
{
	int r = own_refill(S0, 400, 8);

	ck_assert_uint_eq(fx.heap->pools[S0->entry->usedpools1[class_of_size(400)] - 1].n_carved,
		class_pool_blocks(class_of_size(400)));
	return r;
}

/* Remote frees in a full pool, in one with room, and of all blocks that were left in a third one. */
static int returned_prepare(void)
{
	const uint32_t n = class_pool_blocks(63);
	uint64_t refs[21];

	for (uint32_t i = 0; i < 3 * n; i++) {
		refs[i] = fixture_bytes(S1, 512);
		MUST(S0, object_incref(S0, refs[i]));
	}
	for (uint32_t i = 0; i < 3 * n; i++)
		if (i % n < 4 || i > 2 * n)
			fixture_drop(S1, refs[i]);
	fixture_drop(S0, refs[n]);
	fixture_drop(S0, refs[2 * n]);
	ck_assert_int_eq(session_serve_requests(S1), 0);
	for (uint32_t i = 0; i < 3 * n; i++)
		if ((i % n < 4 && i != n && i != 2 * n) || i > 2 * n)
			fixture_drop(S0, refs[i]);
	ck_assert_uint_eq(pool_count_remote(fx.heap, ref_pool(refs[0])), 4);
	ck_assert_uint_eq(pool_count_remote(fx.heap, ref_pool(refs[n])), 3);
	ck_assert_uint_eq(pool_count_remote(fx.heap, ref_pool(refs[2 * n])), ref_pool(refs[2 * n])->n_used);
	return 0;
}
static int op_gather(void)
{
	return session_serve_requests(S1);
}
static int op_collect(void)
{
	return own_trim(&fx.daemon, S1->index);
}
static int op_collect_free(void)
{
	return own_trim(&fx.daemon, S0->index);
}

/* A session is dead, and others hold objects in its pools. The first of these is dropped. */
static int dead_prepare(void)
{
	for (int i = 0; i < 5; i++) {
		fixture_bytes(DEAD, 300);
		lend(DEAD, S1, 300);
	}
	fixture_drop(S1, lend(DEAD, S1, 300));
	session_mark_dead(fx.heap, DEAD->index);
	return 0;
}
static int dead_run_prepare(void)
{
	fixture_bytes(DEAD, 3 * POOL_SIZE);
	session_mark_dead(fx.heap, DEAD->index);
	return 0;
}
static int dead_run_lent_prepare(void)
{
	lend(DEAD, S1, 3 * POOL_SIZE);
	session_mark_dead(fx.heap, DEAD->index);
	return 0;
}
static int op_reclaim(void)
{
	int r = session_reclaim_step(DEAD);

	return r == 1 ? 0 : r;
}

static int making_prepare(void)
{
	uint64_t ref;
	int r = change_begin(S0);

	r = r < 0 ? r : memory_take(S0, SPACE_OBJECTS, 3 * POOL_SIZE, POOL_SIZE, TYPE_LIST, STATE_MAKING, 0, &ref);
	if (!r)
		heap_set(fx.heap, &S0->entry->making1, ref_position(ref) + 1);
	return change_end(S0, r);
}
static int op_making_drop(void)
{
	int r = change_begin(S0);

	return r < 0 ? r : change_end(S0, making_drop(S0));
}

static int op_new_medium(void)
{
	return object_new(&fx.sessions[0], TYPE_BYTES, 20 * POOL_SIZE, &(uint64_t){0});
}
static int op_new_large(void)
{
	return object_new(&fx.sessions[0], TYPE_BYTES, 2 * ARENA_SIZE_DEFAULT, &(uint64_t){0});
}
static int op_incref(void)
{
	return object_incref(S1, bytes);
}
static int op_incref_shared(void)
{
	return object_incref(S1, inner);
}
static int op_decref_keeps(void)
{
	return object_decref(S0, inner);
}
static int keeps_prepare(void)
{
	return object_incref(S1, inner);
}
static int op_decref_of_other(void)
{
	return object_decref(S1, inner);
}
static int op_decref_own(void) /* that was shared before */
{
	return object_decref(S0, known);
}
static int op_decref_returns(void)
{
	return object_decref(S1, lent);
}

/* All blocks of a full pool but one are remotely freed. */
static int all_but_one_prepare(void)
{
	for (uint32_t i = 0; i < 7; i++)
		MUST(S1, object_incref(S1, full[i]));
	for (uint32_t i = 0; i < 7; i++)
		fixture_drop(S0, full[i]);
	for (uint32_t i = 1; i < 7; i++)
		fixture_drop(S1, full[i]);
	ck_assert_uint_eq(pool_count_remote(fx.heap, ref_pool(full[0])), 6);
	return 0;
}
static int op_decref_returns_pool(void)
{
	int r = object_decref(S1, full[0]);

	ck_assert_uint_eq(ref_pool(full[0])->kind, POOL_FREE);
	return r;
}
static int op_decref_unowned(void)
{
	return object_decref(S1, unowned);
}
static int op_decref_unowned_full(void)
{
	return object_decref(S1, unowned_full);
}
static int op_decref_unowned_last(void)
{
	int r = object_decref(S1, unowned_alone);

	ck_assert_uint_eq(ref_pool(unowned_alone)->kind, POOL_FREE);
	return r;
}
static int op_decref_frees_run(void)
{
	return object_decref(S1, lent_run);
}
static int op_decref_frees_large(void)
{
	return object_decref(S1, lent_large);
}
/* A session died with a right in flight to a queue. */
static int finish_prepare(void)
{
	struct object object;

	ck_assert_int_eq(change_begin(S1), 0);
	ck_assert_int_eq(object_find(fx.heap, lent, &object), 0);
	ck_assert_int_eq(right_retain(S1, &object), 0);
	ck_assert_int_eq(change_end(S1, 0), 0);
	S1->entry->intent = (struct intent){.ref = lent, .word = intent_word(5, INTENT_RIGHT)};
	return 0;
}
static int op_queue_finish(void)
{
	int r = change_begin(S1);

	return r < 0 ? r : change_end(S1, queue_finish(S1));
}
static int op_list_set(void)
{
	return list_set(&fx.sessions[0], list, 1, bytes);
}
/* A place was changed, in a first change; what it had before has to go in a second one (displaced.c). */
static int displaced_prepare(void)
{
	struct object object;
	uint64_t name;

	ck_assert_int_eq(change_begin(S0), 0);
	ck_assert_int_eq(object_find(fx.heap, bytes, &object), 0);
	ck_assert_int_eq(right_retain(S0, &object), 0);
	ck_assert_int_eq(memory_take(S0, SPACE_RECORDS, 40, 0, TYPE_NAME, STATE_LIVE, RIGHTS_ONE, &name), 0);
	((struct name_entry *)(void *)(fx.heap->base + (ref_position(name) << 3)))->ref = 0;
	S0->entry->displaced = bytes;
	S0->entry->displaced_name1 = ref_position(name) + 1;
	return change_end(S0, 0);
}
static int op_displaced_finish(void)
{
	int r = change_begin(S0);

	return r < 0 ? r : change_end(S0, displaced_finish(S0));
}
static int op_list_get(void)
{
	return list_get(&fx.sessions[1], list, 0, &(uint64_t){0});
}
static int op_name_new(void)
{
	return name_set(&fx.sessions[0], "a new name", bytes);
}
static int op_name_get(void)
{
	return name_get(&fx.sessions[1], "name", &(uint64_t){0});
}
static int op_pick_returning(void)
{
	uint32_t head;
	int r = supply_pick_returning(&fx.daemon, 0, &head);

	return r == 1 ? 0 : r;
}

/* A list on its session's dying list: freeing it drops three children. */
static int dying_prepare(void)
{
	fixture_give_up(S0, list);
	return 0;
}
static int op_dying_step(void)
{
	int r = dying_step(&fx.sessions[0], false);

	return r == 1 ? 0 : r;
}

static const struct {
	const char *name;
	int (*op)(void);
	int (*prepare)(void);
} undo_ops[] = {
	{"refill of a new class", op_refill_new_class, NULL},
	{"refill with an emptied pool", op_refill_emptied, emptied_prepare},
	{"refill with a pool that nobody owns", op_refill_unowned, NULL},
	{"refill with a run", op_refill_run, NULL},
	{"gather", op_gather, returned_prepare},
	{"collect what was returned", op_collect, returned_prepare},
	{"collect what is free", op_collect_free, NULL},
	{"reclaim a pool", op_reclaim, dead_prepare},
	{"reclaim a run", op_reclaim, dead_run_prepare},
	{"reclaim a run that others hold", op_reclaim, dead_run_lent_prepare},
	{"give up making", op_making_drop, making_prepare},
	{"new medium", op_new_medium, NULL},
	{"new large", op_new_large, NULL},
	{"incref", op_incref, NULL},
	{"incref of what others know", op_incref_shared, NULL},
	{"decref that keeps", op_decref_keeps, NULL},
	{"decref of another's that keeps", op_decref_of_other, keeps_prepare},
	{"decref of what was shared", op_decref_own, NULL},
	{"decref that returns a block", op_decref_returns, NULL},
	{"decref that returns the last of a pool", op_decref_returns_pool, all_but_one_prepare},
	{"decref that frees a block", op_decref_unowned, NULL},
	{"decref in a full pool", op_decref_unowned_full, NULL},
	{"decref that frees a pool", op_decref_unowned_last, NULL},
	{"decref that frees a run", op_decref_frees_run, NULL},
	{"decref that frees a large run", op_decref_frees_large, NULL},
	{"list set", op_list_set, NULL},
	{"what was displaced", op_displaced_finish, displaced_prepare},
	{"list get", op_list_get, NULL},
	{"name set", op_name_new, NULL},
	{"name get", op_name_get, NULL},
	{"pick returning", op_pick_returning, NULL},
	{"taking down", op_dying_step, dying_prepare},
	{"what the dead had begun", op_queue_finish, finish_prepare},
};

/* Undone. */

#define BIASED1 SESSIONS_MAX /* no session of this heap */

static void *target_of(const struct log_entry *entry)
{
	uint8_t *base = entry->where & LOG_WHERE_HEAP ? fx.heap->base : (uint8_t *)fx.heap->control;

	return base + (entry->where & ~(LOG_WHERE_HEAP | LOG_WHERE_HEADER_LOCK));
}

static void undo_entry(const struct log_entry *entry)
{
	memcpy(target_of(entry), &entry->old, entry->where & LOG_WHERE_HEADER_LOCK ? 4 : 8);
}

/* As before a commit: those of the first k entries that lock a header, unless a later entry has the word. */
static void claim_again(uint32_t k)
{
	const struct log_entry *entries = fx.heap->control->lock.entries;

	for (uint32_t i = 0; i < k; i++) {
		bool is_taken = !(entries[i].where & LOG_WHERE_HEADER_LOCK);

		for (uint32_t j = i + 1; j < k; j++)
			is_taken |= entries[j].where == (entries[i].where & ~LOG_WHERE_HEADER_LOCK);
		if (!is_taken)
			*(uint32_t *)target_of(&entries[i]) |= RIGHTS_LOCKED;
	}
}

/* The log does not restore a header's bias. With the bias of another session a count without the lock goes under it. */
static void bias_all(void)
{
	for (uint32_t p = 0; p < fx.heap->control->n_arenas_known * fx.heap->pools_per_arena; p++) {
		struct pool_entry *pool = &fx.heap->pools[p];
		bool is_there = arena_is_there(fx.heap, p / fx.heap->pools_per_arena);
		uint32_t n = is_there && pool->kind == POOL_BLOCKS ? class_shapes[pool->size_class].n_blocks : 0;

		for (uint32_t i = 0; i < n; i++)
			if (header_state(pool_headers(fx.heap, pool)[i].word) == STATE_LIVE)
				pool_headers(fx.heap, pool)[i].biased1 = BIASED1;
		if (is_there && pool->kind == POOL_RUN && header_state(pool->header.word) == STATE_LIVE)
			pool->header.biased1 = BIASED1;
	}
}

/* Make the change and say how many entries it wrote; the log is left as it was when it was committed. */
static uint32_t run_logged(int (*op)(void))
{
	struct global_lock *lock = &fx.heap->control->lock;
	uint64_t n_before;
	uint32_t n = 0;

	for (uint32_t i = 0; i < LOG_CAPACITY; i++)
		lock->entries[i].where = SENTINEL;
	n_before = lock->n_acquisitions;
	ck_assert_int_eq(op(), 0);
	ck_assert_uint_eq(lock->n_entries, 0);
	ck_assert_uint_eq(lock->n_acquisitions, n_before + 1); /* it is one change, all of which is in the log */
	while (n < LOG_CAPACITY && lock->entries[n].where != SENTINEL)
		n++;
	return n;
}

/* The owner died with k entries written, and with the store after the last of them made or not. */
static void recover_from(const struct picture *before, const struct picture *after, uint32_t n, uint32_t k, bool stored)
{
	struct global_lock *lock = &fx.heap->control->lock;

	picture_restore(after);
	for (uint32_t i = n; i-- > k;)
		undo_entry(&lock->entries[i]);
	claim_again(stored ? k : k - 1);
	if (!stored)
		undo_entry(&lock->entries[k - 1]);
	lock->n_entries = k;
	log_roll_back(fx.heap);
	ck_assert_uint_eq(lock->n_entries, 0);
	bias_all();
	compare(before, stored ? "after" : "before the store of", k);
	fixture_check();
}

/* A recoverer that died after it had put back the last m of all n words. */
static void recover_again(const struct picture *before, const struct picture *after, uint32_t n, uint32_t m)
{
	struct global_lock *lock = &fx.heap->control->lock;

	picture_restore(after);
	claim_again(n);
	for (uint32_t i = n; i-- > n - m;)
		undo_entry(&lock->entries[i]);
	lock->n_entries = n;
	log_roll_back(fx.heap);
	bias_all();
	compare(before, "again, after the recovery of", m);
}

START_TEST(undo_every_length)
{
	struct picture before, after;
	uint32_t n;

	populate();
	if (undo_ops[_i].prepare)
		ck_assert_int_eq(undo_ops[_i].prepare(), 0);
	bias_all();
	before = picture_take();
	n = run_logged(undo_ops[_i].op);
	ck_assert_msg(n > 0, "%s writes nothing down", undo_ops[_i].name);
	fixture_check();
	bias_all();
	after = picture_take();
	for (uint32_t k = n + 1; k-- > 0;) {
		recover_from(&before, &after, n, k, true);
		if (k > 0)
			recover_from(&before, &after, n, k, false);
		recover_again(&before, &after, n, k);
	}
	/* What was undone can be done again, with the same result. */
	ck_assert_int_eq(undo_ops[_i].op(), 0);
	bias_all();
	compare_control(&after, "done again", n);
	fixture_check();
	picture_free(&before);
	picture_free(&after);
}
END_TEST

/* A change that fails half-way takes itself back. */
START_TEST(failed_change_is_undone)
{
	struct session *s = &fx.sessions[0];
	struct picture before;
	uint32_t index;
	uint64_t ref;

	populate();
	before = picture_take();
	ck_assert_int_eq(change_begin(s), 0);
	for (uint32_t i = 0; i < 5; i++)
		ck_assert_int_eq(pool_own(s, class_of_size(304 + 8 * i)), 0);
	ck_assert_int_eq(pool_disown(s, ref_pool(full[2])), 0);
	ck_assert_int_eq(run_own(s, 3, &index), 0);
	ck_assert_int_eq(memory_take(s, SPACE_RECORDS, 24, 0, TYPE_NAME, STATE_LIVE, RIGHTS_ONE, &ref), 0);
	ck_assert_int_eq(
		memory_take(s, SPACE_OBJECTS, 3 * POOL_SIZE, POOL_SIZE, TYPE_BYTES, STATE_LIVE, RIGHTS_ONE, &ref), 0);
	ck_assert_int_eq(memory_give(s, ref_position(run)), 0);
	ck_assert_uint_gt(fx.heap->control->lock.n_entries, 20);
	ck_assert_int_eq(change_end(s, -EIO), -EIO);
	compare(&before, "failed", 0);
	ck_assert_int_eq(change_begin(s), 0);
	ck_assert_int_eq(memory_give(s, ref_position(run)), 0);
	ck_assert_int_eq(change_end(s, HEAP_WANTS_ARENAS), HEAP_WANTS_ARENAS);
	compare(&before, "wanting", 0);
	fixture_check();
	picture_free(&before);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("log-undo");
	TCase *t = tcase_create("undo");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, undo_every_length, 0, (int)(sizeof(undo_ops) / sizeof(undo_ops[0])));
	tcase_add_test(t, failed_change_is_undone);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
