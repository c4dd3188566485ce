// SPDX-License-Identifier: MIT
/*
 * Intents of the dead: what a dead session had begun to do to a queue, or to an object that it was about to hold or to
 * drop
 *
 * A session dies in the middle of a push or a pop, or of holding or dropping without the lock, at each point that makes
 * a difference. Since then others have gone on with the cell or the object, or not. A check before it is reclaimed
 * leaves alone what is in flight; afterwards each right is in one place, and nothing is lost when all is dropped. Kills
 * at each instruction: tests/crash.
 */
#include "heap/shared/critical.h"
#include "tests/unit/heap/fixture.h"

#define DEAD (&fx.sessions[1])

static uint64_t queue, ref, other;
static uint64_t kept; /* S0's, and nobody else's in the end; or 0 */

static struct session_entry *dead_entry(void)
{
	return DEAD->entry;
}

/* It was killed before it cleared its intent; all else has not changed since. */
static void bring_back(enum intent_kind kind)
{
	uint64_t *word = &dead_entry()->intent.word;

	ck_assert_uint_eq(intent_kind(*word), INTENT_NONE);
	*word = intent_word(intent_number(*word), kind);
}

static void make_own(void)
{
	ref = fixture_bytes(DEAD, 24);
}

/* Of S0's, held by the table. */
static void make_held(void)
{
	ref = fixture_bytes(S0, 24);
	MUST(DEAD, object_incref(DEAD, ref));
	fixture_drop(S0, ref);
}

static void push_own(void)
{
	make_own();
	MUST(DEAD, queue_push(DEAD, queue, ref, 0));
	bring_back(INTENT_PUSH_OWN);
}

static void push_held(void)
{
	make_held();
	MUST(DEAD, queue_push(DEAD, queue, ref, 0));
	bring_back(INTENT_PUSH);
}

/* Held twice: the queue's right was one of its own before. */
static void push_right(void)
{
	make_held();
	MUST(DEAD, object_incref(DEAD, ref));
	MUST(DEAD, queue_push(DEAD, queue, ref, 0));
	bring_back(INTENT_PUSH_RIGHT);
}

static void others_pop(void)
{
	uint64_t got;

	MUST(S2, queue_pop(S2, queue, &got, 0));
	ck_assert_uint_eq(got, ref);
	fixture_drop(S2, got);
}

/* Of a queue of one cell: no other cell shows what was there before. */
static void others_push(void)
{
	other = fixture_bytes(S2, 24);
	MUST(S2, queue_push(S2, queue, other, 0));
}

static void others_pop_and_push(void)
{
	others_pop();
	others_push();
}

/* Before the compare-and-swap, with the right on its way. */
static void intend(enum intent_kind kind, uint64_t before)
{
	const struct queue *q = (const struct queue *)(const void *)ref_data(queue);
	struct session_entry *entry = dead_entry();

	entry->intent = (struct intent){.ref = ref,
		.queue = queue,
		.position = q->tail,
		.word = intent_word(intent_number(entry->intent.word) + 1, kind)};
	entry->intent_before = before;
}

static void push_own_begun(void)
{
	make_own();
	intend(INTENT_PUSH_OWN, INTENT_UNKNOWN);
}

/* What it gave away by an earlier push stays given. */
static void push_own_begun_again(void)
{
	make_own();
	MUST(DEAD, object_incref(DEAD, ref));
	MUST(DEAD, queue_push(DEAD, queue, ref, 0));
	intend(INTENT_PUSH_OWN, INTENT_UNKNOWN);
}

static void push_own_given(void)
{
	make_own();
	intend(INTENT_PUSH_OWN, 0);
	ref_header(ref)->rights_given = 1;
}

static void push_own_let_go(void)
{
	push_own_given();
	ref_header(ref)->word--;
	critical_stay(DEAD); /* so its own numbers are not compared */
}

