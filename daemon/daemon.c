// SPDX-License-Identifier: MIT
/*
 * The life of pyheapd
 *
 * One thread, one event loop. It waits for connections, for bytes, for the end of processes (pidfds), for its timers
 * and for signals. What it does about each is bounded and waits for nobody. Longer work is done in turns (work.c).
 *
 * With sessions there is a tick, four times a second: it looks after the lock, idle sessions and empty arenas. Without
 * sessions there is none, and pyheapd sleeps.
 *
 * The end (SIGTERM, SIGINT, SIGHUP of a terminal that closes): each connection gets a Goodbye, then the sockets go,
 * then the shared memory objects, unless --keep leaves them to the next daemon. Clients keep what they have mapped;
 * `ended` in the control segment tells them that the heap is over.
 *
 * Started by systemd, pyheapd says when it is ready, what it is doing, that it is alive (watchdog) and that it ends.
 *
 * Here the parts are put together: what a part below has to tell one above it tells by a function that it is given.
 */
#include "daemon/daemon.h"

#include "daemon/adopt.h"
#include "daemon/answer.h"
#include "daemon/cgroup.h"
#include "daemon/clock.h"
#include "daemon/descriptors.h"
#include "daemon/dispatch.h"
#include "daemon/listener.h"
#include "daemon/lock_watch.h"
#include "daemon/log.h"
#include "daemon/probe.h"
#include "daemon/sigbus.h"
#include "daemon/store.h"
#include "heap/shared/critical.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>

/* So many sessions are kept, of a heap with that many or more, unless an option says otherwise. */
#define KEPT_SESSIONS 2
#define MANY_SESSIONS 16

#define TICK_US         250000
#define ACCEPT_PAUSE_US 100000
#define ACCEPTS_MAX     16 /* in one turn of the loop */

struct daemon {
	const struct options *options;
	struct event_base *base;
	struct store store;
	struct heap *heap;
	struct session self; /* the daemon's view of the heap: takes the lock as SESSION_DAEMON */
	struct listener listener;
	struct descriptors descriptors;

	struct work work; /* sessions that have something to be done, in turns; and trim behind them */
	struct trim trim;
	struct users users;
	struct connections connections;
	struct dsessions sessions;
	struct admission admission;
	struct lock_watch lock_watch;

	struct event *accept_event;
	struct event *accept_pause; /* while there are no descriptors */
	struct event *tick;
	struct event *watchdog;
	struct event *sigterm;
	struct event *sigint;
	struct event *sighup;
	bool is_stopping;
};

/* ---- callbacks ------------------------------------------------------------------------------------------------- */

static void notify_status(const struct daemon *daemon)
{
	sd_notifyf(0, "STATUS=%u sessions, %llu of %u arenas in use", daemon->sessions.n_used,
		(unsigned long long)heap_n_arenas_current(daemon->heap), daemon->heap->n_arenas);
}

/* There is something to look after: see to it that the tick comes. */
static void need_tick(struct daemon *daemon)
{
	struct timeval after = {.tv_usec = TICK_US};

	if (!evtimer_pending(daemon->tick, NULL))
		evtimer_add(daemon->tick, &after);
}

static void session_started(void *owner)
{
	need_tick(owner);
}

static void session_freed(void *owner)
{
	struct daemon *daemon = owner;

	admit_waiting(&daemon->admission);
}

static void on_tick(evutil_socket_t fd, short events, void *userdata)
{
	struct daemon *daemon = userdata;
	bool owes_lines;

	(void)fd;
	(void)events;
	sigbus_mend();
	lock_watch_tick(&daemon->lock_watch, now_ms());
	dsessions_tick(&daemon->sessions);
	trim_tick(&daemon->trim);
	owes_lines = log_catch_up();
	notify_status(daemon);
	if (daemon->sessions.n_used || trim_needs_tick(&daemon->trim) || owes_lines)
		need_tick(daemon);
}

/* 0 all that waited were accepted, or many of them; or why no more can be accepted now. */
static int accept_some(struct daemon *daemon)
{
	for (unsigned int i = 0; i < ACCEPTS_MAX; i++) {
		int r = descriptors_accept(&daemon->descriptors, &daemon->listener);

		if (r == -EAGAIN)
			return 0;
		if (r == -EUSERS) /* it was refused, and there may be more */
			continue;
		if (r >= 0)
			r = connection_new(&daemon->connections, r);
		if (r < 0 && r != -ESRCH) /* that one went away again */
			return r;
	}
	return 0;
}

