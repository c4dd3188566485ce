// SPDX-License-Identifier: MIT
/*
 * Sessions come and go, and the dead are reclaimed
 *
 * Row by row the table at the head of heap/repair/recover.c: a session dies with something under way, it is reclaimed
 * in bounded steps, and nothing of it is left. Each row also with another daemon for each step, which knows nothing of
 * the steps before.
 */
#include "tests/unit/heap/fixture_recover.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Admitting. */

START_TEST(admitted_until_full)
{
	struct session s;
	uint32_t index = 77;

	for (uint32_t i = FIXTURE_SESSIONS; i < fx.heap->n_sessions; i++) {
		ck_assert_int_eq(fixture_admit(fx.heap, &s), 0);
		ck_assert_uint_eq(s.index, i);
	}
	ck_assert_int_eq(session_admit(fx.heap, &(struct session_identity){.pid = 1}, &index), -EUSERS);
	ck_assert_uint_eq(index, 77);
	session_mark_dead(fx.heap, 2);
	ck_assert_int_eq(fixture_admit(fx.heap, &s), -EUSERS); /* the dead keep their place until they are reclaimed */
	while (session_reclaim_step(&fx.sessions[2]) == 1)
		;
	ck_assert_int_eq(fixture_admit(fx.heap, &s), 0);
	ck_assert_uint_eq(s.index, 2);
	fixture_check();
}
END_TEST

/* The lowest free place is taken, in whatever order they became free; also by a daemon that has adopted the heap. */
START_TEST(lowest_free_first)
{
	const uint32_t order[] = {5, 1, 3};
	struct session s;
	struct heap *heap;

	for (uint32_t i = FIXTURE_SESSIONS; i < fx.heap->n_sessions; i++)
		ck_assert_int_eq(fixture_admit(fx.heap, &s), 0);
	for (int i = 0; i < 3; i++) {
		session_init(&s, fx.heap, order[i]);
		fixture_bury(&s);
	}
	ck_assert_int_eq(fixture_admit(fx.heap, &s), 0);
	ck_assert_uint_eq(s.index, 1);
	ck_assert_int_eq(heap_adopt(&heap, dup(fx.heap->control_fd), dup(fx.heap->heap_fd)), 0);
	ck_assert_uint_eq(heap->first_free, 0);
	heap_free(heap);
	ck_assert_int_eq(fixture_admit(fx.heap, &s), 0);
	ck_assert_uint_eq(s.index, 3);
	session_init(&s, fx.heap, 0);
	fixture_bury(&s);
	ck_assert_int_eq(fixture_admit(fx.heap, &s), 0);
	ck_assert_uint_eq(s.index, 0);
	ck_assert_int_eq(fixture_admit(fx.heap, &s), 0);
	ck_assert_uint_eq(s.index, 5);
	ck_assert_int_eq(fixture_admit(fx.heap, &s), -EUSERS);
}
END_TEST

/* An admission that its client never took is over, one that it took is not, and no client takes another's. */
START_TEST(taken_or_over)
{
	const struct session_identity claim = {.pid = 1, .token = {0x1122334455667788, 9}},
				      other = {.token = {0x99aabbcc, 9}};
	struct session s;
	uint32_t index;

	ck_assert_int_eq(session_admit(fx.heap, &claim, &index), 0);
	session_init(&s, fx.heap, index);
	fx.heap->is_fenced = true;
	ck_assert(!session_take(&s, other.token)); /* a client that was stopped while its entry was given to another */
	ck_assert_uint_eq(s.entry->is_fenced, 0);
	fx.heap->is_fenced = false;
	ck_assert(session_take(&s, claim.token));
	ck_assert(!session_take(&s, claim.token));
	ck_assert(!session_withdraw(fx.heap, index));
	ck_assert(!session_is_closed(fx.heap, index));
	session_detach(&s);
	ck_assert(session_is_closed(fx.heap, index));
	ck_assert(session_withdraw(fx.heap, index));

	ck_assert_int_eq(session_admit(fx.heap, &claim, &index), 0);
	session_init(&s, fx.heap, index);
	ck_assert(!session_is_closed(fx.heap, index));
	ck_assert(session_withdraw(fx.heap, index));
	ck_assert(session_is_closed(fx.heap, index));
	ck_assert(session_withdraw(fx.heap, index));
	ck_assert(!session_take(&s, claim.token));
	session_mark_dead(fx.heap, index);
	while (session_reclaim_step(&s) == 1)
		;
	ck_assert_uint_eq(s.entry->state, SESSION_FREE);
	fixture_check();
}
END_TEST

