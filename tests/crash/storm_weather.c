// SPDX-License-Identifier: MIT
/*
 * The weather: everything that the storm makes go wrong, and the watch that nothing else goes wrong
 *
 * Workers are killed, and stopped for a while. Now and then a worker stops while it has the global lock, for longer
 * than
 * --lock-timeout allows, so that the daemon evicts it. The daemon is killed, ended and stopped, and started again at
 * once or a little later; sometimes it is killed while it starts. /dev/shm is filled by a hog, through the heap, or by
 * a foreign file. Survivors are neither killed nor stopped.
 *
 * Every other end of a process is a fault, and so is a survivor that makes no call for WATCHDOG_S.
 */
#include "storm_weather.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS          UINT64_C(1000000)
#define EVICTION_MS (LOCK_TIMEOUT_S * 1000 + 2000) /* a stopped owner of the lock is evicted before this is over */

static uint64_t after_ms(struct weather *weather, uint64_t min, uint64_t max)
{
	return now_ns() + min * MS + random_below(&weather->random, (max - min) * MS);
}

static void unrest(int n)
{
	__atomic_fetch_add(&shared->n_changes, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&shared->n_unrest, (uint32_t)n, __ATOMIC_RELAXED);
}

/* ---- workers ---- */

static pid_t fork_child(const struct box *box)
{
	pid_t pid = fork();

	if (pid < 0) {
		storm_fault("fork: %s", strerror(errno));
	} else if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != box->owner)
			_exit(1);
		signal(SIGTERM, SIG_DFL);
		signal(SIGINT, SIG_DFL);
		signal(SIGHUP, SIG_DFL);
	}
	return pid;
}

static void start_worker(struct weather *weather, uint32_t number)
{
	uint64_t seed = random_next(&weather->random);
	pid_t pid;

	if (shared->reports[number].stops_itself == STOP_DONE)
		shared->reports[number].stops_itself = STOP_NOT;
	pid = fork_child(weather->box);
	if (pid == 0) {
		worker_run(number, seed, weather->box->socket);
		_exit(0);
	}
	weather->workers[number] = (struct victim){.pid = pid};
	weather->n_workers++;
}

static void start_hog(struct weather *weather)
{
	uint64_t seed = random_next(&weather->random);
	pid_t pid = fork_child(weather->box);

	if (pid == 0) {
		hog_run(seed, weather->box->socket);
		_exit(0);
	}
	weather->hog = (struct victim){.pid = pid};
}

static void victim_continue(struct victim *victim)
{
	if (!victim->stopped_ns)
		return;
	kill(victim->pid, SIGCONT);
	victim->stopped_ns = victim->continue_ns = 0;
	unrest(-1);
}

static void victim_kill(struct weather *weather, struct victim *victim)
{
	if (!victim->pid || victim->is_killed)
		return;
	kill(victim->pid, SIGKILL);
	victim->is_killed = true;
	weather->n_kills++;
}

static void victim_stopped(struct weather *weather, struct victim *victim, uint64_t continue_ns)
{
	unrest(1);
	victim->stopped_ns = now_ns();
	victim->continue_ns = continue_ns;
	weather->n_stops++;
}

static void victim_stop(struct weather *weather, struct victim *victim)
{
	uint64_t max_ms = random_below(&weather->random, 8) ? 80 : 500;

	if (!victim->pid || victim->is_killed || victim->stopped_ns)
		return;
	kill(victim->pid, SIGSTOP);
	victim_stopped(weather, victim, after_ms(weather, 1, max_ms));
}

/* Is it stopped for so long that the daemon has to evict it? */
static bool is_stopped_for_long(const struct victim *victim)
{
	return victim->stopped_ns && victim->continue_ns - victim->stopped_ns > EVICTION_MS / 2 * MS;
}

/* A worker that was asked to has stopped itself with the lock; now and then another one is asked. */
static void look_after_long_stops(struct weather *weather)
{
	uint32_t i;

	for (i = N_SURVIVORS; i < N_WORKERS; i++) {
		uint32_t done = STOP_DONE;

		if (__atomic_compare_exchange_n(&shared->reports[i].stops_itself, &done, STOP_NOT, false,
			    __ATOMIC_RELAXED, __ATOMIC_RELAXED) &&
			!weather->workers[i].stopped_ns)
			victim_stopped(weather, &weather->workers[i], now_ns() + EVICTION_MS * MS);
	}
	if (now_ns() < weather->next_long_stop)
		return;
	i = N_SURVIVORS + (uint32_t)random_below(&weather->random, N_WORKERS - N_SURVIVORS);
	__atomic_store_n(&shared->reports[i].stops_itself, STOP_ASKED, __ATOMIC_RELAXED);
	weather->next_long_stop = after_ms(weather, 5000, 20000);
}

/*
 * Was it rightly killed by the daemon? The daemon counts from when it first saw the lock taken, which may be before the
 * stop; and a stop is noticed here a little late on a busy machine. So half of the timeout must have passed.
 */
