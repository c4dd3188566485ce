/* SPDX-License-Identifier: MIT */
#pragma once

/* The hold table of a session: who holds an object is said here and nowhere else. See hold.c. */

#include "heap/pool.h"

/* Before a change: see to it that one more hold fits. HEAP_WANTS_ARENAS, -ENOMEM. */
int hold_reserve(struct session *session);

/* The entry of ref, or NULL. No lock is needed by the session's own thread. */
struct hold *hold_find(const struct session *session, uint64_t ref);

/* The entry of ref in any session's table; with the lock held. */
struct hold *hold_lookup(const struct heap *heap, const struct session_entry *entry, uint64_t ref);

/* Within a change: hold what the table has no entry of, where hold_reserve() has made room. -EUCLEAN it is damaged. */
int hold_insert(struct session *session, uint64_t ref);

/* Within a change: hold ref once more; *ret_first says whether it is the first time (the object's count must follow).
 * -EOVERFLOW. */
int hold_add(struct session *session, uint64_t ref, bool *ret_first);

/* Within a change: once less; true when it was the last time. */
bool hold_remove(struct session *session, struct hold *hold);

/* The table of any session, for walks: entries and their number; NULL where it is damaged. */
struct hold *hold_table(const struct heap *heap, const struct session_entry *entry, uint32_t *ret_n);

/* After a change that removed holds: make a table that is mostly empty smaller, where that is easily done. */
void hold_shrink(struct session *session);

/* One change: give the tables back that lie in runs, of a session that holds nothing any more. -EBUSY where `try`. */
int hold_table_free(struct session *session, bool try);
