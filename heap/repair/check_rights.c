// SPDX-License-Identifier: MIT
/*
 * Rights to objects, counted anew
 *
 * Rights to an object are in hold tables, slots, cells of queues and names; a record has one, of the session or bucket
 * that leads to it. How often the owner of its pool holds an object is in its own header. All of these are walked
 * (check_count.c counts), and each object's header must say what was found. An object to which nobody has a right has
 * leaked; a right to what is not alive is a fault too.
 *
 * With a mender, each fault is mended when it is met, in a change of its own: rights to what is not alive are taken
 * away, counts become what was found, what has leaked is dropped, and what is dying on no list goes on the mender's.
 */

#include "heap/repair/check_rights.h"
#include "heap/change/lock.h"
#include "heap/memory/memory.h"
#include "heap/object/right.h"
#include "heap/repair/check_count.h"
#include "heap/repair/check_holds.h"
#include "heap/repair/check_queue.h"
#include "heap/shared/critical.h"

/* The rights of a record are always one. */
static bool is_record(const struct object *object)
{
	return object->type == TYPE_HOLDS || object->type == TYPE_NAME;
}

/* Names */

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
			check_count_right(check, &object) > 1) {
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
		if (!check_count_ref(check, entry->ref, "a name of bucket", bucket) && check->mender)
			mend_name(check, link, entry);
		else
			link = &entry->next;
	}
}

/* Slots */

/*
 * What the object held cannot be known, and is counted as nothing. If it is dying it becomes bytes, so that freeing it
 * can go on; else it stays what it is for those who hold it.
 */
static void unknown_type(struct check *check, const struct object *object)
{
	uint64_t word = object->word;

	check_fault(
		check, "object %#llx is of the unknown type %u", (unsigned long long)object->position, object->type);
	if (header_state(word) == STATE_DYING)
		check_mend_word(check, &object->header->word,
			header_live(header_generation(word), TYPE_BYTES, header_size(word), STATE_DYING) |
				header_own(word));
}

static void count_slots(struct check *check, const struct object *object)
{
	struct type_info type;
	uint32_t state = header_state(object->word);
	uint64_t first = state != STATE_DYING ? 0
			 : object->is_run     ? object->pool->run_n_dropped
					      : rights_n_dropped(object->header->rights);

	if (state == STATE_MAKING || (state == STATE_LIVE && is_record(object)))
		return;
	if (type_find(check->heap, object->type, &type) < 0) {
		unknown_type(check, object);
		return;
	}
	for (uint64_t i = first; i < object_n_slots(object, &type); i++) {
		uint64_t *slot = object_slot(object, &type, i);

		if (*slot && !check_count_ref(check, *slot, "a slot of object", object->position) &&
			!check_is_queue_in_flight(check, object->position))
			check_mend_word(check, slot, 0);
	}
	if (object->type == TYPE_QUEUE && state == STATE_LIVE && object->size >= sizeof(struct queue))
		check_queue(check, object);
}

/* The comparison */

/* Does the owner of the pool hold it, or may it be letting go of it? */
static bool owner_has_it(struct check *check, const struct object *object)
{
	uint32_t owner1 = object->pool->owner1;

	if (!owner1 || owner1 > check->heap->n_sessions)
		return false;
	return header_own(header_word(object->header)) || critical_was_active(check->heap, owner1 - 1);
}

/* is_read: somebody holds it uncounted. */
static void mend_live(struct check *check, const struct object *object, uint32_t found, bool is_read)
{
	struct heap *heap = check->heap;
	bool is_shared = (found && !is_record(object)) || is_read || rights_are_shared(object->header->rights);
	bool is_owned = owner_has_it(check, object);
	uint64_t rights = found * (uint64_t)RIGHTS_ONE | (is_shared ? RIGHTS_SHARED : 0);

	if (is_read && !found && !is_owned)
		rights = rights_with_bias(RIGHTS_ONE | RIGHTS_SHARED, BIAS_UNCOUNTED);
	else if (is_read || rights_are_for_readers(object->header->rights))
		rights = rights_with_bias(rights, BIAS_READERS);
	heap_set(heap, &object->header->rights, rights);
	if (!is_owned) {
		if (header_own(header_word(object->header)))
			heap_set(heap, &object->header->word, object->header->word & ~OWN_HOLDS_MAX);
		if (!found && !is_read)
			right_end(check->mender, object);
	}
	change_commit(heap);
}

