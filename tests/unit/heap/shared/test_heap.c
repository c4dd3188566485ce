// SPDX-License-Identifier: MIT
/*
 * Heaps made, attached and adopted, and everything that is no heap refused
 */
#include "tests/unit/heap/fixture.h"

#include <dirent.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct heap_geometry small = {.heap_size = 1 << 20, .arena_size = ARENA_SIZE_DEFAULT, .n_sessions = 4};

static int n_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Making. */

/* Files that had something else in them, as those of a heap whose making was not finished. */
START_TEST(made_in_used_files)
{
	int control_fd = memfd_create("c", MFD_CLOEXEC), heap_fd = memfd_create("h", MFD_CLOEXEC);
	static const char rubbish[100000] = {1, 2, 3};
	struct heap *heap;

	ck_assert_int_eq(write(control_fd, rubbish, sizeof(rubbish)), sizeof(rubbish));
	ck_assert_int_eq(write(heap_fd, rubbish, sizeof(rubbish)), sizeof(rubbish));
	ck_assert_int_eq(heap_create(&heap, control_fd, heap_fd, "used", &small), 0);
	ck_assert_str_eq(heap->control->heap_name, "used");
	ck_assert_uint_eq(heap->control->n_arenas_known, 0);
	heap_free(heap);
}
END_TEST

START_TEST(two_heaps_differ)
{
	uint8_t id[16], key[16];

	fixture_open();
	memcpy(id, fx.heap->control->heap_id, 16);
	memcpy(key, fx.heap->control->name_key, 16);
	fixture_close();
	fixture_open();
	ck_assert_int_ne(memcmp(id, fx.heap->control->heap_id, 16), 0);
	ck_assert_int_ne(memcmp(key, fx.heap->control->name_key, 16), 0);
	fixture_close();
}
END_TEST

START_TEST(freed_without_a_trace)
{
	int n = n_descriptors();

	for (int i = 0; i < 5; i++) {
		struct heap *client;

		fixture_open();
		client = fixture_attach();
		ck_assert_ptr_null(heap_free(client));
		fixture_close();
	}
	ck_assert_ptr_null(heap_free(NULL));
	ck_assert_int_eq(n_descriptors(), n);
}
END_TEST

/* The largest window that this process can have; valgrind's are smaller than the machine's. */
static uint64_t largest_window(void)
{
	for (uint64_t size = HEAP_SIZE_MAX;; size /= 2) {
		void *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (p != MAP_FAILED) {
			munmap(p, size);
			return size;
		}
	}
}

/* A heap of the largest size takes only the memory of what is in it. */
START_TEST(largest_heap)
{
	struct stat st;
	uint64_t ref;

	fixture_open_geometry(&(struct heap_geometry){largest_window(), ARENA_SIZE_MAX, 4});
	ref = fixture_bytes(S0, 100);
	*ref_data(ref) = 1;
	ck_assert_uint_eq(fixture_heap_bytes(), ARENA_SIZE_MAX);
	ck_assert_int_eq(fstat(fx.heap->control_fd, &st), 0);
	ck_assert_int_lt(st.st_blocks * 512, 4 << 20);
	fixture_close();
}
END_TEST

/* Attaching. */

/* What is made through one mapping is seen through the other. */
START_TEST(two_mappings)
{
	struct heap *client = fixture_attach();
	struct session mine;
	struct object object;
	uint64_t ref, other, list, got;

	ck_assert_ptr_ne(client->base, fx.heap->base);
	session_init(&mine, client, 1);
	ref = fixture_bytes(S0, 100);
	strcpy((char *)ref_data(ref), "made by the one");
	ck_assert_int_eq(object_lookup(&mine, ref, &object), 0);
	ck_assert_ptr_eq(object.data, client->base + ref_offset(ref));
	ck_assert_str_eq((char *)object.data, "made by the one");
	/* also in memory that is mapped after the client came */
	MUST(&mine, object_new(&mine, TYPE_BYTES, 3 * ARENA_SIZE_DEFAULT, &other));
	ck_assert_int_eq(object_lookup(&mine, other, &object), 0);
	object.data[3 * ARENA_SIZE_DEFAULT - 1] = 77;
	ck_assert_uint_eq(ref_data(other)[3 * ARENA_SIZE_DEFAULT - 1], 77);
	MUST(&mine, object_incref(&mine, ref));
	list = fixture_list(S0, 1);
	MUST(&mine, list_set(&mine, list, 0, other));
	MUST(S0, list_get(S0, list, 0, &got));
	ck_assert_uint_eq(got, other);
	fixture_drop(S0, ref);
	ck_assert_int_eq(object_decref(&mine, ref), 0);
	ck_assert_int_eq(heap_check(&mine, NULL, NULL), 0);
	heap_free(client);
}
END_TEST

