// SPDX-License-Identifier: MIT
/* Pages that somebody has made in holes of the heap's files are given back, and nothing else */
#include "heap/change/stray.h"
#include "tests/unit/heap/fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE  4096U
#define ARENA ARENA_SIZE_DEFAULT

/* As a client has it: a part of the window where no arena is. The daemon's own window is not mapped there. */
static struct heap *client;

static void setup(void)
{
	fixture_open();
	client = fixture_attach();
}

static void teardown(void)
{
	heap_free(client);
	fixture_close();
}

static void touch(uint64_t from, uint64_t size)
{
	for (uint64_t off = from; off < from + size; off += PAGE)
		client->base[off] = 1;
}

static uint64_t control_bytes(void)
{
	struct stat st;

	ck_assert_int_eq(fstat(fx.heap->control_fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* All steps. Returns the bytes that were given back. */
static uint64_t sweep(uint32_t *ret_n_steps)
{
	uint64_t n_bytes = 0;
	uint32_t cursor = 0;
	int r;

	*ret_n_steps = 0;
	while ((r = stray_step(fx.heap, &cursor, &n_bytes)) == 1)
		++*ret_n_steps;
	ck_assert_int_eq(r, 0);
	return n_bytes;
}

START_TEST(holes_are_empty_again)
{
	uint64_t small = fixture_bytes(S0, 100), large = fixture_bytes(S0, 3 * ARENA), bytes = fixture_heap_bytes();
	uint32_t n_steps;

	memset(ref_data(small), 1, 100);
	memset(ref_data(large), 2, 3 * ARENA);
	ck_assert_uint_eq(sweep(&n_steps), 0);
	ck_assert_uint_eq(n_steps, 0);
	touch(FIXTURE_HEAP_SIZE / 2, FIXTURE_HEAP_SIZE / 2); /* two steps of it */
	ck_assert_uint_gt(fixture_heap_bytes(), bytes + FIXTURE_HEAP_SIZE / 2 - 1);
	ck_assert_uint_ge(sweep(&n_steps), FIXTURE_HEAP_SIZE / 2);
	ck_assert_uint_gt(n_steps, 1);
	ck_assert_uint_eq(fixture_heap_bytes(), bytes);
	ck_assert_uint_eq(ref_data(small)[99], 1);
	ck_assert_uint_eq(ref_data(large)[3 * ARENA - 1], 2);
	fixture_check();
}
END_TEST

/* A page here and there, between arenas that are there. */
START_TEST(between_arenas)
{
	uint64_t refs[8], bytes;
	uint32_t n_steps;

	for (int i = 0; i < 8; i++)
		refs[i] = fixture_bytes(S0, 2 * ARENA - PAGE);
	for (int i = 0; i < 8; i++)
		memset(ref_data(refs[i]), i + 1, 2 * ARENA - PAGE);
	for (int i = 0; i < 8; i += 2)
		fixture_drop(S0, refs[i]);
	fixture_trim(0);
	bytes = fixture_heap_bytes();
	for (int i = 0; i < 8; i += 2)
		touch(ref_offset(refs[i]) + (uint64_t)i * PAGE, PAGE);
	touch(FIXTURE_HEAP_SIZE - PAGE, PAGE);
	ck_assert_uint_eq(fixture_heap_bytes(), bytes + 5 * PAGE);
	sweep(&n_steps);
	ck_assert_uint_eq(fixture_heap_bytes(), bytes);
	for (int i = 1; i < 8; i += 2)
		ck_assert_int_eq(ref_data(refs[i])[2 * ARENA - PAGE - 1], i + 1);
	fixture_check();
}
END_TEST

/* Entries of arenas that were never known. The entries of those that are known stay. */
START_TEST(entries)
{
	uint64_t ref = fixture_bytes(S0, 100), bytes;
	uint32_t n_steps, known = arenas_known(fx.heap);

	sweep(&n_steps);
	bytes = control_bytes();
	for (uint64_t i = (uint64_t)known * fx.heap->pools_per_arena; i < FIXTURE_HEAP_SIZE >> POOL_SHIFT; i++)
		client->pools[i].run_size = 1;
	ck_assert_uint_gt(control_bytes(), bytes);
	ck_assert_uint_gt(sweep(&n_steps), 0);
	ck_assert_uint_eq(control_bytes(), bytes);
	ck_assert_int_eq(object_refcount(S0, ref), 1);
	fixture_check();
}
END_TEST

/* Memory of an arena that is being mapped is none of it. */
START_TEST(while_an_arena_is_mapped)
{
	uint32_t head, n_done = 0, n_steps;

	ck_assert_int_eq(supply_reserve(fx.heap, 0, 4, &head), 0);
	ck_assert_int_eq(supply_map_step(fx.heap, head, 2, &n_done), 0);
	touch(FIXTURE_HEAP_SIZE / 2, PAGE);
	sweep(&n_steps);
	ck_assert_uint_eq(fixture_heap_bytes(), 2 * ARENA);
	ck_assert_int_eq(supply_map_step(fx.heap, head, 2, &n_done), 1);
	ck_assert_uint_eq(fixture_heap_bytes(), 4 * ARENA);
}
END_TEST

/* What the system does not take back is an error, and is tried again from the start. */
START_TEST(refused)
{
	int fd = fx.heap->heap_fd;
	char path[48];
	uint64_t n_bytes = 0;
	uint32_t cursor = 0, n_steps;

	touch(FIXTURE_HEAP_SIZE / 2, PAGE);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fx.heap->heap_fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fx.heap->heap_fd, 0);
	ck_assert_int_eq(stray_step(fx.heap, &cursor, &n_bytes), -EBADF);
	close(fx.heap->heap_fd);
	fx.heap->heap_fd = fd;
	sweep(&n_steps);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("stray");
	TCase *t = tcase_create("stray");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, holes_are_empty_again);
	tcase_add_test(t, between_arenas);
	tcase_add_test(t, entries);
	tcase_add_test(t, while_an_arena_is_mapped);
	tcase_add_test(t, refused);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