START_TEST(identity_is_written_down)
{
	const struct session_identity claim = {.pid = 4711,
		.start_time = 12345678901,
		.uid = 1000,
		.gid = 100,
		.token = {3, 4},
		.program = "a program with a name that is longer than there is room for"};
	const struct session_entry *entry;
	uint32_t index;

	ck_assert_int_eq(session_admit(fx.heap, &claim, &index), 0);
	entry = &fx.heap->sessions[index];
	ck_assert_uint_eq(entry->state, SESSION_ACTIVE);
	ck_assert_int_eq(entry->pid, 4711);
	ck_assert_uint_eq(entry->start_time, 12345678901);
	ck_assert_uint_eq(entry->uid, 1000);
	ck_assert_uint_eq(entry->gid, 100);
	ck_assert_uint_eq(entry->token[0] | entry->token[1], 0); /* the daemon's alone */
	ck_assert_uint_eq(fx.heap->truth->sessions[index].token[1], 4);
	ck_assert_int_eq(fx.heap->truth->sessions[index].pid, 4711);
	ck_assert_uint_eq(fx.heap->truth->sessions[index].start_time, 12345678901);
	ck_assert_uint_eq(strnlen(entry->program, sizeof(entry->program)), sizeof(entry->program) - 1);
	ck_assert_int_eq(strncmp(entry->program, claim.program, sizeof(entry->program) - 1), 0);
	ck_assert_int_eq(session_admit(fx.heap, &(struct session_identity){.program = NULL}, &index), 0);
	ck_assert_str_eq(fx.heap->sessions[index].program, "");
}
END_TEST

/* A daemon died while it filled the entry, or the entry is damaged: nothing of it is kept. */
START_TEST(admitted_anew)
{
	struct session_entry *entry = &fx.heap->sessions[FIXTURE_SESSIONS];
	struct session s;

	memset(entry, 0xee, sizeof(*entry));
	entry->state = SESSION_FREE;
	fixture_check();
	ck_assert_int_eq(fixture_admit(fx.heap, &s), 0);
	ck_assert_uint_eq(s.index, FIXTURE_SESSIONS);
	ck_assert_uint_eq(entry->activity + entry->requests + entry->owned_pools1 + entry->remote_pools1, 0);
	ck_assert(session_is_empty(&s));
	fixture_drop(&s, fixture_bytes(&s, 10));
	fixture_check();
}
END_TEST

/* The rows. */

START_TEST(reclaimed_in_bounded_steps)
{
	uint64_t n_before, n_steps = 0;
	int r;

	prepare(_i);
	do {
		n_before = fixture_blocks_used();
		r = session_reclaim_step(DEAD);
		ck_assert_int_ge(r, 0);
		ck_assert_uint_le(n_before, fixture_blocks_used() + class_pool_blocks(0));
		ck_assert_uint_lt(++n_steps, 100000);
		fixture_check();
	} while (r == 1);
	ck_assert_int_eq(session_reclaim_step(DEAD), 0); /* and it stays so */
	expect_cleared();
}
END_TEST

/* Another daemon makes each step: all that it needs to know is in the heap. */
START_TEST(reclaimed_by_many_daemons)
{
	int r;

	prepare(_i);
	do {
		session_init(DEAD, fx.heap, DEAD->index);
		r = session_reclaim_step(DEAD);
		ck_assert_int_ge(r, 0);
	} while (r == 1);
	expect_cleared();
}
END_TEST

/* The daemon is killed in each of its steps, and the next daemon makes that step again. */
START_TEST(reclaimed_by_dying_daemons)
{
	struct object_header *header;
	pid_t pid;
	int r;

	prepare(_i);
	header = ref_header(kept);
	do {
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (!pid) {
			/* The lock and some stores of a step, but never its end. */
			if (!change_try_begin(DEAD)) {
				heap_set(fx.heap, &header->rights, header->rights - RIGHTS_ONE);
				heap_set(fx.heap, &DEAD->entry->n_holds, 0);
				heap_set(fx.heap, &DEAD->entry->dying1, 12345);
				heap_set(fx.heap, &DEAD->entry->owned_pools1, 0);
			}
			kill(getpid(), SIGKILL);
		}
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		session_init(DEAD, fx.heap, DEAD->index);
		for (int i = 0; i < 7 && (r = session_reclaim_step(DEAD)) == 1; i++)
			;
		ck_assert_int_ge(r, 0);
	} while (r == 1);
	expect_cleared();
}
END_TEST

