// SPDX-License-Identifier: MIT
/*
 * The shared memory objects of a named heap: made, adopted, made anew, refused, removed
 */
#include "tests/unit/daemon/box.h"

#include "daemon/store.h"
#include "heap/shared/critical.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static struct options options;
static struct store store;
static struct heap *heap;
static bool adopted;

static void set_up(void)
{
	box_catch_log();
	options =
		(struct options){.geometry = {.heap_size = 4 * MIB, .arena_size = ARENA_SIZE_DEFAULT, .n_sessions = 8}};
	snprintf(options.name, sizeof(options.name), "%s", box_heap_name());
	ck_assert_int_eq(store_remove(&options), 0); /* what a failed test has left */
}

static int open_store(void)
{
	heap = NULL;
	return store_open(&store, &options, &heap, &adopted);
}

/* As a daemon that ends and leaves the heap. */
static void close_store(void)
{
	heap = heap_free(heap);
	store_close(&store);
}

static void make_and_leave(void)
{
	ck_assert_int_eq(open_store(), 0);
	ck_assert(!adopted);
	close_store();
}

static bool is_there(const char *path)
{
	return access(path, F_OK) == 0;
}

/* As a daemon of before there was such a file would have left it. */
static void forget_truth(void)
{
	ck_assert_int_eq(unlink(store.truth_path), 0);
}

static void overwrite(const char *path, const void *bytes, size_t n, size_t offset)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, bytes, n, (off_t)offset), (ssize_t)n);
	close(fd);
}

