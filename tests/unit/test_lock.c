/* SPDX-License-Identifier: MIT */
/*
 * The global lock and its undo log
 *
 * Undo at every log length: an operation is made, and from the log that it leaves behind this test works out what
 * memory looked like when its owner had written k entries, for each k, with and without the store that entry k
 * announces. From each of these states the heap must come back to what it was before, byte by byte. Killed owners are
 * real processes, killed by SIGKILL while they have the lock.
 */
#include "tests/unit/fixture.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SENTINEL UINT64_C(0x1111111111111111) /* odd: no log entry's place looks so */

/* ---- a picture of the heap --------------------------------------------------------------------------------------- */

struct picture {
	uint8_t *control;
	uint8_t *window; /* mapped arenas only; zeroes elsewhere */
};

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

static struct picture picture_take(void)
{
	struct picture p = {allocate(fx.heap->control_size), allocate(fx.heap->heap_size)};

	memcpy(p.control, fx.heap->control, fx.heap->control_size);
	copy_arenas(p.window, fx.heap->base);
	return p;
}

/* Put the heap into the state of the picture; the lock, which only this process has, stays as it is. */
static void picture_restore(const struct picture *p)
{
	const uint64_t lock = offsetof(struct control, lock), end = lock + sizeof(struct global_lock);

	memcpy(fx.heap->control, p->control, lock);
	memcpy((uint8_t *)fx.heap->control + end, p->control + end, fx.heap->control_size - end);
	copy_arenas(fx.heap->base, p->window);
}

static void picture_free(struct picture *p)
{
	munmap(p->control, fx.heap->control_size);
	munmap(p->window, fx.heap->heap_size);
}

static bool is_in(uint64_t i, uint64_t off, uint64_t size)
{
	return i >= off && i < off + size;
}

/*
 * What an undone change may leave: the entry behind the last type, that a free pool has forgotten its class, and of a
 * session how many calls it made, what is asked of it, and the hint that something was returned.
 */
static bool control_may_differ(const struct picture *p, uint64_t i)
{
	const struct control *c = fx.heap->control;
	uint64_t pool = (i - c->pools_off) / sizeof(struct pool_entry);
	uint64_t in_session = (i - c->sessions_off) % sizeof(struct session_entry);

	if (i >= c->sessions_off && i < c->types_off &&
		(is_in(in_session, offsetof(struct session_entry, n_calls), 8) ||
			is_in(in_session, offsetof(struct session_entry, n_returns), 4)))
		return true;
	if (i >= offsetof(struct control, lock) && i < offsetof(struct control, lock) + sizeof(struct global_lock))
		return true;
	if (i >= c->types_off + c->n_types * sizeof(struct type_entry) && i < c->type_slots_off)
		return true;
	if (i >= c->type_slots_off + c->n_type_slots * sizeof(uint32_t) && i < c->name_buckets_off)
		return true;
	if (i < c->pools_off ||
		(i - c->pools_off) % sizeof(struct pool_entry) != offsetof(struct pool_entry, size_class))
		return false;
	return fx.heap->pools[pool].kind == POOL_FREE && fx.heap->pools[pool].size_class == CLASS_NONE && p->control;
}

static void compare_control(const struct picture *p, const char *when, uint32_t k)
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

/* The headers of a pool's blocks, also of a free pool that remembers its class; and payloads of what is alive. */
static void compare_pool(const struct picture *p, uint32_t index, const char *when, uint32_t k)
{
	const struct pool_entry *pool = &fx.heap->pools[index];
	uint64_t off = (uint64_t)index * POOL_SIZE;
	const struct object_header *old = (const struct object_header *)(const void *)(p->window + off);

	if (pool->kind == POOL_RUN && memcmp(fx.heap->base + off, p->window + off, pool->run_size))
		ck_abort_msg("%s %u entries: the payload of run %u differs", when, k, index);
	if (pool->kind == POOL_RUN || pool->size_class >= N_CLASSES)
		return;
	if (memcmp(fx.heap->base + off, old, class_pool_blocks(pool->size_class) * sizeof(*old)))
		ck_abort_msg("%s %u entries: the headers of pool %u differ", when, k, index);
	for (uint32_t i = 0; i < pool->n_carved && pool->kind == POOL_BLOCKS; i++) {
		uint64_t at = off + block_offset(pool->size_class, i), skip = 0;

		if (header_state(old[i].word) != STATE_LIVE)
			continue;
		if (header_type(old[i].word) == TYPE_QUEUE) /* its futex words are not logged */
			skip = sizeof(struct queue);
		if (memcmp(fx.heap->base + at + skip, p->window + at + skip, header_size(old[i].word) - skip))
			ck_abort_msg("%s %u entries: the payload of block %u of pool %u differs", when, k, i, index);
		if (skip && memcmp(fx.heap->base + at, p->window + at, offsetof(struct queue, pop_seq)))
			ck_abort_msg("%s %u entries: queue %u of pool %u differs", when, k, i, index);
	}
}