/* Dying or in the making, and on no session's list: it goes to the mender. */
static void mend_orphan(struct check *check, const struct object *object, uint32_t state)
{
	struct heap *heap = check->heap;
	struct session_entry *entry = check->mender->entry;

	if (state == STATE_MAKING) {
		memory_give(check->mender, object->position);
	} else {
		heap_set(heap, &object->header->rights,
			rights_with_n_dropped(
				rights_of_dying(entry->dying1), rights_n_dropped(object->header->rights)));
		heap_set(heap, &entry->dying1, object->position + 1);
	}
	change_commit(heap);
}

/* Uncounted holds, and what the header must say where there are some. */
static bool compare_uncounted(struct check *check, const struct object *object, uint32_t found, bool is_read)
{
	uint32_t biased1 = rights_biased1(object->header->rights);
	unsigned long long position = object->position;

	if (is_read && biased1 < BIAS_UNCOUNTED) {
		check_fault(check, "object %#llx: is held uncounted and not marked for readers", position);
		return false;
	}
	if (biased1 == BIAS_UNCOUNTED && (found || !is_read)) {
		check_fault(check, "object %#llx: its right stands for uncounted holds, which are not all", position);
		return false;
	}
	return true;
}

static void compare_live(struct check *check, const struct object *object, uint32_t found_all)
{
	uint32_t found = found_all & ~COUNT_IS_UNCOUNTED;
	bool is_read = found_all & COUNT_IS_UNCOUNTED;
	bool is_last = rights_biased1(object->header->rights) == BIAS_UNCOUNTED;
	uint64_t says = rights_count(object->header->rights) - is_last;
	bool is_owned = owner_has_it(check, object);
	unsigned long long position = object->position;
	bool is_wrong = says != found;

	if (check_is_in_flight(check, object->position))
		return;
	is_wrong |= !compare_uncounted(check, object, found, is_read);
	if (says != found)
		check_fault(check, "object %#llx: its count is %llu, %u have a right to it", position,
			(unsigned long long)says, found);
	if (found && !is_record(object) && !rights_are_shared(object->header->rights)) {
		check_fault(check, "object %#llx: others have a right to it and it is not marked as shared", position);
		is_wrong = true;
	}
	if (header_own(header_word(object->header)) && !is_owned) {
		check_fault(check, "object %#llx: is held by the owner of its pool, which has none", position);
		is_wrong = true;
	}
	if (!found && !is_owned && !is_last) {
		check_fault(check, "object %#llx has leaked: nobody has a right to it", position);
		is_wrong = true;
	}
	if (check->mender && is_wrong)
		mend_live(check, object, found, is_read);
}

static void compare(struct check *check, const struct object *object)
{
	uint32_t state = header_state(object->word);
	const char *what = state == STATE_DYING ? "dying" : "being made";
	const uint32_t *found = check_count_of(check, object);
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
		check_mend_word(check, &object->header->rights, 0);
	}
	if (check->mender && header_own(object->word))
		check_mend_word(check, &object->header->word, object->word & ~OWN_HOLDS_MAX);
	if (check->mender && !*found)
		mend_orphan(check, object, state);
}

/* A session between two changes of its own (queue_locked.c) has the right in its intent, and nowhere else. */
static void count_intent(struct check *check, uint32_t index)
{
	const struct session_entry *entry = &check->heap->sessions[index];

	/* acquire: with intent_store() */
	if (intent_kind(__atomic_load_n(&entry->intent.word, __ATOMIC_ACQUIRE)) == INTENT_RIGHT &&
		!critical_was_active(check->heap, index))
		check_count_ref(check, entry->intent.ref, "what is pushed by session", index);
}

void check_rights(struct check *check)
{
	for (uint32_t i = 0; i < check->heap->n_sessions; i++)
		if (session_state(&check->heap->sessions[i]) != SESSION_FREE) {
			count_intent(check, i);
			check_session(check, i);
		}
	for (uint32_t i = 0; i < check->heap->n_name_buckets; i++)
		count_names(check, i);
	check_each_object(check, count_slots);
	check_each_object(check, compare);
}
