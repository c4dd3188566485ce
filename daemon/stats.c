// SPDX-License-Identifier: MIT
/*
 * Figures
 *
 * They are counted without the lock, a bounded part of the heap in each step: a session that changes the heap meanwhile
 * waits for nothing.
 */
#include "daemon/stats.h"

#include <errno.h>
#include <stdlib.h>

/* Figures that are being counted. */
struct stats_walk {
	uint32_t cursor;
	struct heap_stats figures;
};

void stats_init(struct stats *stats, struct session *self)
{
	*stats = (struct stats){.self = self};
}

void stats_ask(struct stats *stats)
{
	stats->is_owed = true;
}

int stats_step(struct stats *stats, struct heap_stats *ret)
{
	if (!stats->walk)
		stats->walk = calloc(1, sizeof(*stats->walk));
	if (!stats->walk)
		return -ENOMEM;
	if (heap_stats_step(stats->self, &stats->walk->cursor, &stats->walk->figures))
		return 1;
	*ret = stats->walk->figures;
	free(stats->walk);
	stats->walk = NULL;
	stats->is_owed = false;
	return 0;
}

void stats_cancel(struct stats *stats)
{
	free(stats->walk);
	stats->walk = NULL;
	stats->is_owed = false;
}