/* Another session has the lock: the step returns -EBUSY at once. */
START_TEST(waits_for_nobody)
{
	int r;

	prepare(_i);
	ck_assert_int_eq(lock_recover(S0), 0); /* of rows that died with the lock */
	ck_assert_int_eq(session_lock(S0), 0);
	ck_assert_int_eq(session_reclaim_step(DEAD), -EBUSY);
	ck_assert_int_eq(session_unlock(S0), 0);
	while ((r = session_reclaim_step(DEAD)) == 1) {
		ck_assert_int_eq(session_lock(S0), 0);
		ck_assert_int_eq(session_reclaim_step(DEAD), -EBUSY);
		ck_assert_int_eq(session_unlock(S0), 0);
	}
	ck_assert_int_eq(r, 0);
	expect_cleared();
}
END_TEST

START_TEST(the_living_are_left_alone)
{
	uint64_t ref = fixture_bytes(S0, 10);

	ck_assert_int_eq(session_reclaim_step(S0), 0);
	ck_assert_uint_eq(S0->entry->state, SESSION_ACTIVE);
	ck_assert_int_eq(object_refcount(S0, ref), 1);
	for (uint32_t i = FIXTURE_SESSIONS; i < fx.heap->n_sessions; i++) {
		struct session s;

		session_init(&s, fx.heap, i);
		ck_assert_int_eq(session_reclaim_step(&s), 0);
		ck_assert_uint_eq(s.entry->state, SESSION_FREE);
	}
}
END_TEST

/* A session that closes drops what it has in the same steps, waiting for the lock; then its entry can be used again. */
START_TEST(session_drops_its_own)
{
	int r;

	kept = fixture_bytes(S0, 40);
	MUST(DEAD, object_incref(DEAD, kept));
	row_tree(0);
	row_many_holds(0);
	row_pools(0);
	row_pools_lent(0);
	ck_assert(!session_is_empty(DEAD));
	while ((r = session_drop_step(DEAD, false)) == 1)
		;
	ck_assert_int_eq(r, 0);
	ck_assert(session_is_empty(DEAD));
	fixture_check();
	ck_assert_uint_eq(DEAD->entry->state, SESSION_ACTIVE);
	ck_assert_uint_eq(DEAD->entry->n_holds + DEAD->entry->n_own_holds, 0);
	session_detach(DEAD);
	ck_assert(session_withdraw(fx.heap, DEAD->index));
	session_mark_dead(fx.heap, DEAD->index);
	ck_assert_int_eq(session_reclaim_step(DEAD), 0);
	expect_lent();
	ck_assert_uint_eq(fixture_blocks_used(), 1);
	/* and another one may go on */
	ck_assert_int_eq(fixture_admit(fx.heap, DEAD), 0);
	ck_assert_uint_eq(DEAD->index, 1);
	MUST(DEAD, object_incref(DEAD, kept));
	fixture_drop(DEAD, kept);
	row_pools(0);
}
END_TEST

/* A hold table with rubbish in it: what is no hold is ignored, and what others hold is left alone. */
START_TEST(damaged_table)
{
	struct hold *holds = DEAD->entry->holds_inline;
	uint64_t gone = fixture_bytes(S0, 10);
	int r;

	kept = fixture_bytes(S0, 40);
	fixture_drop(S0, gone);
	for (uint32_t i = 0; i < 20; i++) {
		uint64_t ref = fixture_bytes(S0, 8);

		MUST(DEAD, object_incref(DEAD, ref));
		fixture_drop(S0, ref);
	}
	for (uint32_t i = 0; i < HOLDS_INLINE; i++)
		if (!holds[i].ref)
			holds[i] = (struct hold){.ref = i % 2 ? gone : UINT64_C(0x123456789abcdef) * i, .count = i % 3};
	session_mark_dead(fx.heap, DEAD->index);
	for (uint32_t n = 0; (r = session_reclaim_step(DEAD)) == 1; n++)
		ck_assert_uint_lt(n, 1000);
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(object_refcount(S0, kept), 1);
	fixture_check();
}
END_TEST