static void push_held_begun(void)
{
	make_held();
	intend(INTENT_PUSH, INTENT_UNKNOWN);
}

/* n_holds is stored after the entry, and was not yet. */
static void push_held_taken(void)
{
	make_held();
	intend(INTENT_PUSH, dead_entry()->n_holds);
	hold_find(DEAD, ref)->ref = HOLD_EMPTY;
}

static void fill(void)
{
	ref = fixture_bytes(S0, 24);
	MUST(S0, queue_push(S0, queue, ref, 0));
}

static void pop_put(void)
{
	uint64_t got;

	fill();
	MUST(DEAD, queue_pop(DEAD, queue, &got, 0));
	bring_back(INTENT_POP);
}

static void pop_not_put(void)
{
	pop_put();
	hold_find(DEAD, ref)->ref = HOLD_EMPTY;
	dead_entry()->n_holds--;
}

static void pop_not_counted(void)
{
	pop_put();
	dead_entry()->n_holds--;
}

static void pop_begun(void)
{
	const struct queue *q = (const struct queue *)(const void *)ref_data(queue);

	fill();
	intend(INTENT_POP, INTENT_UNKNOWN);
	dead_entry()->intent.position = q->head;
}

/* It holds the object already; the change that drops the surplus right was undone. */
static void pop_right(void)
{
	struct object object;
	uint64_t got;

	fill();
	MUST(DEAD, object_incref(DEAD, ref));
	MUST(DEAD, queue_pop(DEAD, queue, &got, 0));
	ck_assert_uint_eq(hold_find(DEAD, ref)->count, 2);
	bring_back(INTENT_POP_RIGHT);
	ck_assert_int_eq(change_begin(DEAD), 0);
	ck_assert_int_eq(object_find(fx.heap, ref, &object), 0);
	ck_assert_int_eq(right_retain(DEAD, &object), 0);
	heap_set(fx.heap, &hold_find(DEAD, ref)->count, 1);
	heap_set(fx.heap, &dead_entry()->done, 0);
	ck_assert_int_eq(change_end(DEAD, 0), 0);
}

static void right(void)
{
	struct object object;

	make_own();
	ck_assert_int_eq(change_begin(DEAD), 0);
	ck_assert_int_eq(object_find(fx.heap, ref, &object), 0);
	ck_assert_int_eq(right_retain(DEAD, &object), 0);
	ck_assert_int_eq(change_end(DEAD, 0), 0);
	intend(INTENT_RIGHT, 0);
}

static void others_take_what_there_is(void)
{
	uint64_t got;

	MUST(S2, queue_pop(S2, queue, &got, 0));
	fixture_drop(S2, got);
}

static void others_take_and_push(void)
{
	others_take_what_there_is();
	others_push();
}

static void others_push_and_take(void)
{
	others_push();
	others_take_what_there_is();
}

static void others_push_and_take_and_push(void)
{
	others_push_and_take();
	others_push();
}

/* Holding and dropping. */

/* S0's, which others know, and biased to nobody. */
static void make_shared(void)
{
	ref = fixture_bytes(S0, 24);
	MUST(S0, name_set(S0, "shared", ref));
	MUST(S0, name_del(S0, "shared"));
	ck_assert_uint_eq(ref_header(ref)->rights, RIGHTS_SHARED);
}

static void make_kept(void)
{
	make_shared();
	kept = ref;
}

/* Biased to the session that dies, which has held it before. */
static void make_biased(void)
{
	make_kept();
	MUST(DEAD, object_incref(DEAD, ref));
	fixture_drop(DEAD, ref);
	ck_assert_uint_eq(ref_header(ref)->biased1, DEAD->owner1);
}

static void intend_to_count(enum intent_kind kind, uint64_t counted)
{
	intend(kind, dead_entry()->n_holds);
	dead_entry()->intent.queue = queue; /* whatever was there before */
	dead_entry()->intent.position = counted;
}

