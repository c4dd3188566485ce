// SPDX-License-Identifier: MIT
/*
 * A world that is prepared for a scenario, its victims, and the examination after a death
 */
#include "rig.h"

#include "client/session.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define N_FREE_MAX 8 /* empty arenas that may wait to be returned */

/* ---- waiting ---- */

void rig_note(struct rig *rig, const char *text)
{
	struct stage *stage = rig->world.stage;
	size_t n = strlen(stage->faults);

	stage->n_faults++;
	if (n < sizeof(stage->faults))
		snprintf(stage->faults + n, sizeof(stage->faults) - n, "    %s\n", text);
}

bool rig_ask(struct rig *rig, enum command command, const char *what)
{
	char text[160];
	int r = world_ask(&rig->world, command);

	if (r == 0)
		return true;
	snprintf(text, sizeof(text), "the survivor %s while it was to %s", r == -ETIMEDOUT ? "hangs" : "is gone", what);
	rig_note(rig, text);
	return false;
}

bool rig_await(struct rig *rig, bool (*is_so)(const struct world *), const char *otherwise)
{
	uint64_t give_up = clock_ns() + rig->world.stage->patience_ms * UINT64_C(1000000);

	while (!is_so(&rig->world)) {
		if (clock_ns() > give_up || !world_daemon_lives(&rig->world)) {
			rig_note(rig, otherwise);
			return false;
		}
		usleep(200);
	}
	return true;
}

bool rig_dead_are_cleared_up(const struct world *world)
{
	return world_count_sessions(world) == world->stage->n_sessions;
}

static bool no_arena_moves(const struct world *world)
{
	return world_count_moving_arenas(world) == 0;
}

static uint32_t n_free_arenas(const struct world *world)
{
	return world->control->spaces[0].n_free_arenas + world->control->spaces[1].n_free_arenas +
	       world->control->n_returnable;
}

bool rig_memory_is_back(const struct world *world)
{
	return no_arena_moves(world) && n_free_arenas(world) <= 1 && world_excess_bytes(world) == 0;
}

bool rig_nothing_is_kept(const struct world *world)
{
	return world_count_kept(world) == 0;
}

/* Victims may take fresh arenas faster than the daemon returns empty ones: this keeps the heap from being full. */
static bool is_roomy(const struct world *world)
{
	return n_free_arenas(world) <= N_FREE_MAX || rig_memory_is_back(world);
}

/* ---- the world ---- */

static int settle(struct rig *rig)
{
	struct stage *stage = rig->world.stage;

	stage->scenario = rig->scenario;
	stage->is_foreign = rig->is_foreign;
	if (!rig_ask(rig, COMMAND_PREPARE, "prepare") ||
		!rig_await(rig, rig_dead_are_cleared_up, "a session is missing") ||
		!rig_ask(rig, COMMAND_VERIFY, "verify") ||
		!rig_await(rig, rig_memory_is_back, "memory does not go back"))
		return -EIO;
	stage->wait_ns = 0;
	if (!rig_ask(rig, COMMAND_BASELINE, "take the figures"))
		return -EIO;
	rig->n_arenas = world_count_used_arenas(&rig->world);
	return stage->n_faults ? -EIO : 0;
}

int rig_begin(struct rig *rig)
{
	static const char *const usual_args[] = {"--size", "16M", "--arena-size", "64K", "--max-sessions", "16",
		"--spare-arenas", "1", "--decay", "0", NULL};
	int r = world_start(&rig->world, rig->daemon_args ? rig->daemon_args : usual_args);

	if (r == 0)
		r = settle(rig);
	if (r < 0)
		fprintf(stderr, "%s: cannot be prepared\n%s", rig->scenario->name, rig->world.stage->faults);
	return r;
}

int rig_again(struct rig *rig)
{
	world_stop(&rig->world);
	return rig_begin(rig);
}

/* ---- victims ---- */

static void victim_run(void *userdata)
{
	struct stage *stage = userdata;
	const struct scenario *scenario = stage->victims; /* read now: the harness sets it for each victim */
	struct actor actor = {.stage = stage, .is_victim = true};

	if (!scenario->opens)
		MUST(&actor, pyheap_open(&actor.heap, stage->socket));
	if (stage->is_foreign && actor.heap) {
		actor.heap->session.is_home = false;
		actor.heap->session.process = 0;
	}
	if (scenario->setup)
		scenario->setup(&actor);
	tracee_mark_begin();
	stage->result = scenario->call(&actor);
	tracee_mark_end();
}

int rig_start_victim_of(struct rig *rig, struct tracee *victim, const struct scenario *scenario)
{
	if (!rig_await(rig, scenario->wants_arenas ? rig_memory_is_back : is_roomy, "empty arenas are not returned"))
		return -EIO;
	rig->world.stage->victims = scenario;
	if (scenario->ready && !rig_ask(rig, COMMAND_READY, "make ready for the victim"))
		return -EIO;
	if (tracee_fork(victim, victim_run, rig->world.stage) == 0)
		return !scenario->beside || rig_ask(rig, COMMAND_BESIDE, "act beside the victim") ? 0 : -EIO;
	fprintf(stderr, "%s: the victim does not get to its call (status 0x%x)\n%s", scenario->name, victim->status,
		rig->world.stage->faults);
	tracee_kill(victim);
	return -EIO;
}

int rig_start_victim(struct rig *rig, struct tracee *victim)
{
	rig->world.stage->passed = 0;
	rig->world.stage->is_finished = 0;
	return rig_start_victim_of(rig, victim, rig->scenario);
}

/* ---- after the death ---- */

void rig_examine(struct rig *rig, bool first)
{
	if (!rig_ask(rig, COMMAND_LOOK, "check the heap at once"))
		return;
	if (first && !rig_ask(rig, COMMAND_VERIFY, "go on with what was shared"))
		return;
	if (!rig_await(rig, rig_dead_are_cleared_up, "the dead session is never cleared up"))
		return;
	if (!rig_await(rig, no_arena_moves, "arenas that were granted to the dead never go back"))
		return;
	if (!first && !rig_ask(rig, COMMAND_VERIFY, "go on with what was shared"))
		return;
	rig_ask(rig, COMMAND_CHECK, "check the heap");
}

void rig_examine_memory(struct rig *rig)
{
	char text[100];

	if ((!rig->is_brief && !rig_await(rig, rig_nothing_is_kept, "what sessions keep free does not go back")) ||
		!rig_await(rig, rig_memory_is_back, "the memory of what is gone does not go back"))
		return;
	if (world_count_used_arenas(&rig->world) == rig->n_arenas)
		return;
	snprintf(text, sizeof(text), "%" PRIu64 " arenas were in use, %" PRIu64 " are", rig->n_arenas,
		world_count_used_arenas(&rig->world));
	rig_note(rig, text);
}
