/* SPDX-License-Identifier: MIT */
#pragma once

/* A world for a scenario, and what is done after a death: see rig.c. */

#include "tracee.h"
#include "world.h"

/* One at a time; the same for all of the harness's programs. */
struct rig {
	struct world world;
	const struct scenario *scenario;
	const char *const *daemon_args; /* NULL: the usual ones */
	uint32_t patience_ms;           /* 0: the usual */
	bool is_foreign;                /* victims lock as processes of another pid namespace do */
	bool is_brief;                  /* at the end, do not wait for the daemon to take back what sessions keep */
	uint64_t n_arenas;              /* that are in use when no victim is */
};

/* Start a world, have the survivor prepare the scenario, remember the figures. Says why where it gives -EIO. */
int rig_begin(struct rig *rig);

/* The same once more: faults end a world, as what is damaged stays so. */
int rig_again(struct rig *rig);

/* Begin as a victim: fork, open its session, set up; it stops before the scenario's call. */
int rig_start_victim(struct rig *rig, struct tracee *victim);
int rig_start_victim_of(struct rig *rig, struct tracee *victim, const struct scenario *scenario);

/* Write a fault down. */
void rig_note(struct rig *rig, const char *text);

/* Have the survivor do something; false, and a fault, where it hangs or is gone. */
bool rig_ask(struct rig *rig, enum command command, const char *what);

/* Look until it is so; false, and a fault, where a watch-dog ends that. */
bool rig_await(struct rig *rig, bool (*is_so)(const struct world *), const char *otherwise);
bool rig_dead_are_cleared_up(const struct world *world);
bool rig_memory_is_back(const struct world *world);
bool rig_nothing_is_kept(const struct world *world); /* once sessions have done nothing for a while */

/*
 * After the death: check the heap at once, let the survivor go on with what is shared (`first`: before the daemon has
 * dropped what the dead held), wait until the dead are cleared up, compare the figures and check again.
 */
void rig_examine(struct rig *rig, bool first);

/* At the end, when everything has had its time: is the memory back? */
void rig_examine_memory(struct rig *rig);
