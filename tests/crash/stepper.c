// SPDX-License-Identifier: MIT
/*
 * A client's call, killed or stopped after each of its instructions
 *
 * A victim is a process of its own: it opens a session, brings about what the scenario says, and makes the call. The
 * first one runs through and is traced; it is killed when the call has returned. Each of the others is killed k
 * instructions after the call began, for every k, or for those that the plan samples. After each death the survivor
 * goes on with what was shared, the daemon clears up, and the heap must be whole and as it was before.
 *
 * A call that sleeps until somebody acts is killed in its sleep, too. To get beyond, the survivor acts.
 *
 * Planted defects show that the harness can see one. The victim's code is as it is; what the defect would have left
 * out or done too early is done to the shared log from outside, between two of its instructions.
 */
#include "stepper.h"

#include "symbols.h"
#include "trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_WAITS_MAX    20 /* a call that sleeps that often, with the survivor acting, hangs */
#define N_FAULTS_SHOWN 5
#define N_FAULTS_MAX   25 /* then the call has failed enough */
#define N_FREE_MAX     8  /* empty arenas that may wait to be returned */
#define WATCHDOG_NS    UINT64_C(20000000000)

static const char *const daemon_args[] = {
	"--size", "16M", "--arena-size", "64K", "--max-sessions", "16", "--spare-arenas", "1", NULL};

struct stepper {
	struct world world;
	struct tracee victim;
	const struct scenario *scenario;
	const struct plan *plan;
	struct outcome *outcome;
	struct trace trace;
	size_t blocked[8]; /* instructions of the trace in which it slept */
	uint32_t n_waits;
	uint32_t n_entries; /* of the log, when it was last looked at */
	bool is_planted;
};

static struct stepper stepper;

void stepper_clear_up(void)
{
	tracee_kill(&stepper.victim);
	world_stop(&stepper.world);
}

/* ---- looking -------------------------------------------------------------------------------------------------- */

static void note(struct stepper *s, const char *text)
{
	struct stage *stage = s->world.stage;
	size_t n = strlen(stage->faults);

	stage->n_faults++;
	if (n < sizeof(stage->faults))
		snprintf(stage->faults + n, sizeof(stage->faults) - n, "    %s\n", text);
}

static bool ask(struct stepper *s, enum command command, const char *what)
{
	char text[160];
	int r = world_ask(&s->world, command);

	if (r == 0)
		return true;
	snprintf(text, sizeof(text), "the survivor %s while it was to %s", r == -ETIMEDOUT ? "hangs" : "is gone", what);
	note(s, text);
	return false;
}

/* Look until the number is what it should be: a watch-dog ends it, with a fault. */
static bool await(struct stepper *s, bool (*is_so)(const struct world *), const char *what)
{
	uint64_t give_up = clock_ns() + WATCHDOG_NS;

	while (!is_so(&s->world)) {
		if (clock_ns() > give_up || !world_daemon_lives(&s->world)) {
			note(s, what);
			return false;
		}
		usleep(200);
	}
	return true;
}

static bool memory_is_back(const struct world *world)
{
	const struct space *spaces = world->control->spaces;

	return !world->control->returnable_arenas1 && world_count_moving_arenas(world) == 0 &&
	       spaces[0].n_free_arenas + spaces[1].n_free_arenas <= 1 && world_excess_bytes(world) == 0;
}

/* ---- the victim ------------------------------------------------------------------------------------------------- */

static void victim_run(void *userdata)
{
	struct stage *stage = userdata;
	const struct scenario *scenario = stage->scenario;
	struct actor actor = {.stage = stage, .is_victim = true};

	if (!scenario->opens)
		MUST(&actor, pyheap_open(&actor.heap, stage->socket));
	if (scenario->setup)
		scenario->setup(&actor);
	tracee_mark_begin();
	stage->result = scenario->call(&actor);
	tracee_mark_end();
}

/* Victims that need fresh arenas come faster than the daemon looks for empty ones: not so fast that the heap fills. */
static bool is_roomy(const struct world *world)
{
	const struct space *spaces = world->control->spaces;

	return spaces[0].n_free_arenas + spaces[1].n_free_arenas <= N_FREE_MAX || memory_is_back(world);
}

static bool victim_start(struct stepper *s)
{
	struct stage *stage = s->world.stage;
	int r;

	stage->passed = 0;
	stage->is_finished = 0;
	s->n_waits = 0;
	s->n_entries = 0;
	s->is_planted = false;
	if (!await(s, is_roomy, "empty arenas are not returned"))
		return false;
	r = tracee_fork(&s->victim, victim_run, stage);
	if (r == 0)
		return true;
	stage->n_faults++;
	fprintf(stderr, "%s: the victim does not get to its call (status 0x%x)\n", s->scenario->name, s->victim.status);
	tracee_kill(&s->victim);
	return false;
}

