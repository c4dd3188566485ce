// SPDX-License-Identifier: MIT
/*
 * pyheap-meet: two sessions at the same thing, each stopped or killed at every sampled instruction
 *
 * The owner of a pool gets to the k-th instruction of its call and stands there; then the other one gets to the l-th of
 * its own. What becomes of them goes by turns:
 *
 *   owner dies     the owner is killed, the other one goes on to its end
 *   other dies     the other one is killed, the owner goes on
 *   both die       one after the other
 *   both go on     each until it has to wait for the other, or is through
 *
 * While those who are left live, what they hold is whole and pyheap_check() finds nothing, as much is made anew when a
 * session is cleared up. Then they are killed, too, and everything must be as it was.
 *
 * With --plant the owner's store that it holds the object no more is seen late, or the other one's that it has a right
 * to it, as if the processor had kept it back beyond the loads that follow: without the barriers that forbid this, the
 * owner frees what the other one has just come to hold. The harness must see it.
 */
#include "encounters.h"
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
#include <unistd.h>

#define N_FAULTS_MAX 10U
#define N_TURNS_MAX  50U /* at which one waits for the other: then they hang */

enum way { OWNER_DIES, OTHER_DIES, BOTH_DIE, BOTH_GO_ON, N_WAYS };
static const char *const way_names[N_WAYS] = {"owner dies", "other dies", "both die", "both go on"};

/* Whose store is kept back. */
enum plant { PLANT_NONE, PLANT_OWNER, PLANT_OTHER };

struct party {
	struct tracee tracee;
	enum tracee_event event;
	struct trace trace; /* of its call, when the other one does nothing */
};

struct meet {
	struct rig rig;
	struct party owner, other;
	const struct encounter *encounter;
	uint64_t n_points, seed;
	uint64_t n_meetings, n_kills, n_faults, n_in_time, n_late;
	enum plant plant;
	bool is_planted;
};

static struct meet meet;

static void clear_up(void)
{
	tracee_kill(&meet.owner.tracee);
	tracee_kill(&meet.other.tracee);
	world_stop(&meet.rig.world);
}

static void on_signal(int signal_number)
{
	clear_up();
	_exit(128 + signal_number);
}

/* ---- one of them ------------------------------------------------------------------------------------------------- */

static int party_start(struct meet *m, struct party *party, const struct scenario *scenario)
{
	party->event = TRACEE_STOPPED;
	return rig_start_victim_of(&m->rig, &party->tracee, scenario);
}

static bool is_through(const struct party *party)
{
	return !party->tracee.pid || party->event == TRACEE_AT_END;
}

/* To the end of its call, or until it has to wait for somebody. */
static void party_go_on(struct meet *m, struct party *party)
{
	if (is_through(party))
		return;
	if (party->event == TRACEE_BLOCKED)
		party->event = tracee_wait(&party->tracee);
	else
		party->event = tracee_run_to(&party->tracee, (uint64_t)(uintptr_t)tracee_mark_end);
	if (party->event == TRACEE_GONE)
		rig_note(&m->rig, party == &m->owner ? "the owner crashed or ended" : "the other one crashed or ended");
	if (party->event == TRACEE_GONE)
		party->tracee.pid = 0;
}

static void party_kill(struct meet *m, struct party *party)
{
	m->n_kills += party->tracee.pid != 0;
	tracee_kill(&party->tracee);
}

static bool never(void *userdata)
{
	(void)userdata;
	return false;
}

/* The other one is where its instructions are counted from. */
static void go_to_from(struct meet *m)
{
	struct party *other = &m->other;

	if (!m->encounter->from)
		return;
	other->event = tracee_run_to(&other->tracee, (uint64_t)(uintptr_t)m->encounter->from);
	if (other->event == TRACEE_STOPPED)
		other->event = tracee_run_call(&other->tracee);
}

