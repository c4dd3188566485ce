// SPDX-License-Identifier: MIT
/*
 * Sessions of a daemon that is killed and started again with the same name and socket
 *
 * They keep what they hold, go on with all that needs no daemon, and resume with the next daemon in the first call that
 * needs one. The daemon killed again and again under clients at work: test_restart_kills.c.
 */
#include "fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>

#define ARENA ((size_t)256 << 10)

/* Helpers. */

static bool is_readable(int fd)
{
	struct pollfd pollfd = {.fd = fd, .events = POLLIN};

	return poll(&pollfd, 1, 0) == 1;
}

static uint64_t n_sessions(pyheap *heap)
{
	pyheap_stats stats;

	ck_ok(pyheap_stats(heap, &stats));
	return stats.n_sessions;
}

static uint64_t n_objects(pyheap *heap)
{
	pyheap_stats stats;
	uint64_t n;

	ck_ok(pyheap_stats(heap, &stats));
	n = stats.n_medium_objects + stats.n_large_objects;
	for (int i = 0; i < PYHEAP_CLASSES; i++)
		n += stats.classes[i].n_used;
	return n;
}

/* This session's index in the table of sessions. */
static uint32_t own_session(pyheap *heap)
{
	pyheap_client_info info;
	uint64_t cursor = 0;

	while (pyheap_client_next(heap, &cursor, &info) == 1)
		if (info.self)
			return info.session;
	ck_abort_msg("the session is not in the table");
	return 0;
}

static void kill_daemon(void)
{
	int status = fixture_stop(&fx, SIGKILL);

	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status 0x%x", (unsigned int)status);
}

/* All that needs no daemon, and takes no more memory than the session has at hand. */
static void work_locally(pyheap *heap)
{
	static const size_t slots[] = {8};
	const pyheap_type_spec spec = {.name = "restart.node", .size = 16, .n_slots = 1, .slots = slots};
	pyheap_ref list, ref, queue, got;
	pyheap_type type;
	int64_t before = (int64_t)n_objects(heap);

	ck_ok(pyheap_put(heap, "local", 6, &ref));
	ck_ok(pyheap_list_new(heap, 4, &list));
	ck_ok(pyheap_list_set(heap, list, 1, ref));
	ck_ok(pyheap_list_get(heap, list, 1, &got));
	ck_assert_uint_eq(got, ref);
	ck_ok(pyheap_decref(heap, got));
	ck_ok(pyheap_name_set(heap, "local", list));
	ck_ok(pyheap_name_get(heap, "local", &got));
	ck_assert_uint_eq(got, list);
	ck_ok(pyheap_decref(heap, got));
	ck_ok(pyheap_queue_new(heap, 2, &queue));
	ck_ok(pyheap_queue_push(heap, queue, ref, -1));
	ck_ok(pyheap_queue_pop(heap, queue, &got, -1));
	ck_err(pyheap_queue_pop(heap, queue, &got, 10), ETIMEDOUT);
	ck_ok(pyheap_decref(heap, queue));
	ck_ok(pyheap_type_register(heap, &spec, &type));
	ck_ok(pyheap_new(heap, type, 0, &queue));
	ck_ok(pyheap_slot_set(heap, queue, 8, ref));
	ck_ok(pyheap_slot_get(heap, queue, 8, &got));
	ck_ok(pyheap_decref(heap, got));
	ck_ok(pyheap_decref(heap, queue));
	ck_assert_int_eq(pyheap_refcount(heap, ref), 2);
	ck_assert_str_eq(pyheap_data(heap, ref), "local");
	ck_ok(pyheap_lock(heap));
	ck_ok(pyheap_incref(heap, ref));
	ck_ok(pyheap_decref(heap, ref));
	ck_ok(pyheap_unlock(heap));
	ck_ok(pyheap_decref(heap, ref));
	ck_ok(pyheap_decref(heap, list));
	ck_ok(pyheap_name_del(heap, "local"));
	ck_assert_int_eq((int64_t)n_objects(heap), before);
	ck_assert_int_eq(pyheap_check(heap, NULL, NULL), 0);
}

/* SIGPIPE would end the test. A named object keeps an arena of each kind there, for what works without a daemon. */
static void setup(void)
{
	pyheap_ref ref;
	pyheap *heap;

	signal(SIGPIPE, SIG_DFL);
	fixture_setup();
	heap = fixture_open(&fx);
	ck_ok(pyheap_put(heap, "anchor", 7, &ref));
	ck_ok(pyheap_name_set(heap, "anchor", ref));
	pyheap_close(heap);
}

