/* SPDX-License-Identifier: MIT */
/*
 * Rights to objects, counted anew
 *
 * Who has a right to an object is said by hold tables, slots, queue places and names, and for the heap's own records by
 * the session or bucket that leads to them; how often the owner of its pool holds it, by its own header. All of these
 * are walked, and each object's count must be what was found; an object to which nobody was found to have a right has
 * leaked, a right to what is not alive is a fault of its own.
 *
 * With a mender each such fault is mended when it is met, by a change of its own under the lock that the walk has:
 * rights to what is not alive are taken away, counts become what was found, what has leaked is dropped, what is dying
 * on nobody's list goes on the mender's.
 */

#include "heap/memory/memory.h"
#include "heap/object/hold.h"
#include "heap/repair/check_walk.h"
#include "heap/shared/critical.h"

#include <stdlib.h>

/* Where the rights of the object are counted; NULL: no memory, and said so. */
static uint32_t *rights_of(struct check *check, const struct object *object)
{
	uint64_t p = (uint64_t)(object->pool - check->heap->pools);
	uint32_t n = object->is_run ? 1 : class_pool_blocks(object->pool->size_class);
	struct object_header *headers;

	if (!check->rights[p])
		check->rights[p] = calloc(n, sizeof(uint32_t));
	if (!check->rights[p]) {
		check->out_of_memory = true;
		return NULL;
	}
	headers = (struct object_header *)(void *)(check->heap->base + (p << POOL_SHIFT));
	return check->rights[p] + (object->is_run ? 0 : object->header - headers);
}

/* Returns how many have been found so far. */
static uint32_t count_right(struct check *check, const struct object *object)
{
	uint32_t *n = rights_of(check, object);

	return n ? ++*n : UINT32_MAX;
}

static bool is_in_flight(const struct check *check, uint64_t position)
{
	for (uint32_t i = 0; i < check->n_in_flight; i++)
		if (ref_position(check->in_flight[i].ref) == position)
			return true;
	return false;
}

/* A right that `what` number `of` has to an object that any ref names. False: it is not alive. */
static bool count_ref(struct check *check, uint64_t ref, const char *what, uint64_t of)
{
	struct object object;

	if (object_match(check->heap, ref, &object) < 0) {
		if (is_in_flight(check, ref_position(ref))) /* it is being dropped */
			return true;
		check_fault(check, "%s %llu refers to %#llx, which is not alive", what, (unsigned long long)of,
			(unsigned long long)ref);
		return false;
	}
	count_right(check, &object);
	return true;
}

/* Mend by storing one word, as a change of its own. */
static void mend_word(struct check *check, uint64_t *word, uint64_t value)
{
	if (!check->mender)
		return;
	heap_set(check->heap, word, value);
	change_commit(check->heap);
}

/* A right to one of the heap's own records. False: there is none. */
static bool count_record(struct check *check, uint64_t position, uint32_t type, const char *what, uint64_t of)
{
	struct object object;

	if (object_locate(check->heap, position, &object) < 0 || object.type != type ||
		header_state(object.word) != STATE_LIVE) {
		check_fault(check, "%s %llu leads to %#llx, which is no such record", what, (unsigned long long)of,
			(unsigned long long)position);
		return false;
	}
	count_right(check, &object);
	return true;
}

/* A record's second word is nothing but its one right. */
static bool is_record(const struct object *object)
{
	return object->type == TYPE_HOLDS || object->type == TYPE_NAME;
}

/* ---- intents ----------------------------------------------------------------------------------------------------- */

/*
 * A session that was stopped or died while it was changing a queue, or holding or dropping something, or is about to:
 * of the right in question it cannot be told where it is, of the queue it cannot be told whether it changes at this
 * moment. Both are left alone until it is through, or cleared up. The intent is complete before the session goes
 * inside, so each that goes on meanwhile is among these.
 */
