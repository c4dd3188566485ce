/* SPDX-License-Identifier: MIT */
/*
 * Rights to objects, counted anew
 *
 * Who has a right to an object is said by hold tables, slots, queue places and names, and for the heap's own records by
 * the session or bucket that leads to them. All of these are walked, and each object's count must be what was found; an
 * object to which nobody was found to have a right has leaked, a right to what is not alive is a fault of its own.
 */

#include "heap/check_walk.h"
#include "heap/hold.h"

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

/* A right that `what` number `of` has to an object that any ref names. */
static void count_ref(struct check *check, uint64_t ref, const char *what, uint64_t of)
{
	struct object object;

	if (object_find(check->heap, ref, &object) < 0)
		check_fault(check, "%s %llu refers to %#llx, which is not alive", what, (unsigned long long)of,
			(unsigned long long)ref);
	else
		count_right(check, &object);
}

/* A right to one of the heap's own records. */
static void count_record(struct check *check, uint64_t position, uint32_t type, const char *what, uint64_t of)
{
	struct object object;

	if (object_locate(check->heap, position, &object) < 0 || object.type != type ||
		header_state(object.header->word) != STATE_LIVE)
		check_fault(check, "%s %llu leads to %#llx, which is no such record", what, (unsigned long long)of,
			(unsigned long long)position);
	else
		count_right(check, &object);
}

/* ---- sessions ---------------------------------------------------------------------------------------------------- */

static void count_dying(struct check *check, uint32_t index, uint64_t position1)
{
	struct object object;

	while (position1) {
		uint64_t position = position1 - 1;

		if (object_locate(check->heap, position, &object) < 0 ||
			header_state(object.header->word) != STATE_DYING || count_right(check, &object) > 1) {
			check_fault(check, "session %u: its dying list is broken at %#llx", index,
				(unsigned long long)position);
			return;
		}
		position1 = header_link(object.header->info);
	}
}

static void count_making(struct check *check, uint32_t index, uint64_t position1)
{
	uint64_t position = position1 - 1;
	struct object object;

	if (!position1)
		return;
	if (object_locate(check->heap, position, &object) < 0 || header_state(object.header->word) != STATE_MAKING)
		check_fault(check, "session %u: is making %#llx, which is not being made", index,
			(unsigned long long)position);
	else
		count_right(check, &object);
}

static void count_session(struct check *check, uint32_t index)
{
	const struct session_entry *entry = &check->heap->sessions[index];
	uint64_t n_holds = 0;
	uint32_t n;
	const struct hold *table = hold_table(check->heap, entry, &n);

	if (!table) {
		check_fault(check, "session %u: its hold table is not there", index);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		if (table[i].ref == HOLD_EMPTY)
			continue;
		n_holds++;
		count_ref(check, table[i].ref, "a hold of session", index);
		if (!table[i].count)
			check_fault(check, "session %u: holds %#llx 0 times", index, (unsigned long long)table[i].ref);
		if (hold_lookup(check->heap, entry, table[i].ref) != &table[i])
			check_fault(check, "session %u: its hold of %#llx is not found where it is", index,
				(unsigned long long)table[i].ref);
	}
	if (n_holds != entry->n_holds)
		check_fault(check, "session %u: says that it has %llu holds, it has %llu", index,
			(unsigned long long)entry->n_holds, (unsigned long long)n_holds);
	if (entry->holds_position1)
		count_record(check, entry->holds_position1 - 1, TYPE_HOLDS, "the hold table of session", index);
	if (entry->new_holds_position1)
		count_record(check, entry->new_holds_position1 - 1, TYPE_HOLDS, "the new hold table of session", index);
	count_dying(check, index, entry->dying1);
	count_making(check, index, entry->making1);
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

static void count_names(struct check *check, uint32_t bucket)
{
	struct heap *heap = check->heap;
	uint64_t hash = 0;

	for (uint64_t position = heap->name_buckets[bucket]; position;) {
		const struct name_entry *entry;
		struct object object;

		if (object_locate(heap, position, &object) < 0 || object.type != TYPE_NAME ||
			header_state(object.header->word) != STATE_LIVE ||
			object.size < offsetof(struct name_entry, name) || count_right(check, &object) > 1) {
			check_fault(check, "name bucket %u is broken at %#llx", bucket, (unsigned long long)position);
			return;
		}
		entry = (const struct name_entry *)(const void *)object.data;
		if (entry->hash >> heap->name_shift != bucket || entry->hash < hash) {
			check_fault(check, "name bucket %u: %#llx does not belong there", bucket,
				(unsigned long long)position);
			return;
		}
		hash = entry->hash;
		count_ref(check, entry->ref, "a name of bucket", bucket);
		check->found.n_names++;
		position = entry->next;
	}
}

/* ---- slots ------------------------------------------------------------------------------------------------------- */

static void count_slots(struct check *check, const struct object *object)
{
	struct type_info type;
	uint32_t state = header_state(object->header->word);
	uint64_t first = object->is_run && state == STATE_DYING ? object->pool->run_n_dropped : 0;

	if (state == STATE_MAKING || object->type == TYPE_HOLDS || object->type == TYPE_NAME)
		return;
	if (type_find(check->heap, object->type, &type) < 0) {
		check_fault(check, "object %#llx is of the unknown type %u", (unsigned long long)object->position,
			object->type);
		return;
	}
	for (uint64_t i = first; i < object_n_slots(object, &type); i++) {
		uint64_t ref = *object_slot(object, &type, i);

		if (ref)
			count_ref(check, ref, "a slot of object", object->position);
	}
}

/* ---- the comparison ---------------------------------------------------------------------------------------------- */

static void compare(struct check *check, const struct object *object)
{
	uint64_t says = header_count(object->header->word);
	uint32_t state = header_state(object->header->word);
	const uint32_t *found = rights_of(check, object);
	unsigned long long position = object->position;

	if (!found)
		return;
	if (state == STATE_LIVE) {
		if (says != *found)
			check_fault(check, "object %#llx: its count is %llu, %u have a right to it", position,
				(unsigned long long)says, *found);
		if (!*found)
			check_fault(check, "object %#llx has leaked: nobody has a right to it", position);
		return;
	}
	if (says)
		check_fault(check, "object %#llx is %s and its count is %llu", position,
			state == STATE_DYING ? "dying" : "being made", (unsigned long long)says);
	if (*found != 1)
		check_fault(check, "object %#llx is %s for %u sessions", position,
			state == STATE_DYING ? "dying" : "being made", *found);
}

void check_rights(struct check *check)
{
	for (uint32_t i = 0; i < check->heap->n_sessions; i++)
		if (check->heap->sessions[i].state != SESSION_FREE)
			count_session(check, i);
	for (uint32_t i = 0; i < check->heap->n_name_buckets; i++)
		count_names(check, i);
	check_each_object(check, count_slots);
	check_each_object(check, compare);
}
