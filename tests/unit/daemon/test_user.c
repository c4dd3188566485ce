// SPDX-License-Identifier: MIT
/*
 * Accounts of users: one each, gone when unused, with limits that fit the heap
 */
#include "tests/unit/daemon/box.h"

#include "daemon/user.h"

#include <unistd.h>

#define ALICE 1000001
#define BOB   1000002
#define CAROL 1000003

static uint32_t n_accounts(const struct users *all)
{
	const struct user *user;
	uint32_t n = 0;

	TAILQ_FOREACH(user, &all->list, entry)
	n++;
	return n;
}

START_TEST(one_account_each)
{
	struct users all;
	struct user *alice, *bob;

	users_init(&all);
	alice = user_ref(&all, ALICE);
	bob = user_ref(&all, BOB);
	ck_assert(alice && bob && alice != bob);
	ck_assert_ptr_eq(user_ref(&all, ALICE), alice);
	ck_assert_uint_eq(alice->n_refs, 2);
	ck_assert_uint_eq(alice->uid, ALICE);
	ck_assert_uint_eq(n_accounts(&all), 2);
	users_deinit(&all);
	ck_assert_uint_eq(n_accounts(&all), 0);
}
END_TEST

START_TEST(goes_when_unused)
{
	struct users all;
	struct user *alice;

	users_init(&all);
	alice = user_ref(&all, ALICE);
	ck_assert_ptr_eq(user_ref(&all, ALICE), alice);
	user_unref(alice);
	user_unref(user_ref(&all, BOB)); /* the account of ALICE is still in use */
	ck_assert_ptr_eq(user_ref(&all, ALICE), alice);
	user_unref(alice);
	ck_assert_ptr_null(user_unref(alice));
	ck_assert_ptr_null(user_unref(NULL));
	user_ref(&all, CAROL); /* whose account is made when nobody refers to the two others */
	ck_assert_uint_eq(n_accounts(&all), 1);
	ck_assert_uint_eq(TAILQ_FIRST(&all.list)->uid, CAROL);
	users_deinit(&all);
}
END_TEST

/* An account that was forgotten would be logged anew with each connection. */
START_TEST(is_named_once)
{
	struct users all;
	struct user *alice, *bob;

	users_init(&all);
	alice = user_ref(&all, ALICE);
	bob = user_ref(&all, BOB);
	ck_assert(user_note_limit(alice));
	user_unref(alice);
	user_ref(&all, CAROL);
	ck_assert_ptr_eq(TAILQ_FIRST(&all.list), alice);
	ck_assert(user_note_limit(bob)); /* each user has a line of its own */
	alice->said_ms -= 3600 * 1000;   /* an hour ago */
	ck_assert(user_note_limit(alice));
	users_deinit(&all);
}
END_TEST

START_TEST(limits)
{
	static const struct user_limits nothing,
		some = {.n_connections = 3, .n_sessions = 5, .n_arenas = 7, .n_types = 9};
	struct users all;

	users_init(&all);
	ck_assert_uint_eq(all.limits.n_sessions, UINT32_MAX);
	ck_assert_uint_eq(all.limits.n_types, UINT32_MAX);

	users_set_limits(&all, &nothing, 512, 1000);
	ck_assert_uint_eq(all.limits.n_sessions, 256);
	ck_assert_uint_eq(all.limits.n_connections, 256 + 16);
	ck_assert_uint_eq(all.limits.n_arenas, 500);
	ck_assert_uint_eq(all.limits.n_types, 512);

	users_set_limits(&all, &nothing, 1, 1); /* nobody's limit is 0 */
	ck_assert_uint_eq(all.limits.n_sessions, 1);
	ck_assert_uint_eq(all.limits.n_arenas, 1);

	users_set_limits(&all, &some, 512, 1000);
	ck_assert_uint_eq(all.limits.n_connections, 3);
	ck_assert_uint_eq(all.limits.n_sessions, 5);
	ck_assert_uint_eq(all.limits.n_arenas, 7);
	ck_assert_uint_eq(all.limits.n_types, 9);
	users_deinit(&all);
}
END_TEST

START_TEST(who_is_trusted)
{
	ck_assert(user_is_trusted(0));
	ck_assert(user_is_trusted(geteuid()));
	ck_assert(!user_is_trusted(geteuid() == ALICE ? BOB : ALICE));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon user");
	TCase *t = tcase_create("user");

	tcase_add_test(t, one_account_each);
	tcase_add_test(t, goes_when_unused);
	tcase_add_test(t, is_named_once);
	tcase_add_test(t, limits);
	tcase_add_test(t, who_is_trusted);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return box_main(suite);
}
