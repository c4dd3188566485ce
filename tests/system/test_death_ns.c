// SPDX-License-Identifier: MIT
/*
 * Death is certain before it is acted on: pids that are used again, and other pid namespaces
 *
 * A pid alone says little: another process may have it by now, and in another pid namespace it is another process's or
 * none's. Daemon and clients run in namespaces of their own here, with the test's /proc, as after unshare without a
 * mount of /proc. Where the daemon cannot know whether a client lives (it was restarted, and the client has no pid in
 * its namespace), the session stays until it is resumed. Nothing of a living client is ever dropped.
 *
 * The thread ids that own the global lock are such numbers, too: two namespaces have the same ones.
 *
 * Needs root, to make namespaces and to choose pids.
 */
#include "fixture.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define HERE    (-1)
#define SKIPPED 77

enum client_is { CLIENT_NEW, CLIENT_HOLDS, CLIENT_GROWS, CLIENT_GREW, CLIENT_LOCKS, CLIENT_LOCKED };

/* Between the test and a child. */
struct shared {
	pyheap_ref ref;
	int fd;         /* of this memory */
	uint32_t is;    /* enum client_is */
	uint32_t wants; /* what it is told to become */
};

static pyheap *watcher;
static int own_ns;

/* Processes in namespaces. */

/* fork() into a pid namespace, HERE or by its descriptor, with that pid; 0: any. -EEXIST: the pid is taken. */
static pid_t fork_into(int ns, pid_t pid)
{
	struct clone_args args = {
		.exit_signal = SIGCHLD,
		.set_tid = (uintptr_t)&pid,
		.set_tid_size = pid ? 1 : 0,
	};
	pid_t child;

	if (ns != HERE)
		ck_ok(setns(ns, CLONE_NEWPID));
	if (pid) {
		child = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
		if (child < 0)
			child = -errno;
	} else {
		child = fork();
	}
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(600); /* it ends, however the test ends */
		return 0;
	}
	ck_ok(setns(own_ns, CLONE_NEWPID));
	return child;
}

static void wait_for_ever(void)
{
	for (;;)
		pause();
}

/* A pid namespace with nothing in it but its first process, which keeps it in being. */
static int new_ns(pid_t *ret_first)
{
	char path[64];
	pid_t pid;
	int ns;

	ck_ok(unshare(CLONE_NEWPID));
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(600);
		wait_for_ever();
	}
	ck_ok(setns(own_ns, CLONE_NEWPID));
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(ns, 0);
	*ret_first = pid;
	return ns;
}

static struct shared *map_shared(int fd)
{
	struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	ck_assert_ptr_ne(shared, MAP_FAILED);
	return shared;
}

static struct shared *share(void)
{
	int fd = memfd_create("death-ns", 0); /* not closed by exec */
	struct shared *shared;

	ck_assert_int_ge(fd, 0);
	ck_ok(ftruncate(fd, sizeof(*shared)));
	shared = map_shared(fd);
	shared->fd = fd;
	return shared;
}

/* Clients. */

static uint32_t is(const struct shared *shared)
{
	return __atomic_load_n(&shared->is, __ATOMIC_ACQUIRE);
}

static void became(struct shared *shared, uint32_t what)
{
	__atomic_store_n(&shared->is, what, __ATOMIC_RELEASE);
	fixture_until(__atomic_load_n(&shared->wants, __ATOMIC_ACQUIRE) > what);
}

static void tell(struct shared *shared, enum client_is what)
{
	__atomic_store_n(&shared->wants, (uint32_t)what, __ATOMIC_RELEASE);
}

