// SPDX-License-Identifier: MIT
/*
 * What each session has
 *
 * It is counted as the figures are (stats.c): without the lock, a bounded part of the heap in each step.
 */
#include "daemon/usage.h"

#include <errno.h>
#include <stdlib.h>

void usage_init(struct usage *usage, const struct heap *heap)
{
	*usage = (struct usage){.heap = heap};
}

void usage_ask(struct usage *usage, uint32_t first)
{
	usage->is_owed = true;
	usage->first = first;
}

int usage_step(struct usage *usage)
{
	if (!usage->sessions)
		usage->sessions = calloc(usage->heap->n_sessions, sizeof(*usage->sessions));
	if (!usage->sessions)
		return -ENOMEM;
	return heap_usage_step(usage->heap, &usage->cursor, usage->sessions);
}

void usage_cancel(struct usage *usage)
{
	free(usage->sessions);
	usage_init(usage, usage->heap);
}
