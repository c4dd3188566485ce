// SPDX-License-Identifier: MIT
/*
 * The benchmark: pyheap beside its peers
 *
 * The process that was started keeps a pyheapd of its own and watches; the one that measures is its child. So however
 * the measuring ends (done, failed, crashed, interrupted), daemon, socket and shared memory are taken away. No time is
 * asserted: it fails only when a contender does not do what it should, or when something is left in the heap.
 *
 *   pyheap-bench [--rounds N] [--round-ms N] [--json FILE] [--list] [WORK...]
 *
 * $PYHEAPD is the daemon's program. Exit codes: 0 measured, 1 something failed, 2 wrong use.
 */
#include "report.h"
#include "server.h"
#include "works.h"
#include <pyheap.h>

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HEAP_SIZE ((uint64_t)64 << 20)
#define ROWS_MAX  64

static const struct family *const families[] = {&family_objects, &family_queues, &family_names};

#if !BENCH_BOOST
const struct peer peer_boost = {
	.name = "Boost.Interprocess",
	.left_out = "built without it: no C++ compiler, or no Boost headers (Debian: g++ libboost-dev)",
};
#endif

static const struct peer *const peers[] = {&peer_malloc, &peer_boost};

#define N_FAMILIES (sizeof(families) / sizeof(*families))
#define N_PEERS    (sizeof(peers) / sizeof(*peers))

/* What the command line says. */
struct command {
	struct harness_options options;
	const char *json;
	const struct work *works[ROWS_MAX];
	size_t n_works;
};

/* ---- command line ----------------------------------------------------------------------------------------------- */

static void works_list(FILE *file)
{
	for (size_t i = 0; i < N_FAMILIES; i++) {
		for (size_t j = 0; j < families[i]->n_works; j++)
			fprintf(file, "%-16s %s\n", families[i]->works[j].key, families[i]->works[j].title);
	}
}

/* Add the work of that key, or all for NULL. -ENOENT there is none. */
static int command_add(struct command *command, const char *key)
{
	int r = -ENOENT;

	for (size_t i = 0; i < N_FAMILIES; i++) {
		for (size_t j = 0; j < families[i]->n_works; j++) {
			const struct work *work = &families[i]->works[j];

			if (key && strcmp(work->key, key))
				continue;
			if (command->n_works == ROWS_MAX)
				return -E2BIG;
			command->works[command->n_works++] = work;
			r = 0;
		}
	}
	return r;
}

static int number_parse(const char *text, uint64_t max, uint64_t *ret)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || number < 1 || number > max)
		return -EINVAL;
	*ret = number;
	return 0;
}

static int usage(FILE *file)
{
	fprintf(file,
		"Usage: pyheap-bench [--rounds N] [--round-ms N] [--json FILE] [--list] [WORK...]\n"
		"Measure pyheap beside its peers with a pyheapd ($PYHEAPD) of its own.\n\n"
		"  --rounds N    measured runs of each contender, 1 to %d; 15\n"
		"  --round-ms N  about how long each takes, milliseconds, 1 to 60000; 20\n"
		"  --json FILE   write every figure to FILE as well\n"
		"  --list        name the works; where none is given, all are done\n",
		ROUNDS_MAX);
	return file == stderr ? 2 : 0;
}

/* -1: go on; else the exit code. */
static int command_parse(struct command *command, int argc, char **argv)
{
	enum { OPTION_ROUNDS, OPTION_ROUND_MS, OPTION_JSON, OPTION_LIST, OPTION_HELP };
	static const struct option options[] = {
		{"rounds", required_argument, NULL, OPTION_ROUNDS},
		{"round-ms", required_argument, NULL, OPTION_ROUND_MS},
		{"json", required_argument, NULL, OPTION_JSON},
		{"list", no_argument, NULL, OPTION_LIST},
		{"help", no_argument, NULL, OPTION_HELP},
		{0},
	};
	uint64_t n_rounds = 15, round_ms = 20;
	int option, r = 0;

	while (!r && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case OPTION_ROUNDS:
			r = number_parse(optarg, ROUNDS_MAX, &n_rounds);
			break;
		case OPTION_ROUND_MS:
			r = number_parse(optarg, 60000, &round_ms);
			break;
		case OPTION_JSON:
			command->json = optarg;
			break;
		case OPTION_LIST:
			works_list(stdout);
			return 0;
		case OPTION_HELP:
			return usage(stdout);
		default:
			return usage(stderr);
		}
	}
	command->options = (struct harness_options){.n_rounds = n_rounds, .round_ns = round_ms * 1000000U};
	for (int i = optind; !r && i < argc; i++)
		r = command_add(command, argv[i]);
	if (!r && !command->n_works)
		r = command_add(command, NULL);
	return r < 0 ? usage(stderr) : -1;
}

