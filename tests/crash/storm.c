// SPDX-License-Identifier: MIT
/*
 * The storm: random processes work on shared lists, names, queues and large objects while some of them are killed,
 * stopped and continued, the daemon is killed, ended, stopped and started again, and /dev/shm is full from time to time
 *
 * The processes use the public interface alone. The contents of each object tell whether they are undamaged, and are
 * verified all the time, also by survivors, which live from the beginning to the end. At the end everything is dropped:
 * the heap must be consistent and empty, and only the spare arenas may still take memory.
 *
 *     storm.c           options, the end, figures
 *     storm_weather.c   what goes wrong, and the watch that nothing else does
 *     storm_work.c      a worker's life; storm_ops.c its calls; storm_keep.c its objects; storm_pattern.c their
 * contents storm_box.c       mount namespace, folder, daemon, and their removal
 *
 * For a night, by hand:  PYHEAPD=.../pyheapd storm --seconds 28800
 * --hold leaves all processes as they are after the first fault, for a debugger, until the storm gets SIGINT.
 */
#include "storm_weather.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NS UINT64_C(1000000000)

struct shared *shared;
static struct box box;

/* ---- helpers ---- */

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS + (uint64_t)ts.tv_nsec;
}

uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

uint64_t random_below(uint64_t *state, uint64_t n)
{
	return random_next(state) % n;
}