static void compare(const struct picture *p, const char *when, uint32_t k)
{
	compare_control(p, when, k);
	for (uint32_t i = 0; i < fx.heap->n_arenas * fx.heap->pools_per_arena; i++) {
		const struct arena_entry *arena = &fx.heap->arenas[i / fx.heap->pools_per_arena];

		if (arena->state == ARENA_POOLS || (arena->state == ARENA_RUN && i % fx.heap->pools_per_arena == 0))
			compare_pool(p, i, when, k);
	}
}

/* ---- undo at every log length ------------------------------------------------------------------------------------ */

#define S0   (&fx.sessions[0])
#define S1   (&fx.sessions[1])
#define DEAD (&fx.sessions[2])

static uint64_t bytes, inner, list, queue, named, told, run, lent, lent_run, lent_large;
static uint64_t unowned, unowned_full, unowned_alone; /* session 1 holds them, their pools have no owner */
static uint64_t full[7];                              /* all of a pool of session 0's */

/* One session makes it, another holds it. */
static uint64_t lend(struct session *from, struct session *to, size_t size)
{
	uint64_t ref = fixture_bytes(from, size);

	MUST(to, object_incref(to, ref));
	fixture_drop(from, ref);
	return ref;
}

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

	ck_assert_int_eq(own_collect(&fx.daemon, S0->index), 0);
	ref = fixture_bytes(S0, 400);
	fixture_drop(S0, ref);
	ck_assert_int_eq(own_collect(&fx.daemon, S0->index), 0);
	ck_assert_uint_eq(ref_pool(ref)->kind, POOL_FREE);
	ck_assert_uint_eq(ref_pool(ref)->size_class, class_of_size(400));
	return 0;
}
static int op_refill_emptied(void)
{
	int r = own_refill(S0, 400, 8);

	ck_assert_uint_eq(fx.heap->pools[S0->entry->usedpools1[class_of_size(400)] - 1].n_carved, 1);
	return r;
}

/* Others return blocks in a full pool, in one with room, and all that was left in a third one. */
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
	ck_assert_int_eq(session_attend(S1), 0);
	for (uint32_t i = 0; i < 3 * n; i++)
		if ((i % n < 4 && i != n && i != 2 * n) || i > 2 * n)
			fixture_drop(S0, refs[i]);
	ck_assert_uint_eq(ref_pool(refs[0])->n_returned, 4);
	ck_assert_uint_eq(ref_pool(refs[n])->n_returned, 3);
	ck_assert_uint_eq(ref_pool(refs[2 * n])->n_returned, ref_pool(refs[2 * n])->n_used);
	return 0;
}
static int op_gather(void)
{
	return session_attend(S1);
}
static int op_collect(void)
{
	return own_collect(&fx.daemon, S1->index);
}
static int op_collect_free(void)
{
	return own_collect(&fx.daemon, S0->index);
}

/* A session is dead, and others hold some of what lies in its pools. The first of them goes. */
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

	r = r < 0 ? r : memory_take(S0, SPACE_OBJECTS, 3 * POOL_SIZE, 8, TYPE_LIST, STATE_MAKING, 0, &ref);
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
	return object_decref(S0, told);
}
static int op_decref_returns(void)
{
	return object_decref(S1, lent);
}