/* The compare-and-swap. */
static void count(uint32_t by)
{
	struct object_header *header = ref_header(ref);

	header->rights_counted += by * RIGHTS_ONE;
	header->biased1 = (uint16_t)DEAD->owner1;
}

static void hold_begun(void)
{
	make_kept();
	intend_to_count(INTENT_HOLD, INTENT_UNKNOWN);
}

static void hold_begun_biased(void)
{
	make_biased();
	intend_to_count(INTENT_HOLD, INTENT_UNKNOWN);
}

static void hold_known(void)
{
	make_kept();
	intend_to_count(INTENT_HOLD, ref_header(ref)->rights_counted);
}

static void hold_known_biased(void)
{
	make_biased();
	intend_to_count(INTENT_HOLD, ref_header(ref)->rights_counted);
}

static void hold_counted(void)
{
	hold_known();
	count(1);
}

static void hold_counted_biased(void)
{
	hold_known_biased();
	count(1);
}

static void hold_put_in(void)
{
	hold_counted();
	*hold_probe(DEAD, ref) = (struct hold){.ref = ref, .count = 1};
}

static void hold_numbered(void)
{
	hold_put_in();
	dead_entry()->n_holds++;
}

static void drop_begun(void)
{
	make_kept();
	MUST(DEAD, object_incref(DEAD, ref));
	intend_to_count(INTENT_DROP, ref_header(ref)->rights_counted);
	ck_assert_uint_eq(ref_header(ref)->biased1, DEAD->owner1);
}

static void drop_begun_unbiased(void)
{
	drop_begun();
	ref_header(ref)->biased1 = 0;
}

static void drop_counted(void)
{
	drop_begun();
	count(UINT32_MAX);
}

static void drop_taken(void)
{
	drop_counted();
	hold_find(DEAD, ref)->ref = HOLD_EMPTY;
}

static void drop_numbered(void)
{
	drop_taken();
	dead_entry()->n_holds--;
}

/* Nobody else has a right to it; another block of the pool is S2's. */
static void drop_last_begun(void)
{
	make_shared();
	other = ref;
	MUST(S2, object_incref(S2, other));
	fixture_drop(S0, other);
	make_shared();
	ck_assert_uint_eq(ref_pool_index(ref), ref_pool_index(other));
	MUST(DEAD, object_incref(DEAD, ref));
	fixture_drop(S0, ref);
	ref_header(ref)->biased1 = (uint16_t)DEAD->owner1;
	intend_to_count(INTENT_DROP, ref_header(ref)->rights_counted);
}

static void drop_last_returned(void)
{
	struct object_header *header;

	drop_last_begun();
	header = ref_header(ref);
	header->word = header_with_state(header->word, STATE_REMOTE_FREE);
	header->rights = RIGHTS_SHARED;
}

static void drop_last_taken(void)
{
	drop_last_returned();
	hold_find(DEAD, ref)->ref = HOLD_EMPTY;
}

static void drop_last_numbered(void)
{
	drop_last_taken();
	dead_entry()->n_holds--;
	dead_entry()->n_blocks_returned++;
}

static void others_hold(void)
{
	MUST(S2, object_incref(S2, ref));
}

static void others_come_and_go(void)
{
	others_hold();
	fixture_drop(S2, ref);
}

/* Biased to somebody else by then. */
static void others_come_and_go_twice(void)
{
	others_come_and_go();
	others_come_and_go();
	ck_assert_uint_eq(ref_header(ref)->biased1, S2->owner1);
}

static void owner_drops(void)
{
	fixture_drop(S0, ref);
	kept = 0;
}

static void owner_drops_held(void)
{
	others_hold();
	owner_drops();
}

static void make_again(void)
{
	kept = fixture_bytes(S0, 24);
	ck_assert_uint_eq(ref_position(kept), ref_position(ref));
	ck_assert_uint_ne(kept, ref);
}

