// SPDX-License-Identifier: MIT
/*
 * A client that is killed or stopped after each instruction of a call
 *
 * A victim is a process of its own: it opens a session, sets up the scenario, and makes the call. The first victim is
 * traced through the whole call and killed when the call has returned. Each of the others is killed k instructions
 * after the call began, for every k, or for the samples of the plan. After each death the survivor uses what both
 * shared, the daemon reclaims the dead session, and the heap must be consistent and have the figures of the baseline.
 *
 * A call does not go the same way each time: the daemon's tick comes by the clock, and on a busy machine others may be
 * late. A victim that is elsewhere than its sample wants is killed there and examined like any other; then the sample
 * is taken anew, up to N_TRIES times. Halfway the call is traced anew, as the first trace may have been the exception.
 * A sample that is still not reached counts as missed.
 *
 * A call that sleeps until another process acts is also killed in its sleep. To get beyond, the survivor acts.
 *
 * Planted defects show that the harness can see one. The victim's code stays as it is. Between two of its instructions
 * the harness changes shared memory as the defect would have: the log, or, where a session works in its own pools
 * without a log, those pools. Some of these defects are healed by a death, as the dead session's lists are rebuilt from
 * the headers; they are looked for while the victim stands still.
 */
#include "stepper.h"

#include "rig.h"
#include "symbols.h"
#include "trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_TRIES        6 /* of one sample */
#define N_TRACES_MAX   6 /* of one call */
#define N_FAULTS_SHOWN 5
#define N_FAULTS_MAX   25   /* after so many a call is given up */
#define PLANTED_MS     3000 /* patience after a planted defect, which may well be that something never comes */

struct stepper {
	struct rig rig;
	struct tracee victim;
	const struct plan *plan;
	struct outcome *outcome;
	struct trace trace;
	uint32_t n_traces;
	size_t blocked[8];   /* instructions of the trace in which it slept */
	uint64_t give_up_ns; /* a victim that sleeps at this time hangs */
	bool is_helped;      /* the scenario's partner has acted for this victim */
	uint32_t n_entries;  /* of the log, at the last instruction */
	bool is_planted;
	struct session_entry *entry;   /* the victim's; the rest is for planting in its own pools: */
	struct pool_entry *pool;       /* of the block that its call is about, */
	struct object_header *header;  /* that block's, */
	struct pool_entry pool_before; /* and both as they were when the call began */
	uint8_t payload_before[BLOCK_SIZE_MAX];
};

static struct stepper stepper;

void stepper_clear_up(void)
{
	tracee_kill(&stepper.victim);
	world_stop(&stepper.rig.world);
}

/* ---- the victim ---- */

static bool victim_start(struct stepper *s)
{
	s->give_up_ns = watchdog_ns();
	s->is_helped = false;
	s->n_entries = 0;
	s->is_planted = false;
	s->pool = NULL;
	if (rig_start_victim(&s->rig, &s->victim) < 0)
		return false;
	s->entry = world_session_of(&s->rig.world, s->victim.pid);
	return true;
}

/* The victim sleeps until another process acts. True: wait for it once more. */
static bool victim_blocks(void *userdata)
{
	struct stepper *s = userdata;

	if (clock_ns() > s->give_up_ns)
		return false;
	if (!s->rig.scenario->partner || s->is_helped)
		return true;
	s->is_helped = true;
	return world_ask(&s->rig.world, COMMAND_PARTNER) == 0;
}

/* ---- planted defects ---- */

/* Once per call: when the log has got the entry in question, and the store that it is for is not yet made. */
static void plant(struct stepper *s)
{
	uint32_t *n_entries = &s->rig.world.control->lock.n_entries;
	uint32_t n = *n_entries, entry = s->plan->plant_entry;

	if (!s->is_planted && world_has_lock(&s->rig.world, s->victim.pid) && n == entry && s->n_entries == entry - 1) {
		*n_entries = n = s->plan->plant == PLANT_SKIP_LOG ? entry - 1 : 0;
		s->is_planted = true;
	}
	s->n_entries = n;
}

