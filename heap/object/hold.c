/* SPDX-License-Identifier: MIT */
/*
 * Hold tables: who holds what
 *
 * Each session has a hash table of the refs that it holds and how often. The first HOLDS_INLINE entries lie in its
 * entry of the control segment; a larger table is a run in SPACE_RECORDS. Linear probing; a table is at most three
 * quarters full, and a removed hold leaves no mark: what stands behind it moves up.
 *
 * Only the session changes its table. With a first hold and a last one the object's count must change: that is one
 * change under the lock, through the log, or is done without it by an intent (count.c). How often it holds beyond once
 * is a store of its own. What goes to a queue or comes from one changes no count: it is taken out and put in by one
 * store each, by an intent, too (queue.c). Growing and shrinking copies a table of any length, so it is done outside of
 * the lock: the new table is allocated in one change, which also writes it down in new_holds_position1; it is filled by
 * plain stores, for nobody reads it; a second change puts it in the old one's place. Died in between, the old table is
 * still the truth and the daemon frees both.
 */

#include "heap/object/hold.h"
#include "heap/change/lock.h"
#include "heap/memory/memory.h"

#include <errno.h>
#include <string.h>

#define SHRINK_AT 8U /* a table of which less than an eighth is holds is made smaller */

static uint32_t inline_shift(void)
{
	return 31U - (uint32_t)__builtin_clz(HOLDS_INLINE);
}

static struct hold *run_table(const struct heap *heap, uint64_t position, uint32_t shift)
{
	uint64_t off = position << 3;
	uint64_t size = sizeof(struct hold) << shift;

	/* One of a single entry has no bits of a hash to look for: hold_slot(). */
	if (!shift || shift > 40 || off >= heap->heap_size || size > heap->heap_size - off)
		return NULL;
	if (!arena_is_there(heap, (uint32_t)(off >> heap->arena_shift)))
		return NULL;
	return (struct hold *)(void *)(heap->base + off);
}

struct hold *hold_table(const struct heap *heap, const struct session_entry *entry, uint32_t *ret_n)
{
	struct hold *table;

	if (!entry->holds_position1) {
		*ret_n = HOLDS_INLINE;
		return (struct hold *)(uintptr_t)entry->holds_inline;
	}
	table = entry->holds_shift < 32 ? run_table(heap, entry->holds_position1 - 1, entry->holds_shift) : NULL;
	*ret_n = table ? UINT32_C(1) << entry->holds_shift : 0;
	return table;
}

/* Where ref stands in that table, or, without a ref, where it would; NULL: the table is damaged, or full. */
static struct hold *probe(const struct heap *heap, const struct session_entry *entry, uint64_t ref)
{
	uint32_t n, i, n_known;
	struct hold *table = hold_table(heap, entry, &n);

	if (!table)
		return NULL;
	i = hold_slot(ref, n);
	for (n_known = 0; n_known < n; n_known++) {
		/* acquire: with hold_put_fast(), of another session's table */
		uint64_t found = __atomic_load_n(&table[i].ref, __ATOMIC_ACQUIRE);

		if (found == ref || found == HOLD_EMPTY)
			return &table[i];
		i = (i + 1) & (n - 1);
	}
	return NULL;
}

struct hold *hold_lookup(const struct heap *heap, const struct session_entry *entry, uint64_t ref)
{
	struct hold *place = probe(heap, entry, ref);

	/* acquire: as there; another session may put something there, or take it out, at this moment */
	return place && ref != HOLD_EMPTY && __atomic_load_n(&place->ref, __ATOMIC_ACQUIRE) == ref ? place : NULL;
}

struct hold *hold_probe_run(const struct session *session, uint64_t ref)
{
	return probe(session->heap, session->entry, ref);
}

/* ---- another table ----------------------------------------------------------------------------------------------- */

static int new_table_begin(struct session *session, uint64_t n, uint64_t *ret_position1)
{
	struct session_entry *entry = session->entry;
	uint64_t ref;
	int r;

	r = memory_take(
		session, SPACE_RECORDS, n * sizeof(struct hold), 4096, TYPE_HOLDS, STATE_LIVE, RIGHTS_ONE, &ref);
	if (r)
		return r;
	heap_set(session->heap, &entry->new_holds_position1, ref_position(ref) + 1);
	*ret_position1 = ref_position(ref) + 1;
	return 0;
}

/* False where the old table has more holds than its number says, so that they might not fit. */
static bool fill(struct hold *to, uint32_t n_to, const struct hold *from, uint32_t n_from)
{
	uint32_t n = 0;

	memset(to, 0, n_to * sizeof(*to));
	for (uint32_t i = 0; i < n_from; i++) {
		uint32_t j;

		if (from[i].ref == HOLD_EMPTY)
			continue;
		if (++n == n_to)
			return false;
		for (j = hold_slot(from[i].ref, n_to); to[j].ref; j = (j + 1) & (n_to - 1))
			;
		to[j] = from[i];
	}
	return true;
}

static int new_table_finish(struct session *session, uint64_t position1, uint32_t shift)
{
	struct heap *heap = session->heap;
	struct session_entry *entry = session->entry;
	uint64_t old1 = entry->holds_position1;

	heap_set(heap, &entry->holds_position1, position1);
	heap_set(heap, &entry->holds_shift, shift);
	heap_set(heap, &entry->new_holds_position1, 0);
	return old1 ? memory_give(session, old1 - 1) : 0;
}