static void owner_drops_and_makes(void)
{
	owner_drops();
	ck_assert_int_eq(session_serve_requests(S0), 0);
	make_again();
}

/* The pool is on its owner's list, by another block. */
static void others_return(void)
{
	fixture_drop(S2, other);
	ck_assert_uint_eq(ref_pool(ref)->is_notified, 1);
}

static void others_return_and_gather(void)
{
	others_return();
	ck_assert_int_eq(session_serve_requests(S0), 0);
	ck_assert_uint_eq(ref_state(ref), STATE_FREE);
}

static void others_return_and_make(void)
{
	others_return_and_gather();
	make_again();
}

/* And others hold that. */
static void others_return_and_make_and_hold(void)
{
	others_return_and_make();
	MUST(S2, object_incref(S2, kept));
	fixture_drop(S2, kept);
}

static void pool_goes(void)
{
	others_return();
	fixture_trim_sessions();
	ck_assert_uint_eq(ref_pool(ref)->kind, POOL_FREE);
}

/* The table. */

static const struct {
	const char *name; /* for who reads this */
	void (*die)(void);
	void (*go_on)(void); /* the others, or NULL */
	int n_queued;        /* in the queue in the end */
	bool is_done;        /* another session had to record that it took place */
} rows[] = {
	{"own object pushed", push_own, NULL, 1, false},
	{"own object pushed, popped", push_own, others_pop, 0, false},
	{"own object pushed, popped, place filled again", push_own, others_pop_and_push, 1, true},
	{"pushed", push_held, NULL, 1, false},
	{"pushed, popped", push_held, others_pop, 0, false},
	{"pushed, popped, place filled again", push_held, others_pop_and_push, 1, true},
	{"pushed with a right of its own", push_right, NULL, 1, false},
	{"pushed with a right of its own, popped", push_right, others_pop, 0, false},
	{"pushed with a right of its own, popped, filled", push_right, others_pop_and_push, 1, true},
	{"own push begun", push_own_begun, NULL, 0, false},
	{"own push begun, place filled by another", push_own_begun, others_push, 1, false},
	{"own push begun again", push_own_begun_again, NULL, 1, false},
	{"own push begun again, popped", push_own_begun_again, others_pop, 0, false},
	{"own push, given", push_own_given, NULL, 0, false},
	{"own push, given, place filled by another", push_own_given, others_push, 1, false},
	{"own push, let go", push_own_let_go, NULL, 0, false},
	{"own push, let go, filled and emptied by another", push_own_let_go, others_push_and_take, 0, false},
	{"push begun", push_held_begun, NULL, 0, false},
	{"push, taken from the table", push_held_taken, NULL, 0, false},
	{"push, taken, place filled by another", push_held_taken, others_push, 1, false},
	{"push, taken, filled and emptied by another", push_held_taken, others_push_and_take, 0, false},
	{"push, taken, filled, emptied and filled", push_held_taken, others_push_and_take_and_push, 1, false},
	{"pop begun", pop_begun, NULL, 1, false},
	{"pop begun, emptied by another", pop_begun, others_take_what_there_is, 0, false},
	{"pop begun, emptied and filled by another", pop_begun, others_take_and_push, 1, false},
	{"popped", pop_put, NULL, 0, false},
	{"popped, filled", pop_put, others_push, 1, false},
	{"popped, filled and emptied", pop_put, others_push_and_take, 0, true},
	{"popped, not yet counted", pop_not_counted, NULL, 0, false},
	{"popped, not yet in the table", pop_not_put, NULL, 0, false},
	{"popped, not in the table, filled", pop_not_put, others_push, 1, false},
	{"popped, not in the table, filled and emptied", pop_not_put, others_push_and_take, 0, true},
	{"popped what it holds", pop_right, NULL, 0, false},
	{"popped what it holds, filled and emptied", pop_right, others_push_and_take, 0, true},
	{"a right on its way", right, NULL, 0, false},
	{"hold begun", hold_begun, NULL, 0, false},
	{"hold begun, held by another", hold_begun, others_hold, 0, false},
	{"hold begun, another has come and gone", hold_begun, others_come_and_go, 0, false},
	{"hold begun, let go by its owner", hold_begun, owner_drops, 0, false},
	{"hold begun, let go and made again", hold_begun, owner_drops_and_makes, 0, false},
	{"hold begun, biased", hold_begun_biased, NULL, 0, false},
	{"hold begun, biased, held by another", hold_begun_biased, others_hold, 0, false},
	{"hold begun, biased, let go and made again", hold_begun_biased, owner_drops_and_makes, 0, false},
	{"hold, count known", hold_known, NULL, 0, false},
	{"hold, count known, held by another", hold_known, others_hold, 0, false},
	{"hold, count known, another has come and gone", hold_known, others_come_and_go_twice, 0, false},
	{"hold, count known, let go and made again", hold_known, owner_drops_and_makes, 0, false},
	{"hold, count known, biased", hold_known_biased, NULL, 0, false},
	{"hold, count known, biased, held by another", hold_known_biased, others_hold, 0, false},
	{"hold, count known, biased, come and gone", hold_known_biased, others_come_and_go_twice, 0, false},
	{"hold, count known, biased, another's alone", hold_known_biased, owner_drops_held, 0, false},
	{"hold counted", hold_counted, NULL, 0, false},
	{"hold counted, held by another", hold_counted, others_hold, 0, true},
	{"hold counted, another has come and gone", hold_counted, others_come_and_go, 0, true},
	{"hold counted, come and gone twice", hold_counted, others_come_and_go_twice, 0, true},
	{"hold counted, let go by its owner", hold_counted, owner_drops, 0, true},
	{"hold counted, held by another, let go", hold_counted, owner_drops_held, 0, true},
	{"hold counted, biased before", hold_counted_biased, NULL, 0, false},
	{"hold counted, biased before, come and gone", hold_counted_biased, others_come_and_go_twice, 0, true},
	{"held, not yet counted in the table", hold_put_in, NULL, 0, false},
	{"held, not yet counted in the table, come and gone", hold_put_in, others_come_and_go, 0, true},
	{"held", hold_numbered, NULL, 0, false},
	{"held, held by another", hold_numbered, others_hold, 0, true},
	{"held, let go by its owner", hold_numbered, owner_drops, 0, true},
	{"drop begun", drop_begun, NULL, 0, false},
	{"drop begun, held by another", drop_begun, others_hold, 0, false},
	{"drop begun, come and gone", drop_begun, others_come_and_go_twice, 0, false},
	{"drop begun, let go by its owner", drop_begun, owner_drops, 0, false},
	{"drop begun, not biased", drop_begun_unbiased, NULL, 0, false},
	{"drop begun, not biased, held by another", drop_begun_unbiased, others_hold, 0, false},
	{"drop begun, not biased, come and gone", drop_begun_unbiased, others_come_and_go_twice, 0, false},
	{"drop counted", drop_counted, NULL, 0, false},
	{"drop counted, held by another", drop_counted, others_hold, 0, true},
	{"drop counted, come and gone", drop_counted, others_come_and_go, 0, true},
	{"drop counted, come and gone twice", drop_counted, others_come_and_go_twice, 0, true},
	{"drop counted, let go by its owner", drop_counted, owner_drops, 0, true},
	{"drop counted, let go and made again", drop_counted, owner_drops_and_makes, 0, true},
	{"drop counted, another's alone", drop_counted, owner_drops_held, 0, true},
	{"dropped, not yet counted in the table", drop_taken, NULL, 0, false},
	{"dropped, not yet counted, come and gone", drop_taken, others_come_and_go_twice, 0, true},
	{"dropped", drop_numbered, NULL, 0, false},
	{"dropped, held by another", drop_numbered, others_hold, 0, true},
	{"dropped, let go and made again", drop_numbered, owner_drops_and_makes, 0, true},
	{"last drop begun", drop_last_begun, NULL, 0, false},
	{"last drop begun, held by another", drop_last_begun, others_hold, 0, false},
	{"last drop begun, come and gone", drop_last_begun, others_come_and_go_twice, 0, false},
	{"last drop begun, another one returned", drop_last_begun, others_return, 0, false},
	{"returned", drop_last_returned, NULL, 0, false},
	{"returned, told", drop_last_returned, others_return, 0, false},
	{"returned, told, gathered", drop_last_returned, others_return_and_gather, 0, false},
	{"returned, told, gathered, made again", drop_last_returned, others_return_and_make, 0, false},
	{"returned, the pool is gone", drop_last_returned, pool_goes, 0, false},
	{"returned, not yet counted in the table", drop_last_taken, NULL, 0, false},
	{"returned, not yet counted, told", drop_last_taken, others_return, 0, false},
	{"returned, not yet counted, made again", drop_last_taken, others_return_and_make, 0, false},
	{"returned and taken out", drop_last_numbered, NULL, 0, false},
	{"returned and taken out, told", drop_last_numbered, others_return, 0, false},
	{"returned and taken out, gathered", drop_last_numbered, others_return_and_gather, 0, false},
	{"returned and taken out, made again", drop_last_numbered, others_return_and_make, 0, false},
	{"returned and taken out, made again and held", drop_last_numbered, others_return_and_make_and_hold, 0, false},
	{"returned and taken out, the pool is gone", drop_last_numbered, pool_goes, 0, false},
};