static uint8_t *payload_of(const struct stepper *s)
{
	const struct object_header *headers =
		(const void *)(s->rig.world.base +
			       ((uintptr_t)((uint8_t *)s->header - s->rig.world.base) & ~(uintptr_t)(POOL_SIZE - 1)));

	return (uint8_t *)(uintptr_t)headers + block_offset(s->pool->size_class, (uint32_t)(s->header - headers));
}

/* The block that the victim is about to take: the first of its only class with room. */
static void find_next_block(struct stepper *s)
{
	const struct world *world = &s->rig.world;
	struct pool_entry *pools = (void *)((uint8_t *)world->control + world->control->pools_off);
	uint32_t size_class = 0, index;

	while (size_class < N_CLASSES && !s->entry->usedpools1[size_class])
		size_class++;
	if (size_class == N_CLASSES)
		return;
	index = s->entry->usedpools1[size_class] - 1;
	s->pool = &pools[index];
	s->header = (struct object_header *)(void *)(world->base + ((uint64_t)index << POOL_SHIFT)) +
		    (s->pool->freeblock1 ? s->pool->freeblock1 - 1U : s->pool->n_carved);
	memcpy(s->payload_before, payload_of(s), class_block_size(size_class));
}

/* The block that the victim is about to free: the object whose ref it has passed. */
static void find_passed_block(struct stepper *s)
{
	const struct world *world = &s->rig.world;
	struct pool_entry *pools = (void *)((uint8_t *)world->control + world->control->pools_off);

	s->header = world_header_of(world, world->stage->passed);
	s->pool = s->header ? &pools[ref_position(world->stage->passed) >> (POOL_SHIFT - 3)] : NULL;
}

/* The header has been stored: undo the stores that must come before it. */
static void plant_early_word(struct stepper *s)
{
	if (header_state(s->header->word) != STATE_LIVE)
		return;
	s->pool->generation = s->pool_before.generation;
	memcpy(payload_of(s), s->payload_before, class_block_size(s->pool->size_class));
	s->is_planted = true;
}

static void plant_lost_free(struct stepper *s)
{
	if (header_state(s->header->word) != STATE_FREE || s->pool->freeblock1 == s->pool_before.freeblock1)
		return;
	s->pool->freeblock1 = s->pool_before.freeblock1;
	s->is_planted = true;
}

/* In a call that takes no lock. */
static void plant_own(struct stepper *s)
{
	enum plant plant = s->plan->plant;

	if (!s->entry || s->entry->activity != ACTIVITY_ACTIVE || (s->is_planted && plant != PLANT_OPEN_GATE))
		return;
	if (plant == PLANT_OPEN_GATE) {
		s->entry->activity = ACTIVITY_DONE; /* and again after each store that the victim makes */
		s->is_planted = true;
		return;
	}
	if (!s->pool) {
		if (plant == PLANT_EARLY_WORD)
			find_next_block(s);
		else
			find_passed_block(s);
		if (s->pool)
			s->pool_before = *s->pool;
	}
	if (s->pool && plant == PLANT_EARLY_WORD)
		plant_early_word(s);
	else if (s->pool)
		plant_lost_free(s);
}

static enum tracee_event go_planting(struct stepper *s, size_t k)
{
	enum tracee_event event = TRACEE_STOPPED;

	for (size_t i = 0; i < k && event == TRACEE_STOPPED; i++) {
		event = tracee_step(&s->victim);
		while (event == TRACEE_BLOCKED && victim_blocks(s))
			event = tracee_wait(&s->victim);
		if (plant_is_own(s->plan->plant))
			plant_own(s);
		else
			plant(s);
	}
	return event;
}

/* ---- one sample ---- */

