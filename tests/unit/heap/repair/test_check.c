// SPDX-License-Identifier: MIT
/*
 * heap_check() itself: each derived thing is damaged on purpose, and the report names it
 *
 * Each damage of the table is made in a new heap with a little of everything in it. Whatever is damaged, the check
 * ends.
 */
#include "tests/unit/heap/repair/check_damages.h"

START_TEST(damage_is_reported)
{
	struct fixture_report report = {.wanted = check_damages[_i].fault};
	int64_t n;

	check_populate();
	check_damages[_i].damage();
	n = heap_check(&fx.sessions[3], fixture_note_fault, &report);
	ck_assert_int_gt(n, 0);
	ck_assert_int_eq(n, report.n_faults);
	ck_assert_msg(report.found, "nothing says \"%s\" in:\n%s", report.wanted, report.all);
}
END_TEST

/* On a damaged heap each call works or returns an error; none crashes. */
START_TEST(damage_is_survived)
{
	struct session *s = &fx.sessions[0];
	uint64_t ref, refs[10];
	struct object object;

	check_populate();
	memcpy(refs, (uint64_t[]){block, other, list, queue, named, run, large, borrowed, remotely_freed, orphan},
		sizeof(refs));
	check_damages[_i].damage();
	for (size_t i = 0; i < sizeof(refs) / sizeof(refs[0]); i++) {
		(void)object_lookup(s, refs[i], &object);
		(void)CALL(s, object_incref(s, refs[i]));
		(void)list_set(s, refs[i], 0, other);
		(void)CALL(s, list_get(s, refs[i], 1, &ref));
		(void)CALL(s, queue_pop(s, refs[i], &ref, 0));
		(void)CALL(s, name_set(s, "name", refs[i]));
	}
	for (size_t size = 1; size < 600; size += 33)
		(void)CALL(s, object_new(s, TYPE_BYTES, size, &ref));
	(void)CALL(s, object_new(s, TYPE_LIST, 8000, &ref));
	(void)CALL(s, object_new(s, TYPE_BYTES, 3 * ARENA_SIZE_DEFAULT, &ref));
	for (size_t i = 0; i < sizeof(refs) / sizeof(refs[0]); i++) {
		(void)object_decref(s, refs[i]);
		(void)object_decref(s, refs[i]);
	}
	(void)name_del(s, "name");
	session_mark_dead(fx.heap, s->index);
	for (int i = 0; i < 100; i++)
		(void)session_reclaim_step(s);
	ck_assert_int_ge(heap_check(&fx.sessions[3], NULL, NULL), 0);
}
END_TEST

/* Wherever a damaged free list leads, no living block is handed out. */
START_TEST(live_block_is_not_given_out)
{
	uint64_t live = fixture_bytes(S0, 100), word = ref_header(live)->word, ref;
	struct pool_entry *pool = ref_pool(live);
	uint16_t n_carved = pool->n_carved, freeblock1 = pool->freeblock1;

	pool->freeblock1 = (uint16_t)(ref_block(live) + 1);
	ck_assert_int_eq(object_new(S0, TYPE_BYTES, 100, &ref), -EUCLEAN);
	pool->freeblock1 = 0;
	pool->n_carved = (uint16_t)ref_block(live);
	ck_assert_int_eq(object_new(S0, TYPE_BYTES, 100, &ref), -EUCLEAN);
	pool->n_carved = n_carved;
	pool->freeblock1 = freeblock1;
	ck_assert_uint_eq(ref_header(live)->word, word);
	fixture_drop(S0, live);
}
END_TEST

START_TEST(nothing_to_report)
{
	struct fixture_report report = {.wanted = "anything"};

	check_populate();
	ck_assert_int_eq(heap_check(S0, fixture_note_fault, &report), 0);
	ck_assert_int_eq(heap_check(&fx.daemon, fixture_note_fault, &report), 0);
	ck_assert_int_eq(report.n_faults, 0);
	ck_assert_int_eq(heap_check(S0, NULL, NULL), 0); /* without a report function */
	/* also while a session has the lock for several calls */
	ck_assert_int_eq(session_lock(S0), 0);
	ck_assert_int_eq(heap_check(S0, fixture_note_fault, &report), 0);
	ck_assert_int_eq(session_unlock(S0), 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("check");
	TCase *t = tcase_create("check");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, nothing_to_report);
	tcase_add_test(t, live_block_is_not_given_out);
	tcase_add_loop_test(t, damage_is_reported, 0, n_check_damages);
	tcase_add_loop_test(t, damage_is_survived, 0, n_check_damages);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
