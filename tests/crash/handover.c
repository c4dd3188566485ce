// SPDX-License-Identifier: MIT
/*
 * pyheap-handover: sender and receiver of a queue both killed, at every pair of sampled instructions
 *
 * At every moment exactly one of sender, queue and receiver has the object. So after the sender was killed at its k-th
 * instruction of push, and the receiver at its l-th of pop, either the queue has the object, whole and counted once, or
 * nobody has, and it is gone; and it is the queue that has it if one of its places was filled when both were stopped,
 * and not if none was. Four ways:
 *
 *   in turn     the sender is killed, then the receiver is stepped: it also takes back what the sender had under way,
 *               and is killed in that
 *   at once     the sender stands still while the receiver is stepped, then both are killed, one or the other first
 *   waiting     the receiver sleeps in pop first; the sender is killed, then the receiver is stepped on
 *   and drops   as at once, and the receiver drops what it got, which goes back to the pool of the sender's
 *
 * What a sender has finished is finished for good: with l = 0 the queue must have it. From which l on it does not is
 * not the same each time: the receiver goes another way where the daemon has not cleared up the sender yet.
 */
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
#define QUEUE_PLACES 3U
#define PATTERN      80U
#define N_FAULTS_MAX 10U

enum way { IN_TURN, AT_ONCE, WAITING, AND_DROPS, N_WAYS };
static const char *const way_names[N_WAYS] = {"in turn", "at once", "waiting", "and drops"};

struct handover {
	struct rig rig;
	struct tracee sender, receiver;
	struct trace push;
	enum way way;
	uint64_t seed;
	uint64_t n_filled;                                   /* places of the queue, when both were stopped */
	uint64_t n_kills, n_pairs, n_faults, n_left, n_gone; /* in the queue afterwards, or nowhere */
};

static struct handover handover;

/* ---- the three of them ------------------------------------------------------------------------------------------ */

static void prepare(struct actor *a)
{
	MUST(a, pyheap_queue_new(a->heap, QUEUE_PLACES, &a->stage->refs[0]));
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

/* How many there were is told by refs[1]. */
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
			fault(a, "the queue has it more than once");
			return;
		}
	}
	EXPECT(a, r == -EAGAIN);
}

static const struct scenario sends = {"push", prepare, push_setup, push_call, .verify = verify};
static const struct scenario receives = {"pop", NULL, NULL, pop_call, .verify = verify};
static const struct scenario waits = {"pop, waiting", NULL, NULL, pop_wait_call, .verify = verify};
static const struct scenario drops = {"pop, dropping", NULL, NULL, pop_and_drop_call, .verify = verify};

/* ---- killing ---------------------------------------------------------------------------------------------------- */

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
	int r = rig_start_victim(&h->rig, &h->sender);

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

/* The sender at its k-th instruction; k past the last: push has returned. */
static enum tracee_event send_to(struct handover *h, uint64_t k)
{
	enum tracee_event event = TRACEE_STOPPED;

	if (k < h->push.n)
		return trace_go_to(&h->push, &h->sender, k, never, NULL);
	while (event == TRACEE_STOPPED)
		event = tracee_step(&h->sender);
	return event;
}

/* The receiver so many instructions on. What it does depends on what the sender left, so there is no trace of it. */
static enum tracee_event receive_to(struct handover *h, uint64_t l)
{
	enum tracee_event event = TRACEE_STOPPED;

	for (uint64_t i = 0; i < l && event == TRACEE_STOPPED; i++)
		event = tracee_step(&h->receiver);
	return event;
}

/* Where the receiver sleeps in pop already, it is waited for anew: woken, it goes on from there. */
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

	for (uint64_t i = 0; i < QUEUE_PLACES; i++)
		n += __atomic_load_n(&queue->cells[i].ref, __ATOMIC_RELAXED) != 0;
	return n;
}

