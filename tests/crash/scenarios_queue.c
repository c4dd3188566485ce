// SPDX-License-Identifier: MIT
/* Scenarios: queues. At every moment exactly one of sender, queue and receiver has the object. */
#include "scenario.h"
#include "world.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { QUEUE, HELD }; /* in stage->refs */

#define OLD  60U /* patterns: of the survivor's objects, */
#define NEW  61U /* and of the victim's */
#define SIZE 50U

static void queue_make(struct actor *a, size_t n)
{
	MUST(a, pyheap_queue_new(a->heap, n, &a->stage->refs[QUEUE]));
}

static void push_old(struct actor *a)
{
	MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], pattern_new(a, SIZE, OLD), 0));
}

/* Pop and verify all objects: how many were the victim's, and how many the others'. */
static void drain(struct actor *a, int *ret_n_new, int *ret_n_old)
{
	pyheap_ref ref = 0;
	int r;

	*ret_n_new = *ret_n_old = 0;
	while ((r = pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &ref, 0)) == 0) {
		bool is_new = ref == a->stage->passed;

		++*(is_new ? ret_n_new : ret_n_old);
		pattern_check(a, ref, SIZE, is_new ? NEW : OLD);
		MUST(a, pyheap_decref(a->heap, ref));
		if (*ret_n_new + *ret_n_old > 8) {
			fault(a, "the queue never gets empty");
			return;
		}
	}
	EXPECT(a, r == -EAGAIN);
}

static int new_call(struct actor *a)
{
	return pyheap_queue_new(a->heap, 3, &a->mine[0]);
}

/* ---- push ---- */

static void push_prepare(struct actor *a)
{
	queue_make(a, 3);
}

static void push_setup(struct actor *a)
{
	a->mine[0] = pattern_new(a, SIZE, NEW);
	a->stage->passed = a->mine[0];
}

static void push_kept_setup(struct actor *a)
{
	push_setup(a);
	MUST(a, pyheap_incref(a->heap, a->mine[0]));
}

/* A session that holds the queue pushes without the lock: an object of its own, */
static void push_own_setup(struct actor *a)
{
	push_setup(a);
	MUST(a, pyheap_incref(a->heap, a->stage->refs[QUEUE]));
}

/* or one that its hold table has once; */
static void push_table_setup(struct actor *a)
{
	pyheap_ref ref = 0;

	push_own_setup(a);
	MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], a->mine[0], 0));
	MUST(a, pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &ref, 0));
}

/* but not one that the hold table has twice. */
static void push_twice_setup(struct actor *a)
{
	push_table_setup(a);
	MUST(a, pyheap_incref(a->heap, a->mine[0]));
}

/* The object has been pushed once before: that push must stay, whatever becomes of the second. */
static void push_again_setup(struct actor *a)
{
	push_own_setup(a);
	MUST(a, pyheap_incref(a->heap, a->mine[0]));
	MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], a->mine[0], 0));
}

static int push_call(struct actor *a)
{
	return pyheap_queue_push(a->heap, a->stage->refs[QUEUE], a->mine[0], 0);
}

static void push_verify(struct actor *a)
{
	int n_new, n_old;

	drain(a, &n_new, &n_old);
	EXPECT(a, n_old == 0 && n_new <= 1);
	if (a->stage->is_finished)
		EXPECT(a, n_new == 1);
}

static void push_again_verify(struct actor *a)
{
	int n_new, n_old;

	drain(a, &n_new, &n_old);
	EXPECT(a, n_old == 0 && n_new <= 2);
	if (a->stage->passed) /* a victim has pushed since the last time */
		EXPECT(a, n_new >= (a->stage->is_finished ? 2 : 1));
	a->stage->passed = 0;
}

/* ---- pop ---- */

static void pop_prepare(struct actor *a)
{
	queue_make(a, 3);
	push_old(a);
}

static int pop_call(struct actor *a)
{
	return pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &a->mine[0], 0);
}

static void pop_verify(struct actor *a)
{
	int n_new, n_old;

	drain(a, &n_new, &n_old);
	EXPECT(a, n_new == 0 && n_old <= 1);
	if (a->stage->is_finished)
		EXPECT(a, n_old == 0);
	push_old(a);
}

static void pop_quick_setup(struct actor *a)
{
	MUST(a, pyheap_incref(a->heap, a->stage->refs[QUEUE]));
}

/* The receiver already holds the object: only the queue's right goes. The survivor holds it, too. */
static void pop_held_prepare(struct actor *a)
{
	queue_make(a, 3);
	a->stage->refs[HELD] = pattern_new(a, SIZE, OLD);
	MUST(a, pyheap_incref(a->heap, a->stage->refs[HELD]));
	MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], a->stage->refs[HELD], 0));
}

static void pop_held_setup(struct actor *a)
{
	MUST(a, pyheap_incref(a->heap, a->stage->refs[HELD]));
}