/* Each living session has its right to the object, and there are no other rights. */
static void expect_counted(void)
{
	uint64_t left[] = {ref, other};

	if (kept)
		ck_assert_int_eq(object_refcount(S0, kept), 1 + (hold_find(S2, kept) != NULL));
	for (int i = 0; i < 2; i++)
		if (hold_find(S2, left[i]))
			fixture_drop(S2, left[i]);
	if (!kept)
		return;
	ck_assert_uint_eq(ref_rights(kept), 0);
	fixture_drop(S0, kept);
	ck_assert_int_eq((int)object_refcount(S0, kept), -ESTALE);
}

/* All that is left is in the queue; then nothing is. */
static void expect_cleared(int n_queued)
{
	uint64_t got;

	expect_counted();
	for (int i = 0; i < n_queued; i++) {
		MUST(S0, queue_pop(S0, queue, &got, 0));
		fixture_drop(S0, got);
	}
	ck_assert_int_eq(CALL(S0, queue_pop(S0, queue, &got, 0)), -EAGAIN);
	fixture_drop(S0, queue);
	fixture_drop(S2, queue);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}

static bool is_to_count(void)
{
	return intent_is_count(intent_kind(dead_entry()->intent.word));
}

static int finish(void)
{
	return is_to_count() ? count_finish(DEAD) : queue_finish(DEAD);
}