static void on_connection(evutil_socket_t fd, short events, void *userdata)
{
	struct timeval pause = {.tv_usec = ACCEPT_PAUSE_US};
	struct daemon *daemon = userdata;
	int r = accept_some(daemon);

	if (log_catch_up())
		need_tick(daemon);
	(void)fd;
	(void)events;
	if (r == 0)
		return;
	log_warning("cannot take a connection: %s; pyheapd tries again", strerror(-r));
	event_del(daemon->accept_event); /* the connection stays in the backlog, and would wake the loop at once */
	evtimer_add(daemon->accept_pause, &pause);
}

static void on_accept_pause_over(evutil_socket_t fd, short events, void *userdata)
{
	struct daemon *daemon = userdata;

	(void)fd;
	(void)events;
	event_add(daemon->accept_event, NULL);
}

/* The watchdog is fed by work: a loop that turns and gets to none of it is as good as dead. */
static void on_watchdog(evutil_socket_t fd, short events, void *userdata)
{
	struct daemon *daemon = userdata;

	(void)fd;
	(void)events;
	if (work_goes_on(&daemon->work))
		sd_notify(0, "WATCHDOG=1");
}

static void on_signal(evutil_socket_t signal_number, short events, void *userdata)
{
	struct daemon *daemon = userdata;

	(void)events;
	log_notice("ending, by %s", signal_number == SIGINT   ? "SIGINT"
				    : signal_number == SIGHUP ? "SIGHUP"
							      : "SIGTERM");
	daemon->is_stopping = true;
	event_base_loopbreak(daemon->base);
}

/* ---- beginning ------------------------------------------------------------------------------------------------- */

static int start_watchdog(struct daemon *daemon)
{
	struct timeval period;
	uint64_t us;

	if (sd_watchdog_enabled(0, &us) <= 0)
		return 0;
	period = (struct timeval){.tv_sec = (time_t)(us / 2 / 1000000), .tv_usec = (suseconds_t)(us / 2 % 1000000)};
	daemon->watchdog = event_new(daemon->base, -1, EV_PERSIST, on_watchdog, daemon);
	return daemon->watchdog && event_add(daemon->watchdog, &period) == 0 ? 0 : -ENOMEM;
}

static int start_loop(struct daemon *daemon)
{
	int r;

	daemon->base = event_base_new();
	if (!daemon->base)
		return -ENOMEM;
	r = work_init(&daemon->work, daemon->base);
	if (r < 0)
		return r;
	daemon->tick = evtimer_new(daemon->base, on_tick, daemon);
	daemon->accept_pause = evtimer_new(daemon->base, on_accept_pause_over, daemon);
	daemon->sigterm = evsignal_new(daemon->base, SIGTERM, on_signal, daemon);
	daemon->sighup = evsignal_new(daemon->base, SIGHUP, on_signal, daemon);
	daemon->sigint = evsignal_new(daemon->base, SIGINT, on_signal, daemon);
	if (!daemon->tick || !daemon->accept_pause || !daemon->sigterm || !daemon->sigint || !daemon->sighup)
		return -ENOMEM;
	if (event_add(daemon->sigterm, NULL) < 0 || event_add(daemon->sigint, NULL) < 0 ||
		event_add(daemon->sighup, NULL) < 0)
		return -ENOMEM;
	return start_watchdog(daemon);
}

static int start_listening(struct daemon *daemon)
{
	const struct listener_options options = {
		.path = daemon->options->socket,
		.make_folder = daemon->options->socket_is_default && geteuid() == 0,
		.has_group = daemon->options->has_group,
		.group = daemon->options->group,
	};
	int r;

	r = listener_open(&daemon->listener, &options);
	if (r < 0)
		return r;
	daemon->accept_event =
		event_new(daemon->base, daemon->listener.fd, EV_READ | EV_PERSIST, on_connection, daemon);
	return daemon->accept_event && event_add(daemon->accept_event, NULL) == 0 ? 0 : -ENOMEM;
}

static int start_heap(struct daemon *daemon, bool *ret_adopted)
{
	int r;

	cgroup_memory_open("/proc/self");
	r = store_open(&daemon->store, daemon->options, &daemon->heap, ret_adopted);
	if (r < 0)
		return r;
	sigbus_guard(daemon->heap);
	descriptors_init(&daemon->descriptors, daemon->heap->n_sessions);
	daemon->heap->process = 1; /* so that it takes the lock by its word alone, see lock.c */
	session_init(&daemon->self, daemon->heap, SESSION_DAEMON);
	return 0;
}

