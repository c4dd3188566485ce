// SPDX-License-Identifier: MIT
/*
 * A process that is stopped, or computes without end, while it has the global lock
 *
 * All that change the heap wait for it. `pyheapctl clients` and the daemon's log name it at once. After --lock-timeout
 * the daemon kills it, if it may, and all go on. A process that is stopped without the lock is left alone.
 *
 * A test cannot wait for something that never happens. It waits NEVER_S seconds, a few times the limit; a busy machine
 * can only make such a test pass where it should fail.
 */
#include "fixture.h"

#include "heap/shared/layout.h"

#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define NEVER_S 4

static pyheap *heap; /* the test's own session */

/* Helpers. */

static void start_with_limit(const char *seconds)
{
	const char *const args[] = {"--size", "64M", "--lock-timeout", seconds, NULL};

	fixture_start(&fx, args);
	heap = fixture_open(&fx);
}

static void setup(void)
{
	start_with_limit("1");
}

static void teardown(void)
{
	heap = pyheap_close(heap);
	fixture_teardown();
}

/* How often the log says this of the session of that process. */
static int log_count_of(pid_t pid, const char *text)
{
	char line[256];

	snprintf(line, sizeof(line), "(pid %d, %s) %s", (int)pid, program_invocation_short_name, text);
	return fixture_log_count(line);
}

/*
 * `pyheapctl clients` says that the process has the lock. It is run once, since it has to know at once; so a test asks
 * only where the process keeps the lock however long pyheapctl takes: without a limit of seconds.
 */
static bool ctl_names(pid_t pid)
{
	char command[2 * PATH_MAX], line[512];
	bool is_named = false;
	FILE *file;

	snprintf(command, sizeof(command), "'%s' --socket '%s' clients", getenv("PYHEAPCTL"), fx.socket);
	file = popen(command, "re");
	ck_assert_ptr_nonnull(file);
	while (fgets(line, sizeof(line), file)) {
		int session, its_pid;

		if (sscanf(line, "%d %d", &session, &its_pid) == 2 && its_pid == pid)
			is_named = strstr(line, " lock ") != NULL;
	}
	ck_ok(pclose(file));
	return is_named;
}

static uint64_t n_recoveries(void)
{
	pyheap_stats stats;

	ck_ok(pyheap_stats(heap, &stats));
	return stats.n_lock_recoveries;
}

/* Stopped owners. */

/* It leaves finished calls and a hold behind. Continued, it gives the lock back and ends. */
static void stop_with_lock(void *userdata)
{
	pyheap *own = fixture_open(&fx);
	pyheap_ref ref, other;

	ck_ok(pyheap_put(own, "held", 5, &other));
	ck_ok(pyheap_lock(own));
	ck_ok(pyheap_put(own, "finished", 9, &ref));
	ck_ok(pyheap_name_set(own, userdata, ref));
	ck_ok(raise(SIGSTOP));
	ck_ok(pyheap_unlock(own));
	pyheap_close(own);
}

static void stop_without_lock(void *userdata)
{
	pyheap *own = fixture_open(&fx);
	pyheap_ref ref;

	ck_ok(pyheap_put(own, "finished", 9, &ref));
	ck_ok(pyheap_name_set(own, userdata, ref));
	ck_ok(raise(SIGSTOP));
	ck_assert_str_eq(pyheap_data(own, ref), "finished");
	ck_ok(pyheap_decref(own, ref));
	pyheap_close(own);
}

static pid_t start_and_stop(void (*run)(void *userdata), const char *name)
{
	pid_t pid = fixture_fork(run, (void *)(uintptr_t)name);
	int status = 0;

	fixture_until(waitpid(pid, &status, WUNTRACED | WNOHANG) == pid);
	ck_assert_msg(WIFSTOPPED(status), "ended with status 0x%x", (unsigned int)status);
	return pid;
}

/* A process that needs the lock for each of its calls. */
static void change_something(void *userdata)
{
	pyheap *own = fixture_open(&fx);
	pyheap_ref ref;
	char name[32];

	(void)userdata;
	snprintf(name, sizeof(name), "changed by %d", (int)getpid());
	for (int i = 0; i < 100; i++) {
		ck_ok(pyheap_put(own, &i, sizeof(i), &ref));
		ck_ok(pyheap_name_set(own, name, ref));
		ck_ok(pyheap_decref(own, ref));
	}
	ck_ok(pyheap_name_del(own, name));
	pyheap_close(own);
}