/* Of a full pool all blocks were returned but one. */
static int all_but_one_prepare(void)
{
	for (uint32_t i = 0; i < 7; i++)
		MUST(S1, object_incref(S1, full[i]));
	for (uint32_t i = 0; i < 7; i++)
		fixture_drop(S0, full[i]);
	for (uint32_t i = 1; i < 7; i++)
		fixture_drop(S1, full[i]);
	ck_assert_uint_eq(ref_pool(full[0])->n_returned, 6);
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
static int op_push_held(void)
{
	return queue_push(S1, queue, lent, 0);
}
static int op_pop_own(void)
{
	return queue_pop(S0, queue, &(uint64_t){0}, 0);
}
static int op_list_set(void)
{
	return list_set(&fx.sessions[0], list, 1, bytes);
}
static int op_list_replace(void)
{
	return list_set(&fx.sessions[0], list, 0, bytes);
}
static int op_list_clear(void)
{
	return list_set(&fx.sessions[0], list, 0, 0);
}
static int op_list_get(void)
{
	return list_get(&fx.sessions[1], list, 0, &(uint64_t){0});
}
static int op_push(void)
{
	return queue_push(&fx.sessions[0], queue, bytes, 0);
}
static int op_pop(void)
{
	return queue_pop(&fx.sessions[1], queue, &(uint64_t){0}, 0);
}
static int op_name_new(void)
{
	return name_set(&fx.sessions[0], "a new name", bytes);
}
static int op_name_replace(void)
{
	return name_set(&fx.sessions[0], "name", bytes);
}
static int op_name_get(void)
{
	return name_get(&fx.sessions[1], "name", &(uint64_t){0});
}
static int op_name_del(void)
{
	return name_del(&fx.sessions[0], "name");
}
static int op_type(void)
{
	const size_t slots[] = {0, 8, 40};

	return type_register(&fx.sessions[0], &(struct type_spec){"point", 48, 16, 3, slots}, &(uint32_t){0});
}
static int op_pick_returning(void)
{
	uint32_t head;
	int r = arena_pick_returning(&fx.daemon, 0, &head);

	return r == 1 ? 0 : r;
}

/* A list that only its own session's dying list knows: taking it down drops three children. */
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
	{"push of what a table holds", op_push_held, NULL},
	{"pop of one's own", op_pop_own, NULL},
	{"list set", op_list_set, NULL},
	{"list set that replaces", op_list_replace, NULL},
	{"list set that clears", op_list_clear, NULL},
	{"list get", op_list_get, NULL},
	{"push", op_push, NULL},
	{"pop", op_pop, NULL},
	{"name set", op_name_new, NULL},
	{"name set that replaces", op_name_replace, NULL},
	{"name get", op_name_get, NULL},
	{"name del", op_name_del, NULL},
	{"type register", op_type, NULL},
	{"pick returning", op_pick_returning, NULL},
	{"taking down", op_dying_step, dying_prepare},
};

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
static void populate(void)
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
	told = fixture_bytes(s, 100);
	MUST(S1, object_incref(S1, told));
	fixture_drop(S1, told);
	lent = lend(s, S1, 100);
	lent_run = lend(s, S1, 7 * POOL_SIZE);
	lent_large = lend(s, S1, ARENA_SIZE_DEFAULT);
	populate_unowned();
	/* a large run that can go */
	ref = fixture_bytes(s, 2 * ARENA_SIZE_DEFAULT);
	fixture_drop(s, ref);
	/* what others asked for meanwhile is not to be seen to in the middle of a test */
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++)
		ck_assert_int_eq(session_attend(&fx.sessions[i]), 0);
}

static void undo_entry(const struct log_entry *entry)
{
	uint8_t *base = entry->where & LOG_WHERE_HEAP ? fx.heap->base : (uint8_t *)fx.heap->control;

	memcpy(base + (entry->where & ~LOG_WHERE_HEAP), &entry->old, 8);
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
	ck_assert_uint_eq(lock->n_acquisitions, n_before + 1); /* it is one change: what the log says is all of it */
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
	if (!stored)
		undo_entry(&lock->entries[k - 1]);
	lock->n_entries = k;
	log_roll_back(fx.heap);
	ck_assert_uint_eq(lock->n_entries, 0);
	compare(before, stored ? "after" : "before the store of", k);
	fixture_check();
}

/* And a recoverer that died itself, after it had put back the last m of all n words. */
static void recover_again(const struct picture *before, const struct picture *after, uint32_t n, uint32_t m)
{
	struct global_lock *lock = &fx.heap->control->lock;

	picture_restore(after);
	for (uint32_t i = n; i-- > n - m;)
		undo_entry(&lock->entries[i]);
	lock->n_entries = n;
	log_roll_back(fx.heap);
	compare(before, "again, after the recovery of", m);
}