/* It holds an object, then needs the daemon, then takes the lock, each when the test says so. */
static void client_run(struct shared *shared)
{
	pyheap *heap = fixture_open(&fx);
	pyheap_ref ref;

	ck_ok(pyheap_put(heap, "alive", 6, &shared->ref));
	became(shared, CLIENT_HOLDS);
	if (shared->wants == CLIENT_GROWS) {
		ck_ok(pyheap_new(heap, PYHEAP_BYTES, 1 << 20, &ref));
		ck_ok(pyheap_decref(heap, ref));
		ck_assert_str_eq(pyheap_data(heap, shared->ref), "alive");
		became(shared, CLIENT_GREW);
	}
	__atomic_store_n(&shared->is, CLIENT_LOCKS, __ATOMIC_RELEASE);
	ck_ok(pyheap_lock(heap));
	became(shared, CLIENT_LOCKED);
	ck_ok(pyheap_put(heap, "in it", 6, &ref));
	ck_ok(pyheap_unlock(heap));
	wait_for_ever();
}

/* The C library does not see this clone3() and would keep the parent's thread id; exec makes it read its own. */
static void client_exec(const struct shared *shared)
{
	char fd[16];

	snprintf(fd, sizeof(fd), "%d", shared->fd);
	execl("/proc/self/exe", "death-ns-client", fx.socket, fd, NULL);
	_exit(127);
}

static int client_fd;

START_TEST(be_a_client)
{
	client_run(map_shared(client_fd));
}
END_TEST

/* Check's assertions want a test around them. */
static int client_main(const char *socket, const char *fd)
{
	Suite *s = suite_create("client");
	TCase *t = tcase_create("client");
	SRunner *runner = srunner_create(s);

	snprintf(fx.socket, sizeof(fx.socket), "%s", socket);
	client_fd = atoi(fd);
	tcase_add_test(t, be_a_client);
	suite_add_tcase(s, t);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_SILENT);
	return 1; /* it does not end by itself */
}

static pid_t client_start(struct shared *shared, int ns, pid_t pid)
{
	pid_t child = fork_into(ns, pid);

	ck_assert_int_ge(child, 0);
	if (child == 0 && pid)
		client_exec(shared);
	if (child == 0) {
		client_run(shared);
		_exit(0);
	}
	while (is(shared) != CLIENT_HOLDS) {
		ck_assert_int_eq(waitpid(child, NULL, WNOHANG), 0);
		usleep(1000);
	}
	return child;
}

static bool is_gone(const struct shared *shared)
{
	int64_t n = pyheap_refcount(watcher, shared->ref);

	ck_assert(n == 1 || n == -ESTALE);
	return n < 0;
}

/* Another process comes and dies, and the daemon reclaims it: by then it had time to do wrong to others. */
static void settle(void)
{
	struct shared *shared = share();

	for (int i = 0; i < 3; i++) {
		shared->is = CLIENT_NEW;
		shared->wants = CLIENT_NEW;
		fixture_kill(client_start(shared, HERE, 0));
		fixture_until(is_gone(shared));
	}
	close(shared->fd);
	munmap(shared, sizeof(*shared));
}

static uint64_t n_sessions(void)
{
	pyheap_stats stats;

	ck_ok(pyheap_stats(watcher, &stats));
	return stats.n_sessions;
}

static void expect_kept(const struct shared *shared)
{
	settle();
	ck_assert(!is_gone(shared));
}

static uint64_t start_time(pid_t pid)
{
	char path[64], line[1024], *p;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), file));
	fclose(file);
	p = strrchr(line, ')');
	for (int field = 2; field < 22; field++)
		p = strchr(p + 1, ' ');
	return strtoull(p, NULL, 10);
}

/* The daemon. */

static void daemon_exec(void)
{
	const char *argv[FIXTURE_ARGS_MAX + 8] = {"pyheapd", "--name", fx.name, "--socket", fx.socket};
	int log = open(fx.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600), n = 5;

	for (int i = 0; fx.args[i]; i++)
		argv[n++] = fx.args[i];
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	alarm(0);
	if (log >= 0 && dup2(log, STDERR_FILENO) >= 0)
		execv(getenv("PYHEAPD"), (char **)argv);
	_exit(126);
}

static bool daemon_admits(void)
{
	pyheap *heap;

	ck_assert_int_eq(waitpid(fx.pid, NULL, WNOHANG), 0);
	if (pyheap_open(&heap, fx.socket) < 0)
		return false;
	pyheap_close(heap);
	return true;
}

