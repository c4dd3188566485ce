// SPDX-License-Identifier: MIT
/*
 * Hold tables: which objects a session holds, and how often
 *
 * Each session has a hash table of refs and counts, with linear probing. The first HOLDS_INLINE entries are in its
 * entry of the control segment; a larger table is a run of SPACE_RECORDS. A table is at most three quarters full. A
 * removed hold leaves no mark: the entries behind it move up.
 *
 * An uncounted hold is in the table alone: the object's header does not count it (readers.c).
 *
 * Only the session changes its table. The first hold of an object and the last one change the object's count too: both
 * in one change under the lock, or without the lock by an intent (count.c). Further holds are one store. A hold that
 * goes to a queue or comes from one changes no count: it is one store, by an intent (queue.c).
 *
 * A table of any length is replaced by another one without holding the lock while it is copied. One change allocates
 * the new table and writes its position down (new_holds_position1). It is filled by plain stores, since nobody reads
 * it. A second change puts it in the place of the old one. If the session dies in between, the old table is still the
 * truth, and the daemon frees both.
 */

#include "heap/object/hold.h"
#include "heap/change/lock.h"
#include "heap/memory/memory.h"
#include "heap/memory/pool.h"

#include <errno.h>
#include <string.h>

#define SHRINK_AT 8U /* a table of which less than an eighth is used becomes smaller */

static uint32_t inline_shift(void)
{
	return 31U - (uint32_t)__builtin_clz(HOLDS_INLINE);
}

static struct hold *run_table(const struct heap *heap, uint64_t position, uint32_t shift)
{
	uint64_t off = position << 3;
	uint64_t size = sizeof(struct hold) << (shift & 31);

	/* A table of one entry has no bits for hold_slot(). */
	if (!shift || shift > 31 || off & (POOL_SIZE - 1) || off >= heap->heap_size || size > heap->heap_size - off)
		return NULL;
	/* A client has the whole window mapped, so it may be content with the first arena: it asks often. */
	if (!pools_are_there(heap, off, heap->heap_fd < 0 ? 1 : size))
		return NULL;
	return (struct hold *)(void *)(heap->base + off);
}

struct hold *hold_table(const struct heap *heap, const struct session_entry *entry, uint32_t *ret_n)
{
	/* relaxed, both, and once: they may be damaged, and then anybody's to change */
	uint64_t position1 = __atomic_load_n(&entry->holds_position1, __ATOMIC_RELAXED);
	uint32_t shift = __atomic_load_n(&entry->holds_shift, __ATOMIC_RELAXED);
	struct hold *table;

	if (!position1) {
		*ret_n = HOLDS_INLINE;
		return (struct hold *)(uintptr_t)entry->holds_inline;
	}
	table = run_table(heap, position1 - 1, shift);
	*ret_n = table ? UINT32_C(1) << shift : 0;
	return table;
}

/* See hold_probe(), for any session's table. NULL: the table is damaged or full. */
static struct hold *probe(const struct heap *heap, const struct session_entry *entry, uint64_t ref)
{
	uint32_t n, i, n_known;
	struct hold *table = hold_table(heap, entry, &n);

	if (!table)
		return NULL;
	i = hold_slot(ref, n);
	for (n_known = 0; n_known < n; n_known++) {
		/* acquire: with hold_put_fast() of another session */
		uint64_t found = __atomic_load_n(&table[i].ref, __ATOMIC_ACQUIRE);

		if (found == ref || found == HOLD_EMPTY)
			return &table[i];
		i = (i + 1) & (n - 1);
	}
	return NULL;
}

struct hold *hold_lookup(const struct heap *heap, const struct session_entry *entry, uint64_t ref)
{
	struct hold *hold = probe(heap, entry, ref);

	/* acquire: as in probe(). Another session may be putting a hold in, or taking it out. */
	return hold && ref != HOLD_EMPTY && __atomic_load_n(&hold->ref, __ATOMIC_ACQUIRE) == ref ? hold : NULL;
}

struct hold *hold_probe_run(const struct session *session, uint64_t ref)
{
	return probe(session->heap, session->entry, ref);
}

/* Another table */

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

/* False: the old table has more holds than n_holds says, and they might not fit. */
static bool fill(struct hold *to, uint32_t n_to, const struct hold *from, uint32_t n_from)
{
	uint32_t n = 0;

	memset(to, 0, n_to * sizeof(*to));
	for (uint32_t i = 0; i < n_from; i++) {
		uint64_t ref = __atomic_load_n(&from[i].ref, __ATOMIC_RELAXED);
		uint32_t j, n_passed = 0;

		if (ref == HOLD_EMPTY)
			continue;
		if (++n == n_to)
			return false;
		for (j = hold_slot(ref, n_to); to[j].ref; j = (j + 1) & (n_to - 1))
			if (++n_passed > n) /* only a stray write can have put more there */
				return false;
		to[j] = (struct hold){.ref = ref, .how = read_once(from[i].how)};
	}
	return true;
}