static void report(struct stepper *s, uint64_t k, uint64_t ip)
{
	char where[160];

	bool is_false = s->plan->plant && !s->is_planted;

	s->outcome->n_faults++;
	s->outcome->n_false += is_false;
	if (s->plan->plant && !is_false && !s->plan->show)
		return;
	if (s->outcome->n_faults > N_FAULTS_SHOWN && !s->plan->show)
		return;
	symbols_describe(getpid(), ip, where, sizeof(where));
	fprintf(stderr, "%s: %s after instruction %" PRIu64 " of %" PRIu64 ", before %s:\n%s", s->rig.scenario->name,
		s->plan->stops ? "stopped and killed" : "killed", k, s->outcome->n_instructions, where,
		s->rig.world.stage->faults);
}

/* The victim stands still, or is stopped by SIGSTOP: the others must go on, or know who has the lock. */
static void look_beside(struct stepper *s)
{
	bool has_lock = world_has_lock(&s->rig.world, s->victim.pid);

	s->outcome->n_with_lock += has_lock;
	if (!s->plan->stops && !plant_is_own(s->plan->plant))
		return;
	s->rig.world.stage->victim_pid = s->victim.pid;
	if (s->plan->stops)
		tracee_sigstop(&s->victim);
	if (has_lock)
		rig_ask(&s->rig, COMMAND_NAME_OWNER, "tell who has the lock");
	else
		rig_ask(&s->rig, COMMAND_GO_ON, "go on beside one that was stopped without the lock");
}

/* Kill the victim where it is, and examine what it leaves. */
static int end_victim(struct stepper *s, uint64_t k, uint64_t ip)
{
	struct stage *stage = s->rig.world.stage;

	stage->k = k;
	s->outcome->n_kills++;
	if (s->victim.pid)
		look_beside(s);
	tracee_kill(&s->victim);
	if (s->is_planted)
		stage->patience_ms = PLANTED_MS;
	if (!stage->n_faults)
		rig_examine(&s->rig, (stage->k ^ s->plan->seed) & 1);
	stage->patience_ms = WATCHDOG_S * 1000;
	if (stage->wait_ns > s->outcome->wait_ns)
		s->outcome->wait_ns = stage->wait_ns;
	if (!stage->n_faults)
		return 0;
	report(s, k, ip);
	return rig_again(&s->rig);
}

static int crashed(struct stepper *s, uint64_t k)
{
	char text[100];

	snprintf(text, sizeof(text), "the victim itself crashed or ended, status 0x%x", s->victim.status);
	rig_note(&s->rig, text);
	return end_victim(s, k, 0);
}

static int finished(struct stepper *s, uint64_t k)
{
	struct stage *stage = s->rig.world.stage;

	stage->is_finished = 1;
	if (stage->result != s->rig.scenario->result)
		rig_note(&s->rig, pyheap_strerror(stage->result));
	return end_victim(s, k, tracee_ip(&s->victim));
}

/* `sleeping`: the victim dies in instruction k, in which it sleeps, not before it. *ret: was that place reached? */
static int die_at(struct stepper *s, uint64_t k, bool sleeping, bool *ret)
{
	enum tracee_event event;

	*ret = false;
	if (!victim_start(s))
		return -EIO;
	event = s->plan->plant ? go_planting(s, k) : trace_go_to(&s->trace, &s->victim, k, victim_blocks, s);
	if (event == TRACEE_STOPPED && sleeping)
		event = tracee_step(&s->victim);
	if (event == TRACEE_GONE)
		return crashed(s, k);
	if (event == TRACEE_AT_END) {
		*ret = k + 1 >= s->trace.n;
		return finished(s, k);
	}
	if (event == TRACEE_BLOCKED && !sleeping)
		rig_note(&s->rig, "the victim hangs");
	*ret = sleeping ? event == TRACEE_BLOCKED : trace_is_at(&s->trace, &s->victim, k);
	return end_victim(s, k, s->trace.ips[k]);
}

