// SPDX-License-Identifier: MIT
/*
 * step: a client is killed after each instruction of each call that changes the heap
 *
 * stepper.c does it; scenario.c has the calls. With a planted defect faults must be found. The exit status is 0 where
 * the outcome is what it should be.
 */
#include "parts.h"
#include "stepper.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] = "Usage: step [OPTION]...\n"
			   "Kill a client after each instruction of each call, and check that nothing is lost.\n"
			   "\n"
			   "  --call NAME     this call only; may be given several times\n"
			   "  --list          print the names of the calls and exit\n"
			   "  --points N      sample N instructions of each call, evenly spread (default: 60)\n"
			   "  --stride N      sample one of N instructions\n"
			   "  --whole         try every instruction\n"
			   "  --seed N        choose the samples (default: 1)\n"
			   "  --stop          stop the client by SIGSTOP first, and see that others go on beside it\n"
			   "  --foreign       the client locks as a process of another pid namespace does\n"
			   "  --brief         do not wait at the end until the daemon has trimmed the sessions\n"
			   "  --plant DEFECT  the test must find a defect. skip-log: an entry of the undo log is\n"
			   "                  missing; early-commit: the log is emptied before the last stores;\n"
			   "                  early-word: a new object's header is stored before its slots are\n"
			   "                  clear; lost-free: a freed block is on no list; open-gate: a session\n"
			   "                  in a critical section says that it is in none\n"
			   "  --show          print each fault\n"
			   "  --jobs N        test N calls at the same time (default: 4)\n"
			   "  --cpu N         run on that CPU and those that follow; -1: on any (default: 0)\n"
			   "\n"
			   "PYHEAPD names the daemon's program.\n";

#define ENOUGH_SAMPLES 8  /* of one call, to judge it by those that were missed */
#define N_PLANTS       6U /* a defect of the log is planted at each of its first entries in turn */
#define N_JOBS         4U
#define CALLS_MAX      512U

struct command_line {
	struct plan plan;
	const struct scenario *scenarios[CALLS_MAX];
	size_t n_scenarios;
	struct outcome *sum; /* shared by all parts */
	unsigned int n_jobs;
	int cpu;
};

static void on_signal(int signal_number)
{
	stepper_clear_up();
	_exit(128 + signal_number);
}

static int list_calls(void)
{
	const struct scenario *scenario;

	for (size_t i = 0; (scenario = scenario_at(i)); i++)
		puts(scenario->name);
	return 0;
}

static int add_call(struct command_line *line, const char *name)
{
	const struct scenario *scenario = scenario_find(name);

	if (!scenario || line->n_scenarios == CALLS_MAX) {
		fprintf(stderr, "step: there is no call \"%s\"; see --list\n", name);
		return -1;
	}
	line->scenarios[line->n_scenarios++] = scenario;
	return 0;
}

static int set_plant(struct plan *plan, const char *name)
{
	static const char *const names[] = {[PLANT_SKIP_LOG] = "skip-log",
		[PLANT_EARLY_COMMIT] = "early-commit",
		[PLANT_EARLY_WORD] = "early-word",
		[PLANT_LOST_FREE] = "lost-free",
		[PLANT_OPEN_GATE] = "open-gate"};

	for (size_t i = PLANT_SKIP_LOG; i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(name, names[i]) != 0)
			continue;
		plan->plant = (enum plant)i;
		return 0;
	}
	return -1;
}

