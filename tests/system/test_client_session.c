// SPDX-License-Identifier: MIT
/*
 * Sessions with a real daemon: opening and the ways it fails, fork(), threads, the daemon ended, killed and stopped
 */
#include "fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Opening. */

START_TEST(test_open_fails)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char path[200];
	pyheap *heap = (pyheap *)&heap, *before = heap;
	int fd;

	snprintf(path, sizeof(path), "%s/nothing", fixture_folder);
	ck_err(pyheap_open(&heap, path), ENOENT);
	snprintf(path, sizeof(path), "%s/no-folder/sock", fixture_folder);
	ck_err(pyheap_open(&heap, path), ENOENT);
	ck_err(pyheap_open(&heap, ""), ENOENT);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	ck_err(pyheap_open(&heap, path), ENAMETOOLONG);

	/* A socket whose daemon is gone, and what never was a socket. */
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/stale", fixture_folder);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	ck_ok(bind(fd, (struct sockaddr *)&address, sizeof(address)));
	close(fd);
	ck_err(pyheap_open(&heap, address.sun_path), ECONNREFUSED);
	snprintf(path, sizeof(path), "%s/file", fixture_folder);
	fd = open(path, O_CREAT | O_RDWR, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_err(pyheap_open(&heap, path), ECONNREFUSED);

	ck_err(pyheap_open(NULL, path), EINVAL);
	ck_assert_ptr_eq(heap, before);
}
END_TEST

START_TEST(test_open_by_environment)
{
	pyheap *heap;

	ck_ok(setenv("PYHEAP_SOCKET", fx.socket, 1));
	ck_ok(pyheap_open(&heap, NULL));
	ck_assert_int_ge(pyheap_fd(heap), 0);
	ck_assert_int_eq(fcntl(pyheap_fd(heap), F_GETFD), FD_CLOEXEC);
	ck_assert_ptr_null(pyheap_close(heap));
	ck_assert_ptr_null(pyheap_close(NULL));
}
END_TEST

START_TEST(test_more_sessions_than_slots)
{
	static const char *const args[] = {"--size", "16M", "--max-sessions", "3", NULL};
	struct fixture_daemon daemon;
	pyheap *heaps[3], *one_more = NULL;

	fixture_start(&daemon, args);
	for (int i = 0; i < 3; i++)
		fixture_until(pyheap_open(&heaps[i], daemon.socket) == 0); /* one may still be reclaimed */
	ck_err(pyheap_open(&one_more, daemon.socket), EUSERS);
	ck_assert_ptr_null(one_more);
	pyheap_close(heaps[1]);
	fixture_until(pyheap_open(&heaps[1], daemon.socket) == 0);
	for (int i = 0; i < 3; i++)
		pyheap_close(heaps[i]);
	ck_ok(fixture_stop(&daemon, SIGTERM));
}
END_TEST

