// SPDX-License-Identifier: MIT
/*
 * The survivor: a session that is connected all the time, and does what the harness asks for
 */
#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

/* ---- figures ---------------------------------------------------------------------------------------------------- */

/* The first figure that is not what it was, or NULL. Arenas come and go by the clock and are compared elsewhere. */
static const char *difference(const pyheap_stats *was, const pyheap_stats *is)
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
		if (was->classes[i].n_used == is->classes[i].n_used &&
			was->classes[i].n_pools == is->classes[i].n_pools)
			continue;
		snprintf(text, sizeof(text), "class %u: objects were %llu, are %llu; pools were %llu, are %llu",
			is->classes[i].size, (unsigned long long)was->classes[i].n_used,
			(unsigned long long)is->classes[i].n_used, (unsigned long long)was->classes[i].n_pools,
			(unsigned long long)is->classes[i].n_pools);
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
	n_holds_baseline = own_holds(actor);
}

static void compare(struct actor *actor)
{
	uint64_t give_up = clock_ns() + actor->stage->patience_ms * UINT64_C(1000000);
	const char *text;
	pyheap_stats stats;

	for (;;) {
		MUST(actor, pyheap_stats(actor->heap, &stats));
		text = difference(&actor->stage->baseline, &stats);
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

/* The first who wants the lock after its owner died takes the change back: then all is whole, what the dead holds too.
 */
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

/* ---- commands --------------------------------------------------------------------------------------------------- */

static void prepare(struct actor *actor)
{
	MUST(actor, pyheap_open(&actor->heap, actor->stage->socket));
	if (!actor->heap)
		_exit(1);
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
	case COMMAND_BASELINE:
		baseline(actor);
		break;
	case COMMAND_VERIFY:
		verify(actor);
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