void storm_fault(const char *format, ...)
{
	char text[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	fprintf(stderr, "storm: FAULT: %s\n", text);
	__atomic_fetch_add(&shared->n_faults, 1, __ATOMIC_RELAXED);
}

static uint32_t n_faults(void)
{
	return __atomic_load_n(&shared->n_faults, __ATOMIC_RELAXED);
}

static void on_signal(int signal_number)
{
	box_close(&box);
	_exit(128 + signal_number);
}

/* ---- the end ---- */

static pyheap *open_at_last(void)
{
	uint64_t end = now_ns() + WATCHDOG_S * NS;
	pyheap *heap = NULL;
	int r;

	while ((r = pyheap_open(&heap, box.socket)) < 0 && now_ns() < end)
		usleep(10000);
	if (r < 0)
		storm_fault("cannot open a session at the end: %s", pyheap_strerror(r));
	return heap;
}

static void delete_names(pyheap *heap)
{
	char name[PYHEAP_NAME_MAX + 1];
	uint64_t cursor = 0;
	pyheap_ref ref;
	int r;

	while ((r = pyheap_name_next(heap, &cursor, name, &ref)) == 1) {
		r = pyheap_name_del(heap, name);
		if (r < 0)
			storm_fault("cannot delete \"%s\": %s", name, pyheap_strerror(r));
		cursor = 0;
	}
	if (r < 0)
		storm_fault("cannot walk the names: %s", pyheap_strerror(r));
}

static uint64_t n_objects(const pyheap_stats *stats)
{
	uint64_t n = stats->n_medium_objects + stats->n_large_objects;

	for (int i = 0; i < PYHEAP_CLASSES; i++)
		n += stats->classes[i].n_used;
	return n;
}

static bool is_empty(const pyheap_stats *stats)
{
	return stats->n_sessions == 1 && n_objects(stats) == 0 && stats->n_names == 0 &&
	       stats->n_arenas_current <= SPARE_ARENAS &&
	       box_heap_bytes(&box) == (int64_t)(stats->n_arenas_current * stats->arena_size);
}

static void wait_until_empty(pyheap *heap, pyheap_stats *stats)
{
	uint64_t end = now_ns() + WATCHDOG_S * NS;
	int r;

	while ((r = pyheap_stats(heap, stats)) == 0 && !is_empty(stats) && now_ns() < end)
		usleep(10000);
	if (r < 0)
		storm_fault("cannot read the figures: %s", pyheap_strerror(r));
	else if (!is_empty(stats))
		storm_fault("left over: %llu objects, %llu names, %llu sessions beside this, %llu arenas, %lld bytes "
			    "of /dev/shm",
			(unsigned long long)n_objects(stats), (unsigned long long)stats->n_names,
			(unsigned long long)stats->n_sessions - 1, (unsigned long long)stats->n_arenas_current,
			(long long)box_heap_bytes(&box));
}

static void say_fault(void *userdata, const char *fault)
{
	(void)userdata;
	storm_fault("pyheap_check at the end: %s", fault);
}

/* The daemon must end with status 0, and --remove must leave nothing of the heap. */
static void end_daemon(void)
{
	int status = -1;

	kill(box.daemon, SIGTERM);
	waitpid(box.daemon, &status, 0);
	box.daemon = 0;
	if (status != 0)
		storm_fault("pyheapd ended with status 0x%x", (unsigned int)status);
	if (box_remove_heap(&box) != 0 || box_has_segments(&box))
		storm_fault("the heap could not be removed");
}

static void examine_at_the_end(pyheap_stats *stats)
{
	pyheap *heap = open_at_last();

	if (!heap)
		return;
	delete_names(heap);
	wait_until_empty(heap, stats);
	if (pyheap_check(heap, say_fault, NULL) != 0)
		storm_fault("the heap is damaged at the end");
	pyheap_close(heap);
	if (n_faults() == 0)
		end_daemon();
}

/* ---- figures ---- */

static void print_figures(const struct weather *weather, const pyheap_stats *stats, uint64_t began)
{
	struct report sum = {0}, longest = {0};

	for (unsigned int i = 0; i <= N_WORKERS; i++) {
		const struct report *report = &shared->reports[i];

		sum.n_calls += report->n_calls;
		sum.n_verified += report->n_verified;
		sum.n_grown += report->n_grown;
		sum.n_lacked += report->n_lacked;
		sum.n_reset += report->n_reset;
		if (i < N_SURVIVORS && report->longest_ns > longest.longest_ns) {
			longest.longest_ns = report->longest_ns;
			longest.longest_call = report->longest_call;
		}
		if (i < N_SURVIVORS && report->longest_calm_ns > longest.longest_calm_ns)
			longest.longest_calm_ns = report->longest_calm_ns;
	}
	printf("storm: seed %llu, %llu s, %s\n", (unsigned long long)shared->seed,
		(unsigned long long)((now_ns() - began) / NS),
		box.has_own_shm ? "with a /dev/shm of its own" : "in everybody's /dev/shm, which was not filled");
	printf("  operations        %llu calls by %llu processes; %llu large objects made, %llu objects verified\n",
		(unsigned long long)sum.n_calls, (unsigned long long)weather->n_workers,
		(unsigned long long)sum.n_grown, (unsigned long long)sum.n_verified);
	printf("  killed            %llu, stopped %llu, evicted %llu\n", (unsigned long long)weather->n_kills,
		(unsigned long long)weather->n_stops, (unsigned long long)weather->n_evictions);
	printf("  daemon            killed %llu, ended %llu, stopped %llu times\n",
		(unsigned long long)weather->n_daemon_kills, (unsigned long long)weather->n_daemon_ends,
		(unsigned long long)weather->n_daemon_stops);
	printf("  memory full       %llu times; -ENOMEM %llu times, -ECONNRESET with the lock %llu times\n",
		(unsigned long long)weather->n_fills, (unsigned long long)sum.n_lacked,
		(unsigned long long)sum.n_reset);
	printf("  lock recoveries   %llu\n", (unsigned long long)stats->n_lock_recoveries);
	printf("  a survivor waited %.3f ms at most, in %s\n", (double)longest.longest_ns / 1e6,
		longest.longest_call ? longest.longest_call : "nothing");
	printf("                    %.3f ms while processes were killed and nothing worse happened\n",
		(double)longest.longest_calm_ns / 1e6);
	printf("  faults            %u\n", n_faults());
}

/* ---- main ---- */

static int options_read(int argc, char **argv, uint64_t *ret_seconds)
{
	static const struct option longs[] = {{"seconds", required_argument, NULL, 's'},
		{"seed", required_argument, NULL, 'r'}, {"hold", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 's')
			*ret_seconds = strtoull(optarg, NULL, 0);
		else if (c == 'r')
			shared->seed = strtoull(optarg, NULL, 0);
		else if (c == 'h')
			shared->holds_on = 1;
		else
			return -EINVAL;
	}
	return optind == argc && getenv("PYHEAPD") ? 0 : -EINVAL;
}

static void storm(uint64_t seconds)
{
	uint64_t began = now_ns();
	struct weather weather;
	pyheap_stats stats = {0};

	box_start_daemon(&box);
	roots_make(box.socket);
	weather_begin(&weather, &box);
	while (now_ns() - began < seconds * NS && n_faults() == 0) {
		weather_step(&weather);
		usleep(500);
	}
	if (shared->holds_on && n_faults() > 0)
		weather_freeze(&weather);
	if (n_faults() == 0)
		weather_end(&weather);
	if (n_faults() == 0)
		examine_at_the_end(&stats);
	print_figures(&weather, &stats, began);
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	uint64_t seconds = 60;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return EXIT_FAILURE;
	shared->seed = now_ns() ^ (uint64_t)getpid() << 32;
	if (options_read(argc, argv, &seconds) < 0) {
		fprintf(stderr, "usage: PYHEAPD=PROGRAM storm [--seconds N] [--seed N] [--hold]\n");
		return 2;
	}
	printf("storm: seed %llu\n", (unsigned long long)shared->seed);
	fflush(stdout);
	if (box_open(&box) < 0)
		return EXIT_FAILURE;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	storm(seconds);
	if (n_faults() > 0)
		box_print_log(&box);
	box_close(&box);
	return n_faults() ? EXIT_FAILURE : EXIT_SUCCESS;
}