START_TEST(undo_every_length)
{
	struct picture before, after;
	uint32_t n;

	populate();
	if (undo_ops[_i].prepare)
		ck_assert_int_eq(undo_ops[_i].prepare(), 0);
	before = picture_take();
	n = run_logged(undo_ops[_i].op);
	ck_assert_msg(n > 0, "%s writes nothing down", undo_ops[_i].name);
	fixture_check();
	after = picture_take();
	for (uint32_t k = n + 1; k-- > 0;) {
		recover_from(&before, &after, n, k, true);
		if (k > 0)
			recover_from(&before, &after, n, k, false);
		recover_again(&before, &after, n, k);
	}
	/* What was taken back can be done again, to the same end. */
	ck_assert_int_eq(undo_ops[_i].op(), 0);
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
	ck_assert_int_eq(memory_take(s, SPACE_RECORDS, 24, 0, TYPE_NAME, STATE_LIVE, 1, &ref), 0);
	ck_assert_int_eq(memory_take(s, SPACE_OBJECTS, 3 * POOL_SIZE, 0, TYPE_BYTES, STATE_LIVE, 1, &ref), 0);
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

/* ---- the log itself ---------------------------------------------------------------------------------------------- */

static uint32_t *spare_word(uint32_t i)
{
	return &fx.heap->pools[i].reserved2;
}

START_TEST(log_overflow)
{
	struct session *s = &fx.sessions[0];
	struct picture before;
	const uint32_t n_words = 64;

	populate(); /* so that pools' entries are there */
	before = picture_take();
	ck_assert_int_eq(change_begin(s), 0);
	for (uint32_t i = 0; i < LOG_CAPACITY; i++)
		heap_add(fx.heap, spare_word(i % n_words), 1);
	ck_assert_uint_eq(fx.heap->control->lock.n_entries, LOG_CAPACITY);
	for (uint32_t i = 0; i < 10; i++)
		heap_add(fx.heap, spare_word(i), 1000);
	ck_assert_uint_eq(*spare_word(0), LOG_CAPACITY / n_words); /* what finds no room is not stored */
	ck_assert_int_eq(change_end(s, 0), -EUCLEAN);
	compare(&before, "overflowed", LOG_CAPACITY);

	/* Full to the last entry is no overflow. */
	ck_assert_int_eq(change_begin(s), 0);
	for (uint32_t i = 0; i < LOG_CAPACITY; i++)
		heap_add(fx.heap, spare_word(i % n_words), 1);
	ck_assert_int_eq(change_end(s, 0), 0);
	ck_assert_uint_eq(*spare_word(5), LOG_CAPACITY / n_words);
	picture_free(&before);
}
END_TEST

/* What a stray write leaves in the log harms at most what lies in the heap's own mappings. */
START_TEST(log_scribbled)
{
	struct global_lock *lock = &fx.heap->control->lock;
	const uint64_t wild[] = {
		~UINT64_C(0),
		1,
		7,
		fx.heap->control_size,
		fx.heap->control_size - 4,
		fx.heap->control_size + 8,
		UINT64_C(1) << 62,
		LOG_WHERE_HEAP | fx.heap->heap_size,
		LOG_WHERE_HEAP | (fx.heap->heap_size - 8),
		LOG_WHERE_HEAP | 3,
		LOG_WHERE_HEAP | UINT64_C(1) << 50,
		LOG_WHERE_HEAP | (UINT64_C(9) << 20),
	};
	const uint32_t n = sizeof(wild) / sizeof(wild[0]);
	struct picture before;

	populate();
	before = picture_take();
	for (uint32_t i = 0; i < n; i++)
		lock->entries[i] = (struct log_entry){.where = wild[i], .old = UINT64_C(0xdeaddeaddeaddead)};
	lock->n_entries = n;
	log_roll_back(fx.heap);
	ck_assert_uint_eq(lock->n_entries, 0);
	compare(&before, "scribbled", n);

	/* A length that is no length: no entry behind the last one is read. */
	for (uint32_t i = 0; i < LOG_CAPACITY; i++)
		lock->entries[i].where = ~UINT64_C(0);
	lock->n_entries = UINT32_MAX;
	log_roll_back(fx.heap);
	ck_assert_uint_eq(lock->n_entries, 0);
	compare(&before, "without end", UINT32_MAX);
	picture_free(&before);
}
END_TEST

/* The same with a great many entries that do lie in the heap segment, or beyond its end. */
START_TEST(log_random)
{
	struct global_lock *lock = &fx.heap->control->lock;
	struct picture before;

	fixture_seed();
	populate();
	before = picture_take();
	for (uint64_t round = 0; round < fixture_ops(1000); round++) {
		for (uint32_t i = 0; i < 1000; i++) {
			lock->entries[i].where = LOG_WHERE_HEAP | (fixture_random() & (2 * fx.heap->heap_size - 1));
			lock->entries[i].old = fixture_random();
		}
		lock->n_entries = 1000;
		log_roll_back(fx.heap);
		ck_assert_uint_eq(lock->n_entries, 0);
	}
	compare_control(&before, "random", 1000);
	picture_restore(&before);
	fixture_check();
	picture_free(&before);
}
END_TEST

/* ---- owners that die --------------------------------------------------------------------------------------------- */

/* Run f in a child that dies by its own SIGKILL at the end of it. */
static void in_killed_child(void (*f)(void))
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (!pid) {
		f();
		kill(getpid(), SIGKILL);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGKILL);
}

