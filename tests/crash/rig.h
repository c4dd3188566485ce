/* SPDX-License-Identifier: MIT */
#pragma once

/* A world that is prepared for a scenario, its victims, and the examination after a death: see rig.c. */

#include "tracee.h"
#include "world.h"

/* Each program has one rig, with one world at a time. */
struct rig {
	struct world world;
	const struct scenario *scenario;
	const char *const *daemon_args; /* NULL: the usual ones */
	bool is_foreign;                /* victims lock as processes of another pid namespace do */
	bool is_brief;                  /* rig_examine_memory() does not wait until the daemon has trimmed sessions */
	uint64_t n_arenas;              /* used arenas while there is no victim */
};

/* Start a world, have the survivor prepare the scenario, and note the figures. Prints why where it answers -EIO. */
int rig_begin(struct rig *rig);

/* Begin again in a new world: after a fault the old heap is damaged. */
int rig_again(struct rig *rig);

/* Fork a victim that opens its session and sets up; it stops before the scenario's call. */
int rig_start_victim(struct rig *rig, struct tracee *victim);
int rig_start_victim_of(struct rig *rig, struct tracee *victim, const struct scenario *scenario);

/* Note a fault. */
void rig_note(struct rig *rig, const char *text);

/* Have the survivor obey a command; false, and a fault, where it hangs or is gone. */
bool rig_ask(struct rig *rig, enum command command, const char *what);

/* Wait until is_so(); false, and a fault, after stage->patience_ms or where the daemon ends. */
bool rig_await(struct rig *rig, bool (*is_so)(const struct world *), const char *otherwise);
bool rig_dead_are_cleared_up(const struct world *world);
bool rig_memory_is_back(const struct world *world);
bool rig_nothing_is_kept(const struct world *world); /* true once the daemon has trimmed the idle sessions */

/*
 * After a death: check the heap at once; let the survivor use the shared objects, `first`: before the daemon has
 * reclaimed the dead session, else afterwards; compare the figures with the baseline and check again.
 */
void rig_examine(struct rig *rig, bool first);

/* At the end: wait until the memory is back, and compare how many arenas are used. */
void rig_examine_memory(struct rig *rig);