START_TEST(test_no_session)
{
	char name[PYHEAP_NAME_MAX + 1], type_name[PYHEAP_TYPE_NAME_MAX + 1];
	pyheap_type_spec spec = {.name = "t", .size = 8};
	pyheap_client_info info;
	pyheap_stats stats;
	uint64_t cursor = 0;
	pyheap_type type;
	pyheap_ref ref;

	ck_err(pyheap_fd(NULL), EINVAL);
	ck_err(pyheap_dispatch(NULL), EINVAL);
	ck_err(pyheap_set_timeout(NULL, 0), EINVAL);
	ck_err(pyheap_new(NULL, PYHEAP_BYTES, 8, &ref), EINVAL);
	ck_err(pyheap_put(NULL, "x", 1, &ref), EINVAL);
	errno = 0;
	ck_assert_ptr_null(pyheap_data(NULL, 1));
	ck_assert_int_eq(errno, EINVAL);
	ck_err(pyheap_size(NULL, 1), EINVAL);
	ck_err(pyheap_typeof(NULL, 1, &type), EINVAL);
	ck_err(pyheap_incref(NULL, 1), EINVAL);
	ck_err(pyheap_decref(NULL, 1), EINVAL);
	ck_err(pyheap_refcount(NULL, 1), EINVAL);
	ck_err(pyheap_list_new(NULL, 1, &ref), EINVAL);
	ck_err(pyheap_list_set(NULL, 1, 0, 0), EINVAL);
	ck_err(pyheap_list_get(NULL, 1, 0, &ref), EINVAL);
	ck_err(pyheap_type_register(NULL, &spec, &type), EINVAL);
	ck_err(pyheap_type_name(NULL, PYHEAP_BYTES, type_name), EINVAL);
	ck_err(pyheap_slot_set(NULL, 1, 0, 0), EINVAL);
	ck_err(pyheap_slot_get(NULL, 1, 0, &ref), EINVAL);
	ck_err(pyheap_queue_new(NULL, 1, &ref), EINVAL);
	ck_err(pyheap_queue_push(NULL, 1, 1, 0), EINVAL);
	ck_err(pyheap_queue_pop(NULL, 1, &ref, 0), EINVAL);
	ck_err(pyheap_name_set(NULL, "x", 1), EINVAL);
	ck_err(pyheap_name_get(NULL, "x", &ref), EINVAL);
	ck_err(pyheap_name_del(NULL, "x"), EINVAL);
	ck_err(pyheap_name_next(NULL, &cursor, name, &ref), EINVAL);
	ck_err(pyheap_lock(NULL), EINVAL);
	ck_err(pyheap_unlock(NULL), EINVAL);
	ck_err(pyheap_stats(NULL, &stats), EINVAL);
	ck_err(pyheap_client_next(NULL, &cursor, &info), EINVAL);
	ck_err(pyheap_check(NULL, NULL, NULL), EINVAL);
}
END_TEST

/* NULL where something is to be written or read is an error, never a crash. */
START_TEST(test_no_place)
{
	pyheap *heap = fixture_open(&fx);
	uint64_t cursor = 0;
	pyheap_ref ref;

	ck_err(pyheap_new(heap, PYHEAP_BYTES, 8, NULL), EINVAL);
	ck_err(pyheap_put(heap, NULL, 1, &ref), EINVAL);
	ck_err(pyheap_put(heap, "x", 1, NULL), EINVAL);
	ck_ok(pyheap_put(heap, NULL, 0, &ref));
	ck_err(pyheap_typeof(heap, ref, NULL), EINVAL);
	ck_err(pyheap_list_new(heap, 1, NULL), EINVAL);
	ck_err(pyheap_queue_new(heap, 1, NULL), EINVAL);
	ck_err(pyheap_type_register(heap, NULL, NULL), EINVAL);
	ck_err(pyheap_type_name(heap, PYHEAP_BYTES, NULL), EINVAL);
	ck_err(pyheap_name_set(heap, NULL, ref), EINVAL);
	ck_err(pyheap_name_get(heap, NULL, &ref), EINVAL);
	ck_err(pyheap_name_get(heap, "x", NULL), EINVAL);
	ck_err(pyheap_name_del(heap, NULL), EINVAL);
	ck_err(pyheap_name_next(heap, &cursor, NULL, NULL), EINVAL);
	ck_err(pyheap_stats(heap, NULL), EINVAL);
	ck_err(pyheap_client_next(heap, &cursor, NULL), EINVAL);
	ck_ok(pyheap_decref(heap, ref));
	pyheap_close(heap);
}
END_TEST

/* Fork. */

static pyheap_ref inherited;