/* The owner at its k-th instruction, the other one at its l-th, or as far as it gets. */
static int bring_together(struct meet *m, uint64_t k, uint64_t l)
{
	if (party_start(m, &m->owner, &m->encounter->owner) < 0 || party_start(m, &m->other, &m->encounter->other) < 0)
		return -EIO;
	if (k > 0 && k < m->owner.trace.n)
		m->owner.event = trace_go_to(&m->owner.trace, &m->owner.tracee, k, never, NULL);
	else if (k > 0)
		party_go_on(m, &m->owner);
	if (l > 0)
		go_to_from(m);
	if (l > 1 && m->other.event == TRACEE_STOPPED)
		m->other.event = trace_go_to(&m->other.trace, &m->other.tracee, l - 1, never, NULL);
	if (m->owner.event == TRACEE_GONE || m->other.event == TRACEE_GONE)
		rig_note(&m->rig, "one of them crashed or ended");
	return 0;
}

static void go_on_by_turns(struct meet *m, bool owner_first)
{
	for (uint32_t i = 0; !is_through(&m->owner) || !is_through(&m->other); i++) {
		if (i == N_TURNS_MAX) {
			rig_note(&m->rig, "they hang");
			return;
		}
		party_go_on(m, (i & 1) != owner_first ? &m->owner : &m->other);
	}
}

/* ---- a meeting --------------------------------------------------------------------------------------------------- */

/* Those who are left are through, and have no lock: is all well with what they hold? */
static void look_at_the_living(struct meet *m)
{
	if (!m->rig.world.stage->n_faults)
		rig_ask(&m->rig, COMMAND_LOOK, "check the heap beside those who live");
	if (m->other.tracee.pid && m->other.event == TRACEE_AT_END) {
		m->n_in_time += m->rig.world.stage->refs[FARED] == FARED_IN_TIME;
		m->n_late += m->rig.world.stage->refs[FARED] == FARED_LATE;
	}
}

static void go_their_ways(struct meet *m, enum way way, bool owner_first)
{
	if (way == OWNER_DIES || way == BOTH_DIE)
		party_kill(m, &m->owner);
	if (way == OTHER_DIES || way == BOTH_DIE)
		party_kill(m, &m->other);
	go_on_by_turns(m, owner_first);
	if (way != BOTH_DIE)
		look_at_the_living(m);
}

static int judge(struct meet *m, uint64_t k, uint64_t l, const char *way)
{
	struct stage *stage = m->rig.world.stage;
	char where[160];

	m->n_meetings++;
	symbols_describe(getpid(), k < m->owner.trace.n ? m->owner.trace.ips[k] : 0, where, sizeof(where));
	if (k & 1)
		party_kill(m, &m->owner);
	party_kill(m, &m->other);
	party_kill(m, &m->owner);
	if (!stage->n_faults)
		rig_examine(&m->rig, (k + l) & 2);
	if (!stage->n_faults)
		return 0;
	m->n_faults++;
	if (!m->plant)
		fprintf(stderr,
			"%s: owner at instruction %" PRIu64 " of %zu, before %s; other at %" PRIu64 " of %zu"
			"; %s:\n%s",
			m->encounter->name, k, m->owner.trace.n, where, l, m->other.trace.n, way, stage->faults);
	return m->n_faults < N_FAULTS_MAX ? rig_again(&m->rig) : -EIO;
}

static int meet_at(struct meet *m, uint64_t k, uint64_t l, enum way way)
{
	if (bring_together(m, k, l) < 0)
		return -EIO;
	if (!m->rig.world.stage->n_faults)
		go_their_ways(m, way, (k ^ l) & 1);
	return judge(m, k, l, way_names[way]);
}

/* ---- the planted defect ------------------------------------------------------------------------------------------ */

