/* SPDX-License-Identifier: MIT */
#pragma once

/* The calls that victims are killed in, and what must be true afterwards: see scenario.c. */

#include <pyheap.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STAGE_REFS  64
#define STAGE_GIVEN 16
#define STAGE_TEXT  4096
#define ACTOR_MINE  80

struct scenario;

/* Memory that all processes of a test share, beside the heap. */
struct stage {
	char socket[104];
	const struct scenario *scenario; /* valid in all processes: they are forked from one */
	const struct scenario *victims;  /* scenario of the victim that is being started */
	pyheap_ref refs[STAGE_REFS];     /* of the scenario's shared objects */
	pyheap_ref passed;               /* object that the victim made; the survivor looks for it */
	pyheap_ref given[STAGE_GIVEN];   /* encounters: objects that the owner made for the other session */
	uint64_t k;                      /* the instruction at which the victim is killed */
	int32_t victim_pid;
	uint32_t is_finished;       /* the victim's call has returned */
	int32_t result;             /* what it returned */
	uint32_t n_types;           /* type_register: number of types before the call */
	uint32_t is_foreign;        /* victims lock as processes of another pid namespace do */
	uint32_t n_sessions;        /* open sessions while there is no victim */
	uint32_t is_without_daemon; /* step_daemon: the daemon was killed, and no other one has been started */
	pyheap_stats baseline;
	uint32_t n_pools[PYHEAP_CLASSES]; /* baseline: pools with objects, per class */
	uint32_t patience_ms;             /* after which a wait is a fault: a watchdog; short after a planted defect */
	uint64_t wait_ns;                 /* longest time that the survivor's first call after a death took */
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
	void (*prepare)(struct actor *); /* survivor: once, makes the shared objects; may be NULL, as those below */
	void (*setup)(struct actor *);   /* victim: before its call */
	int (*call)(struct actor *);     /* victim: one public call, which is stepped */
	int result;                      /* what the call must return */
	void (*partner)(struct actor *); /* survivor: lets a call that waits go on */
	void (*verify)(struct actor *);  /* survivor: after each death; restores the shared objects, too */
	bool opens;                      /* `call` opens the victim's session, which is not done before */
	bool wants_arenas;              /* the call must ask for arenas: it begins when only the spare arena is there */
	void (*ready)(struct actor *);  /* survivor: before each victim begins */
	void (*beside)(struct actor *); /* survivor: when a victim is before its call */
};

extern const struct scenario scenarios_object[], scenarios_free[], scenarios_slot[], scenarios_queue[],
	scenarios_session[], scenarios_own[], scenarios_remote_free[], scenarios_unshared[], scenarios_count[],
	scenarios_read[]; /* each ended by one without a name */

/* The n-th of all; NULL: there are no more. */
const struct scenario *scenario_at(size_t n);
const struct scenario *scenario_find(const char *name);

/* Note a fault. A victim ends with it, as it cannot get to the call that is stepped. */
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

/* A PYHEAP_BYTES object whose contents are computed from `seed`, so that they can be verified. */
pyheap_ref pattern_new(struct actor *actor, size_t size, uint32_t seed);
void pattern_check(struct actor *actor, pyheap_ref ref, size_t size, uint32_t seed);

/* Pop and drop all objects of a queue: how many there were. */
int queue_empty(struct actor *actor, pyheap_ref queue);

/* Take every free pool: the next request for one needs another arena. */
void take_free_pools(struct actor *actor);

/* Survivor: the objects that must stay as they are, whichever process dies (see scenario.c). */
void garden_prepare(struct actor *actor);
void garden_verify(struct actor *actor);