void check_note_in_flight(struct check *check)
{
	check->n_in_flight = 0;
	for (uint32_t i = 0; i < check->heap->n_sessions; i++) {
		const struct session_entry *entry = &check->heap->sessions[i];
		/* acquire: with intent_store() */
		uint32_t kind = intent_kind(__atomic_load_n(&entry->intent.word, __ATOMIC_ACQUIRE));

		if (session_state(entry) == SESSION_FREE || kind == INTENT_NONE)
			continue;
		if (kind != INTENT_RIGHT || critical_was_active(check->heap, i))
			check->in_flight[check->n_in_flight++] = (struct doubt){
				entry->intent.ref, intent_is_count(kind) ? entry->intent.ref : entry->intent.queue};
	}
}

bool check_pool_is_in_flight(const struct check *check, uint32_t p)
{
	for (uint32_t i = 0; i < check->n_in_flight; i++)
		if (ref_position(check->in_flight[i].ref) >> (POOL_SHIFT - 3) == p)
			return true;
	return false;
}

static bool is_queue_in_flight(const struct check *check, uint64_t position)
{
	for (uint32_t i = 0; i < check->n_in_flight; i++)
		if (ref_position(check->in_flight[i].queue) == position)
			return true;
	return false;
}

/* ---- sessions ---------------------------------------------------------------------------------------------------- */

static void count_dying(struct check *check, uint32_t index, uint64_t *head1)
{
	struct object_header *before = NULL;
	uint64_t position1 = *head1;
	struct object object;

	while (position1) {
		uint64_t position = position1 - 1;

		if (object_locate(check->heap, position, &object) < 0 || header_state(object.word) != STATE_DYING ||
			count_right(check, &object) > 1) {
			check_fault(check, "session %u: its dying list is broken at %#llx", index,
				(unsigned long long)position);
			mend_word(check, before ? &before->rights : head1, 0);
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
		count_right(check, &object) > 1) {
		check_fault(check, "session %u: is making %#llx, which is not being made for it", index,
			(unsigned long long)position);
		mend_word(check, position1, 0);
	}
}

/*
 * A living session stores to its table, and copies it, without the lock: entries of another's are not moved under its
 * hands. They are mended when the session does it itself, or is dead.
 */
static bool may_move_holds(const struct check *check, uint32_t index)
{
	return check->mender &&
	       (index == check->mender->index || session_state(&check->heap->sessions[index]) != SESSION_ACTIVE);
}

/* Take an entry out of its table, whatever it counts. */
static void take_hold(struct session *owner, struct hold *hold)
{
	heap_set(owner->heap, &hold->count, 1);
	hold_remove(owner, hold);
}

/* Put a hold where it will be found; what the table has of the same ref already goes into it. */
static void mend_misplaced_hold(struct check *check, uint32_t index, struct hold *hold)
{
	struct hold copy = *hold, *other;
	struct session owner;
	bool first;

	session_init(&owner, check->heap, index);
	take_hold(&owner, hold);
	if (hold_add(&owner, copy.ref, &first) == 0) {
		other = hold_find(&owner, copy.ref);
		heap_set(check->heap, &other->count, first ? copy.count : other->count - 1 + copy.count);
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

/* One entry of a hold table. False: it is no longer there, another may be in its place. */
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
		/* One store, without the log: a living session stores there too. */
		if (check->mender)
			__atomic_store_n(&hold->count, 1, __ATOMIC_RELAXED);
	}
	if (count_ref(check, hold->ref, "a hold of session", index) || !may_move)
		return true;
	mend_dead_hold(check, index, hold);
	return false;
}

/* Mending an entry shortens what stands behind it, so going over the table again and again comes to an end. */
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
	uint64_t n_holds = 0;

	if (may_move_holds(check, index))
		mend_holds(check, index, table, n);
	for (uint32_t i = 0; i < n;) {
		if (table[i].ref == HOLD_EMPTY) {
			i++;
			continue;
		}
		if (!count_hold(check, index, &table[i]))
			continue;
		n_holds++;
		i++;
	}
	/* relaxed: of one that was out */
	if (!critical_was_active(check->heap, index) && n_holds != __atomic_load_n(&entry->n_holds, __ATOMIC_RELAXED) &&
		intent_kind(__atomic_load_n(&entry->intent.word, __ATOMIC_RELAXED)) == INTENT_NONE)
		check_fault(check, "session %u: says that it has %llu holds, it has %llu", index,
			(unsigned long long)entry->n_holds, (unsigned long long)n_holds);
}