/* At its k-th instruction the owner has let go, which the other one does not see until it is through. */
static int plant_owner(struct meet *m, uint64_t k)
{
	struct object_header *header;
	uint64_t word;

	if (bring_together(m, k, 0) < 0)
		return -EIO;
	header = world_header_of(&m->rig.world, m->rig.world.stage->given[0]);
	word = header->word;
	if (header_state(word) == STATE_LIVE && !header_own(word)) {
		m->is_planted = true;
		header->word = word + 1;
		party_go_on(m, &m->other);
		header->word = word;
	}
	go_on_by_turns(m, false);
	look_at_the_living(m);
	return judge(m, k, 0, "the owner's store is seen late");
}

/* At its l-th instruction the other one has got its right and has asked for the owner's requests, neither of which the
 * owner sees until it is through. */
static int plant_other(struct meet *m, uint64_t l)
{
	struct object_header *header;
	struct session_entry *owner;
	uint32_t requests;
	uint64_t rights;

	if (bring_together(m, 0, l) < 0)
		return -EIO;
	header = world_header_of(&m->rig.world, m->rig.world.stage->given[0]);
	owner = world_session_of(&m->rig.world, m->owner.tracee.pid);
	rights = header->rights;
	if (rights && owner && world_has_lock(&m->rig.world, m->other.tracee.pid)) {
		m->is_planted = true;
		requests = owner->requests;
		owner->requests = 0;
		header->rights = 0;
		party_go_on(m, &m->owner);
		header->rights = rights;
		owner->requests |= requests;
	}
	go_on_by_turns(m, false);
	look_at_the_living(m);
	return judge(m, 0, l, "the other one's store is seen late");
}

/* Until it is found, with the one's store or the other's. */
static int run_planted(struct meet *m)
{
	const struct party *party = m->plant == PLANT_OWNER ? &m->owner : &m->other;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < party->trace.n && !m->n_faults; i++)
		r = m->plant == PLANT_OWNER ? plant_owner(m, i) : plant_other(m, i);
	return r;
}

/* ---- all places -------------------------------------------------------------------------------------------------- */

static int party_trace(struct party *party)
{
	int r = 0;

	while (r == 0 && party->event == TRACEE_STOPPED) {
		r = trace_add(&party->trace, tracee_ip(&party->tracee));
		party->event = tracee_step(&party->tracee);
	}
	if (r < 0 || party->event != TRACEE_AT_END)
		return -EIO;
	return trace_finish(&party->trace);
}

/* Each one's call while the other one stands before its own. */
static int take_traces(struct meet *m)
{
	int r;

	r = bring_together(m, 0, 1);
	if (r == 0)
		r = party_trace(&m->other);
	if (r == 0)
		r = judge(m, 0, m->other.trace.n, "both die");
	if (r == 0)
		r = bring_together(m, 0, 0);
	if (r == 0)
		r = party_trace(&m->owner);
	return r < 0 ? r : judge(m, m->owner.trace.n, 0, "both die");
}

/* The first is the first instruction: what goes before all that the call does is tried whatever its length. */
static uint64_t place(const struct meet *m, uint64_t n, uint64_t n_points, uint64_t i)
{
	uint64_t stride = n > n_points ? n / n_points : 1;

	return i ? i * stride + (m->seed * 7919 + i * 104729) % stride : 0;
}

/* A third as many of the other's places as of the owner's, and its end; the ways by turns. */
static int run_all(struct meet *m)
{
	int r = 0;

	for (uint64_t i = 0, k; r == 0 && (k = place(m, m->owner.trace.n, m->n_points, i)) <= m->owner.trace.n; i++)
		for (uint64_t j = 0, l;
			r == 0 && (l = place(m, m->other.trace.n, m->n_points / 3 + 1, j)) <= m->other.trace.n + 1; j++)
			r = meet_at(m, k, l, (enum way)((i + j + m->seed) % N_WAYS));
	return r;
}

/* Was the other one in time now and then, and too late, too? Else nothing was tried. */
static bool is_one_sided(const struct meet *m)
{
	return (m->n_in_time || m->n_late) && !(m->n_in_time && m->n_late);
}

