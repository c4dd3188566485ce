// SPDX-License-Identifier: MIT
/*
 * step_daemon: the daemon is killed after each instruction of its work
 *
 * An event makes the daemon work: a client comes, wants memory, frees memory, dies; or a fresh daemon adopts the heap.
 * The daemon is stepped from the function in which that work begins until it is at rest, and killed after k
 * instructions, for sampled k or for all. While there is no daemon, clients go on. A fresh daemon then adopts the heap;
 * the client's call is completed; a newcomer finds the heap consistent; and once the client has died, too, the heap is
 * as it was before the client came.
 *
 * The daemon is at rest when it sleeps and the client has finished its part: on a busy machine the daemon also sleeps
 * because the client has not had its turn. A daemon that is elsewhere than its sample wants, because a tick came
 * between or a message later, is examined like any other; then the sample is taken anew, as in stepper.c.
 *
 * The code of each daemon lies at the same addresses (world.c), so that a trace of one is good for all.
 */
#include "daemon_works.h"
#include "parts.h"
#include "rig.h"
#include "symbols.h"
#include "trace.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_TRIES      4 /* of one sample */
#define N_TRACES_MAX 3 /* of one work */
#define N_FAULTS_MAX 10
#define N_STEPS_MAX  3000000U
#define N_JOBS       4U
#define PLANTED_MS   3000 /* patience after a planted defect, which may well be that something never comes */

/* How far the client is. */
enum phase { PHASE_SETUP, PHASE_READY, PHASE_ACT, PHASE_DONE, PHASE_VERIFY, PHASE_VERIFIED };

struct runner {
	struct rig rig;
	struct tracee daemon, changer;
	pid_t client;
	uint32_t *phase; /* shared with the client */
	const struct work *work;
	const char *name; /* of the only work to be run; NULL: all */
	struct trace trace;
	uint64_t give_up_ns; /* a daemon that does not get there by then never does */
	uint64_t seed, n_points;
	uint64_t n_traces, n_kills, n_samples, n_anew, n_missed, n_with_lock, n_faults;
	uint64_t n_false; /* faults while no defect had been planted */
	bool show;
	bool plants; /* the daemon's undo log is emptied as it dies, as if a commit came before the last stores */
	bool is_planted;
};

static struct runner runner;

/* ---- the client ---- */

static uint32_t phase_of(const struct runner *r)
{
	return __atomic_load_n(r->phase, __ATOMIC_ACQUIRE);
}

static void phase_set(struct runner *r, enum phase phase)
{
	__atomic_store_n(r->phase, (uint32_t)phase, __ATOMIC_RELEASE);
}

static void phase_await(struct runner *r, enum phase phase)
{
	while (phase_of(r) != (uint32_t)phase)
		usleep(200);
}

static _Noreturn void client_run(struct runner *r)
{
	struct actor actor = {.stage = r->rig.world.stage, .is_victim = true}; /* it ends with its first fault */

	tracee_unpin();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (r->work->setup)
		r->work->setup(&actor);
	phase_set(r, PHASE_READY);
	phase_await(r, PHASE_ACT);
	if (r->work->act)
		r->work->act(&actor);
	phase_set(r, PHASE_DONE);
	phase_await(r, PHASE_VERIFY);
	if (r->work->verify)
		r->work->verify(&actor);
	phase_set(r, PHASE_VERIFIED);
	for (;;)
		pause();
}

/* Wait until the client is in that phase; it may end on the way, with a fault. */
static bool client_await(struct runner *r, enum phase phase)
{
	uint64_t give_up = clock_ns() + r->rig.world.stage->patience_ms * UINT64_C(1000000);
	char text[80];
	int status = 0;

	while (phase_of(r) != (uint32_t)phase) {
		if (waitpid(r->client, &status, WNOHANG) == r->client) {
			r->client = 0;
			snprintf(text, sizeof(text), "the client ended, status 0x%x", status);
			rig_note(&r->rig, text);
			return false;
		}
		if (clock_ns() > give_up) {
			rig_note(&r->rig, "the client hangs");
			return false;
		}
		usleep(200);
	}
	return true;
}