static int new_table_finish(struct session *session, uint64_t position1, uint32_t shift)
{
	struct heap *heap = session->heap;
	struct session_entry *entry = session->entry;
	uint64_t old1 = read_once(entry->holds_position1);

	heap_set(heap, &entry->holds_position1, position1);
	heap_set(heap, &entry->holds_shift, shift);
	heap_set(heap, &entry->new_holds_position1, 0);
	return old1 ? memory_give(session, old1 - 1) : 0;
}

/* Change to a table of 2^shift entries; of HOLDS_INLINE entries: to the inline table. */
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

/* log2 of the smallest table, other than the inline one, that one more hold fills by half at most */
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
	uint64_t n_holds = __atomic_load_n(&entry->n_holds, __ATOMIC_RELAXED);
	uint32_t shift, n;

	if (!hold_table(session->heap, entry, &n) || n_holds > n)
		return -EUCLEAN; /* a stray write: no table has more holds than entries */
	if ((n_holds + 1) * 4 <= n * UINT64_C(3))
		return 0;
	shift = shift_for(n_holds);
	return shift < 32 ? change_table(session, shift) : -ENOMEM;
}

void hold_shrink_run(struct session *session)
{
	const struct session_entry *entry = session->entry;
	uint64_t n_holds = __atomic_load_n(&entry->n_holds, __ATOMIC_RELAXED);
	uint32_t old_shift = __atomic_load_n(&entry->holds_shift, __ATOMIC_RELAXED), shift;

	if (!entry->holds_position1 || old_shift >= 32 || n_holds > UINT32_MAX)
		return;
	if (n_holds && n_holds * SHRINK_AT > UINT64_C(1) << old_shift)
		return;
	shift = n_holds * 4 < HOLDS_INLINE ? inline_shift() : shift_for(n_holds);
	if (shift < old_shift)
		(void)change_table(session, shift); /* if it fails, the next drop tries again */
}

/* Holds */

int hold_add(struct session *session, uint64_t ref, bool *ret_first)
{
	return hold_put(session, hold_probe(session, ref), ref, ret_first);
}

/* Fill the gap at i with the next entry whose search would pass i, then the gap that this one leaves, and so on. */
static void close_gap(struct heap *heap, struct hold *table, uint32_t n, uint32_t i)
{
	uint32_t j = i;

	for (uint32_t n_known = 1; n_known < n; n_known++) {
		uint64_t ref = __atomic_load_n(&table[(j + 1) & (n - 1)].ref, __ATOMIC_RELAXED);
		uint32_t home;

		j = (j + 1) & (n - 1);
		if (ref == HOLD_EMPTY)
			break;
		home = hold_slot(ref, n);
		if (((j - home) & (n - 1)) < ((j - i) & (n - 1))) /* its search begins behind the gap */
			continue;
		heap_set(heap, &table[i].how, read_once(table[j].how));
		heap_set(heap, &table[i].ref, ref);
		i = j;
	}
	heap_set(heap, &table[i].ref, HOLD_EMPTY);
}

bool hold_stands_last_in_run(const struct session *session, const struct hold *hold)
{
	uint32_t n;
	struct hold *table = hold_table(session->heap, session->entry, &n);

	return table && read_once(table[(uint32_t)(hold - table + 1) & (n - 1)].ref) == HOLD_EMPTY;
}

void hold_take_out(struct session *session, struct hold *hold)
{
	uint32_t n;
	struct hold *table = hold_table(session->heap, session->entry, &n);

	/* elsewhere: the table's position was changed by a stray write */
	if (table && hold >= table && hold < table + n)
		close_gap(session->heap, table, n, (uint32_t)(hold - table));
	else
		heap_set(session->heap, &hold->ref, HOLD_EMPTY);
}

static int free_tables(struct session *session)
{
	struct heap *heap = session->heap;
	struct session_entry *entry = session->entry;
	uint64_t old1 = read_once(entry->holds_position1), new1 = read_once(entry->new_holds_position1);
	int r = 0;

	if (old1) /* nobody reads the inline table now */
		memset(entry->holds_inline, 0, sizeof(entry->holds_inline));
	for (uint32_t i = 0; i < HOLDS_INLINE; i++)
		if (read_once(entry->holds_inline[i].ref) != HOLD_EMPTY)
			heap_set(heap, &entry->holds_inline[i].ref, HOLD_EMPTY);
	if (new1)
		r = memory_give(session, new1 - 1);
	if (!r && old1)
		r = memory_give(session, old1 - 1);
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