/* The child's copies are of no use to it; the sessions that it opens are. */
static void forked_child(void *userdata)
{
	pyheap *copy = userdata, *own;
	pyheap_stats stats;
	pyheap_ref ref;

	ck_err(pyheap_fd(copy), ECHILD);
	ck_err(pyheap_dispatch(copy), ECHILD);
	ck_err(pyheap_new(copy, PYHEAP_BYTES, 8, &ref), ECHILD);
	ck_err(pyheap_put(copy, "x", 1, &ref), ECHILD);
	errno = 0;
	ck_assert_ptr_null(pyheap_data(copy, inherited));
	ck_assert_int_eq(errno, ECHILD);
	ck_assert_ptr_null(pyheap_data(copy, 0));
	ck_err(pyheap_incref(copy, inherited), ECHILD);
	ck_err(pyheap_incref(copy, 0), ECHILD);
	ck_err(pyheap_decref(copy, inherited), ECHILD);
	ck_err(pyheap_decref(copy, 0), ECHILD);
	ck_err(pyheap_list_new(copy, 1, &ref), ECHILD);
	ck_err(pyheap_lock(copy), ECHILD);
	ck_err(pyheap_unlock(copy), ECHILD);
	ck_err(pyheap_stats(copy, &stats), ECHILD);

	own = fixture_open(&fx);
	ck_err(pyheap_fd(copy), ECHILD);
	ck_ok(pyheap_incref(own, inherited));
	ck_assert_int_eq(pyheap_refcount(own, inherited), 2);
	ck_assert_str_eq(pyheap_data(own, inherited), "of the parent");
	pyheap_close(copy);
	ck_assert_str_eq(pyheap_data(own, inherited), "of the parent");
	ck_err(pyheap_queue_push(own, inherited, inherited, 0), EINVAL);

	/* The child's own child is refused as well. */
	if (fork() == 0)
		_exit(pyheap_fd(own) == -ECHILD && !pyheap_close(own) ? 0 : 1);
	ck_ok(pyheap_decref(own, inherited));
	pyheap_close(own);
}

START_TEST(test_fork)
{
	pyheap *heap = fixture_open(&fx);

	ck_ok(pyheap_put(heap, "of the parent", 14, &inherited));
	ck_ok(fixture_wait(fixture_fork(forked_child, heap)));
	ck_assert_int_eq(pyheap_refcount(heap, inherited), 1);
	ck_assert_str_eq(pyheap_data(heap, inherited), "of the parent");
	ck_ok(pyheap_decref(heap, inherited));
	pyheap_close(heap);
}
END_TEST

/* Without Check's macros: they take a mutex that another thread of the parent may have had when this child was made. */
static void exit_closing_all(void *userdata)
{
	pyheap **heaps = userdata;

	for (int i = 0; i < 3; i++)
		if (pyheap_close(heaps[i]))
			_exit(1);
}

struct opener {
	struct fixture_daemon daemon;
	bool stop;
};

/* Each is the only session of its heap: it maps and unmaps the heap, and holds the registry's mutex for long. */
static void *open_and_close(void *userdata)
{
	struct opener *opener = userdata;

	while (!__atomic_load_n(&opener->stop, __ATOMIC_RELAXED))
		pyheap_close(fixture_open(&opener->daemon));
	return NULL;
}

/*
 * A child that closes all its copies takes nothing from its parent, and never waits for a mutex that a thread of the
 * parent had.
 */
START_TEST(test_fork_amid_threads)
{
	static const char *const args[] = {"--size", "64M", NULL};
	struct opener opener = {.stop = false};
	pyheap *heaps[3];
	pthread_t thread;
	pyheap_ref ref;

	fixture_start(&opener.daemon, args);
	for (int i = 0; i < 3; i++)
		heaps[i] = fixture_open(&fx);
	ck_ok(pyheap_put(heaps[0], "x", 1, &ref));
	ck_ok(pthread_create(&thread, NULL, open_and_close, &opener));
	for (int i = 0; i < 200; i++)
		ck_ok(fixture_wait(fixture_fork(exit_closing_all, heaps)));
	__atomic_store_n(&opener.stop, true, __ATOMIC_RELAXED);
	ck_ok(pthread_join(thread, NULL));
	ck_ok(fixture_stop(&opener.daemon, SIGTERM));
	ck_assert_int_eq(pyheap_refcount(heaps[0], ref), 1);
	for (int i = 0; i < 3; i++)
		pyheap_close(heaps[i]);
}
END_TEST

