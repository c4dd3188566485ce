// SPDX-License-Identifier: MIT
/*
 * handover: the sender and the receiver of a queue are both killed, at every pair of sampled instructions
 *
 * At every moment exactly one of sender, queue and receiver has the object. The sender is killed at instruction k of
 * its push, the receiver at instruction l of its pop. Afterwards the queue has the object, undamaged and counted once,
 * if one of its cells was filled when both were stopped; otherwise the object is gone. Four ways:
 *
 *   in turn     the sender is killed, then the receiver is stepped: it also completes or undoes the sender's push,
 *               and is killed in that
 *   at once     the sender stands still while the receiver is stepped; then both are killed, one or the other first
 *   waiting     the receiver sleeps in pop first; the sender is killed, then the receiver is stepped on
 *   and drops   as at once, and the receiver drops the object, which goes back to the sender's pool
 *
 * A push that has returned is final: with l = 0 the queue must have the object. From which l on the queue must not have
 * it is not fixed: the receiver goes another way while the daemon has not reclaimed the sender yet. So the receiver has
 * no trace. A sender that is elsewhere than at instruction k is examined as well, and then the pair is taken anew.
 */
#include "parts.h"
#include "rig.h"
#include "trace.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE         50U
#define QUEUE_CELLS  3U
#define PATTERN      80U
#define N_FAULTS_MAX 10U
#define N_TRIES      4U /* of one pair */
#define N_TRACES_MAX 6U /* of the sender's call */

enum way { IN_TURN, AT_ONCE, WAITING, AND_DROPS, N_WAYS };
static const char *const way_names[N_WAYS] = {"in turn", "at once", "waiting", "and drops"};

struct handover {
	struct rig rig;
	struct tracee sender, receiver;
	struct trace push;
	enum way way;
	uint64_t seed, n_points;
	uint64_t n_filled; /* cells of the queue, when both were stopped */
	uint64_t n_kills, n_pairs, n_faults;
	uint64_t n_traces, n_anew, n_missed; /* tries and pairs in which the sender was elsewhere */
	uint64_t n_left, n_gone;             /* pairs after which the queue has the object, or nobody has */
};

static struct handover handover;

/* ---- sender, receiver and survivor ---- */

static void prepare(struct actor *a)
{
	MUST(a, pyheap_queue_new(a->heap, QUEUE_CELLS, &a->stage->refs[0]));
}

static void push_setup(struct actor *a)
{
	a->mine[0] = pattern_new(a, SIZE, PATTERN);
	a->stage->passed = a->mine[0];
}

static int push_call(struct actor *a)
{
	return pyheap_queue_push(a->heap, a->stage->refs[0], a->mine[0], 0);
}

static int pop_call(struct actor *a)
{
	return pyheap_queue_pop(a->heap, a->stage->refs[0], &a->mine[0], 0);
}

static int pop_wait_call(struct actor *a)
{
	return pyheap_queue_pop(a->heap, a->stage->refs[0], &a->mine[0], -1);
}

static int pop_and_drop_call(struct actor *a)
{
	int r = pop_call(a);

	return r < 0 ? r : pyheap_decref(a->heap, a->mine[0]);
}

/* refs[1] tells the harness how many objects there were. */
static void verify(struct actor *a)
{
	pyheap_ref ref = 0;
	int r;

	a->stage->refs[1] = 0;
	while ((r = pyheap_queue_pop(a->heap, a->stage->refs[0], &ref, 0)) == 0) {
		EXPECT(a, ref == a->stage->passed);
		pattern_check(a, ref, SIZE, PATTERN);
		EXPECT(a, pyheap_refcount(a->heap, ref) == 1);
		MUST(a, pyheap_decref(a->heap, ref));
		if (++a->stage->refs[1] > 1) {
			fault(a, "the queue has the object more than once");
			return;
		}
	}
	EXPECT(a, r == -EAGAIN);
}

static const struct scenario sends = {"push", prepare, push_setup, push_call, .verify = verify};
static const struct scenario receives = {"pop", NULL, NULL, pop_call, .verify = verify};
static const struct scenario waits = {"pop, waiting", NULL, NULL, pop_wait_call, .verify = verify};
static const struct scenario drops = {"pop, dropping", NULL, NULL, pop_and_drop_call, .verify = verify};

/* ---- killing ---- */

static bool never(void *userdata)
{
	(void)userdata;
	return false;
}

static void clear_up(void)
{
	tracee_kill(&handover.sender);
	tracee_kill(&handover.receiver);
	world_stop(&handover.rig.world);
}

static void on_signal(int signal_number)
{
	clear_up();
	_exit(128 + signal_number);
}

