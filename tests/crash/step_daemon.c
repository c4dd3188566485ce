// SPDX-License-Identifier: MIT
/*
 * pyheap-step-daemon: the daemon killed after each instruction of what it does
 *
 * An event makes the daemon work: a client comes, wants memory, gives memory back, dies; or the daemon is a fresh one
 * and adopts the heap. It is stepped from the function where that work begins, until it sleeps again, and killed after
 * k instructions, for sampled k or all. While it is gone, clients go on with what they have. A fresh daemon then adopts
 * the heap; what the client was about is completed; a newcomer finds the heap whole; and once the client has died, too,
 * everything is as it was before it came.
 *
 * The code of each daemon lies at the same addresses (world.c), so that one trace is good for all of them.
 */
#include "daemon_works.h"
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

#define N_WAITS_MAX  500 /* of 30 ms: a watch-dog */
#define WATCHDOG_NS  UINT64_C(20000000000)
#define N_FAULTS_MAX 10
#define N_STEPS_MAX  3000000U

/* What the client is at. */
enum phase { PHASE_SETUP, PHASE_READY, PHASE_ACT, PHASE_DONE, PHASE_VERIFY, PHASE_VERIFIED };

struct runner {
	struct rig rig;
	struct tracee daemon, changer;
	pid_t client;
	uint32_t *phase; /* shared with the client */
	const struct work *work;
	struct trace trace;
	int n_waits;
	uint64_t seed, n_kills, n_elsewhere, n_with_lock, n_faults;
	bool show;
	bool plants; /* the daemon's undo log is emptied as it dies: as if a commit stood before the last stores */
};

static struct runner runner;

/* ---- the client ------------------------------------------------------------------------------------------------- */

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

/* Until the client has come to that phase; it may end on the way, with a fault. */
static bool client_await(struct runner *r, enum phase phase)
{
	uint64_t give_up = clock_ns() + WATCHDOG_NS;
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

/* ---- the daemon ------------------------------------------------------------------------------------------------- */

static bool go_on_waiting(void *userdata)
{
	struct runner *r = userdata;

	return r->n_waits++ < N_WAITS_MAX;
}

static void daemon_kill(struct runner *r)
{
	if (!r->daemon.pid)
		r->daemon.pid = r->rig.world.daemon;
	tracee_kill(&r->daemon);
	r->rig.world.daemon = 0;
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

/* The daemon stands where the work begins. */
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
		while (event == TRACEE_BLOCKED && go_on_waiting(r))
			event = tracee_wait(&r->daemon);
	} while (event == TRACEE_STOPPED && !is_about_client(r));
	if (event == TRACEE_STOPPED)
		return true;
	rig_note(&r->rig, "the daemon never does the work");
	return false;
}

/* One client has died in the middle of a change, one with all that it holds, and so has the daemon. */
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
	r->n_waits = 0;
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
	if (strcmp(r->work->name, "return") == 0 && !client_await(r, PHASE_DONE))
		return false;
	return reach_entry(r);
}

/* ---- after its death -------------------------------------------------------------------------------------------- */

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
	/* While there is no daemon; for the other half, the fresh daemon is the first to look at the heap. */
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

	r->n_faults++;
	if (r->plants && !r->show)
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
	if (r->daemon.pid && world_has_lock(&r->rig.world, r->daemon.pid)) {
		r->n_with_lock++;
		if (r->plants)
			r->rig.world.control->lock.n_entries = 0;
	}
	daemon_kill(r);
	if (!stage->n_faults)
		examine(r, k);
	if (!stage->n_faults)
		return 0;
	report(r, k, ip);
	clear_up();
	return rig_begin(&r->rig);
}

/* ---- all places ------------------------------------------------------------------------------------------------- */

/*
 * Stepping is slow, and the tick comes by the clock, so there are ticks in the middle of the work that there are not
 * when it is done at its own pace. They, and what is collected from idle sessions after them, are left out of the
 * trace; "tick" and "collect" are works of their own.
 */
static enum tracee_event step_over_ticks(struct runner *r, uint64_t tick, uint64_t collect)
{
	uint64_t ip = tracee_ip(&r->daemon);

	if (r->trace.n == 0 || (ip != tick && ip != collect))
		return TRACEE_STOPPED;
	return tracee_run_call(&r->daemon);
}

