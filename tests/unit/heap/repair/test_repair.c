// SPDX-License-Identifier: MIT
/*
 * heap_repair(): each derived thing is damaged on purpose, the report names it, it is mended, and then the heap works
 *
 * repair_damages.c has the damages. What a row does not name has not changed afterwards.
 */
#include "tests/unit/heap/repair/repair_damages.h"

static void expect_reported_and_mended(struct session *repairer, const char *fault)
{
	struct fixture_report checked = {.wanted = fault}, repaired = {.wanted = fault};
	int64_t n = heap_check(REPAIRER, fixture_note_fault, &checked);

	ck_assert_int_gt(n, 0);
	ck_assert_int_eq(n, checked.n_faults);
	ck_assert_msg(checked.found, "nothing says \"%s\" in:\n%s", fault, checked.all);
	n = heap_repair(repairer, fixture_note_fault, &repaired);
	ck_assert_msg(n == checked.n_faults, "repair gives %d after:\n%s", (int)n, repaired.all);
	ck_assert_str_eq(checked.all, repaired.all);
	fixture_check();
	ck_assert_int_eq(heap_repair(REPAIRER, NULL, NULL), 0);
}

START_TEST(damage_is_mended)
{
	populate();
	repair_damages[_i].damage();
	if (repair_damages[_i].in_holds) {
		ck_assert_int_eq(heap_repair(REPAIRER, NULL, NULL), -EUCLEAN);
		expect_reported_and_mended(&fx.sessions[0], repair_damages[_i].fault);
	} else {
		expect_reported_and_mended(REPAIRER, repair_damages[_i].fault);
	}
	verify_kept();
	verify_names(repair_damages[_i].n_names_lost);
	work();
	verify_kept();
	end_all();
}
END_TEST

/* Damage in its hold table that only the session itself mends goes when the dead session is reclaimed. */
START_TEST(holds_of_the_dead)
{
	int r;

	populate();
	hold_of_dead();
	misplace(&fx.sessions[0], borrowed[1]);
	new_table_of_live();
	ck_assert_int_eq(heap_repair(REPAIRER, NULL, NULL), -EUCLEAN);
	session_mark_dead(fx.heap, 0);
	ck_assert_int_gt(heap_repair(REPAIRER, NULL, NULL), 0);
	fixture_check();
	while ((r = session_reclaim_step(&fx.sessions[0])) == 1)
		;
	ck_assert_int_eq(r, 0);
	fixture_check();
	end_all();
}
END_TEST

/*
 * Damage that keeps a dead session from being reclaimed is found and mended, though it may have died in a critical
 * section.
 */
static const struct {
	void (*damage)(void);
	const char *fault;
	bool is_lost; /* it could not be reclaimed before */
} damages_of_dead[] = {
	{dying_too_long, "is too short for the", true},
	{dying_of_no_type, "of the unknown type 9", true},
	{owned_of_dead_wild, "owned_pools", false},
	{large_of_wrong_length, "without an object of that length", false},
	{free_of_dead_with_rights, "is free and somebody has a right to it", false},
	{spare_of_dead_with_rights, "starts a free run and somebody has a right to it", false},
};

START_TEST(damage_of_the_dead)
{
	int r = 1;

	populate();
	for (uint32_t i = 0; i < 2; i++) {
		critical_stay(&fx.sessions[i]);
		session_mark_dead(fx.heap, i);
	}
	usedpools_cut(); /* no fault, since the session may have died between two stores */
	n_used_high();
	freeblock_circle();
	fixture_check();
	damages_of_dead[_i].damage();
	while (damages_of_dead[_i].is_lost && (r = session_reclaim_step(&fx.sessions[1])) == 1)
		;
	ck_assert_int_eq(r, damages_of_dead[_i].is_lost ? -EUCLEAN : 1);
	expect_reported_and_mended(REPAIRER, damages_of_dead[_i].fault);
	session_init(&fx.sessions[1], fx.heap, 1);
	end_all();
}
END_TEST

/*
 * Only the pool itself says which session owns it. What the owner alone held there is lost; what others hold, and the
 * owner's other pools, stay.
 */