/* One pair; *ret says whether the receiver's call ended within l instructions. Negative: it cannot be tried. */
static int kill_pair(struct handover *h, uint64_t k, uint64_t l, bool *ret)
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
	if (rig_start_victim(&h->rig, &h->sender) < 0 || send_to(h, k) == TRACEE_GONE)
		return -EIO;
	if (is_at_once && world_has_lock(&h->rig.world, h->sender.pid)) {
		tracee_kill(&h->sender); /* the receiver would wait for it */
		h->n_kills++;
	} else if (!is_at_once) {
		tracee_kill(&h->sender);
		h->n_kills++;
	}
	if (h->way == IN_TURN && receiver_start(h) == TRACEE_GONE)
		return -EIO;
	if (event == TRACEE_BLOCKED)
		event = tracee_wait(&h->receiver); /* woken by the sender, or still asleep */
	if (event == TRACEE_STOPPED)
		event = receive_to(h, l);
	if (event == TRACEE_GONE)
		rig_note(&h->rig, "the receiver itself crashed or ended");
	*ret = event != TRACEE_STOPPED;
	h->n_filled = count_filled(h);
	if (event == TRACEE_AT_END && h->n_filled)
		rig_note(&h->rig, "pop has returned, and what it was to bring is in its place still");
	h->n_kills += (h->sender.pid ? 1U : 0U) + (h->receiver.pid ? 1U : 0U);
	if (receiver_first)
		tracee_kill(&h->receiver);
	tracee_kill(&h->sender);
	tracee_kill(&h->receiver);
	return 0;
}

/* ---- every pair ------------------------------------------------------------------------------------------------- */

static int judge(struct handover *h, uint64_t k, uint64_t l)
{
	struct stage *stage = h->rig.world.stage;
	bool is_there;

	if (!stage->n_faults)
		rig_examine(&h->rig, (k + l) & 2);
	is_there = stage->refs[1] == 1;
	if (is_there && !h->n_filled)
		rig_note(&h->rig, "the queue has again what had left it, or what it never had");
	if (!is_there && h->n_filled)
		rig_note(&h->rig, "the queue has no more what was in it");
	if (l == 0 && k >= h->push.n && !is_there && h->way != WAITING)
		rig_note(&h->rig, "what was sent, and not yet received, is gone");
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

static int try_pairs(struct handover *h, uint64_t n_points)
{
	uint64_t stride = h->push.n > n_points ? h->push.n / n_points : 1;
	int r = 0;

	for (uint64_t k = h->seed % stride; r == 0 && k < h->push.n + 2 * stride; k += stride) {
		bool ended = false;

		for (uint64_t l = 0; r == 0 && !ended; l += l == 0 ? 1 + (h->seed + k) % stride : stride) {
			r = kill_pair(h, k, l, &ended);
			if (r == 0)
				r = judge(h, k, l);
		}
	}
	return r;
}

static int run(struct handover *h, uint64_t n_points)
{
	uint64_t begin = clock_ns(), n = 0;
	int r = take_trace(h);

	printf("%-10s %10s %10s %10s %10s %8s\n", "way", "pairs", "kills", "in queue", "nowhere", "faults");
	for (h->way = 0; r == 0 && h->way < N_WAYS; h->way++) {
		h->n_pairs = h->n_kills = h->n_left = h->n_gone = 0;
		r = try_pairs(h, n_points);
		printf("%-10s %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %8" PRIu64 "\n",
			way_names[h->way], h->n_pairs, h->n_kills, h->n_left, h->n_gone, h->n_faults);
		fflush(stdout);
		n += h->n_pairs;
		if (r == 0 && (h->n_gone == 0 || (h->n_left == 0 && h->way != WAITING)))
			r = -EIO; /* one of the two was never seen: nothing was tried */
	}
	if (r == 0)
		rig_examine_memory(&h->rig);
	printf("%" PRIu64 " of about %" PRIu64 " pairs, push has %zu instructions, seed %" PRIu64
	       ", %.1f s; all of them: "
	       "--points %zu\n",
		n, (uint64_t)N_WAYS * h->push.n * h->push.n, h->push.n, h->seed, (double)(clock_ns() - begin) / 1e9,
		h->push.n);
	return r;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"points", required_argument, NULL, 'p'},
		{"seed", required_argument, NULL, 's'}, {"cpu", required_argument, NULL, 'c'}, {NULL, 0, NULL, 0}};
	uint64_t n_points = 20;
	int key, cpu = 0, r;

	handover.seed = 1;
	while ((key = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (key == 'p')
			n_points = strtoull(optarg, NULL, 10);
		else if (key == 's')
			handover.seed = strtoull(optarg, NULL, 10);
		else if (key == 'c')
			cpu = atoi(optarg);
		else
			return 2;
	}
	tracee_init(cpu);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	handover.rig.scenario = &sends;
	r = rig_begin(&handover.rig);
	if (r == 0)
		r = run(&handover, n_points);
	if (r < 0 || handover.rig.world.stage->n_faults)
		fprintf(stderr, "handover: failed\n%s", handover.rig.world.stage->faults);
	r = r < 0 || handover.n_faults || handover.rig.world.stage->n_faults;
	clear_up();
	trace_free(&handover.push);
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
