/* SPDX-License-Identifier: MIT */
#pragma once

/* What is stepped through, and what must be true after it was killed: see scenario.c. */

#include <pyheap.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STAGE_REFS  64
#define STAGE_GIVEN 16
#define STAGE_TEXT  4096
#define ACTOR_MINE  80

struct scenario;

/* Shared by all processes of the harness: what they tell each other beside the heap. */
struct stage {
	char socket[104];
	const struct scenario *scenario; /* the same address everywhere: all are forked from one process */
	const struct scenario *victims;  /* of the victim that is just started */
	pyheap_ref refs[STAGE_REFS];     /* of the scenario's shared objects */
	pyheap_ref passed;               /* what the victim made, so that the survivor can look for it */
	pyheap_ref given[STAGE_GIVEN];   /* what one of them has made for the other one to use */
	uint64_t k;                      /* the instruction at which the victim is killed */
	int32_t victim_pid;
	uint32_t is_finished; /* the victim's call has returned */
	int32_t result;       /* what it returned */
	uint32_t n_types;     /* type_register: types there were before */
	uint32_t is_foreign;  /* victims lock as processes of another pid namespace do */
	uint32_t n_sessions;  /* that there are when no victim is */
	pyheap_stats baseline;
	uint32_t n_pools[PYHEAP_CLASSES]; /* the same: pools that objects lie in */
	uint32_t patience_ms;             /* how long figures may take to be what they were: a watch-dog */
	uint64_t wait_ns;                 /* longest that the survivor's first call after a death took */
	uint32_t n_faults;
	char faults[STAGE_TEXT];
};

/* One of the processes, and its session. */
struct actor {
	pyheap *heap;
	struct stage *stage;
	bool is_victim;
	pyheap_ref mine[ACTOR_MINE];
};

struct scenario {
	const char *name;
	void (*prepare)(struct actor *); /* survivor: once, makes what is shared; may be NULL, as those below */
	void (*setup)(struct actor *);   /* victim: before its call */
	int (*call)(struct actor *);     /* victim: what is stepped; one public call */
	int result;                      /* what it has to return */
	void (*partner)(struct actor *); /* survivor: lets a call that waits go on */
	void (*verify)(struct actor *);  /* survivor: after each death; puts the shared objects back to how they were */
	bool opens;                      /* the victim opens its session in `call`, not before */
	bool wants_arenas; /* the call has to ask for arenas: it begins when no more than the spare is there */
	void (*ready)(struct actor *);  /* survivor: before each victim begins */
	void (*beside)(struct actor *); /* survivor: when a victim stands before its call */
};

extern const struct scenario scenarios_object[], scenarios_free[], scenarios_slot[], scenarios_queue[],
	scenarios_session[], scenarios_own[], scenarios_return[], scenarios_stranger[],
	scenarios_count[]; /* each ended by one without a name */

/* The n-th of all; NULL: there are no more. */
const struct scenario *scenario_at(size_t n);
const struct scenario *scenario_find(const char *name);

/* Note a fault. A victim ends with it: it could not get to where it is stepped. */
__attribute__((format(printf, 2, 3))) void fault(struct actor *actor, const char *format, ...);

/* What must succeed, and what must be true. */
#define MUST(actor, call)                                                                                              \
	do {                                                                                                           \
		long long r_ = (long long)(call);                                                                      \
		if (r_ < 0)                                                                                            \
			fault(actor, "%s: %s", #call, pyheap_strerror((int)r_));                                       \
	} while (0)
#define EXPECT(actor, condition)                                                                                       \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			fault(actor, "not true: %s", #condition);                                                      \
	} while (0)

/* A PYHEAP_BYTES object with contents that say whose they are, and whether they still are. */
pyheap_ref pattern_new(struct actor *actor, size_t size, uint32_t seed);
void pattern_check(struct actor *actor, pyheap_ref ref, size_t size, uint32_t seed);

/* Take all out of a queue, and drop it: how many there were. */
int queue_empty(struct actor *actor, pyheap_ref queue);

/* Take every free pool, so that whoever wants one needs another arena. */
void take_free_pools(struct actor *actor);

/* Survivor: what is held, named and in slots throughout, whoever dies. */
void garden_prepare(struct actor *actor);
void garden_verify(struct actor *actor);
