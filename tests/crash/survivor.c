// SPDX-License-Identifier: MIT
/*
 * The survivor: a session that stays open all the time and obeys the harness's commands
 */
#include "world.h"

#include "client/session.h"
#include "heap/change/lock.h"
#include "heap/object/object.h"
#include "heap/object/own_trim.h"
#include "heap/object/right.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void on_fault(void *userdata, const char *text)
{
	fault(userdata, "check: %s", text);
}

static void check(struct actor *actor)
{
	int64_t n = pyheap_check(actor->heap, on_fault, actor);

	if (n < 0)
		fault(actor, "check cannot be made: %s", pyheap_strerror((int)n));
}

static void verify(struct actor *actor)
{
	garden_verify(actor);
	if (actor->stage->scenario && actor->stage->scenario->verify)
		actor->stage->scenario->verify(actor);
}

static void go_on(struct actor *actor)
{
	pyheap_ref ref;

	garden_verify(actor);
	for (size_t size = 1; size < 6000; size = size * 3 + 5) {
		ref = pattern_new(actor, size, 4);
		pattern_check(actor, ref, size, 4);
		MUST(actor, pyheap_decref(actor->heap, ref));
	}
	check(actor);
}

static void name_owner(struct actor *actor)
{
	pyheap_client_info info;
	uint64_t cursor = 0;
	int32_t pid = 0;

	while (pyheap_client_next(actor->heap, &cursor, &info) > 0)
		if (info.has_lock)
			pid = info.pid;
	if (pid != actor->stage->victim_pid)
		fault(actor, "process %d has the lock, but %d is said to have it", actor->stage->victim_pid, pid);
}

/* ---- figures ---- */

/* Pools with objects, per class. Free pools do not count: how many of them a session keeps depends on the past. */
static void count_pools(struct actor *actor, uint32_t *ret)
{
	const struct heap *heap = actor->heap->session.heap;

	memset(ret, 0, PYHEAP_CLASSES * sizeof(*ret));
	for (uint32_t a = 0; a < heap->control->n_arenas_known; a++) {
		const struct pool_entry *pools = &heap->pools[a * heap->pools_per_arena];

		if (heap->arenas[a].state != ARENA_POOLS || heap->arenas[a].space != SPACE_OBJECTS)
			continue;
		for (uint32_t i = 0; i < heap->pools_per_arena; i++)
			if (pools[i].kind == POOL_BLOCKS && pools[i].size_class < PYHEAP_CLASSES &&
				pools[i].n_used > (pools[i].owner1 ? pool_count_remote(heap, &pools[i]) : 0))
				ret[pools[i].size_class]++;
	}
}

/* The first figure that differs from the baseline, or NULL. Arenas, which the daemon returns by the clock, are compared
 * by rig_examine_memory(). */
static const char *difference(
	const pyheap_stats *was, const uint32_t *pools_were, const pyheap_stats *is, const uint32_t *pools_are)
{
	static char text[100];
#define COMPARE(member)                                                                                                \
	do {                                                                                                           \
		if (was->member != is->member) {                                                                       \
			snprintf(text, sizeof(text), "%s was %llu, is %llu", #member, (unsigned long long)was->member, \
				(unsigned long long)is->member);                                                       \
			return text;                                                                                   \
		}                                                                                                      \
	} while (0)

	for (size_t i = 0; i < PYHEAP_CLASSES; i++) {
		if (was->classes[i].n_used == is->classes[i].n_used && pools_were[i] == pools_are[i])
			continue;
		snprintf(text, sizeof(text), "class %u: objects were %llu, are %llu; pools were %u, are %u",
			is->classes[i].size, (unsigned long long)was->classes[i].n_used,
			(unsigned long long)is->classes[i].n_used, pools_were[i], pools_are[i]);
		return text;
	}
	COMPARE(n_medium_objects);
	COMPARE(n_large_objects);
	COMPARE(bytes_medium_objects);
	COMPARE(bytes_large_objects);
	COMPARE(bytes_records);
	COMPARE(n_names);
	return NULL;
#undef COMPARE
}