/* The process was killed. Its finished calls stay, its holds are dropped. */
static void expect_evicted(pid_t pid, const char *name)
{
	int status = fixture_wait(pid);
	pyheap_stats stats;
	pyheap_ref ref;

	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status 0x%x", (unsigned int)status);
	fixture_until(log_count_of(pid, "is evicted") == 1);
	fixture_until(pyheap_stats(heap, &stats) == 0 && stats.n_sessions == 1);
	ck_ok(pyheap_name_get(heap, name, &ref));
	ck_assert_str_eq(pyheap_data(heap, ref), "finished");
	ck_assert_int_eq(pyheap_refcount(heap, ref), 2); /* the name and this session */
	ck_ok(pyheap_name_del(heap, name));
	ck_ok(pyheap_decref(heap, ref));
	ck_ok(pyheap_stats(heap, &stats));
	ck_assert_uint_eq(stats.bytes_allocated_blocks, 0);
}

START_TEST(evicts_who_is_stopped)
{
	pid_t pid = start_and_stop(stop_with_lock, "a"), others[3];

	for (int i = 0; i < 3; i++)
		others[i] = fixture_fork(change_something, NULL);
	fixture_until(log_count_of(pid, "has held the global lock") == 1);
	for (int i = 0; i < 3; i++)
		ck_ok(fixture_wait(others[i]));
	expect_evicted(pid, "a");
	ck_assert_uint_eq(n_recoveries(), 1);
	fixture_until(fixture_log_count("the global lock is free again") == 1);
}
END_TEST

/* One after the other: the watch begins anew with each. */
START_TEST(evicts_the_next_too)
{
	for (int i = 1; i <= 3; i++) {
		expect_evicted(start_and_stop(stop_with_lock, "a"), "a");
		ck_assert_uint_eq(n_recoveries(), (unsigned int)i);
	}
	ck_assert_int_eq(fixture_log_count("is evicted"), 3);
}
END_TEST

/* Not stopped, but computing: it is the lock that counts. */
static void spin_with_lock(void *userdata)
{
	pyheap *own = fixture_open(&fx);
	pyheap_ref ref;

	ck_ok(pyheap_lock(own));
	ck_ok(pyheap_put(own, "finished", 9, &ref));
	ck_ok(pyheap_name_set(own, userdata, ref));
	for (;;)
		;
}

START_TEST(evicts_who_computes)
{
	char name[] = "spins";
	pid_t pid = fixture_fork(spin_with_lock, name);

	fixture_until(log_count_of(pid, "has held the global lock") == 1);
	expect_evicted(pid, name);
}
END_TEST

/* The daemon is replaced: by one that has never heard of the process. */
static void replace_daemon(void)
{
	fixture_stop(&fx, SIGKILL);
	fixture_start_again(&fx);
}

/* A restarted daemon knows whom to blame; it may kill only who has connected to it. */
START_TEST(never_who_was_adopted)
{
	pid_t pid;

	/* The limit is longer than this daemon lives. Its successor has a short one. */
	heap = pyheap_close(heap);
	ck_ok(fixture_stop(&fx, SIGTERM));
	start_with_limit("3600");
	pid = start_and_stop(stop_with_lock, "a");
	fixture_until(log_count_of(pid, "has held the global lock") == 1);
	ck_assert_str_eq(fx.args[3], "3600");
	fx.args[3] = "1";
	replace_daemon();
	ck_assert(ctl_names(pid));
	fixture_until(log_count_of(pid, "has held the global lock") == 2);
	fixture_until(log_count_of(pid, "cannot be evicted: it has not come back since pyheapd was restarted") == 1);
	ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
	ck_assert_int_eq(fixture_log_count("is evicted"), 0);
	ck_ok(kill(pid, SIGCONT)); /* whose end is seen all the same */
	ck_ok(fixture_wait(pid));
	fixture_until(fixture_log_count("the global lock is free again") == 1);
}
END_TEST

