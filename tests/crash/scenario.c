// SPDX-License-Identifier: MIT
/*
 * Scenarios
 *
 * A scenario is one public call and the state of the heap in which it is made. A victim makes the call and is killed
 * in it. The survivor then verifies the objects that both know: the call has happened as a whole or not at all. It
 * restores them, and the heap's figures must be what they were before.
 *
 * Beside a scenario's own objects there is the garden: objects that the survivor holds, that a name has, and that lie
 * in slots of a list. Nobody but the survivor touches them, and they must stay as they are.
 */
#include "scenario.h"

#include "client/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GARDEN_LIST 4

static struct {
	pyheap_ref held, list, large;
} garden;

const struct scenario *scenario_at(size_t n)
{
	static const struct scenario *const families[] = {scenarios_object, scenarios_own, scenarios_remote_free,
		scenarios_unshared, scenarios_count, scenarios_read, scenarios_free, scenarios_slot, scenarios_queue,
		scenarios_session};

	for (size_t i = 0; i < sizeof(families) / sizeof(*families); i++)
		for (const struct scenario *s = families[i]; s->name; s++)
			if (n-- == 0)
				return s;
	return NULL;
}

const struct scenario *scenario_find(const char *name)
{
	const struct scenario *s;

	for (size_t i = 0; (s = scenario_at(i)); i++)
		if (strcmp(s->name, name) == 0)
			return s;
	return NULL;
}

void fault(struct actor *actor, const char *format, ...)
{
	struct stage *stage = actor->stage;
	size_t n = strlen(stage->faults);
	va_list arguments;

	stage->n_faults++;
	if (n + 256 < sizeof(stage->faults)) {
		n += (size_t)snprintf(stage->faults + n, 128, "    %s: ", actor->is_victim ? "victim" : "survivor");
		va_start(arguments, format);
		n += (size_t)vsnprintf(stage->faults + n, 120, format, arguments);
		va_end(arguments);
		if (n < sizeof(stage->faults) - 2)
			strcpy(stage->faults + strlen(stage->faults), "\n");
	}
	if (actor->is_victim)
		_exit(3);
}

/* ---- contents ---- */

static uint8_t pattern_byte(uint32_t seed, size_t i)
{
	return (uint8_t)((seed * 2654435761U + (uint32_t)i * 40503U) >> 13);
}

pyheap_ref pattern_new(struct actor *actor, size_t size, uint32_t seed)
{
	pyheap_ref ref = 0;
	uint8_t *data;

	MUST(actor, pyheap_new(actor->heap, PYHEAP_BYTES, size, &ref));
	data = pyheap_data(actor->heap, ref);
	for (size_t i = 0; data && i < size; i++)
		data[i] = pattern_byte(seed, i);
	return ref;
}

void pattern_check(struct actor *actor, pyheap_ref ref, size_t size, uint32_t seed)
{
	const uint8_t *data = pyheap_data(actor->heap, ref);

	if (!data || pyheap_size(actor->heap, ref) != (ssize_t)size) {
		fault(actor, "object %#llx (pattern %u) is lost", (unsigned long long)ref, seed);
		return;
	}
	for (size_t i = 0; i < size; i++) {
		if (data[i] == pattern_byte(seed, i))
			continue;
		fault(actor, "object %#llx (pattern %u) has other contents from byte %zu on", (unsigned long long)ref,
			seed, i);
		return;
	}
}

int queue_empty(struct actor *actor, pyheap_ref queue)
{
	pyheap_ref ref = 0;
	int r, n = 0;

	while ((r = pyheap_queue_pop(actor->heap, queue, &ref, 0)) == 0) {
		MUST(actor, pyheap_decref(actor->heap, ref));
		n++;
	}
	EXPECT(actor, r == -EAGAIN);
	return n;
}

void take_free_pools(struct actor *actor)
{
	const struct space *spaces = actor->heap->session.heap->control->spaces;
	pyheap_ref ref;

	while (spaces[SPACE_OBJECTS].usable_arenas1 || spaces[SPACE_RECORDS].rank2lasta1[RANK_FREE])
		MUST(actor, pyheap_new(actor->heap, PYHEAP_BYTES, POOL_SIZE, &ref));
}

/* ---- the garden ---- */

void garden_prepare(struct actor *actor)
{
	pyheap_ref child;

	garden.held = pattern_new(actor, 100, 1);
	garden.large = pattern_new(actor, 70000, 2);
	MUST(actor, pyheap_list_new(actor->heap, GARDEN_LIST, &garden.list));
	for (uint32_t i = 0; i < GARDEN_LIST; i++) {
		child = pattern_new(actor, 40 + 600 * (size_t)i, 10 + i);
		MUST(actor, pyheap_list_set(actor->heap, garden.list, i, child));
		MUST(actor, pyheap_decref(actor->heap, child));
	}
	child = pattern_new(actor, 64, 3);
	MUST(actor, pyheap_name_set(actor->heap, "garden", child));
	MUST(actor, pyheap_decref(actor->heap, child));
}

void garden_verify(struct actor *actor)
{
	pyheap_ref child = 0;

	pattern_check(actor, garden.held, 100, 1);
	pattern_check(actor, garden.large, 70000, 2);
	for (uint32_t i = 0; i < GARDEN_LIST; i++) {
		MUST(actor, pyheap_list_get(actor->heap, garden.list, i, &child));
		pattern_check(actor, child, 40 + 600 * (size_t)i, 10 + i);
		MUST(actor, pyheap_decref(actor->heap, child));
	}
	MUST(actor, pyheap_name_get(actor->heap, "garden", &child));
	pattern_check(actor, child, 64, 3);
	MUST(actor, pyheap_decref(actor->heap, child));
}