static int run(struct meet *m)
{
	/* So that it takes not too long to step through all of the heap, with the lock held. */
	static const char *const small_args[] = {"--size", "4M", "--arena-size", "64K", "--max-sessions", "8",
		"--spare-arenas", "1", "--lock-timeout", "600", NULL};
	uint64_t begin = clock_ns();
	bool failed;
	int r;

	m->rig.daemon_args = small_args;
	m->rig.scenario = &m->encounter->owner;
	m->n_meetings = m->n_kills = m->n_faults = m->n_in_time = m->n_late = 0;
	m->is_planted = false;
	r = rig_begin(&m->rig);
	if (r == 0)
		r = take_traces(m);
	if (r == 0)
		r = m->plant ? run_planted(m) : run_all(m);
	if (r == 0)
		rig_examine_memory(&m->rig);
	if (r < 0 || m->rig.world.stage->n_faults)
		fprintf(stderr, "%s: failed\n%s", m->encounter->name, m->rig.world.stage->faults);
	failed = r < 0 || m->rig.world.stage->n_faults || (m->plant ? !m->n_faults : m->n_faults || is_one_sided(m));
	printf("%-24s %8zu %8" PRIu64 " %9" PRIu64 " %7" PRIu64 " %8" PRIu64 " %6" PRIu64 " %7" PRIu64 " %8.1f\n",
		m->encounter->name, m->owner.trace.n, m->other.trace.n, m->n_meetings, m->n_kills, m->n_in_time,
		m->n_late, m->n_faults, (double)(clock_ns() - begin) / 1e9);
	if (m->plant)
		printf("  the %s's store was kept back, and that was %s\n",
			m->plant == PLANT_OWNER ? "owner" : "other one",
			m->n_faults     ? "found"
			: m->is_planted ? "not found"
					: "never possible");
	fflush(stdout);
	clear_up();
	trace_free(&m->owner.trace);
	trace_free(&m->other.trace);
	return failed;
}

static int usage(void)
{
	fputs("Usage: meet [--encounter NAME] [--points N] [--seed N] [--cpu N] [--plant owner|other]\nEncounters:\n",
		stderr);
	for (const struct encounter *e = encounters; e->name; e++)
		fprintf(stderr, "  %s\n", e->name);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"encounter", required_argument, NULL, 'e'},
		{"points", required_argument, NULL, 'p'}, {"seed", required_argument, NULL, 's'},
		{"cpu", required_argument, NULL, 'c'}, {"plant", required_argument, NULL, 'd'}, {NULL, 0, NULL, 0}};
	const char *name = NULL;
	int key, cpu = 0, n_failed = 0, n = 0;

	meet.seed = 1;
	meet.n_points = 24;
	while ((key = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (key == 'e')
			name = optarg;
		else if (key == 'p')
			meet.n_points = strtoull(optarg, NULL, 10);
		else if (key == 's')
			meet.seed = strtoull(optarg, NULL, 10);
		else if (key == 'c')
			cpu = atoi(optarg);
		else if (key == 'd' && strcmp(optarg, "owner") == 0)
			meet.plant = PLANT_OWNER;
		else if (key == 'd' && strcmp(optarg, "other") == 0)
			meet.plant = PLANT_OTHER;
		else
			return usage();
	}
	if (!meet.n_points)
		return usage();
	tracee_init(cpu);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	printf("%-24s %8s %8s %9s %7s %8s %6s %7s %8s\n", "encounter", "owner's", "other's", "meetings", "kills",
		"in time", "late", "faults", "time (s)");
	for (const struct encounter *e = encounters; e->name; e++) {
		if (name && strcmp(name, e->name) != 0)
			continue;
		meet.encounter = e;
		n_failed += run(&meet);
		n++;
	}
	printf("A sample (seed %" PRIu64 "); more: %s --points N\n", meet.seed, argv[0]);
	return n_failed || !n ? EXIT_FAILURE : EXIT_SUCCESS;
}