static void die_idle_owner(void)
{
	change_begin(&fx.sessions[1]);
}

static void die_in_change(void)
{
	struct session *s = &fx.sessions[1];
	uint64_t ref;
	bool first;

	change_begin(s);
	pool_own(s, class_of_size(40));
	memory_take(s, SPACE_OBJECTS, 2 * POOL_SIZE, 0, TYPE_BYTES, STATE_LIVE, 1, &ref);
	hold_add(s, ref, &first);
	memory_take(s, SPACE_RECORDS, 40, 0, TYPE_NAME, STATE_LIVE, 1, &ref);
	memory_give(s, ref_position(run));
}

static void die_before_commit(void)
{
	die_in_change();
	log_word(fx.heap, spare_word(3)); /* announced, never made */
}

static void die_after_overflow(void)
{
	change_begin(&fx.sessions[1]);
	for (uint32_t i = 0; i < LOG_CAPACITY + 5; i++)
		heap_add(fx.heap, spare_word(i % 50), 1);
}

static void (*const deaths[])(void) = {die_idle_owner, die_in_change, die_before_commit, die_after_overflow};

START_TEST(owner_killed)
{
	struct global_lock *lock = &fx.heap->control->lock;
	uint64_t n_recoveries = lock->n_recoveries, ref;
	struct picture before;

	populate();
	before = picture_take();
	in_killed_child(deaths[_i]);
	/* Whoever comes next, one that waits or one that tries, finds the heap as it was. */
	if (_i % 2)
		ck_assert_int_eq(change_begin(&fx.sessions[2]), 0);
	else
		ck_assert_int_eq(change_try_begin(&fx.daemon), 0);
	ck_assert_uint_eq(lock->n_recoveries, n_recoveries + 1);
	compare(&before, "killed", 0);
	ck_assert_int_eq(change_end(_i % 2 ? &fx.sessions[2] : &fx.daemon, 0), 0);
	fixture_check();
	for (int i = 0; i < 20; i++) {
		ref = fixture_bytes(&fx.sessions[2], 40);
		fixture_drop(&fx.sessions[2], ref);
	}
	ck_assert_uint_eq(lock->n_recoveries, n_recoveries + 1);
	picture_free(&before);
}
END_TEST

START_TEST(owners_killed_in_a_row)
{
	struct global_lock *lock = &fx.heap->control->lock;
	uint64_t n_recoveries = lock->n_recoveries;

	populate();
	for (uint32_t i = 0; i < 10; i++)
		in_killed_child(deaths[i % 3]);
	fixture_check();
	ck_assert_uint_eq(lock->n_recoveries, n_recoveries + 10);
}
END_TEST

START_TEST(owner_killed_seen_by_daemon)
{
	struct global_lock *lock = &fx.heap->control->lock;
	struct picture before;

	populate();
	before = picture_take();
	ck_assert_int_eq(lock_recover(&fx.daemon), 0);
	ck_assert_uint_eq(lock->n_recoveries, 0);
	in_killed_child(die_in_change);
	ck_assert_int_eq(lock_recover(&fx.daemon), 0);
	ck_assert_uint_eq(lock->n_recoveries, 1);
	compare(&before, "recovered", 0);
	ck_assert_int_eq(session_lock(&fx.sessions[0]), 0);
	ck_assert_int_eq(lock_recover(&fx.daemon), -EBUSY);
	ck_assert_int_eq(session_unlock(&fx.sessions[0]), 0);
	picture_free(&before);
}
END_TEST

/* ---- session_lock() ---------------------------------------------------------------------------------------------- */

