// SPDX-License-Identifier: MIT
/*
 * What memory each session has: by whom arenas were asked for, and whose the pools are
 */
#include "tests/unit/heap/fixture.h"

#include "heap/repair/usage.h"

static struct session_usage usage[SESSIONS_MAX];

static void count(void)
{
	uint32_t cursor = 0, n_steps = 0;

	memset(usage, 0, sizeof(usage));
	while (heap_usage_step(fx.heap, &cursor, usage))
		ck_assert_uint_lt(n_steps++, fx.heap->n_arenas);
}

static const struct session_usage *usage_of(const struct session *session)
{
	return &usage[session->index];
}

START_TEST(nothing)
{
	count();
	for (uint32_t i = 0; i < fx.heap->n_sessions; i++)
		ck_assert(!usage[i].n_arenas && !usage[i].n_bytes);
}
END_TEST

START_TEST(each_its_own)
{
	fixture_new(S0, TYPE_BYTES, 100);
	fixture_new(S0, TYPE_BYTES, 3 * ARENA_SIZE_DEFAULT - 10);
	fixture_new(S1, TYPE_BYTES, 10 * POOL_SIZE);
	count();
	ck_assert_uint_ge(usage_of(S0)->n_arenas, 4);
	ck_assert_uint_ge(usage_of(S0)->n_bytes, 3 * ARENA_SIZE_DEFAULT + POOL_SIZE);
	ck_assert_uint_eq(usage_of(S1)->n_arenas, 0); /* it makes its object in S0's arena */
	ck_assert_uint_ge(usage_of(S1)->n_bytes, 10 * POOL_SIZE);
	ck_assert_uint_le(usage_of(S1)->n_bytes, 11 * POOL_SIZE);
	ck_assert_uint_eq(usage_of(S2)->n_arenas + usage_of(S2)->n_bytes, 0);
}
END_TEST

/* Another session has the index by now: what was granted to the one before is not its own. */
START_TEST(of_the_one_before)
{
	struct session next;
	uint64_t ref = fixture_new(S3, TYPE_BYTES, 100);

	MUST(S0, name_set(S0, "name", ref));
	count();
	ck_assert_uint_ge(usage_of(S3)->n_arenas, 1);
	fixture_bury(S3);
	ck_assert_int_eq(fixture_admit(fx.heap, &next), 0);
	ck_assert_uint_eq(next.index, S3->index);
	count();
	ck_assert_uint_eq(usage_of(&next)->n_arenas + usage_of(&next)->n_bytes, 0);
	MUST(S0, name_del(S0, "name"));
}
END_TEST

/* Whatever a client has written there, the walk ends, and the arenas are whose they were. */
START_TEST(scribbled_on)
{
	static const uint32_t words[] = {0, 1, 2, 3, 0x7fffffff, UINT32_MAX};
	uint64_t n_arenas;

	fixture_new(S0, TYPE_BYTES, 100);
	fixture_new(S0, TYPE_BYTES, 9 * POOL_SIZE);
	count();
	n_arenas = usage_of(S0)->n_arenas;
	for (unsigned int i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		for (uint32_t a = 0; a < arenas_known(fx.heap); a++) {
			fx.heap->arenas[a].state = i & 1 ? ARENA_POOLS : ARENA_RUN;
			fx.heap->arenas[a].n_arenas = fx.heap->arenas[a].session1 = words[i];
		}
		for (uint32_t p = 0; p < fx.heap->truth->head->n_arenas_mapped * fx.heap->pools_per_arena; p++) {
			fx.heap->pools[p].identity = words[i];
			fx.heap->pools[p].run_n_pools = words[i];
		}
		count();
		ck_assert_uint_eq(usage_of(S0)->n_arenas, n_arenas);
		for (uint32_t s = 1; s < fx.heap->n_sessions; s++)
			ck_assert_uint_eq(usage[s].n_arenas, 0);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("usage");
	TCase *t = tcase_create("usage");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, nothing);
	tcase_add_test(t, each_its_own);
	tcase_add_test(t, of_the_one_before);
	tcase_add_test(t, scribbled_on);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
