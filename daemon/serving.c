// SPDX-License-Identifier: MIT
/*
 * Serving one heap
 *
 * The sessions and all that works for them belong to one heap: they begin and end with it. The loop, the socket, work
 * and the users' accounts are older than the heap, and outlive it. So a heap that is emptied (pyheapctl reset) is ended
 * here, and another one begun, while the daemon goes on.
 *
 * A connection without a session belongs to no heap. It stays.
 */
#include "daemon/serving.h"

#include "daemon/answer.h"
#include "daemon/clock.h"
#include "daemon/sigbus.h"
#include "heap/shared/critical.h"

/* So many sessions are kept, of a heap with that many or more, unless an option says otherwise. */
#define KEPT_SESSIONS 2
#define MANY_SESSIONS 16

static void session_started(void *owner)
{
	struct serving *serving = owner;

	serving->around.started(serving->around.owner);
}

static void session_freed(void *owner)
{
	struct serving *serving = owner;

	admit_waiting(&serving->admission);
}

static void reset_wanted(void *owner)
{
	struct serving *serving = owner;

	serving->around.reset(serving->around.owner);
}

static uint32_t n_kept_sessions(const struct options *options, const struct heap *heap)
{
	if (options->has_kept_sessions)
		return options->n_kept_sessions;
	return heap->n_sessions >= MANY_SESSIONS ? KEPT_SESSIONS : 0;
}

int serving_begin(struct serving *serving, struct heap *heap, const struct serving_around *around)
{
	const struct options *options = around->options;

	*serving = (struct serving){.around = *around, .heap = heap};
	heap->process = 1; /* so that it takes the lock by its word alone, see lock.c */
	sigbus_guard(heap);
	session_init(&serving->self, heap, SESSION_DAEMON);
	descriptors_init(&serving->descriptors, heap->n_sessions);
	users_set_limits(around->users, &options->user, heap->n_sessions, heap->n_arenas);
	trim_init(&serving->trim, &serving->self, around->work, options->n_spare_arenas, options->decay_ms);
	serving->sessions = (struct dsessions){
		.self = &serving->self,
		.base = around->base,
		.work = around->work,
		.trim = &serving->trim,
		.users = around->users,
		.started = session_started,
		.freed = session_freed,
		.owner = serving,
	};
	serving->admission = (struct admission){
		.connections = around->connections,
		.sessions = &serving->sessions,
		.has_group = options->has_group,
		.group = options->group,
		.n_kept_sessions = n_kept_sessions(options, heap),
		.reset = reset_wanted,
		.owner = serving,
	};
	lock_watch_init(&serving->lock_watch, &serving->sessions, options->lock_timeout_s);
	return dsessions_init(&serving->sessions);
}

bool serving_tick(struct serving *serving)
{
	sigbus_mend();
	lock_watch_tick(&serving->lock_watch, now_ms());
	dsessions_tick(&serving->sessions);
	trim_tick(&serving->trim, now_ms());
	return serving->sessions.n_used || trim_needs_tick(&serving->trim);
}

void serving_end_heap(struct serving *serving)
{
	sigbus_mend(); /* so that what follows is seen by all who have the heap mapped */
	/* commit: the heap is over */
	critical_end(serving->heap);
	lock_watch_end(&serving->lock_watch);
}

void serving_say_goodbye(struct serving *serving)
{
	struct connection *connection, *next;

	for (connection = TAILQ_FIRST(&serving->around.connections->list); connection; connection = next) {
		next = TAILQ_NEXT(connection, entry);
		if (!connection->session1)
			continue;
		answer_goodbye(connection);
		connection_free(connection);
	}
}

void serving_end(struct serving *serving)
{
	if (!serving->heap)
		return;
	dsessions_deinit(&serving->sessions);
	work_remove_background(serving->around.work);
	sigbus_guard(NULL);
	descriptors_deinit(&serving->descriptors);
	serving->heap = heap_free(serving->heap);
}