/* Threads. */

#define N_THREADS 4
#define N_ROUNDS  2000

static pthread_barrier_t barrier;
static void *addresses[N_THREADS];
static pyheap_ref shared;

static void *thread_run(void *userdata)
{
	size_t number = (size_t)userdata;
	pyheap *heap = fixture_open(&fx);
	pyheap_ref refs[16] = {0};

	ck_ok(pyheap_incref(heap, shared));
	addresses[number] = pyheap_data(heap, shared);
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < N_ROUNDS; i++) {
		pyheap_ref *place = &refs[i % 16];

		if (*place) {
			ck_assert_uint_eq(*(size_t *)pyheap_data(heap, *place), number);
			ck_ok(pyheap_decref(heap, *place));
		}
		ck_ok(pyheap_new(heap, PYHEAP_BYTES, 8 + i * 7 % 3000, place));
		*(size_t *)pyheap_data(heap, *place) = number;
		ck_ok(pyheap_incref(heap, shared));
		ck_ok(pyheap_decref(heap, shared));
	}
	pyheap_close(heap);
	return NULL;
}

START_TEST(test_threads)
{
	pyheap *heap = fixture_open(&fx);
	pthread_t threads[N_THREADS];
	pyheap_stats stats;

	ck_ok(pyheap_put(heap, "shared", 7, &shared));
	ck_ok(pthread_barrier_init(&barrier, NULL, N_THREADS));
	for (size_t i = 0; i < N_THREADS; i++)
		ck_ok(pthread_create(&threads[i], NULL, thread_run, (void *)i));
	for (size_t i = 0; i < N_THREADS; i++)
		ck_ok(pthread_join(threads[i], NULL));
	/* One mapping: the pointer is valid for all sessions of the process. */
	for (size_t i = 0; i < N_THREADS; i++)
		ck_assert_ptr_eq(addresses[i], pyheap_data(heap, shared));
	ck_assert_int_eq(pyheap_refcount(heap, shared), 1);
	ck_ok(pyheap_decref(heap, shared));
	ck_ok(pyheap_stats(heap, &stats));
	ck_assert_uint_eq(stats.bytes_allocated_blocks, 0);
	ck_assert_uint_eq(stats.n_medium_objects, 0);
	pyheap_close(heap);
}
END_TEST

/* How often the heap segment is mapped here. */
static int n_mappings(const char *name)
{
	FILE *file = fopen("/proc/self/maps", "r");
	char line[512], segment[96];
	int n = 0;

	snprintf(segment, sizeof(segment), "/pyheap.%s.heap", name);
	while (fgets(line, sizeof(line), file))
		n += strstr(line, segment) != NULL;
	fclose(file);
	return n;
}

START_TEST(test_one_mapping)
{
	pyheap *a = fixture_open(&fx), *b = fixture_open(&fx);

	ck_assert_int_eq(n_mappings(fx.name), 1);
	pyheap_close(a);
	ck_assert_int_eq(n_mappings(fx.name), 1);
	pyheap_close(b);
	ck_assert_int_eq(n_mappings(fx.name), 0);
}
END_TEST

/* The daemon goes. */

static bool is_readable(int fd)
{
	struct pollfd pollfd = {.fd = fd, .events = POLLIN};

	return poll(&pollfd, 1, 0) == 1;
}

