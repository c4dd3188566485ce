// SPDX-License-Identifier: MIT
/*
 * What a slot or name had before
 *
 * A place is changed in two changes: the first gives it the new ref, the second drops the right that it had to the old
 * one. In between the session's entry says what is displaced, and has that right. So while the first change may still
 * be rolled back, the old object is alive and its header not locked: a reader that finds the first change under way,
 * even by a process that was stopped there, takes what the log says was there before (log_committed()) and need not
 * wait.
 *
 * The entry of a deleted name is freed in the second change, for the same reason.
 *
 * If the session dies in between, displaced_finish() makes the second change. If the second change fails, the heap is
 * damaged: what is displaced stays noted until the session's next one, and is lost then rather than dropped twice. A
 * repair finds it.
 */

#include "heap/object/displaced.h"
#include "heap/change/lock.h"
#include "heap/memory/memory.h"
#include "heap/object/right.h"

#include <errno.h>

int displaced_finish(struct session *session)
{
	struct session_entry *entry = session->entry;
	uint64_t ref = read_once(entry->displaced), name1 = read_once(entry->displaced_name1);
	struct object object;
	int r = 0;

	if (name1)
		r = memory_give(session, name1 - 1);
	/* A stray write may have put there what names nothing: it is passed over. */
	if (!r && ref && !object_find(session->heap, ref, &object))
		r = right_drop(session, &object);
	if (ref)
		heap_set(session->heap, &entry->displaced, 0);
	if (name1)
		heap_set(session->heap, &entry->displaced_name1, 0);
	return r;
}

int displaced_drop(struct session *session, uint64_t ref, uint64_t name1)
{
	struct session_entry *entry = session->entry;

	if (!ref && !name1)
		return 0;
	/* There is something if a thread that had the lock for the session ended in between. */
	if (read_once(entry->displaced) || read_once(entry->displaced_name1))
		(void)displaced_finish(session);
	heap_set(session->heap, &entry->displaced, ref);
	if (name1)
		heap_set(session->heap, &entry->displaced_name1, name1);
	if (session->heap->is_log_full)
		return -EUCLEAN;
	change_commit(session->heap);
	return displaced_finish(session);
}