/* The same session at the next daemon. */

START_TEST(keeps_its_holds)
{
	pyheap *heap = fixture_open(&fx), *other = fixture_open(&fx);
	uint32_t session = own_session(heap);
	pyheap_ref ref, large, theirs;
	size_t size = 5 * ARENA;
	char *data;

	ck_ok(pyheap_put(heap, "kept", 5, &ref));
	ck_ok(pyheap_incref(heap, ref));
	ck_ok(pyheap_put(other, "theirs", 7, &theirs));
	ck_ok(pyheap_new(heap, PYHEAP_BYTES, size, &large));
	data = pyheap_data(heap, large);
	memset(data, 'L', size);
	for (int i = 1; i <= 5; i++) {
		kill_daemon();
		work_locally(heap);
		work_locally(other);
		fixture_start_again(&fx);
		ck_ok(fixture_need_daemon(heap)); /* in the call that needs it */
		ck_assert_uint_eq(own_session(heap), session);
		ck_assert_int_eq(pyheap_refcount(heap, ref), 2);
		ck_assert_int_eq(pyheap_refcount(heap, theirs), 1);
		ck_assert_int_eq(pyheap_refcount(heap, large), 1);
		ck_assert_str_eq(pyheap_data(heap, ref), "kept");
		ck_assert_ptr_eq(pyheap_data(heap, large), data);
		ck_assert(data[0] == 'L' && memcmp(data, data + 1, size - 1) == 0); /* all of it */
		fixture_until(n_sessions(heap) == 2);
		ck_assert_int_eq(fixture_log_count("is resumed"),
			i); /* the other session has made no call that needs the daemon */
	}
	ck_ok(fixture_need_daemon(other));
	ck_assert_str_eq(pyheap_data(other, theirs), "theirs");
	ck_ok(pyheap_decref(heap, ref));
	ck_ok(pyheap_decref(heap, ref));
	ck_err(pyheap_decref(heap, ref), ESTALE);
	ck_ok(pyheap_decref(heap, large));
	ck_ok(pyheap_decref(other, theirs));
	ck_assert_uint_eq(n_objects(heap), 1);
	pyheap_close(other);
	pyheap_close(heap);
}
END_TEST

/* Each session of a process is resumed for itself. */
#define N_THREADS 4

static pthread_barrier_t barrier;

static void *thread_run(void *userdata)
{
	pyheap *heap = fixture_open(&fx);
	pyheap_ref ref;

	(void)userdata;
	ck_ok(pyheap_put(heap, "of a thread", 12, &ref));
	for (int i = 0; i < 5; i++) {
		pthread_barrier_wait(&barrier); /* the daemon is killed between these two */
		pthread_barrier_wait(&barrier);
		for (int j = 0; j < 5; j++)
			ck_ok(fixture_need_daemon(heap));
		ck_assert_int_eq(pyheap_refcount(heap, ref), 1);
		ck_assert_str_eq(pyheap_data(heap, ref), "of a thread");
	}
	pyheap_close(heap);
	return NULL;
}

START_TEST(threads_keep_theirs)
{
	pthread_t threads[N_THREADS];

	ck_ok(pthread_barrier_init(&barrier, NULL, N_THREADS + 1));
	for (size_t i = 0; i < N_THREADS; i++)
		ck_ok(pthread_create(&threads[i], NULL, thread_run, NULL));
	for (int i = 0; i < 5; i++) {
		pthread_barrier_wait(&barrier);
		kill_daemon();
		pthread_barrier_wait(&barrier);
		fixture_start_again(&fx);
	}
	for (size_t i = 0; i < N_THREADS; i++)
		ck_ok(pthread_join(threads[i], NULL));
}
END_TEST

/*
 * The daemon was stopped with a request open, then killed: the answer never comes, and the session does not wait for
 * it.
 */
START_TEST(forgets_an_open_question)
{
	pyheap *heap = fixture_open(&fx);

	ck_ok(pyheap_set_timeout(heap, 100));
	ck_ok(kill(fx.pid, SIGSTOP));
	ck_err(fixture_need_daemon(heap), ETIMEDOUT);
	kill_daemon();
	fixture_start_again(&fx);
	ck_ok(pyheap_set_timeout(heap, -1));
	ck_ok(fixture_need_daemon(heap));
	pyheap_close(heap);
}
END_TEST

