// SPDX-License-Identifier: MIT
/*
 * A daemon inside this process
 *
 * A fuzzer that is guided by coverage runs what it tests in its own process, some hundred times a second. So the
 * daemon's parts are put together here as daemon.c does it, and the loop is turned until the daemon would sleep.
 *
 * Its clients are this process, too. The daemon must not kill it when one asks for another's eviction: the linker puts
 * __wrap_process_kill() in the place of process_kill(). Nobody else runs here, so nobody is waited for: no system call
 * sleeps (__wrap_syscall()).
 */
#include "tests/fuzz/inside.h"

#include "daemon/answer.h"
#include "daemon/log.h"
#include "heap/change/lock.h"
#include "heap/change/supply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TURNS_MAX 100000U

int __wrap_process_kill(const struct process *process);

int __wrap_process_kill(const struct process *process)
{
	return process->pidfd < 0 ? -ESRCH : process->is_peer ? 0 : -ENOTCONN;
}

struct heap_geometry inside_geometry(void)
{
	return (struct heap_geometry){INSIDE_HEAP_SIZE, INSIDE_ARENA_SIZE, INSIDE_SESSIONS};
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	return number == SYS_nanosleep ? 0 : __real_syscall(number, a, b, c, d, e, f);
}

static void started(void *owner)
{
	(void)owner;
}

static void freed(void *owner)
{
	admit_waiting(owner);
}

/* A daemon makes another heap here: daemon.c. This one says so, and goes on with the one that it has. */
static void on_reset(evutil_socket_t fd, short events, void *userdata)
{
	struct inside *inside = userdata;
	struct connection *connection;

	(void)fd;
	(void)events;
	TAILQ_FOREACH(connection, &inside->connections.list, entry)
	{
		if (!connection->wants_reset || connection->state == CONNECTION_CLOSING)
			continue;
		answer_reset(connection, 0);
		connection_close(connection);
	}
}

static void reset(void *owner)
{
	struct inside *inside = owner;

	event_active(inside->reset, 0, 0);
}

void inside_open(struct inside *inside, struct heap *heap)
{
	log_set_level(getenv("PYHEAP_FUZZ_LOG") ? LOG_DEBUG : LOG_EMERG);
	*inside = (struct inside){.heap = heap, .base = event_base_new()};
	session_init(&inside->self, heap, SESSION_DAEMON);
	if (!inside->base || work_init(&inside->work, inside->base) < 0)
		INSIDE_FAULT("no loop");
	inside->reset = event_new(inside->base, -1, 0, on_reset, inside);
	if (!inside->reset)
		INSIDE_FAULT("no memory");
	users_init(&inside->users);
	inside->users.limits.n_sessions = INSIDE_SESSIONS / 2;
	trim_init(&inside->trim, &inside->self, &inside->work, 0, 0);
	inside->sessions = (struct dsessions){
		.self = &inside->self,
		.base = inside->base,
		.work = &inside->work,
		.trim = &inside->trim,
		.users = &inside->users,
		.started = started,
		.freed = freed,
		.owner = &inside->admission,
	};
	inside->admission = (struct admission){
		.connections = &inside->connections, .sessions = &inside->sessions, .reset = reset, .owner = inside};
	connections_init(&inside->connections, inside->base, &inside->work, &inside->users, &dispatch_handlers,
		&inside->admission);
	if (dsessions_init(&inside->sessions) < 0)
		INSIDE_FAULT("no memory");
}

void inside_close(struct inside *inside)
{
	connections_deinit(&inside->connections);
	dsessions_deinit(&inside->sessions);
	users_deinit(&inside->users);
	work_deinit(&inside->work);
	event_free(inside->reset);
	event_base_free(inside->base);
}

void inside_tick(struct inside *inside)
{
	dsessions_tick(&inside->sessions);
	inside->now_ms += 100;
	trim_tick(&inside->trim, inside->now_ms);
}

void inside_rest(struct inside *inside)
{
	int r;

	for (uint32_t n = 0; n < TURNS_MAX; n++) {
		event_base_loop(inside->base, EVLOOP_NONBLOCK);
		r = work_turn(&inside->work);
		if (r < 0)
			return;
		if (r == 0 && event_base_get_num_events(inside->base, EVENT_BASE_COUNT_ACTIVE) == 0) {
			/* what the last turn has made ready */
			event_base_loop(inside->base, EVLOOP_NONBLOCK);
			if (TAILQ_EMPTY(&inside->work.items))
				return;
		}
	}
	INSIDE_FAULT("the daemon does not come to rest");
}

struct connection *inside_connect(struct inside *inside, int *ret_fd)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		INSIDE_FAULT("no descriptors");
	*ret_fd = fds[1];
	return connection_new(&inside->connections, fds[0]) < 0
		       ? NULL
		       : TAILQ_LAST(&inside->connections.list, connection_list);
}

int inside_grant(struct session *session)
{
	struct heap *heap = session->heap;
	uint32_t head, n_done = 0;
	int r = supply_reserve(heap, session->index, session->n_wanted_arenas, &head);

	if (r < 0)
		return r;
	while ((r = supply_map_step(heap, head, 3, &n_done)) == 0)
		;
	if (r < 0) {
		n_done = 0;
		while (supply_unmap_step(heap, head, UINT32_MAX, &n_done) == 0)
			;
		return r;
	}
	return supply_accept(session, head);
}
