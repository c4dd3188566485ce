// SPDX-License-Identifier: MIT
/*
 * First holds and last drops that are stopped in the middle: who is notified, what waits, what is left to reclaim
 *
 * What one session has begun and another finds is stored by hand here, as it is between two stores. Kills at each
 * instruction: tests/crash.
 */
#include "heap/change/intent.h"
#include "heap/object/header_lock.h"
#include "heap/shared/critical.h"
#include "tests/unit/heap/fixture_count.h"

#include <signal.h>
#include <stdio.h>
#include <ucontext.h>

/* Remotely freed, and not notified yet. */

/* The last right goes, as by a compare-and-swap, and the owner is not notified. */
static void return_untold(struct session *session, uint64_t ref)
{
	struct hold *hold = hold_find(session, ref);
	struct object_header *header = ref_header(ref);

	ck_assert(hold && hold_stands_last(session, hold));
	header->word = header_with_state(header->word, STATE_REMOTE_FREE);
	header->rights = RIGHTS_SHARED;
	hold->ref = HOLD_EMPTY;
	session->entry->n_holds--;
}

static struct pool_entry *tell(uint64_t ref)
{
	struct pool_entry *pool;

	ck_assert_int_eq(change_begin(S2), 0);
	ck_assert_int_eq(change_end(S2, block_notify_remote_free(S2, ref, &pool)), 0);
	fixture_check();
	return pool;
}

/* A second notification changes nothing, whatever the block is by then. */
static void tell_in_vain(uint64_t ref)
{
	struct pool_entry before = *ref_pool(ref);
	struct object_header header = *ref_header(ref);
	struct session_entry owner = *S0->entry;

	ck_assert_ptr_null(tell(ref));
	ck_assert_int_eq(memcmp(&before, ref_pool(ref), sizeof(before)), 0);
	ck_assert_int_eq(memcmp(&header, ref_header(ref), sizeof(header)), 0);
	ck_assert_int_eq(memcmp(&owner, S0->entry, sizeof(owner)), 0);
}

START_TEST(owner_has_gone)
{
	uint64_t ref = passed_to(S1, 40), other = passed_to(S1, 40);

	owner_goes();
	return_untold(S1, ref);
	ck_assert_ptr_null(tell(ref));
	ck_assert_uint_eq(ref_state(ref), STATE_FREE);
	ck_assert_uint_eq(ref_header(ref)->rights, 0);
	ck_assert_uint_eq(ref_pool(ref)->n_used, 1);
	tell_in_vain(ref);
	if (_i) { /* and another has come */
		uint64_t mine = fixture_bytes(S2, 40);

		ck_assert_uint_eq(ref_position(mine), ref_position(ref));
		tell_in_vain(ref);
		return_untold(S1, other);
		ck_assert_ptr_eq(tell(other), ref_pool(other));
		ck_assert_uint_eq(S2->entry->remote_pools1, ref_pool_index(other) + 1);
		fixture_drop(S2, mine);
	} else {
		return_untold(S1, other);
		ck_assert_ptr_null(tell(other));
		ck_assert_uint_eq(ref_pool(other)->kind, POOL_FREE);
		ck_assert_ptr_null(tell(other));
	}
	fixture_expect_empty();
}
END_TEST