/* --keep: a daemon that is ended leaves the heap to the next, and sessions notice no more than after a kill. */
START_TEST(goes_on_after_a_daemon_that_keeps)
{
	static const char *const args[] = {"--size", "64M", "--keep", NULL};
	struct fixture_daemon daemon;
	pyheap_ref ref;
	pyheap *heap;

	fixture_start(&daemon, args);
	heap = fixture_open(&daemon);
	ck_ok(pyheap_put(heap, "kept", 5, &ref));
	ck_ok(fixture_stop(&daemon, SIGTERM));
	fixture_until(is_readable(pyheap_fd(heap)));
	ck_ok(pyheap_incref(heap, ref));
	ck_ok(pyheap_decref(heap, ref));
	fixture_start_again(&daemon);
	ck_ok(fixture_need_daemon(heap));
	ck_assert_str_eq(pyheap_data(heap, ref), "kept");
	pyheap_close(heap);
	ck_ok(fixture_stop(&daemon, SIGTERM));
}
END_TEST

/* pyheap_fd() and pyheap_dispatch(). */

START_TEST(descriptor_stays)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC), fd;
	pyheap *heap = fixture_open(&fx);
	struct epoll_event event = {.events = EPOLLIN};

	fd = pyheap_fd(heap);
	for (int i = 0; i < 3; i++) {
		ck_ok(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
		ck_assert_int_eq(epoll_wait(epoll, &event, 1, 0), 0);
		ck_assert(!is_readable(fd));
		ck_ok(pyheap_dispatch(heap));
		kill_daemon();
		ck_assert_int_eq(epoll_wait(epoll, &event, 1, 60000), 1);
		ck_assert(is_readable(fd));
		work_locally(heap);
		ck_assert(is_readable(fd)); /* until pyheap_dispatch() */
		fixture_start_again(&fx);
		ck_ok(pyheap_dispatch(heap));
		ck_assert_int_eq(pyheap_fd(heap), fd);
		ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
		ck_assert(!is_readable(fd));
		ck_assert_int_eq(fixture_log_count("is resumed"), i + 1);
		ck_ok(pyheap_dispatch(heap)); /* nothing to do */
		ck_ok(fixture_need_daemon(heap));
		ck_assert_int_eq(fixture_log_count("is resumed"), i + 1);
		/* It is a new socket, so the epoll set has lost it: adding it gives no -EEXIST. */
	}
	close(epoll);
	pyheap_close(heap);
}
END_TEST

/* What the killed daemon sent is no answer to a request to the next daemon. */
START_TEST(dispatch_of_nobody)
{
	pyheap *heap = fixture_open(&fx);
	int fd = pyheap_fd(heap);

	kill_daemon();
	ck_ok(pyheap_set_timeout(heap, 0));
	for (int i = 0; i < 3; i++) {
		ck_err(pyheap_dispatch(heap), ECONNRESET);
		ck_assert_int_eq(pyheap_fd(heap), fd);
		ck_assert(is_readable(fd));
		work_locally(heap);
	}
	fixture_start_again(&fx);
	ck_ok(pyheap_set_timeout(heap, -1));
	ck_ok(pyheap_dispatch(heap));
	ck_assert_int_eq(pyheap_fd(heap), fd);
	pyheap_close(heap);
}
END_TEST

/* Time-outs. */

START_TEST(no_daemon_comes)
{
	static const int timeouts[] = {0, 1, 50, 200};
	pyheap *heap = fixture_open(&fx);
	pyheap_ref ref;

	ck_ok(pyheap_put(heap, "kept", 5, &ref));
	ck_err(pyheap_set_timeout(heap, -2), EINVAL);
	kill_daemon();
	for (size_t i = 0; i < sizeof(timeouts) / sizeof(timeouts[0]); i++) {
		ck_ok(pyheap_set_timeout(heap, timeouts[i]));
		for (int j = 0; j < 3; j++) {
			ck_err(fixture_need_daemon(heap), ECONNRESET);
			work_locally(heap);
		}
	}
	fixture_start_again(&fx);
	ck_ok(pyheap_set_timeout(heap, -1)); /* however long the daemon takes to answer */
	ck_ok(fixture_need_daemon(heap));    /* the session still tries */
	ck_assert_str_eq(pyheap_data(heap, ref), "kept");
	pyheap_close(heap);
}
END_TEST

struct waiter {
	int pipe[2];
	int timeout_ms;
	bool dispatches;
};

