// SPDX-License-Identifier: MIT
/*
 * Clients of a heap in a /dev/shm that is full to its last page
 *
 * It is a tmpfs of 16 MiB in a mount namespace of the test's own, filled by the heap or by a file beside it. A call
 * that needs more memory returns -ENOMEM; neither client nor daemon gets SIGBUS; calls that need no memory work; and
 * when there is room again the heap goes on growing.
 *
 * What the daemon answers on its socket then: test_daemon_full.py. Needs root.
 */
#include "fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>

#define SKIPPED 77
#define OTHERS  "/dev/shm/somebody-else"
#define N_MAX   100000

static pyheap *heap;
static pyheap_ref refs[N_MAX];
static uint32_t n_refs;

/* Room. */

static uint64_t room(void)
{
	struct statvfs st;

	ck_ok(statvfs("/dev/shm", &st));
	return (uint64_t)st.f_bavail * st.f_frsize;
}

/* A file beside the heap takes all free room but this many bytes. */
static void fill_but(uint64_t left)
{
	int fd = open(OTHERS, O_WRONLY | O_CREAT | O_CLOEXEC | O_APPEND, 0600);
	char page[4096];

	ck_assert_int_ge(fd, 0);
	memset(page, 0xff, sizeof(page));
	while (room() > left && write(fd, page, sizeof(page)) == sizeof(page))
		;
	close(fd);
}

static void give_room(void)
{
	ck_ok(unlink(OTHERS));
}

/* Objects. */

static uint8_t pattern(pyheap_ref ref, size_t i)
{
	return (uint8_t)(ref * 7 + (ref >> 36) + i);
}

static bool is_intact(pyheap_ref ref)
{
	const uint8_t *data = pyheap_data(heap, ref);
	ssize_t size = pyheap_size(heap, ref);

	for (ssize_t i = 0; data && i < size; i++)
		if (data[i] != pattern(ref, (size_t)i))
			return false;
	return data;
}

static void fill(pyheap_ref ref, size_t size)
{
	uint8_t *data = pyheap_data(heap, ref);

	for (size_t i = 0; i < size; i++)
		data[i] = pattern(ref, i);
}

static int keep_one(size_t size)
{
	int r = pyheap_new(heap, PYHEAP_BYTES, size, &refs[n_refs]);

	if (r < 0)
		return r;
	fill(refs[n_refs++], size);
	ck_assert_uint_lt(n_refs, N_MAX);
	return 0;
}

/* Objects until there is no memory for another one: large ones first, at last the smallest. */
static void fill_heap(void)
{
	static const size_t sizes[] = {1 << 20, 300000, 20000, 4096, 500, 100, 1};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int r;

		do
			r = keep_one(sizes[i]);
		while (r == 0);
		ck_assert_int_eq(r, -ENOMEM);
	}
}

static void verify(void)
{
	for (uint32_t k = 0; k < n_refs; k++)
		if (!is_intact(refs[k]))
			ck_abort_msg("object %u is not what it was", k);
}

static void drop_some(uint32_t n)
{
	for (; n > 0 && n_refs > 0; n--)
		ck_ok(pyheap_decref(heap, refs[--n_refs]));
}

/* What was made while there was room, to be used when there is none. */
static pyheap_ref list, queue, named;

static void setup(void)
{
	static const char *const args[] = {"--size", "16M", NULL};

	unlink(OTHERS);
	fixture_start(&fx, args);
	heap = fixture_open(&fx);
	n_refs = 0;
	ck_ok(pyheap_list_new(heap, 10, &list));
	ck_ok(pyheap_queue_new(heap, 10, &queue));
	ck_ok(pyheap_put(heap, "named", 6, &named));
	ck_ok(pyheap_name_set(heap, "a name", named));
	for (int i = 0; i < 20; i++)
		ck_ok(keep_one(100));
}

static void teardown(void)
{
	verify();
	unlink(OTHERS);
	drop_some(n_refs);
	heap = pyheap_close(heap);
	fixture_teardown();
}

