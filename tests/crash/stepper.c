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
 * out or done too early is done to the shared memory from outside, between two of its instructions: to the log, or,
 * where a session works on what is its own without a log, to its pools. A defect of these that a death would heal,
 * as the dead's lists are made anew from the headers, is looked for while the victim stands still.
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

#define N_WAITS_MAX    20 /* a call that sleeps that often, with the survivor acting, hangs */
#define N_FAULTS_SHOWN 5
#define N_FAULTS_MAX   25 /* then the call has failed enough */

struct stepper {
	struct rig rig;
	struct tracee victim;
	const struct plan *plan;
	struct outcome *outcome;
	struct trace trace;
	size_t blocked[8]; /* instructions of the trace in which it slept */
	uint32_t n_waits;
	uint32_t n_entries; /* of the log, when it was last looked at */
	bool is_planted;
	struct session_entry *entry; /* the victim's; below: what planting in its own pools needs */
	struct pool_entry *pool;     /* that its call is about, as it was when the call began */
	struct object_header *header;
	struct pool_entry pool_before;
	uint8_t payload_before[BLOCK_SIZE_MAX];
};

static struct stepper stepper;

void stepper_clear_up(void)
{
	tracee_kill(&stepper.victim);
	world_stop(&stepper.rig.world);
}

/* ---- the victim ------------------------------------------------------------------------------------------------- */

static bool victim_start(struct stepper *s)
{
	s->n_waits = 0;
	s->n_entries = 0;
	s->is_planted = false;
	s->pool = NULL;
	if (rig_start_victim(&s->rig, &s->victim) < 0)
		return false;
	s->entry = world_session_of(&s->rig.world, s->victim.pid);
	return true;
}

/* Where the victim sleeps until somebody acts. */
static bool victim_blocks(void *userdata)
{
	struct stepper *s = userdata;

	if (s->n_waits++ == N_WAITS_MAX)
		return false;
	return !s->rig.scenario->partner || s->n_waits > 1 || world_ask(&s->rig.world, COMMAND_PARTNER) == 0;
}

/* ---- planted defects -------------------------------------------------------------------------------------------- */

/* Once in a call: when the log has got the entry in question, and the store that it is for is not yet made. */
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

/* What the victim is about to take: the first block of its only class with room. */
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

/* What it is about to free is the object that it passed on by number. */
static void find_passed_block(struct stepper *s)
{
	const struct world *world = &s->rig.world;
	struct pool_entry *pools = (void *)((uint8_t *)world->control + world->control->pools_off);

	s->header = world_header_of(world, world->stage->passed);
	s->pool = s->header ? &pools[ref_position(world->stage->passed) >> (POOL_SHIFT - 3)] : NULL;
}

/* The header has been stored: what should have been stored before it is as if it were not. */
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

/* In a call that needs no lock. */
static void plant_own(struct stepper *s)
{
	enum plant plant = s->plan->plant;

	if (!s->entry || s->is_planted || s->entry->activity != ACTIVITY_ACTIVE)
		return;
	if (plant == PLANT_OPEN_GATE) {
		s->entry->activity = ACTIVITY_DONE;
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

/* ---- one place -------------------------------------------------------------------------------------------------- */

static void report(struct stepper *s, uint64_t k, uint64_t ip)
{
	char where[160];

	s->outcome->n_faults++;
	if (s->plan->plant && !s->plan->show)
		return;
	if (s->outcome->n_faults > N_FAULTS_SHOWN && !s->plan->show)
		return;
	symbols_describe(getpid(), ip, where, sizeof(where));
	fprintf(stderr, "%s: %s after instruction %" PRIu64 " of %" PRIu64 ", before %s:\n%s", s->rig.scenario->name,
		s->plan->stops ? "stopped and killed" : "killed", k, s->outcome->n_instructions, where,
		s->rig.world.stage->faults);
}

/* The victim stands still, or is stopped for good: does it matter to others? */
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

/* The victim is where it is to die. */
static int end_victim(struct stepper *s, uint64_t k, uint64_t ip)
{
	struct stage *stage = s->rig.world.stage;

	stage->k = k;
	s->outcome->n_kills++;
	if (s->victim.pid)
		look_beside(s);
	tracee_kill(&s->victim);
	if (!stage->n_faults)
		rig_examine(&s->rig, (stage->k ^ s->plan->seed) & 1);
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
	if (event == TRACEE_AT_END) {
		if (k + 1 < s->trace.n)
			s->outcome->n_elsewhere++;
		return finished(s, k);
	}
	if (event == TRACEE_BLOCKED && !sleeping)
		rig_note(&s->rig, "the victim hangs");
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
		rig_note(&s->rig, "the call never returns");
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
	int r;

	*ret = (struct outcome){0};
	s->rig.scenario = scenario;
	s->rig.is_foreign = plan->foreign;
	s->rig.is_brief = plan->foreign || plan->stops; /* looked at without these */
	s->rig.patience_ms = plan->plant ? 500 : 0;
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
