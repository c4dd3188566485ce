// SPDX-License-Identifier: MIT
/*
 * meet: two sessions work on one pool, queue or object, each killed or held at sampled instructions
 *
 * The owner goes to instruction k of its call and stops there. Then the other session goes to instruction l of its own
 * call. What happens next takes turns:
 *
 *   owner dies     the owner is killed, the other session goes on to the end of its call
 *   other dies     the other session is killed, the owner goes on
 *   both die       one after the other
 *   both go on     in turns, each until it has to wait for the other, or has finished its call
 *
 * pyheap_check() must find nothing while the sessions that are left still live, as reclaiming them would rebuild much
 * of what they had damaged. Then they are killed, too, and the heap must be as it was before.
 *
 * An owner that is elsewhere than at instruction k is examined like any other; then the pair is taken anew. Where the
 * other session stops depends on what the owner has done: it has no trace to be compared with.
 *
 * --plant makes a store visible late, as if the processor had delayed it beyond the loads that follow: the owner's
 * store that it no longer holds the object, or the other session's store that it has a right to it. The barriers
 * exclude this; without them the owner would free an object that the other session has just got. The harness must see
 * that.
 */
#include "encounters.h"
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
#include <unistd.h>

#define N_FAULTS_MAX  10U
#define N_TRIES       4 /* of one pair */
#define N_TRACES_MAX  6 /* of the owner's call */
#define N_JOBS        4U
#define N_POINTS_BOTH 12U  /* so many samples must show both outcomes of an encounter */
#define PLANTED_MS    3000 /* patience after a planted defect, which may well be that something never comes */

enum way { OWNER_DIES, OTHER_DIES, BOTH_DIE, BOTH_GO_ON, N_WAYS };
static const char *const way_names[N_WAYS] = {"owner dies", "other dies", "both die", "both go on"};

/* Whose store is delayed. */
enum plant { PLANT_NONE, PLANT_OWNER, PLANT_OTHER };

struct party {
	struct tracee tracee;
	enum tracee_event event;
	struct trace trace; /* of its call while the other session stands before its own */
};

