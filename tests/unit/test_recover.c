/* SPDX-License-Identifier: MIT */
/*
 * Sessions come and go, and what the dead leave is cleared up
 *
 * Row by row the table at the head of heap/recover.c: a session dies with something under way, it is cleared up in
 * bounded steps, and nothing of it is left. Each row also with a daemon that forgets between any two steps what it did,
 * as one that is restarted does.
 */
#include "tests/unit/fixture.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define S0   (&fx.sessions[0])
#define DEAD (&fx.sessions[1])

/* ---- admitting --------------------------------------------------------------------------------------------------- */

START_TEST(admitted_until_full)
{
	struct session s;
	uint32_t index = 77;

	for (uint32_t i = FIXTURE_SESSIONS; i < fx.heap->n_sessions; i++) {
		ck_assert_int_eq(fixture_admit(fx.heap, &s), 0);
		ck_assert_uint_eq(s.index, i);
	}
	ck_assert_int_eq(session_admit(fx.heap, &(struct session_claim){.pid = 1}, &index), -EUSERS);
	ck_assert_uint_eq(index, 77);
	session_mark_dead(fx.heap, 2);
	ck_assert_int_eq(fixture_admit(fx.heap, &s), -EUSERS); /* the dead keep their place until they are cleared up */
	while (session_reclaim_step(&fx.sessions[2]) == 1)
		;
	ck_assert_int_eq(fixture_admit(fx.heap, &s), 0);
	ck_assert_uint_eq(s.index, 2);
	fixture_check();
}
END_TEST

/* An admission that its client never got to know of is over; one that it took is not; nobody takes another's. */
START_TEST(taken_or_over)
{
	const struct session_claim claim = {.pid = 1, .token = {0x1122334455667788, 9}},
				   other = {.token = {0x99aabbcc, 9}};
	struct session s;
	uint32_t index;

	ck_assert_int_eq(session_admit(fx.heap, &claim, &index), 0);
	session_init(&s, fx.heap, index);
	ck_assert(!session_take(&s, other.token)); /* a client that was stopped while its place was given to another */
	ck_assert(session_take(&s, claim.token));
	ck_assert(!session_take(&s, claim.token));
	ck_assert(!session_is_over(fx.heap, index));
	session_leave(&s);
	ck_assert(session_is_over(fx.heap, index));

	ck_assert_int_eq(session_admit(fx.heap, &claim, &index), 0);
	session_init(&s, fx.heap, index);
	ck_assert(session_is_over(fx.heap, index));
	ck_assert(session_is_over(fx.heap, index));
	ck_assert(!session_take(&s, claim.token));
	session_mark_dead(fx.heap, index);
	while (session_reclaim_step(&s) == 1)
		;
	ck_assert_uint_eq(s.entry->state, SESSION_FREE);
	fixture_check();
}
END_TEST