/* A client that sees the daemon go, and waits for the next one. */
static void wait_for_next(void *userdata)
{
	struct waiter *waiter = userdata;
	pyheap *own = fixture_open(&fx);
	struct pollfd pollfd = {.fd = pyheap_fd(own), .events = POLLIN};
	pyheap_ref ref;

	ck_ok(pyheap_put(own, "kept", 5, &ref));
	ck_ok(pyheap_set_timeout(own, waiter->timeout_ms));
	ck_assert_int_eq(write(waiter->pipe[1], "", 1), 1);
	ck_assert_int_eq(poll(&pollfd, 1, -1), 1);
	ck_assert_int_eq(write(waiter->pipe[1], "", 1), 1);
	ck_ok(waiter->dispatches ? pyheap_dispatch(own) : fixture_need_daemon(own));
	ck_assert_str_eq(pyheap_data(own, ref), "kept");
	ck_ok(fixture_need_daemon(own));
	pyheap_close(own);
}

/* The next daemon comes while the client waits, without a limit or with a long one. */
START_TEST(waits_for_the_next)
{
	struct waiter waiter = {.timeout_ms = _i & 1 ? -1 : 600000, .dispatches = _i & 2};
	char byte;
	pid_t pid;

	ck_ok(pipe2(waiter.pipe, O_CLOEXEC));
	pid = fixture_fork(wait_for_next, &waiter);
	ck_assert_int_eq(read(waiter.pipe[0], &byte, 1), 1);
	kill_daemon();
	ck_assert_int_eq(read(waiter.pipe[0], &byte, 1), 1);
	usleep(700000); /* well into its pauses, as most applications will be */
	ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
	fixture_start_again(&fx);
	ck_ok(fixture_wait(pid));
}
END_TEST

/*
 * A session with the lock does not wait for a daemon, since all others wait for the lock: not even with a time-out of
 * -1.
 */
START_TEST(does_not_wait_with_the_lock)
{
	pyheap *heap = fixture_open(&fx);

	ck_ok(pyheap_set_timeout(heap, -1));
	kill_daemon();
	ck_ok(pyheap_lock(heap));
	ck_err(fixture_need_daemon(heap), ECONNRESET);
	ck_err(pyheap_dispatch(heap), ECONNRESET);
	ck_ok(pyheap_unlock(heap));
	fixture_start_again(&fx);
	ck_ok(pyheap_lock(heap));
	ck_ok(fixture_need_daemon(
		heap)); /* the daemon is there: one try is enough, and it does not need the lock for it */
	ck_ok(pyheap_unlock(heap));
	ck_ok(fixture_need_daemon(heap));
	pyheap_close(heap);
}
END_TEST

/* Another heap. */

static void remove_segments(void)
{
	char path[128];

	snprintf(path, sizeof(path), "/dev/shm/pyheap.%s.heap", fx.name);
	ck_ok(unlink(path));
	snprintf(path, sizeof(path), "/dev/shm/pyheap.%s.ctl", fx.name);
	ck_ok(unlink(path));
}

/* The heap's files are removed and made anew. The client goes on in the old ones, and does not touch the new ones. */
START_TEST(heap_removed)
{
	pyheap *heap = fixture_open(&fx), *fresh;
	pyheap_ref ref, got;

	ck_ok(pyheap_put(heap, "of the old", 11, &ref));
	ck_ok(pyheap_name_set(heap, "name", ref));
	kill_daemon();
	remove_segments();
	fixture_start_again(&fx);
	ck_ok(pyheap_set_timeout(heap, -1)); /* no time-out makes the call fail */
	ck_err(fixture_need_daemon(heap), ECONNRESET);
	ck_err(pyheap_dispatch(heap), ECONNRESET);
	ck_assert_int_ge(pyheap_fd(heap), 0);
	work_locally(heap);
	ck_assert_str_eq(pyheap_data(heap, ref), "of the old");

	fresh = fixture_open(&fx);
	ck_err(pyheap_name_get(fresh, "name", &got), ENOENT);
	ck_assert_uint_eq(n_objects(fresh), 0);
	fixture_until(n_sessions(fresh) == 1);
	ck_ok(fixture_need_daemon(fresh));
	work_locally(heap);
	ck_err(fixture_need_daemon(heap), ECONNRESET);
	ck_assert_str_eq(pyheap_data(heap, ref), "of the old");
	ck_assert_ptr_null(pyheap_close(heap));
	work_locally(fresh);
	ck_assert_uint_eq(n_sessions(fresh), 1);
	pyheap_close(fresh);
}
END_TEST