/* What is refused. */

/* Try to attach copies of the control file's first bytes and of a heap file of that size; both ways give the same. */
static int try_attach(const void *control, size_t size, uint64_t control_size, uint64_t heap_size)
{
	int control_fd = memfd_create("c", MFD_CLOEXEC), heap_fd = memfd_create("h", MFD_CLOEXEC);
	int n_before = n_descriptors();
	struct heap *heap = NULL;
	int r, adopted;

	ck_assert_int_eq(pwrite(control_fd, control, size, 0), (ssize_t)size);
	ck_assert_int_eq(ftruncate(control_fd, (off_t)control_size), 0);
	ck_assert_int_eq(ftruncate(heap_fd, (off_t)heap_size), 0);
	r = heap_attach(&heap, control_fd, heap_fd);
	if (r) {
		ck_assert_ptr_null(heap);
		adopted = heap_adopt(&heap, control_fd, heap_fd);
		ck_assert_int_eq(adopted, r);
		ck_assert_ptr_null(heap);
		ck_assert_int_eq(n_descriptors(), n_before);
		close(control_fd);
		close(heap_fd);
	} else {
		heap_free(heap);
	}
	return r;
}

static int try_control(const struct control *control)
{
	return try_attach(control, sizeof(*control), fx.heap->control_size, fx.heap->heap_size);
}

START_TEST(refused)
{
	const uint64_t size = fx.heap->control_size, heap_size = fx.heap->heap_size;
	struct control *c = malloc(sizeof(*c));
	uint64_t text;

	ck_assert_ptr_nonnull(c);
	*c = *fx.heap->control;
	ck_assert_int_eq(try_control(c), 0); /* the copy itself is one */

	c->magic = 0;
	ck_assert_int_eq(try_control(c), -ENODATA);
	memcpy(&text,
		"\x7f"
		"ELF\2\1\1\0",
		sizeof(text));
	c->magic = text;
	ck_assert_int_eq(try_control(c), -EMEDIUMTYPE);
	*c = *fx.heap->control;
	c->version = LAYOUT_VERSION + 1;
	ck_assert_int_eq(try_control(c), -EPROTONOSUPPORT);
	*c = *fx.heap->control;
	c->layout_hash ^= 1;
	ck_assert_int_eq(try_control(c), -EPROTONOSUPPORT);
	*c = *fx.heap->control;

	/* cut files, and such that are too long */
	ck_assert_int_eq(try_attach(c, 0, 0, heap_size), -ENODATA);
	ck_assert_int_eq(try_attach(c, 100, 100, heap_size), -EUCLEAN);
	ck_assert_int_eq(try_attach(c, sizeof(*c), sizeof(*c), heap_size), -EUCLEAN);
	ck_assert_int_eq(try_attach(c, sizeof(*c), size - 1, heap_size), -EUCLEAN);
	ck_assert_int_eq(try_attach(c, sizeof(*c), size + 4096, heap_size), -EUCLEAN);
	ck_assert_int_eq(try_attach(c, sizeof(*c), size, 0), -EUCLEAN);
	ck_assert_int_eq(try_attach(c, sizeof(*c), size, heap_size - 4096), -EUCLEAN);
	ck_assert_int_eq(try_attach(c, sizeof(*c), size, heap_size + 4096), -EUCLEAN);

	/* another heap's geometry, in itself possible */
	c->heap_size *= 2;
	ck_assert_int_eq(try_control(c), -EUCLEAN);
	ck_assert_int_eq(try_attach(c, sizeof(*c), size, 2 * heap_size), -EUCLEAN);
	*c = *fx.heap->control;
	c->n_sessions++;
	ck_assert_int_eq(try_control(c), -EUCLEAN);
	*c = *fx.heap->control;
	c->n_arenas_known = c->n_arenas + 1; /* what any client can write there keeps nobody out */
	ck_assert_int_eq(try_control(c), 0);
	free(c);
}
END_TEST