/* It has the lock, comes back to the daemon that was restarted, and stops again, with the lock all the time. */
static void come_back_with_lock(void *userdata)
{
	pyheap *own = fixture_open(&fx);
	pyheap_ref ref;

	ck_ok(pyheap_lock(own));
	ck_ok(pyheap_put(own, "finished", 9, &ref));
	ck_ok(pyheap_name_set(own, userdata, ref));
	ck_ok(raise(SIGSTOP));
	fixture_until(pyheap_dispatch(own) == 0);
	ck_ok(raise(SIGSTOP));
	pyheap_close(own);
}

/* It could not be evicted before, as it had not connected; once it has, it is, though it never gave the lock back. */
START_TEST(evicts_who_came_back_with_it)
{
	pid_t pid = start_and_stop(come_back_with_lock, "a");
	int status = 0;

	replace_daemon();
	fixture_until(log_count_of(pid, "cannot be evicted: it has not come back since pyheapd was restarted") == 1);
	ck_ok(kill(pid, SIGCONT));
	fixture_until(waitpid(pid, &status, WUNTRACED | WNOHANG) == pid && WIFSTOPPED(status));
	expect_evicted(pid, "a");
}
END_TEST

/* It comes back to the daemon that was restarted, then it stops with the lock. */
static void come_back_and_stop(void *userdata)
{
	pyheap *own = fixture_open(&fx);
	pyheap_stats stats;
	pyheap_ref ref;

	ck_ok(raise(SIGSTOP));
	fixture_until(pyheap_stats(own, &stats) == 0);
	ck_ok(pyheap_lock(own));
	ck_ok(pyheap_put(own, "finished", 9, &ref));
	ck_ok(pyheap_name_set(own, userdata, ref));
	ck_ok(raise(SIGSTOP));
	pyheap_close(own);
}

START_TEST(evicts_who_came_back)
{
	pid_t pid = start_and_stop(come_back_and_stop, "a");
	int status = 0;

	replace_daemon();
	ck_ok(kill(pid, SIGCONT));
	fixture_until(waitpid(pid, &status, WUNTRACED | WNOHANG) == pid && WIFSTOPPED(status));
	expect_evicted(pid, "a");
}
END_TEST

/* Left alone. */

START_TEST(goes_on_before_the_limit)
{
	pid_t pid;
	pyheap_ref ref;

	heap = pyheap_close(heap);
	ck_ok(fixture_stop(&fx, SIGTERM));
	start_with_limit("3600");
	pid = start_and_stop(stop_with_lock, "a");
	ck_assert(ctl_names(pid));
	fixture_until(log_count_of(pid, "has held the global lock") == 1);
	ck_ok(kill(pid, SIGCONT));
	ck_ok(fixture_wait(pid));
	fixture_until(fixture_log_count("the global lock is free again") == 1);
	ck_assert_int_eq(fixture_log_count("is evicted"), 0);
	ck_ok(pyheap_name_get(heap, "a", &ref));
	ck_assert_uint_eq(n_recoveries(), 0);
}
END_TEST

START_TEST(never_without_a_limit)
{
	pid_t pid;

	heap = pyheap_close(heap);
	ck_ok(fixture_stop(&fx, SIGTERM));
	start_with_limit("0");
	pid = start_and_stop(stop_with_lock, "a");
	ck_assert(ctl_names(pid));
	fixture_until(log_count_of(pid, "has held the global lock") == 1);
	sleep(NEVER_S);
	ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
	ck_assert(ctl_names(pid));
	ck_assert_int_eq(fixture_log_count("evicted"), 0);
	ck_ok(kill(pid, SIGCONT));
	ck_ok(fixture_wait(pid));
	ck_assert_uint_eq(n_recoveries(), 0);
}
END_TEST

START_TEST(never_without_the_lock)
{
	pid_t pid = start_and_stop(stop_without_lock, "a");

	ck_assert(!ctl_names(pid));
	ck_ok(fixture_wait(fixture_fork(change_something, NULL)));
	sleep(NEVER_S);
	ck_ok(fixture_wait(fixture_fork(change_something, NULL)));
	ck_assert_int_eq(log_count_of(pid, "has held"), 0);
	ck_assert_int_eq(fixture_log_count("evicted"), 0);
	ck_ok(kill(pid, SIGCONT));
	ck_ok(fixture_wait(pid));
}
END_TEST