/* ---- measuring -------------------------------------------------------------------------------------------------- */

static bool heap_empty(const pyheap_stats *stats)
{
	return !stats->bytes_allocated_blocks && !stats->n_medium_objects && !stats->n_large_objects && !stats->n_names;
}

static void fault_print(void *userdata, const char *fault)
{
	(void)userdata;
	fprintf(stderr, "bench: fault in the heap: %s\n", fault);
}

/* Once all sessions are closed nothing may be left; what a partner held may still be on its way. */
static int heap_verify(void)
{
	uint64_t deadline = clock_now() + (uint64_t)WATCH_DOG_MS * 1000000U;
	pyheap_stats stats;
	pyheap *heap;
	int r = pyheap_open(&heap, NULL);

	if (r < 0) {
		fprintf(stderr, "bench: cannot look at the heap: %s\n", pyheap_strerror(r));
		return r;
	}
	while ((r = pyheap_stats(heap, &stats)) >= 0 && !heap_empty(&stats)) {
		if (clock_now() > deadline) {
			fprintf(stderr, "bench: objects were left in the heap\n");
			r = -EBADMSG;
			break;
		}
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	if (pyheap_check(heap, fault_print, NULL) != 0)
		r = -EBADMSG;
	pyheap_close(heap);
	return r;
}

static bool row_failed(const struct row *row)
{
	for (size_t i = 0; i < row->n_results; i++) {
		if (row->results[i].error)
			return true;
	}
	return false;
}

/* The child's whole life: its exit code. */
static int bench(const struct command *command)
{
	static struct row rows[ROWS_MAX];
	struct report report = {.rows = rows, .peers = peers, .n_peers = N_PEERS, .options = command->options};
	bool failed = false;
	int r = cpu_pin(0);

	for (size_t i = 0; r >= 0 && i < command->n_works; i++) {
		fprintf(stderr, "[%zu/%zu] %s\n", i + 1, command->n_works, command->works[i]->title);
		r = harness_measure(&rows[i], command->works[i], peers, N_PEERS, &command->options);
		failed |= row_failed(&rows[i]);
		report.n_rows++;
	}
	if (r >= 0)
		report_table(stdout, &report);
	if (r >= 0 && command->json)
		r = report_json(command->json, &report);
	if (r < 0)
		fprintf(stderr, "bench: %s\n", strerror(-r));
	for (size_t i = 0; i < report.n_rows; i++)
		row_deinit(&rows[i]);
	return r < 0 || failed || heap_verify() < 0 ? 1 : 0;
}

/* ---- keeping the daemon ----------------------------------------------------------------------------------------- */

static pid_t bench_start(const struct command *command, const sigset_t *signals)
{
	pid_t parent = getpid(), pid = fork();

	if (pid != 0)
		return pid;
	sigprocmask(SIG_UNBLOCK, signals, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	exit(bench(command));
}

/* Until the child has ended, or this process is asked to: the exit code. */
static int bench_watch(pid_t pid, const sigset_t *signals)
{
	int status, signal;

	for (;;) {
		if (sigwait(signals, &signal))
			continue;
		if (signal == SIGCHLD && waitpid(pid, &status, WNOHANG) == 0)
			continue;
		if (signal == SIGCHLD)
			break;
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		fprintf(stderr, "bench: interrupted\n");
		return 1;
	}
	if (WIFSIGNALED(status))
		fprintf(stderr, "bench: crashed: %s\n", strsignal(WTERMSIG(status)));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
	const char *program = getenv("PYHEAPD");
	struct command command = {0};
	struct server server;
	sigset_t signals;
	pid_t pid;
	int exit_code, r;

	exit_code = command_parse(&command, argc, argv);
	if (exit_code >= 0)
		return exit_code;
	if (!program) {
		fprintf(stderr, "bench: set PYHEAPD to the path of the daemon's program\n");
		return 2;
	}

	/* Waited for, not handled: nothing can end this process before it has cleaned up. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);

	exit_code = 1;
	r = server_start(&server, program, HEAP_SIZE);
	if (r < 0) {
		fprintf(stderr, "bench: no daemon (%s): %s\n", program,
			r == -ESRCH ? "it ended at once" : pyheap_strerror(r));
		goto stop;
	}
	pid = bench_start(&command, &signals);
	if (pid < 0) {
		fprintf(stderr, "bench: cannot fork: %s\n", strerror(errno));
		goto stop;
	}
	exit_code = bench_watch(pid, &signals);

stop:
	r = server_stop(&server, exit_code != 0);
	if (r < 0) {
		fprintf(stderr, "bench: the daemon did not end cleanly\n");
		exit_code = 1;
	}
	return exit_code;
}
