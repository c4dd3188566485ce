// SPDX-License-Identifier: MIT
/*
 * What sessions keep free
 *
 * A session keeps a pool of each class that it uses, and a run or two, for its next objects, and collects remote frees
 * when it needs memory (heap/object/own.c). A session that does nothing any more would keep that memory for ever. So
 * each tick asks whether a session has made calls. If it has made none since the last tick, what it keeps free is taken
 * back, once; and again only when the session has done something, or when others have freed blocks of its pools. A
 * session that is busy with other things is asked to collect remote frees, which it does before its next call.
 */
#include "daemon/idle.h"

#include "daemon/damage.h"
#include "heap/object/own.h"
#include "heap/repair/recover.h"

#include <errno.h>

void idle_init(struct idle *idle, struct trim *trim, uint32_t index)
{
	*idle = (struct idle){.trim = trim, .index = index};
}

bool idle_tick(struct idle *idle)
{
	struct heap *heap = idle->trim->self->heap;

	if (!session_poll_idle(heap, idle->index)) {
		idle->is_trimmed = false;
		idle->is_wanted = false;
		own_trim_restart(heap, idle->index);
		if (session_has_remote_frees(heap, idle->index))
			critical_request(heap, idle->index, REQUEST_COLLECT);
		return false;
	}
	if (idle->is_trimmed && session_n_remote_frees(heap, idle->index) == idle->n_remote_frees)
		return false;
	idle->is_wanted = true;
	return true;
}

int idle_step(struct idle *idle)
{
	struct heap *heap = idle->trim->self->heap;
	uint32_t n_remote_frees = session_n_remote_frees(heap, idle->index);
	int r;

	/* A session that does something is not idle: its lists change, and going over them would never end. */
	if (session_was_active(heap, idle->index))
		idle->is_wanted = false;
	if (!idle->is_wanted)
		return 0;
	r = own_trim(idle->trim->self, idle->index);
	if (r > 0 || r == -EBUSY)
		return r;
	if (r < 0)
		damage_log(heap, idle->index + 1, r, "what an idle session keeps free cannot be taken back");
	idle->is_wanted = false;
	idle->is_trimmed = true; /* a call meanwhile is seen at the next tick */
	idle->n_remote_frees = n_remote_frees;
	return 0;
}
