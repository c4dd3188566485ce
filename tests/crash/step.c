// SPDX-License-Identifier: MIT
/*
 * pyheap-step: every call that changes something, killed after each of its instructions
 *
 * See stepper.c for what is done, scenario.c for the calls. With a planted defect faults must be found; the exit status
 * is 0 where the outcome is what it should be.
 */
#include "stepper.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] = "Usage: step [OPTION]...\n"
			   "Kill a client after each instruction of each call, and look whether anything is lost.\n"
			   "\n"
			   "  --call NAME     this call only; may be given several times\n"
			   "  --list          print the names of the calls and exit\n"
			   "  --points N      of each call, N instructions, evenly spread (default: 60)\n"
			   "  --stride N      of each call, each N-th instruction\n"
			   "  --whole         every instruction\n"
			   "  --seed N        which ones, where not all are tried (default: 1)\n"
			   "  --stop          stop the client by SIGSTOP first, and see that others go on beside it\n"
			   "  --plant DEFECT  skip-log: leave out an entry of the undo log; early-commit: empty it\n"
			   "                  before the last stores; early-word: a new object's header is there\n"
			   "                  before its slots are clear; lost-free: a freed block is on no list;\n"
			   "                  open-gate: a session that is in a call says that it is not.\n"
			   "                  Faults are then what is expected\n"
			   "  --show          print each fault\n"
			   "  --cpu N         run there; -1: anywhere (default: 0)\n"
			   "\n"
			   "PYHEAPD names the daemon's program.\n";

#define N_PLANTS 6U /* entries of the log at which a defect is planted in turn */

struct command_line {
	struct plan plan;
	const struct scenario *scenarios[128];
	size_t n_scenarios;
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

	if (!scenario || line->n_scenarios == 127) {
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
	{"cpu", required_argument, NULL, 'u'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

/* 1: go on; else the exit status. */
static int parse(struct command_line *line, int argc, char **argv)
{
	int key, r = 0;

	*line = (struct command_line){.plan = {.n_points = 60, .seed = 1}};
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
	if (r < 0 || optind < argc) {
		fputs("step: wrong usage; see --help\n", stderr);
		return 2;
	}
	for (size_t i = 0; !line->n_scenarios && scenario_at(i); i++)
		line->scenarios[i] = scenario_at(i);
	return 1;
}

static void print_row(const char *name, const struct outcome *o, double seconds)
{
	printf("%-20s %12" PRIu64 " %8" PRIu64 " %9" PRIu64 " %9" PRIu64 " %7" PRIu64 " %10.1f %8.1f\n", name,
		o->n_instructions, o->n_kills, o->n_with_lock, o->n_elsewhere, o->n_faults, (double)o->wait_ns / 1000,
		seconds);
	fflush(stdout);
}

static void add(struct outcome *sum, const struct outcome *o)
{
	sum->n_instructions += o->n_instructions;
	sum->n_kills += o->n_kills;
	sum->n_with_lock += o->n_with_lock;
	sum->n_elsewhere += o->n_elsewhere;
	sum->n_faults += o->n_faults;
	if (o->wait_ns > sum->wait_ns)
		sum->wait_ns = o->wait_ns;
}

/* The defect is planted at one entry of the log after the other, or once where there is no log. Is it ever found? */
static bool run_planted(const struct scenario *scenario, struct plan plan)
{
	struct outcome sum = {0}, outcome;
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
		puts(sum.n_faults ? "  planted in its own pools, and found"
				  : "  planted in its own pools, and not found");
	else
		printf("  planted at %u entries of the log in turn, found at %" PRIu64 " of them\n", n_plants,
			sum.n_faults);
	return sum.n_faults > 0;
}

/*
 * Kills at other places than were meant say little about those that were: a quarter of all is too many, and of one
 * call, which the daemon's tick may have met on its long way more often than not, a half.
 */
static bool is_off_the_mark(const struct outcome *o, uint64_t one_in)
{
	if (o->n_elsewhere * one_in <= o->n_kills)
		return false;
	printf("  too many kills elsewhere than planned: the call does not go the same way twice\n");
	return true;
}

/* The number of calls that were not as they should be. */
static int run_all(const struct command_line *line)
{
	struct outcome sum = {0}, outcome;
	uint64_t begin = clock_ns();
	int n_failed = 0;

	printf("%-20s %12s %8s %9s %9s %7s %10s %8s\n", "call", "instructions", "kills", "with lock", "elsewhere",
		"faults", "wait (us)", "time (s)");
	for (const struct scenario *const *s = line->scenarios; *s; s++) {
		uint64_t then = clock_ns();

		if (line->plan.plant) {
			n_failed += !run_planted(*s, line->plan);
			continue;
		}
		if (stepper_run(*s, &line->plan, &outcome) < 0 || outcome.n_faults || is_off_the_mark(&outcome, 2))
			n_failed++;
		print_row((*s)->name, &outcome, (double)(clock_ns() - then) / 1e9);
		add(&sum, &outcome);
	}
	if (line->plan.plant)
		return n_failed;
	n_failed += is_off_the_mark(&sum, 4);
	print_row("all", &sum, (double)(clock_ns() - begin) / 1e9);
	return n_failed;
}

int main(int argc, char **argv)
{
	struct command_line line;
	int r = parse(&line, argc, argv);

	if (r != 1)
		return r;
	tracee_init(line.cpu);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	r = run_all(&line);
	if (!line.plan.whole && !line.plan.plant)
		printf("A sample (seed %" PRIu64 "); every instruction: %s%s%s --whole\n", line.plan.seed, argv[0],
			line.plan.stops ? " --stop" : "", line.plan.foreign ? " --foreign" : "");
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