static bool is_eviction(const struct victim *victim, int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && victim->stopped_ns &&
	       now_ns() - victim->stopped_ns > LOCK_TIMEOUT_S * 1000 / 2 * MS;
}

/* A worker or the hog has ended: a fault unless there is a reason. */
static void victim_ended(struct weather *weather, struct victim *victim, int status)
{
	bool is_expected = status == 0 && (shared->is_ending || victim == &weather->hog);

	if (victim->is_killed)
		is_expected |= WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	if (!is_expected && is_eviction(victim, status)) {
		weather->n_evictions++;
		is_expected = true;
	}
	if (!is_expected && !(WIFEXITED(status) && WEXITSTATUS(status) == 1)) /* 1: it has reported a fault itself */
		storm_fault("pid %d ended with status 0x%x (signal %d)", (int)victim->pid, (unsigned int)status,
			WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	if (victim->stopped_ns)
		unrest(-1);
	*victim = (struct victim){0};
}

/* ---- the daemon ---- */

static void daemon_start(struct weather *weather)
{
	if (weather->box->daemon)
		return;
	weather->daemon_signal = 0;
	box_start_daemon(weather->box);
	unrest(-1);
}

static void daemon_away(struct weather *weather, int signal_number)
{
	if (weather->daemon_signal)
		return;
	unrest(1);
	kill(weather->box->daemon, signal_number);
	weather->daemon_signal = signal_number;
}

/*
 * Does the status fit the signal that was sent (0: none)? SIGTERM may come before the daemon has its handler, and even
 * before its process has executed pyheapd: then the storm's own handler, which it has from fork(), ends it.
 */
static bool is_daemon_end(int sent, int status)
{
	bool is_exit = sent == SIGTERM && WIFEXITED(status);

	return sent && (status == sent || (is_exit && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 128 + sent)));
}

static void daemon_ended(struct weather *weather, int status)
{
	int sent = weather->daemon_signal;

	if (!is_daemon_end(sent, status))
		storm_fault("pyheapd ended with status 0x%x", (unsigned int)status);
	if (!sent)
		unrest(1);
	if (weather->daemon_is_stopped)
		unrest(-1);
	weather->daemon_is_stopped = false;
	weather->box->daemon = 0;
}

static void daemon_step(struct weather *weather)
{
	uint64_t what = random_below(&weather->random, 10);

	if (weather->daemon_is_stopped) {
		kill(weather->box->daemon, SIGCONT);
		weather->daemon_is_stopped = false;
		unrest(-1);
	} else if (!weather->box->daemon) {
		daemon_start(weather);
		if (what < 3) { /* it is to be killed while it starts */
			weather->next_daemon = after_ms(weather, 0, 25);
			return;
		}
	} else if (what < 7) {
		daemon_away(weather, SIGKILL);
		weather->n_daemon_kills++;
		weather->next_daemon = what < 4 ? now_ns() : after_ms(weather, 0, 300);
		return;
	} else if (what < 8) {
		daemon_away(weather, SIGTERM);
		weather->n_daemon_ends++;
		weather->next_daemon = after_ms(weather, 0, 200);
		return;
	} else if (!weather->daemon_signal) {
		kill(weather->box->daemon, SIGSTOP);
		weather->daemon_is_stopped = true;
		unrest(1);
		weather->n_daemon_stops++;
		weather->next_daemon = after_ms(weather, 1, 300);
		return;
	}
	weather->next_daemon = after_ms(weather, 50, 1200);
}

/* ---- memory ---- */

static uint64_t n_grown(void)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < N_WORKERS; i++)
		n += shared->reports[i].n_grown;
	return n;
}

static void fill_begin(struct weather *weather)
{
	weather->is_filled = true;
	weather->n_fills++;
	unrest(1);
	shared->is_full = 1;
	if (weather->box->has_own_shm && random_below(&weather->random, 2))
		box_fill(weather->box);
	else
		start_hog(weather);
	weather->fill_ends = after_ms(weather, 500, 2500);
}

static void fill_end(struct weather *weather)
{
	box_unfill(weather->box);
	if (weather->hog.pid && random_below(&weather->random, 2))
		victim_kill(weather, &weather->hog);
	if (weather->hog.pid)
		return; /* not yet: it drops all of that itself, or has to be reclaimed */
	weather->is_filled = false;
	unrest(-1);
	weather->n_grown_before = n_grown();
	weather->full_since = now_ns();
	weather->next_fill = after_ms(weather, 500, 4000);
}

/* Large objects can be made again after the memory was full. */
static void look_after_growth(struct weather *weather)
{
	if (!weather->full_since || weather->is_filled)
		return;
	if (n_grown() > weather->n_grown_before) {
		shared->is_full = 0;
		weather->full_since = 0;
	} else if (now_ns() - weather->full_since > WATCHDOG_S * 1000 * MS) {
		storm_fault("no large object could be made since /dev/shm has room again");
	}
}