static void begin(int i)
{
	MUST(S0, queue_new(S0, 1, &queue));
	MUST(DEAD, object_incref(DEAD, queue));
	MUST(S2, object_incref(S2, queue));
	rows[i].die();
	fixture_check();
}

static void clear_up(void)
{
	int r;

	session_mark_dead(fx.heap, DEAD->index);
	while ((r = session_reclaim_step(DEAD)) == 1)
		fixture_check();
	ck_assert_int_eq(r, 0);
	fixture_check();
}

START_TEST(reclaimed)
{
	uint64_t number;

	begin(_i);
	number = intent_number(dead_entry()->intent.word);
	if (rows[_i].go_on)
		rows[_i].go_on();
	ck_assert_int_eq(
		(is_to_count() ? dead_entry()->done_counting : dead_entry()->done) == number, rows[_i].is_done);
	clear_up();
	expect_cleared(rows[_i].n_queued);
}
END_TEST

/* The reclaimer dies before the commit, again and again. */
START_TEST(reclaimer_killed)
{
	begin(_i);
	if (rows[_i].go_on)
		rows[_i].go_on();
	session_mark_dead(fx.heap, DEAD->index);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(change_begin(DEAD), 0);
		ck_assert_int_eq(finish(), 0);
		ck_assert_int_eq(change_end(DEAD, -EIO), -EIO);
		fixture_check();
	}
	clear_up();
	expect_cleared(rows[_i].n_queued);
}
END_TEST