START_TEST(notified_in_vain)
{
	uint64_t keep = fixture_bytes(S0, 40), ref = passed_to(S1, 40), again;

	tell_in_vain(ref); /* it is alive */
	return_untold(S1, ref);
	ck_assert_ptr_eq(tell(ref), ref_pool(ref));
	ck_assert_uint_eq(S0->entry->remote_pools1, ref_pool_index(ref) + 1);
	ck_assert_uint_eq(pool_count_remote(fx.heap, ref_pool(ref)), 1);
	ck_assert_ptr_eq(tell(ref), ref_pool(ref)); /* it is on the list, and no second time */
	ck_assert_uint_eq(ref_pool(ref)->remote_next1, 0);
	ck_assert_int_eq(session_serve_requests(S0), 0);
	tell_in_vain(ref); /* collected */
	again = fixture_bytes(S0, 40);
	ck_assert_uint_eq(ref_position(again), ref_position(ref));
	tell_in_vain(ref); /* another object */
	share(again);
	MUST(S1, object_incref(S1, again));
	fixture_drop(S0, again);
	fixture_drop(S1, again);
	ck_assert_uint_eq(ref_state(again), STATE_REMOTE_FREE);
	tell_in_vain(ref); /* which was returned itself */
	fixture_drop(S0, keep);
	fixture_trim_sessions();
	ck_assert_uint_eq(ref_pool(ref)->kind, POOL_FREE);
	ck_assert_ptr_null(tell(ref));
	again = fixture_bytes(S0, 3 * POOL_SIZE);
	ck_assert_uint_eq(ref_pool_index(again), ref_pool_index(ref));
	ck_assert_ptr_null(tell(ref)); /* a run */
	ck_assert_ptr_null(tell(ref_make(FIXTURE_HEAP_SIZE / 8, 1)));
	ck_assert_ptr_null(tell(ref_make(FIXTURE_HEAP_SIZE / 8 - 1, 1)));
	fixture_drop(S0, again);
	fixture_expect_empty();
}
END_TEST

/*
 * A session is stopped after a remote free, before it reads is_notified or counts. Meanwhile the pool is freed and its
 * memory is another object's: nothing is stored there any more.
 */
static struct {
	uint64_t ref, list, child; /* list: 0: not made yet */
	uint64_t at, n;
	int result;
} meanwhile;