/* The same, with another session at its index of the new table. */
START_TEST(heap_removed_and_place_taken)
{
	pyheap *heap = fixture_open(&fx), *fresh;
	uint32_t session = own_session(heap);
	pyheap_ref ref;

	kill_daemon();
	remove_segments();
	fixture_start_again(&fx);
	fresh = fixture_open(&fx);
	while (own_session(fresh) != session) {
		pyheap_close(fresh);
		fresh = fixture_open(&fx);
	}
	ck_ok(pyheap_put(fresh, "of the new", 11, &ref));
	ck_err(fixture_need_daemon(heap), ECONNRESET);
	pyheap_close(heap);
	ck_assert_str_eq(pyheap_data(fresh, ref), "of the new");
	ck_assert_int_eq(pyheap_refcount(fresh, ref), 1);
	ck_ok(fixture_need_daemon(fresh));
	pyheap_close(fresh);
}
END_TEST

/* Ended on purpose, then a new one on the same name: -EPIPE from every call, however often. */
START_TEST(heap_ended)
{
	pyheap *heap = fixture_open(&fx), *fresh;
	pyheap_ref ref, got;

	ck_ok(pyheap_put(heap, "of the old", 11, &ref));
	ck_ok(fixture_stop(&fx, SIGTERM));
	for (int i = 0; i < 2; i++) {
		ck_err(fixture_need_daemon(heap), EPIPE);
		ck_err(pyheap_dispatch(heap), EPIPE);
		ck_err(pyheap_put(heap, "x", 1, &got), EPIPE);
		ck_err(pyheap_decref(heap, ref), EPIPE);
		ck_err(pyheap_lock(heap), EPIPE);
		ck_err(pyheap_set_timeout(heap, 5), EPIPE);
		ck_err(pyheap_fd(heap), EPIPE);
		if (i == 0)
			fixture_start_again(&fx);
	}
	fresh = fixture_open(&fx);
	ck_ok(fixture_need_daemon(fresh));
	work_locally(fresh);
	ck_assert_ptr_null(pyheap_close(heap));
	work_locally(fresh);
	pyheap_close(fresh);
}
END_TEST

/* Sessions that end while there is no daemon. */

struct leaver {
	int pipe[2];
	bool has_lock;
};

static void hold_much(void *userdata)
{
	struct leaver *leaver = userdata;
	pyheap *own = fixture_open(&fx);
	pyheap_ref list, ref, queue;

	ck_ok(pyheap_list_new(own, 2000, &list));
	for (size_t i = 0; i < 2000; i++) {
		ck_ok(pyheap_new(own, PYHEAP_BYTES, i * 3 + 1, &ref));
		ck_ok(pyheap_list_set(own, list, i, ref));
		if (i % 2)
			ck_ok(pyheap_decref(own, ref));
	}
	ck_ok(pyheap_new(own, PYHEAP_BYTES, 4 * ARENA, &ref));
	ck_ok(pyheap_name_get(own, "queue", &queue));
	ck_ok(pyheap_put(own, "handed over", 12, &ref));
	ck_ok(pyheap_queue_push(own, queue, ref, -1));
	if (leaver->has_lock)
		ck_ok(pyheap_lock(own));
	ck_assert_int_eq(write(leaver->pipe[1], "", 1), 1);
	for (;;)
		pause();
}

/* Some clients are killed while there is no daemon, one of them with the lock. The next daemon reclaims them. */
START_TEST(dead_are_reclaimed)
{
	struct leaver leaver = {.has_lock = false};
	pyheap *heap = fixture_open(&fx);
	pyheap_ref queue, ref;
	pyheap_stats stats;
	pid_t pids[4];
	char byte;

	ck_ok(pyheap_queue_new(heap, 8, &queue));
	ck_ok(pyheap_name_set(heap, "queue", queue));
	ck_ok(pipe2(leaver.pipe, O_CLOEXEC));
	for (int i = 0; i < 4; i++) {
		leaver.has_lock = i == 3;
		pids[i] = fixture_fork(hold_much, &leaver);
		ck_assert_int_eq(read(leaver.pipe[0], &byte, 1), 1);
	}
	kill_daemon();
	for (int i = 0; i < 4; i++)
		fixture_kill(pids[i]);
	ck_assert_uint_gt(n_objects(heap), 4 * 2000);
	ck_assert_uint_eq(n_sessions(heap), 5);
	fixture_start_again(&fx);
	fixture_until(n_objects(heap) == 2 + 4);
	fixture_until(n_sessions(heap) == 1);
	for (int i = 0; i < 4; i++) {
		ck_ok(pyheap_queue_pop(heap, queue, &ref, 0));
		ck_assert_str_eq(pyheap_data(heap, ref), "handed over");
		ck_assert_int_eq(pyheap_refcount(heap, ref), 1);
		ck_ok(pyheap_decref(heap, ref));
	}
	ck_ok(pyheap_stats(heap, &stats));
	ck_assert_uint_eq(stats.n_lock_recoveries, 1);
	pyheap_close(heap);
}
END_TEST