static int take_trace(struct runner *r)
{
	enum tracee_event event = TRACEE_STOPPED;
	int result = 0;

	if (begin(r)) {
		uint64_t tick = address_of(r, "on_tick");
		uint64_t collect = strcmp(r->work->entry, "own_trim") ? address_of(r, "own_trim") : 0;
		uint64_t end = r->work->is_one_call ? tracee_return_address(&r->daemon) : 0;

		while (event == TRACEE_STOPPED && result == 0 && r->trace.n < N_STEPS_MAX) {
			if (tracee_ip(&r->daemon) == end)
				break;
			event = step_over_ticks(r, tick, collect);
			if (event != TRACEE_STOPPED)
				break;
			result = trace_add(&r->trace, tracee_ip(&r->daemon));
			event = tracee_step(&r->daemon);
		}
		if (event != (end ? TRACEE_STOPPED : TRACEE_BLOCKED)) /* asleep: the work is done */
			rig_note(&r->rig, "the daemon crashed, or never comes to rest");
	}
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

/* Asleep: it came to the end of its work by another way. */
static bool never(void *userdata)
{
	(void)userdata;
	return false;
}

static int die_at(struct runner *r, uint64_t k)
{
	enum tracee_event event = TRACEE_GONE;

	if (begin(r))
		event = trace_go_to(&r->trace, &r->daemon, k, never, NULL);
	if (event == TRACEE_GONE)
		rig_note(&r->rig, "the daemon does not get there");
	else if (event != TRACEE_STOPPED || tracee_ip(&r->daemon) != r->trace.ips[k])
		r->n_elsewhere++;
	return end(r, k, r->trace.ips[k]);
}

/*
 * Kills at other places than were meant say little about those that were. The clock may spoil the trace of one work,
 * where another tick's doing is in it, but not that of most.
 */
static bool is_off_the_mark(uint64_t n_elsewhere, uint64_t n_kills)
{
	if (n_elsewhere * 2 <= n_kills)
		return false;
	fprintf(stderr, "%" PRIu64 " of %" PRIu64 " kills were elsewhere than planned\n", n_elsewhere, n_kills);
	return true;
}

static int run_work(struct runner *r, const struct work *work, uint64_t n_points)
{
	uint64_t begun = clock_ns(), stride;
	int result;

	r->work = work;
	r->rig.patience_ms = r->plants ? 500 : 0;
	r->n_kills = r->n_elsewhere = r->n_with_lock = r->n_faults = 0;
	result = rig_begin(&r->rig);
	if (result == 0)
		result = take_trace(r);
	stride = n_points && r->trace.n > n_points ? r->trace.n / n_points : 1;
	for (uint64_t i = 0, k; result == 0 && (k = i * stride + (r->seed + i * 7919) % stride) < r->trace.n; i++) {
		result = die_at(r, k);
		if (r->n_faults >= (r->plants ? 1 : N_FAULTS_MAX))
			break;
	}
	if (result == 0) {
		rig_examine_memory(&r->rig);
		if (r->rig.world.stage->n_faults)
			report(r, r->trace.n, 0);
	}
	printf("%-12s %12zu %8" PRIu64 " %9" PRIu64 " %9" PRIu64 " %7" PRIu64 " %8.1f\n", work->name, r->trace.n,
		r->n_kills, r->n_with_lock, r->n_elsewhere, r->n_faults, (double)(clock_ns() - begun) / 1e9);
	fflush(stdout);
	clear_up();
	trace_free(&r->trace);
	return result < 0 || !r->n_faults == r->plants;
}

static void on_signal(int signal_number)
{
	clear_up();
	_exit(128 + signal_number);
}

static int usage(void)
{
	fputs("Usage: step_daemon [--work NAME] [--points N | --whole] [--seed N] [--cpu N] [--show] [--plant]\n"
	      "Works:",
		stderr);
	for (const struct work *w = daemon_works; w->name; w++)
		fprintf(stderr, " %s", w->name);
	fputs("\n--plant: its undo log is emptied as it dies; faults are then what is expected.\n"
	      "PYHEAPD names the daemon's program, not stripped.\n",
		stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"work", required_argument, NULL, 'w'},
		{"points", required_argument, NULL, 'p'}, {"whole", no_argument, NULL, 'a'},
		{"seed", required_argument, NULL, 's'}, {"cpu", required_argument, NULL, 'c'},
		{"plant", no_argument, NULL, 'd'}, {"show", no_argument, NULL, 'v'}, {NULL, 0, NULL, 0}};
	const char *name = NULL;
	uint64_t n_points = 30, n_kills = 0, n_elsewhere = 0;
	int key, cpu = 0, n_failed = 0, n_works = 0;

	runner.seed = 1;
	while ((key = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (key == 'w')
			name = optarg;
		else if (key == 'p')
			n_points = strtoull(optarg, NULL, 10);
		else if (key == 'a')
			n_points = 0;
		else if (key == 's')
			runner.seed = strtoull(optarg, NULL, 10);
		else if (key == 'c')
			cpu = atoi(optarg);
		else if (key == 'd')
			runner.plants = true;
		else if (key == 'v')
			runner.show = true;
		else
			return usage();
	}
	runner.phase = mmap(NULL, sizeof(*runner.phase), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (runner.phase == MAP_FAILED || !getenv("PYHEAPD"))
		return usage();
	tracee_init(cpu);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	runner.rig.scenario = &daemon_scenario;
	printf("%-12s %12s %8s %9s %9s %7s %8s\n", "work", "instructions", "kills", "with lock", "elsewhere", "faults",
		"time (s)");
	for (const struct work *w = daemon_works; w->name; w++) {
		if (name && strcmp(name, w->name) != 0)
			continue;
		n_failed += run_work(&runner, w, n_points);
		n_kills += runner.n_kills;
		n_elsewhere += runner.n_elsewhere;
		n_works++;
	}
	n_failed += !runner.plants && is_off_the_mark(n_elsewhere, n_kills);
	if (n_points)
		printf("A sample (seed %" PRIu64 "); every instruction: %s --whole\n", runner.seed, argv[0]);
	return n_failed || !n_works ? EXIT_FAILURE : EXIT_SUCCESS;
}
