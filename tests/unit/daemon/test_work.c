// SPDX-License-Identifier: MIT
/*
 * Work in turns: every item has its steps in turn, and a turn says whether there is to be another one
 *
 * The event loop never runs here: the test makes the turns itself.
 */
#include "tests/unit/daemon/box.h"

#include "daemon/work.h"

#include <string.h>

#define N_ITEMS 3

/* An item of the test: what its steps say, and which steps were made. */
struct job {
	struct work_item item;
	int n_left;  /* steps until it says 0 */
	int n_busy;  /* of the next steps, how many find the lock taken; -1: all */
	int n_steps; /* that were made */
	bool adds_itself;
	bool removes_next;
};

static struct event_base *base;
static struct work work;
static struct job jobs[N_ITEMS];
static char order[256]; /* which items made steps, one letter each */

static int step(void *owner)
{
	struct job *job = owner;
	size_t n = strlen(order);

	job->n_steps++;
	if (n < sizeof(order) - 1)
		order[n] = (char)('a' + (job - jobs));
	if (job->n_busy) {
		job->n_busy -= job->n_busy > 0;
		return -EBUSY;
	}
	if (job->adds_itself)
		work_add(&work, &job->item);
	if (job->removes_next)
		work_remove(&work, &job[1].item);
	return --job->n_left > 0;
}

static void set_up(void)
{
	base = event_base_new();
	ck_assert_ptr_nonnull(base);
	ck_assert_int_eq(work_init(&work, base), 0);
	memset(jobs, 0, sizeof(jobs));
	memset(order, 0, sizeof(order));
	for (int i = 0; i < N_ITEMS; i++)
		jobs[i].item = (struct work_item){.step = step, .owner = &jobs[i]};
}

static void tear_down(void)
{
	work_deinit(&work);
	event_base_free(base);
}

static void add(int i, int n_left)
{
	jobs[i].n_left = n_left;
	work_add(&work, &jobs[i].item);
}

static bool is_scheduled(void)
{
	return evtimer_pending(work.event, NULL);
}

START_TEST(nothing_to_do)
{
	ck_assert(!is_scheduled());
	ck_assert_int_eq(work_turn(&work), 0);
	work_remove(&work, &jobs[0].item); /* it is not queued */
	work_wake(&work);
	ck_assert(is_scheduled());
}
END_TEST

START_TEST(in_a_circle)
{
	add(0, 3);
	add(1, 1);
	add(2, 2);
	add(0, 3); /* it is queued already */
	ck_assert(is_scheduled());
	ck_assert_int_eq(work_turn(&work), 0);
	ck_assert_str_eq(order, "abcaca");
	ck_assert(!jobs[0].item.is_queued && !jobs[1].item.is_queued && !jobs[2].item.is_queued);
}
END_TEST

/* No turn is longer than eight steps, whatever there is to do. */
START_TEST(turns_are_bounded)
{
	add(0, 100);
	add(1, 100);
	ck_assert_int_eq(work_turn(&work), 1);
	ck_assert_str_eq(order, "abababab");
	ck_assert_int_eq(work_turn(&work), 1);
	ck_assert_int_eq(jobs[0].n_steps, 8);
}
END_TEST

/* A lock that is free a moment later delays nobody. */
START_TEST(a_lock_taken_for_a_moment)
{
	add(0, 1);
	jobs[0].n_busy = 20;
	ck_assert_int_eq(work_turn(&work), 0);
	ck_assert_int_eq(jobs[0].n_steps, 21);
}
END_TEST

START_TEST(a_lock_taken_for_long)
{
	add(0, 1);
	jobs[0].n_busy = -1;
	ck_assert_int_eq(work_turn(&work), -EBUSY); /* all that is left waits for it */
	ck_assert(jobs[0].item.is_queued);
	add(1, 100);
	ck_assert_int_eq(work_turn(&work), 1); /* the other one need not wait */
	work_remove(&work, &jobs[1].item);
	ck_assert_int_eq(work_turn(&work), -EBUSY);
	jobs[0].n_busy = 0;
	ck_assert_int_eq(work_turn(&work), 0);
}
END_TEST

START_TEST(a_step_adds_its_item)
{
	add(0, 1);
	jobs[0].adds_itself = true;
	ck_assert_int_eq(work_turn(&work), 1);
	ck_assert(jobs[0].item.is_queued);
	ck_assert_int_eq(jobs[0].n_steps, 8);
	jobs[0].n_left = 100; /* says that there is more, too: it is queued once */
	ck_assert_int_eq(work_turn(&work), 1);
	work_remove(&work, &jobs[0].item);
	ck_assert_int_eq(work_turn(&work), 0);
}
END_TEST

START_TEST(a_step_removes_another_item)
{
	add(0, 1);
	add(1, 5);
	add(2, 1);
	jobs[0].removes_next = true;
	ck_assert_int_eq(work_turn(&work), 0);
	ck_assert_str_eq(order, "ac");
	work_remove(&work, &jobs[1].item);
}
END_TEST

/* One step in each turn, behind all others, and without patience. */
START_TEST(background)
{
	work.background = &jobs[2].item;
	jobs[2].n_left = 3;
	add(0, 10);
	ck_assert_int_eq(work_turn(&work), 1);
	ck_assert_str_eq(order, "aaaaaaaac");
	jobs[2].n_busy = 1;
	ck_assert_int_eq(work_turn(&work), 1); /* the other one made progress; the background is to be tried again */
	ck_assert_int_eq(jobs[2].n_steps, 2);
	jobs[2].n_busy = 1;
	ck_assert_int_eq(work_turn(&work), -EBUSY);
	ck_assert_int_eq(work_turn(&work), 1);
	ck_assert_int_eq(work_turn(&work), 0);
	ck_assert_int_eq(jobs[2].n_steps, 5);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("daemon work");
	TCase *t = tcase_create("work");

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, nothing_to_do);
	tcase_add_test(t, in_a_circle);
	tcase_add_test(t, turns_are_bounded);
	tcase_add_test(t, a_lock_taken_for_a_moment);
	tcase_add_test(t, a_lock_taken_for_long);
	tcase_add_test(t, a_step_adds_its_item);
	tcase_add_test(t, a_step_removes_another_item);
	tcase_add_test(t, background);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return box_main(suite);
}