START_TEST(made_and_adopted)
{
	struct stat st;
	uint8_t id[16];

	ck_assert_int_eq(open_store(), 0);
	ck_assert(!adopted);
	ck_assert_uint_eq(heap->heap_size, 4 * MIB);
	ck_assert_uint_eq(heap->n_sessions, 8);
	ck_assert_int_eq(stat(store.control_path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	ck_assert_int_eq(stat(store.truth_path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	ck_assert_int_eq(stat(store.heap_path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	ck_assert_int_eq(st.st_size, 4 * MIB);
	memcpy(id, heap->control->heap_id, sizeof(id));
	close_store();

	options.geometry.heap_size = 8 * MIB;
	options.geometry.n_sessions = 9;
	ck_assert_int_eq(open_store(), 0);
	ck_assert(adopted);
	ck_assert_mem_eq(id, heap->control->heap_id, sizeof(id));
	ck_assert_uint_eq(heap->heap_size, 4 * MIB);
	ck_assert(box_logged("stays at 4 MiB"));
	store_unlink(&store);
	ck_assert(!is_there(store.control_path) && !is_there(store.heap_path) && !is_there(store.truth_path));
	close_store();
}
END_TEST

/* What a client has written there does not matter: the heap is adopted, and is what it was. */
START_TEST(scribbled)
{
	const uint64_t words[] = {0, 1, ~UINT64_C(0)};
	uint8_t id[16];

	ck_assert_int_eq(open_store(), 0);
	memcpy(id, heap->control->heap_id, sizeof(id));
	close_store();
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		for (size_t off = 0; off < offsetof(struct control, counters); off += 8) {
			overwrite(store.control_path, &words[i], 8, off);
			ck_assert_int_eq(open_store(), 0);
			ck_assert(adopted);
			ck_assert_uint_eq(heap->heap_size, 4 * MIB);
			ck_assert_mem_eq(id, heap->control->heap_id, sizeof(id));
			ck_assert_uint_eq(heap->control->magic, LAYOUT_MAGIC);
			ck_assert_uint_eq(heap->control->ended, 0);
			close_store();
		}
	ck_assert_int_eq(store_remove(&options), 0);
}
END_TEST

/* The daemon's file is of another heap, cut, or empty: as if there were none. */
START_TEST(another_truth)
{
	const uint64_t inode = 4711;
	struct stat st;

	make_and_leave();
	ck_assert_int_eq(stat(store.truth_path, &st), 0);
	overwrite(store.truth_path, &inode, 8, offsetof(struct truth_head, files.heap_ino));
	for (off_t size = st.st_size; size >= 0; size = size > 4096 ? size - 4096 : size - 1 - size / 2) {
		ck_assert_int_eq(truncate(store.truth_path, size), 0);
		ck_assert_int_eq(open_store(), 0);
		ck_assert(adopted);
		ck_assert(box_logged("is believed this once"));
		close_store();
		ck_assert_int_eq(stat(store.truth_path, &st), 0);
		ck_assert_int_eq(open_store(), 0); /* it was made whole */
		ck_assert(!box_logged("is believed this once"));
		close_store();
	}
	ck_assert_int_eq(store_remove(&options), 0);
}
END_TEST

START_TEST(one_daemon_a_name)
{
	struct store other;
	struct heap *other_heap = NULL;
	bool other_adopted;

	ck_assert_int_eq(open_store(), 0);
	ck_assert_int_eq(store_open(&other, &options, &other_heap, &other_adopted), -EADDRINUSE);
	ck_assert(box_logged("another pyheapd serves the heap"));
	ck_assert_int_eq(store_remove(&options), -EADDRINUSE);
	ck_assert(is_there(store.control_path) && is_there(store.heap_path));
	store_unlink(&store);
	close_store();
}
END_TEST

/* Whatever a daemon left that died while it made or removed its heap: a new heap is made. */
START_TEST(leftovers)
{
	const uint64_t none = 0;
	ino_t inode;
	struct stat st;

	make_and_leave();
	overwrite(store.control_path, &none, sizeof(none), offsetof(struct control, magic));
	forget_truth();
	make_and_leave();

	ck_assert_int_eq(open_store(), 0);
	ck_assert(adopted);
	critical_end(heap);
	close_store();
	ck_assert_int_eq(stat(store.control_path, &st), 0);
	inode = st.st_ino;
	ck_assert_int_eq(open_store(), 0);
	ck_assert(!adopted);
	ck_assert(!heap_is_ended(heap));
	ck_assert_int_eq(stat(store.control_path, &st), 0);
	ck_assert_uint_ne(st.st_ino, inode); /* who has the old one mapped keeps the old one */
	critical_end(heap);
	close_store();
	unlink(store.heap_path); /* between the two unlinks */
	make_and_leave();

	unlink(store.control_path);
	make_and_leave();
	ck_assert_int_eq(truncate(store.control_path, 0), 0);
	make_and_leave();
	ck_assert_int_eq(store_remove(&options), 0);
}
END_TEST

START_TEST(refused)
{
	const uint64_t magic = 1;
	const uint32_t version = 9999;

	make_and_leave();
	overwrite(store.truth_path, &version, sizeof(version), offsetof(struct truth_head, layout_hash));
	ck_assert_int_eq(open_store(), -EPROTONOSUPPORT);
	ck_assert(box_logged("another version"));
	forget_truth();
	overwrite(store.control_path, &version, sizeof(version), offsetof(struct control, version));
	ck_assert_int_eq(open_store(), -EPROTONOSUPPORT);
	ck_assert(box_logged("another version"));
	overwrite(store.control_path, &magic, sizeof(magic), offsetof(struct control, magic));
	ck_assert_int_eq(open_store(), -EMEDIUMTYPE);
	ck_assert(box_logged("--remove"));
	ck_assert_int_eq(store_remove(&options), 0);

	make_and_leave();
	forget_truth();
	ck_assert_int_eq(truncate(store.heap_path, 1 << 20), 0);
	ck_assert_int_eq(open_store(), -EUCLEAN);
	ck_assert(box_logged("damaged or cut short"));
	ck_assert_int_eq(unlink(store.heap_path), 0);
	ck_assert_int_eq(open_store(), -EUCLEAN);
	ck_assert(box_logged("other half is missing"));
	ck_assert_int_eq(mkdir(store.heap_path, 0700), 0);
	ck_assert_int_lt(open_store(), 0);
	ck_assert_int_eq(rmdir(store.heap_path), 0);
	ck_assert(is_there(store.control_path)); /* what is refused is left alone */
	ck_assert_int_eq(store_remove(&options), 0);
	ck_assert(!is_there(store.control_path));
}
END_TEST

/* A failed daemon gives the name up. */
START_TEST(refused_and_free)
{
	options.geometry.heap_size = UINT64_C(1) << 62;
	ck_assert_int_eq(open_store(), -ENOSPC);
	ck_assert(box_logged("more than /dev/shm can hold"));
	ck_assert(!is_there(store.control_path) && !is_there(store.heap_path));
	options.geometry.heap_size = 4 * MIB;
	make_and_leave();
	ck_assert_int_eq(store_remove(&options), 0);
}
END_TEST

/* Half of what /dev/shm can hold, in whole arenas. */
START_TEST(default_size)
{
	options.geometry.heap_size = 0;
	options.geometry.arena_size = ARENA_SIZE_MAX;
	ck_assert_int_eq(open_store(), 0);
	ck_assert_uint_gt(heap->heap_size, 0);
	ck_assert_uint_eq(heap->heap_size % ARENA_SIZE_MAX, 0);
	store_unlink(&store);
	close_store();
}
END_TEST

START_TEST(removed)
{
	ck_assert_int_eq(store_remove(&options), 0);
	ck_assert(box_logged("there is no heap"));
	make_and_leave();
	ck_assert_int_eq(store_remove(&options), 0);
	ck_assert(box_logged("removed the heap"));
	ck_assert(!is_there(store.control_path) && !is_there(store.heap_path));
	make_and_leave();
	ck_assert_int_eq(unlink(store.control_path), 0); /* only the other half is left */
	ck_assert_int_eq(store_remove(&options), 0);
	ck_assert(!is_there(store.control_path) && !is_there(store.heap_path) && !is_there(store.truth_path));
	make_and_leave();
	ck_assert_int_eq(unlink(store.control_path), 0); /* only the daemon's own file is left */
	ck_assert_int_eq(unlink(store.heap_path), 0);
	ck_assert_int_eq(store_remove(&options), 0);
	ck_assert(!is_there(store.control_path) && !is_there(store.truth_path));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon store");
	TCase *t = tcase_create("store");

	tcase_add_checked_fixture(t, set_up, NULL);
	tcase_add_test(t, made_and_adopted);
	tcase_add_test(t, scribbled);
	tcase_add_test(t, another_truth);
	tcase_add_test(t, one_daemon_a_name);
	tcase_add_test(t, leftovers);
	tcase_add_test(t, refused);
	tcase_add_test(t, refused_and_free);
	tcase_add_test(t, default_size);
	tcase_add_test(t, removed);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return box_main(suite);
}