/* Change to a table of 2^shift entries, or, of HOLDS_INLINE, to the inline one. */
static int change_table(struct session *session, uint32_t shift)
{
	struct session_entry *entry = session->entry;
	uint32_t n_old, n_new = UINT32_C(1) << shift;
	struct hold *old, *new = entry->holds_inline;
	uint64_t position1 = 0;
	int r = 0;

	if (shift > inline_shift()) {
		r = change_begin(session);
		if (r < 0)
			return r;
		r = change_end(session, new_table_begin(session, n_new, &position1));
		if (r)
			return r;
		new = run_table(session->heap, position1 - 1, shift);
	}
	old = hold_table(session->heap, entry, &n_old);
	if (!new || !old || new == old || !fill(new, n_new, old, n_old))
		return -EUCLEAN;
	r = change_begin(session);
	if (r < 0)
		return r;
	return change_end(session, new_table_finish(session, position1, shift));
}

/* The smallest table, other than the inline one, that is at most half full with one hold more. */
static uint32_t shift_for(uint64_t n_holds)
{
	uint32_t shift = inline_shift() + 2; /* a page */

	while (UINT64_C(1) << shift < 2 * (n_holds + 1))
		shift++;
	return shift;
}

int hold_reserve_more(struct session *session)
{
	const struct session_entry *entry = session->entry;
	uint64_t n = entry->holds_position1 ? UINT64_C(1) << (entry->holds_shift & 63) : HOLDS_INLINE;
	uint32_t shift;

	if ((entry->n_holds + 1) * 4 <= n * 3)
		return 0;
	shift = shift_for(entry->n_holds);
	return shift < 32 ? change_table(session, shift) : -ENOMEM;
}

void hold_shrink_run(struct session *session)
{
	const struct session_entry *entry = session->entry;
	uint32_t shift;

	if (!entry->holds_position1 || entry->holds_shift >= 32)
		return;
	if (entry->n_holds && entry->n_holds * SHRINK_AT > UINT64_C(1) << entry->holds_shift)
		return;
	shift = entry->n_holds * 4 < HOLDS_INLINE ? inline_shift() : shift_for(entry->n_holds);
	if (shift < entry->holds_shift)
		(void)change_table(session, shift); /* where it cannot be done now, the next drop tries again */
}

/* ---- holds ------------------------------------------------------------------------------------------------------- */

int hold_add(struct session *session, uint64_t ref, bool *ret_first)
{
	return hold_put(session, hold_probe(session, ref), ref, ret_first);
}

/* Fill the gap at i with what stands behind it and would be found there, and so on: no marks are left behind. */
static void close_gap(struct heap *heap, struct hold *table, uint32_t n, uint32_t i)
{
	uint32_t j = i;

	for (uint32_t n_known = 1; n_known < n; n_known++) {
		uint32_t home;

		j = (j + 1) & (n - 1);
		if (table[j].ref == HOLD_EMPTY)
			break;
		home = hold_slot(table[j].ref, n);
		if (((j - home) & (n - 1)) < ((j - i) & (n - 1))) /* its search begins behind the gap */
			continue;
		heap_set(heap, &table[i].count, table[j].count);
		heap_set(heap, &table[i].ref, table[j].ref);
		i = j;
	}
	heap_set(heap, &table[i].ref, HOLD_EMPTY);
}

bool hold_stands_last_in_run(const struct session *session, const struct hold *hold)
{
	uint32_t n;
	struct hold *table = hold_table(session->heap, session->entry, &n);

	return table && table[(uint32_t)(hold - table + 1) & (n - 1)].ref == HOLD_EMPTY;
}

void hold_take_out(struct session *session, struct hold *hold)
{
	uint32_t n;
	struct hold *table = hold_table(session->heap, session->entry, &n);

	if (table)
		close_gap(session->heap, table, n, (uint32_t)(hold - table));
}

static int free_tables(struct session *session)
{
	struct heap *heap = session->heap;
	struct session_entry *entry = session->entry;
	int r = 0;

	if (entry->holds_position1) /* nobody reads the inline table yet */
		memset(entry->holds_inline, 0, sizeof(entry->holds_inline));
	for (uint32_t i = 0; i < HOLDS_INLINE; i++)
		if (entry->holds_inline[i].ref != HOLD_EMPTY)
			heap_set(heap, &entry->holds_inline[i].ref, HOLD_EMPTY);
	if (entry->new_holds_position1)
		r = memory_give(session, entry->new_holds_position1 - 1);
	if (!r && entry->holds_position1)
		r = memory_give(session, entry->holds_position1 - 1);
	heap_set(heap, &entry->new_holds_position1, 0);
	heap_set(heap, &entry->holds_position1, 0);
	heap_set(heap, &entry->holds_shift, 0);
	heap_set(heap, &entry->n_holds, 0);
	return r;
}

int hold_table_free(struct session *session, bool try)
{
	int r;

	r = try ? change_try_begin(session) : change_begin(session);
	if (r < 0)
		return r;
	return change_end(session, free_tables(session));
}