static bool client_start(struct runner *r)
{
	if (!rig_await(&r->rig, rig_memory_is_back, "the memory of the client before does not go back"))
		return false;
	phase_set(r, PHASE_SETUP);
	r->rig.world.stage->is_without_daemon = 0;
	r->client = fork();
	if (r->client == 0)
		client_run(r);
	return client_await(r, PHASE_READY);
}

static void client_kill(struct runner *r)
{
	if (r->client <= 0)
		return;
	kill(r->client, SIGKILL);
	while (waitpid(r->client, NULL, 0) < 0 && errno == EINTR)
		;
	r->client = 0;
}

/* ---- the daemon ---- */

/* Has the client done all that the daemon's work needs? */
static bool client_is_done(const struct runner *r)
{
	return r->client <= 0 || !r->work->act || phase_of(r) >= PHASE_DONE;
}

/* The daemon sleeps: must it be waited for, as the client has not had its turn? */
static bool client_is_awaited(void *userdata)
{
	struct runner *r = userdata;

	return !client_is_done(r) && clock_ns() < r->give_up_ns;
}

static void daemon_kill(struct runner *r)
{
	if (!r->daemon.pid)
		r->daemon.pid = r->rig.world.daemon;
	tracee_kill(&r->daemon);
	r->rig.world.daemon = 0;
	__atomic_store_n(&r->rig.world.stage->is_without_daemon, 1, __ATOMIC_RELAXED);
}

static uint64_t address_of(const struct runner *r, const char *function)
{
	const char *program = getenv("PYHEAPD");
	uint64_t offset = symbols_find(program, function), base;
	char path[4096];

	if (!offset || !realpath(program, path))
		return 0;
	base = symbols_base(r->daemon.pid, path);
	return base ? base + offset : 0;
}

static bool is_about_client(const struct runner *r)
{
	const struct session_entry *entry = world_session_of(&r->rig.world, r->client);
	uint32_t index = (uint32_t)tracee_argument(&r->daemon, 1);

	return !r->work->is_of_client || entry == world_session_at(&r->rig.world, index);
}

/* Bring the daemon to where the work begins. */
static bool reach_entry(struct runner *r)
{
	uint64_t address = address_of(r, r->work->entry);
	enum tracee_event event;

	if (!address) {
		rig_note(&r->rig, "the function where the work begins is not found: is the daemon stripped?");
		return false;
	}
	do {
		event = tracee_run_to(&r->daemon, address);
		while (event == TRACEE_BLOCKED && clock_ns() < r->give_up_ns)
			event = tracee_wait(&r->daemon);
	} while (event == TRACEE_STOPPED && !is_about_client(r));
	if (event == TRACEE_STOPPED)
		return true;
	rig_note(&r->rig, "the daemon never does the work");
	return false;
}

/* Kill the daemon, a client in the middle of a change, and the client that holds objects. */
static bool leave_behind(struct runner *r)
{
	uint32_t n = 0;

	if (rig_start_victim_of(&r->rig, &r->changer, &daemon_scenario) < 0)
		return false;
	while (n < 2 && tracee_step(&r->changer) == TRACEE_STOPPED)
		n = world_has_lock(&r->rig.world, r->changer.pid) ? r->rig.world.control->lock.n_entries : 0;
	daemon_kill(r);
	tracee_kill(&r->changer);
	client_kill(r);
	return n == 2;
}

static bool begin_adopting(struct runner *r)
{
	if (!leave_behind(r) || tracee_exec(&r->daemon, world_exec_daemon, &r->rig.world) < 0) {
		rig_note(&r->rig, "there is nothing to adopt");
		return false;
	}
	r->rig.world.daemon = r->daemon.pid;
	return reach_entry(r);
}

static bool begin(struct runner *r)
{
	r->give_up_ns = watchdog_ns();
	if (!client_start(r))
		return false;
	if (r->work->adopts)
		return begin_adopting(r);
	if (tracee_seize(&r->daemon, r->rig.world.daemon) < 0) {
		rig_note(&r->rig, "the daemon cannot be traced");
		return false;
	}
	if (r->work->act)
		phase_set(r, PHASE_ACT);
	else
		client_kill(r);
	if (r->work->acts_before && !client_await(r, PHASE_DONE))
		return false;
	return reach_entry(r);
}

