// SPDX-License-Identifier: MIT
/*
 * Arenas that come and go, and are adopted, where the kernel allows hardly any mapping more (vm.max_map_count)
 */
#include "tests/unit/heap/fixture.h"

#include <sys/mman.h>
#include <unistd.h>

#define SPREAD_ARENA (UINT32_C(64) << 10)
#define SPREAD       256U

static const struct heap_geometry spread_geometry = {
	.heap_size = (uint64_t)SPREAD * SPREAD_ARENA, .arena_size = SPREAD_ARENA, .n_sessions = 8};

static void set_up_spread(void)
{
	fixture_open_geometry(&spread_geometry);
}

/* Take all of the mappings that this process may have but n: pages that the kernel cannot put together. */
static void leave_mappings(unsigned int n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n_pages = 1 << 18, i;
	uint8_t *p = mmap(NULL, n_pages * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	for (i = 1; i < n_pages && mprotect(p + i * page, page, PROT_READ) == 0; i += 2)
		;
	ck_assert_int_eq(errno, ENOMEM); /* there was nothing of it for a machine that allows more */
	for (; n > 0; n--, i -= 2)
		ck_assert_int_eq(munmap(p + (i - 2) * page, 2 * page), 0);
}

static uint32_t map_one(uint32_t session)
{
	uint32_t head, n_done = 0;

	ck_assert_int_eq(supply_reserve(fx.heap, session, 1, &head), 0);
	ck_assert_int_eq(supply_map_step(fx.heap, head, 1, &n_done), 1);
	return head;
}

/* What is granted to the session goes back, however it lies. */
static void take_back(uint32_t session, uint32_t n_expected)
{
	uint32_t head, n_done, n = 0;

	while (supply_pick_granted(&fx.daemon, session, false, &head) > 0) {
		n_done = 0;
		ck_assert_int_eq(supply_unmap_step(fx.heap, head, 1, &n_done), 1);
		n++;
	}
	ck_assert_uint_eq(n, n_expected);
}

/* Every second arena goes and comes again, when nearly no mapping more is allowed: all of the memory goes back. */
START_TEST(returned_without_mappings)
{
	for (uint32_t i = 0; i < SPREAD; i++)
		ck_assert_uint_eq(map_one(i % 2), i);
	leave_mappings(20);
	take_back(1, SPREAD / 2);
	ck_assert_uint_eq(fixture_heap_bytes(), SPREAD / 2 * SPREAD_ARENA);
	for (uint32_t i = 0; i < SPREAD / 2; i++) {
		uint32_t head = map_one(1);

		ck_assert_uint_eq(head, 2 * i + 1);
		ck_assert_uint_eq(fx.heap->base[(uint64_t)head * SPREAD_ARENA], 0);
		fx.heap->base[(uint64_t)head * SPREAD_ARENA] = 1;
	}
	take_back(0, SPREAD / 2);
	take_back(1, SPREAD / 2);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

/* The next daemon may have as few. */
START_TEST(adopted_without_mappings)
{
	struct heap *heap;
	int control_fd, heap_fd;

	for (uint32_t i = 0; i < SPREAD; i++)
		map_one(i % 2);
	take_back(1, SPREAD / 2);
	for (uint32_t i = 0; i < SPREAD; i += 2)
		fx.heap->base[(uint64_t)i * SPREAD_ARENA] = (uint8_t)i;
	control_fd = dup(fx.heap->control_fd);
	heap_fd = dup(fx.heap->heap_fd);
	leave_mappings(20);
	ck_assert_int_eq(heap_adopt(&heap, control_fd, heap_fd), 0);
	for (uint32_t i = 0; i < SPREAD; i += 2)
		ck_assert_uint_eq(heap->base[(uint64_t)i * SPREAD_ARENA], (uint8_t)i);
	heap_free(heap);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("supply mappings");
	TCase *t = tcase_create("supply mappings");

	tcase_add_checked_fixture(t, set_up_spread, fixture_close);
	tcase_add_test(t, returned_without_mappings);
	tcase_add_test(t, adopted_without_mappings);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