static const struct option options[] = {
	{"call", required_argument, NULL, 'c'},
	{"list", no_argument, NULL, 'l'},
	{"points", required_argument, NULL, 'p'},
	{"stride", required_argument, NULL, 's'},
	{"whole", no_argument, NULL, 'w'},
	{"seed", required_argument, NULL, 'e'},
	{"stop", no_argument, NULL, 't'},
	{"foreign", no_argument, NULL, 'f'},
	{"plant", required_argument, NULL, 'd'},
	{"show", no_argument, NULL, 'v'},
	{"brief", no_argument, NULL, 'b'},
	{"jobs", required_argument, NULL, 'j'},
	{"cpu", required_argument, NULL, 'u'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

/* 1: go on; else the exit status. */
static int parse(struct command_line *line, int argc, char **argv)
{
	int key, r = 0;

	*line = (struct command_line){.plan = {.n_points = 60, .seed = 1}, .n_jobs = N_JOBS};
	while (r == 0 && (key = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (key) {
		case 'c':
			r = add_call(line, optarg);
			break;
		case 'l':
			return list_calls();
		case 'p':
			line->plan.n_points = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 's':
			line->plan.stride = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'w':
			line->plan.whole = true;
			break;
		case 'e':
			line->plan.seed = strtoull(optarg, NULL, 10);
			break;
		case 't':
			line->plan.stops = true;
			break;
		case 'f':
			line->plan.foreign = true;
			break;
		case 'd':
			r = set_plant(&line->plan, optarg);
			break;
		case 'v':
			line->plan.show = true;
			break;
		case 'b':
			line->plan.brief = true;
			break;
		case 'j':
			line->n_jobs = (unsigned int)strtoul(optarg, NULL, 10);
			break;
		case 'u':
			line->cpu = atoi(optarg);
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		default:
			r = -1;
		}
	}
	if (r < 0 || optind < argc || !line->n_jobs) {
		fputs("step: wrong usage; see --help\n", stderr);
		return 2;
	}
	if (!line->n_scenarios)
		for (size_t i = 0; scenario_at(i) && i < CALLS_MAX; i++)
			line->scenarios[line->n_scenarios++] = scenario_at(i);
	line->sum = parts_memory(sizeof(*line->sum));
	return 1;
}

static void print_heading(void)
{
	printf("%-24s %12s %8s %9s %8s %7s %7s %10s %8s\n", "call", "instructions", "kills", "with lock", "anew",
		"missed", "faults", "wait (us)", "time (s)");
	fflush(stdout);
}

static void print_row(const char *name, const struct outcome *o, double seconds)
{
	printf("%-24s %12" PRIu64 " %8" PRIu64 " %9" PRIu64 " %8" PRIu64 " %7" PRIu64 " %7" PRIu64 " %10.1f %8.1f\n",
		name, o->n_instructions, o->n_kills, o->n_with_lock, o->n_anew, o->n_missed, o->n_faults,
		(double)o->wait_ns / 1000, seconds);
	fflush(stdout);
}

/* relaxed: sums, which are read after the processes that add to them have ended */
static void add_to(uint64_t *sum, uint64_t n)
{
	__atomic_fetch_add(sum, n, __ATOMIC_RELAXED);
}

static void add(struct outcome *sum, const struct outcome *o)
{
	uint64_t wait_ns = __atomic_load_n(&sum->wait_ns, __ATOMIC_RELAXED);

	add_to(&sum->n_instructions, o->n_instructions);
	add_to(&sum->n_samples, o->n_samples);
	add_to(&sum->n_missed, o->n_missed);
	add_to(&sum->n_anew, o->n_anew);
	add_to(&sum->n_kills, o->n_kills);
	add_to(&sum->n_with_lock, o->n_with_lock);
	add_to(&sum->n_faults, o->n_faults);
	add_to(&sum->n_false, o->n_false);
	while (o->wait_ns > wait_ns && !__atomic_compare_exchange_n(&sum->wait_ns, &wait_ns, o->wait_ns, false,
					       __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* The defect is planted at one entry of the log after the other, or once where there is no log. Is it ever found? */
static bool run_planted(const struct scenario *scenario, struct plan plan)
{
	struct outcome sum = {0}, outcome = {0};
	uint64_t then = clock_ns();
	uint32_t n_plants = plant_is_own(plan.plant) ? 1 : N_PLANTS;

	for (plan.plant_entry = 1; plan.plant_entry <= n_plants; plan.plant_entry++) {
		if (stepper_run(scenario, &plan, &outcome) < 0)
			return false;
		add(&sum, &outcome);
	}
	sum.n_instructions = outcome.n_instructions;
	print_row(scenario->name, &sum, (double)(clock_ns() - then) / 1e9);
	if (plant_is_own(plan.plant))
		printf("  %s: planted in its own pools, and %s\n", scenario->name,
			sum.n_faults ? "found" : "not found");
	else
		printf("  %s: planted at %u entries of the log in turn, found at %" PRIu64 " of them\n", scenario->name,
			n_plants, sum.n_faults);
	if (sum.n_false)
		printf("  %s: there were faults before the defect was planted\n", scenario->name);
	fflush(stdout);
	return sum.n_faults > 0 && !sum.n_false;
}

/*
 * A busy machine makes a call miss some of its samples. Where it misses nearly all of many, it has not been tested; of
 * a few it may, so these count in the sum over all calls.
 */
static bool is_untested(const char *name, const struct outcome *o)
{
	if (o->n_samples < ENOUGH_SAMPLES || (o->n_samples - o->n_missed) * 8 >= o->n_samples)
		return false;
	printf("  %s: of %" PRIu64 " samples %" PRIu64 " were not reached: the call never goes the same way twice\n",
		name, o->n_samples, o->n_missed);
	return true;
}

/* One of the processes side by side: the number of calls that were not as they should be. */
static int run_some(void *userdata)
{
	const struct command_line *line = userdata;
	const struct scenario *scenario;
	struct outcome outcome;
	int n_failed = 0;

	for (size_t i; (i = parts_take()) < line->n_scenarios;) {
		uint64_t then = clock_ns();

		scenario = line->scenarios[i];
		if (line->plan.plant) {
			n_failed += !run_planted(scenario, line->plan);
			continue;
		}
		if (stepper_run(scenario, &line->plan, &outcome) < 0 || outcome.n_faults ||
			is_untested(scenario->name, &outcome))
			n_failed++;
		print_row(scenario->name, &outcome, (double)(clock_ns() - then) / 1e9);
		add(line->sum, &outcome);
	}
	return n_failed;
}

int main(int argc, char **argv)
{
	uint64_t begin = clock_ns();
	struct command_line line;
	int r = parse(&line, argc, argv);

	if (r != 1)
		return r;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	print_heading();
	r = parts_run(line.n_jobs, line.cpu, run_some, &line);
	if (!line.plan.plant)
		print_row("all", line.sum, (double)(clock_ns() - begin) / 1e9);
	r += !line.plan.plant && is_untested("all", line.sum);
	if (!line.plan.whole && !line.plan.plant)
		printf("A sample (seed %" PRIu64 "); every instruction: %s%s%s --whole\n", line.plan.seed, argv[0],
			line.plan.stops ? " --stop" : "", line.plan.foreign ? " --foreign" : "");
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