/* ---- after its death ---- */

static void on_fault(void *userdata, const char *text)
{
	fault(userdata, "check by a newcomer: %s", text);
}

static void newcomer_checks(struct runner *r)
{
	struct actor actor = {.stage = r->rig.world.stage};
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		MUST(&actor, pyheap_open(&actor.heap, actor.stage->socket));
		if (actor.heap && pyheap_check(actor.heap, on_fault, &actor) < 0)
			fault(&actor, "check cannot be made");
		pyheap_close(actor.heap);
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status != 0)
		rig_note(&r->rig, "a newcomer cannot check the heap");
}

static void client_verifies(struct runner *r)
{
	if (r->client <= 0 || phase_of(r) == PHASE_VERIFIED || !client_await(r, PHASE_DONE))
		return;
	phase_set(r, PHASE_VERIFY);
	client_await(r, PHASE_VERIFIED);
}

static void examine(struct runner *r, uint64_t k)
{
	/* Half of the heaps are examined while there is no daemon, the others after a fresh daemon has adopted them. */
	if ((k ^ r->seed) & 1 && (!rig_ask(&r->rig, COMMAND_LOOK, "check the heap while the daemon is gone") ||
					 !rig_ask(&r->rig, COMMAND_VERIFY, "go on without the daemon")))
		return;
	if ((k ^ r->seed) & 2 && r->work->goes_on)
		client_verifies(r);
	if (world_start_daemon(&r->rig.world) < 0) {
		rig_note(&r->rig, "the fresh daemon does not serve");
		return;
	}
	newcomer_checks(r);
	client_verifies(r);
	client_kill(r);
	rig_examine(&r->rig, false);
}

static void report(struct runner *r, uint64_t k, uint64_t ip)
{
	char where[160];
	pid_t pid = r->rig.world.daemon;

	bool is_false = r->plants && !r->is_planted;

	r->n_faults++;
	r->n_false += is_false;
	if (r->plants && !is_false && !r->show)
		return;
	symbols_describe(pid > 0 ? pid : getpid(), ip, where, sizeof(where));
	fprintf(stderr, "%s: killed after instruction %" PRIu64 " of %zu, before %s:\n%s", r->work->name, k, r->trace.n,
		where, r->rig.world.stage->faults);
	if (r->show) {
		char command[128];

		snprintf(command, sizeof(command), "tail -n 20 %s >&2", r->rig.world.log);
		if (system(command) != 0)
			fputs("(no log)\n", stderr);
	}
}

static void clear_up(void)
{
	client_kill(&runner);
	tracee_kill(&runner.changer);
	if (runner.daemon.pid)
		daemon_kill(&runner);
	world_stop(&runner.rig.world);
}

static int end(struct runner *r, uint64_t k, uint64_t ip)
{
	struct stage *stage = r->rig.world.stage;

	r->n_kills++;
	r->is_planted = false;
	if (r->daemon.pid && world_has_lock(&r->rig.world, r->daemon.pid)) {
		r->n_with_lock++;
		r->is_planted = r->plants && r->rig.world.control->lock.n_entries;
		if (r->is_planted)
			r->rig.world.control->lock.n_entries = 0;
	}
	daemon_kill(r);
	if (r->is_planted)
		stage->patience_ms = PLANTED_MS;
	if (!stage->n_faults)
		examine(r, k);
	stage->patience_ms = WATCHDOG_S * 1000;
	if (!stage->n_faults)
		return 0;
	report(r, k, ip);
	clear_up();
	return rig_begin(&r->rig);
}

/* ---- all samples ---- */

/*
 * The tick comes by the clock. As stepping is slow, there are ticks in the middle of work that has none at the daemon's
 * own pace. They, and the trimming of idle sessions that follows them, are stepped over; "tick" and "trim" are works of
 * their own.
 */
static enum tracee_event step_over_ticks(struct runner *r, uint64_t tick, uint64_t trim)
{
	uint64_t ip = tracee_ip(&r->daemon);

	if (r->trace.n == 0 || (ip != tick && ip != trim))
		return TRACEE_STOPPED;
	return tracee_run_call(&r->daemon);
}