/* Where the victim sleeps until somebody acts. */
static bool victim_blocks(void *userdata)
{
	struct stepper *s = userdata;

	if (s->n_waits++ == N_WAITS_MAX)
		return false;
	return !s->scenario->partner || s->n_waits > 1 || world_ask(&s->world, COMMAND_PARTNER) == 0;
}

/* ---- planted defects -------------------------------------------------------------------------------------------- */

/* Once in a call: when the log has got the entry in question, and the store that it is for is not yet made. */
static void plant(struct stepper *s)
{
	uint32_t *n_entries = &s->world.control->lock.n_entries;
	uint32_t n = *n_entries, entry = s->plan->plant_entry;

	if (!s->is_planted && world_has_lock(&s->world, s->victim.pid) && n == entry && s->n_entries == entry - 1) {
		*n_entries = n = s->plan->plant == PLANT_SKIP_LOG ? entry - 1 : 0;
		s->is_planted = true;
	}
	s->n_entries = n;
}

static enum tracee_event go_planting(struct stepper *s, size_t k)
{
	enum tracee_event event = TRACEE_STOPPED;

	for (size_t i = 0; i < k && event == TRACEE_STOPPED; i++) {
		event = tracee_step(&s->victim);
		while (event == TRACEE_BLOCKED && victim_blocks(s))
			event = tracee_wait(&s->victim);
		plant(s);
	}
	return event;
}

/* ---- after the death -------------------------------------------------------------------------------------------- */

static bool dead_are_cleared_up(const struct world *world)
{
	return world_count_sessions(world) == world->stage->n_sessions;
}

static bool no_arena_moves(const struct world *world)
{
	return world_count_moving_arenas(world) == 0;
}

/* The survivor is at it before the daemon has dropped what the dead held, or after: half of the deaths each. */
static void examine(struct stepper *s)
{
	bool before = (s->world.stage->k ^ s->plan->seed) & 1;

	if (!ask(s, COMMAND_LOOK, "check the heap at once"))
		return;
	if (before && !ask(s, COMMAND_VERIFY, "go on with what was shared"))
		return;
	if (!await(s, dead_are_cleared_up, "the dead session is never cleared up"))
		return;
	if (!await(s, no_arena_moves, "arenas that were granted to the dead never go back"))
		return;
	if (!before && !ask(s, COMMAND_VERIFY, "go on with what was shared"))
		return;
	ask(s, COMMAND_CHECK, "check the heap");
}

static void report(struct stepper *s, uint64_t k, uint64_t ip)
{
	char where[160];

	s->outcome->n_faults++;
	if (s->plan->plant && !s->plan->show)
		return;
	if (s->outcome->n_faults > N_FAULTS_SHOWN && !s->plan->show)
		return;
	symbols_describe(getpid(), ip, where, sizeof(where));
	fprintf(stderr, "%s: %s after instruction %" PRIu64 " of %" PRIu64 ", before %s:\n%s", s->scenario->name,
		s->plan->stops ? "stopped and killed" : "killed", k, s->outcome->n_instructions, where,
		s->world.stage->faults);
}

/* ---- a world for the scenario ----------------------------------------------------------------------------------- */

static int settle(struct stepper *s)
{
	struct stage *stage = s->world.stage;

	stage->scenario = s->scenario;
	stage->patience_ms = s->plan->plant ? 500 : 10000;
	if (!ask(s, COMMAND_PREPARE, "prepare") || !await(s, dead_are_cleared_up, "a session is missing") ||
		!ask(s, COMMAND_VERIFY, "verify") || !await(s, memory_is_back, "memory does not go back"))
		return -EIO;
	stage->wait_ns = 0;
	if (!ask(s, COMMAND_BASELINE, "take the figures"))
		return -EIO;
	return stage->n_faults ? -EIO : 0;
}

static int world_begin(struct stepper *s)
{
	int r = world_start(&s->world, daemon_args);

	if (r == 0)
		r = settle(s);
	if (r < 0)
		fprintf(stderr, "%s: cannot be prepared\n%s", s->scenario->name, s->world.stage->faults);
	return r;
}

/* Faults end a world: what is damaged stays so. A fresh one follows. */
static int world_again(struct stepper *s)
{
	world_stop(&s->world);
	return world_begin(s);
}

/* ---- one place -------------------------------------------------------------------------------------------------- */

/* The victim is where it is to die. */
static int end_victim(struct stepper *s, uint64_t k, uint64_t ip)
{
	struct stage *stage = s->world.stage;

	stage->k = k;
	s->outcome->n_kills++;
	if (s->victim.pid && world_has_lock(&s->world, s->victim.pid)) {
		s->outcome->n_with_lock++;
	} else if (s->plan->stops && s->victim.pid) {
		tracee_sigstop(&s->victim);
		ask(s, COMMAND_GO_ON, "go on beside one that was stopped without the lock");
	}
	tracee_kill(&s->victim);
	if (!stage->n_faults)
		examine(s);
	if (stage->wait_ns > s->outcome->wait_ns)
		s->outcome->wait_ns = stage->wait_ns;
	if (!stage->n_faults)
		return 0;
	report(s, k, ip);
	return world_again(s);
}

