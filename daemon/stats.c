// SPDX-License-Identifier: MIT
/*
 * Figures
 *
 * They are counted without the lock, a bounded part of the heap in each step: whoever changes it meanwhile waits for
 * nothing. The answers that a session is owed are given one after the other.
 */
#include "daemon/stats.h"

#include "daemon/daemon.h"
#include "heap/repair/check.h"

#include <errno.h>
#include <stdlib.h>

/* Figures on their way. */
struct stats_walk {
	uint32_t cursor;
	pyheap_stats figures;
};

void stats_request(struct client *client)
{
	client->member->n_stats++;
	work_add(client->daemon, client->member);
}

/* Everything but the classes. */
static void body_fill(Pyheap__Stats *body, const pyheap_stats *stats)
{
	body->heap_size = stats->heap_size;
	body->arena_size = stats->arena_size;
	body->n_arenas_allocated = stats->n_arenas_allocated;
	body->n_arenas_reclaimed = stats->n_arenas_reclaimed;
	body->n_arenas_highwater = stats->n_arenas_highwater;
	body->n_arenas_current = stats->n_arenas_current;
	body->bytes_allocated_blocks = stats->bytes_allocated_blocks;
	body->bytes_available_blocks = stats->bytes_available_blocks;
	body->bytes_unused_pools = stats->bytes_unused_pools;
	body->bytes_pool_headers = stats->bytes_pool_headers;
	body->bytes_quantization = stats->bytes_quantization;
	body->bytes_medium_objects = stats->bytes_medium_objects;
	body->bytes_large_objects = stats->bytes_large_objects;
	body->bytes_records = stats->bytes_records;
	body->bytes_total = stats->bytes_total;
	body->n_medium_objects = stats->n_medium_objects;
	body->n_large_objects = stats->n_large_objects;
	body->n_names = stats->n_names;
	body->n_types = stats->n_types;
	body->n_sessions = stats->n_sessions;
	body->max_sessions = stats->max_sessions;
	body->n_lock_acquisitions = stats->n_lock_acquisitions;
	body->n_lock_recoveries = stats->n_lock_recoveries;
	body->n_lock_waits = stats->n_lock_waits;
	body->lock_wait_ns = stats->lock_wait_ns;
	body->lock_wait_max_ns = stats->lock_wait_max_ns;
	body->n_locks_timed = stats->n_locks_timed;
	body->lock_held_ns = stats->lock_held_ns;
	body->lock_held_max_ns = stats->lock_held_max_ns;
	body->n_pools_claimed = stats->n_pools_claimed;
	body->n_blocks_returned = stats->n_blocks_returned;
}

static void stats_send(struct client *client, const pyheap_stats *stats)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Stats body = PYHEAP__STATS__INIT;
	Pyheap__ClassStats classes[PYHEAP_CLASSES], *class_pointers[PYHEAP_CLASSES];

	body_fill(&body, stats);
	body.classes = class_pointers;
	for (unsigned int i = 0; i < PYHEAP_CLASSES; i++) {
		const pyheap_class_stats *from = &stats->classes[i];
		Pyheap__ClassStats *to = &classes[body.n_classes];

		if (!from->n_pools)
			continue;
		pyheap__class_stats__init(to);
		to->size = from->size;
		to->n_pools = from->n_pools;
		to->n_used = from->n_used;
		to->n_available = from->n_available;
		class_pointers[body.n_classes++] = to;
	}
	message.body_case = PYHEAP__FROM_DAEMON__BODY_STATS;
	message.stats = &body;
	client_send(client, &message, NULL, 0);
}

int stats_step(struct daemon *daemon, struct member *member)
{
	struct stats_walk *walk;

	if (!member->client) {
		stats_forget(member);
		return 0;
	}
	if (!member->stats_walk)
		member->stats_walk = calloc(1, sizeof(*member->stats_walk));
	if (!member->stats_walk) {
		client_fail(member->client, ENOMEM, "asked for figures: out of memory");
		return 0;
	}
	if (heap_stats_step(&daemon->self, &member->stats_walk->cursor, &member->stats_walk->figures))
		return 1;
	walk = member->stats_walk;
	member->stats_walk = NULL;
	member->n_stats--;
	stats_send(
		member->client, &walk->figures); /* where that fails the client goes, and what the member keeps of it */
	free(walk);
	return member->n_stats ? 1 : 0;
}

void stats_forget(struct member *member)
{
	free(member->stats_walk);
	member->stats_walk = NULL;
	member->n_stats = 0;
}