/* ---- the whole call ---- */

static int take_trace(struct stepper *s)
{
	enum tracee_event event = TRACEE_STOPPED;
	int r = 0;

	trace_free(&s->trace);
	s->outcome->n_blocked = 0;
	s->n_traces++;
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
		rig_note(&s->rig, "the call never returns");
	return finished(s, s->trace.n);
}

/* The instruction that is the plan's sample i of n instructions; >= n: there are no more samples. */
static uint64_t plan_sample(const struct plan *plan, uint64_t n, uint64_t i)
{
	uint64_t stride = plan->stride ? plan->stride : plan->n_points && plan->n_points < n ? n / plan->n_points : 1;
	uint64_t hash = (plan->seed * 0x9e3779b97f4a7c15U + i + 1) * 0xbf58476d1ce4e5b9U;

	if (plan->whole || stride <= 1)
		return i;
	hash ^= hash >> 31;
	return i * stride >= n ? n : i * stride + hash % stride;
}

static bool is_given_up(const struct stepper *s)
{
	return s->outcome->n_faults >= (s->plan->plant ? 1 : N_FAULTS_MAX);
}

/* Each sleep that the first trace has shown. On a busy machine some of them may have been waits for others' turn. */
static int die_in_sleeps(struct stepper *s)
{
	bool reached = false;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < s->outcome->n_blocked; i++) {
		for (uint32_t n = 0; r == 0 && !reached && n < N_TRIES && !is_given_up(s); n++)
			r = die_at(s, s->blocked[i], true, &reached);
		reached = false;
	}
	return r;
}

/* Sample i, taken anew until the victim is where it is to be. *ret: there was such a sample. */
static int take_sample(struct stepper *s, uint64_t i, bool *ret)
{
	bool reached = false;
	int r = 0;

	*ret = true;
	for (uint32_t n = 0; n < N_TRIES && r == 0 && !reached && !is_given_up(s); n++) {
		uint64_t k;

		if (n == N_TRIES / 2 && s->n_traces < N_TRACES_MAX && !s->plan->plant)
			r = take_trace(s);
		k = plan_sample(s->plan, s->trace.n, i);
		if (r < 0 || k >= s->trace.n) {
			*ret = n > 0;
			s->outcome->n_missed += n > 0;
			return r;
		}
		s->outcome->n_samples += n == 0;
		s->outcome->n_anew += n > 0;
		r = die_at(s, k, false, &reached);
		if (s->plan->plant)
			return r; /* planting steps all the way: any place will do */
	}
	s->outcome->n_missed += !reached;
	return r;
}

static int step_through(struct stepper *s)
{
	bool is_there = true;
	int r;

	s->n_traces = 0;
	r = take_trace(s);
	if (r == 0)
		r = die_in_sleeps(s);
	for (uint64_t i = 0; r == 0 && is_there && !is_given_up(s); i++)
		r = take_sample(s, i, &is_there);
	return r;
}

int stepper_run(const struct scenario *scenario, const struct plan *plan, struct outcome *ret)
{
	struct stepper *s = &stepper;
	int r;

	*ret = (struct outcome){0};
	s->rig.scenario = scenario;
	s->rig.is_foreign = plan->foreign;
	s->rig.is_brief = plan->brief || plan->foreign || plan->stops;
	s->plan = plan;
	s->outcome = ret;
	r = rig_begin(&s->rig);
	if (r == 0)
		r = step_through(s);
	if (r == 0 && !plan->plant) {
		rig_examine_memory(&s->rig);
		if (s->rig.world.stage->n_faults) {
			fprintf(stderr, "%s: at the end:\n%s", scenario->name, s->rig.world.stage->faults);
			ret->n_faults++;
		}
	}
	stepper_clear_up();
	trace_free(&s->trace);
	return r;
}
