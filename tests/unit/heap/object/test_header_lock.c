// SPDX-License-Identifier: MIT
/* Header locks: what a dead session leaves locked, and what locking a header records for the intents of others */
#include "heap/change/intent.h"
#include "heap/object/header_lock.h"
#include "heap/shared/critical.h"
#include "tests/unit/heap/fixture_count.h"

#include <signal.h>
#include <stdio.h>
#include <ucontext.h>

/* A session died with a header locked, after its commit: the next call under the lock unlocks the header. */
START_TEST(left_locked_by_the_dead)
{
	uint64_t ref = shared(40);

	ref_header(ref)->rights_counted |= RIGHTS_LOCKED;
	BY_LOCK(object_incref(S1, ref));
	expect_header(ref, COUNTED(1), 0);
	ref_header(ref)->rights_counted |= RIGHTS_LOCKED;
	BY_LOCK(object_decref(S1, ref));
	expect_header(ref, COUNTED(0), 0);
	WITHOUT_LOCK(object_incref(S1, ref));
}
END_TEST

static const struct {
	const char *name; /* for who reads this */
	uint32_t kind;
	int64_t before; /* the intent's position, less what is counted now, in rights; or NOT_KNOWN */
	bool is_of_another, is_biased_to_another;
	bool is_done;
} claims[] = {
#define NOT_KNOWN INT64_MAX
	{"no intent", INTENT_NONE, -1, false, false, false},
	{"to hold, not known yet", INTENT_HOLD, NOT_KNOWN, false, false, false},
	{"to hold, not done", INTENT_HOLD, 0, false, false, false},
	{"to hold, done", INTENT_HOLD, -1, false, false, true},
	{"to drop, not known yet", INTENT_DROP, NOT_KNOWN, false, false, false},
	{"to drop, not done", INTENT_DROP, 0, false, false, false},
	{"to drop, done", INTENT_DROP, 1, false, false, true},
	{"to hold, done, of another object", INTENT_HOLD, -1, true, false, false},
	{"to drop, done, of another object", INTENT_DROP, 1, true, false, false},
	{"to hold, counted, the bias is another's", INTENT_HOLD, -1, false, true, false},
	{"to push", INTENT_PUSH, -1, false, false, false},
	{"to push with a right", INTENT_PUSH_RIGHT, -1, false, false, false},
	{"to push its own", INTENT_PUSH_OWN, -1, false, false, false},
	{"to pop", INTENT_POP, -1, false, false, false},
	{"to pop a right", INTENT_POP_RIGHT, -1, false, false, false},
	{"a right", INTENT_RIGHT, -1, false, false, false},
};

START_TEST(header_lock_records_intents)
{
	uint64_t ref = shared(40), other = shared(40), number;
	struct object_header *header = ref_header(ref);
	struct session_entry *entry = S1->entry;
	uint64_t rights;

	header->rights_counted = COUNTED(3);
	header->rights_given = 2;
	for (int is_committed = 0; is_committed < 2; is_committed++) {
		number = 70 + (uint64_t)is_committed;
		header->biased1 = (uint16_t)(claims[_i].is_biased_to_another ? S2 : S1)->owner1;
		rights = header->rights & ~((uint64_t)UINT16_MAX << 32);
		entry->intent = (struct intent){.ref = claims[_i].is_of_another ? other : ref,
			.queue = ref,
			.position = claims[_i].before == NOT_KNOWN ? INTENT_UNKNOWN : COUNTED(3 + claims[_i].before),
			.word = intent_word(number, claims[_i].kind)};
		S2->entry->intent.ref = ref;
		ck_assert_int_eq(change_begin(S0), 0);
		ck_assert_int_eq(header_lock(S0, header, ref), 0);
		ck_assert_uint_eq(header->rights, rights | RIGHTS_LOCKED);
		ck_assert_int_eq(entry->done_counting == number, claims[_i].is_done);
		entry->done_counting = 0;
		ck_assert_int_eq(header_lock(S0, header, ref), 0); /* the cleared intent is not read again */
		ck_assert_uint_eq(entry->done_counting, 0);
		ck_assert_int_eq(change_end(S0, is_committed ? 0 : -EIO), is_committed ? 0 : -EIO);
		ck_assert_uint_eq(header->rights, rights);
		ck_assert_uint_eq(S2->entry->done_counting, 0);
		ck_assert_uint_eq(entry->done, 0);
	}
	header->rights = RIGHTS_SHARED;
	entry->intent.word = 0;
	fixture_check();
}
END_TEST

/* A stray write has made the header biased to a session that cannot be. */
START_TEST(header_lock_of_a_wild_bias)
{
	const uint32_t wild[] = {fx.heap->n_sessions, fx.heap->n_sessions + 1, SESSIONS_MAX, SESSIONS_MAX + 1,
		BIAS_UNCOUNTED - 2, BIAS_UNCOUNTED - 1};
	uint64_t ref = shared(40);

	for (uint32_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		ref_header(ref)->biased1 = (uint16_t)wild[i];
		fixture_check();
		ck_assert_int_eq(change_begin(S0), 0);
		ck_assert_int_eq(header_lock(S0, ref_header(ref), ref), 0);
		ck_assert_int_eq(change_end(S0, 0), 0);
		expect_header(ref, COUNTED(0), 0);
		fixture_check();
	}
	for (uint32_t i = 0; i < fx.heap->n_sessions; i++)
		ck_assert_uint_eq(fx.heap->sessions[i].done_counting, 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("header-lock");
	TCase *t = tcase_create("header_lock");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, left_locked_by_the_dead);
	tcase_add_loop_test(t, header_lock_records_intents, 0, (int)(sizeof(claims) / sizeof(claims[0])));
	tcase_add_test(t, header_lock_of_a_wild_bias);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