/* As fixture_start_again(), in another pid namespace. */
static void daemon_start_in(int ns)
{
	fx.pid = fork_into(ns, 0);
	ck_assert_int_ge(fx.pid, 0);
	if (fx.pid == 0)
		daemon_exec();
	fixture_until(daemon_admits());
}

static void restart_daemon_in(int ns)
{
	fixture_stop(&fx, SIGKILL);
	daemon_start_in(ns);
}

static void setup(void)
{
	own_ns = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(own_ns, 0);
	fixture_setup();
	watcher = fixture_open(&fx);
}

static void teardown(void)
{
	watcher = pyheap_close(watcher);
	fixture_teardown();
}

/* A heap that was made by a daemon in that namespace, instead of setup()'s. */
static void begin_in(int ns)
{
	watcher = pyheap_close(watcher);
	ck_assert_int_eq(fixture_stop(&fx, SIGTERM), 0);
	daemon_start_in(ns);
	watcher = fixture_open(&fx);
}

/* Pids that are used again. */

/* Another process with that pid, started later than `start`. A process of somebody else may have come first: it ends.
 */
static pid_t impostor(pid_t pid, uint64_t start)
{
	for (;;) {
		pid_t child = fork_into(HERE, pid);

		if (child == -EEXIST) {
			usleep(1000);
			continue;
		}
		ck_assert_int_eq(child == 0 ? pid : child, pid);
		if (child == 0)
			wait_for_ever();
		if (start_time(pid) != start)
			return child;
		fixture_kill(child); /* the clock has not moved yet */
	}
}

START_TEST(used_again_while_the_daemon_is_away)
{
	struct shared *shared = share(), *other = share();
	pid_t pid = client_start(shared, HERE, 0);
	uint64_t start = start_time(pid);

	client_start(other, HERE, 0);
	fixture_stop(&fx, SIGKILL);
	fixture_kill(pid);
	ck_assert_int_eq(impostor(pid, start), pid);
	fixture_start_again(&fx);
	fixture_until(is_gone(shared));
	expect_kept(other);
	ck_ok(kill(pid, 0)); /* the daemon did nothing to it */
	fixture_kill(pid);
}
END_TEST

/* The daemon is stopped while a client connects, says Hello and is killed; then somebody else has its pid. */
START_TEST(used_again_before_it_was_admitted)
{
	struct shared *shared = share();
	uint64_t start;
	pid_t pid;

	ck_ok(kill(fx.pid, SIGSTOP));
	pid = fork_into(HERE, 0);
	if (pid == 0) {
		__atomic_store_n(&shared->is, CLIENT_HOLDS, __ATOMIC_RELEASE);
		fixture_open(&fx);
		_exit(1); /* not before the daemon goes on */
	}
	fixture_until(is(shared) == CLIENT_HOLDS);
	usleep(20000); /* mostly enough to come further than connect(); where it is not, the test is one of another
			  order */
	start = start_time(pid);
	fixture_kill(pid);
	ck_assert_int_eq(impostor(pid, start), pid);
	ck_ok(kill(fx.pid, SIGCONT));
	settle();
	fixture_until(n_sessions() == 1); /* the watcher's */
	fixture_kill(pid);
}
END_TEST

/* Clients of other namespaces. */

/* In a child namespace of the daemon's, whose processes have a pid in the daemon's too. */
START_TEST(client_in_a_namespace)
{
	struct shared *shared = share(), *other = share();
	pid_t first, pid, other_pid;
	int ns = new_ns(&first);

	pid = client_start(shared, ns, 0);
	other_pid = client_start(other, ns, 0);
	expect_kept(shared);
	restart_daemon_in(HERE);
	expect_kept(shared);
	tell(shared, CLIENT_GROWS); /* resumes its session */
	fixture_until(is(shared) == CLIENT_GREW);
	expect_kept(shared);
	fixture_kill(pid);
	fixture_until(is_gone(shared));
	expect_kept(other);
	fixture_stop(&fx, SIGKILL);
	fixture_kill(other_pid);
	fixture_start_again(&fx);
	fixture_until(is_gone(other));
}
END_TEST