/* ---- all together ---- */

static void reap(struct weather *weather)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == weather->box->daemon)
			daemon_ended(weather, status);
		if (pid == weather->hog.pid)
			victim_ended(weather, &weather->hog, status);
		for (unsigned int i = 0; i < N_WORKERS; i++)
			if (pid == weather->workers[i].pid)
				victim_ended(weather, &weather->workers[i], status);
	}
}

static void look_after_survivors(struct weather *weather)
{
	for (unsigned int i = 0; i < N_SURVIVORS; i++) {
		if (weather->n_calls_seen[i] != shared->reports[i].n_calls) {
			weather->n_calls_seen[i] = shared->reports[i].n_calls;
			weather->moved_ns[i] = now_ns();
		} else if (now_ns() - weather->moved_ns[i] > WATCHDOG_S * 1000 * MS) {
			storm_fault("survivor %u (pid %d) hangs in %s", i, (int)weather->workers[i].pid,
				shared->reports[i].call);
			weather->moved_ns[i] = now_ns();
		}
	}
}

static struct victim *random_victim(struct weather *weather)
{
	return &weather->workers[N_SURVIVORS + random_below(&weather->random, N_WORKERS - N_SURVIVORS)];
}

void weather_begin(struct weather *weather, struct box *box)
{
	*weather = (struct weather){.box = box, .random = shared->seed};
	for (uint32_t i = 0; i < N_WORKERS; i++)
		start_worker(weather, i);
	for (unsigned int i = 0; i < N_SURVIVORS; i++)
		weather->moved_ns[i] = now_ns();
	weather->next_kill = after_ms(weather, 0, 100);
	weather->next_stop = after_ms(weather, 0, 100);
	weather->next_long_stop = after_ms(weather, 2000, 6000);
	weather->next_daemon = after_ms(weather, 200, 1000);
	weather->next_fill = after_ms(weather, 1000, 3000);
}

/* Each daemon measures anew for how long the lock is taken, so this one must live until it has evicted the owner. */
static bool daemon_has_to_evict(const struct weather *weather)
{
	if (!weather->box->daemon || weather->daemon_signal || weather->daemon_is_stopped)
		return false;
	for (uint32_t i = 0; i < N_WORKERS; i++)
		if (is_stopped_for_long(&weather->workers[i]))
			return true;
	return false;
}

void weather_step(struct weather *weather)
{
	uint64_t now = now_ns();

	reap(weather);
	for (uint32_t i = 0; i < N_WORKERS; i++) {
		if (!weather->workers[i].pid)
			start_worker(weather, i);
		else if (weather->workers[i].stopped_ns && now > weather->workers[i].continue_ns)
			victim_continue(&weather->workers[i]);
	}
	if (now > weather->next_kill) {
		struct victim *victim = random_victim(weather);

		if (!is_stopped_for_long(victim)) /* that one is the daemon's to evict */
			victim_kill(weather, victim);
		weather->next_kill = after_ms(weather, 0, 40);
	}
	if (now > weather->next_stop) {
		victim_stop(weather, random_victim(weather));
		weather->next_stop = after_ms(weather, 5, 120);
	}
	look_after_long_stops(weather);
	if (now > weather->next_daemon && !daemon_has_to_evict(weather))
		daemon_step(weather);
	if (!weather->is_filled && now > weather->next_fill)
		fill_begin(weather);
	else if (weather->is_filled && now > weather->fill_ends)
		fill_end(weather);
	look_after_growth(weather);
	look_after_survivors(weather);
}

void weather_freeze(struct weather *weather)
{
	if (weather->box->daemon)
		kill(weather->box->daemon, SIGSTOP); /* else it would evict the owner of the lock */
	for (;;)
		pause();
}

static bool workers_are_gone(const struct weather *weather)
{
	for (uint32_t i = 0; i < N_WORKERS; i++)
		if (weather->workers[i].pid)
			return false;
	return !weather->hog.pid;
}

void weather_end(struct weather *weather)
{
	uint64_t end;

	for (uint32_t i = 0; i < N_WORKERS; i++)
		victim_continue(&weather->workers[i]);
	if (weather->daemon_is_stopped)
		daemon_step(weather);
	while (weather->daemon_signal && weather->box->daemon) {
		reap(weather);
		usleep(1000);
	}
	daemon_start(weather);
	box_unfill(weather->box);
	shared->is_ending = 1;
	for (uint32_t i = N_SURVIVORS; i < N_WORKERS; i += 2)
		victim_kill(weather, &weather->workers[i]);
	end = now_ns() + WATCHDOG_S * 1000 * MS;
	while (!workers_are_gone(weather) && now_ns() < end) {
		reap(weather);
		usleep(1000);
	}
	if (!workers_are_gone(weather))
		storm_fault("workers do not end");
}