static void make_list_there(void)
{
	int r;

	do
		r = own_trim(&fx.daemon, S0->index);
	while (r > 0);
	if (!r)
		r = object_new(S2, TYPE_LIST, POOL_SIZE, &meanwhile.list);
	meanwhile.result = r ? r : list_set(S2, meanwhile.list, 0, meanwhile.child);
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	if (meanwhile.list || S1->entry->activity != ACTIVITY_ACTIVE || ref_pool(meanwhile.ref)->kind != POOL_BLOCKS ||
		ref_state(meanwhile.ref) != STATE_REMOTE_FREE || meanwhile.n++ < meanwhile.at)
		return;
	make_list_there();
#ifdef __x86_64__
	((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100LL;
#else
	(void)context;
#endif
}

/* False: the call had ended before. */
static bool make_another_of_it(uint64_t at)
{
	uint64_t first = passed_to(S1, 200);
	struct pool_entry *pool = ref_pool(first);
	int r;

	meanwhile.ref = passed_to(S1, 200);
	meanwhile.list = 0;
	meanwhile.n = 0;
	meanwhile.at = at;
	fixture_drop(S1, first);
	ck_assert_uint_eq(pool->is_notified, 1);
	trap_each_instruction(true);
	r = object_decref(S1, meanwhile.ref);
	trap_each_instruction(false);
	ck_assert_int_eq(r, 0);
	fixture_check();
	if (!meanwhile.list)
		return false;
	ck_assert_int_eq(meanwhile.result, 0);
	ck_assert_ptr_eq(ref_pool(meanwhile.list), pool);
	ck_assert_uint_eq(pool->run_n_dropped, 0);
	fixture_drop(S2, meanwhile.list);
	ck_assert_uint_eq(ref_rights(meanwhile.child), 0);
	fixture_trim_sessions();
	return true;
}

START_TEST(pool_is_another_by_then)
{
	const struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
	uint64_t n = 0;

	ck_assert_int_eq(sigaction(SIGTRAP, &action, NULL), 0);
	meanwhile.child = fixture_bytes(S2, 8);
	fixture_bytes(S0, 8);
	while (make_another_of_it(n))
		n++;
	if (!n)
		fprintf(stderr, "nothing can be cut here\n");
}
END_TEST

/* Lookups in an arena. */

static void look_at(struct session *session, uint32_t kind, uint32_t arena)
{
	session->entry->intent.ref = ref_make(((uint64_t)arena << fx.heap->arena_shift) / 8 + 5, 9);
	session->entry->intent.word = intent_word(intent_number(session->entry->intent.word) + 1, kind);
	session->entry->activity = ACTIVITY_ACTIVE;
}

static void look_no_more(struct session *session)
{
	session->entry->activity = ACTIVITY_DONE;
	session->entry->intent.word = intent_word(intent_number(session->entry->intent.word), INTENT_NONE);
}

START_TEST(arena_waits_for_lookups)
{
	ck_assert(!critical_has_lookup(fx.heap, 0, fx.heap->n_arenas));
	for (uint32_t kind = INTENT_NONE; kind <= INTENT_DROP; kind++) {
		bool is_count = kind == INTENT_HOLD || kind == INTENT_DROP;

		look_at(S1, kind, 3);
		ck_assert_int_eq(critical_has_lookup(fx.heap, 3, 1), is_count);
		ck_assert_int_eq(critical_has_lookup(fx.heap, 0, 4), is_count);
		ck_assert_int_eq(critical_has_lookup(fx.heap, 2, 3), is_count);
		ck_assert(!critical_has_lookup(fx.heap, 0, 3));
		ck_assert(!critical_has_lookup(fx.heap, 4, fx.heap->n_arenas - 4));
		ck_assert(!critical_has_lookup(fx.heap, 3, 0));
		S1->entry->activity = ACTIVITY_DONE;
		ck_assert(!critical_has_lookup(fx.heap, 3, 1));
		S1->entry->activity = ACTIVITY_NONE;
		ck_assert(!critical_has_lookup(fx.heap, 3, 1));
	}
	look_at(S1, INTENT_HOLD, 0);
	ck_assert(critical_has_lookup(fx.heap, 0, 1));
	look_at(S2, INTENT_DROP, 7); /* any of them */
	ck_assert(critical_has_lookup(fx.heap, 7, 1));
	S1->entry->state = SESSION_DEAD;
	ck_assert(!critical_has_lookup(fx.heap, 0, 1));
	S1->entry->state = SESSION_ACTIVE;
	S1->entry->intent.ref = UINT64_MAX;
	ck_assert(!critical_has_lookup(fx.heap, 0, 7));
	look_no_more(S1);
	look_no_more(S2);
	ck_assert(!critical_has_lookup(fx.heap, 0, fx.heap->n_arenas));
	fixture_check();
}
END_TEST

/* A RETURNING arena is not unmapped while a lookup is in it, nor where it is one of a run. */
START_TEST(lookup_while_arena_returns)
{
	bool is_adopted = _i / 2;
	uint32_t head, n = _i % 2 ? 3 : 1, n_done = 0;

	fixture_drop(S0, fixture_bytes(S0, n > 1 ? n * ARENA_SIZE_DEFAULT : 40));
	fixture_trim_sessions();
	ck_assert_int_eq(supply_pick_returning(&fx.daemon, 0, &head), 1);
	ck_assert_uint_eq(fx.heap->arenas[head].n_arenas, n);
	for (uint32_t i = head; i < head + n; i++) {
		look_at(S1, i % 2 ? INTENT_HOLD : INTENT_DROP, i);
		ck_assert(supply_has_lookup(fx.heap, head));
		ck_assert_uint_eq(fx.heap->arenas[head].state, ARENA_RETURNING);
		ck_assert_uint_eq(fx.heap->arenas[head].n_arenas, n);
		/* no session holds it meanwhile */
		ck_assert_int_eq(object_incref(S2, ref_make(((uint64_t)i << fx.heap->arena_shift) / 8, 1)), -ESTALE);
		look_no_more(S1);
	}
	look_at(S1, INTENT_HOLD, head + n);
	ck_assert(!supply_has_lookup(fx.heap, head));
	if (is_adopted)
		fixture_adopt_returning();
	else
		for (uint32_t i = 1; i <= n; i++)
			ck_assert_int_eq(supply_unmap_step(fx.heap, head, 1, &n_done), i == n);
	ck_assert_uint_eq(fx.heap->arenas[head].state, ARENA_HOLE);
	look_no_more(S1);
	fixture_check();
	fixture_expect_empty();
}
END_TEST

/* Stopped in the middle. */

static uint64_t stopped_ref;

static void begin(uint32_t kind, uint64_t position)
{
	struct session_entry *entry = S1->entry;

	entry->intent = (struct intent){.ref = stopped_ref,
		.position = position,
		.word = intent_word(intent_number(entry->intent.word) + 1, kind)};
	entry->intent_before = entry->n_holds;
	entry->activity = ACTIVITY_ACTIVE;
}

static void count(int n)
{
	struct object_header *header = ref_header(stopped_ref);

	header->rights_counted += (uint32_t)n * RIGHTS_ONE;
	header->biased1 = (uint16_t)S1->owner1;
}

static void hold_begun(void)
{
	stopped_ref = shared(40);
	begin(INTENT_HOLD, INTENT_UNKNOWN);
}

static void hold_known(void)
{
	hold_begun();
	S1->entry->intent.position = ref_header(stopped_ref)->rights_counted;
}

static void hold_counted(void)
{
	hold_known();
	count(1);
}

static void hold_put_in(void)
{
	hold_counted();
	*hold_probe(S1, stopped_ref) = (struct hold){.ref = stopped_ref, .count = 1};
}

static void hold_numbered(void)
{
	hold_put_in();
	S1->entry->n_holds++;
}

/* The first hold of a run, in which others have a lookup, too. */
static void hold_of_run(void)
{
	stopped_ref = shared(2 * POOL_SIZE);
	begin(INTENT_HOLD, ref_header(stopped_ref)->rights_counted);
	count(1);
}

static void drop_begun(void)
{
	stopped_ref = shared(40);
	MUST(S1, object_incref(S1, stopped_ref));
	begin(INTENT_DROP, ref_header(stopped_ref)->rights_counted);
}

static void drop_counted(void)
{
	drop_begun();
	count(-1);
}

static void drop_taken_out(void)
{
	drop_counted();
	hold_find(S1, stopped_ref)->ref = HOLD_EMPTY;
}

static void drop_numbered(void)
{
	drop_taken_out();
	S1->entry->n_holds--;
}

/* All rights were given by the owner: they are in rights_given, and the others' drops in rights_counted. */
static void drop_of_given(void)
{
	uint64_t queue, got;

	stopped_ref = fixture_bytes(S0, 40);
	MUST(S0, object_incref(S0, stopped_ref));
	MUST(S0, queue_new(S0, 4, &queue));
	MUST(S0, queue_push(S0, queue, stopped_ref, 0));
	MUST(S1, queue_pop(S1, queue, &got, 0));
	ck_assert_uint_eq(ref_header(stopped_ref)->rights_counted, 0);
	begin(INTENT_DROP, 0);
	ref_header(stopped_ref)->rights_counted = COUNTED(RIGHTS_MAX);
	ref_header(stopped_ref)->biased1 = (uint16_t)S1->owner1;
}

static void last_begun(void)
{
	stopped_ref = passed_to(S1, 40);
	begin(INTENT_DROP, ref_header(stopped_ref)->rights_counted);
}

static void last_returned(void)
{
	struct object_header *header;

	last_begun();
	header = ref_header(stopped_ref);
	header->word = header_with_state(header->word, STATE_REMOTE_FREE);
	header->rights = RIGHTS_SHARED;
}

static void last_taken_out(void)
{
	last_returned();
	hold_find(S1, stopped_ref)->ref = HOLD_EMPTY;
	S1->entry->n_holds--;
}

/* It waits for the lock to notify the owner. */
static void last_outside(void)
{
	last_taken_out();
	S1->entry->activity = ACTIVITY_DONE;
}

static void last_told(void)
{
	last_taken_out();
	ck_assert_ptr_nonnull(tell(stopped_ref));
}

static void last_gathered(void)
{
	last_told();
	ck_assert_int_eq(session_serve_requests(S0), 0);
}

static void last_made_again(void)
{
	last_gathered();
	ck_assert_uint_eq(ref_position(fixture_bytes(S0, 40)), ref_position(stopped_ref));
}

/* The owner was notified of another block, and this one is only marked. */
static void last_marked(void)
{
	uint64_t other = passed_to(S2, 40);

	last_returned();
	fixture_drop(S2, other);
	ck_assert_uint_eq(ref_pool(stopped_ref)->is_notified, 1);
}

/* The pool's owner has ended since, before the remote free or after. */
static void last_unowned(void)
{
	last_begun();
	passed_to(S2, 40);
	owner_goes();
	ref_header(stopped_ref)->word = header_with_state(ref_header(stopped_ref)->word, STATE_REMOTE_FREE);
	ref_header(stopped_ref)->rights = RIGHTS_SHARED;
	ck_assert_uint_eq(ref_pool(stopped_ref)->owner1, 0);
}

static void last_left_behind(void)
{
	last_returned();
	owner_goes();
}

static void (*const stops[])(void) = {hold_begun, hold_known, hold_counted, hold_put_in, hold_numbered, hold_of_run,
	drop_begun, drop_counted, drop_taken_out, drop_numbered, drop_of_given, last_begun, last_returned,
	last_taken_out, last_outside, last_told, last_gathered, last_made_again, last_marked, last_unowned,
	last_left_behind};

/* All other sessions drop what they hold. */
static void others_go(void)
{
	struct session *others[] = {S0, S2};

	for (int i = 0; i < 2; i++)
		for (int r = 1; r == 1;) {
			r = session_drop_step(others[i], false);
			ck_assert_int_ge(r, 0);
			fixture_check();
		}
}

START_TEST(stopped)
{
	bool others_first = _i % 2;
	struct session_entry entry;
	struct pool_entry pool;
	struct object_header header;

	stops[_i / 2]();
	entry = *S1->entry;
	pool = *ref_pool(stopped_ref);
	header = *ref_header(stopped_ref);
	for (int i = 0; i < 2; i++) {
		fixture_check();
		ck_assert_int_eq(heap_repair(S2, NULL, NULL), 0);
		ck_assert_int_eq(memcmp(&entry, S1->entry, sizeof(entry)), 0);
		ck_assert_int_eq(memcmp(&pool, ref_pool(stopped_ref), sizeof(pool)), 0);
		ck_assert_int_eq(memcmp(&header, ref_header(stopped_ref), sizeof(header)), 0);
	}
	if (others_first)
		others_go();
	fixture_bury(S1);
	ck_assert(session_is_empty(S1));
	if (!others_first)
		others_go();
	ck_assert_uint_eq(fixture_blocks_used(), 0);
	fixture_expect_empty();
}
END_TEST

/* With something else to mend all that is derived is made anew around the stopped session. */
START_TEST(stopped_and_repaired)
{
	uint64_t rights;

	stops[_i]();
	rights = ref_header(stopped_ref)->rights;
	fx.heap->control->counters.n_names++;
	ck_assert_int_eq(heap_repair(S2, NULL, NULL), 1);
	fixture_check();
	if (ref_state(stopped_ref) == STATE_LIVE)
		ck_assert_uint_eq(ref_header(stopped_ref)->rights, rights);
	fixture_bury(S1);
	others_go();
	ck_assert_uint_eq(fixture_blocks_used(), 0);
	fixture_expect_empty();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("count-stopped");
	TCase *t = tcase_create("count_stopped");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, owner_has_gone, 0, 2);
	tcase_add_test(t, notified_in_vain);
	tcase_add_test(t, pool_is_another_by_then);
	tcase_add_test(t, arena_waits_for_lookups);
	tcase_add_loop_test(t, lookup_while_arena_returns, 0, 4);
	tcase_add_loop_test(t, stopped, 0, 2 * (int)(sizeof(stops) / sizeof(stops[0])));
	tcase_add_loop_test(t, stopped_and_repaired, 0, (int)(sizeof(stops) / sizeof(stops[0])));
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