/* All that needs no fresh memory. */
static void everything_else_works(pyheap *session)
{
	pyheap_stats stats;
	pyheap_type type;
	pyheap_ref ref;

	ck_ok(pyheap_incref(session, refs[0]));
	ck_ok(pyheap_incref(session, refs[0]));
	ck_ok(pyheap_list_set(session, list, 3, refs[0]));
	ck_ok(pyheap_queue_push(session, queue, refs[0], 0));
	ck_ok(pyheap_queue_pop(session, queue, &ref, 0));
	ck_assert_uint_eq(ref, refs[0]);
	ck_ok(pyheap_list_get(session, list, 3, &ref));
	ck_assert_uint_eq(ref, refs[0]);
	ck_ok(pyheap_list_set(session, list, 3, 0));
	ck_ok(pyheap_name_get(session, "a name", &ref));
	ck_assert_str_eq(pyheap_data(session, ref), "named");
	ck_ok(pyheap_name_set(session, "a name", ref));
	ck_ok(pyheap_decref(session, ref));
	for (int i = 0; i < 3; i++)
		ck_ok(pyheap_decref(session, refs[0]));
	ck_ok(pyheap_typeof(session, refs[1], &type));
	ck_assert_uint_eq(type, PYHEAP_BYTES);
	ck_ok(pyheap_stats(session, &stats));
	ck_ok(pyheap_lock(session));
	ck_ok(pyheap_unlock(session));
	ck_assert_int_eq(pyheap_check(session, NULL, NULL), 0);
	ck_assert_int_eq(pyheap_repair(session, NULL, NULL), 0);
}

static void expect_full(void)
{
	pyheap *other;
	pyheap_ref ref;

	ck_err(pyheap_new(heap, PYHEAP_BYTES, 1 << 20, &ref), ENOMEM);
	ck_err(pyheap_new(heap, PYHEAP_LIST, 1 << 20, &ref), ENOMEM);
	ck_err(pyheap_queue_new(heap, 1 << 17, &ref), ENOMEM);
	everything_else_works(heap);
	other = fixture_open(&fx);
	ck_err(pyheap_new(other, PYHEAP_BYTES, 1 << 20, &ref), ENOMEM);
	everything_else_works(other);
	pyheap_close(other);
	verify();
}

/* Tests. */

START_TEST(filled_by_the_heap)
{
	fill_heap();
	expect_full();
	fill_but(0); /* and what is less than an arena */
	ck_assert_uint_eq(room(), 0);
	expect_full();
	/* what is free inside is used again */
	for (int i = 0; i < 100; i++) {
		drop_some(1);
		ck_ok(keep_one(1));
	}
	drop_some(n_refs - 20);
	give_room();
	ck_ok(keep_one(1 << 20));
	fill_heap();
	expect_full();
}
END_TEST

START_TEST(filled_by_somebody_else)
{
	fill_but(0);
	fill_heap(); /* what there is inside */
	expect_full();
	give_room();
	for (int i = 0; i < 8; i++)
		ck_ok(keep_one(1 << 20));
	fill_but(0);
	fill_heap();
	expect_full();
}
END_TEST

/* Arenas that are unmapped leave room, which the file beside the heap takes at once. */
START_TEST(room_is_taken_away)
{
	for (int i = 0; i < 10; i++)
		ck_ok(keep_one(1 << 20));
	fill_but(0);
	drop_some(10);
	for (int i = 0; i < 20; i++) {
		fill_but(0);
		everything_else_works(heap);
		usleep(1000);
	}
	fill_heap();
	expect_full();
}
END_TEST

START_TEST(daemon_is_restarted)
{
	if (_i == 0)
		fill_heap();
	fill_but(0);
	fill_heap();
	for (int i = 0; i < 3; i++) {
		fixture_stop(&fx, SIGKILL);
		fixture_start_again(&fx);
		expect_full();
	}
	drop_some(n_refs - 20);
	give_room();
	for (int i = 0; i < 8; i++)
		ck_ok(keep_one(1 << 20));
}
END_TEST

/* Start another daemon, and end it when it serves. Its last message goes into `line`. Returns its status. */
static int try_daemon(int number, char *line, int size)
{
	char name[64], socket[128];
	int ends[2], status;
	FILE *says;
	pid_t pid;

	snprintf(name, sizeof(name), "%s-%d", fx.name, number);
	snprintf(socket, sizeof(socket), "%s/%d", fixture_folder, number);
	ck_ok(pipe(ends));
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		close(ends[1]);
		execl(getenv("PYHEAPD"), "pyheapd", "--name", name, "--socket", socket, "--size", "8M", NULL);
		_exit(127);
	}
	close(ends[1]);
	says = fdopen(ends[0], "re");
	ck_assert_ptr_nonnull(says);
	while (fgets(line, size, says) && !strstr(line, "serving the heap") && !strstr(line, "/dev/shm is full"))
		;
	if (strstr(line, "serving the heap"))
		ck_ok(kill(pid, SIGTERM));
	status = fixture_wait(pid);
	fclose(says);
	return status;
}