/* Bytes of the header that may be anything: random identity, names, who made it, what is reserved, a flag. */
static bool any_byte_will_do(size_t i)
{
	static const struct {
		size_t offset, size;
	} free_ones[] = {
		{offsetof(struct control, reserved0), 4},
		{offsetof(struct control, reserved4), 4},
		{offsetof(struct control, heap_id), 16},
		{offsetof(struct control, name_key), 16},
		{offsetof(struct control, heap_name), 64},
		{offsetof(struct control, pid_namespace), 8},
		{offsetof(struct control, clock_ms), 4},
		{offsetof(struct control, reserved5), 4},
		{offsetof(struct control, reserved1), 8},
		{offsetof(struct control, ended), 8},
		{offsetof(struct control, n_arenas_known), 4},
		{offsetof(struct control, reserved2), 64},
	};

	for (size_t k = 0; k < sizeof(free_ones) / sizeof(free_ones[0]); k++)
		if (i >= free_ones[k].offset && i < free_ones[k].offset + free_ones[k].size)
			return true;
	return i >= offsetof(struct control, n_arenas_known) + 4; /* padding behind the header */
}

START_TEST(every_byte_of_the_header)
{
	static const uint8_t flips[] = {0x01, 0x80, 0xff};
	struct control *c = malloc(sizeof(*c));

	ck_assert_ptr_nonnull(c);
	for (size_t i = 0; i < offsetof(struct control, counters); i++) {
		for (size_t k = 0; k < sizeof(flips); k++) {
			int r;

			*c = *fx.heap->control;
			((uint8_t *)c)[i] ^= flips[k];
			r = try_control(c);
			if (any_byte_will_do(i))
				ck_assert_int_eq(r, 0);
			else
				ck_assert_msg(r == -EMEDIUMTYPE || r == -EPROTONOSUPPORT || r == -EUCLEAN,
					"byte %zu flipped by %#x gives %d", i, flips[k], r);
		}
	}
	free(c);
}
END_TEST

START_TEST(random_headers)
{
	struct control *c = malloc(sizeof(*c));

	ck_assert_ptr_nonnull(c);
	fixture_seed();
	for (uint64_t n = fixture_ops(2000); n-- > 0;) {
		*c = *fx.heap->control;
		for (size_t i = sizeof(c->magic) + sizeof(c->version) + 12; i < offsetof(struct control, counters);
			i += 4)
			if (fixture_below(4) == 0)
				memcpy((uint8_t *)c + i, &(uint32_t){(uint32_t)fixture_random() >> fixture_below(32)},
					4);
		(void)try_control(c); /* any result will do; it must not crash */
	}
	free(c);
}
END_TEST

/* Descriptors that are no files at all, or closed. */
START_TEST(no_files)
{
	struct heap *heap = NULL;
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_lt(heap_attach(&heap, -1, -1), 0);
	ck_assert_int_lt(heap_attach(&heap, 12345, 12345), 0);
	ck_assert_int_lt(heap_attach(&heap, fds[0], fds[1]), 0);
	ck_assert_int_lt(heap_attach(&heap, fx.heap->control_fd, fds[1]), 0);
	ck_assert_int_lt(heap_adopt(&heap, fx.heap->control_fd, -1), 0);
	ck_assert_int_lt(heap_create(&heap, fds[0], fds[1], "x", &small), 0);
	ck_assert_ptr_null(heap);
	close(fds[0]);
	close(fds[1]);
	/* the two exchanged */
	ck_assert_int_lt(heap_attach(&heap, fx.heap->heap_fd, fx.heap->control_fd), 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("heap");
	TCase *t = tcase_create("heap"), *u = tcase_create("fixture_open");

	tcase_add_test(t, made_in_used_files);
	tcase_add_test(t, two_heaps_differ);
	tcase_add_test(t, freed_without_a_trace);
	tcase_add_test(t, largest_heap);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(u, fixture_open, fixture_close);
	tcase_add_test(u, two_mappings);
	tcase_add_test(u, refused);
	tcase_add_test(u, every_byte_of_the_header);
	tcase_add_test(u, random_headers);
	tcase_add_test(u, no_files);
	suite_add_tcase(s, u);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
