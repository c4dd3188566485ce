// SPDX-License-Identifier: MIT
/* Remote frees in pools of session 0, and the list of such pools */
#include "tests/unit/heap/fixture_remote_free.h"

uint32_t n_remote_pools(void)
{
	uint32_t n = 0, prev1 = 0;

	for (uint32_t i1 = S0->entry->remote_pools1; i1; i1 = fx.heap->pools[i1 - 1].remote_next1) {
		ck_assert_uint_gt(pool_count_remote(fx.heap, &fx.heap->pools[i1 - 1]), 0);
		ck_assert_uint_eq(fx.heap->pools[i1 - 1].remote_prev1, prev1);
		prev1 = i1;
		n++;
	}
	return n;
}

void share(uint64_t ref)
{
	MUST(S0, name_set(S0, "shared", ref));
	MUST(S1, object_incref(S1, ref)); /* counted, which a hold that comes by the name is not */
	MUST(S0, name_del(S0, "shared"));
	ck_assert_uint_eq(S0->entry->requests, 0);
}

uint64_t passed_to_s1(size_t size)
{
	uint64_t ref = fixture_bytes(S0, size);

	share(ref);
	fixture_drop(S0, ref);
	return ref;
}

uint64_t remotely_freed(size_t size)
{
	uint64_t ref = passed_to_s1(size);

	fixture_drop(S1, ref);
	ck_assert_uint_eq(ref_state(ref), STATE_REMOTE_FREE);
	return ref;
}

uint64_t partly[N_PARTLY][BLOCKS_512];

uint64_t remote_free_partly(uint32_t n)
{
	uint64_t first = passed_to_s1(200);

	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t k = 0; k < BLOCKS_512; k++)
			ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_BYTES, 512, &partly[i][k])), 0);
		ck_assert_int_eq(CALL(S1, object_incref(S1, partly[i][0])), 0);
		ck_assert_int_eq(object_decref(S0, partly[i][0]), 0);
	}
	fixture_drop(S1, first);
	for (uint32_t i = 0; i < n; i++)
		ck_assert_int_eq(object_decref(S1, partly[i][0]), 0);
	fixture_check();
	ck_assert_uint_eq(n_remote_pools(), n + 1);
	return first;
}

void drop_partly(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 1; k < BLOCKS_512; k++)
			ck_assert_int_eq(object_decref(S0, partly[i][k]), 0);
	fixture_expect_empty();
}