/* A table that is nowhere is lost: what it held, nobody holds. */
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

static void count_session(struct check *check, uint32_t index)
{
	struct session_entry *entry = &check->heap->sessions[index];
	uint32_t n;
	struct hold *table = hold_table(check->heap, entry, &n);

	if (!table) {
		check_fault(check, "session %u: its hold table is not there", index);
		mend_table(check, index);
	} else if (entry->holds_position1 &&
		   !count_record(check, entry->holds_position1 - 1, TYPE_HOLDS, "the hold table of session", index)) {
		mend_table(check, index);
	} else {
		count_holds(check, index, table, n);
	}
	if (entry->new_holds_position1 &&
		!count_record(
			check, entry->new_holds_position1 - 1, TYPE_HOLDS, "the new hold table of session", index) &&
		may_move_holds(check, index))
		mend_word(check, &entry->new_holds_position1, 0);
	count_dying(check, index, &entry->dying1);
	count_making(check, index, &entry->making1);
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

static void mend_name(struct check *check, uint64_t *link, const struct name_entry *entry)
{
	uint64_t position = *link;

	heap_set(check->heap, link, entry->next);
	heap_add(check->heap, &check->heap->control->counters.n_names, -1);
	memory_give(check->mender, position);
	change_commit(check->heap);
}

static void count_names(struct check *check, uint32_t bucket)
{
	struct heap *heap = check->heap;
	uint64_t hash = 0, *link = &heap->name_buckets[bucket];

	while (*link) {
		struct name_entry *entry;
		struct object object;

		if (object_locate(heap, *link, &object) < 0 || object.type != TYPE_NAME ||
			header_state(object.word) != STATE_LIVE || object.size < offsetof(struct name_entry, name) ||
			count_right(check, &object) > 1) {
			check_fault(check, "name bucket %u is broken at %#llx", bucket, (unsigned long long)*link);
			return;
		}
		entry = (struct name_entry *)(void *)object.data;
		if (entry->hash >> heap->name_shift != bucket || entry->hash < hash) {
			check_fault(check, "name bucket %u: %#llx does not belong there", bucket,
				(unsigned long long)*link);
			return;
		}
		hash = entry->hash;
		check->found.n_names++;
		if (!count_ref(check, entry->ref, "a name of bucket", bucket) && check->mender)
			mend_name(check, link, entry);
		else
			link = &entry->next;
	}
}

/* ---- slots ------------------------------------------------------------------------------------------------------- */

/* Where the position lies that a place has or waits for: so many from *head on; less than 0: it lies before it. */
static int64_t cell_after_head(const struct queue *queue, uint64_t n, uint64_t i)
{
	uint64_t position = queue->head + (i + n - queue->head % n) % n;
	int64_t ahead =
		(int64_t)((queue->cells[i].stamp + i - position) << (64 - CELL_LAP_BITS)) >> (64 - CELL_LAP_BITS);

	return (int64_t)(position - queue->head) + ahead;
}

/*
 * The places have n positions that follow each other, the first of them are filled, and neither head nor tail is ahead
 * of what they say.
 */
static bool is_queue_whole(const struct queue *queue, uint64_t n)
{
	int64_t first = INT64_MAX, count = 0;

	if (queue->n == 0)
		return queue->head == 0 && queue->tail == 0; /* being made */
	if (queue->n != n)
		return false;
	for (uint64_t i = 0; i < n; i++) {
		int64_t at = cell_after_head(queue, n, i);

		first = at < first ? at : first;
		count += queue->cells[i].ref != 0;
	}
	if (first < 0 || (int64_t)(queue->tail - queue->head) > first + count)
		return false;
	for (uint64_t i = 0; i < n; i++) {
		int64_t at = cell_after_head(queue, n, i);

		if (at - first >= (int64_t)n || (at - first < count) != (queue->cells[i].ref != 0) ||
			((uint64_t)at + queue->head) % n != i)
			return false;
	}
	return true;
}

/* Where the first of what is in it lies: the first filled place behind an empty one or, where all are filled, the one
 * that says that it was filled before all others. */
static uint64_t first_cell(const struct queue *queue, uint64_t n)
{
	uint64_t first = 0;

	for (uint64_t i = 0; i < n; i++) {
		if (queue->cells[i].ref && !queue->cells[(i + n - 1) % n].ref)
			return i;
		if (cell_after_head(queue, n, i) < cell_after_head(queue, n, first))
			first = i;
	}
	return first;
}

/* What stands behind gaps moves up, one change each, and positions begin anew. Nobody is in the middle of changing it.
 */
static void mend_queue(struct check *check, struct queue *queue, uint64_t n)
{
	struct heap *heap = check->heap;
	uint64_t first = first_cell(queue, n), count = 0, lap = 0;

	/* None that was there before: who looked at a place before the mending finds it changed. */
	for (uint64_t i = 0; i < n; i++)
		if ((queue->cells[i].stamp & CELL_LAP_MASK) > lap)
			lap = queue->cells[i].stamp & CELL_LAP_MASK;
	lap = (lap / n + 1) * n < CELL_LAP_MASK / 2 ? (lap / n + 1) * n : 0;
	heap_set(heap, &queue->n, n);
	heap_set(heap, &queue->head, lap + first);
	for (uint64_t i = 0; i < n; i++) {
		struct cell *from = &queue->cells[(first + i) % n], *to = &queue->cells[(first + count) % n];

		heap_set(heap, &from->stamp, first + i < n ? lap : lap + n);
		if (from->ref && from != to) {
			heap_set(heap, &to->ref, from->ref);
			heap_set(heap, &from->ref, 0);
		}
		count += to->ref != 0;
		change_commit(heap);
	}
	heap_set(heap, &queue->tail, lap + first + count);
	change_commit(heap);
}

static void check_queue(struct check *check, const struct object *object)
{
	struct queue *queue = (struct queue *)(void *)object->data;
	uint64_t n = (object->size - sizeof(*queue)) / sizeof(struct cell);

	if (is_queue_in_flight(check, object->position) || is_queue_whole(queue, n))
		return;
	check_fault(check, "queue %#llx: its head and tail are not those of its places",
		(unsigned long long)object->position);
	if (check->mender)
		mend_queue(check, queue, n);
}

/*
 * What it held cannot be told, and is counted as if it held nothing. One that is dying becomes plain bytes, so that
 * nobody is kept from taking it down; else it stays what it is for those who hold it.
 */
static void unknown_type(struct check *check, const struct object *object)
{
	uint64_t word = object->word;

	check_fault(
		check, "object %#llx is of the unknown type %u", (unsigned long long)object->position, object->type);
	if (header_state(word) == STATE_DYING)
		mend_word(check, &object->header->word,
			header_live(header_generation(word), TYPE_BYTES, header_size(word), STATE_DYING) |
				header_own(word));
}

static void count_slots(struct check *check, const struct object *object)
{
	struct type_info type;
	uint32_t state = header_state(object->word);
	uint64_t first = object->is_run && state == STATE_DYING ? object->pool->run_n_dropped : 0;

	if (state == STATE_MAKING || (state == STATE_LIVE && is_record(object)))
		return;
	if (type_find(check->heap, object->type, &type) < 0) {
		unknown_type(check, object);
		return;
	}
	for (uint64_t i = first; i < object_n_slots(object, &type); i++) {
		uint64_t *slot = object_slot(object, &type, i);

		if (*slot && !count_ref(check, *slot, "a slot of object", object->position) &&
			!is_queue_in_flight(check, object->position))
			mend_word(check, slot, 0);
	}
	if (object->type == TYPE_QUEUE && state == STATE_LIVE && object->size >= sizeof(struct queue))
		check_queue(check, object);
}

/* ---- the comparison ---------------------------------------------------------------------------------------------- */

/* Does the session that owns its pool hold it, or may it be about to give it up? */
static bool owner_has_it(struct check *check, const struct object *object)
{
	uint32_t owner1 = object->pool->owner1;

	if (!owner1 || owner1 > check->heap->n_sessions)
		return false;
	return header_own(header_word(object->header)) || critical_was_active(check->heap, owner1 - 1);
}

static void mend_live(struct check *check, const struct object *object, uint32_t found)
{
	struct heap *heap = check->heap;
	bool is_shared = (found && !is_record(object)) || rights_are_shared(object->header->rights);

	heap_set(heap, &object->header->rights, found * (uint64_t)RIGHTS_ONE | (is_shared ? RIGHTS_SHARED : 0));
	if (!owner_has_it(check, object)) {
		if (header_own(header_word(object->header)))
			heap_set(heap, &object->header->word, object->header->word & ~OWN_HOLDS_MAX);
		if (!found)
			object_end(check->mender, object);
	}
	change_commit(heap);
}

/* Dying or being made, for nobody: it goes to the mender. */
static void mend_orphan(struct check *check, const struct object *object, uint32_t state)
{
	struct heap *heap = check->heap;
	struct session_entry *entry = check->mender->entry;

	if (state == STATE_MAKING) {
		memory_give(check->mender, object->position);
	} else {
		heap_set(heap, &object->header->rights, rights_of_dying(entry->dying1));
		heap_set(heap, &entry->dying1, object->position + 1);
	}
	change_commit(heap);
}

static void compare_live(struct check *check, const struct object *object, uint32_t found)
{
	uint64_t says = rights_count(object->header->rights);
	bool is_owned = owner_has_it(check, object);
	unsigned long long position = object->position;
	bool is_wrong = says != found;

	if (is_in_flight(check, object->position))
		return;
	if (says != found)
		check_fault(check, "object %#llx: its count is %llu, %u have a right to it", position,
			(unsigned long long)says, found);
	if (found && !is_record(object) && !rights_are_shared(object->header->rights)) {
		check_fault(check, "object %#llx: others have a right to it and its owner is not told", position);
		is_wrong = true;
	}
	if (header_own(header_word(object->header)) && !is_owned) {
		check_fault(check, "object %#llx: is held by the owner of its pool, which has none", position);
		is_wrong = true;
	}
	if (!found && !is_owned) {
		check_fault(check, "object %#llx has leaked: nobody has a right to it", position);
		is_wrong = true;
	}
	if (check->mender && is_wrong)
		mend_live(check, object, found);
}

static void compare(struct check *check, const struct object *object)
{
	uint32_t state = header_state(object->word);
	const char *what = state == STATE_DYING ? "dying" : "being made";
	const uint32_t *found = rights_of(check, object);
	unsigned long long position = object->position;

	if (!found)
		return;
	if (state == STATE_LIVE) {
		compare_live(check, object, *found);
		return;
	}
	if (header_own(object->word))
		check_fault(check, "object %#llx is %s and its pool's owner holds it", position, what);
	if (*found != 1)
		check_fault(check, "object %#llx is %s for %u sessions", position, what, *found);
	if (state == STATE_MAKING && object->header->rights) {
		check_fault(check, "object %#llx is being made and somebody has a right to it", position);
		mend_word(check, &object->header->rights, 0);
	}
	if (check->mender && header_own(object->word))
		mend_word(check, &object->header->word, object->word & ~OWN_HOLDS_MAX);
	if (check->mender && !*found)
		mend_orphan(check, object, state);
}

/* Who is between two changes of its own, under the lock: the right is nowhere else. */
static void count_intent(struct check *check, uint32_t index)
{
	const struct session_entry *entry = &check->heap->sessions[index];

	/* acquire: with intent_store() */
	if (intent_kind(__atomic_load_n(&entry->intent.word, __ATOMIC_ACQUIRE)) == INTENT_RIGHT &&
		!critical_was_active(check->heap, index))
		count_ref(check, entry->intent.ref, "what is pushed by session", index);
}

void check_rights(struct check *check)
{
	for (uint32_t i = 0; i < check->heap->n_sessions; i++)
		if (session_state(&check->heap->sessions[i]) != SESSION_FREE) {
			count_intent(check, i);
			count_session(check, i);
		}
	for (uint32_t i = 0; i < check->heap->n_name_buckets; i++)
		count_names(check, i);
	check_each_object(check, count_slots);
	check_each_object(check, compare);
}