static int take_trace(struct handover *h)
{
	enum tracee_event event = TRACEE_STOPPED;
	int r;

	trace_free(&h->push);
	h->n_traces++;
	r = rig_start_victim(&h->rig, &h->sender);
	while (r == 0 && event == TRACEE_STOPPED) {
		r = trace_add(&h->push, tracee_ip(&h->sender));
		event = tracee_step(&h->sender);
	}
	tracee_kill(&h->sender);
	if (r == 0 && event != TRACEE_AT_END)
		r = -EIO;
	if (r == 0)
		r = trace_finish(&h->push);
	rig_examine(&h->rig, true);
	return r;
}

/* Bring the sender to instruction k; k past the last: until push has returned. *ret: is it there? */
static enum tracee_event send_to(struct handover *h, uint64_t k, bool *ret)
{
	enum tracee_event event = TRACEE_STOPPED;

	*ret = true;
	if (k < h->push.n) {
		event = trace_go_to(&h->push, &h->sender, k, never, NULL);
		*ret = trace_is_at(&h->push, &h->sender, k);
		return event;
	}
	while (event == TRACEE_STOPPED)
		event = tracee_step(&h->sender);
	return event;
}

/* Step the receiver l instructions on. */
static enum tracee_event receive_to(struct handover *h, uint64_t l)
{
	enum tracee_event event = TRACEE_STOPPED;

	for (uint64_t i = 0; i < l && event == TRACEE_STOPPED; i++)
		event = tracee_step(&h->receiver);
	return event;
}

/* WAITING: until the receiver sleeps in pop, or, on a busy machine, waits there for the lock. */
static enum tracee_event receiver_start(struct handover *h)
{
	enum tracee_event event = TRACEE_STOPPED;

	const struct scenario *ways[N_WAYS] = {&receives, &receives, &waits, &drops};

	if (rig_start_victim_of(&h->rig, &h->receiver, ways[h->way]) < 0)
		return TRACEE_GONE;
	while (h->way == WAITING && event == TRACEE_STOPPED)
		event = tracee_step(&h->receiver);
	return event;
}

static uint64_t count_filled(const struct handover *h)
{
	const struct world *world = &h->rig.world;
	const struct queue *queue = (void *)(world->base + (ref_position(world->stage->refs[0]) << 3));
	uint64_t n = 0;

	for (uint64_t i = 0; i < QUEUE_CELLS; i++)
		n += __atomic_load_n(&queue->cells[i].ref, __ATOMIC_RELAXED) != 0;
	return n;
}

/*
 * One pair. *ret: has the receiver's call ended within l instructions? *ret_reached: was the sender where it was to be?
 * Negative: the pair cannot be tried.
 */
static int kill_pair(struct handover *h, uint64_t k, uint64_t l, bool *ret, bool *ret_reached)
{
	bool receiver_first = (k ^ l ^ h->seed) & 1, is_at_once = h->way == AT_ONCE || h->way == AND_DROPS;
	enum tracee_event event = TRACEE_STOPPED;

	*ret = false;
	h->rig.world.stage->passed = 0;
	if (h->way != IN_TURN) {
		event = receiver_start(h);
		if (event == TRACEE_GONE)
			return -EIO;
	}
	if (rig_start_victim(&h->rig, &h->sender) < 0 || send_to(h, k, ret_reached) == TRACEE_GONE)
		return -EIO;
	if (is_at_once && world_has_lock(&h->rig.world, h->sender.pid)) {
		tracee_kill(&h->sender); /* standing still, it would never release the lock */
		h->n_kills++;
	} else if (!is_at_once) {
		tracee_kill(&h->sender);
		h->n_kills++;
	}
	if (h->way == IN_TURN && receiver_start(h) == TRACEE_GONE)
		return -EIO;
	if (event == TRACEE_BLOCKED)
		event = tracee_wait(&h->receiver); /* woken by the sender, or asleep as before */
	if (event == TRACEE_STOPPED)
		event = receive_to(h, l);
	if (event == TRACEE_GONE)
		rig_note(&h->rig, "the receiver itself crashed or ended");
	*ret = event != TRACEE_STOPPED;
	h->n_filled = count_filled(h);
	if (event == TRACEE_AT_END && h->n_filled)
		rig_note(&h->rig, "pop has returned, and the object is still in its cell");
	h->n_kills += (h->sender.pid ? 1U : 0U) + (h->receiver.pid ? 1U : 0U);
	if (receiver_first)
		tracee_kill(&h->receiver);
	tracee_kill(&h->sender);
	tracee_kill(&h->receiver);
	return 0;
}

/* ---- every pair ---- */