/* All of a namespace is killed at once when its first process is. */
START_TEST(namespace_ends)
{
	struct shared *shared = share();
	pid_t first;
	int ns = new_ns(&first);
	pid_t pid = client_start(shared, ns, 0);

	expect_kept(shared);
	ck_ok(kill(first, SIGKILL));
	fixture_until(is_gone(shared));
	fixture_wait(pid);
	fixture_wait(first);
}
END_TEST

/* The daemon is in a namespace in which the client has no pid. */
START_TEST(daemon_in_a_namespace)
{
	struct shared *shared = share(), *other = share();
	pid_t first, pid;
	int ns = new_ns(&first);

	begin_in(ns);
	pid = client_start(shared, HERE, 0);
	expect_kept(shared);
	fixture_kill(pid);
	fixture_until(is_gone(shared)); /* by its pidfd */

	pid = client_start(other, HERE, 0);
	restart_daemon_in(ns);
	settle();
	ck_assert(!is_gone(other)); /* it cannot be known, so the session stays ... */
	tell(other, CLIENT_GROWS);
	fixture_until(is(other) == CLIENT_GREW);
	expect_kept(other);
	fixture_kill(pid); /* ... and it is known again once it is resumed */
	fixture_until(is_gone(other));
}
END_TEST

/* Client and daemon in one namespace, whose pids are other processes' in the /proc that they see. */
START_TEST(both_in_a_namespace)
{
	struct shared *shared = share(), *other = share();
	pid_t first, pid, other_pid;
	int ns = new_ns(&first);

	begin_in(ns);
	pid = client_start(shared, ns, 0);
	other_pid = client_start(other, ns, 0);
	restart_daemon_in(ns);
	expect_kept(shared);
	tell(shared, CLIENT_GROWS);
	fixture_until(is(shared) == CLIENT_GREW);
	expect_kept(shared);
	fixture_kill(pid);
	fixture_until(is_gone(shared));
	fixture_stop(&fx, SIGKILL);
	fixture_kill(other_pid);
	daemon_start_in(ns);
	fixture_until(is_gone(other));
}
END_TEST

/*
 * Each daemon is of another namespace than the one before, where the client's pid is nobody's (0: the first is
 * outside), or some other living process's (1: the first is inside; 2: both inside, of two namespaces).
 */
START_TEST(daemon_changes_namespaces)
{
	struct shared *shared = share(), *other = share();
	pid_t first, second, pid, other_pid;
	int inside = new_ns(&first), also = new_ns(&second);
	int from = _i == 0 ? HERE : inside, to = _i == 0 ? inside : _i == 1 ? HERE : also;

	begin_in(from);
	pid = client_start(shared, from, 0);
	other_pid = client_start(other, from, 0);
	restart_daemon_in(to);
	expect_kept(shared);
	expect_kept(other);
	tell(shared, CLIENT_GROWS);
	fixture_until(is(shared) == CLIENT_GREW);
	restart_daemon_in(from);
	expect_kept(shared);
	fixture_kill(pid); /* resumed last in another namespace, so it cannot be known */
	fixture_kill(other_pid);
	restart_daemon_in(from);
	fixture_until(is_gone(other)); /* its pid says something here */
}
END_TEST

/* The lock. */

/* It sleeps in a futex, and so waits for the lock. */
static bool waits(pid_t pid)
{
	char path[64], line[256] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)pid);
	file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	if (!fgets(line, sizeof(line), file))
		line[0] = '\0';
	fclose(file);
	return strtol(line, NULL, 10) == SYS_futex;
}

static void lock_begin(struct shared *shared, pid_t pid)
{
	tell(shared, CLIENT_LOCKS);
	fixture_until(is(shared) == CLIENT_LOCKED || (is(shared) == CLIENT_LOCKS && waits(pid)));
}

/*
 * The owner and a waiter have the same pid in two namespaces, and the waiter is killed: that is not the owner's death.
 * 0: two namespaces that are not the heap's; 1: the owner is of the heap's; 2: the waiter is.
 */