/*
 * Busy with the lock for longer than the limit, but giving it back each time. The limit is so long that no busy machine
 * keeps a process from running for that time.
 */
START_TEST(never_who_gives_it_back)
{
	time_t end;
	pyheap_ref ref;

	heap = pyheap_close(heap);
	ck_ok(fixture_stop(&fx, SIGTERM));
	start_with_limit("5");
	end = time(NULL) + 7;
	while (time(NULL) < end) {
		ck_ok(pyheap_lock(heap));
		for (int i = 0; i < 100; i++) {
			ck_ok(pyheap_put(heap, "x", 1, &ref));
			ck_ok(pyheap_decref(heap, ref));
		}
		ck_ok(pyheap_unlock(heap));
	}
	ck_assert_int_eq(fixture_log_count("evicted"), 0);
}
END_TEST

/* Words that were forged. */

/* The word of the global lock, as a process of any pid namespace sees it. */
static uint32_t *lock_word(void)
{
	struct control *control;
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/pyheap.%s.ctl", fx.name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	control = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(control, MAP_FAILED);
	close(fd);
	return &control->lock.word;
}

/* What the word may have that nobody goes by. */
enum nobody { HIGHEST_ID, ABOVE_IDS, NO_SESSION, FREE_SESSION, ANY_NUMBER, DEAD_CHILD, N_NOBODIES };

static uint32_t name_of_nobody(enum nobody nobody)
{
	pid_t pid;

	switch (nobody) {
	case HIGHEST_ID:
		return (1 << 22) - 1; /* nobody's here, most likely */
	case ABOVE_IDS:
		return (1 << 22) + 1;
	case NO_SESSION:
		return 1 << 29;
	case FREE_SESSION:
		return (1 << 29) + 12;
	case ANY_NUMBER:
		return 0x3ffffff7;
	default:
		pid = fork();
		if (!pid)
			_exit(0);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		return (uint32_t)pid;
	}
}

/* The word has the name of nobody, with any marks. Without a limit too, the daemon breaks the lock, and all go on. */
START_TEST(breaks_what_nobody_has)
{
	uint32_t *word;
	pid_t other;

	heap = pyheap_close(heap);
	ck_ok(fixture_stop(&fx, SIGTERM));
	start_with_limit(_i % 2 ? "0" : "3600");
	word = lock_word();
	for (int i = 0; i < N_NOBODIES; i++) {
		uint32_t name = name_of_nobody((enum nobody)i), marks = (uint32_t)i % 4 << 30;

		fixture_until(__sync_bool_compare_and_swap(word, 0, name | marks));
		other = fixture_fork(change_something, NULL);
		fixture_until(fixture_log_count("which does not exist: it is broken") == i + 1);
		ck_ok(fixture_wait(other));
	}
	ck_assert_int_eq(fixture_log_count("evicted"), 0);
	ck_assert_uint_eq(n_recoveries(), N_NOBODIES);
}
END_TEST

static void sleep_on(void *userdata)
{
	(void)userdata;
	for (;;)
		pause();
}

static void sleep_connected(void *userdata)
{
	pyheap *own = fixture_open(&fx);

	(void)userdata;
	raise(SIGSTOP);
	sleep_on(own);
}

/*
 * The word has a thread that lives and does not have the lock: of a process that is not connected, or of one that is.
 * The process is left alone.
 */
START_TEST(breaks_what_a_thread_does_not_have)
{
	pid_t pid = _i ? start_and_stop(sleep_connected, NULL) : fixture_fork(sleep_on, NULL), other;
	uint32_t *word = lock_word();

	fixture_until(__sync_bool_compare_and_swap(word, 0, (uint32_t)pid));
	other = fixture_fork(change_something, NULL);
	fixture_until(fixture_log_count(_i ? "has held the global lock" : "status ends in") == 1); /* whom to look at */
	fixture_until(fixture_log_count("which does not have it: it is broken") == 1);
	fixture_until(fixture_log_count("the global lock is free again") == 1);
	ck_ok(fixture_wait(other));
	ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
	ck_assert_int_eq(fixture_log_count("evicted"), 0);
	fixture_kill(pid);
}
END_TEST