static int judge(struct handover *h, uint64_t k, uint64_t l)
{
	struct stage *stage = h->rig.world.stage;
	bool is_there;

	if (!stage->n_faults)
		rig_examine(&h->rig, (k + l) & 2);
	is_there = stage->refs[1] == 1;
	if (is_there && !h->n_filled)
		rig_note(&h->rig, "the queue has the object, though all cells were empty");
	if (!is_there && h->n_filled)
		rig_note(&h->rig, "the queue has lost the object, though a cell was filled");
	if (l == 0 && k >= h->push.n && !is_there && h->way != WAITING)
		rig_note(&h->rig, "push had returned, and the object is gone");
	h->n_pairs++;
	if (is_there)
		h->n_left++;
	else
		h->n_gone++;
	if (!stage->n_faults)
		return 0;
	h->n_faults++;
	fprintf(stderr, "%s: sender killed after instruction %" PRIu64 " of %zu, receiver after %" PRIu64 ":\n%s",
		way_names[h->way], k, h->push.n, l, stage->faults);
	return h->n_faults < N_FAULTS_MAX ? rig_again(&h->rig) : -EIO;
}

/* A pair is taken anew until the sender is where it is to be; halfway its call is traced anew. */
static int try_pair(struct handover *h, uint64_t k, uint64_t l, bool *ret)
{
	bool reached = false;
	int r = 0;

	for (uint32_t n = 0; n < N_TRIES && r == 0 && !reached; n++) {
		h->n_anew += n > 0;
		if (n == N_TRIES / 2 && h->n_traces < N_TRACES_MAX && take_trace(h) < 0)
			return -EIO;
		r = kill_pair(h, k, l, ret, &reached);
		if (r == 0)
			r = judge(h, k, l);
	}
	h->n_missed += !reached;
	return r;
}

static int try_pairs(struct handover *h)
{
	uint64_t stride = h->push.n > h->n_points ? h->push.n / h->n_points : 1;
	int r = 0;

	for (uint64_t k = h->seed % stride; r == 0 && k < h->push.n + 2 * stride; k += stride) {
		bool ended = false;

		for (uint64_t l = 0; r == 0 && !ended; l += l == 0 ? 1 + (h->seed + k) % stride : stride)
			r = try_pair(h, k, l, &ended);
	}
	return r;
}

static bool is_untested(const struct handover *h)
{
	return h->n_missed * 8 > h->n_pairs * 7;
}

static int run_way(struct handover *h)
{
	uint64_t begin = clock_ns();
	int r = rig_begin(&h->rig);

	h->n_pairs = h->n_kills = h->n_left = h->n_gone = h->n_traces = h->n_anew = h->n_missed = 0;
	if (r == 0)
		r = take_trace(h);
	if (r == 0)
		r = try_pairs(h);
	printf("%-10s %12zu %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64
	       " %8.1f\n",
		way_names[h->way], h->push.n, h->n_pairs, h->n_kills, h->n_anew, h->n_missed, h->n_left, h->n_gone,
		h->n_faults, (double)(clock_ns() - begin) / 1e9);
	if (r == 0 && (h->n_gone == 0 || (h->n_left == 0 && h->way != WAITING) || is_untested(h))) {
		printf("  %s: the object was always in the queue, or never, or nearly no pair was reached: nothing is "
		       "shown\n",
			way_names[h->way]);
		r = -EIO;
	}
	fflush(stdout);
	if (r == 0)
		rig_examine_memory(&h->rig);
	if (r < 0 || h->rig.world.stage->n_faults)
		fprintf(stderr, "%s: failed\n%s", way_names[h->way], h->rig.world.stage->faults);
	r = r < 0 || h->n_faults || h->rig.world.stage->n_faults;
	clear_up();
	trace_free(&h->push);
	return r;
}

/* One of the processes side by side. */
static int run_some(void *userdata)
{
	struct handover *h = userdata;
	int n_failed = 0;

	h->rig.scenario = &sends;
	for (size_t i; (i = parts_take()) < N_WAYS;) {
		h->way = (enum way)i;
		n_failed += run_way(h);
	}
	return n_failed;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"points", required_argument, NULL, 'p'},
		{"seed", required_argument, NULL, 's'}, {"cpu", required_argument, NULL, 'c'}, {NULL, 0, NULL, 0}};
	int key, cpu = 0, n_failed;

	handover.seed = 1;
	handover.n_points = 20;
	while ((key = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (key == 'p')
			handover.n_points = strtoull(optarg, NULL, 10);
		else if (key == 's')
			handover.seed = strtoull(optarg, NULL, 10);
		else if (key == 'c')
			cpu = atoi(optarg);
		else
			return 2;
	}
	if (!handover.n_points)
		return 2;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	printf("%-10s %12s %8s %8s %8s %8s %8s %8s %8s %8s\n", "way", "instructions", "pairs", "kills", "anew",
		"missed", "in queue", "nowhere", "faults", "time (s)");
	n_failed = parts_run(N_WAYS, cpu, run_some, &handover);
	printf("A sample (seed %" PRIu64 "); every pair: %s --points, as many as the call has instructions\n",
		handover.seed, argv[0]);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