static uint64_t own_holds(struct actor *actor)
{
	pyheap_client_info info;
	uint64_t cursor = 0;

	while (pyheap_client_next(actor->heap, &cursor, &info) > 0)
		if (info.self)
			return info.n_holds;
	return 0;
}

static uint64_t n_holds_baseline;

static void baseline(struct actor *actor)
{
	MUST(actor, pyheap_stats(actor->heap, &actor->stage->baseline));
	count_pools(actor, actor->stage->n_pools);
	n_holds_baseline = own_holds(actor);
}

static void compare(struct actor *actor)
{
	uint64_t give_up = clock_ns() + actor->stage->patience_ms * UINT64_C(1000000);
	uint32_t n_pools[PYHEAP_CLASSES];
	const char *text;
	pyheap_stats stats;

	for (;;) {
		MUST(actor, pyheap_stats(actor->heap, &stats));
		count_pools(actor, n_pools);
		text = difference(&actor->stage->baseline, actor->stage->n_pools, &stats, n_pools);
		if (!text || clock_ns() > give_up)
			break;
		sleep_ms(1);
	}
	if (text)
		fault(actor, "%s", text);
	if (own_holds(actor) != n_holds_baseline)
		fault(actor, "it holds %llu objects, not %llu", (unsigned long long)own_holds(actor),
			(unsigned long long)n_holds_baseline);
}

/* The first process that takes the lock after its owner died rolls the change back: then the whole heap is consistent,
 * the dead session's holds included. */
static void look(struct actor *actor)
{
	uint64_t begin = clock_ns(), waited;

	MUST(actor, pyheap_lock(actor->heap));
	waited = clock_ns() - begin;
	if (waited > actor->stage->wait_ns)
		actor->stage->wait_ns = waited;
	MUST(actor, pyheap_unlock(actor->heap));
	check(actor);
}

/*
 * Each victim's call is to find the same state. A right that comes and goes under the lock makes an object known to
 * others and leaves its count biased to nobody; and the survivor collects what was freed remotely.
 */
static void make_known(struct actor *actor)
{
	struct session *session = &actor->heap->session;
	struct object object;

	MUST(actor, change_begin(session));
	for (size_t i = 0; i < STAGE_REFS; i++)
		if (object_find(session->heap, actor->stage->refs[i], &object) == 0) {
			MUST(actor, right_retain(session, &object));
			MUST(actor, right_drop(session, &object));
		}
	MUST(actor, change_end(session, 0));
	MUST(actor, own_collect_all(session));
}

/* ---- commands ---- */

static void prepare(struct actor *actor)
{
	MUST(actor, pyheap_open(&actor->heap, actor->stage->socket));
	if (!actor->heap)
		_exit(1);
	MUST(actor, pyheap_set_timeout(actor->heap, (int)WATCHDOG_S * 1000));
	garden_prepare(actor);
	if (actor->stage->scenario && actor->stage->scenario->prepare)
		actor->stage->scenario->prepare(actor);
}

static void obey(struct actor *actor, enum command command)
{
	switch (command) {
	case COMMAND_PREPARE:
		prepare(actor);
		break;
	case COMMAND_READY:
		actor->stage->victims->ready(actor);
		break;
	case COMMAND_BESIDE:
		actor->stage->victims->beside(actor);
		break;
	case COMMAND_BASELINE:
		baseline(actor);
		make_known(actor);
		break;
	case COMMAND_VERIFY:
		verify(actor);
		make_known(actor);
		break;
	case COMMAND_LOOK:
		look(actor);
		break;
	case COMMAND_CHECK:
		compare(actor);
		check(actor);
		break;
	case COMMAND_PARTNER:
		actor->stage->scenario->partner(actor);
		break;
	case COMMAND_GO_ON:
		go_on(actor);
		break;
	case COMMAND_NAME_OWNER:
		name_owner(actor);
		break;
	case COMMAND_QUIT:
		_exit(0);
	}
}

void survivor_run(struct stage *stage, int line)
{
	struct actor actor = {.stage = stage};
	char byte;

	while (read(line, &byte, 1) == 1) {
		obey(&actor, (enum command)byte);
		if (write(line, &byte, 1) != 1)
			break;
	}
}
