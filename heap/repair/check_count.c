// SPDX-License-Identifier: MIT
/*
 * Rights, counted where they are found
 *
 * One count per object, raised for each hold, slot, cell of a queue, name and list that leads to it. check_rights.c
 * compares it with the object's header at the end.
 */

#include "heap/repair/check_count.h"
#include "heap/change/lock.h"
#include "heap/shared/critical.h"

#include <stdlib.h>

/*
 * The count of an object. NULL: no memory, which is noted. A pool's counts begin with their number: a stray write may
 * make the pool one of another class while it is counted.
 */
uint32_t *check_count_of(struct check *check, const struct object *object)
{
	uint64_t p = (uint64_t)(object->pool - check->heap->pools);
	uint32_t n = object->is_run ? 1 : class_shapes[pool_class_of(object->pool)].n_blocks, i = 0;
	struct object_header *headers = (void *)(check->heap->base + (p << POOL_SHIFT));

	if (!check->rights[p]) {
		check->rights[p] = calloc(1 + n, sizeof(uint32_t));
		if (!check->rights[p]) {
			check->out_of_memory = true;
			return NULL;
		}
		check->rights[p][0] = n;
	}
	if (!object->is_run)
		i = (uint32_t)(object->header - headers);
	return i < check->rights[p][0] ? &check->rights[p][1 + i] : &check->nowhere;
}

bool check_count_uncounted(struct check *check, uint64_t ref)
{
	struct object object;
	uint32_t *n;

	if (object_match(check->heap, ref, &object) < 0)
		return false;
	n = check_count_of(check, &object);
	if (n)
		*n |= COUNT_IS_UNCOUNTED;
	return true;
}

/* Raise the count of an object. Returns the new count. */
uint32_t check_count_right(struct check *check, const struct object *object)
{
	uint32_t *n = check_count_of(check, object);

	return n ? ++*n : UINT32_MAX;
}

bool check_is_in_flight(const struct check *check, uint64_t position)
{
	for (uint32_t i = 0; i < check->n_in_flight; i++)
		if (ref_position(check->in_flight[i].ref) == position)
			return true;
	return false;
}

/* Count a right of `what` number `of` to the object that ref names. False: it is not alive, which is a fault. */
bool check_count_ref(struct check *check, uint64_t ref, const char *what, uint64_t of)
{
	struct object object;

	if (object_match(check->heap, ref, &object) < 0) {
		if (check_is_in_flight(check, ref_position(ref))) /* it is being dropped */
			return true;
		check_fault(check, "%s %llu refers to %#llx, which is not alive", what, (unsigned long long)of,
			(unsigned long long)ref);
		return false;
	}
	check_count_right(check, &object);
	return true;
}

/* Only with a mender: mend by storing one word, in a change of its own. */
void check_mend_word(struct check *check, uint64_t *word, uint64_t value)
{
	if (!check->mender)
		return;
	heap_set(check->heap, word, value);
	change_commit(check->heap);
}

/* Count a right of `what` number `of` to a record of the heap. False: there is none of that type, which is a fault. */
bool check_count_record(struct check *check, uint64_t position, uint32_t type, const char *what, uint64_t of)
{
	struct object object;

	if (object_locate(check->heap, position, &object) < 0 || object.type != type ||
		header_state(object.word) != STATE_LIVE) {
		check_fault(check, "%s %llu leads to %#llx, which is no such record", what, (unsigned long long)of,
			(unsigned long long)position);
		return false;
	}
	check_count_right(check, &object);
	return true;
}

/* Rights in flight */

/*
 * A session may have stopped or died while it changes a queue, or holds or drops an object, or just before. Then nobody
 * can say where the right in question is, or whether the queue changes at this moment. Both are left alone until the
 * session goes on, or is reclaimed. The intent is complete before the session is active, so all that go on meanwhile
 * are noted.
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
			check->in_flight[check->n_in_flight++] = (struct in_flight){
				entry->intent.ref, intent_is_push(kind) || intent_is_pop(kind) || kind == INTENT_RIGHT
							   ? entry->intent.queue
							   : entry->intent.ref};
	}
}

bool check_pool_is_in_flight(const struct check *check, uint32_t p)
{
	for (uint32_t i = 0; i < check->n_in_flight; i++)
		if (pool_at_position(check->heap, ref_position(check->in_flight[i].ref)) == &check->heap->pools[p])
			return true;
	return false;
}

bool check_is_queue_in_flight(const struct check *check, uint64_t position)
{
	for (uint32_t i = 0; i < check->n_in_flight; i++)
		if (ref_position(check->in_flight[i].queue) == position)
			return true;
	return false;
}
