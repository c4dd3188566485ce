// SPDX-License-Identifier: MIT
/*
 * The daemon's messages, from what it knows
 */
#include "daemon/answer.h"

#include "heap/repair/recover.h"

#define USAGES_MAX 512 /* of less than 32 bytes each, in a message */

void answer_welcome(struct connection *connection, const struct heap *heap, uint32_t index)
{
	const int fds[] = {heap->control_fd, heap->heap_fd};
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Welcome body = PYHEAP__WELCOME__INIT;
	struct session_record record;

	session_read(heap, index, &record);
	body.protocol = PROTO_VERSION;
	body.layout_hash = layout_hash();
	body.session = index;
	body.control_size = heap->control_size;
	body.heap_size = heap->heap_size;
	body.arena_size = heap->arena_size;
	body.heap_id = (ProtobufCBinaryData){sizeof(heap->truth->head->heap_id), heap->truth->head->heap_id};
	body.token = (ProtobufCBinaryData){sizeof(record.token), (uint8_t *)record.token};
	body.version = (char *)PYHEAP_VERSION;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_WELCOME;
	message.welcome = &body;
	connection_send(connection, &message, fds, sizeof(fds) / sizeof(fds[0]));
}

void answer_grant(struct connection *connection, uint32_t *heads, uint32_t n)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Grant body = PYHEAP__GRANT__INIT;

	body.heads = heads;
	body.n_heads = n;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_GRANT;
	message.grant = &body;
	connection_send(connection, &message, NULL, 0);
}

/* Everything but the classes. */
static void body_fill(Pyheap__Stats *body, const struct heap_stats *stats)
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

void answer_stats(struct connection *connection, const struct heap_stats *stats)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Stats body = PYHEAP__STATS__INIT;
	Pyheap__ClassStats classes[N_CLASSES], *class_pointers[N_CLASSES];

	body_fill(&body, stats);
	body.classes = class_pointers;
	for (unsigned int i = 0; i < N_CLASSES; i++) {
		const struct class_stats *from = &stats->classes[i];
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
	connection_send(connection, &message, NULL, 0);
}

void answer_usage(
	struct connection *connection, const struct heap *heap, const struct session_usage *usage, uint32_t first)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Usage body = PYHEAP__USAGE__INIT;
	Pyheap__SessionUsage sessions[USAGES_MAX], *pointers[USAGES_MAX];
	uint32_t i;

	body.sessions = pointers;
	for (i = first; i < heap->n_sessions && body.n_sessions < USAGES_MAX; i++) {
		Pyheap__SessionUsage *to = &sessions[body.n_sessions];

		if (session_state_at(heap, i) == SESSION_FREE)
			continue;
		pyheap__session_usage__init(to);
		to->session = i;
		to->n_arenas = usage[i].n_arenas;
		to->n_bytes = usage[i].n_bytes;
		pointers[body.n_sessions++] = to;
	}
	body.next = i < heap->n_sessions ? i : 0;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_USAGE;
	message.usage = &body;
	connection_send(connection, &message, NULL, 0);
}

void answer_evicted(struct connection *connection)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Evicted body = PYHEAP__EVICTED__INIT;

	message.body_case = PYHEAP__FROM_DAEMON__BODY_EVICTED;
	message.evicted = &body;
	connection_send(connection, &message, NULL, 0);
}

void answer_reset(struct connection *connection, uint32_t n_sessions)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__ResetDone body = PYHEAP__RESET_DONE__INIT;

	body.n_sessions = n_sessions;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_RESET_DONE;
	message.reset_done = &body;
	connection_send(connection, &message, NULL, 0);
}

void answer_goodbye(struct connection *connection)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Goodbye body = PYHEAP__GOODBYE__INIT;

	message.body_case = PYHEAP__FROM_DAEMON__BODY_GOODBYE;
	message.goodbye = &body;
	connection_send(connection, &message, NULL, 0);
}