START_TEST(owner_is_lost)
{
	uint32_t index, n = 0, n_lost = 0, n_there = 0;
	uint64_t kept_by_other = 0;

	populate();
	index = ref_pool_index(remotely_freed);
	for (uint32_t i = 0; i < n_kept; i++) { /* one of them somebody else holds, too */
		if (ref_pool_index(kept[i].ref) != index)
			continue;
		if (!kept_by_other)
			kept_by_other = kept[i].ref;
		else
			n_there += !rights_count(ref_header(kept[i].ref)->rights);
	}
	ck_assert_int_eq(CALL(&fx.sessions[1], object_incref(&fx.sessions[1], kept_by_other)), 0);
	REMOTE_POOL->owner1 = (uint16_t)(_i ? 60000 : 0);
	expect_reported_and_mended(REPAIRER, "is held by the owner of its pool, which has none");
	for (uint32_t i = 0; i < n_kept; i++) {
		if (kept[i].ref == kept_by_other)
			kept[i].session = &fx.sessions[1];
		if (ref_pool_index(kept[i].ref) != index || kept[i].ref == kept_by_other)
			kept[n++] = kept[i];
		else /* where others have rights it lives, but its owner has it no more */
			n_lost += !rights_count(ref_header(kept[i].ref)->rights);
	}
	n_kept = n;
	ck_assert_uint_eq(n_lost, n_there);
	verify_kept();
	work();
	verify_kept();
	end_all();
}
END_TEST

/*
 * A session that is stopped or dead in a critical section: its own lists and counts may be between two stores. They are
 * neither checked nor changed; all else is. The headers are enough to reclaim it.
 */
START_TEST(active_session_is_left_alone)
{
	uint64_t n_own_holds;
	int r;

	populate();
	critical_stay(&fx.sessions[0]);
	usedpools_cut();
	usedpools_of_run();
	spare_wild();
	n_used_high();
	n_carved_low();
	freeblock_circle();
	n_own_holds_high();
	n_own_holds = ENTRY0->n_own_holds;
	fixture_check();
	owned_cut();
	remote_cut();
	unowned_cut();
	expect_reported_and_mended(REPAIRER, "owned_pools");
	ck_assert_uint_eq(ENTRY0->n_own_holds, n_own_holds);
	ck_assert_uint_eq(ENTRY0->spare_runs1[1], UINT32_MAX);
	ck_assert_uint_eq(POOL->n_carved, 3);
	verify_kept();
	verify_names(0);
	session_mark_dead(fx.heap, 0);
	fixture_check();
	owned_circle();
	ck_assert_int_gt(heap_repair(REPAIRER, NULL, NULL), 0);
	while ((r = session_reclaim_step(&fx.sessions[0])) == 1)
		;
	ck_assert_int_eq(r, 0);
	fixture_check();
	end_all();
}
END_TEST

#define COUNTER(member)                                                                                                \
	{                                                                                                              \
#member, offsetof(struct counters, member)                                                             \
	}

static const struct {
	const char *name;
	size_t off;
} counters[] = {
	COUNTER(n_arenas_allocated),
	COUNTER(n_arenas_reclaimed),
	COUNTER(n_arenas_current),
	COUNTER(n_names),
};

START_TEST(counter_is_mended)
{
	static const uint64_t change[] = {1, UINT64_MAX, UINT64_C(1) << 40};
	const size_t n = sizeof(change) / sizeof(change[0]);
	uint8_t *counter = (uint8_t *)&control()->counters + counters[(size_t)_i / n].off;
	uint64_t value;

	populate();
	memcpy(&value, counter, sizeof(value));
	value += change[(size_t)_i % n];
	memcpy(counter, &value, sizeof(value));
	expect_reported_and_mended(REPAIRER, counters[(size_t)_i / n].name);
	work();
	verify_kept();
	end_all();
}
END_TEST

START_TEST(highwater_is_mended)
{
	populate();
	control()->counters.n_arenas_highwater = 0;
	expect_reported_and_mended(REPAIRER, "n_arenas_highwater");
	end_all();
}
END_TEST

/* Under the lock that the session has for several calls already. */
START_TEST(mended_under_the_lock)
{
	populate();
	usable_empty();
	ck_assert_int_eq(session_lock(REPAIRER), 0);
	ck_assert_int_gt(heap_repair(REPAIRER, NULL, NULL), 0);
	ck_assert_int_eq(change_try_begin(&fx.sessions[0]), -EBUSY);
	ck_assert_int_eq(session_unlock(REPAIRER), 0);
	fixture_check();
	verify_kept();
	end_all();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("repair");
	TCase *t = tcase_create("repair");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_loop_test(t, damage_is_mended, 0, n_repair_damages);
	tcase_add_loop_test(t, counter_is_mended, 0, 3 * (int)(sizeof(counters) / sizeof(counters[0])));
	tcase_add_test(t, highwater_is_mended);
	tcase_add_test(t, holds_of_the_dead);
	tcase_add_loop_test(t, damage_of_the_dead, 0, (int)(sizeof(damages_of_dead) / sizeof(damages_of_dead[0])));
	tcase_add_loop_test(t, owner_is_lost, 0, 2);
	tcase_add_test(t, active_session_is_left_alone);
	tcase_add_test(t, mended_under_the_lock);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