/* The word has the daemon's own thread: the daemon knows better, and keeps nothing. */
START_TEST(keeps_nothing_itself)
{
	uint32_t *word = lock_word();

	for (int i = 0; i < 4; i++) {
		fixture_until(__sync_bool_compare_and_swap(word, 0, (uint32_t)fx.pid | (uint32_t)i << 30));
		ck_ok(fixture_wait(fixture_fork(change_something, NULL)));
	}
	ck_assert_int_eq(fixture_log_count("evicted"), 0);
}
END_TEST

/* Where the daemon may not kill. */

/* Only root can make a process of another user; where only root may search / or $PWD, that process can run nothing. */
static bool can_be_nobody(void)
{
	return geteuid() == 0 && system("setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null") == 0;
}

/* A program for the fixture: it runs pyheapd as the user nobody, from a copy that this user can reach. */
static void become_nobody(void)
{
	const struct passwd *nobody = getpwnam("nobody");
	char path[96];
	FILE *file;

	ck_assert_ptr_nonnull(nobody);
	ck_ok(chown(fixture_folder, nobody->pw_uid, (gid_t)-1));
	snprintf(path, sizeof(path), "%s/run-%d", fixture_folder, (int)getpid());
	file = fopen(path, "we");
	ck_assert_ptr_nonnull(file);
	fprintf(file,
		"#!/bin/sh\n"
		"set -e\n"
		"install -m 755 '%s' '%s/pyheapd'\n"
		"exec setpriv --reuid=%u --regid=%u --clear-groups --pdeathsig TERM '%s/pyheapd' \"$@\"\n",
		getenv("PYHEAPD"), fixture_folder, (unsigned int)nobody->pw_uid, (unsigned int)nobody->pw_gid,
		fixture_folder);
	ck_ok(fclose(file));
	ck_ok(chmod(path, 0755));
	ck_ok(setenv("PYHEAPD", path, 1));
}

/* The daemon logs that once. All wait until a user who may do so kills the owner. */
START_TEST(says_that_it_may_not)
{
	pid_t pid, other;

	become_nobody();
	setup();
	pid = start_and_stop(stop_with_lock, "a");
	ck_assert(ctl_names(pid));
	other = fixture_fork(change_something, NULL);
	fixture_until(log_count_of(pid, "has held the global lock") == 1);
	fixture_until(log_count_of(pid, "cannot be evicted: Operation not permitted") == 1);
	sleep(NEVER_S);
	ck_assert_int_eq(fixture_log_count("cannot be evicted"), 1);
	ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
	ck_assert_int_eq(waitpid(other, NULL, WNOHANG), 0);
	ck_assert(ctl_names(pid));
	fixture_kill(pid);
	ck_ok(fixture_wait(other));
	ck_assert_uint_eq(n_recoveries(), 1);
	fixture_until(fixture_log_count("the global lock is free again") == 1);
	ck_ok(pyheap_name_del(heap, "a"));
	teardown();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("evict");
	TCase *each = tcase_create("each with a daemon"), *nobody = tcase_create("with a daemon of another user");

	tcase_add_checked_fixture(each, setup, teardown);
	tcase_add_test(each, evicts_who_is_stopped);
	tcase_add_test(each, evicts_the_next_too);
	tcase_add_test(each, evicts_who_computes);
	tcase_add_test(each, evicts_who_came_back);
	tcase_add_test(each, evicts_who_came_back_with_it);
	tcase_add_test(each, never_who_was_adopted);
	tcase_add_test(each, goes_on_before_the_limit);
	tcase_add_test(each, never_without_a_limit);
	tcase_add_test(each, never_without_the_lock);
	tcase_add_test(each, never_who_gives_it_back);
	tcase_add_loop_test(each, breaks_what_nobody_has, 0, 2);
	tcase_add_loop_test(each, breaks_what_a_thread_does_not_have, 0, 2);
	tcase_add_test(each, keeps_nothing_itself);
	suite_add_tcase(suite, each);
	if (can_be_nobody())
		tcase_add_test(nobody, says_that_it_may_not);
	else
		fputs("left out, as only root can be somebody else, where others can run programs: "
		      "says_that_it_may_not\n",
			stderr);
	suite_add_tcase(suite, nobody);
	return fixture_main(suite);
}