START_TEST(waiter_of_the_same_number_is_killed)
{
	enum { NUMBER = 4711 };
	struct shared *owner = share(), *waiter = share(), *third = share();
	pid_t first, second, owner_pid = 0, waiter_pid = 0, third_pid, number = NUMBER;
	int owner_ns = new_ns(&first), waiter_ns = new_ns(&second);
	pyheap_stats stats;

	if (_i == 1)
		owner_pid = number = client_start(owner, HERE, 0);
	if (_i == 2)
		waiter_pid = number = client_start(waiter, HERE, 0);
	if (_i != 1)
		owner_pid = client_start(owner, owner_ns, number);
	if (_i != 2)
		waiter_pid = client_start(waiter, waiter_ns, number);
	third_pid = client_start(third, HERE, 0);
	lock_begin(owner, owner_pid);
	ck_assert_uint_eq(is(owner), CLIENT_LOCKED);
	lock_begin(waiter, waiter_pid);
	ck_assert_uint_eq(is(waiter), CLIENT_LOCKS);
	fixture_kill(waiter_pid);

	lock_begin(third, third_pid);
	ck_assert_uint_eq(is(third), CLIENT_LOCKS);
	tell(owner, CLIENT_LOCKED + 1); /* it does something and gives the lock up */
	fixture_until(is(third) == CLIENT_LOCKED);
	tell(third, CLIENT_LOCKED + 1);
	ck_ok(pyheap_stats(watcher, &stats));
	ck_assert_uint_eq(stats.n_lock_recoveries, 0);
	fixture_until(is_gone(waiter));
	expect_kept(owner);
	expect_kept(third);
}
END_TEST

/* The owner, of another namespace than the heap's, is killed; 1: while the daemon is away, which has to tell. */
START_TEST(foreign_owner_is_killed)
{
	struct shared *owner = share(), *waiter = share(), *foreigner = share();
	pid_t first, second, pid, waiter_pid, foreign_pid;
	int ns = new_ns(&first), other_ns = new_ns(&second);

	pid = client_start(owner, ns, 0);
	waiter_pid = client_start(waiter, HERE, 0);
	foreign_pid = client_start(foreigner, other_ns, 0);
	lock_begin(owner, pid);
	ck_assert_uint_eq(is(owner), CLIENT_LOCKED);
	lock_begin(waiter, waiter_pid);
	lock_begin(foreigner, foreign_pid);
	if (_i == 1)
		fixture_stop(&fx, SIGKILL);
	fixture_kill(pid);
	if (_i == 1)
		daemon_start_in(HERE);
	/* both have it, in any order */
	fixture_until(is(waiter) == CLIENT_LOCKED || is(foreigner) == CLIENT_LOCKED);
	tell(waiter, CLIENT_LOCKED + 1);
	tell(foreigner, CLIENT_LOCKED + 1);
	fixture_until(is(waiter) == CLIENT_LOCKED && is(foreigner) == CLIENT_LOCKED);
	fixture_until(is_gone(owner));
	expect_kept(waiter);
	expect_kept(foreigner);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("death-ns");
	TCase *t = tcase_create("death-ns");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, used_again_while_the_daemon_is_away);
	tcase_add_test(t, used_again_before_it_was_admitted);
	tcase_add_test(t, client_in_a_namespace);
	tcase_add_test(t, namespace_ends);
	tcase_add_test(t, daemon_in_a_namespace);
	tcase_add_test(t, both_in_a_namespace);
	tcase_add_loop_test(t, daemon_changes_namespaces, 0, 3);
	tcase_add_loop_test(t, waiter_of_the_same_number_is_killed, 0, 3);
	tcase_add_loop_test(t, foreign_owner_is_killed, 0, 2);
	suite_add_tcase(s, t);
	return s;
}

int main(int argc, char **argv)
{
	int status = 1;
	pid_t pid;

	if (argc == 3)
		return client_main(argv[1], argv[2]);
	pid = fork();

	if (pid == 0)
		_exit(unshare(CLONE_NEWPID) < 0);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
		fprintf(stderr, "skipped: pid namespaces cannot be made here (it takes root)\n");
		return SKIPPED;
	}
	return fixture_main(suite());
}