/* Rubbish in what only the dead session stored: reclaiming reads none of it, since the headers are enough. */
START_TEST(damaged_lists)
{
	struct session_entry *entry = DEAD->entry;
	int r;

	kept = fixture_bytes(S0, 40);
	row_pools(0);
	row_pools_lent(0);
	row_pools_remote_frees(0);
	for (uint32_t p1 = entry->owned_pools1; p1; p1 = fx.heap->pools[p1 - 1].owned_next1) {
		struct pool_entry *pool = &fx.heap->pools[p1 - 1];

		pool->next1 = p1 * 77;
		pool->prev1 = p1;
		pool->n_used = (uint16_t)(3 * p1);
		pool->n_carved = (uint16_t)(_i ? 0 : 60000);
		pool->freeblock1 = (uint16_t)(5 * p1);
		if (pool->kind != POOL_BLOCKS)
			continue;
		for (uint32_t i = 0; i < class_shapes[pool->size_class].n_blocks; i++) {
			struct object_header *header = pool_headers(fx.heap, pool) + i;

			if (header->word && header_state(header->word) == STATE_FREE)
				header->word = header_free(header->word, _i ? i + 1 : 12345678);
		}
	}
	memset(entry->usedpools1, _i ? 0xff : 0x11, sizeof(entry->usedpools1));
	memset(entry->spare_runs1, _i ? 0x11 : 0xff, sizeof(entry->spare_runs1));
	entry->n_own_holds = 99;
	critical_stay(DEAD);
	session_mark_dead(fx.heap, DEAD->index);
	while ((r = session_reclaim_step(DEAD)) == 1)
		fixture_check();
	ck_assert_int_eq(r, 0);
	expect_cleared();
}
END_TEST

/*
 * A header that a stray write has damaged costs its object at most: the rest is reclaimed, and what others hold stays.
 */
START_TEST(damaged_sizes)
{
	uint64_t block = fixture_bytes(DEAD, 40), list = fixture_list(DEAD, 3),
		 run = fixture_bytes(DEAD, 3 * POOL_SIZE), shared = fixture_bytes(DEAD, 100),
		 child = fixture_bytes(DEAD, 40);
	const uint64_t damaged[] = {block, list, shared};
	int r;

	ck_assert_int_eq(list_set(DEAD, list, 0, child), 0);
	ck_assert_int_eq(object_decref(DEAD, child), 0);
	ck_assert_int_eq(CALL(S0, object_incref(S0, shared)), 0);
	ck_assert_int_eq(CALL(DEAD, object_incref(DEAD, kept = fixture_bytes(S0, 40))), 0);
	for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++)
		ref_header(damaged[i])->word |= UINT64_C(0x3ff) << 10;
	ref_pool(run)->run_size = UINT64_MAX;
	session_mark_dead(fx.heap, DEAD->index);
	while ((r = session_reclaim_step(DEAD)) == 1)
		;
	ck_assert_int_eq(r, 0);
	ck_assert_uint_eq(DEAD->entry->state, SESSION_FREE);
	fixture_check();
	ck_assert(object_is_held(S0, shared));
	ck_assert_int_eq(object_refcount(S0, shared), 1);
	ck_assert_int_eq(object_refcount(S0, kept), 1);
	fixture_drop(S0, shared);
	fixture_drop(S0, kept);
	ck_assert_uint_eq(fixture_blocks_used(), 0);
}
END_TEST

/* Killed at work. */

static uint64_t shared_list, shared_queue;
static uint64_t *latest; /* the ref that the other process made last: no call gives it to the test */

/* The object contains its own ref. */
static void publish(uint64_t ref)
{
	memcpy(ref_data(ref), &ref, sizeof(ref));
	__atomic_store_n(latest, ref, __ATOMIC_RELEASE);
}

/* An object that is held by its number alone does not change for as long as it is held. */
static void expect_published(uint64_t ref)
{
	struct object object;

	ck_assert_int_eq(object_lookup(S0, ref, &object), 0);
	ck_assert_int_eq(memcmp(object.data, &ref, sizeof(ref)), 0);
}

/* Change all that can be changed, until killed; mostly without the lock where `alone`. */
static void work_until_killed(struct session *s, bool alone)
{
	uint64_t ref, got, own[30] = {0};

	for (uint64_t i = 0;; i++) {
		uint64_t *place = &own[i * 7 % 30];

		if (*place)
			object_decref(s, *place);
		*place = 0;
		if (!object_new(s, TYPE_BYTES, i % 11 ? 400 + i % 100 : i % 3 * POOL_SIZE, place)) {
			publish(*place);
			object_incref(s, *place);
			object_decref(s, *place);
		}
		for (uint32_t k = 0; k < i % 8 && !object_new(s, TYPE_BYTES, 40, &ref); k++) {
			publish(ref);
			object_decref(s, ref);
		}
		if (alone && i % 128)
			continue;
		if (!object_new(s, i % 7 ? TYPE_BYTES : TYPE_LIST, 8 * (i % 50), &ref)) {
			list_set(s, shared_list, i % 64, ref);
			name_set(s, i % 5 ? "one" : "another", ref);
			object_incref(s, ref);
			if (queue_push(s, shared_queue, ref, 0))
				object_decref(s, ref);
			object_decref(s, ref);
		}
		if (i % 3 && !queue_pop(s, shared_queue, &got, 0))
			object_decref(s, got);
		if (!list_get(s, shared_list, i % 64, &got) && got && i % 2)
			object_decref(s, got);
		if (i % 40 == 39)
			object_incref(s, kept);
	}
}

