/* SPDX-License-Identifier: MIT */
#pragma once

/* Reading a place, and holding what it has, without the lock. See read.c. */

#include "heap/object/uncounted.h"

/* What is returned beside 0 and negative errnos: */
#define READ_CHANGED 3             /* the place is not what it was: find it anew */
#define READ_NOT     UNCOUNTED_NOT /* read it under the lock */

/* A place of a container that stays: because the session holds it, or while a record's header has one word. */
struct place {
	const uint64_t *where;
	const struct object_header *record; /* NULL: of an object that is held */
	uint64_t record_word;
	uint64_t record_position; /* with a record; else 0 */
};

/*
 * In a section of uncounted_begin(), which this ends; after hold_reserve(). 0: *ret is what the place has, which the
 * session holds now; or it is 0, and so is the place. by_log: only what changes that are over have stored counts.
 * Without it, a record's place that has 0 is READ_CHANGED.
 */
int read_place(struct session *session, const struct place *place, bool by_log, uint64_t *ret);