/* From where the work begins until the daemon is at rest, or entry has returned. */
static int trace_work(struct runner *r)
{
	uint64_t tick = address_of(r, "on_tick"), trim = address_of(r, "own_trim");
	uint64_t end = r->work->is_one_call ? tracee_return_address(&r->daemon) : 0;
	enum tracee_event event = TRACEE_STOPPED;
	int result = 0;

	if (!tick || !trim)
		rig_note(&r->rig, "the daemon has no function on_tick or own_trim: they have to be stepped over");
	if (strcmp(r->work->entry, "own_trim") == 0)
		trim = 0;
	while (event == TRACEE_STOPPED && result == 0 && r->trace.n < N_STEPS_MAX && tracee_ip(&r->daemon) != end) {
		event = step_over_ticks(r, tick, trim);
		if (event != TRACEE_STOPPED)
			break;
		result = trace_add(&r->trace, tracee_ip(&r->daemon));
		event = tracee_step(&r->daemon);
		while (event == TRACEE_BLOCKED && (end ? clock_ns() < r->give_up_ns : client_is_awaited(r)))
			event = tracee_wait(&r->daemon);
	}
	if (event != (end ? TRACEE_STOPPED : TRACEE_BLOCKED))
		rig_note(&r->rig, "the daemon crashed, or never comes to rest");
	return result;
}

static int take_trace(struct runner *r)
{
	int result = 0;

	trace_free(&r->trace);
	r->n_traces++;
	if (begin(r))
		result = trace_work(r);
	if (result == 0 && r->trace.n == 0)
		result = -EIO;
	if (result == 0)
		result = trace_finish(&r->trace);
	if (result < 0) {
		fprintf(stderr, "%s: cannot be traced\n%s", r->work->name, r->rig.world.stage->faults);
		return result;
	}
	return end(r, r->trace.n, 0);
}

/* *ret: was the daemon killed before instruction k of the trace? Where it is at rest it took another way. */
static int die_at(struct runner *r, uint64_t k, bool *ret)
{
	enum tracee_event event = TRACEE_GONE;

	if (begin(r))
		event = trace_go_to(&r->trace, &r->daemon, k, client_is_awaited, r);
	if (event == TRACEE_GONE)
		rig_note(&r->rig, "the daemon does not get there");
	*ret = event == TRACEE_STOPPED && trace_is_at(&r->trace, &r->daemon, k);
	return end(r, k, r->trace.ips[k]);
}

static bool is_given_up(const struct runner *r)
{
	return r->n_faults >= (r->plants ? 1 : N_FAULTS_MAX);
}

/* Sample i, taken anew until the daemon is where it is to be. *ret: there was such a sample. */
static int take_sample(struct runner *r, uint64_t i, bool *ret)
{
	bool reached = false;
	int result = 0;

	*ret = true;
	for (uint32_t n = 0; n < N_TRIES && result == 0 && !reached && !is_given_up(r); n++) {
		uint64_t stride, k;

		if (n == N_TRIES / 2 && r->n_traces < N_TRACES_MAX)
			result = take_trace(r);
		stride = r->n_points && r->trace.n > r->n_points ? r->trace.n / r->n_points : 1;
		k = i * stride + (r->seed + i * 7919) % stride;
		if (result < 0 || k >= r->trace.n) {
			*ret = n > 0;
			r->n_missed += n > 0;
			return result;
		}
		r->n_samples += n == 0;
		r->n_anew += n > 0;
		result = die_at(r, k, &reached);
		if (r->plants)
			return result; /* any place will do */
	}
	r->n_missed += !reached;
	return result;
}

/* A busy machine makes work miss some of its samples. Where it misses nearly all of them, it has not been tested. */
static bool is_untested(const struct runner *r)
{
	return (r->n_samples - r->n_missed) * 8 < r->n_samples;
}

static void print_row(const struct runner *r, double seconds)
{
	printf("%-12s %12zu %8" PRIu64 " %9" PRIu64 " %8" PRIu64 " %7" PRIu64 " %7" PRIu64 " %8.1f\n", r->work->name,
		r->trace.n, r->n_kills, r->n_with_lock, r->n_anew, r->n_missed, r->n_faults, seconds);
	if (is_untested(r))
		puts("  nearly no sample was reached: the daemon never goes the same way twice");
	if (r->n_false)
		puts("  there were faults while no defect was planted");
	fflush(stdout);
}

