// SPDX-License-Identifier: MIT
/* Objects that other sessions may hold, and checks of what is counted of them */
#include "tests/unit/heap/fixture_count.h"

uint64_t n_taken(void)
{
	return fx.heap->control->lock.n_acquisitions;
}

uint64_t share(uint64_t ref)
{
	MUST(S0, name_set(S0, "shared", ref));
	MUST(S0, name_del(S0, "shared"));
	ck_assert_uint_eq(ref_header(ref)->rights, RIGHTS_SHARED);
	return ref;
}

uint64_t shared(size_t size)
{
	return share(fixture_bytes(S0, size));
}

uint64_t passed_to(struct session *session, size_t size)
{
	uint64_t ref = shared(size);

	MUST(session, object_incref(session, ref));
	fixture_drop(S0, ref);
	return ref;
}

void owner_goes(void)
{
	for (int r = 1; r == 1;) {
		r = session_drop_step(S0, false);
		ck_assert_int_ge(r, 0);
	}
}

void expect_header(uint64_t ref, uint32_t counted, uint32_t biased1)
{
	ck_assert_uint_eq(ref_header(ref)->rights_counted, counted);
	ck_assert_uint_eq(ref_header(ref)->biased1, biased1);
}

void expect_through(const struct session *session)
{
	ck_assert_uint_eq(intent_kind(session->entry->intent.word), INTENT_NONE);
	ck_assert_uint_ne(session->entry->activity, ACTIVITY_ACTIVE);
}