/* A repair finds nothing to mend, and mends nothing. */
START_TEST(repaired_before)
{
	begin(_i);
	ck_assert_int_eq(heap_repair(S0, NULL, NULL), 0);
	if (rows[_i].go_on)
		rows[_i].go_on();
	ck_assert_int_eq(heap_repair(S0, NULL, NULL), 0);
	clear_up();
	ck_assert_int_eq(heap_repair(S0, NULL, NULL), 0);
	expect_cleared(rows[_i].n_queued);
}
END_TEST

/*
 * The reclaimer has cleared the intent and dies; others change the cell without the lock meanwhile. What took place was
 * recorded before, and stays recorded.
 */
START_TEST(recorded_for_good)
{
	static void (*const deaths[])(void) = {push_own, push_held, push_right, pop_not_put, pop_right};
	bool is_push = _i < 3;
	uint64_t got, mine;

	MUST(S0, queue_new(S0, 1, &queue));
	MUST(DEAD, object_incref(DEAD, queue));
	MUST(S2, object_incref(S2, queue));
	mine = fixture_bytes(S2, 24);
	deaths[_i]();
	ck_assert_int_eq(change_begin(DEAD), 0);
	ck_assert_int_eq(queue_finish(DEAD), 0);
	if (is_push)
		ck_assert_int_eq(queue_pop(S2, queue, &got, 0), 0);
	ck_assert_int_eq(queue_push(S2, queue, mine, 0), 0);
	if (!is_push)
		ck_assert_int_eq(queue_pop(S2, queue, &got, 0), 0);
	ck_assert_int_eq(change_end(DEAD, -EIO), -EIO);
	fixture_check();
	clear_up();
	fixture_drop(S2, got);
	expect_cleared(is_push ? 1 : 0);
}
END_TEST

/* The same for a header that others count in, once the reclaimer has locked it. */
START_TEST(counted_for_good)
{
	static void (*const deaths[])(void) = {hold_known, hold_known_biased, hold_counted, hold_counted_biased,
		drop_begun, drop_begun_unbiased, drop_counted, drop_taken, drop_numbered};
	uint64_t taken;

	MUST(S0, queue_new(S0, 1, &queue));
	MUST(DEAD, object_incref(DEAD, queue));
	MUST(S2, object_incref(S2, queue));
	deaths[_i]();
	session_mark_dead(fx.heap, DEAD->index);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(change_begin(DEAD), 0);
		ck_assert_int_eq(count_finish(DEAD), 0);
		ck_assert_int_eq(change_end(DEAD, -EIO), -EIO);
		fixture_check();
		taken = fx.heap->control->lock.n_acquisitions;
		ck_assert_int_eq(object_incref(S2, ref), 0);
		ck_assert(i == 0 || fx.heap->control->lock.n_acquisitions == taken);
		if (i < 2)
			fixture_drop(S2, ref);
		fixture_check();
	}
	clear_up();
	expect_cleared(0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("intent");
	TCase *t = tcase_create("intent");
	const int n = (int)(sizeof(rows) / sizeof(rows[0]));

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, reclaimed, 0, n);
	tcase_add_loop_test(t, reclaimer_killed, 0, n);
	tcase_add_loop_test(t, repaired_before, 0, n);
	tcase_add_loop_test(t, recorded_for_good, 0, 5);
	tcase_add_loop_test(t, counted_for_good, 0, 9);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