START_TEST(test_daemon_ended)
{
	pyheap *heap = fixture_open(&fx);
	pyheap_stats stats;
	pyheap_ref ref;
	int fd = pyheap_fd(heap);
	const char *data;

	ck_ok(pyheap_put(heap, "still mapped", 13, &ref));
	data = pyheap_data(heap, ref);
	ck_assert(!is_readable(fd));
	ck_ok(fixture_stop(&fx, SIGTERM));
	fixture_until(is_readable(fd));
	ck_err(pyheap_new(heap, PYHEAP_BYTES, 8, &ref), EPIPE);
	ck_err(pyheap_incref(heap, ref), EPIPE);
	ck_err(pyheap_decref(heap, ref), EPIPE);
	errno = 0;
	ck_assert_ptr_null(pyheap_data(heap, ref));
	ck_assert_int_eq(errno, EPIPE);
	ck_err(pyheap_name_set(heap, "x", ref), EPIPE);
	ck_err(pyheap_lock(heap), EPIPE);
	ck_err(pyheap_stats(heap, &stats), EPIPE);
	ck_err(pyheap_check(heap, NULL, NULL), EPIPE);
	ck_assert_str_eq(data, "still mapped");
	ck_assert_ptr_null(pyheap_close(heap));
}
END_TEST

static void *pop_for_ever(void *userdata)
{
	pyheap_ref *queue = userdata, ref;
	pyheap *heap = fixture_open(&fx);
	int r;

	r = pyheap_queue_pop(heap, *queue, &ref, -1);
	pyheap_close(heap);
	return (void *)(intptr_t)r;
}

/* A session that waits without a limit gets -EPIPE, too. */
START_TEST(test_daemon_ended_while_waiting)
{
	pyheap *heap = fixture_open(&fx);
	pthread_t thread;
	pyheap_ref queue;
	void *result;

	ck_ok(pyheap_queue_new(heap, 1, &queue));
	ck_ok(pthread_create(&thread, NULL, pop_for_ever, &queue));
	fixture_until(pyheap_refcount(heap, queue) == 2); /* a waiter holds what it waits at */
	ck_ok(fixture_stop(&fx, SIGTERM));
	ck_ok(pthread_join(thread, &result));
	ck_err((int)(intptr_t)result, EPIPE);
	pyheap_close(heap);
}
END_TEST

/* Fill what arenas there are with objects of half a pool's size, until a new arena would be needed. */
static int fill(pyheap *heap, pyheap_ref *first)
{
	pyheap_ref ref;
	int r;

	*first = 0;
	while ((r = pyheap_new(heap, PYHEAP_BYTES, 512, &ref)) == 0)
		if (!*first)
			*first = ref;
	return r;
}

START_TEST(test_daemon_killed)
{
	pyheap *heap = fixture_open(&fx), *other = fixture_open(&fx);
	pyheap_ref ref, got, first;
	int fd = pyheap_fd(heap);

	ck_ok(pyheap_put(heap, "kept", 5, &ref));
	ck_ok(pyheap_name_set(heap, "kept", ref));
	ck_ok(pyheap_set_timeout(heap, 200));
	ck_ok(pyheap_set_timeout(other, 200));
	ck_assert(WIFSIGNALED(fixture_stop(&fx, SIGKILL)));
	fixture_until(is_readable(fd));

	/* All that needs no fresh memory goes on, for every session. */
	ck_ok(pyheap_name_get(other, "kept", &got));
	ck_assert_uint_eq(got, ref);
	ck_assert_str_eq(pyheap_data(other, got), "kept");
	ck_ok(pyheap_decref(other, got));
	ck_ok(pyheap_incref(heap, ref));
	ck_ok(pyheap_decref(heap, ref));
	ck_err(pyheap_new(heap, PYHEAP_BYTES, 30 << 20, &got), ECONNRESET);
	ck_err(fill(other, &first), ECONNRESET);
	ck_assert_uint_ne(first, 0);
	ck_ok(pyheap_decref(other, first));
	ck_ok(pyheap_new(other, PYHEAP_BYTES, 512, &got));
	ck_assert_int_eq(pyheap_check(heap, NULL, NULL), 0);
	ck_assert_int_ge(pyheap_fd(heap), 0);
	pyheap_close(heap);
	pyheap_close(other);

	/* The next daemon has what the name held. */
	fixture_start_again(&fx);
	heap = fixture_open(&fx);
	ck_ok(pyheap_name_get(heap, "kept", &got));
	ck_assert_str_eq(pyheap_data(heap, got), "kept");
	pyheap_close(heap);
}
END_TEST

