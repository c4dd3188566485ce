// SPDX-License-Identifier: MIT
/*
 * The geometry of a heap: what is allowed, every arena size, the hash of the layout
 */
#include "tests/unit/heap/fixture.h"

#include <dirent.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct heap_geometry small = {.heap_size = 1 << 20, .arena_size = ARENA_SIZE_DEFAULT, .n_sessions = 4};

START_TEST(geometry)
{
	static const struct {
		struct heap_geometry geometry;
		int r;
	} cases[] = {
		{{1 << 20, 256 << 10, 4}, 0},
		{{0, 256 << 10, 4}, -EINVAL},
		{{256 << 10, 256 << 10, 1}, 0},
		{{128 << 10, 256 << 10, 1}, -EINVAL},
		{{(1 << 20) + 4096, 256 << 10, 4}, -EINVAL},
		{{1 << 20, 0, 4}, -EINVAL},
		{{1 << 20, 32 << 10, 4}, -EINVAL},
		{{1 << 20, ARENA_SIZE_MIN, 4}, 0},
		{{8 << 20, ARENA_SIZE_MAX, 4}, 0},
		{{16 << 20, ARENA_SIZE_MAX * 2, 4}, -EINVAL},
		{{3 << 18, 3 << 18, 4}, -EINVAL}, /* no power of two */
		{{1 << 20, 256 << 10, 0}, -EINVAL},
		{{1 << 20, 256 << 10, SESSIONS_MAX}, 0},
		{{1 << 20, 256 << 10, SESSIONS_MAX + 1}, -EINVAL},
		{{1 << 20, 256 << 10, UINT32_MAX}, -EINVAL},
		{{HEAP_SIZE_MAX, 256 << 10, 4}, 0},
		{{HEAP_SIZE_MAX + (256 << 10), 256 << 10, 4}, -EINVAL},
		{{UINT64_MAX, 256 << 10, 4}, -EINVAL},
		{{UINT64_C(1) << 63, 256 << 10, 4}, -EINVAL},
	};
	int control_fd = memfd_create("c", MFD_CLOEXEC), heap_fd = memfd_create("h", MFD_CLOEXEC);
	struct heap *heap = (struct heap *)&small;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ck_assert_int_eq(geometry_check(&cases[i].geometry), cases[i].r);
		if (cases[i].r)
			ck_assert_int_eq(heap_create(&heap, control_fd, heap_fd, "x", &cases[i].geometry), cases[i].r);
	}
	ck_assert_ptr_eq(heap, &small);
	close(control_fd); /* heap_create() closes them in no case */
	close(heap_fd);
}
END_TEST

/* Every arena size, with objects of all kinds in it. */
START_TEST(arena_sizes)
{
	const struct heap_geometry g = {24 * (uint64_t)ARENA_SIZE_MIN << _i, ARENA_SIZE_MIN << _i, 8};
	uint64_t refs[40];

	fixture_open_geometry(&g);
	ck_assert_uint_eq(fx.heap->n_arenas, g.heap_size / g.arena_size);
	ck_assert_uint_eq(fx.heap->pools_per_arena, g.arena_size / POOL_SIZE);
	for (uint32_t i = 0; i < 40; i++) {
		size_t size = i < 20 ? 1 + i * 25 : i < 35 ? 700 + (i - 20) * 4000 : g.arena_size / 2 * (i - 34);

		refs[i] = fixture_bytes(S0, size);
		memset(ref_data(refs[i]), (int)i, size);
	}
	for (uint32_t i = 0; i < 40; i++) {
		struct object object;

		ck_assert_int_eq(object_lookup(S0, refs[i], &object), 0);
		for (uint64_t k = 0; k < object.size; k += 100)
			ck_assert_uint_eq(object.data[k], i);
		fixture_drop(S0, refs[i]);
	}
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
	fixture_close();
}
END_TEST

START_TEST(hash_is_of_this_layout)
{
	ck_assert_uint_eq(layout_hash(), layout_hash());
	ck_assert_uint_eq(layout_hash(), fx.heap->control->layout_hash);
	ck_assert_uint_ne(layout_hash(), 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("geometry");
	TCase *t = tcase_create("geometry"), *u = tcase_create("fixture_open");

	tcase_add_test(t, geometry);
	tcase_add_loop_test(t, arena_sizes, 0, 7);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(u, fixture_open, fixture_close);
	tcase_add_test(u, hash_is_of_this_layout);
	suite_add_tcase(s, u);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
