/* SPDX-License-Identifier: MIT */
#pragma once

/* Damages to what is derived: see repair_damages.c. */

#include "tests/unit/heap/fixture_repair.h"

#define ENTRY0      (fx.sessions[0].entry)
#define ENTRY1      (fx.sessions[1].entry)
#define POOL        ref_pool(victim)
#define REMOTE_POOL ref_pool(remotely_freed)

struct repair_damage {
	void (*damage)(void);
	const char *fault;     /* what the report must speak of */
	uint32_t n_names_lost; /* beside what is broken, nothing may be lost */
	bool in_holds;         /* of session 0, which stores there without the lock: nobody else moves them */
};

extern const struct repair_damage repair_damages[];
extern const int n_repair_damages;

/* Damages that tests make beside others. */
void freeblock_circle(void);
void n_used_high(void);
void n_carved_low(void);
void unowned_cut(void);
void usedpools_cut(void);
void usedpools_of_run(void);
void owned_cut(void);
void owned_circle(void);
void remote_cut(void);
void spare_wild(void);
void n_own_holds_high(void);
void usable_empty(void);
void hold_of_dead(void);
void new_table_of_live(void);
void dying_too_long(void);
void dying_of_no_type(void);
void owned_of_dead_wild(void);
void large_of_wrong_length(void);
void free_of_dead_with_rights(void);
void spare_of_dead_with_rights(void);

/* Move a hold of the session behind a gap of its table, where no search finds it. */
void misplace(struct session *session, uint64_t ref);