static bool run_work(struct runner *r, const struct work *work)
{
	uint64_t begun = clock_ns();
	bool is_there = true, failed;
	int result;

	r->work = work;
	r->is_planted = false;
	r->n_traces = r->n_kills = r->n_samples = r->n_anew = r->n_missed = 0;
	r->n_with_lock = r->n_faults = r->n_false = 0;
	result = rig_begin(&r->rig);
	if (result == 0)
		result = take_trace(r);
	for (uint64_t i = 0; result == 0 && is_there && !is_given_up(r); i++)
		result = take_sample(r, i, &is_there);
	if (result == 0) {
		rig_examine_memory(&r->rig);
		if (r->rig.world.stage->n_faults)
			report(r, r->trace.n, 0);
	}
	failed = result < 0 || r->n_false || !r->n_faults == r->plants || (!r->plants && is_untested(r));
	print_row(r, (double)(clock_ns() - begun) / 1e9);
	clear_up();
	trace_free(&r->trace);
	return failed;
}

/* One of the processes side by side. */
static int run_some(void *userdata)
{
	struct runner *r = userdata;
	size_t n_works = 0;
	int n_failed = 0;

	while (daemon_works[n_works].name)
		n_works++;
	r->phase = parts_memory(sizeof(*r->phase));
	for (size_t i; (i = parts_take()) < n_works;)
		if (!r->name || strcmp(r->name, daemon_works[i].name) == 0)
			n_failed += run_work(r, &daemon_works[i]);
	return n_failed;
}

static void on_signal(int signal_number)
{
	clear_up();
	_exit(128 + signal_number);
}

static int usage(void)
{
	fputs("Usage: step_daemon [--work NAME] [--points N | --whole] [--seed N] [--cpu N] [--jobs N] [--show] "
	      "[--plant]\n"
	      "Works:",
		stderr);
	for (const struct work *w = daemon_works; w->name; w++)
		fprintf(stderr, " %s", w->name);
	fputs("\n--plant: the undo log is emptied as the daemon dies; then faults must be found.\n"
	      "PYHEAPD names the daemon's program, not stripped.\n",
		stderr);
	return 2;
}

static bool is_work(const char *name)
{
	for (const struct work *w = daemon_works; w->name; w++)
		if (strcmp(name, w->name) == 0)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"work", required_argument, NULL, 'w'},
		{"points", required_argument, NULL, 'p'}, {"whole", no_argument, NULL, 'a'},
		{"seed", required_argument, NULL, 's'}, {"cpu", required_argument, NULL, 'c'},
		{"jobs", required_argument, NULL, 'j'}, {"plant", no_argument, NULL, 'd'},
		{"show", no_argument, NULL, 'v'}, {NULL, 0, NULL, 0}};
	unsigned int n_jobs = N_JOBS;
	int key, cpu = 0, n_failed;

	runner.seed = 1;
	runner.n_points = 30;
	while ((key = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (key == 'w')
			runner.name = optarg;
		else if (key == 'p')
			runner.n_points = strtoull(optarg, NULL, 10);
		else if (key == 'a')
			runner.n_points = 0;
		else if (key == 's')
			runner.seed = strtoull(optarg, NULL, 10);
		else if (key == 'c')
			cpu = atoi(optarg);
		else if (key == 'j')
			n_jobs = (unsigned int)strtoul(optarg, NULL, 10);
		else if (key == 'd')
			runner.plants = true;
		else if (key == 'v')
			runner.show = true;
		else
			return usage();
	}
	if (!getenv("PYHEAPD") || !n_jobs || (runner.name && !is_work(runner.name)))
		return usage();
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	runner.rig.scenario = &daemon_scenario;
	printf("%-12s %12s %8s %9s %8s %7s %7s %8s\n", "work", "instructions", "kills", "with lock", "anew", "missed",
		"faults", "time (s)");
	n_failed = parts_run(runner.name ? 1 : n_jobs, cpu, run_some, &runner);
	if (runner.n_points)
		printf("A sample (seed %" PRIu64 "); every instruction: %s --whole\n", runner.seed, argv[0]);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