/* Meanwhile the test holds what it finds, also by its number alone, and so makes remote frees. */
static void take_and_return(struct session *s, uint32_t usec)
{
	struct timespec now, end;
	uint64_t got, found[16] = {0};
	bool is_published[16];

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += usec * 1000L;
	for (uint32_t i = 0;; i++) {
		uint64_t *place = &found[i % 16];

		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - end.tv_sec > 0 || (now.tv_sec == end.tv_sec && now.tv_nsec >= end.tv_nsec))
			break;
		if (*place && is_published[i % 16])
			expect_published(*place);
		if (*place)
			ck_assert_int_eq(object_decref(s, *place), 0);
		*place = 0;
		is_published[i % 16] = i % 2;
		if (i % 2) {
			got = __atomic_load_n(latest, __ATOMIC_ACQUIRE);
			if (got && object_incref(s, got) == 0)
				expect_published(*place = got);
		} else if (list_get(s, shared_list, i % 64, &got) == 0) {
			*place = got;
		}
		if (i % 5 == 0)
			list_set(s, shared_list, (i + 7) % 64, 0);
		if (i % 50 == 0)
			own_trim(&fx.daemon, DEAD->index);
	}
	for (uint32_t i = 0; i < 16; i++)
		if (found[i])
			ck_assert_int_eq(object_decref(s, found[i]), 0);
}

START_TEST(killed_at_any_time)
{
	uint64_t n_rounds = fixture_ops(300), n_inside = 0;
	int64_t r;

	fixture_seed();
	latest = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(latest, MAP_FAILED);
	kept = fixture_bytes(S0, 40);
	shared_list = fixture_list(S0, 64);
	MUST(S0, queue_new(S0, 4, &shared_queue));
	fixture_bytes(S0, 8);
	MUST(S0, name_set(S0, "one", kept)); /* so that there is an arena of records */
	for (uint64_t round = 0; round < n_rounds; round++) {
		pid_t pid = fork();

		ck_assert_int_ge(pid, 0);
		if (!pid)
			work_until_killed(DEAD, round % 4 > 1);
		if (round % 2)
			take_and_return(S0, fixture_below(2000));
		else
			nanosleep(&(struct timespec){.tv_nsec = fixture_below(2000000)}, NULL);
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		n_inside += DEAD->entry->activity == ACTIVITY_ACTIVE;
		session_mark_dead(fx.heap, DEAD->index);
		while ((r = session_reclaim_step(DEAD)) == 1)
			;
		ck_assert_int_eq(r, 0);
		fixture_check();
		ck_assert_int_ge(object_refcount(S0, kept), 1);
		ck_assert_int_eq(fixture_admit(fx.heap, DEAD), 0);
	}
	ck_assert_int_eq(object_refcount(S0, shared_list), 1);
	fprintf(stderr, "%ju recoveries of the lock, %ju inside a call without it, in %ju kills\n",
		(uintmax_t)fx.heap->control->lock.n_recoveries, (uintmax_t)n_inside, (uintmax_t)n_rounds);
	munmap(latest, 4096);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("recover");
	TCase *t = tcase_create("recover");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, admitted_until_full);
	tcase_add_test(t, lowest_free_first);
	tcase_add_test(t, identity_is_written_down);
	tcase_add_test(t, taken_or_over);
	tcase_add_test(t, admitted_anew);
	tcase_add_loop_test(t, reclaimed_in_bounded_steps, 0, n_rows());
	tcase_add_loop_test(t, reclaimed_by_many_daemons, 0, n_rows());
	tcase_add_loop_test(t, reclaimed_by_dying_daemons, 0, n_rows());
	tcase_add_loop_test(t, waits_for_nobody, 0, n_rows());
	tcase_add_test(t, the_living_are_left_alone);
	tcase_add_test(t, session_drops_its_own);
	tcase_add_test(t, damaged_table);
	tcase_add_loop_test(t, damaged_lists, 0, 2);
	tcase_add_test(t, damaged_sizes);
	tcase_add_test(t, killed_at_any_time);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
