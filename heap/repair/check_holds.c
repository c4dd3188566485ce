// SPDX-License-Identifier: MIT
/*
 * What sessions have, counted: hold tables, deferred free lists, objects in the making
 *
 * A hold must be found where its hash says, have a count of at least 1, and name an object that is alive. A record,
 * a dying object and one in the making must each have one owner.
 */

#include "heap/repair/check_holds.h"
#include "heap/change/lock.h"
#include "heap/object/hold.h"
#include "heap/repair/check_count.h"
#include "heap/shared/critical.h"

static void count_dying(struct check *check, uint32_t index, uint64_t *head1)
{
	struct object_header *before = NULL;
	uint64_t position1 = *head1;
	struct object object;

	while (position1) {
		uint64_t position = position1 - 1;

		if (object_locate(check->heap, position, &object) < 0 || header_state(object.word) != STATE_DYING ||
			check_count_right(check, &object) > 1) {
			check_fault(check, "session %u: its dying list is broken at %#llx", index,
				(unsigned long long)position);
			check_mend_word(check, before ? &before->rights : head1, 0);
			return;
		}
		before = object.header;
		position1 = rights_next_dying1(object.header->rights);
	}
}

static void count_making(struct check *check, uint32_t index, uint64_t *position1)
{
	uint64_t position = *position1 - 1;
	struct object object;

	if (!*position1)
		return;
	if (object_locate(check->heap, position, &object) < 0 || header_state(object.word) != STATE_MAKING ||
		check_count_right(check, &object) > 1) {
		check_fault(check, "session %u: is making %#llx, which is not being made for it", index,
			(unsigned long long)position);
		check_mend_word(check, position1, 0);
	}
}

/*
 * A living session stores to its table, and copies it, without the lock. So entries are moved only if the session is
 * the mender itself, or dead.
 */
static bool may_move_holds(const struct check *check, uint32_t index)
{
	return check->mender &&
	       (index == check->mender->index || session_state(&check->heap->sessions[index]) != SESSION_ACTIVE);
}

/* Take an entry out of its table, whatever its count. */
static void take_hold(struct session *owner, struct hold *hold)
{
	heap_set(owner->heap, &hold->count, 1);
	hold_remove(owner, hold);
}

/* Put a hold where it will be found. If the table has the ref there already the counts are added. */
static void mend_misplaced_hold(struct check *check, uint32_t index, struct hold *hold)
{
	struct hold copy = *hold, *other;
	struct session owner;
	bool first;

	session_init(&owner, check->heap, index);
	take_hold(&owner, hold);
	if (hold_add(&owner, copy.ref, &first) == 0) {
		other = hold_find(&owner, copy.ref);
		if (other)
			heap_set(check->heap, &other->how, first ? copy.how : other->how - 1 + copy.count);
	}
	change_commit(check->heap);
}

static void mend_dead_hold(struct check *check, uint32_t index, struct hold *hold)
{
	struct session owner;

	session_init(&owner, check->heap, index);
	take_hold(&owner, hold);
	change_commit(check->heap);
}

/* An uncounted hold must be of an object that is alive, and asked for: see readers.c. */
static bool count_uncounted(struct check *check, uint32_t index, const struct hold *hold)
{
	uint64_t *readers = &check->heap->control->readers[index / 64], bit = UINT64_C(1) << (index & 63);

	if (!(__atomic_load_n(readers, __ATOMIC_RELAXED) & bit)) {
		check_fault(check, "session %u: holds %#llx uncounted, and is not asked for it", index,
			(unsigned long long)hold->ref);
		if (check->mender)
			__atomic_fetch_or(readers, bit, __ATOMIC_SEQ_CST);
	}
	if (check_count_uncounted(check, hold->ref) || check_is_in_flight(check, ref_position(hold->ref)))
		return true;
	check_fault(
		check, "session %u: holds %#llx uncounted, which is not alive", index, (unsigned long long)hold->ref);
	return false;
}