START_TEST(claim_is_written_down)
{
	const struct session_claim claim = {.pid = 4711,
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
	ck_assert_uint_eq(entry->token[1], 4);
	ck_assert_uint_eq(strnlen(entry->program, sizeof(entry->program)), sizeof(entry->program) - 1);
	ck_assert_int_eq(strncmp(entry->program, claim.program, sizeof(entry->program) - 1), 0);
	ck_assert_int_eq(session_admit(fx.heap, &(struct session_claim){.program = NULL}, &index), 0);
	ck_assert_str_eq(fx.heap->sessions[index].program, "");
}
END_TEST

/* ---- the rows ---------------------------------------------------------------------------------------------------- */

static uint64_t kept; /* held by a living session and by the dead one */

static void row_nothing(void)
{
}

static void row_few_holds(void)
{
	fixture_bytes(DEAD, 10);
	fixture_bytes(DEAD, 5000);
	fixture_bytes(DEAD, 2 * ARENA_SIZE_DEFAULT);
	fixture_bytes(DEAD, 600);
}

static void row_many_holds(void)
{
	uint64_t ref;

	for (int i = 0; i < 3000; i++)
		ck_assert_int_eq(CALL(DEAD, object_new(DEAD, TYPE_BYTES, 8, &ref)), 0);
}

static void row_held_often(void)
{
	uint64_t ref = fixture_bytes(DEAD, 10);

	for (int i = 0; i < 100; i++) {
		MUST(DEAD, object_incref(DEAD, ref));
		MUST(DEAD, object_incref(DEAD, kept));
	}
}

/* A list of lists, wide and deep, whose last right the dead has. */
static void row_tree(void)
{
	uint64_t tree = fixture_list(DEAD, 300), inner = 0, outer, leaf;

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

static void row_wide_list(void)
{
	uint64_t list = fixture_list(DEAD, 2000), leaf;

	for (uint64_t i = 0; i < 2000; i++) {
		ck_assert_int_eq(CALL(DEAD, object_new(DEAD, TYPE_BYTES, 8, &leaf)), 0);
		ck_assert_int_eq(list_set(DEAD, list, i, leaf), 0);
		ck_assert_int_eq(object_decref(DEAD, leaf), 0);
	}
}

/* It died between the change that dropped a list and those that take it down. */
static void drop_and_die(uint64_t list)
{
	struct object object;

	ck_assert_int_eq(change_begin(DEAD), 0);
	ck_assert_int_eq(object_find(fx.heap, list, &object), 0);
	ck_assert(hold_remove(DEAD, hold_find(DEAD, list)));
	ck_assert_int_eq(change_end(DEAD, object_drop(DEAD, &object)), 0);
	fixture_check();
}

static void row_dying(void)
{
	uint64_t tree = fixture_list(DEAD, 500), leaf;

	for (uint64_t i = 0; i < 500; i++) {
		ck_assert_int_eq(CALL(DEAD, object_new(DEAD, TYPE_LIST, 8, &leaf)), 0);
		ck_assert_int_eq(list_set(DEAD, tree, i, leaf), 0);
		ck_assert_int_eq(list_set(DEAD, leaf, 0, kept), 0);
		ck_assert_int_eq(object_decref(DEAD, leaf), 0);
	}
	drop_and_die(tree);
}

static void row_dying_half_done(void)
{
	row_dying();
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(dying_step(DEAD, false), 1);
	fixture_check();
}

/* A run with slots that was not held yet: its slots are full of rubbish. */
static void row_making(void)
{
	uint64_t ref;
	int r;

	do {
		ck_assert_int_eq(change_begin(DEAD), 0);
		r = memory_take(DEAD, SPACE_OBJECTS, 5 * POOL_SIZE, 0, TYPE_LIST, STATE_MAKING, 0, &ref);
		if (!r)
			heap_set(fx.heap, &DEAD->entry->making1, ref_position(ref) + 1);
		r = change_end(DEAD, r);
		ck_assert(!r || (r == HEAP_WANTS_ARENAS && !fixture_grant(DEAD)));
	} while (r);
	for (uint64_t i = 0; i < 5 * POOL_SIZE; i += 8)
		memcpy(ref_data(ref) + i, &kept, 8);
	fixture_check();
}

static void row_new_hold_table(void)
{
	uint64_t ref;
	int r;

	for (int i = 0; i < 100; i++)
		fixture_bytes(DEAD, 8);
	do {
		ck_assert_int_eq(change_begin(DEAD), 0);
		r = memory_take(DEAD, SPACE_RECORDS, 8192, 4096, TYPE_HOLDS, STATE_LIVE, 1, &ref);
		if (!r)
			heap_set(fx.heap, &DEAD->entry->new_holds_position1, ref_position(ref) + 1);
		r = change_end(DEAD, r);
		ck_assert(!r || (r == HEAP_WANTS_ARENAS && !fixture_grant(DEAD)));
	} while (r);
	memset(ref_data(ref), 0x99, 8192); /* half filled, with whatever */
	fixture_check();
}

/* What it pushed is the queue's; the queue itself it held alone. */
static void row_queue(void)
{
	uint64_t queue, ref;

	MUST(DEAD, queue_new(DEAD, 200, &queue));
	for (int i = 0; i < 150; i++) {
		ref = fixture_bytes(DEAD, 8);
		MUST(DEAD, queue_push(DEAD, queue, ref, 0));
	}
	MUST(DEAD, object_incref(DEAD, kept));
	MUST(DEAD, queue_push(DEAD, queue, kept, 0));
}

/* It died with the lock, in the middle of a change. */
static void row_lock(void)
{
	pid_t pid;
	int status;

	row_few_holds();
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

static void row_session_lock(void)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (!pid) {
		session_lock(DEAD);
		object_incref(DEAD, kept);
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

static const struct {
	const char *name;
	void (*prepare)(void);
} rows[] = {
	{"nothing", row_nothing},
	{"few holds", row_few_holds},
	{"many holds", row_many_holds},
	{"held often", row_held_often},
	{"a tree", row_tree},
	{"a wide list", row_wide_list},
	{"dying", row_dying},
	{"dying, half done", row_dying_half_done},
	{"making", row_making},
	{"a new hold table", row_new_hold_table},
	{"a queue", row_queue},
	{"the lock, in a change", row_lock},
	{"the lock, between changes", row_session_lock},
};

enum { N_ROWS = sizeof(rows) / sizeof(rows[0]) };

static void prepare(int row)
{
	kept = fixture_bytes(S0, 40);
	MUST(DEAD, object_incref(DEAD, kept));
	rows[row].prepare();
	session_mark_dead(fx.heap, DEAD->index);
}

static uint64_t n_blocks_used(void)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < N_CLASSES; i++)
		n += fx.heap->control->counters.classes[i].n_used;
	return n;
}

static void expect_cleared(void)
{
	ck_assert_uint_eq(DEAD->entry->state, SESSION_FREE);
	fixture_check();
	ck_assert_int_eq(object_refcount(S0, kept), 1);
	ck_assert_uint_eq(n_blocks_used(), 1);
	ck_assert_uint_eq(fx.heap->control->counters.n_record_pools, 0);
	fixture_drop(S0, kept);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}

START_TEST(cleared_up_in_bounded_steps)
{
	uint64_t n_before, n_steps = 0;
	int r;

	prepare(_i);
	do {
		n_before = n_blocks_used();
		r = session_reclaim_step(DEAD);
		ck_assert_int_ge(r, 0);
		ck_assert_uint_le(n_before - n_blocks_used(), 150);
		ck_assert_uint_lt(++n_steps, 100000);
		fixture_check();
	} while (r == 1);
	ck_assert_int_eq(session_reclaim_step(DEAD), 0); /* and it stays so */
	expect_cleared();
}
END_TEST

/* The daemon is another one for each step: all that it knows is in the heap. */
START_TEST(cleared_up_by_many_daemons)
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

/* The daemon is killed in the middle of each of its steps, again and again; the next one does that step once more. */
START_TEST(cleared_up_by_dying_daemons)
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
				heap_set(fx.heap, &header->word, header->word - 1);
				heap_set(fx.heap, &DEAD->entry->n_holds, 0);
				heap_set(fx.heap, &DEAD->entry->dying1, 12345);
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

/* Somebody has the lock: nothing is done and nobody waits. */
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

/* A session that ends by itself drops what it has in the same way, waiting for the lock. */
START_TEST(session_drops_its_own)
{
	int r;

	kept = fixture_bytes(S0, 40);
	MUST(DEAD, object_incref(DEAD, kept));
	row_tree();
	row_many_holds();
	while ((r = session_drop_step(DEAD, false)) == 1)
		;
	ck_assert_int_eq(r, 0);
	fixture_check();
	ck_assert_uint_eq(DEAD->entry->state, SESSION_ACTIVE);
	ck_assert_uint_eq(DEAD->entry->n_holds, 0);
	ck_assert_uint_eq(n_blocks_used(), 1);
	/* and may go on */
	MUST(DEAD, object_incref(DEAD, kept));
	fixture_drop(DEAD, kept);
}
END_TEST

/* A hold table with rubbish in it: what is no hold is passed over, and what others hold is left alone. */
START_TEST(damaged_table)
{
	struct hold *holds = DEAD->entry->holds_inline;
	uint64_t gone = fixture_bytes(S0, 10);
	int r;

	kept = fixture_bytes(S0, 40);
	fixture_drop(S0, gone);
	for (uint32_t i = 0; i < 20; i++)
		fixture_bytes(DEAD, 8);
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

/* ---- for real ---------------------------------------------------------------------------------------------------- */

static uint64_t shared_list, shared_queue;

/* Change whatever can be changed for ever, until somebody comes and kills. */
static void work_until_killed(struct session *s)
{
	uint64_t ref, got;

	for (uint64_t i = 0;; i++) {
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

START_TEST(killed_at_any_time)
{
	uint64_t n_rounds = fixture_ops(300);
	int64_t r;

	fixture_seed();
	kept = fixture_bytes(S0, 40);
	shared_list = fixture_list(S0, 64);
	MUST(S0, queue_new(S0, 4, &shared_queue));
	fixture_bytes(S0, 8);
	MUST(S0, name_set(S0, "one", kept)); /* so that there is an arena of records */
	for (uint64_t round = 0; round < n_rounds; round++) {
		pid_t pid = fork();

		ck_assert_int_ge(pid, 0);
		if (!pid)
			work_until_killed(DEAD);
		nanosleep(&(struct timespec){.tv_nsec = fixture_below(2000000)}, NULL);
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		session_mark_dead(fx.heap, DEAD->index);
		while ((r = session_reclaim_step(DEAD)) == 1)
			;
		ck_assert_int_eq(r, 0);
		fixture_check();
		ck_assert_int_ge(object_refcount(S0, kept), 1);
		ck_assert_int_eq(fixture_admit(fx.heap, DEAD), 0);
	}
	ck_assert_int_eq(object_refcount(S0, shared_list), 1);
	fprintf(stderr, "%ju recoveries of the lock in %ju kills\n", (uintmax_t)fx.heap->control->lock.n_recoveries,
		(uintmax_t)n_rounds);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("recover");
	TCase *t = tcase_create("recover");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_set_timeout(t, 300);
	tcase_add_test(t, admitted_until_full);
	tcase_add_test(t, claim_is_written_down);
	tcase_add_test(t, taken_or_over);
	tcase_add_loop_test(t, cleared_up_in_bounded_steps, 0, N_ROWS);
	tcase_add_loop_test(t, cleared_up_by_many_daemons, 0, N_ROWS);
	tcase_add_loop_test(t, cleared_up_by_dying_daemons, 0, N_ROWS);
	tcase_add_loop_test(t, waits_for_nobody, 0, N_ROWS);
	tcase_add_test(t, the_living_are_left_alone);
	tcase_add_test(t, session_drops_its_own);
	tcase_add_test(t, damaged_table);
	tcase_add_test(t, killed_at_any_time);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
