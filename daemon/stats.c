// SPDX-License-Identifier: MIT
/*
 * Figures
 *
 * They are read under the lock, so that they are all of one moment; the lock is only tried, and the answer comes when
 * it was free. A session that has the lock itself is told so, since its answer would wait for itself.
 */
#include "daemon/stats.h"

#include "daemon/daemon.h"
#include "heap/check.h"

#include <errno.h>
#include <string.h>

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
	uint32_t owner1 = __atomic_load_n(&daemon->heap->control->lock.owner1, __ATOMIC_RELAXED);
	pyheap_stats stats;
	int r;

	if (!member->client) {
		member->n_stats = 0;
		return 0;
	}
	r = heap_stats(&daemon->self, true, &stats);
	if (r == -EBUSY && owner1 != member->index + 1)
		return r;
	member->n_stats--;
	if (r == -EBUSY)
		client_refuse(member->client, EBUSY, "this session has the global lock itself");
	else if (r < 0)
		client_fail(member->client, -r, "asked for figures that cannot be read: %s", strerror(-r));
	else
		stats_send(member->client, &stats);
	return member->n_stats ? 1 : 0;
}
