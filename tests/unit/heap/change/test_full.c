// SPDX-License-Identifier: MIT
/* A session knows that the heap is full without asking, and never when there is room or may be */
#include "heap/change/full.h"
#include "tests/unit/heap/fixture.h"

#include <unistd.h>

#define ARENA ARENA_SIZE_DEFAULT

/* As the daemon, when a request for a run of n arenas finds no room. */
static void refuse(uint32_t n)
{
	uint32_t head;

	ck_assert_int_eq(supply_reserve(fx.heap, 0, n, &head), -ENOMEM);
	full_begins(fx.heap, n);
}

/* All arenas but n at the end are in use. */
static uint64_t fill_but(uint32_t n)
{
	return fixture_bytes(S0, FIXTURE_HEAP_SIZE - (uint64_t)n * ARENA);
}

START_TEST(not_before_it_is_said)
{
	for (uint32_t n = 0; n < 3; n++)
		ck_assert(!supply_is_full(fx.heap, n));
	fill_but(0);
	ck_assert(!supply_is_full(fx.heap, 1));
	refuse(1);
	ck_assert(supply_is_full(fx.heap, 1));
	ck_assert(supply_is_full(fx.heap, 100));
}
END_TEST

/* Shorter runs than the one that was refused may have room. */
START_TEST(by_length)
{
	fill_but(2);
	refuse(4);
	ck_assert(supply_is_full(fx.heap, 5));
	ck_assert(supply_is_full(fx.heap, 4));
	ck_assert(!supply_is_full(fx.heap, 3));
	refuse(5);
	ck_assert(supply_is_full(fx.heap, 4));
	refuse(3);
	ck_assert(supply_is_full(fx.heap, 3));
	ck_assert(!supply_is_full(fx.heap, 2));
}
END_TEST

/* From the object to the hole: at no moment is it full. */
START_TEST(room_comes)
{
	uint64_t ref;
	uint32_t head, n_done = 0;

	fill_but(4);
	ref = fixture_bytes(S0, 4 * ARENA);
	refuse(1);
	ck_assert(supply_is_full(fx.heap, 1));
	fixture_drop(S0, ref);
	ck_assert(!supply_is_full(fx.heap, 1));
	ck_assert_int_eq(supply_pick_returning(&fx.daemon, 0, &head), 1);
	ck_assert(!supply_is_full(fx.heap, 1));
	ck_assert_int_eq(supply_unmap_step(fx.heap, head, 2, &n_done), 0);
	ck_assert(!supply_is_full(fx.heap, 1));
	ck_assert_int_eq(supply_unmap_step(fx.heap, head, 2, &n_done), 1);
	ck_assert(!supply_is_full(fx.heap, 1));
	fixture_bytes(S0, 4 * ARENA);
	ck_assert(!supply_is_full(fx.heap, 1));
	refuse(1);
	ck_assert(supply_is_full(fx.heap, 1));
}
END_TEST

/* What was granted and not accepted goes back. */
START_TEST(a_grant_goes_back)
{
	uint32_t head, n_done = 0;

	fill_but(1);
	ck_assert_int_eq(supply_reserve(fx.heap, 1, 1, &head), 0);
	ck_assert_int_eq(supply_map_step(fx.heap, head, 1, &n_done), 1);
	refuse(1);
	ck_assert_int_eq(supply_pick_granted(&fx.daemon, 1, false, &head), 1);
	n_done = 0;
	ck_assert_int_eq(supply_unmap_step(fx.heap, head, 1, &n_done), 1);
	ck_assert(!supply_is_full(fx.heap, 1));
}
END_TEST

/* The next daemon has not said so. */
START_TEST(another_daemon)
{
	struct heap *heap;

	fill_but(0);
	refuse(1);
	ck_assert_int_eq(heap_adopt(&heap, dup(fx.heap->control_fd), dup(fx.heap->heap_fd)), 0);
	supply_adopt_all(heap);
	ck_assert(!supply_is_full(heap, 1));
	full_begins(heap, 1);
	ck_assert(supply_is_full(heap, 1));
	heap_free(heap);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("full");
	TCase *t = tcase_create("full");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, not_before_it_is_said);
	tcase_add_test(t, by_length);
	tcase_add_test(t, room_comes);
	tcase_add_test(t, a_grant_goes_back);
	tcase_add_test(t, another_daemon);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