static void pop_held_verify(struct actor *a)
{
	int n_new, n_old;

	drain(a, &n_new, &n_old);
	EXPECT(a, n_new == 0 && n_old <= 1);
	pattern_check(a, a->stage->refs[HELD], SIZE, OLD);
	MUST(a, pyheap_incref(a->heap, a->stage->refs[HELD]));
	MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], a->stage->refs[HELD], 0));
}

/* ---- waiting ---- */

static void push_wait_prepare(struct actor *a)
{
	queue_make(a, 1);
	push_old(a);
}

static int push_wait_call(struct actor *a)
{
	return pyheap_queue_push(a->heap, a->stage->refs[QUEUE], a->mine[0], -1);
}

/*
 * After pop has woken the victim, the survivor must not take the lock: the victim may stand still with it. So the
 * object is verified later.
 */
static void push_wait_partner(struct actor *a)
{
	MUST(a, pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &a->mine[0], 0));
}

static void push_wait_verify(struct actor *a)
{
	int n_new, n_old;

	if (a->mine[0]) {
		pattern_check(a, a->mine[0], SIZE, OLD);
		MUST(a, pyheap_decref(a->heap, a->mine[0]));
		a->mine[0] = 0;
	}
	drain(a, &n_new, &n_old);
	EXPECT(a, n_new + n_old <= 1);
	if (a->stage->is_finished)
		EXPECT(a, n_new == 1);
	push_old(a);
}

static int pop_wait_call(struct actor *a)
{
	return pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &a->mine[0], -1);
}

static void pop_wait_partner(struct actor *a)
{
	push_old(a);
}

static void pop_wait_verify(struct actor *a)
{
	int n_new, n_old;

	drain(a, &n_new, &n_old);
	EXPECT(a, n_new == 0 && n_old <= 1);
	if (a->stage->is_finished)
		EXPECT(a, n_old == 0);
}

static int pop_timeout_call(struct actor *a)
{
	return pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &a->mine[0], 60);
}

/* ---- a waiting receiver ---- */

/* A process that pops and verifies all objects that come. */
static void waiter_run(struct actor *a)
{
	pyheap_ref ref = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == 1)
		_exit(1);
	MUST(a, pyheap_open(&a->heap, a->stage->socket));
	MUST(a, pyheap_incref(a->heap, a->stage->refs[QUEUE]));
	for (;;) {
		MUST(a, pyheap_queue_pop(a->heap, a->stage->refs[QUEUE], &ref, -1));
		if (ref == a->stage->passed)
			pattern_check(a, ref, SIZE, NEW);
		else
			pattern_check(a, ref, SIZE, OLD);
		MUST(a, pyheap_decref(a->heap, ref));
	}
}

static void waiter_prepare(struct actor *a)
{
	struct actor waiter = {.stage = a->stage, .is_victim = true}; /* it ends with its first fault */

	queue_make(a, 3);
	if (fork() == 0)
		waiter_run(&waiter);
	a->stage->n_sessions++;
}

/* The waiter goes on: it pops the next object, too. */
static void waiter_verify(struct actor *a)
{
	pyheap_ref ref = pattern_new(a, SIZE, OLD);
	uint64_t give_up = watchdog_ns();

	MUST(a, pyheap_queue_push(a->heap, a->stage->refs[QUEUE], ref, 0));
	while (pyheap_refcount(a->heap, ref) >= 0 && clock_ns() < give_up)
		usleep(500);
	EXPECT(a, pyheap_refcount(a->heap, ref) == -ESTALE);
}

const struct scenario scenarios_queue[] = {
	{"queue_new", NULL, NULL, new_call, .result = 0},
	{"queue_push", push_prepare, push_setup, push_call, .verify = push_verify},
	{"queue_push_paused", push_prepare, push_kept_setup, push_call, .verify = push_verify},
	{"queue_push_own", push_prepare, push_own_setup, push_call, .verify = push_verify},
	{"queue_push_again", push_prepare, push_again_setup, push_call, .verify = push_again_verify},
	{"queue_push_table", push_prepare, push_table_setup, push_call, .verify = push_verify},
	{"queue_push_twice", push_prepare, push_twice_setup, push_call, .verify = push_verify},
	{"queue_push_wait", push_wait_prepare, push_setup, push_wait_call, .partner = push_wait_partner,
		.verify = push_wait_verify},
	{"queue_push_wakes", waiter_prepare, push_setup, push_call, .verify = waiter_verify},
	{"queue_pop", pop_prepare, NULL, pop_call, .verify = pop_verify},
	{"queue_pop_fast", pop_prepare, pop_quick_setup, pop_call, .verify = pop_verify},
	{"queue_pop_held", pop_held_prepare, pop_held_setup, pop_call, .verify = pop_held_verify},
	{"queue_pop_wait", push_prepare, NULL, pop_wait_call, .partner = pop_wait_partner, .verify = pop_wait_verify},
	{"queue_pop_timeout", push_prepare, NULL, pop_timeout_call, .result = -ETIMEDOUT, .verify = pop_wait_verify},
	{.name = NULL},
};
