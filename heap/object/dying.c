// SPDX-License-Identifier: MIT
/*
 * The deferred free list: objects with slots, freed in bounded steps
 *
 * An object with slots whose count reached 0 is DYING and on the list of the session that dropped it, linked
 * through the rights of the headers (right.c puts it there). The session empties its list after the change, in changes
 * that drop at most DROP_STEP slots each: so the lock is never held for long, and no stack grows, however deep a list
 * of lists is. A slot that is not dropped yet still counts as a right to what it refers to. run_n_dropped says how many
 * slots of a run are done, and the rights those of a block.
 *
 * A session that dies leaves its list to the daemon, which goes on where the session stopped (recover.c).
 */

#include "heap/object/dying.h"
#include "heap/change/lock.h"
#include "heap/memory/memory.h"

#include <errno.h>

#define DROP_STEP 64U /* dropped in one change */

static int drop_slot(struct session *session, const uint64_t *slot)
{
	uint64_t ref = __atomic_load_n(slot, __ATOMIC_RELAXED);
	struct object child;

	/* A stray write may have put there what names nothing: it is passed over. */
	if (!ref || object_find(session->heap, ref, &child) < 0)
		return 0;
	return right_drop(session, &child);
}

/*
 * The next slots of the first object. With the last of them the object leaves the list before its children come on it.
 */
static int free_some(struct session *session)
{
	struct heap *heap = session->heap;
	struct object object;
	struct type_info type;
	uint64_t i, n, end, rights;
	int r;

	r = object_locate(heap, read_once(session->entry->dying1) - 1, &object);
	if (r < 0 || header_state(header_word(object.header)) != STATE_DYING || type_find(heap, object.type, &type) < 0)
		return -EUCLEAN;
	n = object_n_slots(&object, &type);
	rights = read_once(object.header->rights);
	i = object.is_run ? read_once(object.pool->run_n_dropped) : rights_n_dropped(rights);
	if (i > n)
		i = n; /* a stray write was there */
	end = n - i > DROP_STEP ? i + DROP_STEP : n;
	if (end == n)
		heap_set(heap, &session->entry->dying1, rights_next_dying1(rights));
	else if (object.is_run)
		heap_set(heap, &object.pool->run_n_dropped, end);
	else
		heap_set(heap, &object.header->rights, rights_with_n_dropped(rights, end));
	for (; i < end; i++) {
		r = drop_slot(session, object_slot(&object, &type, i));
		if (r < 0)
			return r;
	}
	return end == n ? memory_give(session, object.position) : 0;
}

int dying_step(struct session *session, bool try)
{
	int r;

	if (!read_once(session->entry->dying1))
		return 0;
	r = try ? change_try_begin(session) : change_begin(session);
	if (r < 0)
		return r;
	r = read_once(session->entry->dying1) ? free_some(session) : 0;
	r = change_end(session, r);
	return r < 0 ? r : 1;
}

void dying_free_all(struct session *session)
{
	while (read_once(session->entry->dying1) && dying_step(session, false) > 0)
		;
}