/* The parts that need no loop of their own. */
static int start_parts(struct daemon *daemon)
{
	users_init(&daemon->users);
	users_set_limits(&daemon->users, &daemon->options->user, daemon->heap->n_sessions, daemon->heap->n_arenas);
	trim_init(&daemon->trim, &daemon->self, &daemon->work, daemon->options->n_spare_arenas);
	daemon->sessions = (struct dsessions){
		.self = &daemon->self,
		.base = daemon->base,
		.work = &daemon->work,
		.trim = &daemon->trim,
		.users = &daemon->users,
		.started = session_started,
		.freed = session_freed,
		.owner = daemon,
	};
	daemon->admission = (struct admission){
		.connections = &daemon->connections,
		.sessions = &daemon->sessions,
		.has_group = daemon->options->has_group,
		.group = daemon->options->group,
		.n_kept_sessions = daemon->options->has_kept_sessions          ? daemon->options->n_kept_sessions
				   : daemon->heap->n_sessions >= MANY_SESSIONS ? KEPT_SESSIONS
									       : 0,
	};
	connections_init(&daemon->connections, daemon->base, &daemon->work, &daemon->users, &dispatch_handlers,
		&daemon->admission);
	lock_watch_init(&daemon->lock_watch, &daemon->sessions, daemon->options->lock_timeout_s);
	return dsessions_init(&daemon->sessions);
}

/* Also how programs find it, where that is not by themselves. */
static void say_served(const struct daemon *daemon)
{
	const char *name = daemon->options->name, *size = log_size(daemon->heap->heap_size),
		   *path = daemon->listener.path;

	if (!path[0])
		log_notice("serving the heap \"%s\" of up to %s on systemd's socket", name, size);
	else if (daemon->options->socket_is_default)
		log_notice("serving the heap \"%s\" of up to %s on %s, where programs of this user look for it", name,
			size, path);
	else
		log_notice("serving the heap \"%s\" of up to %s on %s; programs connect to it with PYHEAP_SOCKET=%s in "
			   "their environment",
			name, size, path, path);
}

/* A heap is one file, however large it may grow. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_FSIZE, &limit);
}

static int daemon_start(struct daemon *daemon, bool *ret_adopted)
{
	int r;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* what is beyond a limit is an error, and the log says which */
	raise_file_limit();
	r = probe_kernel();
	if (r == 0)
		r = start_loop(daemon);
	if (r == 0)
		r = start_heap(daemon, ret_adopted);
	if (r == 0)
		r = start_parts(daemon);
	if (r == 0)
		r = start_listening(daemon);
	if (r == 0 && *ret_adopted)
		r = adopt_heap(&daemon->sessions, daemon->options->name);
	if (r < 0)
		return r;
	if (*ret_adopted)
		need_tick(daemon); /* there may be arenas to return, also without a session */
	say_served(daemon);
	sd_notify(0, "READY=1");
	notify_status(daemon);
	return 0;
}

/* ---- the end --------------------------------------------------------------------------------------------------- */

/* A Goodbye to each connection, once the control segment says whether the heap is over. */
static void say_goodbye(struct daemon *daemon)
{
	struct connection *connection;

	sd_notify(0, "STOPPING=1");
	if (!daemon->options->keep)
		/* commit: the heap is over */
		critical_end(daemon->heap);
	TAILQ_FOREACH(connection, &daemon->connections.list, entry)
	answer_goodbye(connection);
}

static void free_event(struct event *event)
{
	if (event)
		event_free(event);
}

static void daemon_deinit(struct daemon *daemon)
{
	if (daemon->sessions.entries) {
		connections_deinit(&daemon->connections);
		dsessions_deinit(&daemon->sessions);
		users_deinit(&daemon->users);
	}
	free_event(daemon->accept_event);
	free_event(daemon->accept_pause);
	free_event(daemon->tick);
	free_event(daemon->watchdog);
	free_event(daemon->sigterm);
	free_event(daemon->sigint);
	free_event(daemon->sighup);
	work_deinit(&daemon->work);
	if (daemon->base)
		event_base_free(daemon->base);
	listener_close(&daemon->listener);
	sigbus_guard(NULL);
	descriptors_deinit(&daemon->descriptors);
	cgroup_memory_close();
	heap_free(daemon->heap);
	store_close(&daemon->store);
}

int daemon_run(const struct options *options)
{
	struct daemon daemon = {
		.options = options,
		.listener = {.fd = -1, .guard_fd = -1},
		.store = {.guard_fd = -1},
		.descriptors = {.spare_fd = -1},
	};
	bool adopted = false;
	int r;

	r = daemon_start(&daemon, &adopted);
	if (r == 0) {
		if (event_base_dispatch(daemon.base) < 0 || !daemon.is_stopping) {
			log_error("the event loop ended by itself");
			r = -EIO; /* the heap stays for the next daemon */
		} else {
			say_goodbye(&daemon);
		}
	}
	/* What a failed start has made goes again; what it has adopted stays. */
	if (daemon.heap && (r == 0 ? !options->keep : !adopted && !daemon.accept_event))
		store_unlink(&daemon.store);
	daemon_deinit(&daemon);
	return r;
}
