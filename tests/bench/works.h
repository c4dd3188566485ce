/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The table of the benchmark: which works there are, and who takes part
 *
 * A work is described where pyheap's way of doing it is, in its family's file; a peer names it by its key. Both sides
 * use the same sizes and numbers, and wait for each other in the same way: between two processes by polling.
 */

#include "harness.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WORK_PAIR_48        "pair-48"
#define WORK_PAIR_48_ALONE  "pair-48-alone"
#define WORK_HOLD_DROP      "hold-drop"
#define WORK_PUSH_POP       "push-pop"
#define WORK_THERE_AND_BACK "there-and-back"
#define WORK_HAND_OVER      "hand-over"
#define WORK_NAME_PUT       "name-put-1k"
#define WORK_NAME_GET       "name-get-1k"

#define PAIR_SIZE  48U   /* bytes of a small object */
#define N_SHARED   64U   /* objects that the other process made, used in turn */
#define QUEUE_SIZE 1024U /* places of a queue */
#define NAMED_SIZE 1024U /* bytes of a named object */
#define N_NAMES    1000U /* names that there are, used in turn */

/* The i-th name, i below N_NAMES. Static. */
const char *work_name(size_t i);

extern const struct family family_objects; /* objects.c: making, holding, dropping */
extern const struct family family_queues;  /* queues.c: handing over */
extern const struct family family_names;   /* names.c: publishing and finding */

extern const struct peer peer_malloc; /* peer_malloc.c */
extern const struct peer peer_boost;  /* peer_boost.cc, where there is Boost */

#ifdef __cplusplus
}
#endif