/* Count one entry of a hold table. False: it has gone, and another may be in its place. */
static bool count_hold(struct check *check, uint32_t index, struct hold *hold)
{
	bool may_move = may_move_holds(check, index);

	if (hold_lookup(check->heap, &check->heap->sessions[index], hold->ref) != hold) {
		check_fault(check, "session %u: its hold of %#llx is not found where it is", index,
			(unsigned long long)hold->ref);
		if (may_move) {
			mend_misplaced_hold(check, index, hold);
			return false;
		}
	}
	/* relaxed: the session changes it without the lock */
	if (!__atomic_load_n(&hold->count, __ATOMIC_RELAXED)) {
		check_fault(check, "session %u: holds %#llx 0 times", index, (unsigned long long)hold->ref);
		/* by one store without the log, because a living session stores there too */
		if (check->mender)
			__atomic_store_n(&hold->count, 1, __ATOMIC_RELAXED);
	}
	/* relaxed: as the count */
	if (__atomic_load_n(&hold->is_uncounted, __ATOMIC_RELAXED)
			? count_uncounted(check, index, hold)
			: check_count_ref(check, hold->ref, "a hold of session", index))
		return true;
	if (!may_move)
		return true;
	mend_dead_hold(check, index, hold);
	return false;
}

/* Each entry that is mended shortens the search for those behind it, so this comes to an end. */
static void mend_holds(struct check *check, uint32_t index, struct hold *table, uint32_t n)
{
	uint32_t n_tries = 0;

	for (uint32_t i = 0; i < n && n_tries < n; i++)
		while (table[i].ref != HOLD_EMPTY && n_tries < n &&
			hold_lookup(check->heap, &check->heap->sessions[index], table[i].ref) != &table[i]) {
			mend_misplaced_hold(check, index, &table[i]);
			n_tries++;
		}
}

static void count_holds(struct check *check, uint32_t index, struct hold *table, uint32_t n)
{
	const struct session_entry *entry = &check->heap->sessions[index];
	uint64_t n_holds = 0, n_gone = 0;

	if (may_move_holds(check, index))
		mend_holds(check, index, table, n);
	for (uint32_t i = 0; i < n;) {
		if (table[i].ref == HOLD_EMPTY) {
			i++;
			continue;
		}
		if (!count_hold(check, index, &table[i]) && n_gone++ < n)
			continue;
		n_holds++;
		i++;
	}
	/* relaxed: of a session that is not active */
	if (!critical_was_active(check->heap, index) && n_holds != __atomic_load_n(&entry->n_holds, __ATOMIC_RELAXED) &&
		intent_kind(__atomic_load_n(&entry->intent.word, __ATOMIC_RELAXED)) == INTENT_NONE)
		check_fault(check, "session %u: says that it has %llu holds, it has %llu", index,
			(unsigned long long)entry->n_holds, (unsigned long long)n_holds);
}

/* The table is nowhere: it is lost, and nobody holds what it held. */
static void mend_table(struct check *check, uint32_t index)
{
	struct session_entry *entry = &check->heap->sessions[index];

	if (!may_move_holds(check, index))
		return;
	for (uint32_t i = 0; i < HOLDS_INLINE; i++)
		heap_set(check->heap, &entry->holds_inline[i].ref, HOLD_EMPTY);
	heap_set(check->heap, &entry->holds_position1, 0);
	heap_set(check->heap, &entry->holds_shift, 0);
	heap_set(check->heap, &entry->n_holds, 0);
	change_commit(check->heap);
}

/* Of a session that died between the two changes of a place: the old right, and the entry of a deleted name. */
static void count_displaced(struct check *check, uint32_t index, struct session_entry *entry)
{
	if (entry->displaced && !check_count_ref(check, entry->displaced, "what is displaced by session", index))
		check_mend_word(check, &entry->displaced, 0);
	if (entry->displaced_name1 &&
		!check_count_record(check, entry->displaced_name1 - 1, TYPE_NAME, "the deleted name of session", index))
		check_mend_word(check, &entry->displaced_name1, 0);
}

void check_session(struct check *check, uint32_t index)
{
	struct session_entry *entry = &check->heap->sessions[index];
	uint32_t n;
	struct hold *table = hold_table(check->heap, entry, &n);

	if (!table) {
		check_fault(check, "session %u: its hold table is not there", index);
		mend_table(check, index);
	} else if (entry->holds_position1 && !check_count_record(check, entry->holds_position1 - 1, TYPE_HOLDS,
						     "the hold table of session", index)) {
		mend_table(check, index);
	} else {
		count_holds(check, index, table, n);
	}
	if (entry->new_holds_position1 &&
		!check_count_record(
			check, entry->new_holds_position1 - 1, TYPE_HOLDS, "the new hold table of session", index) &&
		may_move_holds(check, index))
		check_mend_word(check, &entry->new_holds_position1, 0);
	count_displaced(check, index, entry);
	count_dying(check, index, &entry->dying1);
	count_making(check, index, &entry->making1);
}