START_TEST(lock_and_unlock)
{
	struct session *s = &fx.sessions[0];
	struct global_lock *lock = &fx.heap->control->lock;
	uint64_t ref, other;

	ck_assert_int_eq(session_unlock(s), -EPERM);
	ck_assert_int_eq(session_lock(s), 0);
	ck_assert_uint_eq(lock->owner1, s->index + 1);
	ck_assert_int_eq(session_lock(s), -EDEADLK);
	ck_assert_int_eq(change_try_begin(&fx.sessions[1]), -EBUSY);
	ck_assert_int_eq(CALL(s, object_new(s, TYPE_BYTES, 10, &ref)), 0);
	ck_assert_int_eq(CALL(s, object_new(s, TYPE_LIST, 80, &other)), 0);
	ck_assert_int_eq(list_set(s, other, 0, ref), 0);
	ck_assert_int_eq(list_set(s, other, 100, ref), -ERANGE);
	ck_assert_int_eq(change_try_begin(&fx.sessions[1]), -EBUSY);
	ck_assert_int_eq(object_decref(s, ref), 0);
	ck_assert_int_eq(object_refcount(s, ref), 1);
	ck_assert_int_eq(session_unlock(s), 0);
	ck_assert_uint_eq(lock->owner1, 0);
	ck_assert_int_eq(session_unlock(s), -EPERM);
	ck_assert_int_eq(object_refcount(&fx.sessions[1], ref), 1);
	fixture_check();
}
END_TEST

static void die_between_calls(void)
{
	struct session *s = &fx.sessions[1];
	struct object object;

	session_lock(s);
	list_set(s, list, 5, bytes);
	name_set(s, "kept", inner);
	/* and in the middle of a third */
	change_begin(s);
	object_find(fx.heap, bytes, &object);
	object_retain(s, &object);
}

START_TEST(finished_calls_are_kept)
{
	struct session *s = &fx.sessions[2];
	uint64_t ref;

	populate();
	ck_assert_int_eq(object_refcount(s, bytes), 1);
	in_killed_child(die_between_calls);
	ck_assert_int_eq(object_refcount(s, bytes), 2); /* its maker and slot 5 */
	ck_assert_uint_eq(fx.heap->control->lock.n_recoveries, 1);
	MUST(s, list_get(s, list, 5, &ref));
	ck_assert_uint_eq(ref, bytes);
	MUST(s, name_get(s, "kept", &ref));
	ck_assert_uint_eq(ref, inner);
}
END_TEST

/* Processes that all change the heap at once come one after the other. */
START_TEST(many_processes)
{
	uint64_t n_ops = fixture_ops(3000), shared = fixture_bytes(&fx.sessions[0], 8);
	pid_t pids[FIXTURE_SESSIONS];
	int status;

	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++) {
		pids[i] = fork();
		ck_assert_int_ge(pids[i], 0);
		if (pids[i])
			continue;
		for (uint64_t op = 0; op < n_ops; op++)
			if (object_incref(&fx.sessions[i], shared) < 0)
				_exit(1);
		for (uint64_t op = 0; op + 1 < n_ops; op++)
			if (object_decref(&fx.sessions[i], shared) < 0)
				_exit(2);
		_exit(0);
	}
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++) {
		ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
		ck_assert(WIFEXITED(status));
		ck_assert_int_eq(WEXITSTATUS(status), 0);
	}
	fixture_check();
	ck_assert_int_eq(object_refcount(&fx.sessions[0], shared), FIXTURE_SESSIONS + 1);
	ck_assert_uint_eq(fx.heap->control->lock.n_recoveries, 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("lock");
	TCase *t = tcase_create("lock");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_set_timeout(t, 300);
	tcase_add_loop_test(t, undo_every_length, 0, (int)(sizeof(undo_ops) / sizeof(undo_ops[0])));
	tcase_add_test(t, failed_change_is_undone);
	tcase_add_test(t, log_overflow);
	tcase_add_test(t, log_scribbled);
	tcase_add_test(t, log_random);
	tcase_add_loop_test(t, owner_killed, 0, (int)(sizeof(deaths) / sizeof(deaths[0])));
	tcase_add_test(t, owners_killed_in_a_row);
	tcase_add_test(t, owner_killed_seen_by_daemon);
	tcase_add_test(t, lock_and_unlock);
	tcase_add_test(t, finished_calls_are_kept);
	tcase_add_test(t, many_processes);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