/* A session is closed while there is no daemon: its holds are dropped at once, the next daemon frees its entry. */
START_TEST(closed_is_freed)
{
	static const char *const args[] = {"--size", "16M", "--max-sessions", "2", NULL};
	struct fixture_daemon daemon;
	pyheap *heap, *other, *third;
	pyheap_ref ref, kept;

	fixture_start(&daemon, args);
	fixture_until(pyheap_open(&heap, daemon.socket) == 0);
	fixture_until(pyheap_open(&other, daemon.socket) == 0);
	ck_ok(pyheap_put(heap, "kept", 5, &kept));
	for (int i = 0; i < 3; i++) {
		ck_ok(pyheap_put(other, "closed", 7, &ref));
		ck_ok(pyheap_incref(other, kept));
		fixture_stop(&daemon, SIGKILL);
		other = pyheap_close(other);
		ck_err(pyheap_size(heap, ref), ESTALE);
		ck_assert_int_eq(pyheap_refcount(heap, kept), 1);
		/* This process lives, but that session of it is over. fixture_start_again() needs a place as well. */
		fixture_start_again(&daemon);
		fixture_until(pyheap_open(&other, daemon.socket) == 0);
		ck_err(pyheap_open(&third, daemon.socket), EUSERS);
		ck_ok(fixture_need_daemon(heap));
		ck_assert_str_eq(pyheap_data(heap, kept), "kept");
	}
	pyheap_close(other);
	pyheap_close(heap);
	ck_ok(fixture_stop(&daemon, SIGTERM));
}
END_TEST

/* A forked child's copy of a session is not resumed, and does no harm to the parent's, which is. */
static void close_copy(void *userdata)
{
	ck_err(pyheap_dispatch(userdata), ECHILD);
	ck_err(fixture_need_daemon(userdata), ECHILD);
	pyheap_close(userdata);
}

START_TEST(forked_copy_stays_behind)
{
	pyheap *heap = fixture_open(&fx);
	pyheap_ref ref;

	ck_ok(pyheap_put(heap, "kept", 5, &ref));
	kill_daemon();
	ck_ok(fixture_wait(fixture_fork(close_copy, heap)));
	fixture_start_again(&fx);
	ck_ok(fixture_wait(fixture_fork(close_copy, heap)));
	ck_ok(fixture_need_daemon(heap));
	ck_ok(fixture_wait(fixture_fork(close_copy, heap)));
	ck_ok(fixture_need_daemon(heap));
	ck_assert_int_eq(pyheap_refcount(heap, ref), 1);
	ck_assert_int_eq(fixture_log_count("is resumed"), 1);
	pyheap_close(heap);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("restart");
	TCase *tcase = tcase_create("each with a daemon"), *own = tcase_create("each with its own kind of daemon");

	tcase_add_checked_fixture(tcase, setup, fixture_teardown);
	tcase_add_test(tcase, keeps_its_holds);
	tcase_add_test(tcase, threads_keep_theirs);
	tcase_add_test(tcase, forgets_an_open_question);
	tcase_add_test(tcase, descriptor_stays);
	tcase_add_test(tcase, dispatch_of_nobody);
	tcase_add_test(tcase, no_daemon_comes);
	tcase_add_loop_test(tcase, waits_for_the_next, 0, 4);
	tcase_add_test(tcase, does_not_wait_with_the_lock);
	tcase_add_test(tcase, heap_removed);
	tcase_add_test(tcase, heap_removed_and_place_taken);
	tcase_add_test(tcase, heap_ended);
	tcase_add_test(tcase, dead_are_reclaimed);
	tcase_add_test(tcase, forked_copy_stays_behind);
	suite_add_tcase(suite, tcase);
	tcase_add_test(own, goes_on_after_a_daemon_that_keeps);
	tcase_add_test(own, closed_is_freed);
	suite_add_tcase(suite, own);
	return fixture_main(suite);
}