/* However little room there is: a heap is made, or the daemon ends with an error and leaves nothing behind. */
START_TEST(daemon_is_started)
{
	static const uint64_t left[] = {0, 4096, 65536, 262144, 524288, 1 << 20, 2 << 20, 3 << 20};
	bool made = false;

	for (int i = 0; i < (int)(sizeof(left) / sizeof(left[0])); i++) {
		uint64_t before;
		char line[512] = "";
		int status;

		fill_but(left[i]);
		before = room();
		status = try_daemon(i, line, sizeof(line));
		made = strstr(line, "serving the heap") != NULL;
		ck_assert_msg(made || strstr(line, "/dev/shm is full"), "with %llu bytes left: %s",
			(unsigned long long)left[i], line);
		ck_assert(WIFEXITED(status));
		ck_assert_int_eq(WEXITSTATUS(status), made ? 0 : 1);
		ck_assert_uint_eq(room(), before);
		give_room();
	}
	ck_assert(made); /* the last has room enough */
}
END_TEST

/* Room that comes and goes under clients at work. */

static void churn(void *userdata)
{
	enum { N = 40 };
	pyheap_ref own[N] = {0};
	unsigned int seed = (unsigned int)getpid();
	uint64_t n_full = 0;

	(void)userdata;
	heap = fixture_open(&fx);
	for (int i = 0; i < 5000; i++) {
		int k = (int)(rand_r(&seed) % N), kind = (int)(rand_r(&seed) % 10);
		size_t size = (size_t)rand_r(&seed) % (kind < 6 ? 512U : kind < 9 ? 100000U : 600000U);
		int r;

		if (own[k]) {
			ck_assert(is_intact(own[k]));
			ck_ok(pyheap_decref(heap, own[k]));
			own[k] = 0;
		}
		r = pyheap_new(heap, PYHEAP_BYTES, size, &own[k]);
		if (r == -ENOMEM) {
			own[k] = 0;
			n_full++;
			continue;
		}
		ck_ok(r);
		fill(own[k], size);
	}
	printf("told %llu times that there is no memory\n", (unsigned long long)n_full);
	pyheap_close(heap);
}

START_TEST(room_comes_and_goes)
{
	pid_t pids[2];
	int n_left = 2;

	for (int i = 0; i < 2; i++)
		pids[i] = fixture_fork(churn, NULL);
	while (n_left > 0) {
		fill_but(0);
		usleep(3000);
		give_room();
		usleep(3000);
		for (int i = 0; i < 2; i++) {
			int status;

			if (pids[i] && waitpid(pids[i], &status, WNOHANG) == pids[i]) {
				ck_assert_int_eq(status, 0);
				pids[i] = 0;
				n_left--;
			}
		}
	}
	fill_but(0);
}
END_TEST

/* A /dev/shm of 16 MiB. */

static bool make_small_shm(void)
{
	if (unshare(CLONE_NEWNS) < 0)
		return false;
	/* In a chroot / is no mount of its own. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 &&
		mount(NULL, "/dev/shm", NULL, MS_PRIVATE, NULL) < 0)
		return false;
	return mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=16m") == 0;
}

static Suite *suite(void)
{
	Suite *s = suite_create("memory-full");
	TCase *t = tcase_create("memory-full");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, filled_by_the_heap);
	tcase_add_test(t, filled_by_somebody_else);
	tcase_add_test(t, room_is_taken_away);
	tcase_add_loop_test(t, daemon_is_restarted, 0, 2);
	tcase_add_test(t, daemon_is_started);
	tcase_add_test(t, room_comes_and_goes);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	if (!make_small_shm()) {
		fprintf(stderr, "skipped: a small /dev/shm cannot be mounted here (it takes root)\n");
		return SKIPPED;
	}
	return fixture_main(suite());
}