struct meet {
	struct rig rig;
	struct party owner, other;
	const struct encounter *encounter;
	const char *name; /* of the only encounter to be run; NULL: all */
	uint64_t n_points, seed;
	uint64_t n_meetings, n_kills, n_faults, n_in_time, n_late;
	uint64_t n_traces, n_pairs, n_anew, n_missed; /* as for step: see struct outcome */
	enum plant plant;
	bool is_planted, was_planted; /* in this meeting; in any */
	uint64_t n_false;             /* faults while nothing had been planted */
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

/* ---- one session ---- */

static int party_start(struct meet *m, struct party *party, const struct scenario *scenario)
{
	party->event = TRACEE_STOPPED;
	return rig_start_victim_of(&m->rig, &party->tracee, scenario);
}

static bool has_finished(const struct party *party)
{
	return !party->tracee.pid || party->event == TRACEE_AT_END;
}

/* Run to the end of the call, or until it has to wait for another process. */
static void party_go_on(struct meet *m, struct party *party)
{
	if (has_finished(party))
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

/* Bring the other session to where its instructions are counted from. */
static void other_go_to_origin(struct meet *m)
{
	void *function = m->encounter->at ? m->encounter->at : m->encounter->after;
	struct party *other = &m->other;

	if (!function)
		return;
	other->event = tracee_run_to(&other->tracee, (uint64_t)(uintptr_t)function);
	if (other->event == TRACEE_STOPPED && m->encounter->after)
		other->event = tracee_run_call(&other->tracee);
}

/*
 * The owner goes to instruction k, the other session as far as it gets towards l. *ret: is the owner where it is to be?
 * k = n: it has finished its call. l = 0: the other session stands before its call; 1: where its instructions count
 * from.
 */
static int bring_together(struct meet *m, uint64_t k, uint64_t l, bool *ret)
{
	if (party_start(m, &m->owner, &m->encounter->owner) < 0 || party_start(m, &m->other, &m->encounter->other) < 0)
		return -EIO;
	if (k > 0 && k < m->owner.trace.n)
		m->owner.event = trace_go_to(&m->owner.trace, &m->owner.tracee, k, never, NULL);
	else if (k > 0)
		party_go_on(m, &m->owner);
	*ret = k == 0 || (k < m->owner.trace.n ? trace_is_at(&m->owner.trace, &m->owner.tracee, k)
					       : m->owner.event == TRACEE_AT_END);
	if (l > 0)
		other_go_to_origin(m);
	if (l > 1 && m->other.event == TRACEE_STOPPED)
		m->other.event = trace_go_to(&m->other.trace, &m->other.tracee, l - 1, never, NULL);
	if (m->owner.event == TRACEE_GONE || m->other.event == TRACEE_GONE)
		rig_note(&m->rig, "one of them crashed or ended");
	return 0;
}

static void go_on_by_turns(struct meet *m, bool owner_first)
{
	uint64_t give_up = watchdog_ns();

	for (uint32_t i = 0; !has_finished(&m->owner) || !has_finished(&m->other); i++) {
		if (clock_ns() > give_up) {
			rig_note(&m->rig, "they hang");
			return;
		}
		party_go_on(m, (i & 1) != owner_first ? &m->owner : &m->other);
	}
}

/* ---- a meeting ---- */

/* The sessions that are left have finished their calls and released the lock: check the heap while they live. */
static void examine_beside_living(struct meet *m)
{
	if (!m->rig.world.stage->n_faults)
		rig_ask(&m->rig, COMMAND_LOOK, "check the heap beside the living sessions");
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
		examine_beside_living(m);
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
	if (m->is_planted)
		stage->patience_ms = PLANTED_MS;
	if (!stage->n_faults)
		rig_examine(&m->rig, (k + l) & 2);
	stage->patience_ms = WATCHDOG_S * 1000;
	if (!stage->n_faults)
		return 0;
	m->n_faults++;
	m->n_false += m->plant && !m->is_planted;
	if (!m->is_planted)
		fprintf(stderr,
			"%s: owner at instruction %" PRIu64 " of %zu, before %s; other at %" PRIu64 " of %zu"
			"; %s:\n%s",
			m->encounter->name, k, m->owner.trace.n, where, l, m->other.trace.n, way, stage->faults);
	return m->n_faults < N_FAULTS_MAX ? rig_again(&m->rig) : -EIO;
}

/* ---- traces ---- */

static int party_trace(struct party *party)
{
	int r = 0;

	trace_free(&party->trace);
	while (r == 0 && party->event == TRACEE_STOPPED) {
		r = trace_add(&party->trace, tracee_ip(&party->tracee));
		party->event = tracee_step(&party->tracee);
	}
	if (r < 0 || party->event != TRACEE_AT_END)
		return -EIO;
	return trace_finish(&party->trace);
}

/* Each call is traced while the other session stands before its own. */
static int trace_other(struct meet *m)
{
	bool reached;
	int r = bring_together(m, 0, 1, &reached);

	if (r == 0)
		r = party_trace(&m->other);
	return r < 0 ? r : judge(m, 0, m->other.trace.n, "both die");
}

static int trace_owner(struct meet *m)
{
	bool reached;
	int r = bring_together(m, 0, 0, &reached);

	m->n_traces++;
	if (r == 0)
		r = party_trace(&m->owner);
	return r < 0 ? r : judge(m, m->owner.trace.n, 0, "both die");
}

/* ---- a pair ---- */

/* A pair is taken anew until the owner is where it is to be; halfway its call is traced anew. */
static int meet_at(struct meet *m, uint64_t k, uint64_t l, enum way way)
{
	bool reached = false;
	int r = 0;

	m->n_pairs++;
	for (uint32_t n = 0; n < N_TRIES && r == 0 && !reached; n++) {
		m->n_anew += n > 0;
		if (n == N_TRIES / 2 && m->n_traces < N_TRACES_MAX && trace_owner(m) < 0)
			return -EIO;
		if (bring_together(m, k, l, &reached) < 0)
			return -EIO;
		if (!m->rig.world.stage->n_faults)
			go_their_ways(m, way, (k ^ l) & 1);
		r = judge(m, k, l, way_names[way]);
	}
	m->n_missed += !reached;
	return r;
}

/* ---- the planted defect ---- */

/* At instruction k the owner has dropped its hold, which the other session does not see until its call is finished. */
static int plant_owner(struct meet *m, uint64_t k)
{
	struct object_header *header;
	bool reached;
	uint64_t word;

	if (bring_together(m, k, 0, &reached) < 0)
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
	examine_beside_living(m);
	return judge(m, k, 0, "the owner's store is seen late");
}

/*
 * At instruction l the other session has got its right and has set a request for the owner, neither of which the owner
 * sees until its call is finished.
 */
static int plant_other(struct meet *m, uint64_t l)
{
	struct object_header *header;
	struct session_entry *owner;
	uint32_t requests;
	uint64_t rights;
	bool reached;

	if (bring_together(m, 0, l, &reached) < 0)
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
	examine_beside_living(m);
	return judge(m, 0, l, "the other one's store is seen late");
}

/* Delay the store at one instruction after the other until that is found. */
static int run_planted(struct meet *m)
{
	const struct party *party = m->plant == PLANT_OWNER ? &m->owner : &m->other;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < party->trace.n && !m->n_faults; i++) {
		m->is_planted = false;
		r = m->plant == PLANT_OWNER ? plant_owner(m, i) : plant_other(m, i);
		m->was_planted |= m->is_planted;
	}
	return r;
}

/* ---- all pairs ---- */

/* Sample i of n instructions. The first sample is always the first instruction. */
static uint64_t sample(const struct meet *m, uint64_t n, uint64_t n_points, uint64_t i)
{
	uint64_t stride = n > n_points ? n / n_points : 1;

	return i ? i * stride + (m->seed * 7919 + i * 104729) % stride : 0;
}

/* For each sample of the owner's, a third as many of the other's, and the end of its call; the ways take turns. */
static int run_all(struct meet *m)
{
	int r = 0;

	for (uint64_t i = 0, k; r == 0 && (k = sample(m, m->owner.trace.n, m->n_points, i)) <= m->owner.trace.n; i++)
		for (uint64_t j = 0, l;
			r == 0 && (l = sample(m, m->other.trace.n, m->n_points / 3 + 1, j)) <= m->other.trace.n + 1;
			j++)
			r = meet_at(m, k, l, (enum way)((i + j + m->seed) % N_WAYS));
	return r;
}

/* Of enough samples, the other session must be in time in some meetings and late in others: else they show nothing. */
static bool is_one_sided(const struct meet *m)
{
	return m->n_points >= N_POINTS_BOTH && (m->n_in_time || m->n_late) && !(m->n_in_time && m->n_late);
}

/* A busy machine makes some pairs miss. Where nearly all do, the encounter has not been tested. */
static bool is_untested(const struct meet *m)
{
	return (m->n_pairs - m->n_missed) * 8 < m->n_pairs;
}

static void print_row(const struct meet *m, double seconds)
{
	printf("%-34s %7zu %7zu %8" PRIu64 " %6" PRIu64 " %5" PRIu64 " %6" PRIu64 " %7" PRIu64 " %5" PRIu64 " %6" PRIu64
	       " %8.1f\n",
		m->encounter->name, m->owner.trace.n, m->other.trace.n, m->n_meetings, m->n_kills, m->n_anew,
		m->n_missed, m->n_in_time, m->n_late, m->n_faults, seconds);
	if (m->n_false)
		puts("  there were faults before the defect was planted");
	if (m->plant)
		printf("  the %s's store was delayed, and that was %s\n",
			m->plant == PLANT_OWNER ? "owner" : "other session",
			m->n_faults      ? "found"
			: m->was_planted ? "not found"
					 : "never possible");
	if (!m->plant && is_untested(m))
		puts("  nearly no pair was reached: the owner's call never goes the same way twice");
	if (!m->plant && is_one_sided(m))
		puts("  the other session was always in time, or always late: the samples show nothing");
	fflush(stdout);
}

static size_t n_encounters(void)
{
	size_t n = 0;

	while (encounters[n].name)
		n++;
	return n;
}

static int run(struct meet *m)
{
	/* A small heap, as some of the calls walk all of it. */
	static const char *const small_args[] = {"--size", "1M", "--arena-size", "64K", "--max-sessions", "8",
		"--spare-arenas", "1", "--decay", "0", "--lock-timeout", "600", NULL};
	uint64_t begin = clock_ns();
	bool failed;
	int r;

	m->rig.daemon_args = small_args;
	m->rig.scenario = &m->encounter->owner;
	m->n_meetings = m->n_kills = m->n_faults = m->n_in_time = m->n_late = 0;
	m->n_traces = m->n_pairs = m->n_anew = m->n_missed = m->n_false = 0;
	m->is_planted = m->was_planted = false;
	r = rig_begin(&m->rig);
	if (r == 0)
		r = trace_other(m);
	if (r == 0)
		r = trace_owner(m);
	if (r == 0)
		r = m->plant ? run_planted(m) : run_all(m);
	if (r == 0)
		rig_examine_memory(&m->rig);
	if (r < 0 || m->rig.world.stage->n_faults)
		fprintf(stderr, "%s: failed\n%s", m->encounter->name, m->rig.world.stage->faults);
	failed = r < 0 || m->rig.world.stage->n_faults || m->n_false ||
		 (m->plant ? !m->n_faults : m->n_faults || is_one_sided(m) || is_untested(m));
	print_row(m, (double)(clock_ns() - begin) / 1e9);
	clear_up();
	trace_free(&m->owner.trace);
	trace_free(&m->other.trace);
	return failed;
}

/* One of the processes side by side. */
static int run_some(void *userdata)
{
	struct meet *m = userdata;
	int n_failed = 0;

	for (size_t i; (i = parts_take()) < n_encounters();) {
		m->encounter = &encounters[i];
		if (!m->name || strcmp(m->name, encounters[i].name) == 0)
			n_failed += run(m);
	}
	return n_failed;
}

static int usage(void)
{
	fputs("Usage: meet [--encounter NAME] [--points N] [--seed N] [--cpu N] [--jobs N] [--plant owner|other]\n"
	      "Encounters:\n",
		stderr);
	for (size_t i = 0; i < n_encounters(); i++)
		fprintf(stderr, "  %s\n", encounters[i].name);
	return 2;
}

static bool is_encounter(const char *name)
{
	for (size_t i = 0; i < n_encounters(); i++)
		if (strcmp(name, encounters[i].name) == 0)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"encounter", required_argument, NULL, 'e'},
		{"points", required_argument, NULL, 'p'}, {"seed", required_argument, NULL, 's'},
		{"cpu", required_argument, NULL, 'c'}, {"jobs", required_argument, NULL, 'j'},
		{"plant", required_argument, NULL, 'd'}, {NULL, 0, NULL, 0}};
	unsigned int n_jobs = N_JOBS;
	int key, cpu = 0, n_failed;

	meet.seed = 1;
	meet.n_points = 24;
	while ((key = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (key == 'e')
			meet.name = optarg;
		else if (key == 'p')
			meet.n_points = strtoull(optarg, NULL, 10);
		else if (key == 's')
			meet.seed = strtoull(optarg, NULL, 10);
		else if (key == 'c')
			cpu = atoi(optarg);
		else if (key == 'j')
			n_jobs = (unsigned int)strtoul(optarg, NULL, 10);
		else if (key == 'd' && strcmp(optarg, "owner") == 0)
			meet.plant = PLANT_OWNER;
		else if (key == 'd' && strcmp(optarg, "other") == 0)
			meet.plant = PLANT_OTHER;
		else
			return usage();
	}
	if (!meet.n_points || !n_jobs || (meet.name && !is_encounter(meet.name)))
		return usage();
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	printf("%-34s %7s %7s %8s %6s %5s %6s %7s %5s %6s %8s\n", "encounter", "owner's", "other's", "meetings",
		"kills", "anew", "missed", "in time", "late", "faults", "time (s)");
	n_failed = parts_run(meet.name ? 1 : n_jobs, cpu, run_some, &meet);
	printf("A sample (seed %" PRIu64 "); more: %s --points N\n", meet.seed, argv[0]);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