static int crashed(struct stepper *s, uint64_t k)
{
	char text[100];

	snprintf(text, sizeof(text), "the victim itself crashed or ended, status 0x%x", s->victim.status);
	note(s, text);
	return end_victim(s, k, 0);
}

static int finished(struct stepper *s, uint64_t k)
{
	struct stage *stage = s->world.stage;

	stage->is_finished = 1;
	if (stage->result != s->scenario->result)
		note(s, pyheap_strerror(stage->result));
	return end_victim(s, k, tracee_ip(&s->victim));
}

/* sleeping: in the instruction that comes after k, instead of before it. */
static int die_at(struct stepper *s, uint64_t k, bool sleeping)
{
	enum tracee_event event;

	if (!victim_start(s))
		return -EIO;
	event = s->plan->plant ? go_planting(s, k) : trace_go_to(&s->trace, &s->victim, k, victim_blocks, s);
	if (event == TRACEE_STOPPED && sleeping)
		event = tracee_step(&s->victim);
	if (event == TRACEE_GONE)
		return crashed(s, k);
	if (event == TRACEE_AT_END)
		return finished(s, k);
	if (event == TRACEE_BLOCKED && !sleeping)
		note(s, "the victim hangs");
	if (event == TRACEE_STOPPED && tracee_ip(&s->victim) != s->trace.ips[k])
		s->outcome->n_elsewhere++;
	return end_victim(s, k, s->trace.ips[k]);
}

/* ---- the whole call --------------------------------------------------------------------------------------------- */

static int take_trace(struct stepper *s)
{
	enum tracee_event event = TRACEE_STOPPED;
	int r = 0;

	if (!victim_start(s))
		return -EIO;
	while (event == TRACEE_STOPPED && r == 0) {
		r = trace_add(&s->trace, tracee_ip(&s->victim));
		event = tracee_step(&s->victim);
		if (event == TRACEE_BLOCKED && s->outcome->n_blocked < sizeof(s->blocked) / sizeof(*s->blocked))
			s->blocked[s->outcome->n_blocked++] = s->trace.n - 1;
		while (event == TRACEE_BLOCKED && victim_blocks(s))
			event = tracee_wait(&s->victim);
	}
	if (r == 0)
		r = trace_finish(&s->trace);
	if (r < 0)
		return r;
	s->outcome->n_instructions = s->trace.n;
	if (event == TRACEE_GONE)
		return crashed(s, s->trace.n);
	if (event == TRACEE_BLOCKED)
		note(s, "the call never returns");
	return finished(s, s->trace.n);
}

uint64_t plan_place(const struct plan *plan, uint64_t n, uint64_t i)
{
	uint64_t stride = plan->stride ? plan->stride : plan->n_points && plan->n_points < n ? n / plan->n_points : 1;
	uint64_t hash = (plan->seed * 0x9e3779b97f4a7c15U + i + 1) * 0xbf58476d1ce4e5b9U;

	if (plan->whole || stride <= 1)
		return i;
	hash ^= hash >> 31;
	return i * stride >= n ? n : i * stride + hash % stride;
}

static int step_through(struct stepper *s)
{
	int r = take_trace(s);

	for (uint64_t i = 0; r == 0 && i < s->outcome->n_blocked; i++)
		r = die_at(s, s->blocked[i], true);
	for (uint64_t i = 0, k; r == 0 && (k = plan_place(s->plan, s->trace.n, i)) < s->trace.n; i++) {
		r = die_at(s, k, false);
		if (s->outcome->n_faults >= (s->plan->plant ? 1 : N_FAULTS_MAX))
			return 0;
	}
	return r;
}

int stepper_run(const struct scenario *scenario, const struct plan *plan, struct outcome *ret)
{
	struct stepper *s = &stepper;
	uint64_t n_used;
	int r;

	*ret = (struct outcome){0};
	s->scenario = scenario;
	s->plan = plan;
	s->outcome = ret;
	r = world_begin(s);
	if (r == 0) {
		n_used = world_count_used_arenas(&s->world);
		r = step_through(s);
		if (r == 0 && !plan->plant &&
			(!await(s, memory_is_back, "the memory of what is gone does not go back") ||
				world_count_used_arenas(&s->world) != n_used)) {
			fprintf(stderr, "%s: %" PRIu64 " arenas were in use, %" PRIu64 " are; %s\n", scenario->name,
				n_used, world_count_used_arenas(&s->world), s->world.stage->faults);
			ret->n_faults++;
		}
	}
	stepper_clear_up();
	trace_free(&s->trace);
	return r;
}