/* A daemon that is stopped answers nobody. Sessions wait for it up to their time-outs, and go on when it does. */
START_TEST(test_daemon_stopped)
{
	pyheap *heap = fixture_open(&fx), *other = NULL;
	pyheap_ref ref, large;

	ck_ok(pyheap_put(heap, "x", 1, &ref));
	ck_ok(pyheap_set_timeout(heap, 500));
	ck_ok(kill(fx.pid, SIGSTOP));
	ck_err(pyheap_new(heap, PYHEAP_BYTES, 8 << 20, &large), ETIMEDOUT);
	ck_ok(pyheap_incref(heap, ref));
	ck_ok(pyheap_decref(heap, ref));
	ck_err(pyheap_open(&other, fx.socket), ETIMEDOUT);
	ck_assert_ptr_null(other);
	ck_ok(kill(fx.pid, SIGCONT));
	ck_ok(pyheap_set_timeout(heap, -1));
	/* The late answer is read, and the next request gets its own answer. */
	ck_ok(pyheap_new(heap, PYHEAP_BYTES, 8 << 20, &large));
	ck_ok(pyheap_new(heap, PYHEAP_BYTES, 4 << 20, &large));
	pyheap_close(heap);
}
END_TEST

/* The global lock. */

START_TEST(test_lock)
{
	pyheap *heap = fixture_open(&fx);
	pyheap_ref list, ref, large, queue;

	ck_err(pyheap_unlock(heap), EPERM);
	ck_ok(pyheap_lock(heap));
	ck_err(pyheap_lock(heap), EDEADLK);
	ck_ok(pyheap_list_new(heap, 2, &list));
	ck_ok(pyheap_put(heap, "x", 1, &ref));
	ck_ok(pyheap_list_set(heap, list, 0, ref));
	ck_ok(pyheap_new(heap, PYHEAP_BYTES, 3 << 20, &large)); /* arenas are granted under the lock too */
	ck_ok(pyheap_queue_new(heap, 1, &queue));
	ck_err(pyheap_queue_pop(heap, queue, &ref, 0), EAGAIN);
	ck_err(pyheap_queue_pop(heap, queue, &ref, 100), EDEADLK);
	ck_ok(pyheap_unlock(heap));
	ck_err(pyheap_unlock(heap), EPERM);
	ck_ok(pyheap_lock(heap));
	pyheap_close(heap); /* gives it back */

	heap = fixture_open(&fx);
	ck_ok(pyheap_lock(heap));
	ck_ok(pyheap_unlock(heap));
	pyheap_close(heap);
}
END_TEST

static void die_with_lock(void *userdata)
{
	pyheap *heap = fixture_open(&fx);
	pyheap_ref ref;

	(void)userdata;
	ck_ok(pyheap_lock(heap));
	ck_ok(pyheap_put(heap, "finished", 9, &ref));
	ck_ok(pyheap_name_set(heap, "finished", ref));
	kill(getpid(), SIGKILL);
}

/* What it had finished stays; the lock is free. */
START_TEST(test_lock_owner_killed)
{
	pyheap *heap = fixture_open(&fx);
	pyheap_stats stats;
	pyheap_ref ref;

	ck_assert(WIFSIGNALED(fixture_wait(fixture_fork(die_with_lock, NULL))));
	ck_ok(pyheap_lock(heap));
	ck_ok(pyheap_name_get(heap, "finished", &ref));
	ck_assert_str_eq(pyheap_data(heap, ref), "finished");
	ck_ok(pyheap_unlock(heap));
	ck_ok(pyheap_stats(heap, &stats));
	ck_assert_uint_eq(stats.n_lock_recoveries, 1);
	pyheap_close(heap);
}
END_TEST

