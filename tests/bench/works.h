/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the contenders of one work have in common, so that all of them do the same: see works.c.
 *
 * works.py has the table of the works: what each is, who takes part, and what is aimed at.
 */

#include "contender.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WORK_PAIR           "pair"       /* argument: bytes */
#define WORK_BULK_48        "bulk-48"    /* argument: objects */
#define WORK_BULK_MIXED     "bulk-mixed" /* argument: objects */
#define WORK_HOLD_DROP      "hold-drop"
#define WORK_HELD           "held"
#define WORK_DATA           "data"
#define WORK_TWO_AT_ONCE    "two-at-once"
#define WORK_PUSH_POP       "push-pop"
#define WORK_THERE_AND_BACK "there-and-back"
#define WORK_ASLEEP         "asleep" /* as there-and-back, and the side that waits sleeps */
#define WORK_HAND_OVER      "hand-over"
#define WORK_NAME_GET       "name-get"       /* argument: names; a few of them in turn */
#define WORK_NAME_GET_ALL   "name-get-all"   /* argument: names; all of them in turn */
#define WORK_NAME_GET_TWO   "name-get-two"   /* argument: names in turn, at most N_SHARED */
#define WORK_LIST_GET       "list-get"       /* argument: slots in turn, at most N_SHARED */
#define WORK_LIST_GET_TWO   "list-get-two"   /* the same */
#define WORK_NAME_SIZE      "name-size"      /* argument: bytes */
#define WORK_NAME_READ      "name-read"      /* argument: bytes */
#define WORK_AMONG_OBJECTS  "among-objects"  /* argument: objects that live meanwhile */
#define WORK_AMONG_SESSIONS "among-sessions" /* argument: other sessions */
#define WORK_COME_AND_GO    "come-and-go"    /* argument: other sessions */
#define WORK_FULL           "full"
#define WORK_TOUCH          "touch"   /* argument: MiB */
#define WORK_KILLED         "killed"  /* argument: holds */
#define WORK_SLEEPER        "sleeper" /* argument: MiB */

#define PAIR_SIZE     48U   /* bytes of a small object */
#define MIXED_MAX     512U  /* bytes of the largest of the mixed ones */
#define N_SHARED      64U   /* objects used in turn where a work uses some again and again */
#define QUEUE_SIZE    1024U /* places of a queue */
#define N_NAMES_USED  10U   /* names used in turn */
#define N_NAMES_SIZED 16U   /* objects of one size, used in turn */
#define PAGE_SIZE_4K  4096U

/* n sizes from 1 to MIXED_MAX, and the numbers from 0 to n - 1 in random order; the same ones every time. Owned. */
uint32_t *work_sizes(size_t n);
uint32_t *work_order(size_t n);

/* The sum of all words of 8 bytes of `size` bytes: what reading them costs a process that has them. size is a multiple
 * of 8.
 */
uint64_t work_sum(const void *data, size_t size);

/* The i-th name, into ret. */
#define WORK_NAME_BYTES 24
void work_name(char ret[WORK_NAME_BYTES], size_t i);

/* Two processes at the same loop, each with what `begin` made there (may be NULL); the second on the second CPU. */
struct two_way {
	int (*begin)(void *userdata, void **ret);
	int (*loop)(void *state, uint64_t n);
	int (*end)(void *state);
};
struct two;
int two_setup(struct two **ret, const struct two_way *way, void *userdata);
/* One figure: how many times the work of one the two get done together. */
int two_measure(void *two, uint64_t n, double ret[FIGURES_MAX]);
int two_teardown(void *two);

#ifdef __cplusplus
}
#endif