/* How a session that has the lock is closed: by which thread, and what the thread that took the lock does then. */
enum closing { ITSELF, AFTER_IT_ENDED, IT_ENDS, IT_TAKES, IT_CLOSES, N_CLOSINGS };

static struct keeper {
	enum closing closing;
	pyheap *heap, *other; /* its sessions */
	pthread_barrier_t barrier;
} keeper;

/* The lock is in the thread's list of robust futexes: nothing in that list may be unmapped. */
static void use_a_robust_mutex(void)
{
	pthread_mutexattr_t attr;
	pthread_mutex_t mutex;

	ck_ok(pthread_mutexattr_init(&attr));
	ck_ok(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST));
	ck_ok(pthread_mutex_init(&mutex, &attr));
	ck_ok(pthread_mutex_lock(&mutex));
	ck_ok(pthread_mutex_unlock(&mutex));
	ck_ok(pthread_mutex_destroy(&mutex));
}

static void *keeper_run(void *userdata)
{
	pyheap_ref ref;

	(void)userdata;
	ck_ok(pyheap_lock(keeper.heap));
	ck_ok(pyheap_put(keeper.heap, "kept", 5, &ref));
	ck_ok(pyheap_name_set(keeper.heap, "kept", ref));
	if (keeper.closing == AFTER_IT_ENDED)
		return NULL;
	if (keeper.closing == ITSELF) {
		pyheap_close(keeper.heap);
		return NULL;
	}
	pthread_barrier_wait(&keeper.barrier);
	pthread_barrier_wait(&keeper.barrier); /* it is closed */
	use_a_robust_mutex();
	if (keeper.closing == IT_TAKES)
		ck_ok(pyheap_name_set(keeper.other, "taken", ref));
	if (keeper.closing != IT_ENDS)
		keeper.other = pyheap_close(keeper.other);
	use_a_robust_mutex();
	if (keeper.closing != IT_ENDS) {
		pyheap *heap = fixture_open(&fx); /* it lives, and the lock is free */

		ck_ok(pyheap_lock(heap));
		ck_ok(pyheap_unlock(heap));
		pyheap_close(heap);
	}
	return NULL;
}

static void close_with_lock(void *userdata)
{
	pthread_t thread;
	pyheap_ref held;

	keeper = (struct keeper){.closing = *(enum closing *)userdata, .heap = fixture_open(&fx)};
	ck_ok(pyheap_put(keeper.heap, "held", 5, &held));
	ck_ok(pyheap_name_set(keeper.heap, "held", held));
	if (keeper.closing == IT_TAKES || keeper.closing == IT_CLOSES)
		keeper.other = fixture_open(&fx);
	ck_ok(pthread_barrier_init(&keeper.barrier, NULL, 2));
	ck_ok(pthread_create(&thread, NULL, keeper_run, NULL));
	if (keeper.closing > AFTER_IT_ENDED) {
		pthread_barrier_wait(&keeper.barrier);
		ck_err(pyheap_unlock(keeper.heap), EPERM);
		pyheap_close(keeper.heap);
		pthread_barrier_wait(&keeper.barrier);
	}
	ck_ok(pthread_join(thread, NULL));
	if (keeper.closing == AFTER_IT_ENDED)
		pyheap_close(keeper.heap);
	/* Another session opens, so that the library looks for heaps that can be unmapped. */
	keeper.heap = fixture_open(&fx);
	ck_ok(pyheap_lock(keeper.heap));
	pyheap_close(keeper.heap);
	ck_assert_int_eq(n_mappings(fx.name), 0);
	kill(getpid(), SIGSTOP); /* what is free now is so while it lives */
}

/* Whichever thread closes the session: the lock is free, its holds are dropped, and finished calls stay. */
START_TEST(test_close_with_lock)
{
	enum closing closing = (enum closing)_i;
	pyheap *heap;
	pyheap_ref ref, held;
	int status;
	pid_t pid;

	pid = fixture_fork(close_with_lock, &closing);
	ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
	ck_assert(WIFSTOPPED(status));
	heap = fixture_open(&fx);
	ck_ok(pyheap_lock(heap));
	ck_ok(pyheap_name_get(heap, "kept", &ref));
	ck_ok(pyheap_name_get(heap, "held", &held));
	ck_ok(pyheap_unlock(heap));
	ck_assert_str_eq(pyheap_data(heap, ref), "kept");
	fixture_until(pyheap_refcount(heap, held) == 2); /* its name and this session */
	fixture_until(pyheap_refcount(heap, ref) == (closing == IT_TAKES ? 3 : 2));
	ck_ok(pyheap_name_del(heap, "held"));
	ck_ok(pyheap_name_del(heap, "kept"));
	if (closing == IT_TAKES)
		ck_ok(pyheap_name_del(heap, "taken"));
	pyheap_close(heap);
	fixture_kill(pid);
}
END_TEST

static void *lock_and_end(void *heap)
{
	ck_ok(pyheap_lock(heap));
	return NULL;
}

static void *dispatch_run(void *heap)
{
	return (void *)(intptr_t)pyheap_dispatch(heap);
}

/*
 * The thread with the lock has ended, so the session has the lock no more: it waits for the next daemon, and does not
 * tell it that it has the lock.
 */
START_TEST(test_daemon_killed_after_a_thread_with_lock)
{
	pyheap *heap = fixture_open(&fx);
	pthread_t thread;
	void *result;

	ck_ok(pthread_create(&thread, NULL, lock_and_end, heap));
	ck_ok(pthread_join(thread, NULL));
	ck_assert(WIFSIGNALED(fixture_stop(&fx, SIGKILL)));
	fixture_until(is_readable(pyheap_fd(heap)));
	ck_ok(pthread_create(&thread, NULL, dispatch_run, heap));
	usleep(50000); /* mostly it waits by now; where it does not, the test is one of another order */
	fixture_start_again(&fx);
	ck_ok(pthread_join(thread, &result));
	ck_ok((int)(intptr_t)result);
	ck_err(pyheap_unlock(heap), EPERM);
	pyheap_close(heap);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_session");
	TCase *alone = tcase_create("alone"), *tcase = tcase_create("with a daemon");

	tcase_add_test(alone, test_open_fails);
	tcase_add_test(alone, test_more_sessions_than_slots);
	tcase_add_test(alone, test_no_session);
	suite_add_tcase(suite, alone);
	tcase_add_checked_fixture(tcase, fixture_setup, fixture_teardown);
	tcase_add_test(tcase, test_open_by_environment);
	tcase_add_test(tcase, test_no_place);
	tcase_add_test(tcase, test_fork);
	tcase_add_test(tcase, test_fork_amid_threads);
	tcase_add_test(tcase, test_threads);
	tcase_add_test(tcase, test_one_mapping);
	tcase_add_test(tcase, test_daemon_ended);
	tcase_add_test(tcase, test_daemon_ended_while_waiting);
	tcase_add_test(tcase, test_daemon_killed);
	tcase_add_test(tcase, test_daemon_stopped);
	tcase_add_test(tcase, test_lock);
	tcase_add_test(tcase, test_lock_owner_killed);
	tcase_add_loop_test(tcase, test_close_with_lock, 0, N_CLOSINGS);
	tcase_add_test(tcase, test_daemon_killed_after_a_thread_with_lock);
	suite_add_tcase(suite, tcase);
	return fixture_main(suite);
}
